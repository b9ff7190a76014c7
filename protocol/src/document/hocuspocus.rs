//! The Hocuspocus dialect: several documents a socket, each frame `varString key, varUint type, body`.

use super::Malformed;
use super::name::MAX_NAME_BYTES;
use super::sync::SyncMessage;
use super::varint::{Reader, var_bytes_len, write_var_bytes, write_var_string, write_var_uint};

/// Longest session id within a key, in bytes.
pub const MAX_SESSION_BYTES: usize = 64;
/// Longest key: a name, the separating NUL, a session id.
pub const MAX_KEY_BYTES: usize = MAX_NAME_BYTES + 1 + MAX_SESSION_BYTES;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const SYNC_REPLY: u64 = 4;
const STATELESS: u64 = 5;
const BROADCAST_STATELESS: u64 = 6;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const AUTH_TOKEN: u64 = 0;
const AUTH_PERMISSION_DENIED: u64 = 1;
const AUTH_AUTHENTICATED: u64 = 2;

/// The frame that asks a client of version 4 or newer for a [`Frame::Pong`].
pub const PING_FRAME: [u8; 1] = [PING];

/// The first field of a frame: a document's name, and from newer clients a session on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    /// As received; every answer carries it.
    pub raw: &'a str,
    /// Up to the first NUL. Not checked against the rules for names.
    pub name: &'a str,
    /// After the first NUL, if there is one.
    pub session: Option<&'a str>,
}

impl<'a> Key<'a> {
    /// Splits a key. An error where it or its session id is longer than allowed.
    pub fn parse(raw: &'a str) -> Result<Self, Malformed> {
        let (name, session) = match raw.split_once('\0') {
            Some((name, session)) => (name, Some(session)),
            None => (raw, None),
        };
        if raw.len() > MAX_KEY_BYTES || session.is_some_and(|id| id.len() > MAX_SESSION_BYTES) {
            return Err(Malformed::TooLarge);
        }
        Ok(Self { raw, name, session })
    }

    /// Reads a key off the front of a frame.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = reader.var_uint()?;
        if len > MAX_KEY_BYTES as u64 {
            return Err(Malformed::TooLarge);
        }
        let bytes = reader.bytes(len)?;
        Self::parse(simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed::Utf8)?)
    }
}

/// The rights an authenticated session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// May edit.
    ReadWrite,
    /// Edits are dropped.
    ReadOnly,
}

impl Scope {
    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "readonly",
        }
    }
}

/// What a frame says to or about its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A sync message.
    Sync(SyncMessage<'a>),
    /// A sync message that asks for no step 1 in return. Never sent by us.
    SyncReply(SyncMessage<'a>),
    /// An awareness body, see [`awareness`](super::awareness).
    Awareness(&'a [u8]),
    /// A client presents a token.
    Auth {
        /// May be empty.
        token: &'a str,
        /// The provider's version; from 4 on.
        version: Option<&'a str>,
    },
    /// A server asks for a fresh token.
    TokenRequest,
    /// A server refuses.
    PermissionDenied {
        /// For the app to read.
        reason: &'a str,
    },
    /// A server accepts.
    Authenticated {
        /// `read-write` or `readonly`.
        scope: &'a str,
    },
    /// Asks for everyone's awareness.
    QueryAwareness,
    /// An app's own message.
    Stateless(&'a str),
    /// A message between servers; refused from clients.
    BroadcastStateless(&'a str),
    /// The sender is done with the document; servers add a reason.
    Close {
        /// Absent from clients.
        reason: Option<&'a str>,
    },
    /// Whether an update was taken in.
    SyncStatus {
        /// False: it was dropped.
        applied: bool,
    },
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A bare byte `09`, which asks for a pong.
    Ping,
    /// A bare byte `0a`.
    Pong,
    /// Anything about a document.
    Message {
        /// Which document.
        key: Key<'a>,
        /// What about it.
        body: Body<'a>,
    },
}

/// Decodes a frame, of either direction.
pub fn decode(frame: &[u8]) -> Result<Frame<'_>, Malformed> {
    match frame {
        [PING] => return Ok(Frame::Ping),
        [PONG] => return Ok(Frame::Pong),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let key = Key::read(&mut reader)?;
    let body = read_body(&mut reader)?;
    // A later version may append to Auth, as 4 did with its version.
    if !matches!(body, Body::Auth { .. }) {
        reader.finish()?;
    }
    Ok(Frame::Message { key, body })
}

fn read_body<'a>(reader: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    Ok(match reader.var_uint()? {
        SYNC => Body::Sync(SyncMessage::read(reader)?),
        SYNC_REPLY => Body::SyncReply(SyncMessage::read(reader)?),
        AWARENESS => Body::Awareness(reader.var_bytes()?),
        AUTH => read_auth(reader)?,
        QUERY_AWARENESS => Body::QueryAwareness,
        STATELESS => Body::Stateless(reader.var_string()?),
        BROADCAST_STATELESS => Body::BroadcastStateless(reader.var_string()?),
        CLOSE if reader.is_empty() => Body::Close { reason: None },
        CLOSE => Body::Close { reason: Some(reader.var_string()?) },
        SYNC_STATUS => match reader.var_uint()? {
            0 => Body::SyncStatus { applied: false },
            1 => Body::SyncStatus { applied: true },
            _ => return Err(Malformed::UnknownType),
        },
        _ => return Err(Malformed::UnknownType),
    })
}

fn read_auth<'a>(reader: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    Ok(match reader.var_uint()? {
        AUTH_TOKEN if reader.is_empty() => Body::TokenRequest,
        AUTH_TOKEN => {
            let token = reader.var_string()?;
            let version = if reader.is_empty() { None } else { Some(reader.var_string()?) };
            Body::Auth { token, version }
        }
        AUTH_PERMISSION_DENIED => Body::PermissionDenied { reason: reader.var_string()? },
        AUTH_AUTHENTICATED => Body::Authenticated { scope: reader.var_string()? },
        _ => return Err(Malformed::UnknownType),
    })
}

