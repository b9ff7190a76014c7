//! Messages on a link and their bytes. Integers are `varUint`, texts `varString`, as documents have them too.
//!
//! | kind | message | sent by |
//! | --- | --- | --- |
//! | 1 | ping: a stamp of eight bytes | both |
//! | 2 | pong: the stamp | both |
//! | 3 | leaving: 1 when its node takes no more sessions, 0 when it does again | owner |
//! | 16 | join: session, flags (1 read-only, 2 y-websocket, 4 with a subject), tenant, app, license region, document, claim (epoch and nonce, eight bytes each), four limits, the subject | home |
//! | 17 | frame: session, the frame without its key | home |
//! | 18 | access: session, flags | home |
//! | 19 | credit: session | home |
//! | 20 | leave: session | home |
//! | 32 | joined: session, flags | owner |
//! | 33 | refused: session, close code, reason | owner |
//! | 34 | taken: session, frames, bytes | owner |
//! | 35 | deliver: flags (1 wants credit), number of sessions and each, number of frames and each with its length | owner |
//! | 36 | close: session, close code, reason | owner |
//!
//! 48 to 63 are of documents that move to another region (`moving`). A kind that is not known cuts the link: which kinds there are
//! follows from the version that the ends agreed on. Version 1 knows no subjects, up to version 2 nobody is told who
//! stopped for a document to be handed over, and up to version 3 nobody that the owner leaves, or that a document is to be given back.

use crate::LinkError;
use crate::moving::{self, Moving};
use pinwire_protocol::close::{Close, CloseCode, MAX_REASON};
use pinwire_protocol::document::Malformed;
use pinwire_protocol::document::varint::{Reader, write_var_string, write_var_uint};
use pinwire_shard::{Access, AppLimits, Body, Pinned};
use std::sync::Arc;

/// Bytes of a tenant's, an app's, a license region's or a document's name.
const NAME_MAX: usize = 1024;
/// The first version in which an owner tells that its node leaves.
pub const LEAVING_SINCE: u8 = 4;
/// Bytes of a subject at most: those of a whole token.
pub(crate) const SUBJECT_MAX: usize = 8 << 10;
/// Frames from this size on are shared between the sockets that get them.
const SHARED_MIN: usize = 16 << 10;

const READ_ONLY: u64 = 1;
const Y_WEBSOCKET: u64 = 2;
const WITH_SUBJECT: u64 = 4;
const WANTS_CREDIT: u64 = 1;

/// Something told over a link. Sessions have numbers, which home gives.
#[derive(Clone, Debug)]
pub enum Message {
    /// Answered by [`Self::Pong`].
    Ping(u64),
    /// A ping came back.
    Pong(u64),
    /// The owner takes no more sessions, or does again.
    Leaving(bool),
    /// A session wants to be a member.
    Join(Box<Join>),
    /// It says something: the frame without its key.
    Frame(u32, Box<[u8]>),
    /// A fresh token changed what it may.
    Access(u32, Access),
    /// Its socket took the last delivery.
    Credit(u32),
    /// It ended.
    Leave(u32),
    /// It is a member.
    Joined(u32, Access),
    /// It is none.
    Refused(u32, Close),
    /// So many of its frames, of so many bytes, were handled.
    Taken(u32, u32, u32),
    /// Frames for each of these sessions, in order.
    Deliver {
        /// Who gets them.
        to: Vec<u32>,
        /// Without their keys.
        bodies: Arc<[Body]>,
        /// Whether [`Self::Credit`] is waited for.
        wants_credit: bool,
    },
    /// Its socket must be closed.
    Close(u32, Close),
    /// Of a document that moves to another region.
    Moving(Box<Moving>),
}

/// See [`Message::Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its number from now on.
    pub session: u32,
    /// Whose document.
    pub tenant: Box<str>,
    /// Of which app.
    pub app: Box<str>,
    /// The app's license region.
    pub license: Box<str>,
    /// Its name.
    pub document: Box<str>,
    /// Under which claim the region has it, as home knows.
    pub claim: Pinned,
    /// What the token allows the app.
    pub limits: AppLimits,
    /// The token's `sub`, if it has one that the other end is told.
    pub subject: Option<Box<str>>,
    /// How.
    pub access: Access,
    /// It speaks y-websocket.
    pub is_ywebsocket: bool,
}

