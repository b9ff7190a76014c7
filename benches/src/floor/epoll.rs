//! The epoll driver: edge-triggered, a system call for each read and send, and one buffer for all connections.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

use super::{Handler, Next, Output, PENDING_MAX, READ_MAX};

const EVENTS: usize = 1024;
const LISTENER: u64 = u64::MAX;

/// A connection; its number is its descriptor's.
struct Conn {
    fd: OwnedFd,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    /// What the socket did not take.
    pending: VecDeque<u8>,
}

struct Driver<'a, H> {
    epoll: OwnedFd,
    conns: Vec<Option<Conn>>,
    buffer: Box<[u8]>,
    out: Output,
    handler: &'a mut H,
}

/// Serves until it is told to stop.
///
/// # Errors
/// The kernel refuses something that it does not refuse for a connection's sake.
pub fn serve<H: Handler>(
    listener: &TcpListener,
    handler: &mut H,
    is_over: impl Fn(&H) -> bool,
) -> Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    sockopt::set_tcp_nodelay(listener, true)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    let buffer = vec![0; READ_MAX].into_boxed_slice();
    let mut driver = Driver { epoll, conns: Vec::new(), buffer, out: Output::default(), handler };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    while !is_over(driver.handler) {
        match epoll::wait(&driver.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let (about, flags) = (event.data.u64(), event.flags);
            if about == LISTENER {
                driver.accept(listener)?;
                continue;
            }
            let conn = about as u32;
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                driver.read(conn, flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR));
            }
            if flags.contains(EventFlags::OUT) {
                driver.send_pending(conn);
            }
        }
    }
    Ok(())
}

impl<H: Handler> Driver<'_, H> {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let fd = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let conn = fd.as_raw_fd() as u32;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &fd, EventData::new_u64(conn.into()), flags)?;
            if self.conns.len() <= conn as usize {
                self.conns.resize_with(conn as usize + 1, || None);
            }
            self.conns[conn as usize] = Some(Conn { fd, rest: Vec::new(), pending: VecDeque::new() });
            self.handler.opened(conn);
        }
    }

    /// Reads until the socket has no more. A read that did not fill the buffer took all there was, and what comes later is a
    /// new edge; only the end of the input, which the event has told, must still be fetched.
    fn read(&mut self, conn: u32, is_ending: bool) {
        loop {
            let Some(Some(state)) = self.conns.get_mut(conn as usize) else { return };
            let kept = state.rest.len();
            self.buffer[..kept].copy_from_slice(&state.rest);
            let received = match recv(&state.fd, &mut self.buffer[kept..], RecvFlags::empty()) {
                Ok((_, 0)) => return self.close(conn),
                Ok((_, received)) => received,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(_) => return self.close(conn),
            };
            let end = kept + received;
            let next = self.handler.received(conn, &mut self.buffer[..end], &mut self.out);
            if let Next::Used(used) = next {
                state.rest.clear();
                state.rest.extend_from_slice(&self.buffer[used..end]);
            }
            self.send_all();
            if next == Next::Close {
                return self.close(conn);
            }
            if end < self.buffer.len() && !is_ending {
                return;
            }
        }
    }

    fn send_all(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for (conn, start, end) in out.sends.drain(..) {
            self.send(conn, &out.bytes[start as usize..end as usize]);
        }
        out.bytes.clear();
        self.out = out;
    }

    fn send(&mut self, conn: u32, bytes: &[u8]) {
        let Some(Some(state)) = self.conns.get_mut(conn as usize) else { return };
        let sent = if state.pending.is_empty() {
            match send(&state.fd, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                // Its end is an event of its own.
                Err(_) => return,
            }
        } else {
            0
        };
        if sent < bytes.len() {
            state.pending.extend(&bytes[sent..]);
            if state.pending.len() > PENDING_MAX {
                self.close(conn);
            }
        }
    }

    fn send_pending(&mut self, conn: u32) {
        let Some(Some(state)) = self.conns.get_mut(conn as usize) else { return };
        while !state.pending.is_empty() {
            match send(&state.fd, state.pending.as_slices().0, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(state.pending.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Dropping the only descriptor takes it out of the epoll set too.
    fn close(&mut self, conn: u32) {
        if self.conns.get_mut(conn as usize).and_then(Option::take).is_some() {
            self.handler.closed(conn);
        }
    }
}
