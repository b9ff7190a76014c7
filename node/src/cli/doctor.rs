//! `doctor`: checks of the host.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::serve::{SourceArgs, Unusable};
use super::token::unix_now;
use crate::config::{Config, DEFAULT_MAX_CONNECTIONS, Driver, Resolved};
use crate::doctor::{Host, Wanted, certificates, examine, examine_cluster, examine_jwks, exit_status};

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Check for so many connections [default: the configuration's, or 100000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Examines this host: exit status 0 if all is good, 1 with warnings, 2 with failures.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let host = Host::here();
        let resolved = self.resolved()?;
        let config = resolved.as_ref().map(|resolved| &resolved.config);
        let mut findings = examine(&host, &self.wanted(config));
        if let Some(Resolved { config, warnings, .. }) = &resolved {
            findings.extend(certificates(config, SystemTime::now()));
            findings.extend(examine_jwks(&config.jwks, unix_now()));
            findings.extend(examine_cluster(config, warnings));
        }
        let status = exit_status(&findings);
        let mut out = io::stdout().lock();
        if self.json {
            let listed: Vec<_> = findings
                .iter()
                .map(|finding| {
                    let mut entry = json!(finding);
                    entry["page"] = json!(finding.page());
                    entry
                })
                .collect();
            writeln!(out, "{:#}", json!({ "status": status, "findings": listed })).context("stdout")?;
        } else {
            for finding in &findings {
                writeln!(out, "{finding}").context("stdout")?;
            }
        }
        Ok(ExitCode::from(status))
    }

    fn resolved(&self) -> anyhow::Result<Option<Resolved>> {
        if !self.sources.is_given() {
            return Ok(None);
        }
        Ok(Some(self.sources.sources().resolve().map_err(Unusable)?))
    }

    fn wanted(&self, config: Option<&Config>) -> Wanted {
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let default = Wanted {
            connections: DEFAULT_MAX_CONNECTIONS.into(),
            rings_per_thread: 1,
            threads,
            driver: Driver::Auto,
            has_tls: false,
        };
        let wanted = config.map_or(default, |config| Wanted {
            connections: config.max_connections.into(),
            rings_per_thread: config.rings_per_thread.into(),
            threads: config.threads as u64,
            driver: config.driver,
            has_tls: config.tls.is_some(),
        });
        Wanted { connections: self.connections.map_or(wanted.connections, u64::from), ..wanted }
    }
}
