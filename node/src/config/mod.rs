//! The configuration of a node.
//!
//! [`Config`] is what a node runs with: typed, complete, every default written down once. Whoever builds one (the `dev`
//! command, or [`Sources::resolve`] from a file, variables and flags) has checked it; nothing that reads it needs to
//! validate again.
//!
//! | module | concern |
//! | --- | --- |
//! | `keys` | every key: its name, what it takes, what it means |
//! | `values` | how values are read and shown |
//! | `draft` | plain values, as they are written down |
//! | `sources` | file, variables, flags: what they say, and what is wrong with it |
//! | `tls` | certificates in files, and what is doubtful about them |
//! | `resolve`, `admin`, `cluster`, `dns`, `shedding`, `status` | from what is written to a [`Config`] |
//! | `summary` | what a good one comes to |
//! | `pages` | a file to begin with, what is in force, the schema, the page of the documentation |

mod admin;
mod cluster;
mod dns;
mod draft;
mod keys;
mod pages;
mod resolve;
mod shedding;
mod sources;
mod status;
mod summary;
#[cfg(test)]
mod tests;
mod tls;
mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use pinwire_protocol::document::name::NameRules;
use pinwire_token::{KeySet, Policy};
use serde_json::Value;

use crate::control::Page;
use crate::jwks::JwksSources;
use crate::log::LogFormat;
use crate::store::StoreConfig;

pub use admin::{Admin, AdminTls};
pub(crate) use cluster::is_region_name;
pub use cluster::{
    Cluster, LICENSES_MAX, License, Peer, PeerSecret, RedisUrl, RegionEntry, RegionStatus, RegistryKind,
    WrongRegion,
};
pub use dns::{Dns, DnsWay, DrainTimes};
pub use pages::{markdown, schema, template};
pub use resolve::secret_of;
pub use shedding::{BUDGET_PER_THREAD, Measured, Shedding};
pub(crate) use sources::read_file;
pub use sources::{Origin, Problem, Sources};
pub use status::Status;
pub(crate) use tls::{date, doubts, host_of};

pub use crate::traces::Traces;
pub use pinwire_tls::Certificates;

/// License regions that exist without being configured.
pub const KNOWN_DB_CODES: [&str; 6] = [
    "aws-ap-northeast-1",
    "aws-ap-south-1",
    "aws-eu-west-1",
    "aws-us-east-1",
    "aws-us-east-2",
    "aws-us-west-2",
];

/// Everything a node needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The region this node serves.
    pub region: Region,
    /// How this node and others are one system.
    pub cluster: Cluster,
    /// The regions that there are, as operators say; without this node's own if they leave it out.
    pub regions: Vec<RegionEntry>,
    /// Addresses to listen on in plain text; port 0 takes any free port.
    pub listen: Vec<SocketAddr>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// Data threads; at least 1.
    pub threads: usize,
    /// How the data threads talk to the kernel.
    pub driver: Driver,
    /// The keys that tokens are checked with.
    pub keys: KeySet,
    /// Where more of them are fetched.
    pub jwks: JwksSources,
    /// What a token must say besides being signed.
    pub policy: Policy,
    /// Whether a session ends with its token.
    pub end_sessions: bool,
    /// License regions (`dbCode`) this node knows; a token that names another is refused.
    pub known_db_codes: Vec<String>,
    /// What a document name may contain.
    pub names: NameRules,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits per client address; `None` turns them off.
    pub address_limits: Option<AddressLimits>,
    /// Most upgraded connections of the node, and most sockets of one data thread.
    pub max_connections: u32,
    /// When new clients are refused.
    pub shedding: Shedding,
    /// io_uring: rings that one data thread may have. Each holds as many connections as the process may have descriptors;
    /// a thread makes as many as `max_connections` needs.
    pub rings_per_thread: u32,
    /// WebSocket limits.
    pub websocket: WebSocketLimits,
    /// Deadlines of connections and documents.
    pub deadlines: Deadlines,
    /// Memory bounds.
    pub buffers: Buffers,
    /// permessage-deflate; `None` never negotiates it.
    pub deflate: Option<Deflate>,
    /// Where sessions are kept.
    pub store: StoreConfig,
    /// Who keeps the region's name in DNS, if the nodes do.
    pub dns: Option<Dns>,
    /// How the node leaves.
    pub drain: DrainTimes,
    /// Plain HTTP on the same port.
    pub http: HttpLimits,
    /// The built-in page, which only `dev` serves.
    pub page: Option<Page>,
    /// What is published of how the regions are.
    pub status: Status,
    /// The admin listener, if there is one.
    pub admin: Option<Admin>,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
}

