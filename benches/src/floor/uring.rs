//! The io_uring driver: direct descriptors, one poll for each connection, and two calls a turn. The first sends what the last
//! turn queued and waits, the second reads what has something to read.
//!
//! Reads and sends never wait in the kernel: they are done when the call that submits them returns. So nothing in the kernel
//! refers to our memory between calls, and a send that took all it was given needs no completion.
#![allow(unsafe_code, reason = "ring operations take raw pointers; every use has its SAFETY note")]

use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Result, bail};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use rustix::process::{Resource, getrlimit};

use super::{Handler, Next, Output, PENDING_MAX, READ_MAX};

const ENTRIES: u32 = 4096;
const CQ_ENTRIES: u32 = 8 * ENTRIES;
/// Reads in one call, each into a buffer of its own.
const READS: usize = 32;

/// What a completion is of; below it stand a generation and a number.
const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = 0xff_ffff;
const IGNORED: u64 = 0;
const ACCEPT: u64 = 1;
const POLL_IN: u64 = 2;
const POLL_OUT: u64 = 3;
const READ: u64 = 4;
const SEND: u64 = 5;
const FLUSH: u64 = 6;

fn tag(kind: u64, generation: u32, number: u32) -> u64 {
    kind << KIND_SHIFT | u64::from(generation & GENERATION_MASK) << GENERATION_SHIFT | u64::from(number)
}

/// A connection; its number is its index in the ring's table.
#[derive(Default)]
struct Conn {
    /// Tells it from the last one with its number.
    generation: u32,
    is_open: bool,
    is_ready: bool,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    /// What the socket did not take.
    pending: Vec<u8>,
}

