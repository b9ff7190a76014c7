//! The rules of the store, in memory: what the scripts on a Redis server do, one request at a time.

mod moves;

use crate::session::{Kept, Session};
use crate::{Batch, Head, Loaded, Notice, Reply, Request, Standing};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Notices with whom they are for.
pub type Notices = Vec<(Node, Notice)>;

/// What a store may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one document.
    pub document_bytes: u64,
    /// Bytes of all documents. While there are as many, nothing is appended and no session begins.
    pub total_bytes: u64,
    /// Microseconds for which a session waits that nobody holds: the grace, a lease, and some more.
    pub keep_us: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { document_bytes: 256 << 20, total_bytes: 4 << 30, keep_us: 90_000_000 }
    }
}

/// What one beat clears away at most, per partition: documents of dead nodes, and sessions that are over.
pub const SWEEP_MAX: usize = 64;

/// A store in memory. Deterministic: time is passed in. A clone is a snapshot, and can be put in the place of the original as a
/// fail-over does with a replica that lags.
#[derive(Clone, Debug, Default)]
pub struct Book {
    bounds: Bounds,
    sessions: BTreeMap<DocumentName, Session>,
    /// Until when nodes are believed to live.
    nodes: BTreeMap<Node, u64>,
    /// Until when a node is waited for that holds something and was never heard of.
    strangers: BTreeMap<Node, u64>,
    /// What each node holds.
    holds: BTreeMap<Node, BTreeSet<DocumentName>>,
    /// Sessions that nobody holds, by when they are over.
    left: BTreeSet<(u64, DocumentName)>,
    /// What all sessions take.
    bytes: u64,
}

