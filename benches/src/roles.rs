//! The roles of a measuring command other than measuring: it starts itself in one of them for each server.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use pinwire_engine::{allowed_cores, pin_to_core};
use pinwire_node::cli::DriverArg;

use crate::bench_server;
use crate::child::{Child, serve_until_stdin_ends};
use crate::floor::{self, Floor};
use crate::node::{self, NodeArgs};

/// What the program is when it is not measuring.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Be the node under test; the measuring process starts this one itself.
    #[command(hide = true)]
    Node(NodeArgs),
    /// Be a floor.
    #[command(hide = true)]
    Floor(FloorArgs),
    /// Be the bench server with one thread.
    #[command(hide = true)]
    BenchServer(BenchServerArgs),
}

/// Which floor.
#[derive(Args, Clone, Copy, Debug)]
pub struct FloorArgs {
    /// How it talks to the kernel.
    #[arg(value_enum)]
    floor: Floor,
}

/// Which bench server.
#[derive(Args, Clone, Copy, Debug)]
pub struct BenchServerArgs {
    /// How it talks to the kernel.
    #[arg(value_enum)]
    driver: DriverArg,
}

impl Role {
    /// Plays the role until stdin ends.
    ///
    /// # Errors
    /// The server cannot start.
    pub fn play(&self) -> Result<()> {
        match self {
            Role::Node(args) => node::serve(args),
            Role::Floor(args) => {
                pin_to_first_core()?;
                let listener = pinwire_engine::listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let address = listener.local_addr()?;
                let floor = args.floor;
                std::thread::Builder::new().name("floor".into()).spawn(move || {
                    if let Err(error) = floor::serve(floor, listener) {
                        eprintln!("the floor ended: {error:#}");
                    }
                })?;
                serve_until_stdin_ends(address)
            }
            Role::BenchServer(args) => {
                pin_to_first_core()?;
                let args = bench_server::Args {
                    listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    threads: Some(1),
                    driver: args.driver,
                    max_message: 64 << 20,
                };
                let (ready, address) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let told = |address| {
                        // The main thread waits for it.
                        let _ = ready.send(address);
                    };
                    if let Err(error) = bench_server::serve(&args, told) {
                        eprintln!("the bench server ended: {error:#}");
                    }
                });
                serve_until_stdin_ends(address.recv()?)
            }
        }
    }
}

/// Everything that the process starts from now on is on the first core it may use.
///
/// # Errors
/// The system refuses.
pub fn pin_to_first_core() -> Result<()> {
    if let Some(core) = allowed_cores()?.first() {
        pin_to_core(*core)?;
    }
    Ok(())
}

/// The core that load comes from: the last one.
///
/// # Errors
/// The system does not say which cores there are.
pub fn load_core() -> Result<usize> {
    Ok(allowed_cores()?.last().copied().unwrap_or(0))
}

/// A server of messages without documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Server {
    /// The bench server on io_uring.
    PinwireUring,
    /// The bench server on epoll.
    PinwireEpoll,
    /// The floor on io_uring.
    FloorUring,
    /// The floor on epoll.
    FloorEpoll,
}

impl Server {
    /// All of them: ours first.
    pub const ALL: [Server; 4] =
        [Server::PinwireUring, Server::PinwireEpoll, Server::FloorUring, Server::FloorEpoll];

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Server::PinwireUring => "pinwire io_uring",
            Server::PinwireEpoll => "pinwire epoll",
            Server::FloorUring => "floor io_uring",
            Server::FloorEpoll => "floor epoll",
        }
    }

    /// Whether it is what others are held against.
    #[must_use]
    pub fn is_floor(self) -> bool {
        matches!(self, Server::FloorUring | Server::FloorEpoll)
    }

    /// The arguments that make this program that server.
    #[must_use]
    pub fn args(self) -> Vec<String> {
        let (role, driver) = match self {
            Server::PinwireUring => ("bench-server", "uring"),
            Server::PinwireEpoll => ("bench-server", "epoll"),
            Server::FloorUring => ("floor", "uring"),
            Server::FloorEpoll => ("floor", "epoll"),
        };
        vec![role.to_owned(), driver.to_owned()]
    }

    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(self) -> Result<Child> {
        Child::start(&self.args())
    }
}
