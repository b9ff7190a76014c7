//! What can be set, and every bound of the engine with its meaning.

use std::time::Duration;

/// How the engine talks to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where the kernel allows all of it, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// What an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverInUse {
    /// A ring of the engine's own.
    Uring,
    /// Plain calls.
    Epoll,
}

/// TCP keep-alive of accepted connections.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe; whole seconds, at least one.
    pub idle: Duration,
    /// Time between probes; whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered probes before the connection counts as dead.
    pub probes: u32,
}

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which backend.
    pub driver: Driver,
    /// Connections this thread may hold. io_uring lowers it to the process's descriptor limit for each of `rings`, the
    /// kernel's bound for one ring's table.
    pub slots_max: u32,
    /// io_uring: rings that the thread may have, 1 to [`RINGS_MAX`]. It has as many as `slots_max` needs.
    pub rings: u32,
    /// io_uring: connections of one ring, below the kernel's bound for them.
    pub ring_slots_max: u32,
    /// Bytes of one read buffer.
    pub read_buffer: usize,
    /// Read buffers of the thread, 1 to 256; also how many reads io_uring does in one call.
    pub read_buffers: usize,
    /// Bytes that may wait for one connection, tail and this turn together. `send` refuses above it.
    pub slot_out_max: usize,
    /// Bytes that may wait in the tails of all connections of the thread. `send` to a blocked connection refuses above
    /// it; a tail that passes it because the socket took less than a whole turn's output is kept and told with
    /// `Event::Overflow`. So the thread holds at most this and one turn's output.
    pub thread_out_max: usize,
    /// Reads in one `poll`, so that a few fast peers do not keep the others waiting.
    pub reads_per_turn: u32,
    /// Accepted connections in one `poll`.
    pub accepts_per_turn: u32,
    /// Steps of transforms that are much work (a signature in a TLS handshake) in one `poll`, so that a herd of newcomers does not
    /// keep those waiting that are there.
    pub costly_steps_per_turn: u32,
    /// Keep-alive, set on listeners and inherited.
    pub keep_alive: KeepAlive,
    /// How long sent data may stay unacknowledged (TCP_USER_TIMEOUT), set on listeners and inherited.
    pub user_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            driver: Driver::Auto,
            slots_max: 1 << 20,
            rings: 1,
            ring_slots_max: u32::MAX,
            read_buffer: 64 * 1024,
            read_buffers: 32,
            slot_out_max: 64 << 20,
            thread_out_max: 512 << 20,
            reads_per_turn: 128,
            accepts_per_turn: 64,
            costly_steps_per_turn: 8,
            keep_alive: KeepAlive {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(10),
                probes: 3,
            },
            user_timeout: Duration::from_secs(30),
        }
    }
}

/// Rings of one thread: at a common descriptor limit of 1,024 they still hold a quarter of a million connections.
pub const RINGS_MAX: u32 = 256;

/// Pause before accepting is tried again when nothing frees a slot.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Pieces of one vectored send; the kernel's own bound (UIO_MAXIOV).
pub(crate) const PIECES_MAX: usize = 1024;

/// The arena is given back above this capacity once a turn has left, so that one large turn is not kept for ever.
pub(crate) const ARENA_KEEP: usize = 1 << 20;

/// Entries for which the lists of a turn keep room: one turn that speaks to every connection is not paid for ever.
pub(crate) const LIST_KEEP: usize = 4096;

/// Room a transform's unused bytes must leave in a read buffer.
pub(crate) const READ_ROOM_MIN: usize = 4096;

impl Config {
    /// Brings sizes into the range the engine can work with.
    pub(crate) fn clamped(mut self) -> Config {
        self.read_buffers = self.read_buffers.clamp(1, 256);
        self.read_buffer = self.read_buffer.clamp(2 * READ_ROOM_MIN, 16 << 20);
        self.slots_max = self.slots_max.clamp(1, 1 << 24);
        self.rings = self.rings.clamp(1, RINGS_MAX);
        self.ring_slots_max = self.ring_slots_max.max(1);
        self.reads_per_turn = self.reads_per_turn.max(1);
        self.accepts_per_turn = self.accepts_per_turn.max(1);
        self.costly_steps_per_turn = self.costly_steps_per_turn.max(1);
        self
    }
}

/// What one `poll` may still do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnBudget {
    reads: u32,
    accepts: u32,
    costly_steps: u32,
}

impl TurnBudget {
    pub(crate) fn new(config: &Config) -> TurnBudget {
        TurnBudget {
            reads: config.reads_per_turn,
            accepts: config.accepts_per_turn,
            costly_steps: config.costly_steps_per_turn,
        }
    }

    /// Uses one read up; false when none is left.
    pub(crate) fn read(&mut self) -> bool {
        let left = self.reads > 0;
        self.reads = self.reads.saturating_sub(1);
        left
    }

    /// Uses one costly step up; false when none is left.
    pub(crate) fn costly_step(&mut self) -> bool {
        let left = self.costly_steps > 0;
        self.costly_steps = self.costly_steps.saturating_sub(1);
        left
    }

    /// Uses one accept up; false when none is left.
    pub(crate) fn accept(&mut self) -> bool {
        let left = self.accepts > 0;
        self.accepts = self.accepts.saturating_sub(1);
        left
    }
}
