//! Why a byte stream is not acceptable, and the close code that says so.

use std::fmt;

use crate::close::CloseCode;

/// A violation by the peer. The connection is over: send [`ProtocolError::close_code`] with
/// [`ProtocolError::reason`], then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// RFC 6455 5.2: RSV1 without a negotiated extension that gives it a meaning, or not on a first frame.
    UnexpectedRsv1,
    /// RFC 6455 5.2: RSV2 or RSV3.
    ReservedBits,
    /// RFC 6455 5.2: opcodes 3 to 7 and b to f.
    ReservedOpcode,
    /// RFC 6455 5.1: a frame to a server without a mask.
    NotMasked,
    /// RFC 6455 5.1: a frame to a client with a mask.
    Masked,
    /// RFC 6455 5.2: not the shortest encoding of the length.
    LengthNotMinimal,
    /// RFC 6455 5.2: the most significant bit of a 64-bit length.
    LengthTopBit,
    /// RFC 6455 5.5: a control frame in fragments.
    ControlFragmented,
    /// RFC 6455 5.5: a control frame of more than 125 bytes.
    ControlTooLong,
    /// RFC 6455 5.4: a continuation frame while no message is under way.
    UnexpectedContinuation,
    /// RFC 6455 5.4: a text or binary frame inside a fragmented message.
    ExpectedContinuation,
    /// RFC 6455 5.5.1: a close frame of one byte.
    CloseTooShort,
    /// RFC 6455 7.4: a close code that must not be sent.
    CloseCode,
    /// RFC 6455 5.5.1: a close reason that is not UTF-8.
    CloseReasonUtf8,
    /// RFC 6455 8.1: a text message that is not UTF-8.
    TextUtf8,
    /// RFC 7692 7.2.2: a compressed message that does not inflate.
    Deflate,
    /// Over [`super::Limits::max_frame`].
    FrameTooBig,
    /// Over [`super::Limits::max_message`].
    MessageTooBig,
    /// Over [`super::Limits::max_fragments`].
    TooManyFragments,
}

impl ProtocolError {
    /// The close code for this violation. 1009 stands only where the peer itself sent more than it may: it
    /// tells stock clients not to come back with the same message.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::TextUtf8 | Self::CloseReasonUtf8 | Self::Deflate => CloseCode::InvalidData,
            Self::FrameTooBig | Self::MessageTooBig => CloseCode::MessageTooBig,
            Self::TooManyFragments => CloseCode::Policy,
            Self::UnexpectedRsv1
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::NotMasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTooShort
            | Self::CloseCode => CloseCode::ProtocolError,
        }
    }

    /// The close reason, at most 123 bytes.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnexpectedRsv1 => "unexpected RSV1 bit",
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::NotMasked => "unmasked frame from client",
            Self::Masked => "masked frame from server",
            Self::LengthNotMinimal => "length not minimally encoded",
            Self::LengthTopBit => "length has its top bit set",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame too long",
            Self::UnexpectedContinuation => "continuation without a message",
            Self::ExpectedContinuation => "new message inside a fragmented one",
            Self::CloseTooShort => "close frame of one byte",
            Self::CloseCode => "invalid close code",
            Self::CloseReasonUtf8 => "close reason is not UTF-8",
            Self::TextUtf8 => "text is not UTF-8",
            Self::Deflate => "invalid compressed data",
            Self::FrameTooBig => "frame too big",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}
