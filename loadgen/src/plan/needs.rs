//! What one host needs for its part of the connections.

use serde::Serialize;

use crate::plan::PlanArgs;
use crate::plan::coefficients::Coefficients;

/// Connections up to which memory was measured on one node.
const MEASURED_CONNECTIONS: u64 = 18_000;
/// Descriptors of a node that are no connections, and room for sockets that are on their way in or out.
const DESCRIPTORS_SPARE: f64 = 1.1;
/// Bytes of TCP and IP headers, timestamps included.
const TCP_IP: f64 = 52.0;
/// What Ethernet adds on the wire: preamble, header, checksum, gap.
const ETHERNET: f64 = 38.0;
/// Payload of a TCP segment on Ethernet.
const SEGMENT: f64 = 1448.0;
/// A ping or pong with its payload, and an idle data frame; masked frames have 4 bytes more.
const PING: f64 = 6.0;
const IDLE_FRAME: f64 = 5.0;
const MASK: f64 = 4.0;
/// The message type, the sync type, and what says how long an update is.
const SYNC_HEAD: f64 = 3.0;
/// Of an awareness frame: type, lengths; and of an entry: client, clock, length.
const AWARENESS_HEAD: f64 = 4.0;
const AWARENESS_ENTRY: f64 = 9.0;
/// Accepting may pause this long in a storm: what comes meanwhile waits in the accept queue.
const ACCEPT_PAUSE_SECONDS: f64 = 0.25;
/// The kernel's page, in which `tcp_mem` counts.
const PAGE: f64 = 4096.0;
/// Ports that the kernel's default range leaves a client address, and the widest range.
const PORTS_DEFAULT: u64 = 28_232;
const PORTS_WIDE: u64 = 64_511;

/// One host's needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Needs {
    pub(crate) connections: u64,
    pub(crate) documents: u64,
    /// Data threads, a core each.
    pub(crate) threads: u64,
    /// A second.
    pub(crate) traffic: Traffic,
    pub(crate) cores: Cores,
    /// Bytes.
    pub(crate) memory: Memory,
    pub(crate) network: Network,
    pub(crate) settings: Vec<Setting>,
}

/// Events a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Traffic {
    /// Updates that clients send.
    pub(crate) updates: f64,
    /// Updates that members are sent.
    pub(crate) deliveries: f64,
    /// Awareness frames in, and out.
    pub(crate) awareness_in: f64,
    pub(crate) awareness_out: f64,
    /// Pings, as many pongs, and idle frames.
    pub(crate) pings: f64,
    pub(crate) idle_frames: f64,
    pub(crate) handshakes: f64,
}

/// Cores that are busy, by what keeps them so, at the speed that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cores {
    pub(crate) updates: f64,
    pub(crate) awareness: f64,
    pub(crate) keeping_alive: f64,
    pub(crate) handshakes: f64,
    pub(crate) busy: f64,
    /// With the room that was asked for.
    pub(crate) needed: f64,
}

/// Bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) process: f64,
    pub(crate) connections: f64,
    pub(crate) documents: f64,
    pub(crate) content: f64,
    pub(crate) awareness: f64,
    pub(crate) user: f64,
    pub(crate) sockets: f64,
    pub(crate) polls: f64,
    pub(crate) buffers: f64,
    pub(crate) kernel: f64,
    pub(crate) all: f64,
}

/// A second, on the wire of Ethernet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Network {
    pub(crate) packets_in: f64,
    pub(crate) packets_out: f64,
    pub(crate) bits_in: f64,
    pub(crate) bits_out: f64,
}

/// Something to set before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) why: String,
}

