//! What a shard tells about its documents and connections to whoever operates the node. Nothing here changes anything.
//!
//! There may be very many of both, so they are gone through a piece at a time: from an index, so many places further. An
//! index stays what it is as long as its document or connection is there: who goes through all of them sees each that
//! was there the whole time exactly once, whatever comes and goes meanwhile.

use crate::App;
use crate::conn::{Conn, KeyState, NONE, Peer, Phase, RELAYED, SessionDialect};
use crate::document::{Document, Edits, State};
use crate::effect::{ConnRef, DocumentName, Slot};
use crate::mail::{FIRST_LINK, Pinned};
use crate::shard::Shard;
use crate::subject::Subject;
use crate::wheel::Tick;
use pinwire_protocol::document::hocuspocus;
use std::collections::BinaryHeap;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

pub use crate::document::Rates;

/// Names a connection of a node for its whole life, on whichever thread it is: when it was opened, and a number. Written
/// as `13b-2a`, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Ticks since the node's start.
    pub opened: Tick,
    /// Tells it from others of that tick.
    pub serial: u32,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.opened, self.serial)
    }
}

/// Not the id of any connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoConnId;

impl FromStr for ConnId {
    type Err = NoConnId;

    fn from_str(text: &str) -> Result<Self, NoConnId> {
        let (opened, serial) = text.split_once('-').ok_or(NoConnId)?;
        let number = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| NoConnId);
        let id = Self { opened: number(opened)?, serial: number(serial)? };
        // One spelling each: `+1`, `01` and `A` are none.
        if id.to_string() == text { Ok(id) } else { Err(NoConnId) }
    }
}

/// Which documents are meant.
#[derive(Clone, Debug, Default)]
pub struct DocumentFilter {
    /// Of this tenant.
    pub tenant: Option<Box<str>>,
    /// Of apps of this id.
    pub app: Option<Box<str>>,
    /// Whose names begin so.
    pub prefix: Option<Box<str>>,
}

impl DocumentFilter {
    fn takes(&self, name: &DocumentName) -> bool {
        is_wanted(self.tenant.as_deref(), &name.tenant)
            && is_wanted(self.app.as_deref(), &name.app)
            && self.prefix.as_deref().is_none_or(|prefix| name.name.starts_with(prefix))
    }
}

/// Which connections are meant.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// The one of this id.
    pub id: Option<ConnId>,
    /// Of this tenant.
    pub tenant: Option<Box<str>>,
    /// Of apps of this id.
    pub app: Option<Box<str>>,
    /// Of this `sub`.
    pub subject: Option<Box<str>>,
}

fn is_wanted(wanted: Option<&str>, is: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == is)
}

/// Where a document is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentState {
    /// The session store was asked for it.
    Loading,
    /// It has members.
    Live,
    /// The last member left a short while ago.
    Grace,
}

/// What there is to say about a document besides its name.
#[derive(Clone, Copy, Debug)]
pub struct DocumentFacts {
    /// Where it stands on its thread.
    pub index: u32,
    /// Where it is in its life.
    pub state: DocumentState,
    /// Under which claim it is served, once it is open.
    pub claim: Option<Pinned>,
    /// The number of its app's license region.
    pub license: u8,
    /// Sessions on it.
    pub members: usize,
    /// Other nodes that hold it, and sessions there, as they said last.
    pub elsewhere: (usize, u64),
    /// Clients that are present, by awareness.
    pub present: usize,
    /// When it was opened, in ticks since the node's start.
    pub opened: Tick,
    /// What flows in.
    pub rates: Rates,
    /// Bytes of its log: the compacted past, and updates since.
    pub log_bytes: usize,
    /// Of these, those that the session store does not have yet.
    pub unstored_bytes: usize,
    /// The session store is behind: edits are dropped.
    pub is_rejecting: bool,
}

/// Which dialect is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One document, in the path.
    YWebsocket,
    /// Any number of documents.
    Hocuspocus,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not admitted to any document yet.
    Waiting,
    /// It has a document, or had.
    Open,
    /// On its way to another thread.
    Moving,
    /// Refused, or closed by one of both sides.
    Closing,
}

/// A connection.
#[derive(Clone, Copy)]
pub struct ConnectionView<'a> {
    /// Where it stands on its thread, by which it can be closed.
    pub at: ConnRef,
    /// Its name.
    pub id: ConnId,
    /// The app it counts for, once admitted.
    pub app: Option<&'a App>,
    conn: &'a Conn,
    shard: &'a Shard,
}

