//! SIGTERM and SIGINT: the first asks for a clean end, a second one ends the process at once.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, caught from construction on.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals. Do this before telling anybody that the process is ready.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Waits for the next one; answers its name.
    pub fn wait(&mut self) -> &'static str {
        let Self { runtime, terminate, interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
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
            let name = self.wait();
            tracing::warn!(signal = name, "second signal, ending now");
            std::process::exit(1)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
    }
}
