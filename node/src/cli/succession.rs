//! `serve` while another process takes over: started, awaited, watched, and its place taken again if it is lost.

use std::io;

use anyhow::Context;
use sd_notify::NotifyState;

use super::serve::{End, Serving};
use super::systemd;
use crate::signals::Wish;
use crate::upgrade::{Became, News, Predecessor, Upgrade, UpgradeError, Wanted};

fn answer(asked: Option<Wanted>, outcome: Result<u32, String>) {
    if let Some(asked) = asked {
        // Whoever asked may have gone.
        let _ = asked.send(outcome);
    }
}

impl Serving {
    /// This process serves instead of the one before, which is told.
    ///
    /// # Errors
    /// That is gone.
    pub(super) fn has_taken_over(&mut self, mut before: Predecessor) -> io::Result<()> {
        before.is_succeeded()?;
        self.before = Some(before);
        self.node.has_taken_over();
        self.signals.upgrades().note(std::process::id(), Became::Succeeded);
        Ok(())
    }

    /// Starts another process that is to take over. Meanwhile this one goes on, and hears signals.
    pub(super) fn upgrade(&mut self, asked: Option<Wanted>) {
        if self.coming.is_some() {
            return answer(asked, Err("another process is being started already".to_owned()));
        }
        self.attempts += 1;
        let (number, news) = (self.attempts, self.signals.tell());
        // Nobody listens any more once this process ends.
        let tell = move |told| _ = news.blocking_send((number, told));
        let upgrade = Upgrade::of_this_process(self.generation).map_err(UpgradeError::Start);
        match upgrade.and_then(|upgrade| self.node.start_successor(&upgrade, tell)) {
            Ok(successor) => {
                let pid = successor.pid();
                tracing::info!(pid, "another process is started to take over");
                self.signals.upgrades().note(pid, Became::Starting);
                self.coming = Some(successor);
                answer(asked, Ok(pid));
            }
            Err(error) => answer(asked, Err(self.goes_on(error))),
        }
    }

    /// Nobody takes over; why.
    fn goes_on(&self, error: UpgradeError) -> String {
        self.node.note_succession(Err(&error));
        let why = format!("{:#}", anyhow::Error::new(error));
        tracing::error!("the node goes on as it was: {why}");
        why
    }

    /// The process that was started is ready, or not. Where it takes over this returns when this process is to end, or not at all if
    /// that one is lost.
    pub(super) fn came(&mut self, number: u32, ready: io::Result<()>) -> Option<End> {
        let successor = self.coming.take_if(|_| number == self.attempts)?;
        let (pid, upgrades) = (successor.pid(), self.signals.upgrades());
        if let Err(error) = ready {
            drop(successor);
            let why = self.goes_on(UpgradeError::NotReady(pid, error));
            upgrades.note(pid, Became::Failed(why));
            return None;
        }
        successor.takes_over();
        tracing::info!(pid, "another process has taken over");
        systemd::tell_succeeded(pid);
        upgrades.note(pid, Became::Succeeded);
        self.node.note_succession(Ok(pid));
        if let Err(error) = self.node.succeeded() {
            tracing::error!(%error, "the node cannot drain, and serves beside the other process");
            return None;
        }
        // Whoever takes its place from here on is the other one's business.
        if let Some(mut before) = self.before.take() {
            before.is_left();
        }
        // systemd wants to hear of the other one.
        self.watchdog = None;
        self.drain_beside(number, pid)
    }

    /// Drains while the process `pid` serves, the `number`th that was started. If that is lost this one serves again: `None`.
    fn drain_beside(&mut self, number: u32, pid: u32) -> Option<End> {
        let (drains, mut is_told) = (self.node.drains().clone(), false);
        loop {
            match self.signals.wait_or(drains.over()) {
                Wish::Other => return Some(End::Succeeded(is_told)),
                Wish::End(signal) if is_told => end_now(signal),
                // systemd tells both: this one drains already.
                Wish::End(signal) => {
                    tracing::info!(signal, "stopping");
                    is_told = true;
                    self.node.let_go();
                }
                Wish::Successor(of, News::Left) if of == number => self.node.let_go(),
                Wish::Successor(of, News::Lost(how)) if of == number => {
                    if self.takes_back(pid, how) {
                        return None;
                    }
                }
                Wish::Upgrade(asked) => answer(asked, Err("another process has taken over".to_owned())),
                Wish::Reload | Wish::Successor(..) => {}
            }
        }
    }

    /// False if it is about to end all the same.
    fn takes_back(&mut self, pid: u32, how: String) -> bool {
        if let Err(error) = self.node.resume(pid, &how) {
            tracing::warn!(pid, how, %error, "the process that had taken over is lost, and this one ends");
            return false;
        }
        tracing::error!(pid, how, "the process that had taken over is lost: this one serves again");
        self.signals.upgrades().note(pid, Became::Lost(how));
        systemd::tell_resumed(&self.resolved.config.region.name);
        match systemd::start_watchdog(&self.node) {
            Ok(watchdog) => self.watchdog = watchdog,
            Err(error) => tracing::error!(%error, "the system gives no thread for the watchdog"),
        }
        true
    }

    /// Drains, unless that is done, and ends.
    ///
    /// # Errors
    /// A thread hangs: the process should end all the same.
    pub(super) fn finish(self, end: &End) -> anyhow::Result<()> {
        let Self { node, signals, watchdog, .. } = self;
        // systemd listens to the process that has taken over, and tells both when the service is to stop.
        let (is_main, more) = match end {
            End::Signal => (true, 0),
            End::Succeeded(is_told) => (false, u32::from(!is_told)),
        };
        signals.end_after(more).context("signals")?;
        if is_main {
            node.drains().wait(systemd::TELL_EVERY, systemd::tell_progress);
            systemd::tell(&[NotifyState::Stopping]);
        }
        drop(watchdog);
        node.stop().context("the node does not end as it should")?;
        tracing::info!("stopped");
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "whoever signals twice wants no clean end")]
fn end_now(signal: &str) -> ! {
    tracing::warn!(signal, "another signal, ending now");
    std::process::exit(1)
}
