//! The store on Redis: a server, a master under Sentinel, or a Cluster.
//!
//! Each request about a document is one script, which runs as one step on the server and publishes what other nodes have to be
//! told. docs/sessions.md has the keys. Requests are pipelined over one connection per server.
//!
//! | module | concern |
//! | --- | --- |
//! | `lua/` | what runs on the server |
//! | `wire` | updates in entries, and what scripts answer and publish |
//! | `listener` | notices of a node |

mod listener;
mod wire;

pub use listener::{Heard, Listener};

use crate::partition::{PARTITIONS, partition, spelled};
use crate::session::empty_size;
use crate::{Bounds, OutOfReach, Reply, Request, SWEEP_MAX};
use futures_util::future::join_all;
use pinwire_redis::{Error, Invocation, Link, Script, Value};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pinwire_redis::scripts! {
    struct Scripts after "lua/prelude.lua" {
        load: "lua/load.lua",
        append: "lua/append.lua",
        rebase: "lua/rebase.lua",
        say: "lua/say.lua",
        close: "lua/close.lua",
        end: "lua/end.lua",
        fence: "lua/fence.lua",
        agree: "lua/agree.lua",
        settle: "lua/settle.lua",
        import: "lua/import.lua",
        heads: "lua/heads.lua",
        beat: "lua/beat.lua",
    }
}

/// Everything in front of a partition's keys and channels.
fn prefix(partition: usize) -> String {
    format!("pinwire:1:{{s{partition:02}}}:")
}

/// The store on Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisSessions {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    scripts: Scripts,
    bounds: Bounds,
    publish: &'static str,
    /// Bytes of all sessions as the last beat found them.
    bytes: AtomicU64,
    failure: Mutex<Option<Arc<str>>>,
    /// Time that scripts go by instead of the server's; 0: the server's.
    time_us: AtomicU64,
}

impl RedisSessions {
    /// The store behind a link, which may serve other things as well.
    #[must_use]
    pub fn new(link: Link, bounds: Bounds) -> Self {
        Self::with(link, bounds, Scripts::new())
    }

    /// With scripts as another version may have them, made of these: for tests of upgrades.
    #[doc(hidden)]
    #[must_use]
    pub fn of_scripts(link: Link, bounds: Bounds, edit: impl Fn(&str) -> String) -> Self {
        Self::with(link, bounds, Scripts::edited(edit))
    }

