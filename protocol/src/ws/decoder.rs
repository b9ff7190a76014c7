//! Bytes to events: frames, fragments, control frames, text and close rules (RFC 6455 5 to 8).

use std::ops::Range;

use super::deflate::{Scratch, compressed_bound};
use super::frame::{self, Context, Header, MAX_HEADER, Opcode};
use super::mask::apply_mask;
use super::{Kind, Limits, ProtocolError, Role, utf8};
use crate::close;

/// Something the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message, unmasked, assembled and inflated.
    Message {
        /// Text or binary.
        kind: Kind,
        /// Valid UTF-8 if text.
        payload: &'a [u8],
    },
    /// To be answered by a pong with the same payload, of at most 125 bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or unsolicited.
    Pong(&'a [u8]),
    /// The peer closes; to be answered by a close frame. Whatever it sends after this is ignored.
    Close {
        /// A code that may stand on the wire (RFC 6455 7.4), or none.
        code: Option<u16>,
        /// Empty if there is none.
        reason: &'a str,
    },
}

/// What a call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes taken from the front of the input: all of it if there is no event.
    pub consumed: usize,
    /// The first event found, if any.
    pub event: Option<Event<'a>>,
}

/// The receiving half of one connection.
///
/// An error or a close frame is final: after an error every further call returns that error, after a close
/// frame all input is discarded (RFC 6455 5.5.1).
pub struct Decoder {
    /// There only while a header or a message is incomplete.
    partial: Option<Box<Partial>>,
    role: Role,
    deflate: bool,
    state: State,
}

// Every connection of a node has one, idle or not.
const _: () = assert!(size_of::<Decoder>() <= 16);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    Failed(ProtocolError),
}

impl Decoder {
    /// `deflate`: permessage-deflate was negotiated.
    pub fn new(role: Role, deflate: bool) -> Self {
        Self { partial: None, role, deflate, state: State::Open }
    }

