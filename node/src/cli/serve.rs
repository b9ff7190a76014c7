//! `serve`: a node as operators run it, from a configuration.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use pinwire_admin_api::events::What;
use sd_notify::NotifyState;
use serde_json::json;

use super::systemd::{self, Watchdog};
use crate::admin::ListenError;
use crate::config::{Change, Config, Problem, Resolved, Sources};
use crate::log::{Log, LogFormat};
use crate::signals::{Signals, Wish};
use crate::store::StoreConfig;
use crate::upgrade::{Handed, News, Predecessor, READY_WITHIN, Successor};
use crate::{Node, Start, StartError, ready};

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
    /// Runs the node until a signal ends it; SIGHUP has the configuration read again, SIGUSR2 another process take over.
    ///
    /// # Errors
    /// A configuration that cannot be used, or a node that cannot start.
    pub fn run(&self, format: Option<LogFormat>) -> anyhow::Result<()> {
        let began = Instant::now();
        let (before, handed) = Predecessor::of_this_process().context("the process before")?.unzip();
        let generation = before.as_ref().map_or(1, |before| before.generation);
        let started = self.start(format, generation, handed.unwrap_or_default()).and_then(|mut serving| {
            if before.is_some() {
                serving.wait_until_ready(began + READY_WITHIN)?;
            }
            Ok(serving)
        });
        let mut serving = match started {
            Ok(serving) => serving,
            Err(error) => {
                if let Some(before) = before {
                    before.is_not_succeeded(&format!("{error:#}"));
                }
                return Err(error);
            }
        };
        let announced = self.announce(&serving.resolved.config, &serving.node).context("stdout");
        match before {
            // Whoever reads stdout reads that of the process before.
            Some(before) => serving.has_taken_over(before).context("the process before")?,
            None => {
                announced?;
                systemd::tell_ready(&serving.resolved.config.region.name);
            }
        }
        serving.watchdog = systemd::start_watchdog(&serving.node).context("the watchdog")?;
        let end = serving.until_end();
        serving.finish(&end)
    }

    fn start(&self, format: Option<LogFormat>, generation: u32, handed: Handed) -> anyhow::Result<Serving> {
        let sources = self.sources.sources();
        let resolved = sources.resolve().map_err(Unusable)?;
        let log = Log::start(format.unwrap_or(resolved.log_format), &resolved.log)?;
        warn(&resolved.warnings);
        let signals = Signals::catch().context("signals")?;
        let start = Start {
            log: Some(log.clone()),
            digest: Some(resolved.digest()),
            handed,
            upgrades: Some(signals.upgrades()),
            waits: generation > 1,
            ..Start::default()
        };
        let mut config = resolved.config.clone();
        if generation > 1 {
            // Beside the one before, which has that name for a while.
            config.cluster.node = format!("{}.{generation}", config.cluster.node);
        }
        let node = Node::start_with(config, start).map_err(explain).context("the node cannot start")?;
        let is_shared = resolved.config.cluster.session.is_some();
        if !is_shared && matches!(resolved.config.store, StoreConfig::Memory) {
            tracing::warn!(
                "documents live in this process's memory and end with it: set store.path to keep them"
            );
        }
        Ok(Serving {
            sources,
            resolved,
            log,
            node,
            signals,
            generation,
            before: None,
            coming: None,
            attempts: 0,
            watchdog: None,
        })
    }

    fn announce(&self, config: &Config, node: &Node) -> io::Result<()> {
        // TLS first: that is where clients are sent.
        let (bound, address) = (node.addresses(), node.address());
        let (tls, plain) = bound.split_at(config.tls_addresses().min(bound.len()));
        let named = |addresses: &[SocketAddr]| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Some(texts.join(", ")).filter(|text| !text.is_empty())
        };
        for address in node.admin_addresses() {
            tracing::info!(%address, "admin API");
        }
        let (ws, http) = (config.region.ws_url(address), config.region.http_url(address));
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
        let mut region = json!({ "region": config.region.name, "ws_url": ws, "http_url": http });
        if let Some(admin) = node.admin_addresses().first() {
            region["admin_url"] = admin.to_string().into();
        }
        let line = json!({ "pid": std::process::id(), "regions": [region] });
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

