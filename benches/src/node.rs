//! The node under test, with the configuration of production.
//!
//! Every limit, deadline and ping is on. Only the handshakes a minute of
//! one client address are raised, since all of a measurement's clients live on a few loopback addresses.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use clap::Args;
use pinwire_node::Node;
use pinwire_node::cli::DriverArg;
use pinwire_node::config::{AddressLimits, Config};
use pinwire_node::log::{self, LogFormat};
use pinwire_token::{Key, KeySet};

use crate::child::{Child, serve_until_stdin_ends};
use crate::roles::pin_to_first_core;

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
    /// Handshakes a minute of one client address.
    #[arg(long, default_value_t = 60)]
    pub connects_per_minute: u32,
    /// Keep all threads on the first core, those beside the data threads too.
    #[arg(long)]
    pub one_core: bool,
}

/// Runs the node until stdin ends.
///
/// # Errors
/// The node cannot start.
pub fn serve(args: &NodeArgs) -> Result<()> {
    log::start(LogFormat::Human)?;
    if args.one_core {
        pin_to_first_core()?;
    }
    let keys = KeySet::from_iter([Key::from_secret(args.secret.as_bytes())?]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::dev(listen, args.threads, keys);
    config.driver = args.driver.into();
    config.address_limits =
        Some(AddressLimits { connects_per_minute: args.connects_per_minute, ..AddressLimits::default() });
    let node = Node::start(config).context("the node cannot start")?;
    serve_until_stdin_ends(node.address())?;
    node.stop();
    Ok(())
}

impl NodeArgs {
    /// Starts a node of these arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<Child> {
        let driver = match self.driver {
            DriverArg::Auto => "auto",
            DriverArg::Uring => "uring",
            DriverArg::Epoll => "epoll",
        };
        let mut args: Vec<String> =
            ["node", "--driver", driver, "--secret", &self.secret].map(str::to_owned).into();
        args.extend(["--threads".to_owned(), self.threads.to_string()]);
        args.extend(["--connects-per-minute".to_owned(), self.connects_per_minute.to_string()]);
        args.extend(self.one_core.then(|| "--one-core".to_owned()));
        Child::start(&args)
    }
}
