//! Updates in entries, and what scripts answer and publish.

use super::Parts;
use crate::partition::unspelled;
use crate::{Batch, Head, Loaded, Notice, Reply, Standing};
use pinwire_redis::Value;
use pinwire_registry::{Claim, DocumentName, Node};

/// Bytes in front of an entry's updates: the head's chain and the batch's nonce, 16 hexadecimal digits each.
const ENTRY_HEADER: usize = 32;

pub(super) fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// Each with its length in front, 4 bytes, little endian.
pub(super) fn updates(updates: &[Box<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(updates.iter().map(|update| 4 + update.len()).sum());
    for update in updates {
        put(&mut bytes, update);
    }
    bytes
}

/// The base, then what is left, in the same way.
pub(super) fn base(base: &[u8], left: &[Box<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + base.len());
    put(&mut bytes, base);
    bytes.extend(updates(left));
    bytes
}

fn put(bytes: &mut Vec<u8>, update: &[u8]) {
    // The link bounds what is sent well below 4 GiB.
    bytes.extend((update.len() as u32).to_le_bytes());
    bytes.extend(update);
}

/// The next update of several.
fn take<'bytes>(bytes: &mut &'bytes [u8]) -> Option<&'bytes [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (update, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(update)
}

fn take_all(mut bytes: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut updates = Vec::new();
    while !bytes.is_empty() {
        updates.push(take(&mut bytes)?.into());
    }
    Some(updates)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

fn list(value: Value) -> Option<Parts> {
    match value {
        Value::Array(parts) => Some(parts.into_iter()),
        _ => None,
    }
}

fn claim(text: &str) -> Option<Claim> {
    let (epoch, nonce) = text.split_once('-')?;
    Some(Claim { epoch: u64::from_str_radix(epoch, 16).ok()?, nonce: u64::from_str_radix(nonce, 16).ok()? })
}

/// `{region}/{name}/{life}`.
fn node(text: &str) -> Option<Node> {
    let (rest, life) = text.rsplit_once('/')?;
    let (region, name) = rest.split_once('/')?;
    Some(Node { region: region.into(), name: name.into(), life: u64::from_str_radix(life, 16).ok()? })
}

fn node_of(bytes: &[u8]) -> Option<Node> {
    node(std::str::from_utf8(bytes).ok()?)
}

fn nodes(parts: Parts) -> Option<Vec<Node>> {
    let mut nodes: Vec<Node> = parts.map(|part| node(&text(part)?)).collect::<Option<_>>()?;
    nodes.sort_unstable();
    Some(nodes)
}

fn head(parts: &mut Parts) -> Option<Head> {
    head_of(&text(parts.next()?)?, &text(parts.next()?)?)
}

fn head_of(seq: &str, chain: &str) -> Option<Head> {
    Some(Head { seq: seq.parse().ok()?, chain: u64::from_str_radix(chain, 16).ok()? })
}

/// What stands for an entry whose updates cannot be told apart: no update is empty, so it is found where updates are read.
const UNREADABLE: &[u8] = &[];

fn unreadable() -> Vec<Box<[u8]>> {
    vec![UNREADABLE.into()]
}

/// None: it makes no sense.
pub(super) fn reply(value: Value) -> Option<Reply> {
    let mut parts = list(value)?;
    Some(match text(parts.next()?)?.as_str() {
        "done" => Reply::Done,
        "full" => Reply::Full,
        "diverged" => Reply::Diverged,
        "fenced" => Reply::Fenced(claim(&text(parts.next()?)?)?),
        "moving" => Reply::Moving(claim(&text(parts.next()?)?)?),
        "waiting" => Reply::Waiting,
        "appended" => Reply::Appended { prev: head(&mut parts)?, head: head(&mut parts)? },
        "loaded" => Reply::Loaded(loaded(parts)?),
        "heads" => Reply::Heads(parts.map(standing).collect::<Option<_>>()?),
        _ => return None,
    })
}

fn loaded(mut parts: Parts) -> Option<Loaded> {
    let head = head(&mut parts)?;
    let (mut base, mut tail) = (None, Vec::new());
    match parts.next()? {
        Value::Nil | Value::Boolean(false) => {}
        value => {
            let stored = bytes(value)?;
            let mut rest = &*stored;
            base = Some(take(&mut rest).unwrap_or(UNREADABLE).into());
            tail = take_all(rest).unwrap_or_else(unreadable);
        }
    }
    for entry in list(parts.next()?)? {
        let updates = bytes(entry)?.get(ENTRY_HEADER..).and_then(take_all);
        tail.extend(updates.unwrap_or_else(unreadable));
    }
    Some(Loaded { base, tail, head, nodes: nodes(list(parts.next()?)?)? })
}

/// Empty: there is none.
#[expect(clippy::option_option, reason = "the outer one says whether it makes sense")]
fn standing(value: Value) -> Option<Option<Standing>> {
    let mut parts = list(value)?;
    if parts.len() == 0 {
        return Some(None);
    }
    Some(Some(Standing { head: head(&mut parts)?, nodes: nodes(parts)? }))
}

/// What one partition answers to a beat.
pub(super) struct Beat {
    pub is_forgotten: bool,
    pub bytes: u64,
    pub nodes: Vec<Node>,
    pub held: Vec<DocumentName>,
}

pub(super) fn beat(value: Value) -> Option<Beat> {
    let mut parts = list(value)?;
    parts.next()?;
    let is_forgotten = parts.next()? == Value::Int(1);
    let bytes = text(parts.next()?)?.parse().ok()?;
    let nodes = nodes(list(parts.next()?)?)?;
    let held = list(parts.next()?)?.map(|name| unspelled(&text(name)?)).collect::<Option<_>>()?;
    Some(Beat { is_forgotten, bytes, nodes, held })
}

/// A header of words, a line feed, and what the lengths in it announce. None: it makes no sense.
pub(super) fn notice(payload: &[u8]) -> Option<Notice> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let (header, body) = (std::str::from_utf8(&payload[..end]).ok()?, &payload[end + 1..]);
    let mut words = header.split(' ');
    let kind = words.next()?;
    let (name, body) = body.split_at_checked(words.next()?.parse().ok()?)?;
    let document = unspelled(std::str::from_utf8(name).ok()?)?;
    match kind {
        "J" => Some(Notice::Joined { hold: words.next()?.parse().ok()?, document, node: node_of(body)? }),
        "L" => Some(Notice::Left { hold: words.next()?.parse().ok()?, document, node: node_of(body)? }),
        "M" => {
            let (claim, hold) = (claim(words.next()?)?, words.next()?.parse().ok()?);
            Some(Notice::Moving { hold, document, claim })
        }
        "T" => {
            let (claim, hold) = (claim(words.next()?)?, words.next()?.parse().ok()?);
            Some(Notice::Settled { hold, document, claim })
        }
        "S" => said(document, words, body),
        "A" => appended(document, words, body),
        _ => None,
    }
}

fn said<'word>(
    document: DocumentName,
    mut words: impl Iterator<Item = &'word str>,
    body: &[u8],
) -> Option<Notice> {
    let (from, message) = body.split_at_checked(words.next()?.parse().ok()?)?;
    let (from, claim) = (node_of(from)?, claim(words.next()?)?);
    let hold = words.next()?.parse().ok()?;
    Some(Notice::Said { hold, document, claim, from, message: message.into() })
}

fn appended<'word>(
    document: DocumentName,
    mut words: impl Iterator<Item = &'word str>,
    body: &[u8],
) -> Option<Notice> {
    let claim = claim(words.next()?)?;
    let prev = head_of(words.next()?, words.next()?)?;
    let head = head_of(words.next()?, words.next()?)?;
    let updates: Batch = take_all(body)?.into();
    Some(Notice::Appended { document, claim, prev, head, updates })
}
