//! SIGTERM and SIGINT: the first asks for a clean end, a second one ends the process at once. SIGHUP: read the
//! configuration again.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, caught from construction on.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A clean end; by the signal of this name.
    End(&'static str),
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// Catches the signals. Do this before telling anybody that the process is ready.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (terminate, interrupt, hang_up) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        Ok(Self { runtime, terminate, interrupt, hang_up })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) -> Wish {
        let Self { runtime, terminate, interrupt, hang_up } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Wish::End("SIGTERM"),
                _ = interrupt.recv() => Wish::End("SIGINT"),
                _ = hang_up.recv() => Wish::Reload,
            }
        })
    }

    /// From here on the next signal ends the process at once, with status 1.
    ///
    /// # Errors
    /// The system gives no thread; then the next signal is ignored.
    pub fn end_on_next(mut self) -> io::Result<()> {
        #[allow(clippy::disallowed_methods, reason = "whoever signals twice wants no clean end")]
        let wait = move || {
            let name = loop {
                if let Wish::End(name) = self.wait() {
                    break name;
                }
            };
            tracing::warn!(signal = name, "second signal, ending now");
            std::process::exit(1)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
    }
}
