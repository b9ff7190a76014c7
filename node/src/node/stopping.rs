//! The end of a node: its data threads first, then what is around them. Whatever hangs is not waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;

use super::{HTTP_PATIENCE, Node};
use crate::data::Envelope;

/// For data threads: three times what they give their clients to agree, and the store to have what they have.
const DATA_PATIENCE: Duration = Duration::from_secs(10);
/// For all others together. With both a supervisor that waits for 30 s hears of a thread that hangs.
const OTHERS_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks whether a thread has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Threads that did not end when the node stopped; what they had may be lost, and is with the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these threads hang, and do not end with the node: {}", .0.join(", "))]
pub struct Hung(pub Vec<String>);

/// What is being ended, for whoever waits in vain.
#[derive(Clone, Debug, Default)]
struct Ending(Arc<Mutex<&'static str>>);

impl Ending {
    fn end<T>(&self, thread: &'static str, what: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = thread;
        drop(what);
    }

    fn thread(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Closes every connection, waits a little for their clients to agree, and ends all threads.
    ///
    /// # Errors
    /// Some did not end in time. They are left behind: the process should end.
    pub fn stop(self) -> Result<(), Hung> {
        self.stop_within(DATA_PATIENCE, OTHERS_PATIENCE)
    }

    fn stop_within(mut self, for_data: Duration, for_others: Duration) -> Result<(), Hung> {
        self.health.drain();
        drop(self.joining.take());
        // Ports are free once their listeners are closed, not before.
        self.copies = super::Copies::default();
        if let Some(admin) = &self.admin {
            admin.events().note(What::Stopping);
        }
        if let Some(peers) = &self.peers {
            peers.stop_serving();
        }
        // A thread that waits for its lease reads no mailbox.
        self.gates.stop();
        let deadline = Instant::now() + for_data;
        for mailbox in self.mailboxes.iter() {
            // One that has no room hangs, as is seen next.
            let _ = mailbox.push_until(Envelope::Stop, deadline);
        }
        let mut hung: Vec<String> =
            self.threads.drain(..).filter_map(|thread| end(thread, deadline)).collect();
        let ending = Ending::default();
        let told = ending.clone();
        let others =
            std::thread::Builder::new().name("stop".to_owned()).spawn(move || self.end_others(&told));
        let deadline = Instant::now() + for_others;
        match others.map(|others| end(others, deadline)) {
            Ok(None) => {}
            Ok(Some(_)) => hung.push(ending.thread().to_owned()),
            // What was to be ended was dropped instead, which ends it.
            Err(error) => tracing::error!(%error, "the system gives no thread to stop with"),
        }
        if hung.is_empty() {
            return Ok(());
        }
        let hung = Hung(hung);
        tracing::error!("{hung}");
        Err(hung)
    }

    /// In this order: those who are asked end after those who ask.
    fn end_others(self, ending: &Ending) {
        let Self { dns, peers, session, pins, shedding, lookups, prober, status, .. } = self;
        let Self { control, admin, fetching, store, traces, .. } = self;
        ending.end("dns", dns);
        ending.end("peer", peers);
        // Everything is stored, as far as that can be: what this node held is left, and waits for its clients.
        ending.end("session", session);
        ending.end("pins", pins);
        ending.end("shedding", shedding);
        ending.end("records", lookups);
        ending.end("regions", prober);
        ending.end("status", status);
        ending.end("http", ());
        if let Some(control) = control {
            control.stop(HTTP_PATIENCE);
        }
        ending.end("admin", ());
        if let Some(admin) = admin {
            admin.stop(HTTP_PATIENCE);
        }
        ending.end("keys", fetching);
        ending.end("store", ());
        if let Some(store) = store {
            store.stop();
        }
        // Last, since the others record until they end.
        ending.end("traces", traces);
    }
}

/// Waits for a thread's end; its name if it does not come.
fn end(thread: JoinHandle<()>, deadline: Instant) -> Option<String> {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return Some(thread.thread().name().unwrap_or("a thread without a name").to_owned());
        }
        std::thread::park_timeout(LOOK);
    }
    // A data thread that panicked has ended the process already.
    let _ = thread.join();
    None
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use pinwire_token::KeySet;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_data_thread_that_hangs_is_not_waited_for_for_ever_and_is_named() {
        let config = Config::dev("127.0.0.1:0".parse().unwrap(), 2, KeySet::default());
        let node = Node::start(config).unwrap();
        let (go, hangs) = channel();
        node.mailboxes[1].push(Envelope::Hang(hangs)).unwrap();
        let hung = node.stop_within(Duration::from_millis(500), OTHERS_PATIENCE);
        assert_eq!(hung, Err(Hung(vec!["data-1".to_owned()])));
        drop(go);
    }
}