impl Needs {
    /// Of each of `hosts` hosts.
    pub(crate) fn of(args: &PlanArgs, hosts: u64, with: &Coefficients) -> Self {
        let connections = args.connections.div_ceil(hosts);
        let documents = connections.div_ceil(args.members);
        let traffic = Traffic::of(args, hosts, connections, documents, with);
        let cores = Cores::of(args, &traffic, with);
        let threads = cores.needed.ceil().max(1.0) as u64;
        let network = Network::of(args, &traffic);
        let memory = Memory::of(args, connections, documents, threads, &traffic, with);
        let settings = settings(connections, threads, &traffic, &memory);
        Self { connections, documents, threads, traffic, cores, memory, network, settings }
    }
}

impl Traffic {
    fn of(args: &PlanArgs, hosts: u64, connections: u64, documents: u64, with: &Coefficients) -> Self {
        let (connections, documents) = (connections as f64, documents as f64);
        let others = args.members.saturating_sub(1) as f64;
        let updates = documents * args.updates_per_second_per_document;
        let has_awareness = args.awareness_bytes > 0;
        let renewals = if has_awareness { 1.0 / with.renewal_seconds.value } else { 0.0 };
        let changes = if has_awareness { args.awareness_rate } else { 0.0 };
        // A change goes to the others at once; renewals of a document are collected.
        let collected =
            (others * renewals).min(if others > 0.0 { 1.0 / with.collect_seconds.value } else { 0.0 });
        let awareness_out = connections * (others * changes + if has_awareness { collected } else { 0.0 });
        let heard = (renewals + changes) + updates / connections;
        // Who is heard of is not pinged, who is sent something needs no idle frame.
        let told = (updates * others + awareness_out) / connections;
        let unless =
            |rate: f64, seconds: f64| if rate * seconds >= 1.0 { 0.0 } else { connections / seconds };
        Self {
            updates,
            deliveries: updates * others,
            awareness_in: connections * (renewals + changes),
            awareness_out,
            pings: unless(heard, with.ping_seconds.value),
            idle_frames: unless(told, with.idle_frame_seconds.value),
            handshakes: args.rate_of_reconnects / hosts as f64,
        }
    }
}

impl Cores {
    fn of(args: &PlanArgs, traffic: &Traffic, with: &Coefficients) -> Self {
        let cores = |events: f64, us: f64| events * us / 1e6 / args.core_speed;
        let frame = with.frame_us.value;
        let updates = cores(traffic.deliveries, with.delivery_us.value) + cores(traffic.updates, frame);
        let awareness = cores(traffic.awareness_in + traffic.awareness_out, frame);
        let keeping_alive = cores(2.0 * traffic.pings + traffic.idle_frames, frame);
        let handshakes = cores(traffic.handshakes, with.handshake_us.value);
        let busy = updates + awareness + keeping_alive + handshakes;
        Self { updates, awareness, keeping_alive, handshakes, busy, needed: busy / args.core_use }
    }
}

impl Memory {
    fn of(
        args: &PlanArgs,
        connections: u64,
        documents: u64,
        threads: u64,
        traffic: &Traffic,
        with: &Coefficients,
    ) -> Self {
        let count = connections as f64;
        let process = with.process_bytes.value + threads as f64 * with.thread_bytes.value;
        let content = documents as f64 * args.document_bytes as f64 * with.log_share.value;
        let awareness = count * args.awareness_bytes as f64 * with.awareness_bytes.value;
        let (connections, documents) =
            (count * with.connection_bytes.value, documents as f64 * with.document_bytes.value);
        let user = process + connections + documents + content + awareness;
        // Bytes stay in a socket until the client has them and has said so.
        let sent = traffic.deliveries + traffic.awareness_out + traffic.pings + traffic.idle_frames;
        let under_way = (sent * args.rtt_ms / 1e3).min(count);
        let buffers = under_way * with.buffer_bytes.value;
        let (sockets, polls) = (count * with.socket_bytes.value, count * with.poll_bytes.value);
        let kernel = sockets + polls + buffers;
        Self {
            process,
            connections,
            documents,
            content,
            awareness,
            user,
            sockets,
            polls,
            buffers,
            kernel,
            all: user + kernel,
        }
    }
}

