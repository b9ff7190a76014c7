//! The node under test: a child process that runs this same program in another role.
//!
//! The configuration is the one of production: every limit, deadline and ping is on. Only the handshakes a minute of
//! one client address are raised, since all of a measurement's clients live on a few loopback addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use pinwire_node::Node;
use pinwire_node::cli::DriverArg;
use pinwire_node::config::{
    AddressLimits, Admin, Certificates, Cluster, Config, DEFAULT_MAX_CONNECTIONS, License, RedisUrl,
    RegistryKind, Tls,
};
use pinwire_node::log::{self, LogFormat};
use pinwire_node::memory;
use pinwire_token::{Key, KeySet};

use crate::child::{Child, say_address, wait_for_end_of_stdin};

/// The license region of nodes that have a Redis: the one that minted tokens name.
const LICENSE: &str = "aws-eu-west-1";

/// Roles of a measuring command other than measuring.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Be the node under test; the measuring process starts this one itself.
    #[command(hide = true)]
    Node(NodeArgs),
}

/// What a node under test is made of.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Data threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// How to talk to the kernel.
    #[arg(long, value_enum, default_value_t = DriverArg::Auto)]
    pub driver: DriverArg,
    /// Secret of the tokens.
    #[arg(long)]
    pub secret: String,
    /// A file with a public key of tokens, in PEM.
    #[arg(long)]
    pub public_key: Option<PathBuf>,
    /// Handshakes a minute of one client address.
    #[arg(long, default_value_t = 60)]
    pub connects_per_minute: u32,
    /// Connections it takes.
    #[arg(long, default_value_t = DEFAULT_MAX_CONNECTIONS)]
    pub max_connections: u32,
    /// Bytes that its process may use before it refuses everybody; 0: as the host says
    #[arg(long, default_value_t = 0)]
    pub max_memory: u64,
    /// Rings that a data thread may have.
    #[arg(long, default_value_t = 1)]
    pub rings: u32,
    /// A certificate in PEM: TLS is spoken then
    #[arg(long, requires = "key")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// A Redis for pins and sessions: the node is one of several of its region
    #[arg(long, requires = "name")]
    pub redis: Option<String>,
    /// Its name among them.
    #[arg(long)]
    pub name: Option<String>,
    /// A Unix socket for its admin API: nobody asks it otherwise.
    #[arg(long)]
    pub admin_socket: Option<PathBuf>,
}

impl Default for NodeArgs {
    fn default() -> Self {
        Self {
            threads: 1,
            driver: DriverArg::Auto,
            secret: String::new(),
            public_key: None,
            connects_per_minute: 60,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_memory: 0,
            rings: 1,
            certificate: None,
            key: None,
            redis: None,
            name: None,
            admin_socket: None,
        }
    }
}

/// Runs the node until stdin ends.
///
/// # Errors
/// The node cannot start.
pub fn serve(args: &NodeArgs) -> Result<()> {
    memory::give_back_at_once();
    log::Log::start(LogFormat::Human, &log::filter_of_environment())?;
    let mut keys = KeySet::from_iter([Key::from_secret(args.secret.as_bytes())?]);
    if let Some(file) = &args.public_key {
        keys.add(Key::from_public_pem(&std::fs::read_to_string(file)?)?);
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::dev(listen, args.threads, keys);
    config.driver = args.driver.into();
    config.max_connections = args.max_connections;
    config.shedding.max_memory = args.max_memory;
    // It is driven to its end on purpose, on a processor of its own: who then comes is to be served and measured, not refused.
    config.shedding.measured.cpu = false;
    config.rings_per_thread = args.rings;
    config.address_limits =
        Some(AddressLimits { connects_per_minute: args.connects_per_minute, ..AddressLimits::default() });
    if let (Some(chain), Some(key)) = (&args.certificate, &args.key) {
        let mut certificates = Certificates::default();
        certificates.add(chain, key)?;
        let certificates = Arc::new(certificates);
        config.tls =
            Some(Tls { listen: std::mem::take(&mut config.listen), certificates, handshakes_per_turn: 8 });
    }
    if let (Some(url), Some(name)) = (&args.redis, &args.name) {
        let url = RedisUrl::from(url.as_str());
        config.known_db_codes = vec![LICENSE.to_owned()];
        config.cluster = Cluster {
            registry: RegistryKind::Redis(vec![License { code: LICENSE.to_owned(), url: url.clone() }]),
            node: name.clone(),
            session: Some(url),
            ..Cluster::alone()
        };
    }
    if let Some(socket) = &args.admin_socket {
        let socket = Some(socket.clone());
        let (listen, token, tls, audit_log, public_url) = (Vec::new(), None, None, None, None);
        config.admin = Some(Admin { listen, socket, token, tls, audit_log, public_url });
    }
    let node = Node::start(config).context("the node cannot start")?;
    say_address(node.address())?;
    wait_for_end_of_stdin()?;
    node.stop()?;
    Ok(())
}

/// A running node under test.
#[derive(Debug)]
pub struct NodeUnderTest(Child);

impl NodeUnderTest {
    /// Starts the node and waits until it accepts connections.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(args: &NodeArgs) -> Result<Self> {
        let driver = match args.driver {
            DriverArg::Auto => "auto",
            DriverArg::Uring => "uring",
            DriverArg::Epoll => "epoll",
        };
        let mut command = Child::command()?;
        command
            .args(["node", "--driver", driver, "--secret", &args.secret])
            .args(["--threads", &args.threads.to_string()])
            .args(["--connects-per-minute", &args.connects_per_minute.to_string()])
            .args(["--max-connections", &args.max_connections.to_string()])
            .args(["--max-memory", &args.max_memory.to_string()])
            .args(["--rings", &args.rings.to_string()]);
        if let Some(file) = &args.public_key {
            command.arg("--public-key").arg(file);
        }
        if let (Some(certificate), Some(key)) = (&args.certificate, &args.key) {
            command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        if let (Some(url), Some(name)) = (&args.redis, &args.name) {
            command.args(["--redis", url, "--name", name]);
        }
        if let Some(socket) = &args.admin_socket {
            command.arg("--admin-socket").arg(socket);
        }
        Ok(Self(Child::start(&mut command)?))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Has it close its connections and waits for its end.
    ///
    /// # Errors
    /// It ends with an error.
    pub fn stop(self) -> Result<()> {
        // It gives its clients seconds, not minutes, to agree.
        self.0.stop()
    }

    /// As one server among others.
    #[must_use]
    pub fn into_child(self) -> Child {
        self.0
    }
}
