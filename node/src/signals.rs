//! SIGTERM and SIGINT: the first asks for a clean end, a second one ends the process at once. SIGHUP: read the
//! configuration again. SIGUSR2: have another process take over.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::upgrade::{News, Upgrades, Wanted};

/// The signals, caught from construction on.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    upgrade: Signal,
    /// Operators ask for that, too.
    wanted: mpsc::Receiver<Wanted>,
    upgrades: Upgrades,
    news: mpsc::Receiver<OfSuccessor>,
    tell: mpsc::Sender<OfSuccessor>,
}

/// What becomes of which process that was started to take over.
pub type OfSuccessor = (u32, News);

/// What a signal asks for.
#[derive(Debug)]
pub enum Wish {
    /// A clean end; by the signal of this name.
    End(&'static str),
    /// SIGHUP.
    Reload,
    /// SIGUSR2, or an operator, who is answered.
    Upgrade(Option<Wanted>),
    /// What becomes of another process that was started, by its number.
    Successor(u32, News),
    /// What was waited for besides ([`Signals::wait_or`]).
    Other,
}

impl Signals {
    /// Catches the signals. Do this before telling anybody that the process is ready.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (terminate, interrupt, hang_up, upgrade) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::user_defined2())?,
            )
        };
        let (upgrades, wanted) = Upgrades::new();
        let (tell, news) = mpsc::channel(1);
        Ok(Self { runtime, terminate, interrupt, hang_up, upgrade, wanted, upgrades, news, tell })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) -> Wish {
        self.wait_or(std::future::pending())
    }

    /// Waits for the next one, or for something else.
    pub fn wait_or(&mut self, other: impl Future<Output = ()>) -> Wish {
        let Self { runtime, terminate, interrupt, hang_up, upgrade, wanted, news, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Wish::End("SIGTERM"),
                _ = interrupt.recv() => Wish::End("SIGINT"),
                _ = hang_up.recv() => Wish::Reload,
                _ = upgrade.recv() => Wish::Upgrade(None),
                Some(wanted) = wanted.recv() => Wish::Upgrade(Some(wanted)),
                Some((number, news)) = news.recv() => Wish::Successor(number, news),
                () = other => Wish::Other,
            }
        })
    }

    /// The signal that asks for the end, if one comes within the time. A wish for anything else is not heard.
    pub fn end_within(&mut self, patience: Duration) -> Option<&'static str> {
        let Self { runtime, terminate, interrupt, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => Some("SIGTERM"),
                _ = interrupt.recv() => Some("SIGINT"),
                () = tokio::time::sleep(patience) => None,
            }
        })
    }

    /// Where it is told what becomes of another process that was started.
    #[must_use]
    pub fn tell(&self) -> mpsc::Sender<OfSuccessor> {
        self.tell.clone()
    }

    /// How operators ask for another process to take over.
    #[must_use]
    pub fn upgrades(&self) -> Upgrades {
        self.upgrades.clone()
    }

    /// From here on, after so many more, the next signal ends the process at once, with status 1.
    ///
    /// # Errors
    /// The system gives no thread; then the next signal is ignored.
    pub fn end_after(mut self, more: u32) -> io::Result<()> {
        #[allow(clippy::disallowed_methods, reason = "whoever signals twice wants no clean end")]
        let wait = move || {
            let mut more = more;
            let name = loop {
                match self.wait() {
                    Wish::End(_) if more > 0 => more -= 1,
                    Wish::End(name) => break name,
                    // Whoever asked sees that it is not answered.
                    Wish::Reload | Wish::Upgrade(_) | Wish::Successor(..) | Wish::Other => {}
                }
            };
            tracing::warn!(signal = name, "another signal, ending now");
            std::process::exit(1)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
    }
}