/// A node that serves.
pub(super) struct Serving {
    sources: Sources,
    pub(super) resolved: Resolved,
    log: Log,
    pub(super) node: Node,
    pub(super) signals: Signals,
    pub(super) generation: u32,
    /// The process that this one has taken over from, which watches it.
    pub(super) before: Option<Predecessor>,
    /// Another process that was started, and is not ready yet.
    pub(super) coming: Option<Successor>,
    /// Processes that were started to take over.
    pub(super) attempts: u32,
    pub(super) watchdog: Watchdog,
}

/// Why a node does not serve any more.
pub(super) enum End {
    /// Somebody wants it to end.
    Signal,
    /// Another process has taken over; whether somebody wants this one to end, too.
    Succeeded(bool),
}

impl Serving {
    /// Serves until it is to end.
    fn until_end(&mut self) -> End {
        loop {
            match self.signals.wait() {
                Wish::End(signal) => {
                    tracing::info!(signal, "stopping");
                    // It ends with this.
                    self.coming = None;
                    if let Some(before) = &mut self.before {
                        before.is_left();
                    }
                    if let Err(error) = self.node.drains().end(signal) {
                        tracing::error!(%error, "the node cannot drain, and ends at once");
                    }
                    return End::Signal;
                }
                Wish::Reload => {
                    systemd::tell_reloading();
                    let status = reload(&self.sources, &mut self.resolved, &self.node, &self.log);
                    systemd::tell(&[NotifyState::Status(status), NotifyState::Ready]);
                }
                Wish::Upgrade(asked) => self.upgrade(asked),
                Wish::Successor(number, News::Ready(ready)) => {
                    if let Some(end) = self.came(number, ready) {
                        return end;
                    }
                }
                Wish::Successor(_, News::Left | News::Lost(_)) | Wish::Other => {}
            }
        }
    }

    /// Waits for what this process needs to serve as the one before does, and accepts then.
    fn wait_until_ready(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let mut told = None;
        while let Some(lacks) = self.node.lacks() {
            if told.replace(lacks) != Some(lacks) {
                tracing::info!(lacks, "this process does not take over yet");
            }
            if let Some(signal) = self.signals.end_within(ready::LOOK) {
                anyhow::bail!("it was ended by {signal} before it was ready");
            }
            if Instant::now() >= deadline {
                anyhow::bail!("it is not ready within {} s: {lacks}", READY_WITHIN.as_secs());
            }
        }
        self.node.open().context("it cannot listen")
    }
}

fn note_reload(node: &Node, changes: &[Change]) {
    let names = |changes: Vec<&Change>| changes.iter().map(|change| change.key.to_owned()).collect();
    let Some(events) = node.events() else { return };
    events.note(What::Reloaded {
        changed: names(changes.iter().collect()),
        needs_restart: names(changes.iter().filter(|change| !change.is_live).collect()),
    });
}

/// What operators can do about it.
fn explain(error: StartError) -> anyhow::Error {
    let (address, cause) = match &error {
        StartError::Listen(address, cause) | StartError::Admin(ListenError::Tcp(address, cause)) => {
            (address, cause)
        }
        _ => return error.into(),
    };
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

/// Reads the configuration again. One that cannot be used changes nothing; a key that needs a restart keeps its value. What
/// came of it is for `systemctl status`.
fn reload(sources: &Sources, current: &mut Resolved, node: &Node, log: &Log) -> &'static str {
    let (new, changes) = match sources.resolve_again(current) {
        Ok(new) => new,
        Err(problems) => {
            for problem in &problems {
                tracing::error!("configuration: {problem}");
            }
            if let Some(events) = node.events() {
                let problems = problems.iter().map(ToString::to_string).collect();
                events.note(What::ReloadRefused { problems });
            }
            tracing::error!("nothing was reloaded");
            return "the last reload failed and changed nothing: see the log";
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
    node.update(&new.config, new.digest());
    note_reload(node, &changes);
    tracing::info!(
        changes = changes.len(),
        keys = new.config.keys.iter().count(),
        "configuration reloaded, files of keys and certificates too"
    );
    // What needs a restart is told again at each reload, until there is one.
    *current = new;
    "reloaded"
}