    /// Consumes a prefix of `input`, unmasking it in place, up to the end of the first frame that completes
    /// an event. Call it with the rest until everything is consumed.
    ///
    /// A message that lies whole in `input`, in one uncompressed frame, is returned where it lies; any other
    /// is returned from `scratch`.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit; everything held for it has been released.
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
        scratch: &'a mut Scratch,
    ) -> Result<Decoded<'a>, ProtocolError> {
        match self.state {
            State::Open => {}
            State::Closed => return Ok(Decoded { consumed: input.len(), event: None }),
            State::Failed(error) => return Err(error),
        }
        scratch.trim();
        if let Some((range, key)) = self.plain_message(input, limits) {
            let consumed = range.end;
            let payload = &mut input[range];
            apply_mask(payload, key, 0);
            return Ok(Decoded { consumed, event: Some(Event::Message { kind: Kind::Binary, payload }) });
        }
        let result = self.advance(input, limits, scratch).and_then(|(consumed, found)| {
            let event = found.map(|found| found.into_event(input, &scratch.message)).transpose()?;
            Ok(Decoded { consumed, event })
        });
        match result {
            Err(error) => self.end(State::Failed(error)),
            Ok(Decoded { event: Some(Event::Close { .. }), .. }) => self.end(State::Closed),
            Ok(_) => {}
        }
        result
    }

    /// Whether permessage-deflate was negotiated.
    pub fn deflate(&self) -> bool {
        self.deflate
    }

    /// Whether the stream stands between two messages, with nothing held.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Received bytes held for an unfinished header or message.
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.buffered())
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.partial = None;
    }

    /// Where the payload is of what nearly every read of a server begins with: a binary message in one masked frame that lies
    /// whole in the input. Anything else, what is wrong above all, is not for here: `advance` takes it from the first byte on.
    #[inline]
    fn plain_message(&self, input: &[u8], limits: &Limits) -> Option<(Range<usize>, [u8; 4])> {
        let [frame::BINARY_MESSAGE, second, rest @ ..] = input else { return None };
        if self.partial.is_some() || self.role != Role::Server {
            return None;
        }
        let (len, key) = match second.checked_sub(frame::MASK)? {
            len @ ..frame::LEN_16 => (usize::from(len), rest),
            frame::LEN_16 => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                let len = usize::from(u16::from_be_bytes(*len));
                (Some(len).filter(|len| *len >= usize::from(frame::LEN_16))?, rest)
            }
            _ => return None,
        };
        let (key, payload) = key.split_first_chunk::<4>()?;
        let is_allowed =
            len as u64 <= limits.max_frame && len <= limits.max_message && limits.max_fragments > 0;
        let start = input.len() - payload.len();
        (is_allowed && len <= payload.len()).then_some((start..start + len, *key))
    }

    /// Works through `input` until an event is complete or nothing is left.
    fn advance(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        scratch: &mut Scratch,
    ) -> Result<(usize, Option<Found>), ProtocolError> {
        let mut at = 0;
        loop {
            if let Some(partial) = &mut self.partial
                && let Some(frame) = &mut partial.frame
            {
                let taken = frame.remaining_within(input.len() - at);
                let payload = &mut input[at..at + taken];
                at += taken;
                partial.receive(payload)?;
                if !partial.frame_is_whole() {
                    return Ok((at, None));
                }
                let found = partial.end_frame(limits, scratch)?;
                self.release_if_idle();
                if found.is_some() {
                    return Ok((at, found));
                }
            }
            let Some((header, taken)) = self.next_header(&input[at..])? else {
                return Ok((input.len(), None));
            };
            at += taken;
            self.check_limits(&header, limits)?;
            let whole = usize::try_from(header.len).is_ok_and(|len| len <= input.len() - at);
            if whole && (header.opcode.is_control() || (header.fin && !self.in_message())) {
                // Fits: it is no longer than the input.
                let range = at..at + header.len as usize;
                let found = take_whole(&header, input, range.clone(), limits, scratch)?;
                self.release_if_idle();
                return Ok((range.end, Some(found)));
            }
            self.partial.get_or_insert_default().begin_frame(&header);
        }
    }

    /// The next header and the bytes it took from `input`; `None` if it is incomplete, which takes all of
    /// them.
    fn next_header(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
        let context = Context { role: self.role, deflate: self.deflate, in_message: self.in_message() };
        if let Some(partial) = &mut self.partial
            && partial.head_len > 0
        {
            return partial.resume_header(input, context);
        }
        let header = Header::parse(input, context)?;
        if header.is_none() && !input.is_empty() {
            self.partial.get_or_insert_default().hold_header(input);
        }
        Ok(header.map(|header| (header, header.size)))
    }

    /// Refuses a frame for what its header claims, before anything is held for it.
    fn check_limits(&self, header: &Header, limits: &Limits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        if header.len > limits.max_frame {
            return Err(ProtocolError::FrameTooBig);
        }
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let (held, fragments, compressed) = message.map_or((0, 0, header.rsv1), |message| {
            (message.data.len(), message.fragments, message.compressed)
        });
        if fragments >= limits.max_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        let bound = if compressed { compressed_bound(limits.max_message) } else { limits.max_message };
        if header.len > bound.saturating_sub(held) as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    fn in_message(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.message.is_some())
    }

    fn release_if_idle(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_idle()) {
            self.partial = None;
        }
    }
}

/// An event and where its payload lies. Indices rather than slices: the input stays mutable until the event
/// is made.
struct Found {
    what: What,
    place: Place,
}

#[derive(Clone, Copy)]
enum What {
    Message(Kind),
    Ping,
    Pong,
    Close,
}

enum Place {
    Input(Range<usize>),
    Scratch,
}

impl Found {
    fn into_event<'a>(self, input: &'a [u8], scratch: &'a [u8]) -> Result<Event<'a>, ProtocolError> {
        let payload = match self.place {
            Place::Input(range) => &input[range],
            Place::Scratch => scratch,
        };
        match self.what {
            What::Message(kind) => Ok(Event::Message { kind, payload }),
            What::Ping => Ok(Event::Ping(payload)),
            What::Pong => Ok(Event::Pong(payload)),
            What::Close => parse_close(payload),
        }
    }
}

impl What {
    /// `None` for a continuation, which is no event by itself.
    fn of(opcode: Opcode) -> Option<Self> {
        Some(match opcode {
            Opcode::Continuation => return None,
            Opcode::Text => Self::Message(Kind::Text),
            Opcode::Binary => Self::Message(Kind::Binary),
            Opcode::Ping => Self::Ping,
            Opcode::Pong => Self::Pong,
            Opcode::Close => Self::Close,
        })
    }
}

