//! The node and its data threads in numbers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::standing::Standing;

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Of the program.
    pub version: String,
    /// The region that it serves.
    pub region: String,
    /// Its name within the region. Missing from nodes that do not tell it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it started.
    #[schema(format = DateTime)]
    pub started: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Whether new clients may come.
    pub status: Status,
    /// How full it is, and what comes of that. Missing from nodes that do not tell it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// How its data threads talk to the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// SHA-256 of the configuration in force, in hexadecimal: nodes that are configured alike have the same. Missing where
    /// there is no configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// Most connections of the node.
    pub max_connections: u32,
    /// Data threads.
    pub threads: u32,
    /// Sums over all data threads that answered.
    pub totals: Counts,
    /// How far it is on its way out; missing while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The last process that was started to take over, and what became of it; in the process that has, itself. Missing if there
    /// was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// How it stands with its region's name; missing where the nodes do not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// What became of whoever dialled it. Missing from nodes that do not tell it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// What the kernel knows of the process.
    pub process: Process,
    /// A data thread did not answer in time: what is told lacks its part.
    pub is_partial: bool,
}

/// What became of whoever dialled a node: totals since its start, but for sessions that are carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// Connections that were upgraded and not told at once to come again, whatever became of them then.
    pub upgraded: u64,
    /// Clients that were sent to another region.
    pub redirected: u64,
    /// Whoever was turned away, by where and why; what never happened is left out.
    pub turned_away: Vec<TurnedAway>,
    /// Sessions of this node's clients that are carried to another region, now.
    pub carried_out: u64,
    /// Sessions of other regions' clients that are carried to this node, now.
    pub carried_in: u64,
}

/// How often somebody was turned away for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnedAway {
    /// Where: in the `tls` or the WebSocket `handshake`, for the `token`, or as a `session`.
    pub at: String,
    /// Why, as the metrics have it.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Whether new clients may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything works.
    Healthy,
    /// Serves, but something it relies on is away.
    Degraded,
    /// Takes no new clients until load falls.
    Overloaded,
    /// Takes no new clients any more.
    Draining,
}

/// How far a node is on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Where.
    pub stage: DrainStage,
    /// Since when.
    #[schema(format = DateTime)]
    pub since: String,
    /// Connections that it had then.
    pub connections_before: u64,
    /// Sessions that nodes of other regions carry here, and that are to be closed, too.
    #[serde(default)]
    pub carried: u64,
    /// When it is over at the latest; missing until its addresses are out of DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub deadline: Option<String>,
}

/// Where a node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainStage {
    /// Its addresses are being taken out of DNS; it takes who comes.
    LeavingDns,
    /// They are out, and it still takes who comes.
    Leaving,
    /// It takes nobody, and closes its clients by and by.
    Closing,
    /// All are gone, or the time for it is over.
    Drained,
}

/// A process that was started to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgrade {
    /// Which.
    pub pid: u32,
    /// What became of it.
    pub state: UpgradeState,
    /// Since when that is so.
    #[schema(format = DateTime)]
    pub since: String,
    /// Why it did not take over, or how it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a process that was started to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// It is not ready yet.
    Starting,
    /// It serves.
    Succeeded,
    /// It did not take over: the node goes on as it was.
    Failed,
    /// It had taken over and ended without having been told to: the process before serves again.
    Lost,
}

/// How a node stands with its region's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// The name.
    pub name: String,
    /// Who keeps it: `dns.provider`.
    pub provider: String,
    /// The node's addresses.
    pub addresses: Vec<String>,
    /// Whether it wants them in the name.
    pub wants_in: bool,
    /// Why, or why not.
    pub why: String,
    /// Since when.
    #[schema(format = DateTime)]
    pub since: String,
    /// Whether they are in it; missing while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_in: Option<bool>,
    /// It wants out, and stays, since too few other nodes are in.
    pub is_kept: bool,
    /// All addresses of the name, as they were seen last. Empty with `embedded`.
    pub has: Vec<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub seen: Option<String>,
    /// What does not work; missing if all does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<DnsTrouble>,
}

/// What does not work with a region's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsTrouble {
    /// Since when, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// How often it was tried since.
    pub attempts: u32,
    /// What was said last.
    pub error: String,
}

/// How data threads talk to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

/// What there is now, and totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Upgraded connections, now.
    pub connections: u64,
    /// Active documents, now.
    pub documents: u64,
    /// Connections that are no WebSocket yet, now.
    pub handshakes_pending: u64,
    /// Data messages received.
    pub messages_received: u64,
    /// Messages queued for one connection or session.
    pub messages_sent: u64,
    /// Frames queued by fan-out, one for each member.
    pub fan_out_frames: u64,
    /// Updates appended to a document's log.
    pub updates: u64,
    /// Updates that brought nothing new.
    pub updates_known: u64,
    /// Connections refused before they had a session.
    pub refusals: u64,
    /// Connections closed by the node.
    pub closes: u64,
    /// Of those, for taking no byte.
    pub closes_slow_reader: u64,
    /// Of those, for not answering pings.
    pub closes_idle: u64,
    /// Of those, for bytes that break a protocol.
    pub closes_invalid: u64,
    /// Document logs compacted.
    pub compactions: u64,
    /// Log entries that the Yjs library failed on.
    pub log_entries_dropped: u64,
}

/// What the kernel knows of the process; what it does not tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Resident memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// User and system time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Most file descriptors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u64>,
}

/// All data threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Threads {
    /// In order.
    pub threads: Vec<Thread>,
    /// One did not answer in time.
    pub is_partial: bool,
}

/// A data thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Thread {
    /// Its number.
    pub thread: u16,
    /// It answered in time; the rest is missing if not.
    pub is_up: bool,
    /// How it talks to the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Its part of the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// A turn of its loop: how long what came meanwhile had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Times>,
}

/// How long something took, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Times {
    /// How often it was done.
    pub count: u64,
    /// Mean.
    pub mean_seconds: f64,
    /// 99 of 100 took no longer than this, rounded up to a power of two of microseconds.
    pub p99_seconds: f64,
}
