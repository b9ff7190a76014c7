//! One TCP connection: bytes under way in both directions, and the two buffers in which they wait when somebody is slow.

use super::wire::{Reader, Writer};
use std::collections::VecDeque;

/// Number of a connection; never used twice in a run.
pub(super) type SocketId = usize;

/// Which shard has the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(usize, u32),
    /// Between two threads.
    Travelling,
    Closed,
}

/// How fast the client reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes that the kernels hold for a client that does not read.
    pub(super) capacity: usize,
    /// Most bytes a client takes at once.
    pub(super) read: usize,
    /// Longest time between two reads, in milliseconds.
    pub(super) delay_ms: u64,
}

pub(super) struct Socket {
    pub(super) device: usize,
    pub(super) place: Place,
    pub(super) pace: Pace,
    pub(super) opened_ms: u64,

    /// Bytes that reached the server's kernel.
    pub(super) arrived: VecDeque<u8>,
    /// The client's FIN is behind them.
    pub(super) fin_arrived: bool,
    /// The server's thread was told of the end.
    pub(super) end_reported: bool,
    pub(super) is_paused: bool,
    /// A read was under way when the server paused: it delivers once more.
    pub(super) may_overrun: bool,
    /// Arrival of what the client sent last: order is kept.
    pub(super) last_arrival_ms: u64,
    /// When the server last received anything.
    pub(super) last_received_ms: u64,

    /// Bytes the server queued and its kernel does not take yet.
    pub(super) tail: VecDeque<u8>,
    /// Bytes on their way to the client.
    pub(super) kernel: VecDeque<u8>,
    /// The server was told that it is blocked.
    pub(super) is_blocked: bool,
    pub(super) was_ever_blocked: bool,
    pub(super) is_finishing: bool,
    pub(super) read_scheduled: bool,
    /// When the server's kernel last took a byte.
    pub(super) last_taken_ms: u64,
    /// Decodes what the server queues, whether or not anyone reads it.
    pub(super) audit: Reader,
    pub(super) closed_with: Option<(u16, String)>,
    /// The server sent a data frame.
    pub(super) was_greeted: bool,

    /// The client still has its end.
    pub(super) client_is_there: bool,
    /// The client does not read, and answers nothing.
    pub(super) frozen_until_ms: u64,
    /// The network lost the connection and told nobody.
    pub(super) is_cut: bool,
    pub(super) client_closing: bool,
    pub(super) ever_troubled: bool,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl Socket {
    pub(super) fn new(device: usize, place: Place, pace: Pace, deflate: bool, now_ms: u64) -> Self {
        Self {
            device,
            place,
            pace,
            opened_ms: now_ms,
            arrived: VecDeque::new(),
            fin_arrived: false,
            end_reported: false,
            is_paused: false,
            may_overrun: false,
            last_arrival_ms: now_ms,
            last_received_ms: now_ms,
            tail: VecDeque::new(),
            kernel: VecDeque::new(),
            is_blocked: false,
            was_ever_blocked: false,
            is_finishing: false,
            read_scheduled: false,
            last_taken_ms: now_ms,
            audit: Reader::new(deflate),
            closed_with: None,
            was_greeted: false,
            client_is_there: true,
            frozen_until_ms: 0,
            is_cut: false,
            client_closing: false,
            ever_troubled: false,
            reader: Reader::new(deflate),
            writer: Writer::new(deflate),
        }
    }

    /// Moves what fits from the server's tail to the kernel; true if a byte was taken.
    pub(super) fn fill_kernel(&mut self, now_ms: u64) -> bool {
        let room = self.pace.capacity.saturating_sub(self.kernel.len()).min(self.tail.len());
        if self.is_cut && self.kernel.len() >= self.pace.capacity {
            return false;
        }
        self.kernel.extend(self.tail.drain(..room));
        if room > 0 {
            self.last_taken_ms = now_ms;
        }
        room > 0
    }

    /// What the client reads now.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let len = most.min(self.kernel.len());
        self.kernel.drain(..len).collect()
    }

    /// True once the client has everything and the server ended its side.
    pub(super) fn is_at_eof(&self) -> bool {
        let server_is_done = self.is_finishing || self.place == Place::Closed;
        server_is_done && self.kernel.is_empty() && (self.tail.is_empty() || self.place == Place::Closed)
    }

    pub(super) fn place_on(&self, thread: usize) -> Option<u32> {
        match self.place {
            Place::At(at, slot) if at == thread => Some(slot),
            _ => None,
        }
    }
}