/// A ring and its connections.
pub struct Ring {
    ring: IoUring,
    listener: Option<TcpListener>,
    conns: Vec<Conn>,
    ready: Vec<u32>,
    buffers: Box<[u8]>,
    /// Of the reads of one call: connection, bytes kept in front, result.
    reads: Vec<(u32, usize, i32)>,
    out: Output,
    /// Sends of `out` that took less than they were given: which, and how much they took.
    short: Vec<(u32, i32)>,
    closing: Vec<u32>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("conns", &self.conns.len()).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring of the calling thread, which alone may use it.
    ///
    /// # Errors
    /// The kernel does not allow one.
    pub fn new() -> Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .build(ENTRIES)?;
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
        ring.submitter().register_files_sparse(u32::try_from(descriptors)?)?;
        Ok(Self {
            ring,
            listener: None,
            conns: Vec::new(),
            ready: Vec::new(),
            buffers: vec![0; READS * READ_MAX].into_boxed_slice(),
            reads: Vec::new(),
            out: Output::default(),
            short: Vec::new(),
            closing: Vec::new(),
        })
    }

    /// Accepts from the listener from the next turn on.
    ///
    /// # Errors
    /// An option cannot be set.
    pub fn listen(&mut self, listener: TcpListener) -> Result<()> {
        // Connections inherit it.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        self.push_accept(listener.as_raw_fd())?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Takes in a connected socket under the next number that was never used: for clients, which accept nothing.
    ///
    /// # Errors
    /// The table is full.
    pub fn adopt(&mut self, socket: BorrowedFd<'_>, handler: &mut impl Handler) -> Result<u32> {
        let conn = u32::try_from(self.conns.len())?;
        self.ring.submitter().register_files_update(conn, &[socket.as_raw_fd()])?;
        self.open(conn, handler)?;
        Ok(conn)
    }

    /// What is to be sent with the next turn, beside what handlers queue.
    pub fn output(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Sends what was queued, waits until something happens, and reads.
    ///
    /// # Errors
    /// The ring takes no more calls.
    pub fn turn(&mut self, handler: &mut impl Handler) -> Result<()> {
        self.push_sends()?;
        self.enter(usize::from(self.ready.is_empty()))?;
        self.drain(handler)?;
        self.keep_unsent()?;
        self.out.sends.clear();
        self.out.bytes.clear();
        let ready = std::mem::take(&mut self.ready);
        for some in ready.chunks(READS) {
            self.read(some, handler)?;
        }
        Ok(())
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        // SAFETY: callers see to what the entry points to, as each of them says.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter(0)?;
        }
        Ok(())
    }

    fn enter(&self, want: usize) -> Result<()> {
        match self.ring.submit_and_wait(want) {
            Ok(_) => Ok(()),
            // Interrupted, or completions must be taken first: the next turn goes on.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn push_accept(&mut self, listener: i32) -> Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build();
        self.push(&entry.user_data(tag(ACCEPT, 0, 0)))
    }

    fn open(&mut self, conn: u32, handler: &mut impl Handler) -> Result<()> {
        if self.conns.len() <= conn as usize {
            self.conns.resize_with(conn as usize + 1, Conn::default);
        }
        let state = &mut self.conns[conn as usize];
        *state = Conn { generation: state.generation + 1, is_open: true, ..Conn::default() };
        handler.opened(conn);
        self.push_poll(conn, POLL_IN)
    }

    fn push_poll(&mut self, conn: u32, kind: u64) -> Result<()> {
        let generation = self.conns[conn as usize].generation;
        let mask = if kind == POLL_IN { libc::POLLIN | libc::POLLRDHUP } else { libc::POLLOUT };
        let entry = opcode::PollAdd::new(Fixed(conn), mask as u32).multi(kind == POLL_IN).build();
        self.push(&entry.user_data(tag(kind, generation, conn)))
    }

    fn push_sends(&mut self) -> Result<()> {
        for number in 0..self.out.sends.len() {
            let (conn, start, end) = self.out.sends[number];
            let bytes = &self.out.bytes[start as usize..end as usize];
            let state = &mut self.conns[conn as usize];
            if !state.is_open && !self.closing.contains(&conn) {
                continue;
            }
            if !state.pending.is_empty() {
                state.pending.extend_from_slice(bytes);
                if state.pending.len() > PENDING_MAX {
                    bail!("a client does not read: this floor keeps no more for it");
                }
                continue;
            }
            // SAFETY (of the push): `out.bytes` is not touched before `turn` has submitted this, and the send does not wait.
            let entry = send(conn, bytes).flags(Flags::SKIP_SUCCESS).user_data(tag(SEND, 0, number as u32));
            self.push(&entry)?;
        }
        for conn in std::mem::take(&mut self.closing) {
            let poll = tag(POLL_IN, self.conns[conn as usize].generation, conn);
            let cancel = opcode::AsyncCancel::new(poll).build();
            self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(tag(IGNORED, 0, 0)))?;
            let close = opcode::Close::new(Fixed(conn)).build();
            self.push(&close.flags(Flags::SKIP_SUCCESS).user_data(tag(IGNORED, 0, 0)))?;
        }
        Ok(())
    }

    fn drain(&mut self, handler: &mut impl Handler) -> Result<()> {
        while let Some(entry) = { self.ring.completion().next() } {
            let (about, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            let number = about as u32;
            let generation = (about >> GENERATION_SHIFT) as u32 & GENERATION_MASK;
            let is_current = |conns: &[Conn]| {
                let state = conns.get(number as usize);
                state.is_some_and(|state| state.is_open && state.generation & GENERATION_MASK == generation)
            };
            match about >> KIND_SHIFT {
                ACCEPT => {
                    if result >= 0 {
                        self.open(result as u32, handler)?;
                    }
                    if !cqueue::more(flags) {
                        let Some(listener) = &self.listener else { bail!("an accept of nobody") };
                        self.push_accept(listener.as_raw_fd())?;
                    }
                }
                POLL_IN if is_current(&self.conns) => {
                    let state = &mut self.conns[number as usize];
                    if !std::mem::replace(&mut state.is_ready, true) {
                        self.ready.push(number);
                    }
                    if !cqueue::more(flags) {
                        self.push_poll(number, POLL_IN)?;
                    }
                }
                POLL_OUT if is_current(&self.conns) => self.flush(number)?,
                READ => self.reads[number as usize].2 = result,
                SEND => self.short.push((number, result)),
                FLUSH if is_current(&self.conns) => {
                    let pending = &mut self.conns[number as usize].pending;
                    pending.drain(..usize::try_from(result).unwrap_or(0));
                    if !pending.is_empty() {
                        self.push_poll(number, POLL_OUT)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads from some connections, one call for all.
    fn read(&mut self, ready: &[u32], handler: &mut impl Handler) -> Result<()> {
        self.reads.clear();
        for (number, &conn) in (0_u32..).zip(ready) {
            let state = &mut self.conns[conn as usize];
            state.is_ready = false;
            let kept = state.rest.len();
            let buffer = &mut self.buffers[number as usize * READ_MAX..][..READ_MAX];
            buffer[..kept].copy_from_slice(&state.rest);
            let space = &mut buffer[kept..];
            let entry = opcode::Recv::new(Fixed(conn), space.as_mut_ptr(), space.len() as u32)
                .flags(libc::MSG_DONTWAIT)
                .build();
            self.reads.push((conn, kept, -libc::EAGAIN));
            // SAFETY (of the push): each read has a buffer of its own, which nobody touches before its completion is there.
            self.push(&entry.user_data(tag(READ, 0, number)))?;
        }
        self.enter(self.reads.len())?;
        self.drain(handler)?;
        for number in 0..self.reads.len() {
            let (conn, kept, result) = self.reads[number];
            if !self.conns[conn as usize].is_open || result == -libc::EAGAIN {
                continue;
            }
            if result <= 0 {
                self.close(conn, handler);
                continue;
            }
            let end = kept + result as usize;
            let bytes = &mut self.buffers[number * READ_MAX..][..end];
            match handler.received(conn, bytes, &mut self.out) {
                Next::Used(used) => {
                    let state = &mut self.conns[conn as usize];
                    state.rest.clear();
                    state.rest.extend_from_slice(&bytes[used..]);
                    // A read that did not fill the buffer took all there was: more is a new event.
                    if end == READ_MAX && !std::mem::replace(&mut state.is_ready, true) {
                        self.ready.push(conn);
                    }
                }
                Next::Close => self.close(conn, handler),
            }
        }
        Ok(())
    }

    /// Keeps what sockets did not take.
    fn keep_unsent(&mut self) -> Result<()> {
        let short = std::mem::take(&mut self.short);
        for (at, &(number, taken)) in short.iter().enumerate() {
            let (conn, start, end) = self.out.sends[number as usize];
            let state = &mut self.conns[conn as usize];
            if !state.is_open || taken < 0 && taken != -libc::EAGAIN {
                continue;
            }
            let of_conn = |number: u32| self.out.sends[number as usize].0 == conn;
            let later = self.out.sends[number as usize + 1..].iter().filter(|send| send.0 == conn).count();
            let later_short = short[at + 1..].iter().filter(|(number, _)| of_conn(*number)).count();
            let has_overtaken = state.pending.is_empty() && later != later_short;
            if has_overtaken {
                bail!("a full socket took a later frame: this floor cannot carry the load");
            }
            let left = start as usize + usize::try_from(taken).unwrap_or(0)..end as usize;
            let is_first = state.pending.is_empty();
            state.pending.extend_from_slice(&self.out.bytes[left]);
            if is_first {
                self.push_poll(conn, POLL_OUT)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, conn: u32) -> Result<()> {
        let state = &self.conns[conn as usize];
        // SAFETY (of the push): it is submitted here, before anything touches the bytes, and does not wait.
        let entry = send(conn, &state.pending).user_data(tag(FLUSH, state.generation, conn));
        self.push(&entry)?;
        self.enter(0)
    }

    fn close(&mut self, conn: u32, handler: &mut impl Handler) {
        let state = &mut self.conns[conn as usize];
        if std::mem::take(&mut state.is_open) {
            self.closing.push(conn);
            handler.closed(conn);
        }
    }
}

/// Sends that wait for nothing, and fail where they would take only a part: then there is a completion that says how much.
fn send(conn: u32, bytes: &[u8]) -> Entry {
    let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    opcode::Send::new(Fixed(conn), bytes.as_ptr(), bytes.len() as u32).flags(flags).build()
}