/// Bytes a key takes at the front of a frame.
pub fn key_len(key: &str) -> usize {
    var_bytes_len(key.len())
}

/// Appends a key: the front of a frame whose rest is the same for every receiver.
pub fn append_key(out: &mut Vec<u8>, key: &str) {
    write_var_string(out, key);
}

/// Appends a sync message.
pub fn append_sync(out: &mut Vec<u8>, key: &str, message: &SyncMessage<'_>) {
    append_key(out, key);
    append_sync_body(out, message);
}

/// Appends what follows the key in a sync message.
pub fn append_sync_body(out: &mut Vec<u8>, message: &SyncMessage<'_>) {
    out.push(SYNC as u8);
    message.append(out);
}

/// Length of a sync message, without its key, around `len` bytes of state vector or update.
pub fn sync_body_len(len: usize) -> usize {
    2 + var_bytes_len(len)
}

/// Appends an awareness message.
pub fn append_awareness(out: &mut Vec<u8>, key: &str, body: &[u8]) {
    append_key(out, key);
    append_awareness_body(out, body);
}

/// Appends what follows the key in an awareness message.
pub fn append_awareness_body(out: &mut Vec<u8>, body: &[u8]) {
    out.push(AWARENESS as u8);
    write_var_bytes(out, body);
}

/// Length of an awareness message, without its key, around a body of `len` bytes.
pub fn awareness_body_len(len: usize) -> usize {
    1 + var_bytes_len(len)
}

/// Appends an awareness of nobody, `key 01 01 00`: the data an idle session of an older client needs.
pub fn append_idle_awareness(out: &mut Vec<u8>, key: &str) {
    append_awareness(out, key, &super::awareness::EMPTY);
}

/// Appends a query for everyone's awareness.
pub fn append_query_awareness(out: &mut Vec<u8>, key: &str) {
    append_key(out, key);
    out.push(QUERY_AWARENESS as u8);
}

/// Appends a client's token.
pub fn append_auth(out: &mut Vec<u8>, key: &str, token: &str, version: Option<&str>) {
    append_key(out, key);
    out.extend_from_slice(&[AUTH as u8, AUTH_TOKEN as u8]);
    write_var_string(out, token);
    if let Some(version) = version {
        write_var_string(out, version);
    }
}

/// Appends a request for a fresh token, `key 02 00`; for clients whose Auth carried a version.
pub fn append_token_request(out: &mut Vec<u8>, key: &str) {
    append_key(out, key);
    out.extend_from_slice(&[AUTH as u8, AUTH_TOKEN as u8]);
}

/// Appends a refusal; the socket stays open.
pub fn append_permission_denied(out: &mut Vec<u8>, key: &str, reason: &str) {
    append_key(out, key);
    out.extend_from_slice(&[AUTH as u8, AUTH_PERMISSION_DENIED as u8]);
    write_var_string(out, reason);
}

/// Appends an acceptance.
pub fn append_authenticated(out: &mut Vec<u8>, key: &str, scope: Scope) {
    append_key(out, key);
    out.extend_from_slice(&[AUTH as u8, AUTH_AUTHENTICATED as u8]);
    write_var_string(out, scope.as_str());
}

/// Appends the acknowledgement of one step 2 or update.
pub fn append_sync_status(out: &mut Vec<u8>, key: &str, applied: bool) {
    append_key(out, key);
    out.extend_from_slice(&[SYNC_STATUS as u8, u8::from(applied)]);
}

/// Length of an acknowledgement under a key of `key_bytes` bytes.
pub fn sync_status_len(key_bytes: usize) -> usize {
    var_bytes_len(key_bytes) + 2
}

/// Appends an app's own message.
pub fn append_stateless(out: &mut Vec<u8>, key: &str, payload: &str) {
    append_key(out, key);
    write_var_uint(out, STATELESS);
    write_var_string(out, payload);
}

