//! Whether the node works as it should: what it finds out about itself. Who is ill leaves, as far as others can stand in for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinwire_pool::Heard;
use pinwire_shed::{Lasting, Mark, Water};

use super::Cause;
use super::disk::{Disk, Room, room_of};
use crate::data::{Envelope, Mailbox};

const SECOND_US: u64 = 1_000_000;
/// How often a data thread is asked for a sign of life.
const ASK_EVERY_US: u64 = SECOND_US;
/// Seconds within which a data thread that works takes what is laid into its mailbox.
const LAG: Mark = Mark { high: 3.0, low: 1.0, dwell_us: 10 * SECOND_US };
/// Seconds by which clocks may differ.
const SKEW: Mark = Mark { high: 5.0, low: 2.0, dwell_us: 30 * SECOND_US };
/// A clock that was set, be it the pool's, shows first with who tells next and only then with the others: beats of all of them have
/// to pass before it is known whose is wrong.
const SKEW_US: u64 = 10 * SECOND_US;
/// Of the room that has to be free on the store's disk: all of it is gone, or half.
const DISK: Mark = Mark { high: 1.0, low: 0.5, dwell_us: 30 * SECOND_US };
/// The least room that has to be free, of a disk that is large.
const DISK_FREE: u64 = 1 << 30;
/// The same of one that is small: a part of so many.
const DISK_PARTS: u64 = 33;
/// A lease that is renewed late is no reason to leave.
const LEASE_US: (u64, u64) = (3 * SECOND_US, 5 * SECOND_US);
/// Nodes that have to tell their clocks before one of them can be said to be wrong.
const CLOCKS_MIN: usize = 3;

/// Signs of life of one data thread. Times are microseconds of the node's clock, 0 for never.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    asked_us: AtomicU64,
    answered_us: AtomicU64,
}

impl Pulse {
    /// The data thread took what asks for this.
    pub(crate) fn answer(&self, now_us: u64) {
        self.answered_us.store(now_us, Ordering::Relaxed);
    }

    /// How long an answer takes: the last one, or that which is awaited.
    fn lag_us(&self, now_us: u64) -> u64 {
        let (asked_us, answered_us) =
            (self.asked_us.load(Ordering::Relaxed), self.answered_us.load(Ordering::Relaxed));
        let until_us = if answered_us < asked_us { now_us } else { answered_us };
        until_us.saturating_sub(asked_us)
    }

    fn is_due(&self, now_us: u64) -> bool {
        let (asked_us, answered_us) =
            (self.asked_us.load(Ordering::Relaxed), self.answered_us.load(Ordering::Relaxed));
        answered_us >= asked_us && now_us >= asked_us.saturating_add(ASK_EVERY_US)
    }
}

/// What is wrong with a node, for [`pinwire_shed::Duty::ill`], and the numbers of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ill {
    pub(crate) words: &'static str,
    pub(crate) numbers: String,
}

/// What was measured, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measures {
    /// The slowest data thread's, in seconds.
    pub(crate) lag: f64,
    /// Seconds by which the clock is ahead of the pool's.
    pub(crate) ahead: Option<f64>,
    /// Bytes free on the store's disk.
    pub(crate) disk_free: Option<u64>,
}

/// A data thread, and the way to it.
#[derive(Debug)]
struct Asked {
    mailbox: Mailbox,
    pulse: Arc<Pulse>,
    /// It was asked, and its mailbox was full: what asks has still to be laid in.
    is_owed: bool,
}

/// The checks of a node.
#[derive(Debug)]
pub(crate) struct Checks {
    threads: Vec<Asked>,
    /// The store's, if there is one.
    store: Option<Disk>,
    hangs: Water,
    lag: Water,
    skewed: Lasting,
    skew: Water,
    disk: Water,
    lease: Lasting,
    journal: Lasting,
    /// By which a clock is wrong, if others say so.
    wrong_by: Option<f64>,
    pub(crate) measures: Measures,
}