/// A frame that lies whole in the input and is an event by itself: unmasked in place, inflated into
/// `scratch`.
fn take_whole(
    header: &Header,
    input: &mut [u8],
    range: Range<usize>,
    limits: &Limits,
    scratch: &mut Scratch,
) -> Result<Found, ProtocolError> {
    let payload = &mut input[range.clone()];
    if let Some(key) = header.mask {
        apply_mask(payload, key, 0);
    }
    let what = What::of(header.opcode).ok_or(ProtocolError::UnexpectedContinuation)?;
    let place = if header.rsv1 {
        scratch.inflate(payload, limits)?;
        Place::Scratch
    } else {
        Place::Input(range)
    };
    if header.opcode == Opcode::Text {
        let text = if header.rsv1 { &scratch.message } else { &*payload };
        check_text(text)?;
    }
    Ok(Found { what, place })
}

fn check_text(text: &[u8]) -> Result<(), ProtocolError> {
    simdutf8::basic::from_utf8(text).map(|_| ()).map_err(|_| ProtocolError::TextUtf8)
}

/// RFC 6455 5.5.1: nothing, or a code and a reason.
fn parse_close(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    if payload.is_empty() {
        return Ok(Event::Close { code: None, reason: "" });
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(ProtocolError::CloseTooShort)?;
    let code = u16::from_be_bytes(*code);
    if !close::may_be_sent(code) {
        return Err(ProtocolError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonUtf8)?;
    Ok(Event::Close { code: Some(code), reason })
}

/// What has arrived of something incomplete. Its memory grows with the bytes received, whatever headers
/// claim.
#[derive(Default)]
struct Partial {
    /// The bytes of a header that ended with the input.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The frame whose payload is arriving.
    frame: Option<Incoming>,
    /// The data message under way; control frames may come between its frames.
    message: Option<Message>,
    /// The payload so far of a control frame.
    control: Vec<u8>,
}

struct Incoming {
    opcode: Opcode,
    fin: bool,
    mask: Option<[u8; 4]>,
    len: u64,
    received: u64,
}

struct Message {
    kind: Kind,
    compressed: bool,
    fragments: u32,
    data: Vec<u8>,
    /// Text: `data[..checked]` is whole characters.
    checked: usize,
}

impl Incoming {
    /// How many of `available` bytes belong to this frame.
    fn remaining_within(&self, available: usize) -> usize {
        usize::try_from(self.len - self.received).map_or(available, |remaining| remaining.min(available))
    }
}

impl Partial {
    fn hold_header(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(MAX_HEADER - usize::from(self.head_len));
        let start = usize::from(self.head_len);
        self.head[start..start + taken].copy_from_slice(&bytes[..taken]);
        // At most MAX_HEADER in all.
        self.head_len += taken as u8;
    }

    /// Continues the header held. The second value counts bytes of `input` only.
    fn resume_header(
        &mut self,
        input: &[u8],
        context: Context,
    ) -> Result<Option<(Header, usize)>, ProtocolError> {
        let before = usize::from(self.head_len);
        self.hold_header(input);
        let header = Header::parse(&self.head[..usize::from(self.head_len)], context)?;
        Ok(header.map(|header| {
            self.head_len = 0;
            // The bytes before were not enough, so it ends after them.
            (header, header.size.saturating_sub(before))
        }))
    }

    fn begin_frame(&mut self, header: &Header) {
        let kind = match header.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        if let Some(kind) = kind {
            let compressed = header.rsv1;
            self.message = Some(Message { kind, compressed, fragments: 0, data: Vec::new(), checked: 0 });
        }
        if let Some(message) = &mut self.message
            && !header.opcode.is_control()
        {
            message.fragments += 1;
        }
        let &Header { opcode, fin, mask, len, .. } = header;
        self.frame = Some(Incoming { opcode, fin, mask, len, received: 0 });
    }

    /// Takes the next bytes of the payload under way. Text is judged at once, however little arrived.
    fn receive(&mut self, payload: &mut [u8]) -> Result<(), ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        if let Some(key) = frame.mask {
            apply_mask(payload, key, frame.received);
        }
        frame.received += payload.len() as u64;
        if frame.opcode.is_control() {
            self.control.extend_from_slice(payload);
        } else if let Some(message) = &mut self.message {
            message.receive(payload)?;
        }
        Ok(())
    }

    fn frame_is_whole(&self) -> bool {
        self.frame.as_ref().is_none_or(|frame| frame.received == frame.len)
    }

    /// Ends the frame under way; its event, if it completes one, has its payload in `scratch`.
    fn end_frame(&mut self, limits: &Limits, scratch: &mut Scratch) -> Result<Option<Found>, ProtocolError> {
        let Some(frame) = self.frame.take() else { return Ok(None) };
        let what = if frame.opcode.is_control() {
            scratch.message = std::mem::take(&mut self.control);
            What::of(frame.opcode)
        } else if frame.fin {
            let message = self.message.take();
            message.map(|message| message.finish(limits, scratch)).transpose()?.map(What::Message)
        } else {
            None
        };
        Ok(what.map(|what| Found { what, place: Place::Scratch }))
    }

    fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.head_len == 0
    }

    fn buffered(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.data.len());
        usize::from(self.head_len) + self.control.len() + message
    }
}

