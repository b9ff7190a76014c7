//! One connection's TLS, between the engine's reads and writes.

use std::cell::RefCell;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pinwire_engine::{Inbound, Stage, Transform, TransformError};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, HandshakeKind};

use crate::failure;

/// Bytes that a sealed record has beside its content: 5 of header, 1 of type, 16 of tag; TLS 1.2 has 8 more.
const RECORD_OVERHEAD: usize = 32;
/// Content of a record.
const RECORD_MAX: usize = 16 << 10;
/// Bytes for which a thread's buffers keep room.
const BUFFER_KEPT: usize = 64 << 10;

thread_local! {
    /// Plain bytes of one call: connections have no buffers of their own.
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One side of a TLS connection, as the library has it.
pub(crate) trait Side: Send {
    /// What the library keeps for this role.
    type Data;

    /// A side that is asked: a peer's hello comes before anything that it says.
    const IS_SERVER: bool;

    /// What both roles know of themselves.
    fn common(&self) -> &CommonState;

    /// Goes through received bytes.
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    const IS_SERVER: bool = true;

    fn common(&self) -> &CommonState {
        self
    }

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    const IS_SERVER: bool = false;

    fn common(&self) -> &CommonState {
        self
    }

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

/// A TLS connection.
pub(crate) struct Session<S> {
    side: S,
    /// Plain bytes to send once the handshake is through: a client's first request.
    waiting: Vec<u8>,
    /// Our end, or an alert, was said: nothing may follow.
    is_over: bool,
    /// Why the peer's bytes were refused: no more are looked at.
    refusal: Option<&'static str>,
    /// The peer said that nothing follows.
    is_ended: bool,
}

impl<S: Side> Session<S> {
    pub(crate) fn new(side: S) -> Self {
        Self { side, waiting: Vec::new(), is_over: false, refusal: None, is_ended: false }
    }

    /// Opens what stands in `wire`; returns how much of it is dealt with. What came before a mistake counts: the mistake is told at
    /// the next call, the alert about it leaves at once.
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TransformError> {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.side.process(&mut wire[consumed..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| {
                            self.refusal = Some(failure::of(&error));
                            refused(&error)
                        })?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => append_encoded(reply, &mut encode),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    seal(&mut traffic, &std::mem::take(&mut self.waiting), reply)?;
                    is_done = true;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    // "Any data received after a closure alert has been received MUST be ignored" (RFC 8446 6.1).
                    self.is_ended = true;
                    return Ok(wire.len());
                }
                // Early data is not offered, and whatever else there is waits for the peer.
                Ok(_) => is_done = true,
                Err(error) => {
                    self.take_alert(&mut wire[consumed + discard..], reply);
                    self.refusal = Some(failure::word_for(&error, &wire[consumed..]));
                    let refused = refused(&error);
                    return if plain.is_empty() { Err(refused) } else { Ok(wire.len()) };
                }
            }
            consumed += discard;
            if is_done {
                return Ok(consumed);
            }
        }
    }

    /// What the peer is told about its mistake: it stands first. Nothing may be asked of the library after that, which would go
    /// on with the bytes that it has refused.
    fn take_alert(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) {
        self.is_over = true;
        if let Ok(ConnectionState::EncodeTlsData(mut encode)) = self.side.process(wire).state {
            append_encoded(reply, &mut encode);
        }
    }

    /// Calls `write` if the connection may send; what has to leave before goes before it. Whatever of `unread` is whole was
    /// opened: there is nothing to read in it, but the library keeps places of half a message in there.
    fn write(
        &mut self,
        unread: &mut [u8],
        wire: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, S::Data>, &mut Vec<u8>) -> Result<(), TransformError>,
    ) -> Result<MaySend, TransformError> {
        loop {
            match self.side.process(unread).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return write(&mut traffic, wire).map(|()| MaySend::Now);
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => append_encoded(wire, &mut encode),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(ConnectionState::BlockedHandshake) => return Ok(MaySend::Later),
                Ok(_) => return Ok(MaySend::NoMore),
                Err(error) => {
                    self.refusal = Some(failure::of(&error));
                    return Err(refused(&error));
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8], unread: &mut [u8], wire: &mut Vec<u8>) -> Result<(), TransformError> {
        if self.write(unread, wire, |traffic, wire| seal(traffic, bytes, wire))? == MaySend::Later {
            self.waiting.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Whether plain bytes can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaySend {
    Now,
    /// After the handshake.
    Later,
    NoMore,
}

/// An error once a connection has sealed as much as its keys are good for.
fn seal<D>(
    traffic: &mut WriteTraffic<'_, D>,
    bytes: &[u8],
    wire: &mut Vec<u8>,
) -> Result<(), TransformError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let room = bytes.len() + bytes.len().div_ceil(RECORD_MAX) * RECORD_OVERHEAD;
    append(wire, room, |out| traffic.encrypt(bytes, out).map_err(|error| too_small(&error)))
}

fn refused(error: &rustls::Error) -> TransformError {
    tracing::debug!(%error, "TLS refused a peer's bytes");
    TransformError
}

fn append_encoded<D>(out: &mut Vec<u8>, encode: &mut EncodeTlsData<'_, D>) {
    // What is encoded already is there already.
    let _ = append(out, RECORD_OVERHEAD, |out| match encode.encode(out) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}

fn too_small(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes, which asks for more room if it has too little, or gives up.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), TransformError> {
    let start = out.len();
    let mut room = room;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Some(required)) if required > room => room = required,
            Err(_) => {
                out.truncate(start);
                return Err(TransformError);
            }
        }
    }
}

