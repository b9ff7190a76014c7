//! A machine of its own for what changes one: this host's files with a layer in memory over them, namespaces, systemd as its
//! first process. When it is dropped nothing of it is left.

use crate::setup::as_root;
use crate::shell::target_dir;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("machine.sh");
/// Longer than systemd takes to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A machine that runs.
pub(super) struct Machine {
    keeper: Child,
    /// The machine ends when this does.
    stdin: Option<ChildStdin>,
    /// Its first process, as this host counts.
    first: String,
}

impl Machine {
    pub(super) fn start() -> Result<Self> {
        let script = target_dir().join("package/machine.sh");
        fs::write(&script, SCRIPT).context("the script that starts a machine")?;
        let name = format!("pinwire-machine-{}", std::process::id());
        let mut keeper = as_root("unshare")?;
        keeper.args(["--mount", "--propagation", "private", "sh"]).arg(&script).arg(name);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().context("unshare, of the package util-linux")?;
        let stdin = keeper.stdin.take();
        let mut first = String::new();
        BufReader::new(keeper.stdout.take().context("stdout")?).read_line(&mut first)?;
        let machine = Self { keeper, stdin, first: first.trim().to_owned() };
        ensure!(!machine.first.is_empty(), "no machine: this host gives no namespaces or no overlay");
        machine.await_systemd()?;
        Ok(machine)
    }

    fn await_systemd(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            let state = self.command("systemctl")?.args(["is-system-running", "--wait"]).output()?;
            if matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded") {
                return Ok(());
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "systemctl cannot wait for a systemd that is not there yet"
            )]
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("systemd did not start in {} s", START_LIMIT.as_secs())
    }

    /// A command inside, by root in root's home.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = as_root("nsenter")?;
        command.args(["--target", &self.first, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.arg(program);
        Ok(command)
    }

    /// Runs a shell script inside and gives what it says; `Err` with the same where it fails.
    pub(super) fn sh(&self, script: &str) -> Result<String> {
        let output = self.command("sh")?.args(["-ec", script]).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        ensure!(output.status.success(), "`{script}` ended with {}: {}", output.status, said.concat());
        Ok(said[0].clone())
    }

    /// Puts a file into the machine.
    pub(super) fn put(&self, file: &Path, place: &str) -> Result<()> {
        let mut install = self.command("sh")?;
        install.args(["-ec", &format!("mkdir -p \"$(dirname {place})\"; cat >{place}")]);
        let status = install.stdin(fs::File::open(file)?).status()?;
        ensure!(status.success(), "cannot put {} to {place}", file.display());
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.keeper.wait();
    }
}
