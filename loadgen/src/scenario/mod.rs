//! What to run: the one type that presets, TOML files and flags end up in.
//!
//! A scenario says who connects where (`target`, `clients`), what they do (`kind`), how much of it (`load`) and how the
//! generator itself is set up (`generator`). Durations are written as in `90s`, `1m30s`, `250ms`.

pub mod check;
pub mod file;
pub mod presets;
mod silence;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use silence::Silence;

/// One run, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the clients do.
    pub kind: Kind,
    /// Where they connect.
    pub target: Target,
    /// How many, how fast.
    pub clients: Clients,
    /// How much they send.
    pub load: Load,
    /// The load runs this long before anything is counted.
    #[serde(with = "duration")]
    pub warm_up: Duration,
    /// After the last send, deliveries are awaited this long at most; what has not come then is lost.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Deliveries later than this count as late.
    #[serde(with = "duration")]
    pub late_after: Duration,
    /// The generator.
    pub generator: GeneratorSettings,
    /// The server to watch, if it is on this machine.
    pub server: Option<Server>,
}

/// What the clients do. `scenario/presets.rs` has one preset of each, with figures that make sense on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name", deny_unknown_fields)]
pub enum Kind {
    /// Handshakes: each client dials, joins and leaves; the load's rate is dials a second.
    Connect,
    /// Density: all connect and stay, answering pings. With `documents_of`, in documents of so many.
    Idle {
        /// Members of a document.
        documents_of: u32,
        /// Bytes of each client's awareness state; 0 is none.
        awareness_bytes: u32,
        /// One edit to every document at the end, to be received by every member.
        update_at_end: bool,
        /// Hold this long.
        #[serde(with = "duration")]
        hold: Duration,
    },
    /// Edits in documents, with awareness.
    Document {
        /// Documents.
        documents: u32,
        /// Members of each.
        members: u32,
        /// Of these, how many write.
        writers: u32,
        /// Bytes of text in an edit.
        edit_bytes: u32,
        /// Awareness changes a second and member.
        awareness_rate: f64,
        /// Bytes of an awareness state.
        awareness_bytes: u32,
    },
    /// One writer, the rest read.
    Fanout {
        /// Bytes of text in an edit.
        edit_bytes: u32,
    },
    /// A few huge documents among many small ones: clients choose by a Zipf distribution.
    Hot {
        /// Documents.
        documents: u32,
        /// The exponent: 0 is even, 1 is as words in a language.
        skew: f64,
        /// Bytes of text in an edit.
        edit_bytes: u32,
    },
    /// Clients come and go while others edit; the load's rate is comings a second.
    Churn {
        /// Members of a document.
        documents_of: u32,
        /// How long a client stays.
        #[serde(with = "duration")]
        stay: Duration,
        /// Edits a second of those present, per document.
        edit_rate: f64,
    },
    /// All connections are cut at once (by the clients), then redialled as stock clients do; time until all are back.
    ReconnectStorm {
        /// Members of a document.
        documents_of: u32,
        /// How often.
        storms: u32,
    },
    /// As `document`, with some members that read slowly or not at all: the others must not notice.
    SlowReader {
        /// Documents.
        documents: u32,
        /// Members of each.
        members: u32,
        /// Of these, how many are slow.
        slow: u32,
        /// Bytes a second that a slow one reads; 0: none at all.
        slow_bytes_per_second: u64,
        /// Bytes of text in an edit.
        edit_bytes: u32,
    },
    /// Each client dials the wrong region (the target) and follows the redirect (close 4009).
    Redirect {
        /// Where documents are first opened, so that they are pinned there.
        home_url: String,
    },
    /// `document` for long, at a modest rate, with a look at drift: memory, latency and rates of the last quarter against
    /// the first.
    Soak {
        /// Documents.
        documents: u32,
        /// Members of each.
        members: u32,
        /// Bytes of text in an edit.
        edit_bytes: u32,
    },
    /// Any WebSocket server.
    Raw {
        /// Who gets what a client sends.
        mode: RawMode,
        /// Text frames instead of binary ones.
        text: bool,
        /// Bytes of a message, stamp included (at least 12 in binary, 24 in text, prefix not counted).
        bytes: u32,
        /// The path subscribers dial, if it is not the target's; `{n}` is the topic.
        subscribe_path: Option<String>,
        /// Topics in `broadcast`: subscribers and publishers are spread evenly.
        topics: u32,
        /// Publishers in `broadcast`, beside the subscribers; in `members`, how many of these publish.
        publishers: u32,
        /// What publishers put before each message; `{n}` is the topic in four digits.
        publish_prefix: String,
    },
}

