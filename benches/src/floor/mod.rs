//! Floors: WebSocket servers that do as little as a server can, to hold others against.
//!
//! Two drivers, [`epoll`] and [`uring`], run the same [`Service`]: echo on `/echo`, and on `/t/N` what a member of topic `N`
//! sends goes to its other members, unmerged, a send for each frame and receiver. No limits, no deadlines, no compression, no
//! check of UTF-8: what they leave out, they leave out on purpose.

pub mod epoll;
pub mod refusing;
mod service;
pub mod uring;
mod wire;

use std::net::TcpListener;

use anyhow::Result;
use clap::ValueEnum;

pub use service::Service;

/// Bytes that are read at most at once; a longer frame ends its connection.
pub const READ_MAX: usize = 64 << 10;
/// Bytes that may wait for a connection whose socket is full; more end it.
const PENDING_MAX: usize = 16 << 20;

/// How a floor talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Floor {
    /// Edge-triggered epoll, a system call for each read and send.
    Epoll,
    /// io_uring, a turn's reads and sends in a call each.
    Uring,
}

/// Serves for ever, or until the last client is gone.
///
/// # Errors
/// The kernel refuses something.
pub fn serve(floor: Floor, listener: TcpListener, until_idle: bool) -> Result<()> {
    let mut service = Service::default();
    match floor {
        Floor::Epoll => epoll::serve(&listener, &mut service, |service| until_idle && service.is_idle()),
        Floor::Uring => {
            let mut ring = uring::Ring::new()?;
            ring.listen(listener)?;
            while !(until_idle && service.is_idle()) {
                ring.turn(&mut service)?;
            }
            Ok(())
        }
    }
}

/// What is done with connections, which drivers know by small numbers.
pub trait Handler {
    /// A connection stands.
    fn opened(&mut self, conn: u32);
    /// Bytes came: the unused rest of earlier ones in front, new ones behind.
    fn received(&mut self, conn: u32, bytes: &mut [u8], out: &mut Output) -> Next;
    /// The connection is gone; its number may come again.
    fn closed(&mut self, conn: u32);
}

/// What a handler made of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes were used; the rest comes again in front of the next ones.
    Used(usize),
    /// The connection is over once what was queued is sent.
    Close,
}

/// What is to be sent: each entry by a send of its own, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// The bytes; entries name parts of them, and several may name the same.
    pub bytes: Vec<u8>,
    /// To whom: connection, first byte, end.
    pub sends: Vec<(u32, u32, u32)>,
}

impl Output {
    /// Queues the bytes from `start` on for a connection.
    pub fn send(&mut self, conn: u32, start: usize) {
        if start < self.bytes.len() {
            self.sends.push((conn, start as u32, self.bytes.len() as u32));
        }
    }
}