    fn with(link: Link, bounds: Bounds, scripts: Scripts) -> Self {
        let publish = if link.is_cluster() { "SPUBLISH" } else { "PUBLISH" };
        let inner = Inner {
            link,
            scripts,
            bounds,
            publish,
            bytes: AtomicU64::new(0),
            failure: Mutex::default(),
            time_us: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Asks; in bounded time, and once: whether to ask again is for [`Sessions`](crate::Sessions) to say.
    pub async fn ask(&self, request: &Request) -> Result<Reply, OutOfReach> {
        let outcome = self.inner.ask(request).await;
        let failure = outcome.as_ref().err().cloned();
        *self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        outcome.map_err(|reason| {
            tracing::debug!(endpoint = %self.inner.link.endpoint(), reason = &*reason, "the session store did not answer");
            OutOfReach
        })
    }

    /// Notices for a node, from now on.
    #[must_use]
    pub fn listen(&self, node: &Node) -> Listener {
        let channel = |partition| format!("{}to:{node}", prefix(partition)).into_bytes();
        Listener::new(self.inner.link.subscribe((0..PARTITIONS).map(channel).collect()))
    }

    /// Bytes of all sessions as the last [`Request::Beat`] found them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::Relaxed)
    }

    /// Why the last request was not answered; None if it was.
    #[must_use]
    pub fn last_failure(&self) -> Option<Arc<str>> {
        self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key of a document's entries, for whoever looks after the server.
    #[must_use]
    pub fn key(document: &DocumentName) -> String {
        format!("{}tail:{}", prefix(partition(document)), spelled(document))
    }

    /// For tests: scripts go by this time from now on.
    pub fn set_time(&self, now_us: u64) {
        self.inner.time_us.store(now_us, Ordering::Relaxed);
    }
}

type Answer<T> = Result<T, Arc<str>>;

impl Inner {
    async fn ask(&self, request: &Request) -> Answer<Reply> {
        match request {
            Request::Beat { node, lease_us, with_holds } => self.beat(node, *lease_us, *with_holds).await,
            Request::Heads { node, documents } => self.heads(node, documents).await,
            _ => self.run(self.invocation(request)?).await,
        }
    }

    fn invocation(&self, request: &Request) -> Answer<Invocation<'_>> {
        let (keep_us, document_bytes) = (self.bounds.keep_us, self.bounds.document_bytes);
        Ok(match request {
            Request::Open { document, claim, node, hold } | Request::Load { document, claim, node, hold } => {
                let call = self.about(&self.scripts.load, document, *claim).arg(node.to_string()).arg(*hold);
                call.arg(keep_us).arg(self.is_full()).arg(empty_size(document))
            }
            Request::Append { document, claim, node, known, nonce, updates } => {
                let call = self.about(&self.scripts.append, document, *claim).arg(node.to_string());
                let call = call.arg(known.seq).arg(wire::hex(known.chain)).arg(wire::hex(*nonce));
                call.arg(wire::updates(updates)).arg(self.is_full()).arg(document_bytes)
            }
            Request::Rebase { document, claim, upto, within, base, left } => {
                let call = self.about(&self.scripts.rebase, document, *claim);
                let call = call.arg(upto.seq).arg(wire::hex(upto.chain));
                let call = call.arg(within.seq).arg(wire::hex(within.chain));
                call.arg(wire::base(base, left)).arg(document_bytes)
            }
            Request::Say { document, claim, node, hold, message } => {
                let call = self.about(&self.scripts.say, document, *claim).arg(node.to_string());
                call.arg(*hold).arg(&**message)
            }
            Request::Close { document, claim, node, hold } => {
                let call = self.about(&self.scripts.close, document, *claim).arg(node.to_string());
                call.arg(*hold).arg(keep_us)
            }
            Request::End { document, claim } => self.about(&self.scripts.end, document, *claim),
            Request::Fence { document, claim, to, for_us } => {
                let call = self.about(&self.scripts.fence, document, *claim).arg(to.to_string());
                call.arg(*for_us).arg(keep_us)
            }
            Request::Agree { document, claim, node, known } => {
                let call = self.about(&self.scripts.agree, document, *claim).arg(node.to_string());
                call.arg(known.seq).arg(wire::hex(known.chain))
            }
            Request::Settle { document, claim } => self.about(&self.scripts.settle, document, *claim),
            Request::Import { document, claim, base, updates, nonce } => {
                let base = base.as_ref().map_or_else(Vec::new, |base| wire::base(base, &[]));
                let call = self.about(&self.scripts.import, document, *claim).arg(base);
                let call = call.arg(wire::updates(updates)).arg(wire::hex(*nonce)).arg(keep_us);
                call.arg(self.is_full()).arg(empty_size(document)).arg(document_bytes)
            }
            Request::Heads { .. } | Request::Beat { .. } => return Err("not about one document".into()),
        })
    }

    /// A script about a document, with what all of those begin with.
    fn about<'script>(
        &self,
        script: &'script Script,
        document: &DocumentName,
        claim: Claim,
    ) -> Invocation<'script> {
        let (prefix, name) = (prefix(partition(document)), spelled(document));
        self.begin(script, &format!("{prefix}doc:{name}"), &prefix).arg(name).arg(claim.to_string())
    }

    fn begin<'script>(&self, script: &'script Script, key: &str, prefix: &str) -> Invocation<'script> {
        let time = match self.time_us.load(Ordering::Relaxed) {
            0 => String::new(),
            time => time.to_string(),
        };
        script.on(key).key(format!("{prefix}never")).arg(prefix).arg(self.publish).arg(time)
    }

    fn is_full(&self) -> u8 {
        u8::from(self.bytes.load(Ordering::Relaxed) >= self.bounds.total_bytes)
    }

    async fn run(&self, invocation: Invocation<'_>) -> Answer<Reply> {
        match self.link.run(invocation).await {
            Ok(value) => {
                wire::reply(value).ok_or_else(|| "its answer makes no sense: another version?".into())
            }
            Err(Error::Full(reason)) => {
                tracing::debug!(endpoint = %self.link.endpoint(), reason = &*reason, "Redis has no memory left");
                Ok(Reply::Full)
            }
            Err(error) => Err(error.to_string().into()),
        }
    }

    async fn heads(&self, node: &Node, documents: &[(DocumentName, Claim, u64)]) -> Answer<Reply> {
        let Some((first, ..)) = documents.first() else { return Ok(Reply::Heads(Vec::new())) };
        let prefix = prefix(partition(first));
        let mut call =
            self.begin(&self.scripts.heads, &format!("{prefix}nodes"), &prefix).arg(node.to_string());
        for (document, claim, hold) in documents {
            call = call.arg(spelled(document)).arg(claim.to_string()).arg(*hold);
        }
        self.run(call).await
    }

    /// In every partition: each knows for itself who lives, so that what it gives up of the dead is given up in one step with
    /// that.
    async fn beat(&self, node: &Node, lease_us: u64, with_holds: bool) -> Answer<Reply> {
        let beats = (0..PARTITIONS).map(|partition| {
            let prefix = prefix(partition);
            let call = self.begin(&self.scripts.beat, &format!("{prefix}nodes"), &prefix);
            let call = call.arg(node.to_string()).arg(lease_us).arg(self.bounds.keep_us).arg(SWEEP_MAX);
            self.link.run(call.arg(u8::from(with_holds)))
        });
        let (mut living, mut held, mut is_forgotten, mut bytes) = (BTreeSet::new(), Vec::new(), false, 0);
        for beat in join_all(beats).await {
            let beat = beat.map_err(|error| Arc::<str>::from(error.to_string()))?;
            let beat: wire::Beat = wire::beat(beat).ok_or("its answer makes no sense: another version?")?;
            living.extend(beat.nodes);
            held.extend(beat.held);
            is_forgotten |= beat.is_forgotten;
            bytes += beat.bytes;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        held.sort_unstable();
        Ok(Reply::Nodes { nodes: living.into_iter().collect(), is_forgotten, held })
    }
}

/// For [`Inner::run`] and what reads its answers.
type Parts = std::vec::IntoIter<Value>;
