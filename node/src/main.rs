//! `pinwire-node`: parse, resolve, start, wait, stop.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use pinwire_node::cli::dev::{Dev, DevArgs};
use pinwire_node::cli::{Cli, Command, TokenCommand};
use pinwire_node::log;
use pinwire_node::memory;
use pinwire_node::signals::{Signals, Wish};
use pinwire_node::{Hung, StartError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::give_back_at_once();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            // Started again, a node may find what it lacks here: a port, room on the disk. A configuration stays as it is.
            let may_pass = error.is::<StartError>() || error.is::<Hung>();
            ExitCode::from(if may_pass { EXIT_OF_THE_HOST } else { EXIT_ERROR })
        }
    }
}

/// The same status as for flags that cannot be parsed.
const EXIT_ERROR: u8 = 2;
/// The host does not let the node run, or end as it should.
const EXIT_OF_THE_HOST: u8 = 1;

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let done = match &cli.command {
        Command::Doctor(args) => return args.run(),
        Command::Store(args) => return args.run(),
        Command::Dev(args) => {
            let format = cli.log_format.unwrap_or(log::LogFormat::Human);
            let log = log::Log::start(format, &log::filter_of_environment()).context("PINWIRE_LOG")?;
            dev(args, &log)
        }
        Command::Serve(args) => args.run(cli.log_format),
        Command::Upgrade(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Completions(args) => {
            args.run();
            Ok(())
        }
        Command::Manual(args) => args.run(),
        Command::Token(token) => match &token.command {
            TokenCommand::Mint(args) => writeln!(std::io::stdout(), "{}", args.mint()?).context("stdout"),
            TokenCommand::Inspect(args) => args.run(),
            TokenCommand::Verify(args) => return args.run(),
        },
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn dev(args: &DevArgs, log: &log::Log) -> anyhow::Result<()> {
    let dev = Dev::resolve(args)?;
    let mut signals = Signals::catch().context("signals")?;
    let running = dev.start(log)?;
    dev.announce(&running).context("stdout")?;
    let signal = loop {
        match signals.wait() {
            Wish::End(signal) => break signal,
            // There is nothing to reload, and the terminal is gone.
            Wish::Reload => break "SIGHUP",
            Wish::Upgrade(_) | Wish::Successor(..) | Wish::Other => {
                tracing::warn!("nobody can take over: documents are in this process's memory");
            }
        }
    };
    tracing::info!(signal, "stopping");
    signals.end_after(0).context("signals")?;
    running.stop().context("the nodes do not end as they should")?;
    tracing::info!("stopped");
    Ok(())
}
