//! Log lines on stderr. Tokens and secrets are never logged; what peers do wrong is `debug`.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Variable that sets what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const VARIABLE: &str = "PINWIRE_LOG";

/// Starts logging for the whole process.
///
/// # Errors
/// `PINWIRE_LOG` that is no filter, or logging started before.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) => {
            EnvFilter::try_new(&filter).map_err(|e| anyhow::anyhow!("{VARIABLE}={filter:?}: {e}"))?
        }
        Err(_) => EnvFilter::new("info"),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|e| anyhow::anyhow!("logging: {e}"))
}
