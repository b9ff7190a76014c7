//! `serve`: a node as operators run it, from a configuration.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::config::{Config, Problem, Resolved, Sources};
use crate::log::{Log, LogFormat};
use crate::signals::{Signals, Wish};
use crate::{Node, StartError};

/// Where a configuration comes from, as flags.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The configuration file (TOML). Variables `PINWIRE_KEY` lie over it, as in PINWIRE_WEBSOCKET_MAX_FRAME.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a key, over the file and variables; may be given more than once. Lists are separated by commas.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SourceArgs {
    /// Whether anything was given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        let sources = self.sources();
        sources.file.is_some() || !sources.settings.is_empty() || sources.has_variables()
    }

    /// The sources, this process's environment among them.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Sources { file: self.config.clone(), variables: variables.collect(), settings: self.set.clone() }
    }
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// When ready, print one line of JSON on stdout and nothing else.
    #[arg(long)]
    json: bool,
}

/// Everything that is wrong with a configuration, as one error.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", lines(.0))]
pub struct Unusable(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

impl ServeArgs {
    /// Runs the node until a signal ends it; SIGHUP has the configuration read again.
    ///
    /// # Errors
    /// A configuration that cannot be used, or a node that cannot start.
    pub fn run(&self, format: Option<LogFormat>) -> anyhow::Result<()> {
        let sources = self.sources.sources();
        let mut resolved = sources.resolve().map_err(Unusable)?;
        let log = Log::start(format.unwrap_or(resolved.log_format), &resolved.log)?;
        warn(&resolved.warnings);
        let mut signals = Signals::catch().context("signals")?;
        let node = Node::start(resolved.config.clone()).map_err(explain).context("the node cannot start")?;
        tracing::warn!("documents live in this process's memory: they end with it");
        self.announce(&resolved.config, node.addresses()).context("stdout")?;
        let signal = loop {
            match signals.wait() {
                Wish::End(signal) => break signal,
                Wish::Reload => reload(&sources, &mut resolved, &node, &log),
            }
        };
        tracing::info!(signal, "stopping");
        signals.end_on_next().context("signals")?;
        node.stop();
        tracing::info!("stopped");
        Ok(())
    }

    /// `bound` has at least one address, those that speak TLS first.
    fn announce(&self, config: &Config, bound: &[SocketAddr]) -> io::Result<()> {
        let (ws, http) = (config.region.ws_url(bound[0]), config.region.http_url(bound[0]));
        let (tls, plain) = bound.split_at(config.tls_addresses().min(bound.len()));
        let named = |addresses: &[SocketAddr]| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Some(texts.join(", ")).filter(|text| !text.is_empty())
        };
        tracing::info!(
            region = config.region.name,
            tls = named(tls),
            plain = named(plain),
            ws_url = ws,
            "ready"
        );
        if !self.json {
            return Ok(());
        }
        let region = json!({ "region": config.region.name, "ws_url": ws, "http_url": http });
        let line = json!({ "pid": std::process::id(), "regions": [region] });
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

/// What operators can do about it.
fn explain(error: StartError) -> anyhow::Error {
    let StartError::Listen(address, cause) = &error else { return error.into() };
    let mend = match cause.kind() {
        io::ErrorKind::AddrInUse => {
            format!("something else listens there; `ss -ltnp sport = :{}` says what", address.port())
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address; `ip address` lists them".to_owned()
        }
        _ => return error.into(),
    };
    anyhow::Error::new(error).context(mend)
}

fn warn(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!("configuration: {warning}");
    }
}

/// Reads the configuration again. One that cannot be used changes nothing; a key that needs a restart keeps its value.
fn reload(sources: &Sources, current: &mut Resolved, node: &Node, log: &Log) {
    let (new, changes) = match sources.resolve_again(current) {
        Ok(new) => new,
        Err(problems) => {
            for problem in problems {
                tracing::error!("configuration: {problem}");
            }
            tracing::error!("nothing was reloaded");
            return;
        }
    };
    warn(&new.warnings);
    for change in &changes {
        if change.is_live {
            tracing::info!(key = change.key, before = change.before, now = change.now, "reloaded");
        } else {
            let (kept, wanted) = (&change.before, &change.now);
            tracing::warn!(key = change.key, kept, wanted, "needs a restart and keeps its value");
        }
    }
    if let Err(error) = log.set_filter(&new.log) {
        tracing::error!("{error:#}");
    }
    node.update(&new.config);
    tracing::info!(
        changes = changes.len(),
        keys = new.config.keys.iter().count(),
        "configuration reloaded, files of keys and certificates too"
    );
    // What needs a restart is told again at each reload, until there is one.
    *current = new;
}
