//! What came out of a run: the one type that every report is made from, and that files hold.
//!
//! Units are in the names; latencies are nanoseconds. Nothing in it is an average of parts: histograms add up count by
//! count, counters add, intervals of the same second add.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::histogram::Histogram;

/// The version of the JSON format. A field that is added does not raise it, one that changes or goes does.
pub const SCHEMA: &str = "pinwire-loadgen/1";

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: String,
    /// The scenario's name.
    pub scenario: String,
    /// The whole scenario as it was run, every default filled in.
    pub settings: serde_json::Value,
    /// When the first connection was dialled, RFC 3339, UTC.
    pub started_at: String,
    /// Where and with what.
    pub environment: Environment,
    /// The stages of the load in order: warm-up is not among them. Totals are the sum of the stages.
    pub stages: Vec<Stage>,
    /// The sum of the stages: what the summary shows and assertions look at.
    pub total: Tally,
    /// One per second from the first dial on, warm-up and drain included.
    pub intervals: Vec<Interval>,
    /// Connections from first to last.
    pub connections: Connections,
    /// The same by region: by the name that stands before a URL (`eu=ws://...`), or by where a URL or a redirect leads.
    #[serde(default)]
    pub regions: BTreeMap<String, Region>,
    /// What was checked, and what was found wrong.
    pub correctness: Correctness,
    /// How the generator itself fared, by thread.
    pub generator: Generator,
    /// What the server used, if its pid or admin address was given.
    pub server: Option<ServerUse>,
    /// Whether the figures can be trusted.
    pub verdict: Verdict,
    /// The parts of a run of several processes, or of several files that were merged; empty for a process on its own.
    #[serde(default)]
    pub processes: Vec<ProcessPart>,
    /// Steps of `--search`, in the order they were tried; the last that held is the answer.
    pub search: Vec<SearchStep>,
    /// Outcomes of `--assert`.
    pub assertions: Vec<Assertion>,
}

/// One stage of the load.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// `1`, `2` and so on, or the name from the plan.
    pub name: String,
    /// From the start of the run, milliseconds.
    pub start_ms: u64,
    /// How long it was measured.
    pub duration_ms: u64,
    /// Sends a second planned at its start and end; none in the closed model.
    pub rate: Option<(f64, f64)>,
    /// What was counted.
    pub tally: Tally,
}

/// What is counted and timed, for a stage or in all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// Seconds that this covers: rates are counts by this.
    pub seconds: f64,
    /// Messages or edits planned in this time (open model).
    pub planned: u64,
    /// Of these, those that left.
    pub sent: u64,
    /// Planned sends that never left: the generator was too far behind, or the connection was blocked or gone. Dropped
    /// sends are failures of the run or of the generator, and are never left out of sight.
    pub dropped: u64,
    /// Deliveries that the sends should lead to, receivers counted each.
    pub expected: u64,
    /// Deliveries that came.
    pub received: u64,
    /// Frames that carried them: fewer than deliveries where a server merges.
    pub frames_received: u64,
    /// Bytes handed to and taken from sockets.
    pub bytes_out: u64,
    /// See `bytes_out`.
    pub bytes_in: u64,
    /// Failures by kind, as `refused 503`, `closed 4009`, `reset`, `timed out`.
    pub errors: BTreeMap<String, u64>,
    /// Distributions, by what was timed.
    pub latency: BTreeMap<Measure, Histogram>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// From the planned time of a send to its delivery at each receiver: what a user waits. In the closed model from the
    /// send.
    Latency,
    /// From the actual time of the send: without the time a send waited behind others. The two differ where the server or
    /// the generator stalled.
    LatencyUncorrected,
    /// From dialling until the TCP connection stood.
    ConnectTcp,
    /// From there until the upgrade was answered, token check included.
    Upgrade,
    /// From there until the client was synced or subscribed.
    Join,
    /// From dialling to joined: the whole way in.
    Connect,
    /// From the first dial in the wrong region to joined in the right one.
    Redirect,
    /// From a lost connection to joined again.
    Recover,
    /// From an edit to its acknowledgement.
    Acknowledge,
    /// How late sends left, behind their planned times: the generator's own doing.
    ScheduleLag,
    /// How long the generator's loop took to come round.
    LoopLag,
}