/// Appends a close of one document, with the reason servers add; for clients whose Auth carried a version.
pub fn append_close(out: &mut Vec<u8>, key: &str, reason: Option<&str>) {
    append_key(out, key);
    out.push(CLOSE as u8);
    if let Some(reason) = reason {
        write_var_string(out, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(frame: &[u8]) -> (Key<'_>, Body<'_>) {
        match decode(frame) {
            Ok(Frame::Message { key, body }) => (key, body),
            other => panic!("not a message: {other:?}"),
        }
    }

    fn encoded(append: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out);
        out
    }

    #[test]
    fn every_message_survives_the_wire() {
        let update = SyncMessage::Update { update: &[1; 130] };
        let cases: Vec<(Vec<u8>, Body<'static>)> = vec![
            (
                encoded(|out| append_sync(out, "d", &SyncMessage::Step1 { state_vector: &[0] })),
                Body::Sync(SyncMessage::Step1 { state_vector: &[0] }),
            ),
            (
                encoded(|out| append_sync(out, "d", &update)),
                Body::Sync(SyncMessage::Update { update: &[1; 130] }),
            ),
            (encoded(|out| append_awareness(out, "d", &[0])), Body::Awareness(&[0])),
            (encoded(|out| append_query_awareness(out, "d")), Body::QueryAwareness),
            (
                encoded(|out| append_auth(out, "d", "jwt", Some("4.8.0"))),
                Body::Auth { token: "jwt", version: Some("4.8.0") },
            ),
            (encoded(|out| append_auth(out, "d", "", None)), Body::Auth { token: "", version: None }),
            (encoded(|out| append_token_request(out, "d")), Body::TokenRequest),
            (
                encoded(|out| append_permission_denied(out, "d", "no")),
                Body::PermissionDenied { reason: "no" },
            ),
            (
                encoded(|out| append_authenticated(out, "d", Scope::ReadOnly)),
                Body::Authenticated { scope: "readonly" },
            ),
            (encoded(|out| append_sync_status(out, "d", true)), Body::SyncStatus { applied: true }),
            (encoded(|out| append_stateless(out, "d", "hi")), Body::Stateless("hi")),
            (encoded(|out| append_close(out, "d", None)), Body::Close { reason: None }),
            (encoded(|out| append_close(out, "d", Some("bye"))), Body::Close { reason: Some("bye") }),
        ];
        for (frame, body) in cases {
            assert_eq!(message(&frame), (Key { raw: "d", name: "d", session: None }, body));
        }
        assert_eq!(encoded(|out| append_sync(out, "d", &update)).len(), key_len("d") + sync_body_len(130));
        assert_eq!(encoded(|out| append_sync_status(out, "d", true)).len(), sync_status_len(1));
        assert_eq!(encoded(|out| append_idle_awareness(out, "d")), [1, b'd', 1, 1, 0]);
        assert_eq!(encoded(|out| append_token_request(out, "d")), [1, b'd', 2, 0]);
    }

    #[test]
    fn a_key_may_name_a_session() {
        let frame = encoded(|out| append_query_awareness(out, "doc\0abc"));
        let (key, _) = message(&frame);
        assert_eq!(key, Key { raw: "doc\0abc", name: "doc", session: Some("abc") });
    }

    #[test]
    fn keys_are_bounded() {
        let longest = format!("{}\0{}", "n".repeat(255), "s".repeat(64));
        assert!(decode(&encoded(|out| append_query_awareness(out, &longest))).is_ok());
        for key in ["n".repeat(321), format!("n\0{}", "s".repeat(65))] {
            let frame = encoded(|out| append_query_awareness(out, &key));
            assert_eq!(decode(&frame), Err(Malformed::TooLarge));
        }
    }

    #[test]
    fn ping_and_pong_are_bare_bytes() {
        assert_eq!(decode(&[10]), Ok(Frame::Pong));
        assert_eq!(decode(&PING_FRAME), Ok(Frame::Ping));
        assert_eq!(decode(&[10, 10]), Err(Malformed::Truncated));
    }

    #[test]
    fn bytes_after_auth_are_left_to_later_versions_and_no_others() {
        let mut frame = encoded(|out| append_auth(out, "d", "jwt", Some("5")));
        frame.push(1);
        assert_eq!(message(&frame).1, Body::Auth { token: "jwt", version: Some("5") });
        let mut frame = encoded(|out| append_stateless(out, "d", "hi"));
        frame.push(1);
        assert_eq!(decode(&frame), Err(Malformed::Trailing));
    }

    #[test]
    fn broken_frames_are_refused() {
        assert_eq!(decode(&[]), Err(Malformed::Truncated));
        assert_eq!(decode(&[1, b'd']), Err(Malformed::Truncated));
        assert_eq!(decode(&[1, 0xff, 0, 0, 0]), Err(Malformed::Utf8));
        assert_eq!(decode(&[1, b'd', 11]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[1, b'd', 8, 2]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[1, b'd', 9]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[1, b'd', 6, 1, b'x']).map(|_| ()), Ok(()));
    }
}
