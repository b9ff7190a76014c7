//! What one seed decides before anything happens.

use super::socket::Pace;
use fastrand::Rng;

/// Chances are in percent.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Nodes that share a session store; a node by itself has one of its own.
    pub(super) nodes: usize,
    /// Notices between nodes that get lost, and how long others are under way.
    pub(super) lost_notices: u8,
    pub(super) notice_ms: u64,
    /// Threads of a node, where several share a store; else of all nodes.
    pub(super) threads: usize,
    /// The first so many of them are of a node in a region that has none of the documents.
    pub(super) homes: usize,
    pub(super) apps: usize,
    pub(super) documents: usize,
    pub(super) devices: usize,
    /// How long faults, edits and departures go on.
    pub(super) busy_ms: u64,
    /// Mean time between two edits of the whole run.
    pub(super) edit_every_ms: u64,
    /// Mean time between two faults.
    pub(super) fault_every_ms: u64,
    /// Longest text inserted at once.
    pub(super) largest_edit: usize,
    pub(super) latency_ms: u64,
    /// Socket buffers small enough to fill.
    pub(super) slow_readers: u8,
    pub(super) hocuspocus: u8,
    pub(super) read_only: u8,
    pub(super) bad_tokens: u8,
    pub(super) deflate: u8,
    /// Sessions outlive their grace in the store.
    pub(super) store_keeps: bool,
    pub(super) store: Promptness,
    pub(super) verify: Promptness,
    pub(super) open: Promptness,
    pub(super) compact: Promptness,
    pub(super) mail_ms: u64,
    pub(super) refused_opens: u8,
    pub(super) failed_moves: u8,
}

/// How soon an answer comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promptness {
    /// Answered within the effect's own turn.
    pub(super) at_once: u8,
    /// Else after up to so many milliseconds.
    pub(super) late_ms: u64,
}

impl Promptness {
    fn random(rng: &mut Rng, late_ms: u64) -> Self {
        Self { at_once: [0, 50, 100][rng.usize(0..3)], late_ms: [5, 100, late_ms][rng.usize(0..3)] }
    }

    /// None: now.
    pub(super) fn delay(self, rng: &mut Rng) -> Option<u64> {
        (rng.u8(0..100) >= self.at_once).then(|| rng.u64(0..=self.late_ms))
    }
}

impl Plan {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let threads = rng.usize(1..=3);
        let documents = rng.usize(1..=4);
        let (edit_every_ms, largest_edit) =
            [(30, 8), (30, 100), (300, 8), (300, 2_000), (2_000, 8), (2_000, 8_000), (20_000, 400)]
                [rng.usize(0..7)];
        Self {
            nodes: 1,
            lost_notices: 0,
            notice_ms: 0,
            threads,
            homes: 0,
            apps: rng.usize(1..=2),
            documents,
            devices: rng.usize(2..=8),
            busy_ms: rng.u64(20_000..100_000),
            edit_every_ms,
            fault_every_ms: [1_000, 5_000, 20_000, 1_000_000][rng.usize(0..4)],
            largest_edit,
            latency_ms: [0, 3, 40, 400][rng.usize(0..4)],
            slow_readers: [0, 0, 30, 80][rng.usize(0..4)],
            hocuspocus: [0, 50, 100][rng.usize(0..3)],
            read_only: [0, 0, 20][rng.usize(0..3)],
            bad_tokens: [0, 0, 20][rng.usize(0..3)],
            deflate: [0, 50][rng.usize(0..2)],
            store_keeps: rng.bool(),
            store: Promptness::random(rng, 3_000),
            verify: Promptness::random(rng, 2_000),
            open: Promptness::random(rng, 2_000),
            compact: Promptness::random(rng, 3_000),
            mail_ms: [0, 2, 50][rng.usize(0..3)],
            refused_opens: [0, 0, 20][rng.usize(0..3)],
            failed_moves: [0, 0, 20][rng.usize(0..3)],
        }
    }

    /// The same for a region: sessions outlive their documents, and everyone is where somebody else is, too.
    pub(super) fn random_region(rng: &mut Rng) -> Self {
        Self {
            nodes: rng.usize(2..=3),
            lost_notices: [0, 5, 30][rng.usize(0..3)],
            notice_ms: [2, 50, 500][rng.usize(0..3)],
            store_keeps: true,
            documents: rng.usize(1..=2),
            ..Self::random(rng)
        }
    }

    /// The same with a second node, whose clients are carried to the first.
    pub(super) fn relayed(rng: &mut Rng) -> Self {
        let plan = Self::random(rng);
        let homes = rng.usize(1..=2);
        Self { homes, threads: plan.threads + homes, ..plan }
    }

    pub(super) fn pace(&self, rng: &mut Rng) -> Pace {
        if rng.u8(0..100) < self.slow_readers {
            Pace { capacity: rng.usize(1..2_000), read: rng.usize(1..1_500), delay_ms: rng.u64(1..2_000) }
        } else {
            Pace { capacity: 200_000, read: 1 << 20, delay_ms: self.latency_ms }
        }
    }

    pub(super) fn chance(rng: &mut Rng, percent: u8) -> bool {
        rng.u8(0..100) < percent
    }
}
