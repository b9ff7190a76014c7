//! A registry on Redis: a server, a master under Sentinel, or a Cluster.
//!
//! Each request is one script, which runs as one step on the server (docs/registry.md has the keys). What a dead node held is found
//! out by whoever looks at a pin: a script compares the holders with the leases. So no death is ever waited for, and taking dead
//! holders out of pins is left to sweeps, in pieces.
//!
//! In a Cluster the apps are spread over partitions, each in one slot; every partition has the leases of all nodes, so a renewal
//! is a script for each partition, and it counts once all of them answered.
//!
//! | module | concern |
//! | --- | --- |
//! | `scripts`, `lua/` | what runs on the server |
//! | `partition` | which app is where |
//! | `reply` | answers, read |
//! | `nodes` | requests that concern every partition |

mod nodes;
mod partition;
mod reply;
mod scripts;

use crate::{
    Answer, Answering, AppName, Asserted, Claim, Claimed, DocumentName, Hold, Node, OutOfReach, Registry,
    Request, Used,
};
use futures_util::future::try_join_all;
use partition::Partitions;
use pinwire_redis::{Invocation, Link, Script};
use reply::{Parts, Read};
pub use scripts::REVISION;
use scripts::Scripts;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Pins of one script at most: it holds up the server for well below a millisecond.
const ASSERT_MAX: usize = 200;
/// Pieces of a sweep that a claim or a count waits for at most.
const PIECES_MAX: u32 = 200;

/// A registry on Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    scripts: Scripts,
    partitions: Partitions,
    revision: u32,
    /// Time that scripts go by instead of the server's; 0: the server's.
    time: AtomicU64,
    is_sweeping: AtomicBool,
}

impl RedisRegistry {
    /// A registry behind a link, which may serve other things as well.
    pub fn new(link: Link) -> Self {
        Self::of_revision(link, REVISION)
    }

    /// As a node of another version would open it: for tests of upgrades.
    #[doc(hidden)]
    pub fn of_revision(link: Link, revision: u32) -> Self {
        Self::with(link, revision, Scripts::new())
    }

    /// With scripts as another version may have them, made of these: for tests of upgrades.
    #[doc(hidden)]
    pub fn of_scripts(link: Link, edit: impl Fn(&str) -> String) -> Self {
        Self::with(link, REVISION, Scripts::edited(edit))
    }

    fn with(link: Link, revision: u32, scripts: Scripts) -> Self {
        let partitions = Partitions::new(link.is_cluster());
        let (time, is_sweeping) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { link, scripts, partitions, revision, time, is_sweeping }) }
    }

    /// Time for scripts to go by from now on, in microseconds: for tests that compare registries.
    #[doc(hidden)]
    pub fn set_time(&self, now: u64) {
        self.inner.time.store(now, Ordering::Relaxed);
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RedisRegistry({})", self.inner.link.endpoint())
    }
}

