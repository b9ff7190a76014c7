//! Every bound of a shard, with its meaning; what an operator sets is in [`Settings`].

use crate::wheel::{TICK_MS, Tick};
use pinwire_protocol::ws;

/// Milliseconds of silence after which a connection that opened no document is closed.
pub(crate) const SILENT_MS: u64 = 30_000;
/// Milliseconds until something that was refused for now is tried again.
pub(crate) const RETRY_MS: u64 = 1_000;
/// Milliseconds that a connection waits at most until this node has been told what it may admit of its app, and between two looks.
pub(crate) const SHARE_PATIENCE_MS: u64 = 3_000;
pub(crate) const SHARE_LOOK_MS: u64 = 100;

/// Bytes of direct replies to one connection in one turn; beyond it, it is read again in the next turn.
pub(crate) const REPLY_PER_TURN: usize = 256 << 10;
/// Received bytes of messages that count like one byte of reply: 4 MiB of messages of one connection in one turn.
pub(crate) const MESSAGE_BYTES_PER_REPLY_BYTE: usize = 16;
/// What merging or diffing for one step 1 counts like, besides the bytes that it goes through.
pub(crate) const STEP_1_WORK: usize = 4 << 10;
/// Received bytes held for a stalled connection: what was under way when reading was paused. More than a thread reads in one
/// turn (all of its read buffers, 2 MiB, may be one connection's), so that no honest client is closed for it.
pub(crate) const HELD_MAX: usize = 4 << 20;
/// Bytes of the arena from which on members that lag are left for the next turn.
pub(crate) const ARENA_SOFT_MAX: usize = 8 << 20;
/// Entries for which the lists of a turn keep room.
pub(crate) const LISTS_KEEP: usize = 1024;
/// Log bytes that one member that lags is sent in one turn.
pub(crate) const CATCH_UP_PER_TURN: usize = 512 << 10;

/// Keys of one Hocuspocus socket.
pub(crate) const KEYS_MAX: usize = 256;
/// Frames and bytes that one Hocuspocus socket may send before its documents are authorised.
pub(crate) const BUFFERED_FRAMES_MAX: usize = 64;
/// See [`BUFFERED_FRAMES_MAX`].
pub(crate) const BUFFERED_BYTES_MAX: usize = 256 << 10;
/// Frames of one session that may be under way to the thread that owns its document.
pub(crate) const UNDER_WAY_MAX: u32 = 64;
/// Bytes of them from which on no further frame is sent ahead.
pub(crate) const UNDER_WAY_BYTES_MAX: u32 = 256 << 10;
/// Routes to documents of other regions that a thread remembers; beyond it they are forgotten and asked for anew.
pub(crate) const ROUTES_MAX: usize = 65_536;
/// How often in a row a session's document is looked for anew before its client is asked to come again.
pub(crate) const REROUTES_MAX: u8 = 3;
/// Milliseconds after which other nodes are told again of everyone who is present here: should one have missed something,
/// a user who renews itself every 15 to 18 s is still seen there without a break.
pub(crate) const SAY_ALL_MS: u64 = 10_000;
/// Nodes that may hold one document besides this one.
pub(crate) const NODES_MAX: usize = 4_096;
/// Bytes of a base from which only what is lacking is taken when a document is loaded again; of a larger one all is.
pub(crate) const RELOAD_DIFF_MAX: usize = 4 << 20;

/// How long before its token's end a client is asked for a fresh one at the earliest, in milliseconds; of a short life it is the
/// last quarter.
pub(crate) const FRESH_TOKEN_MS: u64 = 30_000;
/// Held refusals per thread; beyond it handshakes are refused before the upgrade.
pub(crate) const HELD_REFUSALS_MAX: usize = 4_096;
/// Clients in a state vector that a peer sends.
pub(crate) const STATE_VECTOR_CLIENTS_MAX: usize = 1 << 17;

/// Bytes of a log's tail from which on it is compacted (or half the base, if that is more).
pub(crate) const COMPACT_MIN: usize = 64 << 10;
/// Bytes of a log's tail, or the size of the base if that is more, from which on local writers wait for the compaction that
/// is under way: it would otherwise lag behind them for ever.
pub(crate) const TAIL_WHILE_COMPACTING: usize = 8 << 20;
/// Milliseconds after which a writer is asked to come again when a log is full and cannot be compacted.
pub(crate) const FULL_RETRY_MS: u64 = 5_000;
/// A step 1 is answered on the data thread up to this many bytes and entries of log, else by a worker.
pub(crate) const FOLD_BYTES_MAX: usize = 32 << 10;
/// See [`FOLD_BYTES_MAX`].
pub(crate) const FOLD_ENTRIES_MAX: u32 = 64;
/// A client that has nothing is sent base and tail as they stand, rather than wait for a compaction, up to so many entries:
/// about what half a base of 2 MiB, at which compaction is due, has of the smallest edits.
pub(crate) const TAIL_SENT_MAX: u32 = 32_768;
/// Bytes of a document that wait for the session store; beyond it edits are dropped until the store is back.
pub(crate) const UNSTORED_MAX: u32 = 8 << 20;
/// The same, all documents of a thread together.
pub(crate) const UNSTORED_OF_THREAD_MAX: u64 = 256 << 20;