impl Book {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// As a server that starts without its data.
    pub fn wipe(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Bytes of all sessions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sessions that are there, held or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// A session as [`Request::Load`] would find it, with all who hold it.
    #[must_use]
    pub fn peek(&self, document: &DocumentName) -> Option<(Claim, Loaded)> {
        let session = self.sessions.get(document)?;
        Some((session.claim, session.load()))
    }

    /// Does what is asked; the answer, and what other nodes are told.
    pub fn apply(&mut self, now_us: u64, request: &Request) -> (Reply, Notices) {
        let mut notices = Vec::new();
        let reply = match request {
            Request::Open { document, claim, node, hold } | Request::Load { document, claim, node, hold } => {
                self.load(now_us, document, *claim, (node, *hold), &mut notices)
            }
            Request::Append { document, claim, node, known, nonce, updates } => {
                let kept = Kept { nonce: *nonce, updates: Arc::clone(updates) };
                self.append(now_us, (document, *claim, node), *known, kept, &mut notices)
            }
            Request::Rebase { document, claim, upto, within, base, left } => {
                self.rebase(now_us, document, *claim, (*upto, *within), (base, left))
            }
            Request::Say { document, claim, node, hold, message } => {
                self.say(now_us, document, *claim, (node, *hold), message, &mut notices)
            }
            Request::Close { document, node, hold, .. } => {
                self.close(now_us, document, (node, *hold), &mut notices);
                Reply::Done
            }
            Request::End { document, claim } => {
                if self.sessions.get(document).is_some_and(|session| session.claim == *claim) {
                    self.remove(document);
                }
                Reply::Done
            }
            Request::Fence { document, claim, to, for_us } => {
                self.fence(now_us, document, (*claim, *to), *for_us, &mut notices)
            }
            Request::Agree { document, claim, node, known } => {
                self.agree(now_us, document, *claim, node, *known)
            }
            Request::Settle { document, claim } => self.settle(document, *claim, &mut notices),
            Request::Import { document, claim, base, updates, nonce } => {
                let kept = Kept { nonce: *nonce, updates: Arc::clone(updates) };
                self.import(now_us, document, *claim, base.as_ref(), kept)
            }
            Request::Heads { node, documents } => self.heads(node, documents, &mut notices),
            Request::Beat { node, lease_us, with_holds } => {
                self.beat(now_us, (node, *lease_us), *with_holds, &mut notices)
            }
        };
        (reply, notices)
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.bounds.total_bytes
    }

    /// The session of this claim, after removing one of an older claim, or who has it instead.
    fn enter(&mut self, now_us: u64, document: &DocumentName, claim: Claim) -> Result<&mut Session, Reply> {
        let there = self.sessions.get(document);
        if let Some(newer) = there.filter(|there| there.claim > claim) {
            return Err(newer.fenced(now_us));
        }
        let there = there.map(|session| session.claim);
        if there.is_some_and(|there| there < claim) {
            self.remove(document);
        }
        if !self.sessions.contains_key(document) && self.is_full() {
            return Err(Reply::Full);
        }
        let session = self.sessions.entry(document.clone()).or_insert_with(|| {
            let session = Session::new(claim, document);
            self.bytes += session.bytes();
            session
        });
        Ok(session)
    }

    fn remove(&mut self, document: &DocumentName) {
        let Some(session) = self.sessions.remove(document) else { return };
        self.bytes -= session.bytes();
        if let Some(end) = session.over_at {
            self.left.remove(&(end, document.clone()));
        }
        for node in session.holders.keys() {
            self.forget_hold(node, document);
        }
    }

    fn forget_hold(&mut self, node: &Node, document: &DocumentName) {
        if let Some(held) = self.holds.get_mut(node) {
            held.remove(document);
            if held.is_empty() {
                self.holds.remove(node);
            }
        }
    }

    fn load(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        (node, hold): (&Node, u64),
        notices: &mut Notices,
    ) -> Reply {
        let session = match self.enter(now_us, document, claim) {
            Ok(session) => session,
            Err(reply) => return reply,
        };
        // Somebody has it under its new claim.
        session.moving = None;
        // One that comes late is of a hold that is over.
        let held = session.holders.entry(node.clone()).or_insert(hold);
        *held = hold.max(*held);
        session.tell_others(node, notices, |hold| Notice::Joined {
            hold,
            document: document.clone(),
            node: node.clone(),
        });
        let loaded = Loaded { nodes: session.others(node), ..session.load() };
        if let Some(end) = session.over_at.take() {
            self.left.remove(&(end, document.clone()));
        }
        self.holds.entry(node.clone()).or_default().insert(document.clone());
        if !self.nodes.contains_key(node) {
            self.strangers.entry(node.clone()).or_insert(now_us + self.bounds.keep_us);
        }
        Reply::Loaded(loaded)
    }

    fn append(
        &mut self,
        now_us: u64,
        (document, claim, node): (&DocumentName, Claim, &Node),
        known: Head,
        kept: Kept,
        notices: &mut Notices,
    ) -> Reply {
        let (bounds, is_full) = (self.bounds, self.is_full());
        let session = match self.sessions.get_mut(document) {
            Some(session) if session.claim > claim => return session.fenced(now_us),
            Some(session) if session.claim == claim => session,
            _ => return Reply::Diverged,
        };
        if !session.holders.contains_key(node) || !session.knows(known) {
            return Reply::Diverged;
        }
        if let Some((prev, head)) = session.find(known, kept.nonce) {
            return Reply::Appended { prev, head };
        }
        if is_full || session.bytes() + kept.size() > bounds.document_bytes {
            return Reply::Full;
        }
        let size = kept.size();
        let updates = Arc::clone(&kept.updates);
        let (prev, head) = session.push(kept);
        session.tell_others(node, notices, |_| Notice::Appended {
            document: document.clone(),
            claim,
            prev,
            head,
            updates: Arc::clone(&updates),
        });
        self.bytes += size;
        Reply::Appended { prev, head }
    }

    fn rebase(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        heads: (Head, Head),
        by: (&Arc<[u8]>, &Batch),
    ) -> Reply {
        let Some(session) = self.sessions.get_mut(document) else { return Reply::Done };
        if session.claim > claim {
            return session.fenced(now_us);
        }
        if session.claim < claim {
            return Reply::Done;
        }
        let before = session.bytes();
        let reply = session.rebase(heads, by, self.bounds.document_bytes);
        self.bytes = self.bytes - before + session.bytes();
        reply
    }

    fn say(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        (node, hold): (&Node, u64),
        message: &Arc<[u8]>,
        notices: &mut Notices,
    ) -> Reply {
        let Some(session) = self.sessions.get(document) else { return Reply::Done };
        if session.claim > claim {
            return session.fenced(now_us);
        }
        if session.claim == claim && session.holders.get(node) == Some(&hold) {
            session.tell_others(node, notices, |hold| Notice::Said {
                hold,
                document: document.clone(),
                claim,
                from: node.clone(),
                message: Arc::clone(message),
            });
        }
        Reply::Done
    }

    fn close(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        (node, hold): (&Node, u64),
        notices: &mut Notices,
    ) {
        let Some(session) = self.sessions.get(document) else { return };
        // Whatever the claim is by now: a node numbers its holds, and closes none that it took later.
        if session.holders.get(node).is_some_and(|held| *held <= hold) {
            self.leave(now_us, document, node, notices);
        }
    }

    /// `node` holds it no more, by its own wish or because it died.
    fn leave(&mut self, now_us: u64, document: &DocumentName, node: &Node, notices: &mut Notices) {
        self.forget_hold(node, document);
        let Some(session) = self.sessions.get_mut(document) else { return };
        session.holders.remove(node);
        session.tell_others(node, notices, |hold| Notice::Left {
            hold,
            document: document.clone(),
            node: node.clone(),
        });
        if session.holders.is_empty() {
            let end = now_us + self.bounds.keep_us;
            session.over_at = Some(end);
            self.left.insert((end, document.clone()));
        }
    }

    fn heads(&self, node: &Node, documents: &[(DocumentName, Claim, u64)], notices: &mut Notices) -> Reply {
        let standing = |(document, claim, hold): &(DocumentName, Claim, u64)| {
            let session = self.sessions.get(document)?;
            if session.claim != *claim || session.holders.get(node) != Some(hold) {
                return None;
            }
            session.tell_others(node, notices, |hold| Notice::Joined {
                hold,
                document: document.clone(),
                node: node.clone(),
            });
            Some(Standing { head: session.head(), nodes: session.others(node) })
        };
        Reply::Heads(documents.iter().map(standing).collect())
    }

    fn beat(
        &mut self,
        now_us: u64,
        (node, lease_us): (&Node, u64),
        with_holds: bool,
        notices: &mut Notices,
    ) -> Reply {
        let before = self.nodes.insert(node.clone(), now_us + lease_us);
        self.strangers.remove(node);
        let is_forgotten = before.is_none_or(|until| until <= now_us);
        self.sweep_dead(now_us, notices);
        self.sweep_over(now_us);
        let living = self.nodes.iter().filter(|(_, until)| **until > now_us);
        let held = self.holds.get(node).filter(|_| with_holds).into_iter().flatten().cloned().collect();
        Reply::Nodes { nodes: living.map(|(node, _)| node.clone()).collect(), is_forgotten, held }
    }

    /// Documents of nodes that died are left, a bounded number of them; a node that holds nothing any more is forgotten.
    fn sweep_dead(&mut self, now_us: u64, notices: &mut Notices) {
        let dead_of = |nodes: &BTreeMap<Node, u64>| {
            let dead = nodes.iter().filter(|(_, until)| **until <= now_us);
            let mut dead: Vec<(u64, Node)> = dead.map(|(node, until)| (*until, node.clone())).collect();
            dead.sort_unstable();
            dead
        };
        let dead = [dead_of(&self.nodes), dead_of(&self.strangers)].concat();
        let mut room = SWEEP_MAX;
        for (_, node) in dead {
            let held = self.holds.get(&node);
            let some: Vec<_> = held.into_iter().flatten().take(room).cloned().collect();
            room -= some.len();
            for document in &some {
                self.leave(now_us, document, &node, notices);
            }
            if !self.holds.contains_key(&node) {
                self.nodes.remove(&node);
                self.strangers.remove(&node);
            }
        }
    }

    fn sweep_over(&mut self, now_us: u64) {
        let over: Vec<_> =
            self.left.iter().take_while(|(end, _)| *end <= now_us).take(SWEEP_MAX).cloned().collect();
        for (_, document) in over {
            self.remove(&document);
        }
    }
}