/// Whether a whole ClientHello is there: its answer costs a key exchange and, without a ticket, a signature. A message may be cut
/// into records (RFC 8446 5.1); until its last one is there, nothing is computed.
fn has_client_hello(wire: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let (mut rest, mut had, mut wanted) = (wire, 0, None);
    while let [kind, _, _, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((content, next)) = after.split_at_checked(len) else { return false };
        if *kind == HANDSHAKE {
            if wanted.is_none() {
                match content {
                    [CLIENT_HELLO, a, b, c, ..] => {
                        wanted = Some(4 + u32::from_be_bytes([0, *a, *b, *c]) as usize);
                    }
                    // Cut within the message's head, which no library does: it may as well be whole.
                    [CLIENT_HELLO, ..] => return true,
                    _ => {}
                }
            }
            had += if wanted.is_some() { len } else { 0 };
            if wanted.is_some_and(|wanted| had >= wanted) {
                return true;
            }
        }
        rest = next;
    }
    false
}

/// Runs what calls the library. It is given whatever peers send, and a panic of its would end a thread that serves thousands of
/// others.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(call)).ok();
    if outcome.is_none() {
        tracing::error!("the TLS library panicked; one connection ends");
    }
    outcome
}

impl<S: Side> Session<S> {
    /// A server that waits for its peer has nothing to say before, and must not go through what stands unread by the way: it may
    /// wait for its turn.
    fn must_listen_first(&self) -> bool {
        S::IS_SERVER && self.side.common().is_handshaking()
    }
}

impl<S: Side> Transform for Session<S> {
    fn is_costly(&self, wire: &[u8]) -> bool {
        self.refusal.is_none() && self.must_listen_first() && has_client_hello(wire)
    }

    fn stage(&self) -> Stage {
        let common = self.side.common();
        match self.refusal {
            Some(reason) => Stage::Refused(reason),
            None if common.is_handshaking() => Stage::Opening,
            None => Stage::Open { is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed) },
        }
    }

    fn inbound(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) -> Result<Inbound, TransformError> {
        if self.refusal.is_some() {
            return Err(TransformError);
        }
        if self.is_ended {
            return Ok(Inbound { consumed: wire.len(), plain: 0, is_end: true });
        }
        let opened = guarded(|| {
            PLAIN.with_borrow_mut(|plain| {
                plain.clear();
                let consumed = self.open(wire, plain, reply)?;
                // Opened records are shorter than sealed ones: they fit in what was consumed.
                wire.get_mut(..plain.len()).ok_or(TransformError)?.copy_from_slice(plain);
                let inbound = Inbound { consumed, plain: plain.len(), is_end: self.is_ended };
                plain.shrink_to(BUFFER_KEPT);
                Ok(inbound)
            })
        });
        let opened = opened.unwrap_or(Err(TransformError));
        if opened.is_err() {
            // The library panicked, unless it said what is wrong.
            self.refusal.get_or_insert(failure::INTERNAL);
        }
        self.is_over |= self.refusal.is_some();
        opened
    }

    fn outbound(
        &mut self,
        plain: &[IoSlice<'_>],
        unread: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), TransformError> {
        if self.is_over {
            // An end or an alert was said: whatever comes behind it is for nobody.
            return Ok(());
        }
        if self.must_listen_first() {
            plain.iter().for_each(|piece| self.waiting.extend_from_slice(piece));
            return Ok(());
        }
        let sealed = guarded(|| {
            if let [one] = plain {
                return self.send(one, unread, wire);
            }
            PLAIN.with_borrow_mut(|joined| {
                joined.clear();
                plain.iter().for_each(|piece| joined.extend_from_slice(piece));
                let sealed = self.send(joined, unread, wire);
                joined.shrink_to(BUFFER_KEPT);
                sealed
            })
        });
        let sealed = sealed.unwrap_or(Err(TransformError));
        self.is_over |= sealed.is_err();
        sealed
    }

    fn finish(&mut self, unread: &mut [u8], wire: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_over, true) || self.must_listen_first() {
            return;
        }
        // Where it cannot be said, the end of the socket says it.
        let _ = guarded(|| {
            self.write(unread, wire, |traffic, wire| {
                append(wire, RECORD_OVERHEAD, |out| {
                    traffic.queue_close_notify(out).map_err(|error| too_small(&error))
                })
            })
        });
    }
}