/// Appends a message.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Ping(stamp) => with_stamp(out, 1, *stamp),
        Message::Pong(stamp) => with_stamp(out, 2, *stamp),
        Message::Leaving(leaves) => out.extend_from_slice(&[3, u8::from(*leaves)]),
        Message::Join(join) => encode_join(join, out),
        Message::Frame(session, frame) => {
            head(out, 17, *session);
            out.extend_from_slice(frame);
        }
        Message::Access(session, access) => {
            head(out, 18, *session);
            write_var_uint(out, flags(*access, false));
        }
        Message::Credit(session) => head(out, 19, *session),
        Message::Leave(session) => head(out, 20, *session),
        Message::Joined(session, access) => {
            head(out, 32, *session);
            write_var_uint(out, flags(*access, false));
        }
        Message::Refused(session, close) => with_close(out, 33, *session, close),
        Message::Taken(session, frames, bytes) => {
            head(out, 34, *session);
            write_var_uint(out, (*frames).into());
            write_var_uint(out, (*bytes).into());
        }
        Message::Deliver { to, bodies, wants_credit } => encode_delivery(to, bodies, *wants_credit, out),
        Message::Close(session, close) => with_close(out, 36, *session, close),
        Message::Moving(moving) => moving::encode(moving, out),
    }
}

fn head(out: &mut Vec<u8>, kind: u8, session: u32) {
    out.push(kind);
    write_var_uint(out, session.into());
}

fn with_stamp(out: &mut Vec<u8>, kind: u8, stamp: u64) {
    out.push(kind);
    out.extend_from_slice(&stamp.to_be_bytes());
}

fn with_close(out: &mut Vec<u8>, kind: u8, session: u32, close: &Close) {
    head(out, kind, session);
    write_var_uint(out, close.code.code().into());
    write_var_string(out, close.reason());
}

fn flags(access: Access, is_ywebsocket: bool) -> u64 {
    let read_only = if access == Access::ReadOnly { READ_ONLY } else { 0 };
    read_only | if is_ywebsocket { Y_WEBSOCKET } else { 0 }
}

fn encode_join(join: &Join, out: &mut Vec<u8>) {
    head(out, 16, join.session);
    let with_subject = if join.subject.is_some() { WITH_SUBJECT } else { 0 };
    write_var_uint(out, flags(join.access, join.is_ywebsocket) | with_subject);
    for name in [&join.tenant, &join.app, &join.license, &join.document] {
        write_var_string(out, name);
    }
    out.extend_from_slice(&join.claim.epoch.to_be_bytes());
    out.extend_from_slice(&join.claim.nonce.to_be_bytes());
    let AppLimits { max_connections, max_documents, max_users_per_document, operations_per_minute } =
        join.limits;
    for limit in [max_connections, max_documents, max_users_per_document, operations_per_minute] {
        write_var_uint(out, limit.into());
    }
    if let Some(subject) = &join.subject {
        write_var_string(out, subject);
    }
}

fn encode_delivery(to: &[u32], bodies: &[Body], wants_credit: bool, out: &mut Vec<u8>) {
    out.push(35);
    write_var_uint(out, if wants_credit { WANTS_CREDIT } else { 0 });
    write_var_uint(out, to.len() as u64);
    for session in to {
        write_var_uint(out, (*session).into());
    }
    write_var_uint(out, bodies.len() as u64);
    for Body { head, tail } in bodies {
        let tail = tail.as_deref().unwrap_or_default();
        write_var_uint(out, (head.len() + tail.len()) as u64);
        out.extend_from_slice(head);
        out.extend_from_slice(tail);
    }
}

/// Reads one whole message.
///
/// # Errors
/// It is none: the link is of no more use.
pub fn decode(bytes: &[u8]) -> Result<Message, LinkError> {
    let mut reader = Reader::new(bytes);
    let message = match reader.u8()? {
        1 => Message::Ping(eight(&mut reader)?),
        2 => Message::Pong(eight(&mut reader)?),
        3 => Message::Leaving(leaves(&mut reader)?),
        16 => Message::Join(Box::new(decode_join(&mut reader)?)),
        17 => {
            let session = number(&mut reader)?;
            return Ok(Message::Frame(session, reader.rest().into()));
        }
        18 => Message::Access(number(&mut reader)?, access(&mut reader)?),
        19 => Message::Credit(number(&mut reader)?),
        20 => Message::Leave(number(&mut reader)?),
        32 => Message::Joined(number(&mut reader)?, access(&mut reader)?),
        33 => Message::Refused(number(&mut reader)?, close(&mut reader)?),
        34 => Message::Taken(number(&mut reader)?, number(&mut reader)?, number(&mut reader)?),
        35 => decode_delivery(&mut reader)?,
        36 => Message::Close(number(&mut reader)?, close(&mut reader)?),
        kind => {
            let moving = moving::decode(kind, &mut reader).ok_or(LinkError::Kind(kind))??;
            return Ok(Message::Moving(Box::new(moving)));
        }
    };
    reader.finish()?;
    Ok(message)
}

