//! A program of the operator's, which knows how to change the zone. What it is told and has to answer stands in `docs/dns.md`.

use crate::provider::{Addresses, Change, Doing, Held, Provider};
use crate::{ProviderError, RegionName, Secret, SettingError};
use rustix::process::{Pid, Signal, kill_process_group};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// As much as is read of each of its outputs; the rest is thrown away.
const OUTPUT_MAX_BYTES: u64 = 64 * 1024;
/// Its exit code if the addresses are not those that it was told.
const CHANGED: i32 = 10;
/// Variables that it has of the node's own.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Which program, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSettings {
    /// Its absolute path. No shell is involved.
    pub program: PathBuf,
    /// Before those that say what to do.
    pub arguments: Vec<String>,
    /// Variables that it has besides `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ` and those of the protocol.
    pub environment: Vec<(String, Secret)>,
    /// After which it is killed, with all that it started.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Exec {
    name: RegionName,
    settings: ExecSettings,
}

struct Finished {
    status: ExitStatus,
    output: String,
    errors: String,
}

impl Exec {
    pub(crate) fn new(name: RegionName, settings: ExecSettings) -> Result<Self, SettingError> {
        if !settings.program.is_absolute() {
            let fault = format!("{} is no absolute path", settings.program.display());
            return Err(SettingError::new("program", fault, "give the whole path"));
        }
        let is_odd = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if let Some((odd, _)) = settings.environment.iter().find(|(name, _)| is_odd(name)) {
            return Err(SettingError::new("environment", format!("{odd:?} is no name"), "give another"));
        }
        Ok(Self { name, settings })
    }

    async fn addresses(&self) -> Result<Addresses, ProviderError> {
        let finished = self.run(&["read".to_owned()], &[]).await?;
        self.check(&finished)?;
        let mut addresses = Addresses::new();
        for line in finished.output.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let address: IpAddr = line.parse().map_err(|_| {
                self.failed(
                    format!("printed {line:?}, which is no address"),
                    "print one address a line, nothing else",
                )
            })?;
            addresses.insert(address);
        }
        Ok(addresses)
    }

    async fn update(&self, change: &Change) -> Result<(), ProviderError> {
        let mut arguments = vec!["change".to_owned()];
        arguments.extend(change.add.iter().map(|address| format!("+{address}")));
        arguments.extend(change.remove.iter().map(|address| format!("-{address}")));
        let expected = change.only_if.as_ref().map(|addresses| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            ("PINWIRE_DNS_ONLY_IF", texts.join(" "))
        });
        let finished = self.run(&arguments, expected.as_slice()).await?;
        self.check(&finished)
    }

    fn check(&self, finished: &Finished) -> Result<(), ProviderError> {
        match finished.status.code() {
            Some(0) => Ok(()),
            Some(CHANGED) => Err(ProviderError::Changed),
            _ => {
                let said = finished.errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
                Err(self.failed(format!("{}, and said: {}", finished.status, said.trim()), ""))
            }
        }
    }

    /// Runs it to its end, or to the end of its time.
    async fn run(&self, arguments: &[String], more: &[(&str, String)]) -> Result<Finished, ProviderError> {
        let mut command = Command::new(&self.settings.program);
        command.args(&self.settings.arguments).args(arguments).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.settings.environment.iter().map(|(name, value)| (name, value.expose())));
        command.env("PINWIRE_DNS_NAME", self.name.name_text());
        command.env("PINWIRE_DNS_ZONE", self.name.zone_text());
        command.env("PINWIRE_DNS_TTL", self.name.ttl_s().to_string());
        command.envs(more.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that what it started ends with it.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            self.failed(format!("cannot be run: {error}"), "is it there, and executable?")
        })?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ending = async {
            let (output, errors, status) = tokio::join!(bounded(stdout), bounded(stderr), child.wait());
            status.map(|status| Finished { status, output, errors })
        };
        let finished = timeout(self.settings.timeout, ending).await;
        drop(group);
        let finished = finished
            .map_err(|_| {
                self.failed(format!("ran longer than {:?} and was killed", self.settings.timeout), "")
            })?
            .map_err(|error| self.failed(error.to_string(), ""))?;
        for line in finished.errors.lines() {
            tracing::info!(program = %self.settings.program.display(), line, "DNS program says");
        }
        Ok(finished)
    }

    fn failed(&self, fault: impl Into<String>, mend: impl Into<String>) -> ProviderError {
        ProviderError::failed(self.place(), fault, mend)
    }
}

impl Provider for Exec {
    fn read(&self) -> Doing<'_, Held> {
        Box::pin(async { self.addresses().await.map(Held::from) })
    }

    fn change(&self, change: Change) -> Doing<'_, ()> {
        Box::pin(async move { self.update(&change).await })
    }

    fn compares_exactly(&self) -> bool {
        // It may, but nobody can tell.
        false
    }

    fn place(&self) -> String {
        format!("program {}", self.settings.program.display())
    }
}

/// The processes of a program. Those that are left when it is dropped are killed.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There may be none left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What comes, up to the bound; what follows is read and thrown away, so that nobody waits for it to be read.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    if (&mut stream).take(OUTPUT_MAX_BYTES).read_to_end(&mut bytes).await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
