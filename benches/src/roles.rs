//! The roles of a measuring command other than measuring: it starts itself in one of them for each server.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use pinwire_engine::allowed_cores;
use pinwire_node::cli::DriverArg;

use crate::bench_server;
use crate::child::{Child, say_address, wait_for_end_of_stdin};
use crate::floor::{self, Floor};
use crate::node::{self, NodeArgs};
use crate::sides::on_first_processor;

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
    #[command(flatten)]
    end: End,
}

/// Which bench server.
#[derive(Args, Clone, Copy, Debug)]
pub struct BenchServerArgs {
    /// How it talks to the kernel.
    #[arg(value_enum)]
    driver: DriverArg,
    #[command(flatten)]
    end: End,
}

/// When a server ends.
#[derive(Args, Clone, Copy, Debug)]
struct End {
    /// When its last client is gone, whatever stdin does: under valgrind a thread that waits in io_uring lets no other run,
    /// so that none could end the process.
    #[arg(long)]
    when_idle: bool,
}

impl Role {
    /// Plays the role until stdin ends.
    ///
    /// # Errors
    /// The server cannot start.
    pub fn play(&self) -> Result<()> {
        match *self {
            Role::Node(ref args) => node::serve(args),
            Role::Floor(FloorArgs { floor, end }) => {
                let listener = pinwire_engine::listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let address = listener.local_addr()?;
                serve_beside_stdin(end, move |ready| {
                    ready(address)?;
                    floor::serve(floor, listener, end.when_idle)
                })
            }
            Role::BenchServer(BenchServerArgs { driver, end }) => {
                let args = bench_server::Args {
                    listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    threads: Some(1),
                    driver,
                    max_message: 64 << 20,
                    when_idle: end.when_idle,
                };
                serve_beside_stdin(end, move |ready| bench_server::serve(&args, ready))
            }
        }
    }
}

/// Serves on a thread of its own until stdin ends, or here until the server ends by itself. `serve` is given what says where
/// it listens.
fn serve_beside_stdin(
    end: End,
    serve: impl FnOnce(fn(SocketAddr) -> Result<()>) -> Result<()> + Send + 'static,
) -> Result<()> {
    if end.when_idle {
        return serve(say_address);
    }
    std::thread::Builder::new().name("server".into()).spawn(move || {
        if let Err(error) = serve(say_address) {
            eprintln!("the server ended: {error:#}");
        }
    })?;
    wait_for_end_of_stdin()
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

    /// Starts it on the first core.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(self) -> Result<Child> {
        on_first_processor(|| Child::start(Child::command()?.args(self.args())))
    }
}
