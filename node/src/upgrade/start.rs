//! The process before: starts the next one, waits until it is ready, and watches it from then on.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::GENERATION;
use super::talk::{Listening, give};

/// A node waits for keys, leases and its sessions before it is ready, and gives up before that ([`super::READY_WITHIN`]).
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

/// What becomes of a process that was started.
#[derive(Debug)]
pub enum News {
    /// It accepts, or why it does not.
    Ready(io::Result<()>),
    /// It had taken over, and leaves as it was told to, or since another one has taken over from it.
    Left,
    /// It had taken over, and has ended without having been told to; how.
    Lost(String),
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

    /// Starts it with these sockets. What becomes of it is told to `tell`, by a thread of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        &self,
        sockets: Vec<OwnedFd>,
        tell: impl FnMut(News) + Send + 'static,
    ) -> Result<Successor, UpgradeError> {
        let (ours, theirs) = UnixStream::pair().map_err(UpgradeError::Start)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env(GENERATION, self.generation.to_string())
            // The watchdog of systemd is for whoever is the main process.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(UpgradeError::Start)?;
        let (watched, watches) = channel();
        let successor = Successor { pid: child.id(), child: Some(child), watched };
        let watch = move || watch(&ours, &sockets, &watches, tell);
        std::thread::Builder::new().name("successor".to_owned()).spawn(watch).map_err(UpgradeError::Start)?;
        Ok(successor)
    }
}

/// Until the next process leaves as it was told to, or is lost. It is watched once it comes by `watches`: it takes over then.
fn watch(ours: &UnixStream, sockets: &[OwnedFd], watches: &Receiver<Child>, mut tell: impl FnMut(News)) {
    let mut listening = Listening::to(ours);
    tell(News::Ready(give(ours, sockets).and_then(|()| listening.await_ready(PATIENCE))));
    let Ok(mut child) = watches.recv() else { return };
    let leaves = listening.await_leave();
    if leaves {
        tell(News::Left);
    }
    let ended = child.wait();
    if !leaves {
        tell(News::Lost(ended.map_or_else(|error| error.to_string(), |status| status.to_string())));
    }
}

/// The next process, which ends with this unless it takes over.
#[derive(Debug)]
pub struct Successor {
    pid: u32,
    /// Until it takes over.
    child: Option<Child>,
    watched: Sender<Child>,
}

impl Successor {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// It is ready: it goes on whatever becomes of this process, and is watched.
    pub fn takes_over(mut self) {
        if let Some(child) = self.child.take() {
            // The thread waits for it.
            let _ = self.watched.send(child);
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
