//! The heads that a node came by, newest last, with what has to be absorbed to have reached them.

use crate::Head;
use crate::marks::is_at_or_before;
use std::collections::VecDeque;

/// Heads that are remembered; beyond it every second of the older half is forgotten. What a forgotten one costs is a
/// comparison with the store, or a compaction that stands for a little less.
const HEADS_MAX: usize = 16;

#[derive(Debug)]
struct Step {
    head: Head,
    /// The data thread's log up to here holds what this node appended.
    own: Option<u32>,
    /// This was the last that the data thread was given of others.
    mark: u64,
}

#[derive(Debug, Default)]
pub(super) struct Trail {
    steps: VecDeque<Step>,
}

impl Trail {
    /// Begins anew, with everything up to `head` under `mark`.
    pub(super) fn restart(&mut self, head: Head, mark: u64) {
        self.steps.clear();
        self.steps.push_back(Step { head, own: None, mark });
    }

    /// `own`: the end of what was this node's, if it was.
    pub(super) fn push(&mut self, head: Head, own: Option<u32>, mark: u64) {
        let own = own.or_else(|| self.steps.back()?.own);
        self.steps.push_back(Step { head, own, mark });
        if self.steps.len() > HEADS_MAX {
            let mut index = 0;
            self.steps.retain(|_| {
                index += 1;
                index % 2 == 1 || index > HEADS_MAX / 2
            });
        }
    }

    /// The head that was reached with what the data thread was given under a mark, or one a little later.
    pub(super) fn reached_with(&self, mark: u64) -> Option<Head> {
        self.steps.iter().find(|step| step.mark >= mark).map(|step| step.head)
    }

    pub(super) fn contains(&self, head: Head) -> bool {
        self.steps.iter().any(|step| step.head == head)
    }

    /// The newest head of which everything is in the log before `position`, given the newest mark that is.
    pub(super) fn upto(&self, position: u32, mark: u64) -> Option<Head> {
        let is_in =
            |step: &&Step| step.mark <= mark && step.own.is_none_or(|own| is_at_or_before(own, position));
        self.steps.iter().rev().find(is_in).map(|step| step.head)
    }
}

#[cfg(test)]
mod tests {
    use super::Trail;
    use crate::Head;

    fn head(seq: u64) -> Head {
        Head { seq, chain: seq }
    }

    #[test]
    fn a_head_counts_once_own_and_foreign_updates_are_in_the_log() {
        let mut trail = Trail::default();
        trail.restart(head(3), 0);
        trail.push(head(4), Some(100), 0);
        trail.push(head(5), None, 1);
        trail.push(head(6), Some(200), 1);
        assert_eq!(trail.upto(50, 0), Some(head(3)));
        assert_eq!(trail.upto(100, 0), Some(head(4)));
        assert_eq!(trail.upto(150, 1), Some(head(5)));
        assert_eq!(trail.upto(300, 0), Some(head(4)), "the fifth was another node's, and is not there");
        assert_eq!(trail.upto(200, 1), Some(head(6)));
    }

    #[test]
    fn what_is_forgotten_is_old() {
        let mut trail = Trail::default();
        trail.restart(head(0), 0);
        for seq in 1..100_u32 {
            trail.push(head(seq.into()), Some(seq), 0);
        }
        assert!(trail.steps.len() <= super::HEADS_MAX);
        assert!((92..100).all(|seq| trail.contains(head(seq))));
        assert_eq!(trail.upto(95, 0), Some(head(95)));
    }
}
