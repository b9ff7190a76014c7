//! Joins of other threads' sockets that could not be had for now. As with a socket of this thread, Auth stays unanswered, and it is
//! tried again.

use crate::App;
use crate::document::RemoteJoin;
use crate::limits::RETRY_MS;
use crate::mail::RemoteSession;
use crate::shard::Shard;
use std::sync::Arc;

/// A join to be tried again.
#[derive(Debug)]
pub(crate) struct Postponed {
    pub(crate) due_ms: u64,
    join: RemoteJoin,
    document: Box<str>,
    app: Arc<App>,
}

impl Postponed {
    pub(crate) fn is_of(&self, thread: u16, session: RemoteSession) -> bool {
        (self.join.thread, self.join.session) == (thread, session)
    }
}

impl Shard {
    /// Puts a join off. They become due in the order in which they were.
    pub(crate) fn postpone(&mut self, join: RemoteJoin, document: &str, app: &Arc<App>) {
        let due_ms = self.out.now_ms + RETRY_MS;
        self.postponed.push_back(Postponed { due_ms, join, document: document.into(), app: Arc::clone(app) });
    }

    pub(crate) fn join_postponed(&mut self) {
        while self.postponed.front().is_some_and(|join| join.due_ms <= self.out.now_ms) {
            let Some(Postponed { join, document, app, .. }) = self.postponed.pop_front() else { return };
            self.join_again(&join, &document, &app);
        }
    }
}
