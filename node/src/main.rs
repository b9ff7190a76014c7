//! `pinwire-node`: parse, resolve, start, wait, stop.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use pinwire_node::Node;
use pinwire_node::cli::dev::{Dev, DevArgs};
use pinwire_node::cli::{Cli, Command, TokenCommand};
use pinwire_node::log;
use pinwire_node::memory;
use pinwire_node::signals::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::give_back_at_once();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// The same status as for flags that cannot be parsed.
const EXIT_ERROR: u8 = 2;

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Dev(args) => {
            log::start(cli.log_format)?;
            dev(args)
        }
        Command::Token(token) => {
            let TokenCommand::Mint(args) = &token.command;
            writeln!(std::io::stdout(), "{}", args.mint()?).context("stdout")
        }
    }
}

fn dev(args: &DevArgs) -> anyhow::Result<()> {
    let dev = Dev::resolve(args)?;
    let mut signals = Signals::catch().context("signals")?;
    let node = Node::start(dev.config.clone()).context("the node cannot start")?;
    dev.announce(node.address()).context("stdout")?;
    let signal = signals.wait();
    tracing::info!(signal, "stopping");
    signals.end_on_next().context("signals")?;
    node.stop();
    tracing::info!("stopped");
    Ok(())
}
