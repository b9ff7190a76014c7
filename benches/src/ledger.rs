//! Who was sent which edit: every member gets every edit of every other writer exactly once, and in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pinwire_protocol::document::update::{Bounds, Visitor, scan};

use crate::edits::append_edit;
use crate::fleet::Watcher;

/// Delivery times kept at most, for the percentiles.
const TIMES_MAX: usize = 1 << 20;

/// The edits of the first `writers` of `members` members, and where they have arrived.
#[derive(Debug)]
pub struct Ledger {
    members: usize,
    writers: Vec<Writer>,
    /// The clock that each member (outer) expects next of each writer (inner).
    expected: Vec<u32>,
    /// Writer `w` edits as Yjs client `first_client + w`.
    first_client: u64,
    runs: Runs,
    deliveries: u64,
    frames: u64,
    times: Vec<Duration>,
}

#[derive(Debug, Default)]
struct Writer {
    sent: u32,
    /// Edits before this one have reached everybody.
    landed: u32,
    /// Of each edit since: when it left, and how many members lack it.
    under_way: VecDeque<(Instant, usize)>,
}

/// Struct runs of one update.
#[derive(Debug, Default)]
struct Runs {
    structs: Vec<(u64, u32, u32)>,
    has_deletes: bool,
}

impl Visitor for Runs {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.structs.push((client, clock, len));
    }

    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {
        self.has_deletes = true;
    }
}

impl Ledger {
    /// Nothing sent yet.
    #[must_use]
    pub fn new(members: usize, writers: usize) -> Self {
        Self {
            members,
            writers: (0..writers).map(|_| Writer::default()).collect(),
            expected: vec![0; members * writers],
            // 32 bits, as Yjs draws them; the high bit set, so that all take five bytes.
            first_client: u64::from(fastrand::u32(1 << 31..u32::MAX - writers as u32)),
            runs: Runs::default(),
            deliveries: 0,
            frames: 0,
            times: Vec::new(),
        }
    }

    /// The next edit of a writer, appended to `update`; from now on it is under way.
    pub fn write(&mut self, writer: usize, update: &mut Vec<u8>) {
        let to = self.members - 1;
        let state = &mut self.writers[writer];
        append_edit(update, self.first_client + writer as u64, state.sent);
        state.sent += 1;
        state.under_way.push_back((Instant::now(), to));
    }

    /// Edits of a writer that somebody lacks.
    #[must_use]
    pub fn in_flight(&self, writer: usize) -> u32 {
        self.writers[writer].sent - self.writers[writer].landed
    }

    /// A member was sent an update: checks it against what the member must get next.
    ///
    /// # Errors
    /// An edit is lacking, came twice, came back to its writer, or the update is none of ours.
    pub fn deliver(&mut self, member: usize, update: &[u8]) -> Result<()> {
        self.runs.structs.clear();
        scan(update, &Bounds::default(), &mut self.runs)?;
        ensure!(!self.runs.has_deletes, "member {member} was sent a deletion; nobody deleted");
        if self.runs.structs.is_empty() {
            return Ok(());
        }
        self.frames += 1;
        let now = Instant::now();
        for &(client, clock, len) in &self.runs.structs {
            let writers = self.writers.len();
            let writer = client.wrapping_sub(self.first_client) as usize;
            let Some(state) = self.writers.get_mut(writer) else {
                return Err(anyhow!("member {member} was sent an edit of nobody"));
            };
            ensure!(writer != member, "writer {writer} was sent its own edit");
            let expected = &mut self.expected[member * writers + writer];
            ensure!(
                clock == *expected && clock + len <= state.sent,
                "member {member} was sent edits {clock}..{} of writer {writer} instead of {expected}",
                clock + len
            );
            *expected += len;
            self.deliveries += u64::from(len);
            state.arrived(clock, len, now, &mut self.times);
        }
        Ok(())
    }

    /// True once everybody has everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.writers.iter().all(|writer| writer.landed == writer.sent)
    }

    /// Edits delivered, each at each member, and frames they came in.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.deliveries, self.frames)
    }

    /// Takes the times from sending to delivery that were kept since the last call, ascending.
    pub fn take_times(&mut self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut self.times);
        times.sort_unstable();
        times
    }
}

impl Watcher for Ledger {
    fn update(&mut self, client: usize, update: &[u8]) -> Result<()> {
        self.deliver(client, update)
    }
}

impl Writer {
    fn arrived(&mut self, clock: u32, len: u32, now: Instant, times: &mut Vec<Duration>) {
        let first = (clock - self.landed) as usize;
        for (sent, lacking) in self.under_way.range_mut(first..first + len as usize) {
            *lacking -= 1;
            if times.len() < TIMES_MAX {
                times.push(now - *sent);
            }
        }
        while self.under_way.front().is_some_and(|(_, lacking)| *lacking == 0) {
            self.under_way.pop_front();
            self.landed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ledger: &mut Ledger, writer: usize) -> Vec<u8> {
        let mut update = Vec::new();
        ledger.write(writer, &mut update);
        update
    }

    #[test]
    fn an_edit_is_in_flight_until_the_last_member_has_it() {
        let mut ledger = Ledger::new(3, 1);
        let update = write(&mut ledger, 0);
        ledger.deliver(1, &update).unwrap();
        assert_eq!((ledger.in_flight(0), ledger.is_settled()), (1, false));
        ledger.deliver(2, &update).unwrap();
        assert_eq!((ledger.in_flight(0), ledger.is_settled()), (0, true));
        assert_eq!(ledger.counts(), (2, 2));
        assert_eq!(ledger.take_times().len(), 2);
    }

    #[test]
    fn an_edit_that_is_lacking_doubled_or_echoed_is_found() {
        let mut ledger = Ledger::new(3, 2);
        let (first, second) = (write(&mut ledger, 0), write(&mut ledger, 0));
        assert!(ledger.deliver(1, &second).is_err(), "a gap");
        ledger.deliver(2, &first).unwrap();
        assert!(ledger.deliver(2, &first).is_err(), "twice");
        assert!(ledger.deliver(0, &first).is_err(), "an echo");
        let foreign = write(&mut Ledger::new(2, 1), 0);
        assert!(ledger.deliver(1, &foreign).is_err(), "nobody's");
    }

    #[test]
    fn merged_edits_of_several_writers_count_one_by_one() {
        let mut ledger = Ledger::new(3, 2);
        let updates: Vec<Vec<u8>> = [0, 0, 1, 0, 1].map(|writer| write(&mut ledger, writer)).into();
        let merged = yrs::merge_updates_v1(&updates).unwrap();
        ledger.deliver(2, &merged).unwrap();
        assert_eq!(ledger.counts(), (5, 1));
        assert!(!ledger.is_settled());
    }
}
