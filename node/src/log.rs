//! Log lines on stderr. Tokens and secrets are never logged; what peers do wrong is `debug`.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

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

/// The log of the process, whose filter can be changed.
#[derive(Debug)]
pub struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Starts logging what `filter` lets through, in the syntax of `tracing_subscriber::EnvFilter`.
    ///
    /// # Errors
    /// What is no filter, or logging started before.
    pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let lines = fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr);
        let log = tracing_subscriber::registry().with(filter);
        match format {
            LogFormat::Human => log.with(lines).try_init(),
            LogFormat::Json => log.with(lines.json()).try_init(),
        }
        .map_err(|error| anyhow::anyhow!("logging: {error}"))?;
        Ok(Self(handle))
    }

    /// Logs what another filter lets through from now on.
    ///
    /// # Errors
    /// What is no filter.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("`{filter}` is no log filter: {error}"))
}