impl Network {
    /// Each frame is a packet of its own and is acknowledged by one, which is the most that there can be.
    fn of(args: &PlanArgs, traffic: &Traffic) -> Self {
        let update = websocket(SYNC_HEAD + args.update_bytes as f64);
        let entry = AWARENESS_ENTRY + args.awareness_bytes as f64;
        // What is collected has several entries: each renewal reaches each other member.
        let others = args.members.saturating_sub(1) as f64;
        let entries = if traffic.awareness_out > 0.0 {
            (traffic.awareness_in * others / traffic.awareness_out).max(1.0)
        } else {
            1.0
        };
        let out = [
            (traffic.deliveries, update),
            (traffic.awareness_out, websocket(AWARENESS_HEAD + entries * entry)),
            (traffic.pings, PING),
            (traffic.idle_frames, IDLE_FRAME),
        ];
        let inward = [
            (traffic.updates, update + MASK),
            (traffic.awareness_in, websocket(AWARENESS_HEAD + entry) + MASK),
            (traffic.pings, PING + MASK),
        ];
        let packets = |frames: &[(f64, f64)]| -> f64 {
            frames.iter().map(|(rate, bytes)| rate * (bytes / SEGMENT).ceil()).sum()
        };
        let payload =
            |frames: &[(f64, f64)]| -> f64 { frames.iter().map(|(rate, bytes)| rate * bytes).sum() };
        let (data_out, data_in) = (packets(&out), packets(&inward));
        // A segment of each kind and an acknowledgement of each of the other side's.
        let both = data_out + data_in;
        let wire = |payload: f64| 8.0 * (payload + both * (TCP_IP + ETHERNET));
        Self {
            packets_in: both,
            packets_out: both,
            bits_in: wire(payload(&inward)),
            bits_out: wire(payload(&out)),
        }
    }
}

/// A message with its frame header (RFC 6455 5.2).
fn websocket(message: f64) -> f64 {
    message
        + match message {
            small if small < 126.0 => 2.0,
            medium if medium < 65_536.0 => 4.0,
            _ => 10.0,
        }
}

fn settings(connections: u64, threads: u64, traffic: &Traffic, memory: &Memory) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |name: &str, value: String, why: String| {
        settings.push(Setting { name: name.into(), value, why });
    };
    set("max_connections of the node", connections.to_string(), "it refuses more with 503".into());
    let per_thread = (connections as f64 / threads as f64 * DESCRIPTORS_SPARE).ceil() as u64 + 100;
    let all = (connections as f64 * DESCRIPTORS_SPARE).ceil() as u64 + 100;
    set(
        "ulimit -n (io_uring)",
        per_thread.to_string(),
        format!("a ring's table is bounded by it, and each of {threads} thread(s) has a ring"),
    );
    set("ulimit -n (epoll)", all.to_string(), "one table for the whole process".into());
    set("fs.nr_open", all.max(1_048_576).to_string(), "no descriptor limit can be above it".into());
    set("fs.file-max", all.max(1_048_576).to_string(), "open files of the machine".into());
    let backlog = (traffic.handshakes * ACCEPT_PAUSE_SECONDS).ceil().max(4096.0) as u64;
    set(
        "net.core.somaxconn",
        backlog.to_string(),
        "connections that wait to be accepted, as after a network's return".into(),
    );
    set("net.ipv4.tcp_max_syn_backlog", backlog.to_string(), "the same, before they stand".into());
    let pages = (memory.buffers / PAGE).ceil();
    // The least that is worth setting is a gigabyte.
    let high = (4.0 * pages).max(262_144.0);
    set(
        "net.ipv4.tcp_mem",
        format!("{:.0} {:.0} {high:.0}", high / 2.0, high * 0.75),
        format!("pages of buffers; {pages:.0} are in use when nobody is slow"),
    );
    set(
        "net.ipv4.ip_local_port_range",
        "1024 65535".into(),
        format!(
            "of proxies and of load generators, not of the node: {} source addresses, {} with the default",
            connections.div_ceil(PORTS_WIDE),
            connections.div_ceil(PORTS_DEFAULT)
        ),
    );
    set(
        "connection tracking",
        "off for the node's port".into(),
        format!("else net.netfilter.nf_conntrack_max of {all}, and its memory beside this plan's"),
    );
    settings
}