impl Checks {
    /// Of a node with these data threads, and its store in this folder, if there is one.
    pub(crate) fn new(mailboxes: &[Mailbox], store: Option<PathBuf>) -> Self {
        let lasting = || Lasting::new(LEASE_US.0, LEASE_US.1);
        Self {
            threads: mailboxes.iter().map(asked).collect(),
            store: store.and_then(disk_at),
            hangs: Water::default(),
            lag: Water::default(),
            skewed: Lasting::new(SKEW_US, 0),
            skew: Water::default(),
            disk: Water::default(),
            lease: lasting(),
            journal: lasting(),
            wrong_by: None,
            measures: Measures::default(),
        }
    }

    /// What the pool says of clocks, `ahead_ms` being what this node's is ahead of it. The pool's own may be the one that is wrong:
    /// what counts is the difference to most of those who told theirs, and with two nobody knows who is right.
    pub(crate) fn heard(&mut self, heard: &Heard, ahead_ms: i64) {
        let mut all: Vec<i64> = heard.members.iter().map(|seen| seen.member.ahead_ms).collect();
        all.sort_unstable();
        self.measures.ahead = Some(ahead_ms as f64 / 1e3);
        let middle = all.get(all.len() / 2).copied().filter(|_| all.len() >= CLOCKS_MIN);
        self.wrong_by = middle.map(|middle| (ahead_ms - middle) as f64 / 1e3);
    }

    /// Looks at everything; answers the worst.
    pub(crate) fn look(&mut self, now_us: u64, away: &[Cause]) -> Option<Ill> {
        let ills = [self.lag(now_us), self.lease(now_us, away), self.disk(now_us), self.skew(now_us)];
        ills.into_iter().flatten().next()
    }

    fn lag(&mut self, now_us: u64) -> Option<Ill> {
        for Asked { mailbox, pulse, is_owed } in &mut self.threads {
            if pulse.is_due(now_us) {
                pulse.asked_us.store(now_us, Ordering::Relaxed);
                *is_owed = true;
            }
            // A mailbox may be full, and empty a moment later. That it was counts: it was asked when it was to be asked.
            *is_owed = *is_owed && mailbox.push(Envelope::Pulse(Arc::clone(pulse))).is_err();
        }
        let lags = self.threads.iter().map(|asked| asked.pulse.lag_us(now_us)).enumerate();
        let (thread, lag_us) = lags.max_by_key(|(_, lag_us)| *lag_us)?;
        self.measures.lag = lag_us as f64 / 1e6;
        let is_ill = self.lag.note(&LAG, self.measures.lag, now_us);
        let numbers = format!("data-{thread}: {:.1} s behind", self.measures.lag);
        is_ill.then_some(Ill { words: "a data thread is slow", numbers })
    }

    fn lease(&mut self, now_us: u64, away: &[Cause]) -> Option<Ill> {
        let lasting = [(&mut self.lease, Cause::Lease), (&mut self.journal, Cause::Journal)];
        let ills =
            lasting.map(|(lasting, cause)| lasting.note(away.contains(&cause), now_us).then_some(cause));
        let cause = ills.into_iter().flatten().next()?;
        let numbers = format!("for more than {} s", LEASE_US.0 / SECOND_US);
        Some(Ill { words: cause.words(), numbers })
    }

    fn disk(&mut self, now_us: u64) -> Option<Ill> {
        let store = self.store.as_mut()?;
        let room = store.look(now_us);
        let silent = store.silent_us(now_us) as f64 / 1e6;
        if self.hangs.note(&LAG, silent, now_us) {
            return Some(Ill {
                words: "the store's disk does not answer",
                numbers: format!("for {silent:.1} s"),
            });
        }
        let room = room?;
        self.measures.disk_free = Some(room.free);
        let is_ill = self.disk.note(&DISK, disk_need(room), now_us);
        let numbers = format!("{} MiB left", room.free >> 20);
        is_ill.then_some(Ill { words: "the store's disk is full", numbers })
    }

