//! Documents of this region that are handed over to another: frozen in its sessions, read once all who hold them have stopped, and
//! sent in pieces.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::Duration;

use pinwire_cluster::Unmoved;
use pinwire_peer::{HOLDERS_SINCE, LinkError, Moving, Named, PIECE_MAX, PIECES_UNDER_WAY, pack};
use pinwire_registry::{Claim, DocumentName};
use pinwire_session::{Loaded, MOVE_PATIENCE_US, Reply, Request};
use pinwire_shard::Pinned;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::hub::{Hub, Link};
use super::moves::{AT_ONCE, Place, claim_of, reason_code, tell, unnamed};
use crate::cluster::{SessionWay, registry_name};

/// When it is asked for the second time whether all holders have stopped; each next wait is twice as long, up to the longest.
const POLL: Duration = Duration::from_millis(3);
const POLL_MAX: Duration = Duration::from_millis(96);
/// License regions whose leases are needed to freeze a document and to let it go on: none, since nothing is acknowledged by that.
const NO_LEASE: u64 = 0;
/// After how long it is settled once more, if it is not known when the store did what it was asked before.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);
/// How long they are waited for.
const AGREE: Duration = Duration::from_secs(2);

/// One that is under way.
pub(super) struct Give {
    /// Pieces that may be sent.
    credit: Cell<u32>,
    has_more: Notify,
    is_settled: Cell<bool>,
    settling: Notify,
}

impl Give {
    fn new() -> Self {
        let (has_more, settling) = (Notify::new(), Notify::new());
        Self { credit: Cell::new(PIECES_UNDER_WAY), has_more, is_settled: Cell::new(false), settling }
    }

    /// A piece was taken.
    pub(super) fn more(&self) {
        self.credit.set(self.credit.get().saturating_add(1).min(PIECES_UNDER_WAY));
        self.has_more.notify_one();
    }

    /// The registry has decided, or nobody is there any more who would have it decide.
    pub(super) fn settle(&self) {
        self.is_settled.set(true);
        self.settling.notify_one();
    }

    async fn settled(&self) {
        while !self.is_settled.get() {
            self.settling.notified().await;
        }
    }
}

/// Another region wants a document.
///
/// # Errors
/// The number is that of one which is under way: its end could not be told from the other's.
pub(super) fn begin(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    at: (u16, u32),
    named: Named,
    claim: Pinned,
    fence: Pinned,
) -> Result<(), LinkError> {
    let refuse = |why| {
        tell(link, Moving::Handed(at.1, reason_code(why), None));
        Ok(())
    };
    let Some(session) = hub.movable.session.clone() else { return refuse(Unmoved::NoSession) };
    let Some(place) = Place::among(&hub.moves.giving, AT_ONCE) else { return refuse(Unmoved::Busy) };
    let Some(give) = enter(&hub.moves.gives, at) else { return Err(LinkError::InUse) };
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    let frozen = Frozen {
        session,
        document: registry_name(&unnamed(named)),
        claim: claim_of(claim),
        fence: claim_of(fence),
        is_unsure: Cell::new(false),
    };
    spawn_local(async move {
        let patience = Duration::from_micros(MOVE_PATIENCE_US);
        let given = frozen.hand_over(&link, at.1, &give).await;
        match &given {
            Ok(_) => {
                hub.movable.stats.handed_over.one();
                tracing::info!(document = %frozen.document, peer = %link.peer, "a document is handed over");
            }
            Err(why) => {
                tracing::warn!(document = %frozen.document, peer = %link.peer, %why, "a document is not handed over");
            }
        }
        let code = given.as_ref().err().map_or(0, |why| reason_code(*why));
        let nodes = given.ok().filter(|_| link.version >= HOLDERS_SINCE);
        tell(&link, Moving::Handed(at.1, code, nodes));
        // Whoever took it says so once the registry has decided, or its link breaks; else the holders ask by themselves.
        let _ = timeout(patience, give.settled()).await;
        hub.moves.gives.borrow_mut().remove(&at);
        frozen.settle().await;
        drop(place);
    });
    Ok(())
}

/// One more under this number of this link, unless there is one.
fn enter(gives: &RefCell<HashMap<(u16, u32), Rc<Give>>>, at: (u16, u32)) -> Option<Rc<Give>> {
    match gives.borrow_mut().entry(at) {
        Entry::Occupied(_) => None,
        Entry::Vacant(place) => Some(Rc::clone(place.insert(Rc::new(Give::new())))),
    }
}

struct Frozen {
    session: SessionWay,
    document: DocumentName,
    claim: Claim,
    fence: Claim,
    /// A request was not answered: the store may do it later.
    is_unsure: Cell<bool>,
}

impl Frozen {
    /// The names of the nodes that held it.
    async fn hand_over(&self, link: &Link, number: u32, give: &Give) -> Result<Box<[Box<str>]>, Unmoved> {
        let loaded = self.freeze(give).await?;
        let nodes = loaded.nodes.iter().map(|node| Box::from(&*node.name)).collect();
        let bytes = pack(loaded.base.as_deref(), &loaded.tail);
        drop(loaded);
        for piece in bytes.chunks(PIECE_MAX) {
            while give.credit.get() == 0 {
                tokio::select! {
                    () = give.has_more.notified() => {}
                    () = give.settled() => return Err(Unmoved::Unreached),
                }
            }
            give.credit.set(give.credit.get() - 1);
            tell(link, Moving::Piece(number, piece.into()));
        }
        Ok(nodes)
    }

