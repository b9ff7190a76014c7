//! The end of a link whose node has the documents.

use crate::message::{Join, Message, encode};
use crate::{Apps, Fragments, LinkError, MESSAGE_MAX, SESSIONS_MAX};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{Body, ConnRef, DocumentName, Mail, RemoteSession, Subject};

/// Room for what a message has besides its frames.
const AROUND: usize = 1 << 20;

/// Knows which thread has the document of each session of one link. The sessions of a document share a stream, so that what is
/// for many of them crosses the link once.
#[derive(Debug)]
pub struct OwnerEnd {
    sessions: HashMap<u32, Member, FixedState>,
    streams: HashMap<DocumentName, Stream, FixedState>,
    last_stream: u32,
}

#[derive(Debug)]
struct Member {
    thread: u16,
    stream: u32,
    document: DocumentName,
}

#[derive(Debug)]
struct Stream {
    number: u32,
    sessions: usize,
}

/// How a session of a link is called on this node: a link's number tells it from those of others.
fn name(number: u32) -> RemoteSession {
    RemoteSession { conn: ConnRef { slot: number, serial: 0 }, key: 0 }
}

impl OwnerEnd {
    /// No session yet; `seed` decides hashing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            sessions: HashMap::with_hasher(hasher.clone()),
            streams: HashMap::with_hasher(hasher),
            last_stream: 0,
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

    /// The home node says something: mail for the thread of the document, which `owner` names.
    ///
    /// # Errors
    /// It is not a home's message, or the link has too many sessions.
    pub fn receive(
        &mut self,
        message: Message,
        apps: &dyn Apps,
        owner: &dyn Fn(&DocumentName) -> u16,
        out: &mut Fragments,
        deliver: &mut dyn FnMut(u16, Mail),
    ) -> Result<(), LinkError> {
        let (number, mail) = match message {
            Message::Join(join) => return self.join(*join, apps, owner, out, deliver),
            Message::Frame(number, frame) => (number, Mail::Frame(name(number), frame)),
            Message::Access(number, access) => (number, Mail::Access(name(number), access)),
            Message::Credit(number) => (number, Mail::Credit(name(number))),
            Message::Leave(number) => {
                if let Some(member) = self.forget(number) {
                    deliver(member.thread, Mail::Leave(name(number)));
                }
                return Ok(());
            }
            Message::Ping(_)
            | Message::Pong(_)
            | Message::Leaving(_)
            | Message::Joined(..)
            | Message::Refused(..)
            | Message::Taken(..)
            | Message::Deliver { .. }
            | Message::Close(..)
            | Message::Moving(_) => return Err(LinkError::Role),
        };
        if let Some(member) = self.sessions.get(&number) {
            deliver(member.thread, mail);
        }
        Ok(())
    }

    fn join(
        &mut self,
        join: Join,
        apps: &dyn Apps,
        owner: &dyn Fn(&DocumentName) -> u16,
        out: &mut Fragments,
        deliver: &mut dyn FnMut(u16, Mail),
    ) -> Result<(), LinkError> {
        let Join { session, tenant, app, license, document, claim, limits, subject, access, is_ywebsocket } =
            join;
        if session == 0 {
            return Err(LinkError::TooMuch("a session that is called 0"));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(LinkError::TooMuch("sessions"));
        }
        if let Some(before) = self.forget(session) {
            deliver(before.thread, Mail::Leave(name(session)));
        }
        let Some(app) = apps.enter(&tenant, &app, &license) else {
            let close = Close::new(CloseCode::Forbidden, "a license region that is not served here");
            send(out, session, &Message::Refused(session, close));
            return Ok(());
        };
        let of = app.document(&document);
        let thread = owner(&of);
        let stream = self.stream(&of);
        self.sessions.insert(session, Member { thread, stream, document: of });
        let mail = Mail::Join {
            session: name(session),
            document,
            app,
            limits,
            subject: Subject::from(subject.as_deref().unwrap_or_default()),
            // Looked at by home.
            regions: None,
            access,
            is_ywebsocket,
            claim: Some(claim),
        };
        deliver(thread, mail);
        Ok(())
    }

    fn stream(&mut self, document: &DocumentName) -> u32 {
        if let Some(stream) = self.streams.get_mut(document) {
            stream.sessions += 1;
            return stream.number;
        }
        // Far more numbers than documents: one is in use again only when what was under way has long arrived.
        self.last_stream = self.last_stream.wrapping_add(1).max(1);
        self.streams.insert(document.clone(), Stream { number: self.last_stream, sessions: 1 });
        self.last_stream
    }

    fn forget(&mut self, number: u32) -> Option<Member> {
        let member = self.sessions.remove(&number)?;
        if let Some(stream) = self.streams.get_mut(&member.document) {
            stream.sessions -= 1;
            if stream.sessions == 0 {
                self.streams.remove(&member.document);
            }
        }
        Some(member)
    }

    /// A thread of this node mails sessions of the link. What is to be answered at once goes to `answer`.
    pub fn mail(&mut self, mail: Mail, out: &mut Fragments, answer: &mut dyn FnMut(u16, Mail)) {
        let (number, message) = match mail {
            Mail::Joined(session, access) => (session.conn.slot, Message::Joined(session.conn.slot, access)),
            Mail::Taken(session, frames, bytes) => {
                (session.conn.slot, Message::Taken(session.conn.slot, frames, bytes))
            }
            Mail::Refused(session, close) => {
                return self.end(session, &Message::Refused(session.conn.slot, close), out);
            }
            Mail::Close(session, close) => {
                return self.end(session, &Message::Close(session.conn.slot, close), out);
            }
            Mail::Deliver { to, bodies, wants_credit } => {
                let mut numbers: Vec<u32> = to.iter().map(|session| session.conn.slot).collect();
                numbers.retain(|number| self.sessions.contains_key(number));
                if !fits(&bodies) {
                    return self.give_up(&numbers, out, answer);
                }
                let Some(&first) = numbers.first() else { return };
                (first, Message::Deliver { to: numbers, bodies, wants_credit })
            }
            // A home's mail: this node's documents have no sessions there.
            Mail::Join { .. }
            | Mail::Frame(..)
            | Mail::Access(..)
            | Mail::Credit(_)
            | Mail::Leave(_)
            | Mail::Elsewhere(..) => return,
        };
        if let Some(member) = self.sessions.get(&number) {
            send(out, member.stream, &message);
        }
    }

    fn end(&mut self, session: RemoteSession, message: &Message, out: &mut Fragments) {
        if let Some(member) = self.forget(session.conn.slot) {
            send(out, member.stream, message);
        }
    }

    /// What is lacking is longer than any message: these sessions cannot be served over a link.
    fn give_up(&mut self, numbers: &[u32], out: &mut Fragments, answer: &mut dyn FnMut(u16, Mail)) {
        for &number in numbers {
            let Some(member) = self.forget(number) else { continue };
            answer(member.thread, Mail::Leave(name(number)));
            let close = Close::new(CloseCode::InternalError, "the document is too large to be relayed");
            send(out, member.stream, &Message::Close(number, close));
        }
    }
}

fn fits(bodies: &[Body]) -> bool {
    let bytes: usize =
        bodies.iter().map(|body| body.head.len() + body.tail.as_ref().map_or(0, |tail| tail.len())).sum();
    bytes + AROUND <= MESSAGE_MAX
}

fn send(out: &mut Fragments, stream: u32, message: &Message) {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    out.push(stream, bytes);
}