impl fmt::Debug for ConnectionView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionView").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ConnectionView<'_> {
    /// The token's `sub`, once admitted; also while it is being closed and counts for no app any more.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        Some(self.conn.subject.to_string()).filter(|subject| !subject.is_empty())
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match self.conn.phase {
            Phase::First => ConnectionState::Waiting,
            Phase::Moving => ConnectionState::Moving,
            Phase::Open if self.conn.app == NONE => ConnectionState::Waiting,
            Phase::Open => ConnectionState::Open,
            Phase::Held | Phase::Closing | Phase::Finishing => ConnectionState::Closing,
        }
    }

    /// What it speaks, once it has said something.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        let has_keys = self.conn.cold.as_ref().is_some_and(|cold| cold.hocuspocus.is_some());
        match self.conn.session {
            NONE if has_keys => Some(Dialect::Hocuspocus),
            NONE => None,
            _ => Some(Dialect::YWebsocket),
        }
    }

    /// Names of the documents that it is a member of, at most `limit`, and how many there are.
    #[must_use]
    pub fn documents(&self, limit: usize) -> (Vec<String>, usize) {
        let relayed = self.conn.cold.as_ref().filter(|_| self.conn.session == RELAYED);
        if let Some(name) = relayed.and_then(|cold| cold.document.as_deref()) {
            return ((limit > 0).then(|| name.to_owned()).into_iter().collect(), 1);
        }
        if let Some(document) = self.shard.document_of(self.conn.session) {
            let name = (limit > 0).then(|| document.name.name.to_string());
            return (name.into_iter().collect(), 1);
        }
        let keys = self.conn.cold.as_ref().and_then(|cold| cold.hocuspocus.as_ref());
        let is_in = |state: &KeyState| matches!(state, KeyState::Joined(_) | KeyState::Remote { .. });
        let joined: Vec<&str> = keys.map_or_else(Vec::new, |hocuspocus| {
            hocuspocus.keys.iter().filter(|key| is_in(&key.state)).map(|key| &*key.raw).collect()
        });
        let name = |raw: &&str| hocuspocus::Key::parse(raw).ok().map(|key| key.name.to_owned());
        (joined.iter().take(limit).filter_map(name).collect(), joined.len())
    }

    /// Whether messages are compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.conn.deflate()
    }

    /// When bytes last came, in ticks since the node's start.
    #[must_use]
    pub fn last_received(&self) -> Tick {
        self.conn.last_received
    }

    /// Bytes that waited for its socket when last looked at.
    #[must_use]
    pub fn backlog(&self) -> u32 {
        self.conn.backlog()
    }

    fn is_meant(&self, filter: &ConnectionFilter) -> bool {
        filter.id.is_none_or(|id| id == self.id)
            && is_wanted(filter.tenant.as_deref(), self.app.map_or("", App::tenant))
            && is_wanted(filter.app.as_deref(), self.app.map_or("", App::id))
            && filter.subject.as_deref().is_none_or(|subject| self.subject().as_deref() == Some(subject))
    }
}

/// Where a member's socket is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On this thread.
    Here(ConnectionView<'a>),
    /// On another.
    Elsewhere(u16, ConnRef),
    /// On a node of another region, whose link has this number.
    OverLink(u16),
}

/// A member of a document.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// Its number among the sessions of the thread.
    pub session: u32,
    /// Where its socket is.
    pub place: Place<'a>,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its edits are dropped.
    pub read_only: bool,
    remote: Option<&'a Subject>,
}

impl MemberView<'_> {
    /// The `sub` of its token.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        match (&self.place, self.remote) {
            (Place::Here(view), _) => view.subject(),
            (_, subject) => subject.map(Subject::to_string).filter(|subject| !subject.is_empty()),
        }
    }
}

/// A document that is looked at. What costs more than a look at it is found out when it is asked for.
#[derive(Clone, Copy)]
pub struct DocumentView<'a> {
    index: u32,
    document: &'a Document,
    shard: &'a Shard,
}

impl fmt::Debug for DocumentView<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DocumentView").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<'a> DocumentView<'a> {
    /// Where it stands on its thread.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a DocumentName {
        &self.document.name
    }

    /// Sessions on it.
    #[must_use]
    pub fn members(&self) -> usize {
        self.document.members.len()
    }

    /// What flows in.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.document.activity.rates(self.shard.out.now_ms)
    }

    /// Bytes of its log: the compacted past, and updates since.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.document.log.base_len() + self.document.log.tail_len()
    }

    /// All there is to say.
    #[must_use]
    pub fn facts(&self) -> DocumentFacts {
        let Self { index, document, shard } = *self;
        DocumentFacts {
            index,
            state: match document.state {
                State::Loading => DocumentState::Loading,
                State::Live => DocumentState::Live,
                State::Grace { .. } => DocumentState::Grace,
            },
            claim: shard.claim_at(index),
            license: shard.apps.get(document.app).map_or(0, |app| app.license()),
            members: self.members(),
            elsewhere: document.shared.as_ref().map_or((0, 0), |shared| shared.elsewhere()),
            present: document.awareness.len(),
            opened: document.opened,
            rates: self.rates(),
            log_bytes: self.log_bytes(),
            unstored_bytes: document.unstored() as usize,
            is_rejecting: document.edits != Edits::Taken,
        }
    }
}

