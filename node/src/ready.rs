//! Whether a node can serve as it is to, once it has started: only then does it join its region's name, or take over.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cluster::Gates;
use crate::drain::Drains;
use crate::shedding::{Cause, Health};

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// What a node needs before clients are sent to it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    pub(crate) gates: Arc<Gates>,
    pub(crate) health: Arc<Health>,
    /// They are in the region's Redis.
    pub(crate) has_sessions: bool,
}

impl Readiness {
    /// What is lacking, the worst first.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        let is_away = |wanted| self.health.away().any(|cause| cause == wanted);
        if is_away(Cause::NoKeys) {
            Some(Cause::NoKeys.words())
        } else if self.gates.lapsed() != 0 {
            Some("it has no lease of a registry")
        } else if self.has_sessions && (!self.gates.are_sessions_reached() || is_away(Cause::Sessions)) {
            Some(Cause::Sessions.words())
        } else {
            None
        }
    }
}

/// A thread that has a node join its region's name once it is ready. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Joining {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Joining {
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(readiness: Readiness, drains: Drains) -> io::Result<Self> {
        let (stop, stopping) = channel();
        let wait = move || {
            let mut told = None;
            while let Some(lacks) = readiness.lacks() {
                if told.replace(lacks) != Some(lacks) {
                    tracing::info!(lacks, "the node does not join its region's name yet");
                }
                if stopping.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            drains.may_join();
        };
        let thread = std::thread::Builder::new().name("joining".to_owned()).spawn(wait)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that has the node join its region's name panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pinwire_cluster::Lease;

    use super::*;

    #[test]
    fn a_node_is_ready_with_keys_every_lease_and_its_sessions_and_not_before() {
        let gates = Arc::new(Gates::new(2, Instant::now()));
        let health = Arc::new(Health::default());
        let readiness =
            Readiness { gates: Arc::clone(&gates), health: Arc::clone(&health), has_sessions: true };
        health.suffer(Cause::NoKeys);
        assert_eq!(readiness.lacks(), Some(Cause::NoKeys.words()));
        health.clear(Cause::NoKeys);
        let lease = Lease::Valid { until_us: u64::MAX };
        for registry in 0..2 {
            assert_eq!(readiness.lacks(), Some("it has no lease of a registry"));
            gates.publish(registry, lease);
        }
        assert_eq!(readiness.lacks(), Some(Cause::Sessions.words()));
        gates.note_sessions();
        assert_eq!(readiness.lacks(), None);
        health.suffer(Cause::Sessions);
        assert_eq!(readiness.lacks(), Some(Cause::Sessions.words()));
        assert_eq!(Readiness { has_sessions: false, ..readiness }.lacks(), None);
    }
}