pub(crate) fn number(reader: &mut Reader<'_>) -> Result<u32, LinkError> {
    u32::try_from(reader.var_uint()?).map_err(|_| LinkError::Malformed(Malformed::Integer))
}

pub(crate) fn eight(reader: &mut Reader<'_>) -> Result<u64, LinkError> {
    let bytes = reader.bytes(8)?.try_into().map_err(|_| Malformed::Truncated)?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn name(reader: &mut Reader<'_>) -> Result<Box<str>, LinkError> {
    text(reader, NAME_MAX, "a name")
}

fn text(reader: &mut Reader<'_>, max: usize, what: &'static str) -> Result<Box<str>, LinkError> {
    let text = reader.var_string()?;
    if text.len() > max { Err(LinkError::TooMuch(what)) } else { Ok(text.into()) }
}

fn leaves(reader: &mut Reader<'_>) -> Result<bool, LinkError> {
    match reader.u8()? {
        leaves @ 0..=1 => Ok(leaves == 1),
        _ => Err(LinkError::Malformed(Malformed::Integer)),
    }
}

fn access(reader: &mut Reader<'_>) -> Result<Access, LinkError> {
    read_flags(reader, READ_ONLY).map(access_of)
}

fn access_of(flags: u64) -> Access {
    if flags & READ_ONLY == 0 { Access::ReadWrite } else { Access::ReadOnly }
}

/// A flag that is not known may mean anything.
fn read_flags(reader: &mut Reader<'_>, known: u64) -> Result<u64, LinkError> {
    let flags = reader.var_uint()?;
    if flags & !known == 0 { Ok(flags) } else { Err(LinkError::Malformed(Malformed::Integer)) }
}

fn close(reader: &mut Reader<'_>) -> Result<Close, LinkError> {
    let code = reader.var_uint()?;
    let known = CloseCode::ALL.iter().find(|known| u64::from(known.code()) == code);
    let code = *known.ok_or(LinkError::Malformed(Malformed::Integer))?;
    let reason = reader.var_string()?;
    if reason.len() > MAX_REASON {
        Err(LinkError::TooMuch("a reason"))
    } else {
        Ok(Close::with_reason(code, reason))
    }
}

fn decode_join(reader: &mut Reader<'_>) -> Result<Join, LinkError> {
    let session = number(reader)?;
    let flags = read_flags(reader, READ_ONLY | Y_WEBSOCKET | WITH_SUBJECT)?;
    Ok(Join {
        session,
        tenant: name(reader)?,
        app: name(reader)?,
        license: name(reader)?,
        document: name(reader)?,
        claim: Pinned { epoch: eight(reader)?, nonce: eight(reader)? },
        limits: AppLimits {
            max_connections: number(reader)?,
            max_documents: number(reader)?,
            max_users_per_document: number(reader)?,
            operations_per_minute: number(reader)?,
        },
        subject: match flags & WITH_SUBJECT {
            0 => None,
            _ => Some(text(reader, SUBJECT_MAX, "a subject")?),
        },
        access: access_of(flags),
        is_ywebsocket: flags & Y_WEBSOCKET != 0,
    })
}

fn decode_delivery(reader: &mut Reader<'_>) -> Result<Message, LinkError> {
    let wants_credit = read_flags(reader, WANTS_CREDIT)? != 0;
    let count = number(reader)? as usize;
    // Each takes a byte at least, so nothing is made room for that did not come.
    let mut to = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        to.push(number(reader)?);
    }
    let count = number(reader)? as usize;
    let mut bodies = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        bodies.push(body(reader.var_bytes()?));
    }
    Ok(Message::Deliver { to, bodies: bodies.into(), wants_credit })
}

