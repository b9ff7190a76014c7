//! The end of a link whose node has the sockets.

use crate::message::{Join, Message, encode};
use crate::{Apps, Fragments, LinkError, SESSIONS_MAX};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pinwire_protocol::close::Close;
use pinwire_shard::{Body, Mail, Pinned, RemoteSession};
use std::sync::Arc;

/// What a session beyond the bound of a link is told to wait, in milliseconds.
const FULL_RETRY_MS: u64 = 5_000;

/// Gives sessions of this node's sockets their numbers on one link. Each is a stream of its own.
#[derive(Debug)]
pub struct HomeEnd {
    sessions: HashMap<u32, (u16, RemoteSession), FixedState>,
    numbers: HashMap<RemoteSession, u32, FixedState>,
    last: u32,
}

impl HomeEnd {
    /// No session yet; `seed` decides hashing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            sessions: HashMap::with_hasher(hasher.clone()),
            numbers: HashMap::with_hasher(hasher),
            last: 0,
        }
    }

    /// Sessions on the link.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nobody uses the link.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A thread of this node mails its session's owner. What is to be answered at once goes to `answer`.
    pub fn mail(
        &mut self,
        thread: u16,
        mail: Mail,
        apps: &dyn Apps,
        out: &mut Fragments,
        answer: &mut dyn FnMut(u16, Mail),
    ) {
        let (session, message) = match mail {
            Mail::Join { session, document, app, limits, access, is_ywebsocket, claim } => {
                if self.sessions.len() >= SESSIONS_MAX {
                    return answer(thread, Mail::Refused(session, Close::try_again(FULL_RETRY_MS)));
                }
                let join = Join {
                    session: self.enter(thread, session),
                    tenant: app.tenant().into(),
                    app: app.id().into(),
                    license: (&*apps.license(&app)).into(),
                    document,
                    claim: claim.unwrap_or(Pinned { epoch: 0, nonce: 0 }),
                    limits,
                    access,
                    is_ywebsocket,
                };
                (session, Message::Join(Box::new(join)))
            }
            Mail::Frame(session, frame) => (session, Message::Frame(self.number(session), frame)),
            Mail::Access(session, access) => (session, Message::Access(self.number(session), access)),
            Mail::Credit(session) => (session, Message::Credit(self.number(session))),
            Mail::Leave(session) => (session, Message::Leave(self.number(session))),
            // An owner's mail: this node's sessions have no members there.
            Mail::Taken(..)
            | Mail::Joined(..)
            | Mail::Refused(..)
            | Mail::Elsewhere(..)
            | Mail::Deliver { .. }
            | Mail::Close(..) => return,
        };
        let Some(&number) = self.numbers.get(&session) else { return };
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        out.push(number, bytes);
        if matches!(message, Message::Leave(_)) {
            self.forget(number);
        }
    }

    /// 0 if it has none: what is about it is dropped.
    fn number(&self, session: RemoteSession) -> u32 {
        self.numbers.get(&session).copied().unwrap_or_default()
    }

    fn enter(&mut self, thread: u16, session: RemoteSession) -> u32 {
        if let Some(before) = self.numbers.get(&session).copied() {
            self.forget(before);
        }
        // Far more numbers than sessions: one that ended long ago is not mistaken for its successor.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.sessions.contains_key(&self.last) {
                break;
            }
        }
        self.sessions.insert(self.last, (thread, session));
        self.numbers.insert(session, self.last);
        self.last
    }

    fn forget(&mut self, number: u32) -> Option<(u16, RemoteSession)> {
        let (thread, session) = self.sessions.remove(&number)?;
        self.numbers.remove(&session);
        Some((thread, session))
    }

    /// The owner's node says something: mail for threads of this node.
    ///
    /// # Errors
    /// It is not an owner's message.
    pub fn receive(&mut self, message: Message, deliver: &mut dyn FnMut(u16, Mail)) -> Result<(), LinkError> {
        match message {
            Message::Joined(number, access) => {
                if let Some(&(thread, session)) = self.sessions.get(&number) {
                    deliver(thread, Mail::Joined(session, access));
                }
            }
            Message::Taken(number, frames, bytes) => {
                if let Some(&(thread, session)) = self.sessions.get(&number) {
                    deliver(thread, Mail::Taken(session, frames, bytes));
                }
            }
            Message::Refused(number, close) => {
                if let Some((thread, session)) = self.forget(number) {
                    deliver(thread, Mail::Refused(session, close));
                }
            }
            Message::Close(number, close) => {
                if let Some((thread, session)) = self.forget(number) {
                    deliver(thread, Mail::Close(session, close));
                }
            }
            Message::Deliver { to, bodies, wants_credit } => {
                self.deliver(&to, &bodies, wants_credit, deliver);
            }
            Message::Ping(_)
            | Message::Pong(_)
            | Message::Join(_)
            | Message::Frame(..)
            | Message::Access(..)
            | Message::Credit(_)
            | Message::Leave(_)
            | Message::Moving(_) => return Err(LinkError::Role),
        }
        Ok(())
    }

    /// One mail for each thread that has some of the sessions.
    fn deliver(
        &self,
        to: &[u32],
        bodies: &Arc<[Body]>,
        wants_credit: bool,
        deliver: &mut dyn FnMut(u16, Mail),
    ) {
        let mut of_threads: Vec<(u16, Vec<RemoteSession>)> = Vec::new();
        for &(thread, session) in to.iter().filter_map(|number| self.sessions.get(number)) {
            match of_threads.iter_mut().find(|(known, _)| *known == thread) {
                Some((_, sessions)) => sessions.push(session),
                None => of_threads.push((thread, vec![session])),
            }
        }
        for (thread, to) in of_threads {
            deliver(thread, Mail::Deliver { to, bodies: Arc::clone(bodies), wants_credit });
        }
    }
}
