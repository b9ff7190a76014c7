//! One lane per partition: a server of a cluster that does not answer holds up its own documents alone, and is tried with one
//! request at a time.

use super::document::Id;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    #[default]
    Open,
    /// Nothing is asked before then.
    Shut { until_us: u64 },
    /// One request tries whether the store answers again; `is_trying`: it is under way.
    Ajar { is_trying: bool },
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub gate: Gate,
    /// Failures since the last answer.
    pub failures: u32,
    /// Documents that have something to ask once the gate is open.
    pub waiting: VecDeque<Id>,
    /// Documents whose heads are to be compared.
    pub compare: VecDeque<Id>,
    /// Comparisons under way.
    pub comparisons: u32,
    /// In the queue of lanes with something to compare.
    pub is_listed: bool,
}

impl Lane {
    /// True if a request may go: in a gate that is ajar, the one that tries.
    pub(super) fn admits(&self) -> bool {
        matches!(self.gate, Gate::Open | Gate::Ajar { is_trying: false })
    }

    pub(super) fn asked(&mut self) {
        if let Gate::Ajar { is_trying } = &mut self.gate {
            *is_trying = true;
        }
    }

    /// It answers, or nobody asks, and every document was compared.
    pub(super) fn is_back(&self) -> bool {
        let has_nobody = self.waiting.is_empty() && matches!(self.gate, Gate::Ajar { is_trying: false });
        (self.gate == Gate::Open || has_nobody) && self.compare.is_empty() && self.comparisons == 0
    }
}