impl Config {
    /// Every address to listen on, those with TLS first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.tls.iter().flat_map(|tls| &tls.listen).chain(&self.listen).copied()
    }

    /// How many of [`Self::addresses`] speak TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.listen.len())
    }

    /// The configuration of `pinwire-node dev`: one region in memory, no per-address limits, everything else as in
    /// production so that what works here works there.
    pub fn dev(listen: SocketAddr, threads: usize, keys: KeySet) -> Self {
        Self {
            region: Region { name: DEV_REGION.to_owned(), advertised: None, is_tls: false },
            cluster: Cluster::alone(),
            regions: Vec::new(),
            listen: vec![listen],
            tls: None,
            threads: threads.max(1),
            driver: Driver::Auto,
            keys,
            jwks: JwksSources::default(),
            policy: Policy::default(),
            end_sessions: false,
            known_db_codes: KNOWN_DB_CODES.map(str::to_owned).to_vec(),
            names: NameRules::default(),
            trusted_proxies: Vec::new(),
            address_limits: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            // On a host where people work, its load says nothing of the node's.
            shedding: Shedding {
                measured: Measured { memory: true, cpu: false },
                // Whoever tries it out, or measures it, lets in whom it likes.
                budget: 1_000_000,
                region_budget: 0,
                ..Shedding::default()
            },
            rings_per_thread: 1,
            websocket: WebSocketLimits::default(),
            deadlines: Deadlines::default(),
            buffers: Buffers::default(),
            deflate: Some(Deflate::default()),
            store: StoreConfig::Memory,
            dns: None,
            drain: DrainTimes::default(),
            http: HttpLimits::default(),
            page: None,
            status: Status::default(),
            admin: None,
            traces: None,
        }
    }
}

/// A configuration that a node can start with.
#[derive(Debug)]
pub struct Resolved {
    /// What the node runs with.
    pub config: Config,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is doubtful about it.
    pub warnings: Vec<Problem>,
    written: sources::Written,
}

/// A key whose value is another one than before; values as in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// Its value before.
    pub before: String,
    /// Its value now.
    pub now: String,
    /// Whether a running node takes it over.
    pub is_live: bool,
}

impl Resolved {
    /// Every value with its origin, as TOML.
    #[must_use]
    pub fn dump(&self) -> String {
        pages::dump(&self.written)
    }

    /// The same as a list of objects with `key`, `value` (as in TOML), `origin` and `reload`.
    #[must_use]
    pub fn dump_json(&self) -> Value {
        pages::dump_json(&self.written)
    }

    /// SHA-256 of every value, in hexadecimal: the same for nodes that are configured alike, wherever that is written.
    #[must_use]
    pub fn digest(&self) -> String {
        crate::admin::hex_digest(pages::values(&self.written).as_bytes())
    }

    /// The file with the token of the admin API.
    pub(crate) fn admin_token_file(&self) -> std::path::PathBuf {
        (&self.written.draft.admin.token_file).into()
    }

    /// What differs from `before`.
    #[must_use]
    pub fn changes(&self, before: &Self) -> Vec<Change> {
        pages::changes(&before.written, &self.written)
    }
}

/// Name of the region that `dev` serves.
pub const DEV_REGION: &str = "local-1";
/// Half of a common descriptor limit (1,048,576) would be more than one node should promise unasked.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 100_000;

/// A region and where its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// As in `eu-central-1`.
    pub name: String,
    /// Host (and port) that clients see, with TLS or not; `None` says the address the node is bound to.
    pub advertised: Option<Advertised>,
    /// Whether the first address speaks TLS.
    pub is_tls: bool,
}

/// Where TLS is spoken, and with which certificates.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// At least one.
    pub certificates: Arc<Certificates>,
    /// Handshakes that a thread answers in a turn.
    pub handshakes_per_turn: u32,
}

/// The public address of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// `eu-central-1.example.net`, with `:port` where it is not the scheme's own.
    pub authority: String,
    /// `wss` and `https` instead of `ws` and `http`.
    pub tls: bool,
}

