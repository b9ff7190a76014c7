//! The process before: starts the next one, and waits until it is ready.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::GENERATION;
use super::talk::{await_ready, give};

/// A node waits for keys and for Redis before it is ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the kernel says behind the path of a program that was replaced meanwhile.
const REPLACED: &[u8] = b" (deleted)";

/// Why no other process took over; this one goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Documents are kept where only one process can have them.
    #[error(
        "the documents are in this process's {0}, which no other process can have: stop the node and start it again, or keep \
         them in a Redis (cluster.session)"
    )]
    Alone(&'static str),
    /// The node is about to leave.
    #[error("the node drains")]
    Draining,
    /// The next process cannot be started.
    #[error("the program cannot be started again")]
    Start(#[source] io::Error),
    /// It is not ready.
    #[error("process {0} does not take over: {1}")]
    NotReady(u32, io::Error),
}

/// The next process, to be started.
#[derive(Debug)]
pub struct Upgrade {
    program: OsString,
    arguments: Vec<OsString>,
    generation: u32,
}

impl Upgrade {
    /// The program that runs, as it is on disk now, with the arguments that it has. This process is the `generation`th of its node.
    ///
    /// # Errors
    /// Nobody knows where it is.
    pub fn of_this_process(generation: u32) -> io::Result<Self> {
        let program = std::env::current_exe()?.into_os_string();
        let bytes = program.as_bytes();
        let path = bytes.strip_suffix(REPLACED).unwrap_or(bytes);
        Ok(Self {
            program: OsString::from_vec(path.to_vec()),
            arguments: std::env::args_os().skip(1).collect(),
            generation: generation + 1,
        })
    }

    /// Starts it with these sockets and waits until it accepts. A process that does not is ended.
    ///
    /// # Errors
    /// It does not take over.
    pub fn run(&self, sockets: &[OwnedFd]) -> Result<Child, UpgradeError> {
        let (ours, theirs) = UnixStream::pair().map_err(UpgradeError::Start)?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env(GENERATION, self.generation.to_string())
            // The watchdog of systemd is for whoever is the main process.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(UpgradeError::Start)?;
        match give(&ours, sockets).and_then(|()| await_ready(&ours, PATIENCE)) {
            Ok(()) => Ok(child),
            Err(error) => {
                let pid = child.id();
                // It may have ended.
                let _ = child.kill();
                let _ = child.wait();
                Err(UpgradeError::NotReady(pid, error))
            }
        }
    }
}
