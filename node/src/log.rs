//! Log lines on stderr, and the last of them in memory. Tokens and secrets are never logged; what peers do wrong is `debug`.

mod recent;

use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use time::OffsetDateTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use recent::Recent;
pub(crate) use recent::{Line, Lines};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Variable that sets what is logged where there is no configuration.
const VARIABLE: &str = "PINWIRE_LOG";

/// What `PINWIRE_LOG` says, or what is logged without it.
#[must_use]
pub fn filter_of_environment() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned())
}

/// The log of the process, whose filter can be changed: for good by the configuration, or over it for a while. All copies are
/// the same log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handle: reload::Handle<EnvFilter, Registry>,
    recent: Recent,
    state: Mutex<Numbered>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Now.
    pub filter: String,
    /// By the configuration.
    pub configured: String,
    /// When what is configured holds again, if it does by itself.
    pub until: Option<OffsetDateTime>,
}

/// A change of what is logged, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(u64);

impl Log {
    /// Starts logging what `filter` lets through, in the syntax of `tracing_subscriber::EnvFilter`.
    ///
    /// # Errors
    /// What is no filter, or logging started before.
    pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<Self> {
        let (layer, handle) = reload::Layer::new(parse(filter)?);
        let lines = fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr);
        let recent = Recent::default();
        let log = tracing_subscriber::registry().with(layer).with(recent.clone());
        match format {
            LogFormat::Human => log.with(lines).try_init(),
            LogFormat::Json => log.with(lines.json()).try_init(),
        }
        .map_err(|error| anyhow::anyhow!("logging: {error}"))?;
        let state = State { filter: filter.to_owned(), configured: filter.to_owned(), until: None };
        let state = Mutex::new(Numbered { state, change: Change(0) });
        Ok(Self(Arc::new(Inner { handle, recent, state })))
    }

    /// Logs what another filter lets through from now on: what is configured. What was laid over it ends.
    ///
    /// # Errors
    /// What is no filter.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        let mut state = self.lock();
        self.0.handle.reload(parse(filter)?)?;
        filter.clone_into(&mut state.state.configured);
        state.put(filter, None);
        Ok(())
    }

    /// Lays another filter over what is configured. It holds until [`Self::end_override`] with what is returned, which the
    /// caller sees to if there is an `until`.
    ///
    /// # Errors
    /// What is no filter.
    pub fn override_filter(&self, filter: &str, until: Option<OffsetDateTime>) -> anyhow::Result<Change> {
        let mut state = self.lock();
        self.0.handle.reload(parse(filter)?)?;
        state.put(filter, until);
        Ok(state.change)
    }

    /// Logs what is configured again, unless something else was set since; says whether it was not.
    pub fn end_override(&self, change: Change) -> bool {
        let is_last = self.lock().change == change;
        if is_last {
            self.reset();
        }
        is_last
    }

    /// Logs what is configured.
    pub fn reset(&self) {
        let mut state = self.lock();
        let configured = state.state.configured.clone();
        // It was taken before.
        if let Ok(filter) = parse(&configured)
            && let Err(error) = self.0.handle.reload(filter)
        {
            tracing::error!(%error, "logging");
        }
        state.put(&configured, None);
    }

    /// The last lines.
    pub(crate) fn recent(&self) -> &Recent {
        &self.0.recent
    }

    /// What is logged.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is logged, and the number of the change that made it so.
#[derive(Debug)]
struct Numbered {
    state: State,
    change: Change,
}

impl Numbered {
    fn put(&mut self, filter: &str, until: Option<OffsetDateTime>) {
        filter.clone_into(&mut self.state.filter);
        self.state.until = until;
        self.change.0 += 1;
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether a filter is one, and means what it looks like.
///
/// # Errors
/// What is wrong with it, and its mend.
pub fn check(filter: &str) -> Result<(), String> {
    // The library takes a slip for a module, and then logs nothing else.
    let is_level = |part: &str| LEVELS.contains(&part.to_ascii_lowercase().as_str());
    for part in filter.split(',').map(str::trim) {
        if !part.contains('=') && !part.contains('[') && !is_level(part) {
            let levels = LEVELS.join(", ");
            return Err(format!("`{part}` is no level; write one of {levels}, or MODULE=LEVEL"));
        }
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| format!("`{filter}` is no filter: {error}"))
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("`{filter}` is no log filter: {error}"))
}
