//! A process that ends with this one, whatever happens.

use super::nap;
use crate::shell::command;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end when it is asked to; a stopped one takes for ever.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Killed with its handle, if it was not ended before.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Its output goes to the end of `log`; `make` may want to have its stdout instead. `prefix` is a program that becomes this one.
    pub(crate) fn start(
        prefix: &[String],
        program: impl AsRef<OsStr>,
        args: &[String],
        log: &Path,
        make: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.with_context(|| log.display().to_string())?;
        // Also when this process is killed: the kernel then sends it the signal. It does so too when the thread ends that starts it.
        let mut command = command("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(prefix).arg(&program).args(args);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        make(&mut command);
        let child = command.spawn().with_context(|| format!("cannot run {}", program.as_ref().display()))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&mut self) {
        self.signal("TERM");
    }

    /// Sends it a signal, unless it has ended.
    pub(crate) fn signal(&mut self, name: &str) {
        if matches!(self.has_ended(), Ok(false)) {
            let _ = command("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        }
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// How it ended, once it has.
    pub(crate) fn outcome(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Waits until it has ended after [`Self::ask_to_end`], for a while.
    pub(crate) fn wait_for_end(&mut self) {
        let asked = Instant::now();
        while matches!(self.has_ended(), Ok(false)) && asked.elapsed() < END_LIMIT {
            nap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