impl Message {
    fn receive(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        self.data.extend_from_slice(payload);
        if self.kind == Kind::Text && !self.compressed {
            self.checked = utf8::check_prefix(&self.data, self.checked).ok_or(ProtocolError::TextUtf8)?;
        }
        Ok(())
    }

    /// Moves the message into `scratch`.
    fn finish(self, limits: &Limits, scratch: &mut Scratch) -> Result<Kind, ProtocolError> {
        if self.compressed {
            scratch.inflate(&self.data, limits)?;
            if self.kind == Kind::Text {
                check_text(&scratch.message)?;
            }
        } else {
            if self.kind == Kind::Text && self.checked != self.data.len() {
                return Err(ProtocolError::TextUtf8);
            }
            scratch.message = self.data;
        }
        Ok(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_gone_as_soon_as_a_message_is_handed_out() {
        let mut decoder = Decoder::new(Role::Client, false);
        let mut scratch = Scratch::new();
        // A fragment, a ping in pieces between, and the rest in two reads that split a header.
        let reads: [&mut [u8]; 4] =
            [&mut [0x01, 2, b'H', b'e'], &mut [0x89, 3, 1], &mut [2, 3, 0x80], &mut [3, b'l', b'l', b'o']];
        let mut messages = 0;
        for read in reads {
            let mut rest = read;
            while !rest.is_empty() {
                let decoded = decoder.decode(rest, &Limits::DEFAULT, &mut scratch).unwrap();
                let consumed = decoded.consumed;
                if let Some(Event::Message { payload, .. }) = decoded.event {
                    assert_eq!(payload, b"Hello");
                    messages += 1;
                    assert!(decoder.partial.is_none());
                } else {
                    assert!(decoder.partial.is_some());
                }
                rest = &mut rest[consumed..];
            }
        }
        assert_eq!(messages, 1);
    }

    #[test]
    fn a_whole_message_allocates_nothing() {
        let mut decoder = Decoder::new(Role::Client, false);
        let mut scratch = Scratch::new();
        let mut read = *b"\x82\x03abc\x89\x01p";
        let decoded = decoder.decode(&mut read, &Limits::DEFAULT, &mut scratch).unwrap();
        assert_eq!(decoded.event, Some(Event::Message { kind: Kind::Binary, payload: b"abc" }));
        assert!(decoder.partial.is_none());
        decoder.decode(&mut read[5..], &Limits::DEFAULT, &mut scratch).unwrap();
        assert!(decoder.partial.is_none());
        assert_eq!(scratch.message.capacity(), 0);
    }

    #[test]
    fn memory_follows_what_was_received_and_not_what_headers_claim() {
        let limits = Limits { max_frame: 1 << 40, max_message: 1 << 40, ..Limits::DEFAULT };
        let mut decoder = Decoder::new(Role::Client, false);
        let mut scratch = Scratch::new();
        let mut read = [0x82, 127, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        decoder.decode(&mut read, &limits, &mut scratch).unwrap();
        let partial = decoder.partial.as_ref().unwrap();
        assert_eq!(decoder.buffered(), 3);
        assert!(partial.message.as_ref().unwrap().data.capacity() <= 64);
    }
}