fn body(bytes: &[u8]) -> Body {
    if bytes.len() < SHARED_MIN {
        Body { head: bytes.into(), tail: None }
    } else {
        Body { head: Box::default(), tail: Some(bytes.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accesses() -> impl Strategy<Value = Access> {
        prop_oneof![Just(Access::ReadWrite), Just(Access::ReadOnly)]
    }

    fn closes() -> impl Strategy<Value = Close> {
        (0..CloseCode::ALL.len(), "[a-z :]{0,123}")
            .prop_map(|(code, reason)| Close::with_reason(CloseCode::ALL[code], reason))
    }

    fn joins() -> impl Strategy<Value = Message> {
        let names =
            ("[a-z]{1,9}", "[a-z]{1,9}", "[a-z-]{0,9}", "[a-zA-Z0-9_-]{1,255}", prop::option::of(".{0,40}"));
        (any::<u32>(), names, any::<[u64; 2]>(), any::<[u32; 4]>(), accesses(), any::<bool>()).prop_map(
            |(
                session,
                (tenant, app, license, document, subject),
                [epoch, nonce],
                limits,
                access,
                is_ywebsocket,
            )| {
                let [max_connections, max_documents, max_users_per_document, operations_per_minute] = limits;
                Message::Join(Box::new(Join {
                    session,
                    tenant: tenant.into(),
                    app: app.into(),
                    license: license.into(),
                    document: document.into(),
                    claim: Pinned { epoch, nonce },
                    limits: AppLimits {
                        max_connections,
                        max_documents,
                        max_users_per_document,
                        operations_per_minute,
                    },
                    subject: subject.map(Into::into),
                    access,
                    is_ywebsocket,
                }))
            },
        )
    }

    fn deliveries() -> impl Strategy<Value = Message> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40_000);
        let body = (bytes(), prop::option::of(bytes()))
            .prop_map(|(head, tail)| Body { head: head.into(), tail: tail.map(Into::into) });
        (prop::collection::vec(any::<u32>(), 0..50), prop::collection::vec(body, 0..4), any::<bool>())
            .prop_map(|(to, bodies, wants_credit)| Message::Deliver {
                to,
                bodies: bodies.into(),
                wants_credit,
            })
    }

    fn messages() -> impl Strategy<Value = Message> {
        prop_oneof![
            any::<u64>().prop_map(Message::Ping),
            any::<bool>().prop_map(Message::Leaving),
            any::<u64>().prop_map(Message::Pong),
            joins(),
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(session, frame)| Message::Frame(session, frame.into())),
            (any::<u32>(), accesses()).prop_map(|(session, access)| Message::Access(session, access)),
            any::<u32>().prop_map(Message::Credit),
            any::<u32>().prop_map(Message::Leave),
            (any::<u32>(), accesses()).prop_map(|(session, access)| Message::Joined(session, access)),
            (any::<u32>(), closes()).prop_map(|(session, close)| Message::Refused(session, close)),
            any::<[u32; 3]>().prop_map(|[session, frames, bytes]| Message::Taken(session, frames, bytes)),
            deliveries(),
            (any::<u32>(), closes()).prop_map(|(session, close)| Message::Close(session, close)),
        ]
    }

    fn bytes_of(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes);
        bytes
    }

    /// What a message says, however its frames are cut into shared and own bytes.
    fn told(message: &Message) -> String {
        let Message::Deliver { to, bodies, wants_credit } = message else { return format!("{message:?}") };
        let whole = |body: &Body| [&*body.head, body.tail.as_deref().unwrap_or_default()].concat();
        format!("{to:?} {:?} {wants_credit}", bodies.iter().map(whole).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(message in messages()) {
            let bytes = bytes_of(&message);
            let read = decode(&bytes).expect("written by us");
            prop_assert_eq!(told(&read), told(&message));
            prop_assert_eq!(bytes_of(&read), bytes);
        }

        #[test]
        fn a_message_cut_short_is_refused(message in messages(), cut in any::<prop::sample::Index>()) {
            let bytes = bytes_of(&message);
            let cut = cut.index(bytes.len());
            // A frame is what follows its head, of whatever length.
            let is_frame = matches!(message, Message::Frame(..));
            prop_assert!(is_frame || decode(&bytes[..cut]).is_err());
        }

        #[test]
        fn bytes_behind_a_message_are_refused(message in messages()) {
            let mut bytes = bytes_of(&message);
            bytes.push(0);
            prop_assert_eq!(decode(&bytes).is_ok(), matches!(message, Message::Frame(..)));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read_as_something_that_can_be_written(
            kind in prop_oneof![Just(1u8), 16u8..21, 32u8..37, any::<u8>()],
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [&[kind], &rest[..]].concat();
            if let Ok(message) = decode(&bytes) {
                prop_assert_eq!(told(&decode(&bytes_of(&message)).expect("written by us")), told(&message));
            }
        }
    }

    #[test]
    fn kinds_that_are_kept_for_later_are_not_taken() {
        for kind in [0, 4, 15, 21, 31, 37, 47, 57, 63, 255] {
            assert_eq!(decode(&[kind, 0, 0, 0, 0, 0, 0, 0, 0]).err(), Some(LinkError::Kind(kind)));
        }
    }
}
