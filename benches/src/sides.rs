//! What a measurement holds against each other: the node of this build and its peers, each in a dialect, one after the
//! other, each as a process bound to the first processor.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use pinwire_engine::{allowed_cores, pin_to_core};
use pinwire_loadgen::scenario::{Auth, Dialect};
use pinwire_node::cli::DriverArg;

use crate::node::{NodeArgs, NodeUnderTest};
use crate::peers::{Peer, PeerServer, Peers};
use crate::report::Report;
use crate::tokens::uuid;

/// Handshakes a minute of one address: more than any measurement makes, so that the limit is on and lets everybody in.
const CONNECTS_PER_MINUTE: u32 = 100_000_000;

/// A server and what is spoken to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// The node, y-websocket
    Node,
    /// The node, Hocuspocus
    NodeHocuspocus,
    /// Hocuspocus, which merges the updates of a turn
    Hocuspocus,
    /// Hocuspocus, merging nothing
    HocuspocusUnmerged,
    /// The y-websocket server
    YWebsocket,
    /// y-sweet
    YSweet,
}

impl Side {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::NodeHocuspocus => "node, Hocuspocus dialect",
            Self::Hocuspocus => "Hocuspocus",
            Self::HocuspocusUnmerged => "Hocuspocus, unmerged",
            Self::YWebsocket => "y-websocket server",
            Self::YSweet => "y-sweet",
        }
    }

    /// What its clients speak.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::NodeHocuspocus | Self::Hocuspocus | Self::HocuspocusUnmerged => Dialect::Hocuspocus,
            Self::Node | Self::YWebsocket | Self::YSweet => Dialect::YWebsocket,
        }
    }

    /// The node in the same dialect: what this side is compared with.
    #[must_use]
    pub fn node(self) -> Self {
        match self.dialect() {
            Dialect::YWebsocket => Self::Node,
            Dialect::Hocuspocus => Self::NodeHocuspocus,
        }
    }

    /// None for the node.
    #[must_use]
    pub fn peer(self) -> Option<Peer> {
        match self {
            Self::Node | Self::NodeHocuspocus => None,
            Self::Hocuspocus => Some(Peer::Hocuspocus),
            Self::HocuspocusUnmerged => Some(Peer::HocuspocusUnmerged),
            Self::YWebsocket => Some(Peer::YWebsocket),
            Self::YSweet => Some(Peer::YSweet),
        }
    }

    /// What stands before the document's name in a request's path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::YSweet => "/doc/ws",
            _ => "",
        }
    }
}

/// Leaves out sides that cannot be had here, and says so on the page, which also gets the versions.
pub fn available(sides: &[Side], peers: &Peers, report: &mut Report) -> Vec<Side> {
    report.paragraph(&format!(
        "Peers: {}. Each server is one process, bound to the first processor with all its threads; the clients are on the \
         last one.",
        peers.versions()
    ));
    let (mut here, mut lacking) = (Vec::new(), Vec::new());
    for &side in sides {
        match side.peer().and_then(|peer| peers.lacks(peer)) {
            None => here.push(side),
            Some(reason) => lacking.push(format!("{} was not measured: {reason}.", side.name())),
        }
    }
    lacking.iter().for_each(|what| report.paragraph(what));
    here
}

/// A running server.
#[derive(Debug)]
pub struct Standing {
    side: Side,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Node { node: NodeUnderTest, secret: String },
    Peer(PeerServer),
}

impl Standing {
    /// Starts a side's server.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(side: Side, peers: &Peers) -> Result<Self> {
        let server = match side.peer() {
            None => {
                let secret = uuid();
                Server::Node { node: start_node(&secret, None)?, secret }
            }
            Some(peer) => Server::Peer(on_first_processor(|| peers.start(peer))?),
        };
        Ok(Self { side, server })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.server {
            Server::Node { node, .. } => node.pid(),
            Server::Peer(server) => server.pid(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match &self.server {
            Server::Node { node, .. } => node.address(),
            Server::Peer(server) => server.address(),
        }
    }

    /// The secret of its tokens, if it wants any.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match &self.server {
            Server::Node { secret, .. } => Some(secret),
            Server::Peer(_) => None,
        }
    }

    /// What the load generator dials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address(), self.side.path())
    }

    /// What the load generator shows.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.secret().map_or(Auth::None, |secret| Auth::Secret(secret.to_owned()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// The node ended with an error.
    pub fn stop(self) -> Result<()> {
        match self.server {
            Server::Node { node, .. } => node.stop(),
            Server::Peer(_) => Ok(()),
        }
    }
}

/// A node with one data thread, all of it on the first processor: the thread that compacts too, as with its peers.
///
/// # Errors
/// It does not start.
pub fn start_node(secret: &str, public_key: Option<PathBuf>) -> Result<NodeUnderTest> {
    let args = NodeArgs { public_key, ..node_args(secret) };
    on_first_processor(|| NodeUnderTest::start(&args))
}

/// A node with one data thread, that lets in as many clients of an address as come.
#[must_use]
pub fn node_args(secret: &str) -> NodeArgs {
    NodeArgs {
        threads: 1,
        driver: DriverArg::Auto,
        secret: secret.to_owned(),
        public_key: None,
        connects_per_minute: CONNECTS_PER_MINUTE,
        ..NodeArgs::default()
    }
}

/// Processes that `start` starts are bound to the first processor: they inherit it from the thread that it runs on.
///
/// # Errors
/// The thread cannot be bound, or `start` fails.
pub fn on_first_processor<T: Send>(start: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let bound = || -> Result<T> {
        if let Some(core) = allowed_cores()?.first() {
            pin_to_core(*core)?;
        }
        start()
    };
    std::thread::scope(|scope| scope.spawn(bound).join())
        .map_err(|_| anyhow!("the starting thread panicked"))?
}

/// A loopback address for each number, so that no address runs out of ports.
#[must_use]
pub fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + (number % 250) as u8)
}