    fn skew(&mut self, now_us: u64) -> Option<Ill> {
        let by = self.wrong_by.unwrap_or(0.0);
        let has_lasted = self.skewed.note(by.abs() >= SKEW.high, now_us);
        let counts = has_lasted || by.abs() < SKEW.high;
        let is_ill = if counts { self.skew.note(&SKEW, by.abs(), now_us) } else { self.skew.is_above() };
        let direction = if by < 0.0 { "behind" } else { "ahead of" };
        let numbers = format!("{:.1} s {direction} most others of the region", by.abs());
        is_ill.then_some(Ill { words: "the clock is wrong", numbers })
    }
}

fn asked(mailbox: &Mailbox) -> Asked {
    Asked { mailbox: mailbox.clone(), pulse: Arc::default(), is_owed: false }
}

/// What has to be free of a disk, in shares of what is.
fn disk_need(Room { free, total }: Room) -> f64 {
    DISK_FREE.min(total / DISK_PARTS) as f64 / free.max(1) as f64
}

fn disk_at(folder: PathBuf) -> Option<Disk> {
    let disk = Disk::start(move || room_of(&folder));
    disk.inspect_err(|error| tracing::error!(%error, "nobody looks how full the store's disk is")).ok()
}

#[cfg(test)]
mod tests {
    use pinwire_pool::{Member, Seen};

    use super::*;

    fn checks() -> Checks {
        Checks::new(&[], None)
    }

    #[test]
    fn a_thread_that_does_not_answer_lags_more_and_more() {
        let pulse = Pulse::default();
        assert!(pulse.is_due(SECOND_US) && !pulse.is_due(SECOND_US / 2));
        pulse.asked_us.store(SECOND_US, Ordering::Relaxed);
        assert_eq!((pulse.lag_us(3 * SECOND_US), pulse.is_due(9 * SECOND_US)), (2 * SECOND_US, false));
        pulse.answer(4 * SECOND_US);
        assert_eq!((pulse.lag_us(9 * SECOND_US), pulse.is_due(9 * SECOND_US)), (3 * SECOND_US, true));
    }

    #[test]
    fn a_mailbox_that_was_full_for_a_moment_makes_nobody_ill() {
        let config = pinwire_engine::Config {
            driver: pinwire_engine::Driver::Epoll,
            ..pinwire_engine::Config::default()
        };
        pinwire_engine::run(config, |engine| async move {
            let mailbox = Mailbox::new(engine.waker(), engine.door());
            let mut checks = Checks::new(std::slice::from_ref(&mailbox), None);
            while mailbox.push(Envelope::Keys).is_ok() {}
            assert_eq!(checks.look(SECOND_US, &[]), None);
            assert!(checks.look(4 * SECOND_US, &[]).is_some(), "nobody empties it");
            // The thread goes on.
            while mailbox.pop().is_some() {}
            assert!(checks.look(5 * SECOND_US, &[]).is_some(), "it has not answered yet");
            let Some(Envelope::Pulse(pulse)) = mailbox.pop() else {
                panic!("it is asked for no sign of life")
            };
            assert!(mailbox.pop().is_none(), "it is asked once");
            pulse.answer(5 * SECOND_US);
            for second in 6..=16 {
                let ill = checks.look(second * SECOND_US, &[]);
                if let Some(Envelope::Pulse(pulse)) = mailbox.pop() {
                    pulse.answer(second * SECOND_US);
                }
                assert_eq!((second, ill.is_some()), (second, second < 16));
            }
        })
        .unwrap();
    }

    #[test]
    fn a_lease_that_is_away_for_long_is_an_ill_and_a_short_while_is_none() {
        let mut checks = checks();
        let mut at =
            |seconds: u64, away: &[Cause]| checks.look(seconds * SECOND_US, away).map(|ill| ill.words);
        assert_eq!((at(0, &[Cause::Lease]), at(2, &[]), at(3, &[Cause::Lease])), (None, None, None));
        assert_eq!(at(6, &[Cause::Lease]), Some(Cause::Lease.words()));
        assert_eq!((at(7, &[]), at(12, &[])), (Some(Cause::Lease.words()), None));
        assert_eq!(at(13, &[Cause::Registry, Cause::Fetching]), None);
    }