/// Payloads from this size on are shared between sends, not copied.
pub(crate) const SHARED_MIN: usize = 16 << 10;
/// Longest message compressed on a data thread: about a millisecond.
pub(crate) const COMPRESS_MAX: usize = 64 << 10;

/// The most that an edit waits for others, in microseconds.
pub(crate) const GATHER_US_MAX: u64 = 10_000;
/// So many times as long presence waits on a node that is to do with less.
pub(crate) const THRIFTY_TIMES: u64 = 4;
/// Documents of fewer members wait as those of so many: their clients' own turns are what edits are to be gathered over.
pub(crate) const GATHER_MEMBERS_MIN: usize = 20;
/// Log bytes that wait for others: with more, calls are no longer what a fan-out costs.
pub(crate) const GATHER_BYTES_MAX: u32 = 64 << 10;

/// Cost of merging one update on this class of machine, in nanoseconds.
pub(crate) const MERGE_NS_PER_UPDATE: usize = 500;
/// Bytes that merging saves per update: a frame's header and an update's own frame of counts.
pub(crate) const MERGE_SAVES_BYTES: usize = 14;
/// What a byte costs per member, in thousandths of a nanosecond: one copy into the kernel and one in the peer's.
pub(crate) const PS_PER_BYTE_AND_MEMBER: usize = 150;

const _: () = assert!(FOLD_BYTES_MAX <= COMPACT_MIN, "what a data thread folds is small");
const _: () = assert!(CATCH_UP_PER_TURN < ARENA_SOFT_MAX);
const _: () = assert!(UNSTORED_MAX as usize <= super::document::log::TAIL_MAX);

/// What an operator may set. Times are in ticks of the wheel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of this thread, from 0.
    pub thread: u16,
    /// Threads of the node.
    pub threads: u16,
    /// Decides where documents live; the same on all threads of a node.
    pub placement_seed: u64,
    /// Decides hashing and jitter of this thread.
    pub seed: u64,
    /// Bounds of WebSocket messages.
    pub ws: ws::Limits,
    /// Whether `.` and `:` may stand in a document's name.
    pub names: pinwire_protocol::document::name::NameRules,
    /// From the upgrade to the first frame, and from a first frame to Auth.
    pub first_frame: Tick,
    /// Silence after which the peer is pinged.
    pub ping: Tick,
    /// From the ping to anything received.
    pub pong: Tick,
    /// Longest time without a data frame.
    pub idle_frame: Tick,
    /// Time without a byte taken after which a reader is closed.
    pub slow_reader: Tick,
    /// How long a peer has to answer our close frame, and again to close its side after both are exchanged.
    pub close: Tick,
    /// Milliseconds a document outlives its last member.
    pub grace_ms: u64,
    /// Least time between two fan-outs of a document whose last one carried several edits, in microseconds for each member;
    /// 10 ms at most. With twice what a send takes, a document alone has its thread half busy with sends,
    /// and edits that come meanwhile share them.
    pub gather_us_per_member: u32,
    /// Smallest message that is compressed, `usize::MAX` for none.
    pub compress_min: usize,
    /// Sessions end with their tokens, unless a fresh one comes in time.
    pub end_on_expiry: bool,
    /// The session store outlives documents here, and other nodes may have them too: a document that nobody has open any more
    /// stays, whatever its grace, until the store has all of it.
    pub is_shared: bool,
}

impl Settings {
    /// Bounds of what a peer may send before any token of its was found good.
    pub(crate) fn ws_before_auth(&self) -> ws::Limits {
        ws::Limits {
            max_frame: self.ws.max_frame.min(BUFFERED_BYTES_MAX as u64),
            max_message: self.ws.max_message.min(BUFFERED_BYTES_MAX),
            ..self.ws
        }
    }
}

/// Milliseconds as ticks, rounded up.
#[must_use]
pub fn ticks(ms: u64) -> Tick {
    ms.div_ceil(TICK_MS) as Tick
}