/// See [`Kind::Raw`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawMode {
    /// The server sends each message back to its sender.
    Echo,
    /// The server sends each message to all subscribers but the sender.
    Broadcast,
    /// As broadcast, and to the sender.
    BroadcastAll,
    /// As broadcast, where the publishers are members of the topic themselves and get what the others publish.
    Members,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `ws://host:port/path`, or `wss://` for TLS; several are taken in turn, and the next one when one cannot be reached. For
    /// documents the name is appended to the path. `NAME=` before a URL names its region in results.
    pub urls: Vec<String>,
    /// Which servers are believed that speak TLS.
    #[serde(default)]
    pub trust: Trust,
    /// How clients show who they are.
    pub auth: Auth,
    /// Prefix of document names; a run adds its own random part, so that runs do not meet.
    pub document_prefix: String,
    /// Further request headers, `Name: value`.
    pub headers: Vec<String>,
    /// Subprotocols offered.
    pub protocols: Vec<String>,
    /// What documents speak.
    pub dialect: Dialect,
    /// Offer permessage-deflate.
    pub deflate: bool,
    /// `regionCode` of minted tokens.
    pub region: String,
    /// Clients ask a URL's `/discovery` where their document is, and dial that.
    #[serde(default)]
    pub discover: bool,
}

/// See [`Target::trust`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trust {
    /// Those that this host's certificates vouch for.
    #[default]
    Host,
    /// Those that the certificates in this PEM file vouch for, or in the PEM text that this is.
    Roots(String),
    /// All.
    Anybody,
}

/// See [`Target::auth`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Auth {
    /// Nothing.
    None,
    /// One token for all.
    Token(String),
    /// A token of its own for each, signed with this HS256 secret; `sub` and `jti` differ.
    Secret(String),
    /// A token of its own for each, signed with this PEM file, or with the PEM text that this is.
    Key(String),
}

impl Auth {
    /// Whether a key is the text itself.
    pub(crate) fn is_pem(key: &str) -> bool {
        key.trim_start().starts_with("-----BEGIN")
    }
}

/// See [`Target::dialect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// One document a socket, named in the path.
    YWebsocket,
    /// Frames with a key, token in an Auth message.
    Hocuspocus,
}

/// How many clients, how fast they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Connections in all, over all processes; scenarios with `documents` and `members` have their product.
    pub count: u32,
    /// Dials a second; none: as fast as it goes with `dialling` under way.
    pub rate: Option<f64>,
    /// Dials under way at most.
    pub dialling: u32,
    /// A dial that has not joined by then has failed.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Clients whose connection is lost come back, as stock clients do.
    #[serde(default)]
    pub redial: bool,
    /// Connections on which nothing comes for so long are given up; stock clients wait 30 s.
    #[serde(default)]
    pub silence: Option<Silence>,
}

/// How much is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Load {
    /// Sends have planned times, whether earlier ones were answered or not.
    Open {
        /// One after the other.
        stages: Vec<StagePlan>,
        /// Gaps between sends.
        arrivals: Arrivals,
    },
    /// Each sender has so many sends under way; the next leaves when one was delivered to all.
    Closed {
        /// Under way, each sender.
        in_flight: u32,
        /// How long.
        #[serde(with = "duration")]
        duration: Duration,
    },
}

/// One stage of an open load: the rate goes evenly from `from` to `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Its name in results; a number if it has none.
    pub name: Option<String>,
    /// Sends a second at the start, over all senders and processes.
    pub from: f64,
    /// At the end.
    pub to: f64,
    /// How long.
    #[serde(with = "duration")]
    pub duration: Duration,
}

/// See [`Load::Open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// All gaps alike, senders evenly offset.
    Constant,
    /// As independent users: exponentially distributed gaps.
    Poisson,
}

/// The generator itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSettings {
    /// Threads of each process; 0: one for each core it may use.
    pub threads: u32,
    /// Cores to bind them to, in order; empty: not bound.
    pub cores: Vec<usize>,
    /// `auto`, `uring` or `epoll`.
    pub driver: Driver,
    /// Addresses to dial from, `127.0.0.2-127.0.0.40` or a list; empty: the kernel's choice.
    pub sources: Vec<String>,
    /// For names, ids, gaps and texts: the same seed plans the same run.
    pub seed: u64,
}

/// See [`GeneratorSettings::driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// io_uring where the kernel allows it.
    Auto,
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

/// The server to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its process.
    pub pid: u32,
}

/// `90s`, `1m30s`, `250ms` in TOML and JSON.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Parses what people write.
    ///
    /// # Errors
    /// Says what is wrong and shows a good one.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let wrong = || format!("`{text}` is not a duration; write it as 90s, 1m30s or 250ms");
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            let after = &rest[digits..];
            let unit = &after[..after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len())];
            let seconds = match unit {
                "ms" => value / 1e3,
                "us" => value / 1e6,
                "s" => value,
                "m" => value * 60.0,
                "h" => value * 3600.0,
                _ => return Err(wrong()),
            };
            total += Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
            rest = &after[unit.len()..];
        }
        Ok(total)
    }

    /// The shortest exact form.
    #[must_use]
    pub fn format(duration: Duration) -> String {
        let micros = duration.as_micros();
        if !micros.is_multiple_of(1_000) {
            format!("{micros}us")
        } else if !micros.is_multiple_of(1_000_000) {
            format!("{}ms", micros / 1_000)
        } else {
            format!("{}s", micros / 1_000_000)
        }
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
