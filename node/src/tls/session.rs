//! One connection's TLS, between the engine's reads and writes.

use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::Arc;

use pinwire_engine::{Inbound, Transform, TransformError};
use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

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

/// A server's side of a TLS connection.
pub(crate) struct Session(UnbufferedServerConnection);

impl Session {
    /// A connection of which nothing was read yet.
    ///
    /// # Errors
    /// The library refuses the configuration.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        UnbufferedServerConnection::new(config).map(Self)
    }

    /// Opens what stands in `wire`; returns how much of it is dealt with.
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TransformError> {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.0.process_tls_records(&mut wire[consumed..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| refused(&error))?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => append_encoded(reply, &mut encode),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                // Early data is not offered, and whatever else there is is for no server.
                Ok(_) => is_done = true,
                Err(error) => {
                    self.take_alert(reply);
                    return Err(refused(&error));
                }
            }
            consumed += discard;
            if is_done {
                return Ok(consumed);
            }
        }
    }

    /// What the peer is told about its mistake.
    fn take_alert(&mut self, reply: &mut Vec<u8>) {
        while let Ok(ConnectionState::EncodeTlsData(mut encode)) = self.0.process_tls_records(&mut []).state {
            append_encoded(reply, &mut encode);
        }
    }

    /// Lets `write` write when the connection may send; what has to leave before goes before it. After the end nothing is
    /// written.
    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>),
    ) {
        loop {
            match self.0.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return write(&mut traffic, wire),
                Ok(ConnectionState::EncodeTlsData(mut encode)) => append_encoded(wire, &mut encode),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

fn refused(error: &rustls::Error) -> TransformError {
    tracing::debug!(%error, "TLS refused a peer's bytes");
    TransformError
}

fn append_encoded(out: &mut Vec<u8>, encode: &mut EncodeTlsData<'_, ServerConnectionData>) {
    append(out, RECORD_OVERHEAD, |out| match encode.encode(out) {
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
fn append(out: &mut Vec<u8>, room: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) {
    let start = out.len();
    let mut room = room;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            Err(Some(required)) if required > room => room = required,
            Err(_) => return out.truncate(start),
        }
    }
}

impl Transform for Session {
    fn inbound(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) -> Result<Inbound, TransformError> {
        PLAIN.with_borrow_mut(|plain| {
            plain.clear();
            let consumed = self.open(wire, plain, reply)?;
            // Opened records are shorter than sealed ones: they fit in what was consumed.
            wire.get_mut(..plain.len()).ok_or(TransformError)?.copy_from_slice(plain);
            let inbound = Inbound { consumed, plain: plain.len() };
            plain.shrink_to(BUFFER_KEPT);
            Ok(inbound)
        })
    }

    fn outbound(&mut self, plain: &[IoSlice<'_>], wire: &mut Vec<u8>) {
        let seal = |bytes: &[u8], session: &mut Self, wire: &mut Vec<u8>| {
            session.write(wire, |traffic, wire| {
                let room = bytes.len() + bytes.len().div_ceil(RECORD_MAX).max(1) * RECORD_OVERHEAD;
                append(wire, room, |out| traffic.encrypt(bytes, out).map_err(|error| too_small(&error)));
            });
        };
        if let [one] = plain {
            return seal(one, self, wire);
        }
        PLAIN.with_borrow_mut(|joined| {
            joined.clear();
            plain.iter().for_each(|piece| joined.extend_from_slice(piece));
            seal(joined, self, wire);
            joined.shrink_to(BUFFER_KEPT);
        });
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        self.write(wire, |traffic, wire| {
            append(wire, RECORD_OVERHEAD, |out| {
                traffic.queue_close_notify(out).map_err(|error| too_small(&error))
            });
        });
    }
}
