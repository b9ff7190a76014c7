//! A socket whose bytes go through the transform that it had on its data thread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pinwire_engine::{Carried, Transform};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes asked of the socket at a time: a record of TLS and some more.
const READ: usize = 32 << 10;
/// Bytes taken of a write at a time.
const WRITE: usize = 16 << 10;
/// Received bytes that may wait for the rest of a message: more than a record of TLS and a message of its handshake.
const WIRE_MAX: usize = 128 << 10;

/// See the module's documentation.
pub(crate) struct Sealed<S: AsyncWrite + Unpin> {
    stream: S,
    transform: Box<dyn Transform>,
    /// Received bytes that the transform could not use yet.
    wire: Vec<u8>,
    /// Opened bytes that were not read yet.
    plain: Vec<u8>,
    /// Sealed bytes that the socket did not take yet.
    outgoing: Vec<u8>,
    is_finished: bool,
    /// The peer said that nothing follows.
    has_ended: bool,
}

impl<S: AsyncWrite + Unpin> Sealed<S> {
    pub(crate) fn new(stream: S, carried: Carried) -> Self {
        let (mut transform, mut wire) = carried.into_parts();
        let mut outgoing = Vec::new();
        // Nothing in there is whole; but the peer's end may have come before the socket did, and is told again.
        let has_ended = transform.inbound(&mut wire, &mut outgoing).is_ok_and(|step| step.is_end);
        Self { stream, transform, wire, plain: Vec::new(), outgoing, is_finished: false, has_ended }
    }
}

impl<S: AsyncWrite + Unpin> Sealed<S> {
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sealed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.plain.is_empty() && !this.has_ended {
            let start = this.wire.len();
            this.wire.resize(start + READ, 0);
            let mut room = ReadBuf::new(&mut this.wire[start..]);
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut room);
            let count = room.filled().len();
            this.wire.truncate(start + count);
            ready!(read)?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut reply = Vec::new();
            let step = this.transform.inbound(&mut this.wire, &mut reply);
            this.outgoing.append(&mut reply);
            // What it answers leaves with the next write at the latest.
            let _ = this.poll_outgoing(cx)?;
            let step = step.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            this.plain.extend_from_slice(&this.wire[..step.plain]);
            this.wire.drain(..step.consumed);
            this.has_ended = step.is_end;
            if this.wire.len() > WIRE_MAX {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        let count = this.plain.len().min(buf.remaining());
        buf.put_slice(&this.plain[..count]);
        this.plain.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sealed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_outgoing(cx))?;
        let taken = &buf[..buf.len().min(WRITE)];
        let sealed = this.transform.outbound(&[io::IoSlice::new(taken)], &mut this.wire, &mut this.outgoing);
        sealed.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        // It is taken whatever the socket says now: the next call tells.
        let _ = this.poll_outgoing(cx)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.is_finished, true) {
            this.transform.finish(&mut this.wire, &mut this.outgoing);
        }
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// A connection that is dropped, at a deadline or when the node stops, still says its end if the socket takes it at once.
impl<S: AsyncWrite + Unpin> Drop for Sealed<S> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.transform.finish(&mut self.wire, &mut self.outgoing);
            let _ = self.poll_outgoing(&mut Context::from_waker(Waker::noop()));
        }
    }
}
