//! The y-websocket dialect: binary frames, one message each, the document in the path.

use super::Malformed;
use super::sync::SyncMessage;
use super::varint::{Reader, var_bytes_len, write_var_bytes, write_var_string};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const PERMISSION_DENIED: u64 = 0;

/// An awareness of nobody: raises no event in a client, and counts as the data an idle connection needs.
pub const EMPTY_AWARENESS: [u8; 3] = [AWARENESS as u8, 1, 0];

/// The frame that asks for everyone's awareness.
pub const QUERY_AWARENESS_FRAME: [u8; 1] = [QUERY_AWARENESS as u8];

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// "This is what I have."
    SyncStep1 {
        /// An encoded state vector.
        state_vector: &'a [u8],
    },
    /// "This is what you lack."
    SyncStep2 {
        /// An update.
        update: &'a [u8],
    },
    /// An edit as it happens.
    Update {
        /// An update.
        update: &'a [u8],
    },
    /// An awareness body, see [`awareness`](super::awareness).
    Awareness(&'a [u8]),
    /// "Permission denied"; sent by servers, and only logged by clients.
    PermissionDenied {
        /// What the client logs.
        reason: &'a str,
    },
    /// Asks for everyone's awareness.
    QueryAwareness,
}

/// Decodes a frame, which holds exactly one message.
pub fn decode(frame: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader::new(frame);
    let message = match reader.var_uint()? {
        SYNC => match SyncMessage::read(&mut reader)? {
            SyncMessage::Step1 { state_vector } => Message::SyncStep1 { state_vector },
            SyncMessage::Step2 { update } => Message::SyncStep2 { update },
            SyncMessage::Update { update } => Message::Update { update },
        },
        AWARENESS => Message::Awareness(reader.var_bytes()?),
        AUTH => match reader.var_uint()? {
            PERMISSION_DENIED => Message::PermissionDenied { reason: reader.var_string()? },
            _ => return Err(Malformed::UnknownType),
        },
        QUERY_AWARENESS => Message::QueryAwareness,
        _ => return Err(Malformed::UnknownType),
    };
    reader.finish()?;
    Ok(message)
}

/// Appends step 1: `00 00 varBytes(state_vector)`.
pub fn append_sync_step1(out: &mut Vec<u8>, state_vector: &[u8]) {
    append_sync(out, &SyncMessage::Step1 { state_vector });
}

/// Appends step 2: `00 01 varBytes(update)`.
pub fn append_sync_step2(out: &mut Vec<u8>, update: &[u8]) {
    append_sync(out, &SyncMessage::Step2 { update });
}

/// Appends an update: `00 02 varBytes(update)`.
pub fn append_update(out: &mut Vec<u8>, update: &[u8]) {
    append_sync(out, &SyncMessage::Update { update });
}

fn append_sync(out: &mut Vec<u8>, message: &SyncMessage<'_>) {
    out.push(SYNC as u8);
    message.append(out);
}

/// Appends an awareness message: `01 varBytes(body)`.
pub fn append_awareness(out: &mut Vec<u8>, body: &[u8]) {
    out.push(AWARENESS as u8);
    write_var_bytes(out, body);
}

/// Appends a permission-denied message: `02 00 varString(reason)`.
pub fn append_permission_denied(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(&[AUTH as u8, PERMISSION_DENIED as u8]);
    write_var_string(out, reason);
}

/// Appends a query for everyone's awareness: `03`.
pub fn append_query_awareness(out: &mut Vec<u8>) {
    out.extend_from_slice(&QUERY_AWARENESS_FRAME);
}

/// Length of any of the three sync messages around `len` bytes of state vector or update.
pub fn sync_len(len: usize) -> usize {
    2 + var_bytes_len(len)
}

/// Length of an awareness message around a body of `len` bytes.
pub fn awareness_len(len: usize) -> usize {
    1 + var_bytes_len(len)
}

/// Length of a permission-denied message around a reason of `len` bytes.
pub fn permission_denied_len(len: usize) -> usize {
    2 + var_bytes_len(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire() {
        let mut out = Vec::new();
        append_sync_step1(&mut out, b"sv");
        assert_eq!(out.len(), sync_len(2));
        assert_eq!(decode(&out), Ok(Message::SyncStep1 { state_vector: b"sv" }));
        out.clear();
        append_sync_step2(&mut out, &[7; 200]);
        assert_eq!(out.len(), sync_len(200));
        assert_eq!(decode(&out), Ok(Message::SyncStep2 { update: &[7; 200] }));
        out.clear();
        append_update(&mut out, &[]);
        assert_eq!(decode(&out), Ok(Message::Update { update: &[] }));
        out.clear();
        append_awareness(&mut out, &[0]);
        assert_eq!(out, EMPTY_AWARENESS);
        assert_eq!(out.len(), awareness_len(1));
        assert_eq!(decode(&out), Ok(Message::Awareness(&[0])));
        out.clear();
        append_permission_denied(&mut out, "no");
        assert_eq!(out.len(), permission_denied_len(2));
        assert_eq!(decode(&out), Ok(Message::PermissionDenied { reason: "no" }));
        out.clear();
        append_query_awareness(&mut out);
        assert_eq!(decode(&out), Ok(Message::QueryAwareness));
    }

    #[test]
    fn a_second_message_in_a_frame_is_refused() {
        assert_eq!(decode(&[1, 1, 0, 3]), Err(Malformed::Trailing));
        assert_eq!(decode(&[3, 3]), Err(Malformed::Trailing));
    }

    #[test]
    fn unknown_types_and_cut_frames_are_refused() {
        assert_eq!(decode(&[]), Err(Malformed::Truncated));
        assert_eq!(decode(&[4]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[0, 3, 0]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[2, 1, 0]), Err(Malformed::UnknownType));
        assert_eq!(decode(&[0, 2, 5, 1]), Err(Malformed::Truncated));
    }
}
