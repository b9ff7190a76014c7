//! What we send, appended to a buffer of the caller's.

use super::Kind;
use super::frame::{HeaderBytes, MAX_CONTROL_PAYLOAD, Opcode};
use super::mask::apply_mask;

/// Everything about a frame except its payload. A client gives each frame a fresh, unpredictable `mask` (RFC
/// 6455 5.3); a server gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is.
    pub opcode: Opcode,
    /// The last frame of its message.
    pub fin: bool,
    /// The first frame of a compressed message.
    pub rsv1: bool,
    /// The masking key, for the client role.
    pub mask: Option<[u8; 4]>,
}

impl Frame {
    /// A whole frame: final, uncompressed, unmasked.
    pub fn new(opcode: Opcode) -> Self {
        Self { opcode, fin: true, rsv1: false, mask: None }
    }

    /// The same frame with this masking key.
    pub fn masked(self, key: [u8; 4]) -> Self {
        Self { mask: Some(key), ..self }
    }

    /// The same frame as the first of a compressed message.
    pub fn compressed(self) -> Self {
        Self { rsv1: true, ..self }
    }

    /// The same frame with more of its message to follow.
    pub fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }
}

/// The header of `frame` for a payload of `payload_len` bytes, which the caller sends after it (masked, if
/// the frame is).
pub fn header(frame: Frame, payload_len: usize) -> HeaderBytes {
    HeaderBytes::new(frame.opcode, frame.fin, frame.rsv1, frame.mask, payload_len as u64)
}

/// Appends one frame, masking a copy of the payload if the frame has a mask. RFC 6455 5.5 bounds the payload
/// of a control frame to 125 bytes; that is the caller's to keep here, [`append_ping`], [`append_pong`] and
/// [`append_close`] do.
pub fn append_frame(out: &mut Vec<u8>, frame: Frame, payload: &[u8]) {
    let header = header(frame, payload.len());
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = frame.mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// Appends a whole uncompressed message as a server sends it.
pub fn append_message(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    append_frame(out, Frame::new(kind.into()), payload);
}

/// Appends a ping; a payload over 125 bytes is cut.
pub fn append_ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    append_control(out, Opcode::Ping, payload, mask);
}

/// Appends a pong; a payload over 125 bytes is cut (that of a received ping never is).
pub fn append_pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    append_control(out, Opcode::Pong, payload, mask);
}

/// Appends a close frame. A reason over 123 bytes is cut at a character.
pub fn append_close(out: &mut Vec<u8>, code: impl Into<u16>, reason: &str, mask: Option<[u8; 4]>) {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    let mut payload = [0; MAX_CONTROL_PAYLOAD];
    let (code_bytes, rest) = payload.split_at_mut(2);
    code_bytes.copy_from_slice(&code.into().to_be_bytes());
    rest[..reason.len()].copy_from_slice(reason.as_bytes());
    append_control(out, Opcode::Close, &payload[..2 + reason.len()], mask);
}

/// Appends the answer to a received close frame: its code, without the reason (RFC 6455 5.5.1); no payload if
/// it had none.
pub fn append_close_reply(out: &mut Vec<u8>, code: Option<u16>, mask: Option<[u8; 4]>) {
    match code {
        Some(code) => append_close(out, code, "", mask),
        None => append_control(out, Opcode::Close, &[], mask),
    }
}

fn append_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
    append_frame(out, Frame { mask, ..Frame::new(opcode) }, payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455_5_7() {
        let mut out = Vec::new();
        append_message(&mut out, Kind::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

        out.clear();
        append_frame(&mut out, Frame::new(Opcode::Text).masked([0x37, 0xfa, 0x21, 0x3d]), b"Hello");
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);

        out.clear();
        append_frame(&mut out, Frame::new(Opcode::Text).unfinished(), b"Hel");
        append_frame(&mut out, Frame::new(Opcode::Continuation), b"lo");
        assert_eq!(out, [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f]);

        out.clear();
        append_message(&mut out, Kind::Binary, &[0; 256]);
        assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);

        out.clear();
        append_message(&mut out, Kind::Binary, &[0; 65_536]);
        assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        // 61 two-byte characters are 122 bytes; the 62nd would end at 124.
        append_close(&mut out, 4000u16, &"é".repeat(80), None);
        assert_eq!(out[..2], [0x88, 124]);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
        out.clear();
        append_close(&mut out, 4000u16, &"e".repeat(124), None);
        assert_eq!((out[1], out.len()), (125, 127));
    }

    #[test]
    fn a_control_payload_is_cut_to_125_bytes() {
        let mut out = Vec::new();
        append_ping(&mut out, &[7; 200], None);
        assert_eq!((out[1], out.len()), (125, 127));
    }

    #[test]
    fn a_close_reply_repeats_the_code_or_its_absence() {
        let mut out = Vec::new();
        append_close_reply(&mut out, Some(1000), None);
        append_close_reply(&mut out, None, None);
        assert_eq!(out, [0x88, 2, 0x03, 0xe8, 0x88, 0]);
    }
}
