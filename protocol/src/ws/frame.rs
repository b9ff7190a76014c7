//! The frame header (RFC 6455 5.2), parsed and emitted.
//!
//! ```text
//!  byte 0               byte 1            then
//! +---+----+----+------+------+---------+--------------------------+----------------+
//! |FIN|RSV1|R2 3|opcode| MASK | len (7) | len (16 if 126,64 if 127)| key (4 if MASK)|
//! +---+----+----+------+------+---------+--------------------------+----------------+
//! ```

use std::ops::Deref;

use super::{Kind, ProtocolError, Role};

/// Payload bytes of a control frame at most (RFC 6455 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;
/// Bytes of a header at most: 2, a 64-bit length, a masking key.
pub(super) const MAX_HEADER: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
/// In the second byte.
pub(super) const MASK: u8 = 0x80;
/// A length that says that the length is in the next 16 bits.
pub(super) const LEN_16: u8 = 126;
const LEN_64: u8 = 127;
/// The first byte of a binary message in one frame, not compressed.
pub(super) const BINARY_MESSAGE: u8 = FIN | Opcode::Binary as u8;

/// What a frame is (RFC 6455 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further frame of the message under way.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// Close.
    Close = 0x8,
    /// Ping.
    Ping = 0x9,
    /// Pong.
    Pong = 0xa,
}

impl Opcode {
    /// Close, ping or pong.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_bits(bits: u8) -> Result<Self, ProtocolError> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(ProtocolError::ReservedOpcode),
        })
    }
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

/// What decides whether a header is acceptable.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) role: Role,
    /// permessage-deflate was negotiated.
    pub(super) deflate: bool,
    /// A fragmented message is under way.
    pub(super) in_message: bool,
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) rsv1: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// Payload bytes claimed; below 2^63, not yet checked against any limit.
    pub(super) len: u64,
    /// Bytes of the header itself.
    pub(super) size: usize,
}

impl Header {
    /// Reads a header from the start of `bytes`; `None` if it is incomplete. Each byte is judged as soon as
    /// it is there, in order, so a violation is found at the same byte however the stream was split.
    pub(super) fn parse(bytes: &[u8], context: Context) -> Result<Option<Self>, ProtocolError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let opcode = check_first_byte(first, context)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        check_second_byte(second, opcode, context.role)?;

        let (len, rest) = match second & !MASK {
            LEN_16 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes(*bytes));
                if len < u64::from(LEN_16) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (len, rest)
            }
            LEN_64 => {
                let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                let len = u64::from_be_bytes(*bytes);
                if len >> 63 == 1 {
                    return Err(ProtocolError::LengthTopBit);
                }
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (len, rest)
            }
            short => (u64::from(short), rest),
        };
        let (mask, rest) = if second & MASK == 0 {
            (None, rest)
        } else {
            let Some((key, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Some(*key), rest)
        };
        let (fin, rsv1) = (first & FIN != 0, first & RSV1 != 0);
        Ok(Some(Self { fin, rsv1, opcode, mask, len, size: bytes.len() - rest.len() }))
    }
}

/// FIN, RSV and opcode against the state of the connection.
fn check_first_byte(byte: u8, context: Context) -> Result<Opcode, ProtocolError> {
    if byte & RSV2_RSV3 != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let opcode = Opcode::from_bits(byte & 0x0f)?;
    // RFC 7692 6: RSV1 marks a compressed message and stands on its first frame alone.
    let may_be_compressed = context.deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
    if byte & RSV1 != 0 && !may_be_compressed {
        return Err(ProtocolError::UnexpectedRsv1);
    }
    match opcode {
        Opcode::Continuation if !context.in_message => Err(ProtocolError::UnexpectedContinuation),
        Opcode::Text | Opcode::Binary if context.in_message => Err(ProtocolError::ExpectedContinuation),
        Opcode::Close | Opcode::Ping | Opcode::Pong if byte & FIN == 0 => {
            Err(ProtocolError::ControlFragmented)
        }
        _ => Ok(opcode),
    }
}

