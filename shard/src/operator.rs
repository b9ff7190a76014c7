//! What whoever operates the node has done to documents and connections: inputs like any other.

use crate::conn::SessionDialect;
use crate::document::State;
use crate::effect::{ConnRef, DocumentName};
use crate::hocuspocus::write_stateless;
use crate::shard::Shard;
use pinwire_protocol::close::Close;

/// What [`Shard::end_document`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is gone; it had so many members.
    Gone(usize),
    /// It is just being loaded: to be tried again.
    Loading,
}

/// Whom [`Shard::tell_members`] told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Members who were sent the message.
    pub members: usize,
    /// Members whose dialect has no such message.
    pub unable: usize,
}

impl Shard {
    /// Closes a connection; false if it is not there any more.
    pub fn close_connection(&mut self, conn: ConnRef, close: &Close) -> bool {
        let is_there = self.is_present(conn);
        if is_there {
            self.close(conn.slot, close);
        }
        is_there
    }

    /// Closes the connections of a document's members, whole sockets as always when a session ends that ran, and drops the
    /// document and its session in the store. None if this thread does not have it.
    pub fn end_document(&mut self, name: &DocumentName, close: &Close) -> Option<Ended> {
        let index = self.index_of(name)?;
        let document = self.documents.get(index)?;
        if document.state == State::Loading {
            return Some(Ended::Loading);
        }
        let members = self.dismiss(index, close);
        self.remove_document(index);
        Some(Ended::Gone(members))
    }

    /// Sends a stateless message to the members of a document whose dialect has such. None if this thread does not have it.
    pub fn tell_members(&mut self, name: &DocumentName, payload: &str) -> Option<Told> {
        let document = self.documents.get(self.index_of(name)?)?;
        let sessions: Vec<u32> = document.members.iter().map(|member| member.session).collect();
        let mut told = Told { members: 0, unable: 0 };
        for session in sessions {
            match self.out.sessions.get(session).map(|found| found.dialect) {
                Some(SessionDialect::PlainKey | SessionDialect::PrivateKey) => {
                    self.out.send_session(session, |out| write_stateless(out, payload));
                    told.members += 1;
                }
                Some(SessionDialect::YWebsocket) => told.unable += 1,
                None => {}
            }
        }
        Some(told)
    }
}
