//! Links to nodes of other regions: sessions are carried to the region of their document, for clients that cannot follow a
//! redirect.
//!
//! ```text
//!            mail, find                    a link to each node that is dialled, one from each that dials
//!  data-N ──────────────► peer ◄─────────────────────────────────────────────────────► peer of another node
//!    ▲                     │
//!    └─────────────────────┘
//!       mail, route, a link that is lost
//! ```
//!
//! The thread `peer` waits for nobody: each link is read and written by itself, and one that takes nothing is cut. What waits
//! for a link is bounded by what its sessions may have under way ([`pinwire_peer`]); what waits for a data thread stays in the
//! link's socket. A data thread's mail goes into a queue that has room for a turn's; it keeps what does not fit.
//!
//! | module | concern |
//! | --- | --- |
//! | `hub` | the links that there are, and the mail between them and the data threads |
//! | `link` | one link: reading, writing, its health |
//! | `dial` | how links come to be: TCP, TLS, proofs |
//! | `moves` | documents that are moved to this region, or on to whom it concerns |
//! | `give` | documents of this region that are handed over to another |
//! | `find` | which node of another region a document's sessions are carried to |
//! | `knock` | a link that is tried, for tools |
//! | `stats` | what is counted |

mod dial;
mod find;
mod give;
mod hub;
mod knock;
mod link;
mod moves;
mod stats;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_queue::ArrayQueue;
use pinwire_cluster::{Outcome, Unmoved};
use pinwire_peer::Secret;
use pinwire_registry::{DocumentName, Owner, Region};
use pinwire_shard::{DocumentRef, Mail};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::admin::Events;
use crate::apps::Apps;
use crate::cluster::{ClusterStats, PinsWay, Registries, SessionWay};
use crate::config::{Peer, RegistryKind};
use crate::data::Mailbox;
use crate::node::AbortOnPanic;
use hub::Hub;
use moves::WantedMove;

pub(crate) use knock::knock;
pub(crate) use moves::NoWay;
pub use stats::PeerStats;

/// Mail of one data thread that waits for the thread of the links.
const QUEUE: usize = 4_096;

/// Mail of a data thread for a link.
pub(crate) type Outgoing = (u16, Mail);

/// A document that another region has: a way there is wanted.
#[derive(Debug)]
pub(crate) struct Find {
    /// Which data thread asks.
    pub(crate) thread: u16,
    /// What it opens.
    pub(crate) document: DocumentRef,
    /// Its name.
    pub(crate) name: DocumentName,
    /// The number of the registry that knows of it.
    pub(crate) registry: u8,
    /// Which region has it.
    pub(crate) owner: Owner,
}

/// What data threads and the thread of the links share.
#[derive(Debug)]
struct Shared {
    /// For each data thread.
    mail: Box<[ArrayQueue<Outgoing>]>,
    /// At most one for each document that is being opened.
    finds: Mutex<Vec<Find>>,
    /// The node takes no more sessions over links.
    leaves: AtomicBool,
    wake: Notify,
}

/// The way to the thread of the links.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    shared: Arc<Shared>,
    /// Documents that operators want to have moved. What is in there is refused when the thread ends.
    moves: mpsc::Sender<WantedMove>,
}

impl Relay {
    /// Mails a session behind a link; gives the mail back if the queue is full.
    #[expect(clippy::result_large_err, reason = "what is given back is what came, and is moved once")]
    pub(crate) fn mail(&self, thread: u16, mail: Outgoing) -> Result<(), Outgoing> {
        let Some(queue) = self.shared.mail.get(usize::from(thread)) else { return Ok(()) };
        queue.push(mail)?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Looks for a way to a document. Answered by [`Envelope::Found`](crate::data::Envelope::Found).
    pub(crate) fn find(&self, find: Find) {
        self.shared.finds.lock().unwrap_or_else(PoisonError::into_inner).push(find);
        self.shared.wake.notify_one();
    }

    /// Other nodes are told whether this one takes no more sessions of theirs.
    pub(crate) fn leave(&self, leaves: bool) {
        self.shared.leaves.store(leaves, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }
}

impl Relay {
    /// Has a document moved to a region; `None`: the node stops. With as many under way as there may be, it is refused as busy.
    pub(crate) async fn move_to(
        &self,
        registry: u8,
        document: pinwire_shard::DocumentName,
        region: Region,
    ) -> Option<Result<Outcome, NoWay>> {
        let (reply, outcome) = oneshot::channel();
        let wanted = WantedMove { registry, document, region, reply };
        match self.moves.try_send(wanted) {
            Ok(()) => outcome.await.ok(),
            Err(mpsc::error::TrySendError::Full(_)) => Some(Ok(Outcome::Unmoved(Unmoved::Busy))),
            Err(mpsc::error::TrySendError::Closed(_)) => None,
        }
    }
}

/// Who decides and who stores, for documents that are moved.
#[derive(Clone, Debug)]
pub(crate) struct Movable {
    pub(crate) pins: PinsWay,
    /// Missing where sessions are not in a Redis.
    pub(crate) session: Option<SessionWay>,
    pub(crate) events: Option<Arc<Events>>,
    pub(crate) stats: Arc<ClusterStats>,
}

/// What the thread works with.
pub(crate) struct Around {
    pub(crate) config: Peer,
    /// What this node is called among all: `{region}/{node}`.
    pub(crate) name: String,
    pub(crate) licenses: RegistryKind,
    /// One for each license region, in the order of their numbers.
    pub(crate) registries: Registries,
    pub(crate) apps: Arc<Apps>,
    pub(crate) threads: usize,
    pub(crate) placement_seed: u64,
    pub(crate) stats: Arc<ClusterStats>,
}

/// Whether other nodes are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// They are.
    Accepts,
    /// Another process lets them in; those that are here stay.
    Rests,
    /// The same for good: the listener is closed.
    Closed,
    /// Nobody is, and those that are here are sent away.
    Over,
}

/// The running thread. Dropping it cuts all links.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) relay: Relay,
    address: String,
    started: Option<oneshot::Sender<(Arc<[Mailbox]>, Movable)>>,
    serving: watch::Sender<Serving>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The listener once more, for a process that takes over.
    pub(crate) copy: Option<OwnedFd>,
}

