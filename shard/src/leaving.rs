//! A node that leaves: whom its shards close one by one, and whom they take no more.

use crate::effect::Slot;
use crate::mail::{FIRST_LINK, Mail, RemoteSession};
use crate::shard::Shard;
use pinwire_protocol::close::{Close, CloseCode};

/// See [`Shard::keep_documents`] and [`Shard::refuse_carried`].
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) keeps_documents: bool,
    pub(crate) refuses_carried: bool,
    /// Sessions that other nodes carry here.
    pub(crate) carried: u32,
}

/// What a session is told that another node would carry here.
fn stops() -> Close {
    Close::new(CloseCode::ServiceRestart, "the node stops")
}

impl Shard {
    /// Every open connection.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.out.conns.iter().map(|(slot, _)| slot)
    }

    /// Whether documents of this node alone stay although all of their members have left: a node that drains sends these away
    /// itself, and they come back to what was there, here or after a restart.
    pub fn keep_documents(&mut self, keeps: bool) {
        if std::mem::replace(&mut self.leaving.keeps_documents, keeps) && !keeps {
            let all: Vec<u32> = self.documents.iter().map(|(index, _)| index).collect();
            all.into_iter().for_each(|index| self.schedule_document(index));
        }
    }

    /// How many sessions other nodes carry here.
    #[must_use]
    pub fn carried(&self) -> u32 {
        self.leaving.carried
    }

    /// Each of them: over which link, and its name there.
    pub fn carried_sessions(&self) -> impl Iterator<Item = (u16, RemoteSession)> + '_ {
        let remotes = self.out.remotes.iter().map(|(_, remote)| (remote.thread, remote.session));
        remotes.filter(|(link, _)| *link >= FIRST_LINK)
    }

    /// Whether whoever another node would carry here is sent elsewhere; those who are here stay.
    pub fn refuse_carried(&mut self, refuses: bool) {
        self.leaving.refuses_carried = refuses;
    }

    /// Ends a session that another node carries here, if it is still there: its socket is closed.
    pub fn end_carried(&mut self, link: u16, session: RemoteSession, close: &Close) {
        if let Some(&found) = self.remote_sessions.get(&(link, session)) {
            self.leave(found);
            self.out.mail(link, Mail::Close(session, close.clone()));
        }
    }

    /// True if a join is answered by that: it came over a link, and the node leaves.
    pub(crate) fn is_sent_elsewhere(&mut self, thread: u16, session: RemoteSession) -> bool {
        let is_refused = thread >= FIRST_LINK && self.leaving.refuses_carried;
        if is_refused {
            self.out.mail(thread, Mail::Refused(session, stops()));
        }
        is_refused
    }

    /// One more session of another thread, or of another node.
    pub(crate) fn count_joined(&mut self, thread: u16) {
        self.leaving.carried += u32::from(thread >= FIRST_LINK);
    }

    /// One less.
    pub(crate) fn count_left(&mut self, thread: u16) {
        self.leaving.carried -= u32::from(thread >= FIRST_LINK);
    }
}
