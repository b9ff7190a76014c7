//! What is counted of links. The thread of the links counts, `/metrics` reads.

use super::link::Ended;
use crate::cluster::{Count, Level};

/// All of it. Links and sessions of one side are those that this node dialled and carries its clients over (`home`), and those that
/// others dialled and whose documents are here (`owner`).
#[derive(Debug, Default)]
pub struct PeerStats {
    /// Links that stand, that this node dialled.
    pub home_links: Level,
    /// Links that stand, that others dialled.
    pub owner_links: Level,
    /// Clients of this node whose sessions are carried.
    pub home_sessions: Level,
    /// Sessions that others carry here.
    pub owner_sessions: Level,
    /// Bytes read from links.
    pub bytes_in: Count,
    /// Bytes written to links.
    pub bytes_out: Count,
    /// Sessions that their owner refused.
    pub refused: Count,
    /// Links that were dialled and stood.
    pub dialled: Count,
    /// Those that did not come to be.
    pub undialled: Count,
    /// Others that did not prove that they are nodes of this system.
    pub strangers: Count,
    ended: [Count; Ended::WORDS.len()],
}

impl PeerStats {
    pub(super) fn ended(&self, ended: &Ended) {
        if let Some(count) = self.ended.get(ended.index()) {
            count.one();
        }
    }

    /// Why links ended, with how many.
    pub(crate) fn ends(&self) -> Vec<(&'static str, u64)> {
        Ended::WORDS.into_iter().zip(&self.ended).map(|(word, count)| (word, count.get())).collect()
    }
}