/// What is not certain about a plan.
pub(crate) fn limits(args: &PlanArgs, needs: &Needs) -> Vec<String> {
    let mut limits = Vec::new();
    if needs.connections > MEASURED_CONNECTIONS {
        limits.push(format!(
            "Memory by connection was measured up to {MEASURED_CONNECTIONS} connections on a node: this is an extrapolation \
             by {:.0}.",
            needs.connections as f64 / MEASURED_CONNECTIONS as f64
        ));
    }
    if needs.threads > 2 {
        limits.push(
            "Processor time was measured with one data thread: that it adds up over threads is assumed."
                .into(),
        );
    }
    limits.push(
        "Processor time was measured on loopback, where the kernel does both ends' work and no network card's: interrupts \
         and drivers come on top."
            .into(),
    );
    if args.updates_per_second_per_document > 0.0 {
        limits.push(
            "Every update is taken to be sent on its own. Updates that meet in one turn of a thread share a send: a busy node \
             takes less."
                .into(),
        );
    }
    limits.push(
        "TLS is not in it: a session takes about 4 KiB of the node's memory, a proxy's share is the proxy's."
            .into(),
    );
    if args.document_bytes == 0 {
        limits.push("Documents are taken to be empty: give --document-bytes.".into());
    }
    limits.push(
        "Clients that are slow keep more in the node than a page: up to 128 MiB each, 1 GiB a thread.".into(),
    );
    limits
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn needs(flags: &str, hosts: u64) -> Needs {
        let args = Flags::parse_from(std::iter::once("plan").chain(flags.split(' '))).plan;
        Needs::of(&args, hosts, &Coefficients::read().unwrap())
    }

    #[test]
    fn needs_grow_with_the_connections_and_shrink_with_the_hosts() {
        let (one, ten) = (needs("-c 100k", 1), needs("-c 1M", 1));
        assert!(ten.memory.kernel > 9.9 * one.memory.kernel);
        // A process and its first thread are there once.
        assert!(ten.memory.user > 8.0 * one.memory.user);
        assert_eq!(needs("-c 1M", 10).connections, one.connections);
        assert_eq!(needs("-c 1M", 10).memory, one.memory);
    }

    #[test]
    fn an_idle_connection_is_pinged_and_one_that_talks_is_not() {
        let idle = needs("-c 100k", 1);
        assert!(idle.traffic.pings > 0.0 && idle.traffic.idle_frames > 0.0);
        let talks = needs("-c 100k --awareness-bytes 60", 1);
        assert_eq!(talks.traffic.pings, 0.0);
        assert!(talks.traffic.awareness_out > 0.0);
    }

    #[test]
    fn an_update_is_delivered_to_every_member_but_its_writer() {
        let busy = needs("-c 1000 --members 10 --updates-per-second-per-document 2", 1);
        assert_eq!((busy.traffic.updates, busy.traffic.deliveries), (200.0, 1800.0));
        assert!(busy.network.bits_out > busy.network.bits_in);
        let alone = needs("-c 1000 --members 1 --updates-per-second-per-document 2 --awareness-bytes 60", 1);
        assert_eq!((alone.traffic.deliveries, alone.traffic.awareness_out), (0.0, 0.0));
    }

    #[test]
    fn headers_of_frames_grow_with_the_message() {
        assert_eq!([websocket(125.0), websocket(126.0), websocket(70_000.0)], [127.0, 130.0, 70_010.0]);
    }
}