    fn heard(ahead: &[i64]) -> Heard {
        let seen = |ahead_ms: &i64| Seen {
            member: Member { ahead_ms: *ahead_ms, ..Member::default() },
            is_in: true,
        };
        let members = ahead.iter().map(seen).collect();
        Heard { now_us: 0, may_leave: false, is_doubled: false, members, gone: Vec::new() }
    }

    #[test]
    fn a_clock_is_wrong_by_what_most_others_say_and_not_by_the_pools() {
        let mut checks = checks();
        checks.heard(&heard(&[0, 9_000]), 9_000);
        assert_eq!(checks.look(0, &[]), None, "of two nobody knows which");
        checks.heard(&heard(&[9_000, 9_100, 9_200]), 9_000);
        assert_eq!(checks.look(0, &[]), None, "the pool's is wrong");
        checks.heard(&heard(&[-100, 0, 9_000]), 9_000);
        assert_eq!(checks.look(0, &[]), None, "the others may not have told yet");
        assert_eq!(checks.look(9 * SECOND_US, &[]), None);
        let ill = checks.look(10 * SECOND_US, &[]).unwrap();
        assert_eq!(ill.numbers, "9.0 s ahead of most others of the region");
        checks.heard(&heard(&[-100, 0, 100]), 100);
        assert!(checks.look(11 * SECOND_US, &[]).is_some(), "not for long enough");
        checks.heard(&heard(&[-100, 0, 9_000]), 9_000);
        assert!(checks.look(12 * SECOND_US, &[]).is_some());
        checks.heard(&heard(&[-100, 0, 100]), 100);
        assert!(checks.look(13 * SECOND_US, &[]).is_some());
        assert_eq!(checks.look(43 * SECOND_US, &[]), None);
    }

    /// Three nodes beat every other second, one after another; the clock of their pool is set forward, and then back.
    #[test]
    fn a_step_of_the_pools_clock_makes_nobody_ill() {
        let mut nodes = [0, 1, 2].map(|_| (checks(), 0_i64));
        let mut told = [0_i64; 3];
        for tick in 0..240_u64 {
            let ahead_ms = if (40..140).contains(&tick) { -60_000 } else { 0 };
            for (index, (checks, known_ms)) in nodes.iter_mut().enumerate() {
                if (tick + 3 * index as u64).is_multiple_of(8) {
                    // It tells what it found out by the answer before.
                    told[index] = *known_ms;
                    *known_ms = ahead_ms;
                    checks.heard(&heard(&told), ahead_ms);
                }
                assert_eq!(checks.look(tick * SECOND_US / 4, &[]), None, "node {index} at {tick}");
            }
        }
    }

    #[test]
    fn a_disk_needs_a_part_of_it_and_a_large_one_a_gigabyte() {
        let (mib, tib) = (1 << 20, 1 << 40);
        let need = |free, total| disk_need(Room { free, total });
        assert!(need(30 * mib, 1000 * mib) >= 1.0 && need(70 * mib, 1000 * mib) < 0.5);
        assert!(need(1000 * mib, tib) >= 1.0 && need(2100 * mib, tib) < 0.5);
    }

    #[test]
    fn a_disk_that_hangs_makes_the_node_ill_and_the_look_does_not_wait_for_it() {
        let (release, hanging) = std::sync::mpsc::channel::<()>();
        let probe = move || {
            let _ = hanging.recv();
            None
        };
        let mut checks = Checks { store: Some(Disk::start(probe).unwrap()), ..checks() };
        assert_eq!(checks.look(0, &[]), None);
        assert_eq!(checks.look(2 * SECOND_US, &[]), None);
        let ill = checks.look(3 * SECOND_US, &[]).unwrap();
        assert_eq!((ill.words, &*ill.numbers), ("the store's disk does not answer", "for 3.0 s"));
        drop((checks, release));
    }
}
