//! A process that ends with this one, whatever happens.

use super::nap;
use crate::shell::command;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end when it is asked to; a stopped one takes for ever.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Killed with its handle, if it was not ended before.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Its output goes to `log`; `make` may want to have its stdout instead.
    pub(super) fn start(
        program: impl AsRef<OsStr>,
        args: &[String],
        log: &Path,
        make: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let output = std::fs::File::create(log).with_context(|| log.display().to_string())?;
        // Also when this process is killed: the kernel then sends it the signal.
        let mut command = command("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&program).args(args);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        make(&mut command);
        let child = command.spawn().with_context(|| format!("cannot run {}", program.as_ref().display()))?;
        Ok(Self(child))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&mut self) {
        if matches!(self.has_ended(), Ok(false)) {
            let _ = command("kill").args(["-TERM", &self.pid().to_string()]).status();
        }
    }

    /// Waits until it has ended after [`Self::ask_to_end`], for a while.
    pub(super) fn wait_for_end(&mut self) {
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