    /// What the session has, once nothing is added to it. A request that is under way is waited for, whatever was decided
    /// meanwhile: what settles it must not come before.
    async fn freeze(&self, give: &Give) -> Result<Loaded, Unmoved> {
        let (deadline, mut wait) = (Instant::now() + AGREE, POLL);
        while !give.is_settled.get() {
            let (document, claim, to) = (self.document.clone(), self.claim, self.fence);
            let fenced = Request::Fence { document, claim, to, for_us: MOVE_PATIENCE_US };
            match self.session.ask(fenced, NO_LEASE).await {
                Some(Reply::Loaded(loaded)) => return Ok(loaded),
                Some(Reply::Waiting) if Instant::now() < deadline => {
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = give.settled() => {}
                    }
                    wait = POLL_MAX.min(wait * 2);
                }
                Some(Reply::Waiting) => return Err(Unmoved::NotReady),
                Some(Reply::Fenced(_)) => return Err(Unmoved::Stale),
                // There is none under this claim: it is being put back, or its nodes do not know of it yet.
                Some(_) => return Err(Unmoved::NoSession),
                None => {
                    self.is_unsure.set(true);
                    return Err(Unmoved::NoSession);
                }
            }
        }
        Err(Unmoved::Unreached)
    }

    /// Tells the holders that it is decided, so that they do not wait for as long as a move may take.
    async fn settle(&self) {
        let is_answered = self.ask_to_settle().await.is_some();
        if !is_answered || self.is_unsure.get() {
            sleep(SETTLE_AGAIN).await;
            self.ask_to_settle().await;
        }
    }

    async fn ask_to_settle(&self) -> Option<Reply> {
        let (document, claim) = (self.document.clone(), self.fence);
        self.session.ask(Request::Settle { document, claim }, NO_LEASE).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SessionRequest;
    use pinwire_registry::AppName;
    use tokio::sync::{mpsc, oneshot};
    use tokio::task::yield_now;

    /// A document to be frozen, and what is asked of the store.
    fn frozen() -> (Frozen, mpsc::Receiver<SessionRequest>) {
        let (session, asked) = SessionWay::to_a_test(8);
        let document = DocumentName { app: AppName("acme::notes".into()), name: "doc".into() };
        let (claim, fence) = (Claim { epoch: 4, nonce: 1 }, Claim { epoch: 5, nonce: 1 });
        (Frozen { session, document, claim, fence, is_unsure: Cell::new(false) }, asked)
    }

    async fn next(asked: &mut mpsc::Receiver<SessionRequest>) -> (Request, oneshot::Sender<Reply>) {
        match asked.recv().await {
            Some(SessionRequest::Ask(request, _, reply)) => (*request, reply),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_freezes_a_document_is_waited_for_before_it_is_settled() {
        let ((frozen, mut asked), give) = (frozen(), Give::new());
        let giving = async {
            let given = frozen.freeze(&give).await;
            frozen.settle().await;
            given
        };
        let storing = async {
            let (request, reply) = next(&mut asked).await;
            assert!(matches!(request, Request::Fence { .. }));
            // The link breaks.
            give.settle();
            yield_now().await;
            assert!(asked.try_recv().is_err(), "it would come before the other");
            reply.send(Reply::Waiting).expect("it is waited for");
            let (request, reply) = next(&mut asked).await;
            assert!(matches!(request, Request::Settle { claim, .. } if claim == frozen.fence));
            reply.send(Reply::Done).expect("it is waited for");
        };
        let (given, ()) = tokio::join!(giving, storing);
        assert_eq!(given.err(), Some(Unmoved::Unreached));
        assert!(asked.try_recv().is_err(), "once is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_frozen_later_is_settled_once_more() {
        let ((frozen, mut asked), give) = (frozen(), Give::new());
        let giving = async {
            let given = frozen.freeze(&give).await;
            frozen.settle().await;
            given
        };
        let storing = async {
            drop(next(&mut asked).await);
            for _ in 0..2 {
                let (request, reply) = next(&mut asked).await;
                assert!(matches!(request, Request::Settle { .. }));
                reply.send(Reply::Done).expect("it is waited for");
            }
        };
        let (given, ()) = tokio::join!(giving, storing);
        assert_eq!(given.err(), Some(Unmoved::NoSession));
    }

    #[test]
    fn a_number_that_is_in_use_is_refused_and_the_first_goes_on() {
        let gives = RefCell::default();
        let first = enter(&gives, (1, 7)).expect("a free number");
        assert!(enter(&gives, (1, 7)).is_none());
        assert!(enter(&gives, (2, 7)).is_some(), "links have numbers of their own");
        assert!(gives.borrow().get(&(1, 7)).is_some_and(|there| Rc::ptr_eq(there, &first)));
    }
}