impl Region {
    /// Base of WebSocket URLs without a trailing slash; `bound` is where the first listener really listens.
    pub fn ws_url(&self, bound: SocketAddr) -> String {
        self.url(bound, "wss", "ws")
    }

    /// Base of HTTP URLs without a trailing slash.
    pub fn http_url(&self, bound: SocketAddr) -> String {
        self.url(bound, "https", "http")
    }

    fn url(&self, bound: SocketAddr, secure: &str, plain: &str) -> String {
        match &self.advertised {
            Some(Advertised { authority, tls: true }) => format!("{secure}://{authority}"),
            Some(Advertised { authority, tls: false }) => format!("{plain}://{authority}"),
            None => format!("{}://{bound}", if self.is_tls { secure } else { plain }),
        }
    }
}

/// How data threads wait for and move bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll with a log line that names the reason.
    #[default]
    Auto,
    /// io_uring, or the node does not start.
    Uring,
    /// epoll.
    Epoll,
}

/// Requests a minute of one client address (an IPv6 address counts as its /64), each kind on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// WebSocket handshakes.
    pub connects_per_minute: u32,
    /// `/discovery`.
    pub discoveries_per_minute: u32,
    /// `/usage`.
    pub usages_per_minute: u32,
    /// Addresses remembered at most; beyond it the oldest are forgotten, which lets their next request through.
    pub max_addresses: usize,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connects_per_minute: 60,
            discoveries_per_minute: 60,
            usages_per_minute: 12,
            max_addresses: 65_536,
        }
    }
}

/// Bounds on what a WebSocket peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Payload bytes of one frame.
    pub max_frame_bytes: usize,
    /// Payload bytes of one message, all fragments together, after inflating.
    pub max_message_bytes: usize,
    /// Fragments of one message.
    pub max_fragments: u32,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self { max_frame_bytes: 16 * MIB, max_message_bytes: 16 * MIB, max_fragments: 16_384 }
    }
}

/// How long each thing may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From accept to the whole request head, however slowly it drips.
    pub handshake: Duration,
    /// From the upgrade to the first data frame, and from there to a verdict on the token.
    pub first_frame: Duration,
    /// Silence after which a ping is sent.
    pub ping: Duration,
    /// From a ping to any byte from the peer, else 4011.
    pub pong: Duration,
    /// From our Close to the peer's, then the socket is closed without it.
    pub close: Duration,
    /// How long a document outlives its last connection.
    pub grace: Duration,
    /// An idle session gets a data frame this often: stock clients close after 30 s without one.
    pub idle_frame: Duration,
    /// Bytes wait for a peer that takes none, then 4010.
    pub slow_reader: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_frame: Duration::from_secs(10),
            ping: Duration::from_secs(25),
            pong: Duration::from_secs(20),
            close: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            idle_frame: Duration::from_secs(20),
            slow_reader: Duration::from_secs(60),
        }
    }
}

/// Memory bounds, in bytes unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes that wait for one connection's socket: what it did not take of a turn's output, a document that it just opened
    /// included. Later updates wait in the document's log and do not count. Beyond it the connection is cut.
    pub outbound_per_connection: usize,
    /// The same, all connections of a thread together.
    pub outbound_per_thread: usize,
    /// Verdicts on tokens a thread remembers.
    pub verdicts_per_thread: usize,
    /// Asymmetric signatures a thread checks per turn of its loop.
    pub costly_checks_per_turn: u32,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            outbound_per_connection: 128 * MIB,
            outbound_per_thread: 1024 * MIB,
            verdicts_per_thread: 1024,
            costly_checks_per_turn: 8,
        }
    }
}

/// permessage-deflate, always without context takeover on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// Messages below this many bytes leave uncompressed.
    pub min_bytes: usize,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { min_bytes: KIB }
    }
}

/// Bounds on plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Whether `/metrics` is answered.
    pub metrics: bool,
    /// Sockets that wait to be taken over from the data threads; beyond it they answer 503 themselves.
    pub queue: usize,
    /// Sockets served at once.
    pub max_connections: usize,
    /// From taking over (or the last answer) to a whole request head.
    pub head_deadline: Duration,
    /// From the whole head to the answer written.
    pub answer_deadline: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            metrics: true,
            queue: 256,
            max_connections: 1024,
            head_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(10),
        }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