impl Registry for RedisRegistry {
    fn ask(&self, request: Request) -> Answering {
        let inner = self.inner.clone();
        Box::pin(async move { inner.ask(&request).await })
    }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// Names that would be read wrongly in a key or a member are refused; nodes check names long before.
fn check_name(name: &str) -> Read<()> {
    if name.contains(['\0', '\n']) {
        return Err(OutOfReach {
            reason: format!("{name:?} is no name: it holds a control character").into(),
        });
    }
    Ok(())
}

fn check_region(region: &str) -> Read<()> {
    let is_word =
        !region.is_empty() && !region.contains(|letter: char| letter.is_whitespace() || letter == '/');
    if is_word {
        return check_name(region);
    }
    Err(OutOfReach { reason: format!("{region:?} is no region: it is one word without a slash").into() })
}

impl Inner {
    /// A script in a partition, with the time in front of its arguments.
    fn on<'script>(&self, script: &'script Script, partition: usize) -> Invocation<'script> {
        let time = self.time.load(Ordering::Relaxed);
        let time = if time == 0 { String::new() } else { time.to_string() };
        self.partitions.run(script, partition).arg(time)
    }

    /// Runs it: the time it went by, and the rest of its answer.
    async fn run(&self, invocation: Invocation<'_>) -> Read<(u64, Parts)> {
        let answer = self.link.run(invocation).await;
        let answer = answer.map_err(|error| OutOfReach { reason: error.to_string().into() })?;
        let mut parts = Parts::of(answer)?;
        Ok((parts.number()?, parts))
    }

    async fn ask(self: &Arc<Self>, request: &Request) -> Read<Answer> {
        Ok(match request {
            Request::Register { node, lease_us } => self.register(node, *lease_us).await?,
            Request::Renew { node, lease_us, apps, versions } => {
                self.renew(node, *lease_us, apps, versions).await?
            }
            Request::Retire { node, grace_us } => self.retire(node, *grace_us).await?,
            Request::Claim { document, node, nonce, hold, max_documents, grace_us } => {
                let call =
                    self.on_document(&self.scripts.claim, document)?.arg(node.to_string()).arg(&*node.region);
                let call = call.arg(hex(*nonce)).arg(*max_documents).arg(*grace_us).arg(*hold);
                Answer::Claimed(self.claim(call).await?)
            }
            Request::Release { document, node, hold, grace_us } => {
                let call = self.on_document(&self.scripts.release, document)?.arg(node.to_string());
                self.run(call.arg(*hold).arg(*grace_us)).await?;
                Answer::Done
            }
            Request::Assert { node, pins, grace_us } => {
                Answer::Asserted(self.assert(node, pins, *grace_us).await?)
            }
            Request::Locate { document } => self.locate(document).await?,
            Request::Move { document, claim, to, node, hold, grace_us } => {
                let call = self.on_document(&self.scripts.move_to, document)?;
                let call =
                    call.arg(hex(claim.epoch)).arg(hex(claim.nonce)).arg(node.to_string()).arg(&*node.region);
                let call = call.arg(hex(to.epoch)).arg(hex(to.nonce)).arg(*grace_us).arg(*hold);
                Answer::Claimed(self.run(call).await?.1.claimed()?.unwrap_or(Claimed::Stale))
            }
            Request::Unpin { document } => self.unpin(document).await?,
            Request::Usage { app } => Answer::Used(self.usage(app).await?),
            Request::App { app } => {
                let call = self.on(&self.scripts.app, self.partitions.of(app)).arg(&*app.0);
                Answer::App(self.run(call).await?.1.record()?)
            }
            Request::PutApp { app, version, record } => {
                check_name(&app.0)?;
                let call = self.on(&self.scripts.put_app, self.partitions.of(app)).arg(&*app.0).arg(*version);
                let call = call.arg(u8::from(record.is_some())).arg(record.as_deref().unwrap_or_default());
                Answer::App(self.run(call).await?.1.record()?)
            }
            Request::Nodes => self.nodes().await?,
            Request::Pins { after, limit } => self.pins(after.as_ref(), *limit).await?,
        })
    }

    fn on_document<'script>(
        &self,
        script: &'script Script,
        document: &DocumentName,
    ) -> Read<Invocation<'script>> {
        check_name(&document.app.0)?;
        check_name(&document.name)?;
        Ok(self.on(script, self.partitions.of(&document.app)).arg(&*document.app.0).arg(&*document.name))
    }

    async fn claim(&self, call: Invocation<'_>) -> Read<Claimed> {
        for _ in 0..PIECES_MAX {
            if let Some(claimed) = self.run(call.clone()).await?.1.claimed()? {
                return Ok(claimed);
            }
        }
        let reason = "too many pins of dead nodes have to be swept before the limit is known";
        Err(OutOfReach { reason: reason.into() })
    }

    async fn locate(&self, document: &DocumentName) -> Read<Answer> {
        self.located(&self.scripts.locate, document).await
    }

    async fn unpin(&self, document: &DocumentName) -> Read<Answer> {
        self.located(&self.scripts.unpin, document).await
    }

    /// Runs a script that answers with a pin, or nothing.
    async fn located(&self, script: &Script, document: &DocumentName) -> Read<Answer> {
        let (now, mut parts) = self.run(self.on_document(script, document)?).await?;
        if parts.is_empty() {
            return Ok(Answer::Located(None));
        }
        Ok(Answer::Located(Some(parts.parts()?.pin(&document.app, now)?)))
    }

    /// In the order asked, though pins of several partitions are asserted side by side.
    async fn assert(
        &self,
        node: &Node,
        pins: &[(DocumentName, Claim, Hold)],
        grace_us: u64,
    ) -> Read<Option<Vec<Asserted>>> {
        let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); self.partitions.len()];
        for (index, (document, ..)) in pins.iter().enumerate() {
            check_name(&document.app.0)?;
            check_name(&document.name)?;
            by_partition[self.partitions.of(&document.app)].push(index);
        }
        let pieces = by_partition.iter().enumerate().flat_map(|(partition, indices)| {
            // A node that holds nothing is known or not as well.
            let nothing = (pins.is_empty() && partition == 0).then_some(&[] as &[usize]);
            indices.chunks(ASSERT_MAX).chain(nothing).map(move |piece| (partition, piece))
        });
        let answers = try_join_all(pieces.map(|(partition, piece)| async move {
            let mut call = self
                .on(&self.scripts.assert, partition)
                .arg(node.to_string())
                .arg(&*node.region)
                .arg(grace_us);
            for (document, claim, hold) in piece.iter().map(|index| &pins[*index]) {
                call = call
                    .arg(&*document.app.0)
                    .arg(&*document.name)
                    .arg(hex(claim.epoch))
                    .arg(hex(claim.nonce))
                    .arg(*hold);
            }
            let (_, mut parts) = self.run(call).await?;
            let is_known = parts.text()? == "asserted";
            let outcomes = if is_known { Some(parts.each(Parts::asserted)?) } else { None };
            Ok((piece, outcomes))
        }))
        .await?;
        let mut outcomes: Vec<Option<Asserted>> = vec![None; pins.len()];
        for (piece, found) in answers {
            let Some(found) = found else { return Ok(None) };
            for (index, outcome) in piece.iter().zip(found) {
                outcomes[*index] = Some(outcome);
            }
        }
        outcomes.into_iter().collect::<Option<Vec<_>>>().map_or_else(
            || Err(OutOfReach { reason: "the registry answered for some pins only".into() }),
            |outcomes| Ok(Some(outcomes)),
        )
    }

    async fn usage(&self, app: &AppName) -> Read<Used> {
        let mut used = Used::default();
        for _ in 0..PIECES_MAX {
            let call = self.on(&self.scripts.usage, self.partitions.of(app)).arg(&*app.0);
            let (_, mut parts) = self.run(call).await?;
            used = Used { connections: parts.count()?, documents: parts.count()? };
            let is_exact = parts.number()? == 0;
            if is_exact {
                break;
            }
        }
        Ok(used)
    }
}
