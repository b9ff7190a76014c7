//! The command line. Flags only parse here; each command turns its flags into something resolved.

pub mod config;
pub mod dev;
pub mod doctor;
pub mod inspect;
pub mod manual;
pub mod serve;
pub mod store;
mod succession;
mod systemd;
pub mod token;
pub mod upgrade;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Driver;
use crate::log::LogFormat;

/// A self-hosted, geo-distributed WebSocket data plane for Yjs documents.
#[derive(Debug, Parser)]
#[command(name = "pinwire-node", version, after_long_help = AFTER)]
pub struct Cli {
    /// How log lines on stderr look [default: human, or what the configuration says]; PINWIRE_LOG sets what is logged, as in
    /// `info,pinwire_node=debug`.
    #[arg(long, global = true, value_enum)]
    pub log_format: Option<LogFormat>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Exit status: 0 good; 1 warnings (doctor), a second signal ended the node, or a thread of it hung at its end; 2 an error, \
of the command line or the configuration too.

Files: /etc/pinwire/pinwire.toml and pinwire.secret are the configuration and the secret for tokens of a node that the Debian \
package brought; `config init` writes such files. Every key of the configuration stands in docs/configuration.md, with the \
package below /usr/share/doc/pinwire-node.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node for trying things out: no configuration, loopback only, everything in memory.
    Dev(dev::DevArgs),
    /// Run a node from a configuration until SIGTERM, on which it drains; a second one ends it. SIGHUP has the configuration read
    /// again, SIGUSR2 another process take over.
    Serve(serve::ServeArgs),
    /// Have another process take over from one that runs: of a new version, or with another configuration.
    Upgrade(upgrade::UpgradeArgs),
    /// Check whether this host lets a node hold what it is configured for.
    Doctor(doctor::DoctorArgs),
    /// Make, check and show configurations.
    Config(config::ConfigArgs),
    /// Work with tokens.
    Token(TokenArgs),
    /// Look at the documents that a node left on disk, while none uses them.
    Store(store::StoreArgs),
    /// Print a shell's completions, for packagers.
    #[command(hide = true)]
    Completions(manual::CompletionsArgs),
    /// Write manual pages into a directory, for packagers.
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do with tokens.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Sign a token and print it alone.
    Mint(token::MintArgs),
    /// Print what a token says, as JSON, without checking it.
    Inspect(inspect::InspectArgs),
    /// Say what a node would allow a token, or why it would refuse it: exit status 0 or 1, and 2 where that cannot be told.
    Verify(inspect::VerifyArgs),
}

/// [`Driver`] as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DriverArg {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring, or fail.
    Uring,
    /// epoll.
    Epoll,
}

impl From<DriverArg> for Driver {
    fn from(arg: DriverArg) -> Self {
        match arg {
            DriverArg::Auto => Self::Auto,
            DriverArg::Uring => Self::Uring,
            DriverArg::Epoll => Self::Epoll,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_dev_are_parsed_with_their_defaults() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let Command::Dev(dev) = parse("pinwire-node dev").unwrap().command else { panic!("not dev") };
        assert_eq!(dev.listen.to_string(), "127.0.0.1:1234");
        assert!(!dev.json && dev.threads.is_none() && dev.driver == DriverArg::Auto);
        let line = "pinwire-node dev --listen [::1]:0 --threads 2 --json --driver epoll --log-format json";
        let Command::Dev(dev) = parse(line).unwrap().command else { panic!("not dev") };
        assert_eq!((dev.listen.to_string().as_str(), dev.json), ("[::1]:0", true));
        assert_eq!((dev.threads.map(usize::from), dev.driver), (Some(2), DriverArg::Epoll));
        for wrong in
            ["dev --threads 0", "dev --listen 1234", "dev --driver kqueue", "token", "token mint", ""]
        {
            assert!(parse(&format!("pinwire-node {wrong}")).is_err(), "{wrong}");
        }
    }
}