/// One second.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Seconds from the start of the run.
    pub second: u32,
    /// Connections that stood at its end.
    pub open: u64,
    /// Sends planned.
    pub planned: u64,
    /// Sends that left.
    pub sent: u64,
    /// Deliveries that came.
    pub received: u64,
    /// Connections that were joined.
    pub joined: u64,
    /// Failures of any kind.
    pub errors: u64,
    /// Sends dropped.
    pub dropped: u64,
    /// Latency of what came in this second: p50, p90, p99, p99.9 and the greatest, nanoseconds.
    pub latency: Histogram,
    /// CPU of the generator's busiest thread, 0 to 1.
    pub busiest_thread: f64,
    /// CPU seconds the server used in this second, and its memory, if known.
    pub server: Option<ServerSample>,
}

/// Connections in the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Asked for.
    pub wanted: u64,
    /// Dials begun.
    pub dialled: u64,
    /// Upgraded and joined.
    pub joined: u64,
    /// Open at most at one time.
    pub peak: u64,
    /// Dials that came to nothing, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Joined connections that the server or the network ended, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Clients of `wanted` that were not joined when the load and what was under way had ended; of `connect` and `churn`, which
    /// come and go, none.
    #[serde(default)]
    pub absent: u64,
    /// Redirects followed.
    pub redirected: u64,
    /// Pings answered.
    pub pings: u64,
}

/// A region, or a host, as clients met it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Region {
    /// Dials begun there, questions to its discovery included.
    pub dialled: u64,
    /// Of these, those that came to nothing; redirects are not among them.
    pub failed: u64,
    /// Clients that joined there.
    pub joined: u64,
    /// Connections that stand; none in the figures of a whole run.
    pub open: u64,
    /// Connections that stood at most at one time.
    pub peak: u64,
    /// Times that it sent a client elsewhere, by a redirect or by discovery.
    pub sent_away: u64,
    /// Clients that joined there because they were sent there.
    pub sent_here: u64,
    /// Joined connections that ended there without the client's wish.
    pub lost: u64,
    /// For clients that joined here after a redirect or a discovery: from the first dial, wherever that was.
    pub redirect: Histogram,
    /// For clients that lost a connection here: until they had joined again and had sent what the server lacked, wherever.
    pub recover: Histogram,
}

/// What was checked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Correctness {
    /// Deliveries compared with what was sent.
    pub checked: u64,
    /// Sends that a receiver, connected all the while, never got.
    pub lost: u64,
    /// Deliveries that came twice.
    pub duplicated: u64,
    /// Deliveries that came after a later one of the same writer.
    pub reordered: u64,
    /// Deliveries whose bytes were not those sent, or of something nobody sent.
    pub corrupted: u64,
    /// Deliveries that came after the deadline (`late_after`): counted as received too.
    pub late: u64,
    /// Receivers compared at the end of the run.
    pub converged: u64,
    /// Receivers that ended with other content than the rest.
    pub diverged: u64,
    /// Edits that the server had acknowledged and did not have when their writer came back. The writer sends them again, as
    /// any Yjs client does, so they are not lost.
    #[serde(default)]
    pub forgotten: u64,
    /// The first few faults, in words, for whoever has to find the cause.
    pub examples: Vec<String>,
}

impl Correctness {
    /// Faults that fail a run: late deliveries are not among them.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted + self.diverged + self.forgotten
    }
}

/// What one process did of a run of several. What it saw second by second is in the whole alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProcessPart {
    /// `process 1`, the agent's address, or the file.
    pub name: String,
    /// Why there are no figures of it, or not all: the whole is INVALID then.
    pub failure: Option<String>,
    /// Its clock against the coordinator's, as far as it could be measured; none where nobody did.
    pub clock: Option<ClockOffset>,
    /// Where it ran.
    pub environment: Environment,
    /// The sum of its stages.
    pub total: Tally,
    /// Its connections.
    pub connections: Connections,
    /// What it checked.
    pub correctness: Correctness,
    /// How it fared.
    pub generator: Generator,
    /// Whether its figures can be trusted.
    pub verdict: Verdict,
}