/// The mask bit against our role, and the length of a control frame.
fn check_second_byte(byte: u8, opcode: Opcode, role: Role) -> Result<(), ProtocolError> {
    match role {
        Role::Server if byte & MASK == 0 => return Err(ProtocolError::NotMasked),
        Role::Client if byte & MASK != 0 => return Err(ProtocolError::Masked),
        _ => {}
    }
    if opcode.is_control() && usize::from(byte & !MASK) > MAX_CONTROL_PAYLOAD {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(())
}

/// An encoded header, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl HeaderBytes {
    /// `len` is the payload's length; lengths of 2^63 and more do not exist in memory.
    pub(super) fn new(opcode: Opcode, fin: bool, rsv1: bool, mask: Option<[u8; 4]>, len: u64) -> Self {
        let mut this = Self { bytes: [0; MAX_HEADER], len: 0 };
        let mask_bit = if mask.is_some() { MASK } else { 0 };
        this.push(&[if fin { FIN } else { 0 } | if rsv1 { RSV1 } else { 0 } | opcode as u8]);
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len), _) if len < LEN_16 => this.push(&[mask_bit | len]),
            (_, Ok(len)) => {
                this.push(&[mask_bit | LEN_16]);
                this.push(&len.to_be_bytes());
            }
            _ => {
                this.push(&[mask_bit | LEN_64]);
                this.push(&len.to_be_bytes());
            }
        }
        if let Some(key) = mask {
            this.push(&key);
        }
        this
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        // At most MAX_HEADER in all.
        self.len += bytes.len() as u8;
    }
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Context = Context { role: Role::Server, deflate: false, in_message: false };

    fn error(bytes: &[u8], context: Context) -> ProtocolError {
        Header::parse(bytes, context).expect_err("must be refused")
    }

    #[test]
    fn every_emitted_header_parses_back_and_every_prefix_is_incomplete() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, (1 << 63) - 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let bytes = HeaderBytes::new(Opcode::Binary, true, true, mask, len);
                let role = if mask.is_some() { Role::Server } else { Role::Client };
                let context = Context { role, deflate: true, in_message: false };
                let expected =
                    Header { fin: true, rsv1: true, opcode: Opcode::Binary, mask, len, size: bytes.len() };
                assert_eq!(Header::parse(&bytes, context), Ok(Some(expected)));
                for cut in 0..bytes.len() {
                    assert_eq!(Header::parse(&bytes[..cut], context), Ok(None));
                }
            }
        }
    }

    #[test]
    fn lengths_must_be_minimal_and_below_2_63() {
        // RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length".
        assert_eq!(error(&[0x82, 0xfe, 0, 125], SERVER), ProtocolError::LengthNotMinimal);
        assert_eq!(
            error(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], SERVER),
            ProtocolError::LengthNotMinimal
        );
        assert_eq!(error(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], SERVER), ProtocolError::LengthTopBit);
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
        assert_eq!(error(&[0xa1], SERVER), ProtocolError::ReservedBits);
        assert_eq!(error(&[0x91], SERVER), ProtocolError::ReservedBits);
        assert_eq!(error(&[0xc1], SERVER), ProtocolError::UnexpectedRsv1);
        for opcode in (0x3..=0x7).chain(0xb..=0xf) {
            assert_eq!(error(&[0x80 | opcode], SERVER), ProtocolError::ReservedOpcode);
        }
    }

    #[test]
    fn rsv1_is_for_first_data_frames_of_negotiated_deflate_alone() {
        // RFC 7692 6.1.
        let idle = Context { deflate: true, ..SERVER };
        let inside = Context { in_message: true, ..idle };
        assert!(Header::parse(&[0xc1], idle).is_ok());
        assert_eq!(error(&[0xc0], inside), ProtocolError::UnexpectedRsv1);
        for control in [0xc8, 0xc9, 0xca] {
            assert_eq!(error(&[control], idle), ProtocolError::UnexpectedRsv1);
        }
    }

    #[test]
    fn the_mask_bit_must_fit_the_role() {
        // RFC 6455 5.1.
        assert_eq!(error(&[0x81, 0x00], SERVER), ProtocolError::NotMasked);
        let client = Context { role: Role::Client, ..SERVER };
        assert_eq!(error(&[0x81, 0x80], client), ProtocolError::Masked);
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        // RFC 6455 5.5.
        for opcode in [0x8, 0x9, 0xa] {
            assert_eq!(error(&[opcode], SERVER), ProtocolError::ControlFragmented);
            assert_eq!(error(&[0x80 | opcode, 0x80 | 126], SERVER), ProtocolError::ControlTooLong);
            assert_eq!(error(&[0x80 | opcode, 0x80 | 127], SERVER), ProtocolError::ControlTooLong);
        }
    }

    #[test]
    fn continuations_belong_to_a_message_and_messages_do_not_nest() {
        // RFC 6455 5.4.
        assert_eq!(error(&[0x80], SERVER), ProtocolError::UnexpectedContinuation);
        let inside = Context { in_message: true, ..SERVER };
        assert_eq!(error(&[0x81], inside), ProtocolError::ExpectedContinuation);
        assert_eq!(error(&[0x02], inside), ProtocolError::ExpectedContinuation);
    }
}
