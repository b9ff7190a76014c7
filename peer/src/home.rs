//! The end of a link whose node has the sockets.

use crate::message::{Join, Message, SUBJECT_MAX, encode};
use crate::{Apps, Fragments, LinkError, SESSIONS_MAX};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{Body, Mail, Pinned, RemoteSession, Subject};
use std::sync::Arc;

/// What a session beyond the bound of a link is told to wait, in milliseconds.
const FULL_RETRY_MS: u64 = 5_000;

/// The first version that knows of subjects.
const SUBJECT_SINCE: u8 = 2;

/// Gives sessions of this node's sockets their numbers on one link. Each is a stream of its own.
#[derive(Debug)]
pub struct HomeEnd {
    sessions: HashMap<u32, (u16, RemoteSession), FixedState>,
    numbers: HashMap<RemoteSession, u32, FixedState>,
    last: u32,
    /// What the ends agreed to speak.
    version: u8,
    /// The region of the other end.
    region: Box<str>,
}

impl HomeEnd {
    /// No session yet; `seed` decides hashing, `version` what the other end, a node of `region`, understands.
    #[must_use]
    pub fn new(seed: u64, version: u8, region: &str) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            sessions: HashMap::with_hasher(hasher.clone()),
            numbers: HashMap::with_hasher(hasher),
            last: 0,
            version,
            region: region.into(),
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
            Mail::Join { session, document, app, limits, subject, regions, access, is_ywebsocket, claim } => {
                if regions.is_some_and(|regions| !regions.contains(&self.region)) {
                    let close = Close::new(CloseCode::Forbidden, "region not allowed by the token");
                    return answer(thread, Mail::Refused(session, close));
                }
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
                    subject: self.subject(&subject),
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

    /// What the other end is told of whose token it is.
    fn subject(&self, subject: &Subject) -> Option<Box<str>> {
        if subject.is_empty() || self.version < SUBJECT_SINCE {
            return None;
        }
        let subject = subject.to_string();
        Some(subject[..subject.floor_char_boundary(SUBJECT_MAX)].into())
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
            | Message::Leaving(_)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode;
    use crate::{Assembler, OwnerEnd, VERSION};
    use pinwire_shard::{Access, App, AppLimits, ConnRef};

    struct OneApp(Arc<App>);

    impl Apps for OneApp {
        fn license(&self, _app: &App) -> Arc<str> {
            "here".into()
        }

        fn enter(&self, _tenant: &str, _app: &str, _license: &str) -> Option<Arc<App>> {
            Some(Arc::clone(&self.0))
        }
    }

    fn join(apps: &OneApp, subject: &str, regions: Option<Arc<[Box<str>]>>) -> Mail {
        Mail::Join {
            session: RemoteSession { conn: ConnRef { slot: 1, serial: 1 }, key: 0 },
            document: "doc".into(),
            app: Arc::clone(&apps.0),
            limits: AppLimits::UNLIMITED,
            subject: Subject::from(subject),
            regions,
            access: Access::ReadOnly,
            is_ywebsocket: true,
            claim: None,
        }
    }

    fn one_app() -> OneApp {
        OneApp(Arc::new(App::new("tenant", "app")))
    }

    /// What an owner's thread is told of a session of this subject, on a link of this version.
    fn told(subject: &str, version: u8) -> Subject {
        let apps = one_app();
        let (mut out, mut bytes, mut assembler) = (Fragments::default(), Vec::new(), Assembler::default());
        let join = join(&apps, subject, None);
        HomeEnd::new(1, version, "there").mail(0, join, &apps, &mut out, &mut |_, _| {});
        out.fill(&mut bytes, usize::MAX);
        assembler.feed(&bytes);
        let message = assembler.next_message().expect("within the bounds").expect("whole");
        let mut subjects = Vec::new();
        let mut deliver = |_, mail| match mail {
            Mail::Join { subject, .. } => subjects.push(subject),
            other => panic!("{other:?}"),
        };
        let message = decode(&message).expect("written by us");
        OwnerEnd::new(1).receive(message, &apps, &|_| 0, &mut out, &mut deliver).expect("a join");
        subjects.remove(0)
    }

    #[test]
    fn a_token_that_is_not_for_the_region_of_the_document_is_refused_before_the_link() {
        for (regions, is_taken) in [(vec!["here", "there"], true), (vec!["here"], false), (vec![], false)] {
            let regions = regions.into_iter().map(Box::from).collect();
            let (apps, mut out, mut answers) = (one_app(), Fragments::default(), Vec::new());
            let mut home = HomeEnd::new(1, VERSION, "there");
            home.mail(0, join(&apps, "", Some(regions)), &apps, &mut out, &mut |_, mail| answers.push(mail));
            assert_eq!((home.len(), !out.is_empty()), (usize::from(is_taken), is_taken));
            let is_forbidden =
                |mail: &Mail| matches!(mail, Mail::Refused(_, close) if close.code == CloseCode::Forbidden);
            assert_eq!(answers.iter().filter(|mail| is_forbidden(mail)).count(), usize::from(!is_taken));
        }
    }

    #[test]
    fn an_owner_is_told_whose_session_it_is_unless_it_is_too_old_to_understand() {
        let longest = "\u{df}".repeat(SUBJECT_MAX);
        for subject in ["", "ann", "0192f3a4-5b6c-7d8e-9f00-a1b2c3d4e5f6"] {
            assert_eq!(told(subject, VERSION), Subject::from(subject));
            assert_eq!(told(subject, 1), Subject::default());
        }
        assert_eq!(told(&longest, VERSION).to_string().len(), SUBJECT_MAX, "cut, and the link goes on");
    }
}
