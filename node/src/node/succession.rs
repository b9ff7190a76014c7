//! Another process takes a node's place, and the node takes it back if that one is lost.

use std::io;
use std::os::fd::OwnedFd;

use pinwire_admin_api::events::What;

use super::{HTTP_PATIENCE, Node};
use crate::drain::{CannotStay, Stage};
use crate::upgrade::{News, Successor, Upgrade, UpgradeError};

/// Listeners besides those of data threads once more, for a process that takes over.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) admin: Vec<OwnedFd>,
    pub(super) peer: Option<OwnedFd>,
}

impl Node {
    /// The process before has been told that this one serves: what goes with a process goes with this one now.
    pub fn has_taken_over(&self) {
        if let Some(admin) = &self.admin {
            admin.own();
        }
    }

    /// Starts the process that is to take over; `tell` is told what becomes of it. This one goes on until [`Self::succeeded`].
    ///
    /// # Errors
    /// It does not start; nothing has changed then.
    pub fn start_successor(
        &self,
        upgrade: &Upgrade,
        tell: impl FnMut(News) + Send + 'static,
    ) -> Result<Successor, UpgradeError> {
        match self.alone {
            Some(place) => Err(UpgradeError::Alone(place)),
            None if self.drains.progress().stage != Stage::Serving => Err(UpgradeError::Draining),
            None => {
                self.sockets().map_err(UpgradeError::Start).and_then(|sockets| upgrade.run(sockets, tell))
            }
        }
    }

    /// Tells operators what came of an upgrade.
    pub fn note_succession(&self, outcome: Result<u32, &UpgradeError>) {
        if let Some(events) = self.events() {
            events.note(match outcome {
                Ok(pid) => What::Succeeded { pid },
                Err(error) => What::SuccessionFailed { error: error.to_string() },
            });
        }
    }

    /// In the order in which a node takes them: where any port is asked for, that is the first that nobody has.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.drains.copies()?;
        let admin = self.copies.admin.iter().map(OwnedFd::try_clone);
        sockets.extend(admin.collect::<io::Result<Vec<_>>>()?);
        if let Some(dns) = &self.dns {
            sockets.extend(dns.copies()?);
        }
        sockets.extend(self.copies.peer.as_ref().map(OwnedFd::try_clone).transpose()?);
        Ok(sockets)
    }

    /// Another process has the addresses: this one takes nobody any more, and its clients are closed by and by. Its listeners stay
    /// open, and it accepts from none of them, unless it is to [`Self::resume`].
    ///
    /// # Errors
    /// The system gives no thread; then it goes on.
    pub fn succeeded(&mut self) -> io::Result<()> {
        self.drains.succeeded()?;
        if let Some(peers) = &self.peers {
            peers.rest();
        }
        if let Some(admin) = &self.admin {
            admin.disown();
            admin.rest(HTTP_PATIENCE);
        }
        Ok(())
    }

    /// This process is not to resume: it closes its listeners, so that nobody waits there once the other process is gone, too.
    pub fn let_go(&mut self) {
        // It drains already.
        let _ = self.drains.end("another process has taken over, and nobody is to follow it");
        self.copies = Copies::default();
        if let Some(dns) = &self.dns {
            dns.let_go();
        }
        if let Some(peers) = &self.peers {
            peers.close();
        }
        if let Some(admin) = self.admin.take() {
            admin.stop(HTTP_PATIENCE);
        }
    }

    /// The process `pid` that had taken over is lost, `how` says how: this one takes who comes again, and keeps the clients that it
    /// still has.
    ///
    /// # Errors
    /// It is about to end.
    pub fn resume(&mut self, pid: u32, how: &str) -> Result<(), CannotStay> {
        self.drains.resume()?;
        if let Some(events) = self.events() {
            events.note(What::SuccessorLost { pid, how: how.to_owned() });
        }
        if let Some(peers) = &self.peers {
            peers.resume();
        }
        if let Some(admin) = &self.admin {
            admin.own();
            admin.open();
        }
        Ok(())
    }
}