/// Listens, or takes the listener of the process before, and starts the thread, which lets nobody in before [`Peers::started`].
///
/// # Errors
/// The address cannot be listened on, the secret or the certificates are of no use, or the system gives no thread.
pub(crate) fn start(handed: Option<TcpListener>, around: Around) -> io::Result<Peers> {
    let listener = handed.map_or_else(|| TcpListener::bind(around.config.listen), Ok)?;
    listener.set_nonblocking(true)?;
    let copy = Some(OwnedFd::from(listener.try_clone()?));
    let address = reached_at(&around.config, listener.local_addr()?);
    let secret = Secret::new(around.config.secret.bytes())
        .ok_or_else(|| io::Error::other("the secret of the links between nodes is too short"))?;
    let tls = dial::Tls::new(&around.config)?;
    let shared = Arc::new(Shared {
        mail: std::iter::repeat_with(|| ArrayQueue::new(QUEUE)).take(around.threads.max(1)).collect(),
        finds: Mutex::default(),
        leaves: AtomicBool::new(false),
        wake: Notify::new(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (moves, wanted) = mpsc::channel(moves::WANTED_MAX);
    let relay = Relay { shared: Arc::clone(&shared), moves };
    let (started, started_in) = oneshot::channel::<(Arc<[Mailbox]>, Movable)>();
    let (stop, stopping) = oneshot::channel();
    let (serving, served) = watch::channel(Serving::Accepts);
    let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
        let guard = AbortOnPanic;
        LocalSet::new().block_on(&runtime, async move {
            let Ok((mailboxes, movable)) = started_in.await else { return };
            // Their links belong to this thread's loop.
            let registries = match around.registries.open() {
                Ok(registries) => registries,
                Err(error) => {
                    return tracing::error!(%error, "a registry's address is none; nobody is carried");
                }
            };
            let hub = Hub::new(around, registries, (shared, mailboxes), movable, secret, tls);
            tokio::select! {
                () = hub.run(listener, wanted, served) => {}
                _ = stopping => {}
            }
        });
        std::mem::forget(guard);
    })?;
    Ok(Peers {
        relay,
        address,
        started: Some(started),
        serving,
        stop: Some(stop),
        thread: Some(thread),
        copy,
    })
}

/// Where the system chose the port, it is the one that others are told.
fn reached_at(config: &Peer, listening: SocketAddr) -> String {
    match config.address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listening.port()),
        None => config.address.clone(),
    }
}

impl Peers {
    /// Where other nodes reach this one: `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// The data threads run.
    pub(crate) fn started(&mut self, mailboxes: &Arc<[Mailbox]>, movable: Movable) {
        if let Some(sender) = self.started.take() {
            // A thread that has ended has ended the process.
            let _ = sender.send((Arc::clone(mailboxes), movable));
        }
    }

    /// Another process lets other nodes in. The links that there are stay.
    pub(crate) fn rest(&self) {
        self.serving.send_replace(Serving::Rests);
    }

    /// It does not any more.
    pub(crate) fn resume(&self) {
        self.serving.send_replace(Serving::Accepts);
    }

    /// It is not to be resumed: the listener is closed.
    pub(crate) fn close(&self) {
        self.serving.send_replace(Serving::Closed);
    }

    /// The node stops: sessions that still come over links are to go elsewhere at once, and no more are taken.
    pub(crate) fn stop_serving(&self) {
        self.serving.send_replace(Serving::Over);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop((self.started.take(), self.stop.take()));
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(room: usize) -> (Relay, mpsc::Receiver<WantedMove>) {
        let shared = Shared {
            mail: Box::default(),
            finds: Mutex::default(),
            leaves: AtomicBool::new(false),
            wake: Notify::new(),
        };
        let (moves, wanted) = mpsc::channel(room);
        (Relay { shared: Arc::new(shared), moves }, wanted)
    }

    fn moved(relay: &Relay) -> impl Future<Output = Option<Result<Outcome, NoWay>>> {
        let document = pinwire_shard::DocumentName { tenant: "t".into(), app: "a".into(), name: "d".into() };
        relay.move_to(0, document, "there".into())
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn a_move_is_answered_when_the_thread_ends_before_or_after_it_was_asked_for() {
        runtime().block_on(async {
            let (relay, wanted) = ways(1);
            let ends = async move { drop(wanted) };
            assert_eq!(tokio::join!(moved(&relay), ends).0, None);
            assert_eq!(moved(&relay).await, None);
        });
    }

    #[test]
    fn more_moves_than_may_wait_are_refused() {
        runtime().block_on(async {
            let (relay, wanted) = ways(1);
            let second = async {
                let outcome = moved(&relay).await;
                drop(wanted);
                outcome
            };
            let (first, second) = tokio::join!(moved(&relay), second);
            assert_eq!(second, Some(Ok(Outcome::Unmoved(Unmoved::Busy))));
            assert_eq!(first, None);
        });
    }
}
