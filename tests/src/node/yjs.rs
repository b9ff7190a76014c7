//! Yjs messages built by hand, so that a test knows each of their bytes, and what received ones bring.

use std::collections::BTreeMap;

use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::update::{Bounds, Visitor, scan};
use pinwire_protocol::document::varint::{write_var_string, write_var_uint};
use pinwire_protocol::document::{awareness, hocuspocus as wire, ywebsocket};

/// An update: `client` writes `text` at `clock`, at the start of the text named `t`. Takes one clock a character.
#[must_use]
pub fn edit(client: u64, clock: u32, text: &str) -> Vec<u8> {
    let mut update = vec![1, 1];
    write_var_uint(&mut update, client);
    write_var_uint(&mut update, clock.into());
    // A string, with neither origin, below the root named next.
    update.extend_from_slice(&[4, 1]);
    write_var_string(&mut update, "t");
    write_var_string(&mut update, text);
    update.push(0);
    update
}

/// An update: `client` writes `text` behind what it wrote last, up to `clock`.
#[must_use]
pub fn append(client: u64, clock: u32, text: &str) -> Vec<u8> {
    let Some(last) = clock.checked_sub(1) else { return edit(client, clock, text) };
    let mut update = vec![1, 1];
    write_var_uint(&mut update, client);
    write_var_uint(&mut update, clock.into());
    // A string with an origin to its left.
    update.push(0x84);
    write_var_uint(&mut update, client);
    write_var_uint(&mut update, last.into());
    write_var_string(&mut update, text);
    update.push(0);
    update
}

/// An update that deletes `len` clocks of `client` from `clock` on.
#[must_use]
pub fn deletion(client: u64, clock: u32, len: u32) -> Vec<u8> {
    let mut update = vec![0, 1];
    for number in [client, 1, clock.into(), len.into()] {
        write_var_uint(&mut update, number);
    }
    update
}

/// y-websocket: step 1 of somebody who has nothing.
#[must_use]
pub fn step1() -> Vec<u8> {
    let mut message = Vec::new();
    ywebsocket::append_sync_step1(&mut message, &[0]);
    message
}

/// y-websocket: an update.
#[must_use]
pub fn ywebsocket_update(update: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    ywebsocket::append_update(&mut message, update);
    message
}

/// y-websocket: awareness of one client.
#[must_use]
pub fn announcement(client: u64, clock: u32, json: &str) -> Vec<u8> {
    let entry = awareness::Entry { client, clock, json };
    let mut body = Vec::new();
    awareness::append_body(&mut body, &[entry]);
    let mut message = Vec::new();
    ywebsocket::append_awareness(&mut message, &body);
    message
}

/// The update in a y-websocket message (step 2 or update), or in a Hocuspocus one whatever its key.
#[must_use]
pub fn update_of(message: &[u8]) -> Option<&[u8]> {
    use pinwire_protocol::document::ywebsocket::Message;
    match ywebsocket::decode(message) {
        Ok(Message::SyncStep2 { update } | Message::Update { update }) => return Some(update),
        Ok(_) => return None,
        Err(_) => {}
    }
    match hocuspocus::body(message)?.1 {
        wire::Body::Sync(SyncMessage::Step2 { update } | SyncMessage::Update { update }) => Some(update),
        _ => None,
    }
}

/// Hocuspocus messages.
pub mod hocuspocus {
    use super::{SyncMessage, wire};

    /// Auth with a token.
    #[must_use]
    pub fn auth(key: &str, token: &str) -> Vec<u8> {
        written(|out| wire::append_auth(out, key, token, Some("4.8.0")))
    }

    /// Step 1 of somebody who has nothing.
    #[must_use]
    pub fn step1(key: &str) -> Vec<u8> {
        written(|out| wire::append_sync(out, key, &SyncMessage::Step1 { state_vector: &[0] }))
    }

    /// An update.
    #[must_use]
    pub fn update(key: &str, update: &[u8]) -> Vec<u8> {
        written(|out| wire::append_sync(out, key, &SyncMessage::Update { update }))
    }

    /// Key and body of a received message; none of a ping.
    #[must_use]
    pub fn body(message: &[u8]) -> Option<(&str, wire::Body<'_>)> {
        match wire::decode(message) {
            Ok(wire::Frame::Message { key, body }) => Some((key.raw, body)),
            _ => None,
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }
}

/// What a reader was sent of each writer: the first clock it lacks. Fails on a gap, so order is checked as well.
#[derive(Debug, Default)]
pub struct Covered {
    next: BTreeMap<u64, u32>,
    gap: Option<String>,
}

impl Covered {
    /// Takes an update in.
    ///
    /// # Panics
    /// It is not well-formed, or leaves a gap.
    pub fn add(&mut self, update: &[u8]) {
        scan(update, &Bounds::default(), self).expect("a node sends only well-formed updates");
        if let Some(gap) = &self.gap {
            panic!("{gap}");
        }
    }

    /// The first clock of `client` that is missing.
    #[must_use]
    pub fn next(&self, client: u64) -> u32 {
        self.next.get(&client).copied().unwrap_or(0)
    }
}

impl Visitor for Covered {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        let next = self.next.entry(client).or_default();
        if clock > *next {
            self.gap = Some(format!("client {client}: clock {clock} came before {next}"));
        }
        *next = (*next).max(clock + len);
    }

    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}
