//! What nodes that share a document tell each other about who is present, written and read here alone.
//!
//! A byte for the version, a byte of flags, `varUint` number (it rises with the node's clock), `varUint` members of the node, then an awareness body (as between clients and
//! servers) of the users on connections of the node. A node that reads a version it does not know drops the message: users
//! renew themselves, and a newer node goes on understanding older versions.

use super::awareness::{STATE_MAX, Version};
use super::{Document, awareness::IDS_PER_NODE_MAX};
use pinwire_protocol::document::awareness::{Awareness, Bounds};
use pinwire_protocol::document::varint::{Reader, write_var_uint};

const VERSION: u8 = 1;
/// Everyone is in it: who is not is gone.
const ALL: u8 = 1;
/// Whoever hears it is asked to say everything.
const ASKS: u8 = 2;

/// A message of another node.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    pub(crate) number: u64,
    pub(crate) members: u32,
    pub(crate) is_all: bool,
    pub(crate) asks: bool,
    pub(crate) users: Awareness<'a>,
}

impl<'a> Said<'a> {
    /// None: it cannot be read.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        let ([VERSION, flags], rest) = message.split_first_chunk::<2>()? else { return None };
        let mut reader = Reader::new(rest);
        let number = reader.var_uint().ok()?;
        let members = u32::try_from(reader.var_uint().ok()?).ok()?;
        // Its users, and those of others that it answers with.
        let bounds = Bounds { max_entries: 2 * IDS_PER_NODE_MAX, max_json_bytes: STATE_MAX };
        let users = Awareness::parse(reader.rest(), &bounds).ok()?;
        Some(Self { number, members, is_all: flags & ALL != 0, asks: flags & ASKS != 0, users })
    }
}

impl Document {
    /// What other nodes are to be told now, if they hold the document and there is anything.
    pub(crate) fn say(&mut self, now_us: u64) -> Option<Box<[u8]>> {
        let shared = self.shared.as_mut().filter(|shared| shared.has_nodes())?;
        let members = self.members.len() as u32;
        let (is_all, asks) = (shared.says_all, shared.asks);
        let is_news = is_all
            || members != shared.said_members
            || !shared.buried.is_empty()
            || self.awareness.has_own_since(shared.said);
        if !is_news {
            return None;
        }
        let seen: Version = if is_all { 0 } else { shared.said };
        let mut message = vec![VERSION, u8::from(is_all) * ALL + u8::from(asks) * ASKS];
        write_var_uint(&mut message, now_us);
        write_var_uint(&mut message, u64::from(members));
        self.awareness.write_own_since(&mut message, seen, &std::mem::take(&mut shared.buried));
        (shared.says_all, shared.asks) = (false, false);
        shared.said = self.awareness.version();
        shared.said_members = members;
        Some(message.into())
    }
}