/// How a process's clock was related to the coordinator's when the load began. Latencies do not depend on it, since what
/// is timed is sent and received by one process; the common start and the alignment of seconds do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockOffset {
    /// Its monotonic clock less the coordinator's, nanoseconds. Each counts from when the two met.
    pub offset_ns: i64,
    /// The shortest round trip of the exchanges: the offset is off by half of it at most.
    pub round_trip_ns: u64,
}

/// How the generator fared.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// By thread.
    pub threads: Vec<GeneratorThread>,
    /// TCP segments that this machine sent again during the run (`/proc/net/snmp`), whoever sent them.
    pub retransmits: u64,
    /// Bytes of memory in use at most (`VmHWM`).
    pub memory_peak: u64,
}

/// One of the generator's threads.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorThread {
    /// Its name, as `worker 1`.
    pub name: String,
    /// CPU time by wall time while it measured, 0 to 1.
    pub busy: f64,
    /// Seconds it was ready to run and did not (`schedstat`): others had its core.
    pub starved_seconds: f64,
    /// Turns of its loop.
    pub turns: u64,
    /// `uring` or `epoll`.
    pub driver: String,
}

/// The server's use over the measured time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerUse {
    /// Its process.
    pub pid: u32,
    /// CPU seconds, user and kernel, all threads.
    pub cpu_seconds: f64,
    /// By delivery, microseconds; none where nothing was delivered.
    pub cpu_us_per_delivery: Option<f64>,
    /// By send.
    pub cpu_us_per_send: Option<f64>,
    /// Before the first connection.
    pub memory_before: Memory,
    /// With all connections.
    pub memory_with_all: Memory,
    /// After they had closed, where the scenario waits for that.
    pub memory_after: Option<Memory>,
    /// User memory by connection: the slope over the second half of the connections.
    pub user_bytes_per_connection: Option<f64>,
}

/// Memory of a process and the machine, bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Of the process, with no file behind it (`Anonymous` of `smaps_rollup`).
    pub anonymous: u64,
    /// Of the process, resident.
    pub resident: u64,
    /// Of the kernel on the machine: both ends of each connection where the generator is on it too (`Slab` of `meminfo`).
    pub kernel_slab: u64,
}

/// The server in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerSample {
    /// CPU seconds used.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident: u64,
}

/// Whether the figures can be trusted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The worst of the reasons.
    pub level: VerdictLevel,
    /// Each in words, with its figure and what to change.
    pub reasons: Vec<String>,
}

/// See [`Verdict`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum VerdictLevel {
    /// The generator kept its schedule: the figures are the server's.
    #[default]
    Valid,
    /// The generator was busy at times: read the tail of the latencies with care.
    Degraded,
    /// The generator was the limit, or the run was not what was asked for: the figures say nothing about the server.
    Invalid,
}

/// One step of a search.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SearchStep {
    /// Sends a second.
    pub rate: f64,
    /// Whether the objective held and the generator was not the limit.
    pub held: bool,
    /// What was seen, as `p99 = 3.1 ms`.
    pub seen: String,
}

/// One `--assert`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Assertion {
    /// As it was written.
    pub expression: String,
    /// Whether it held.
    pub held: bool,
    /// The figure it looked at, in words.
    pub seen: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results in which nothing happened.
    pub(crate) fn results() -> Results {
        Results {
            schema: SCHEMA.to_owned(),
            scenario: "document".into(),
            settings: serde_json::Value::Null,
            started_at: String::new(),
            environment: Environment::default(),
            stages: Vec::new(),
            total: Tally::default(),
            intervals: Vec::new(),
            connections: Connections::default(),
            regions: BTreeMap::new(),
            correctness: Correctness::default(),
            generator: Generator::default(),
            server: None,
            verdict: Verdict::default(),
            processes: Vec::new(),
            search: Vec::new(),
            assertions: Vec::new(),
        }
    }
}