impl Shard {
    /// Goes through the documents at `places` indices from `from` on, those that are meant, until `see` has enough; returns
    /// where to go on, if there may be more.
    pub fn inspect_documents<'a>(
        &'a self,
        from: u32,
        places: u32,
        filter: &DocumentFilter,
        mut see: impl FnMut(DocumentView<'a>) -> ControlFlow<()>,
    ) -> Option<u32> {
        let mut next = from.saturating_add(places);
        for (index, document) in self.documents.range(from, places) {
            let view = DocumentView { index, document, shard: self };
            if filter.takes(view.name()) && see(view).is_break() {
                next = index + 1;
                break;
            }
        }
        Some(next).filter(|next| *next < self.documents.end())
    }

    /// The document of this name, if this thread has it.
    #[must_use]
    pub fn inspect_document(&self, name: &DocumentName) -> Option<DocumentFacts> {
        let index = self.index_of(name)?;
        Some(DocumentView { index, document: self.documents.get(index)?, shard: self }.facts())
    }

    pub(crate) fn index_of(&self, name: &DocumentName) -> Option<u32> {
        let is_it = |index: &u32| self.documents.get(*index).is_some_and(|document| document.name == *name);
        self.by_name.find(self.hash(name), is_it).copied()
    }

    /// At most `limit` members of the document at `index`, those with the lowest numbers above `after`, in order; and
    /// whether there are more. A session keeps its number, so nobody who stays is seen twice or missed.
    #[must_use]
    pub fn inspect_members(
        &self,
        index: u32,
        after: Option<u32>,
        limit: usize,
    ) -> (Vec<MemberView<'_>>, bool) {
        let mut lowest = BinaryHeap::new();
        let mut has_more = false;
        let members = self.documents.get(index).map_or(&[][..], |document| &document.members);
        for member in members.iter().filter(|member| after.is_none_or(|after| member.session > after)) {
            lowest.push(member.session);
            if lowest.len() > limit {
                lowest.pop();
                has_more = true;
            }
        }
        let sessions = lowest.into_sorted_vec();
        (sessions.into_iter().filter_map(|session| self.member(session)).collect(), has_more)
    }

    fn member(&self, session: u32) -> Option<MemberView<'_>> {
        let found = self.out.sessions.get(session)?;
        let (place, remote) = match found.peer {
            Peer::Local { slot, .. } => (Place::Here(self.connection(slot)?), None),
            Peer::Remote(remote) => {
                let remote = self.out.remotes.get(remote)?;
                let place = match remote.thread {
                    thread if thread < FIRST_LINK => Place::Elsewhere(thread, remote.session.conn),
                    link => Place::OverLink(link),
                };
                (place, Some(&remote.subject))
            }
        };
        let dialect = match found.dialect {
            SessionDialect::YWebsocket => Dialect::YWebsocket,
            SessionDialect::PlainKey | SessionDialect::PrivateKey => Dialect::Hocuspocus,
        };
        Some(MemberView { session, place, dialect, read_only: found.read_only, remote })
    }

    /// Goes through the connections at `places` slots from `from` on, those that are meant, until `see` has enough; returns
    /// where to go on, if there may be more.
    pub fn inspect_connections<'a>(
        &'a self,
        from: Slot,
        places: u32,
        filter: &ConnectionFilter,
        mut see: impl FnMut(ConnectionView<'a>) -> ControlFlow<()>,
    ) -> Option<Slot> {
        let mut next = from.saturating_add(places);
        for (slot, conn) in self.out.conns.range(from, places) {
            let view = self.connection_view(slot, conn);
            if view.is_meant(filter) && see(view).is_break() {
                next = slot + 1;
                break;
            }
        }
        Some(next).filter(|next| *next < self.out.conns.end())
    }

    /// A connection that is still the one meant.
    #[must_use]
    pub fn inspect_connection(&self, conn: ConnRef) -> Option<ConnectionView<'_>> {
        self.connection(conn.slot).filter(|found| found.at == conn)
    }

    /// The name of the connection that has a slot, for the log.
    #[must_use]
    pub fn id(&self, slot: Slot) -> Option<ConnId> {
        self.out.conns.get(slot).map(Conn::id)
    }

    fn connection(&self, slot: Slot) -> Option<ConnectionView<'_>> {
        self.out.conns.get(slot).map(|conn| self.connection_view(slot, conn))
    }

    fn connection_view<'a>(&'a self, slot: Slot, conn: &'a Conn) -> ConnectionView<'a> {
        ConnectionView {
            at: ConnRef { slot, serial: conn.serial },
            id: conn.id(),
            app: self.apps.get(conn.app).map(|app| &**app),
            conn,
            shard: self,
        }
    }

    fn document_of(&self, session: u32) -> Option<&Document> {
        self.documents.get(self.out.sessions.get(session)?.document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = ConnId { opened: 0x13b, serial: 42 };
        assert_eq!(id.to_string(), "13b-2a");
        assert_eq!("13b-2a".parse(), Ok(id));
        for none in ["", "-", "13b", "13b-", "13B-2a", "013b-2a", "13b-2a-1", "+13b-2a", "13b-100000000"] {
            assert_eq!(none.parse::<ConnId>(), Err(NoConnId), "{none}");
        }
    }
}
