//! Who must get what, and who got it: one ledger for each document, topic or echoing connection.
//!
//! Writers number what they send from 0. A reader *stands* once it is synced or subscribed; what is sent from then on is
//! *due* to it: timed, and a fault if it is lost, doubled or out of order. What was sent before may come in a step 2, in a
//! broadcast, or in both, as servers like; a document's reader must have all of it in the end, a topic's none.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::results::Correctness;
use crate::run::schedule::Part;

/// Sends of one writer that may be under way: beyond it the server is hopelessly behind, and sends are dropped.
const UNDER_WAY_MAX: usize = 1 << 20;
/// Faults described in words, by ledger keeper.
const EXAMPLES_MAX: usize = 8;

/// Who gets what a writer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Every reader but the writer, which may get it back all the same.
    Others,
    /// Every reader, the writer included.
    All,
}

/// What a document, or a topic, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// Readers must have everything in the end, whenever they came.
    Whole,
    /// Readers get what is sent while they stand.
    None,
}

/// A send that not every reader has yet.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    planned: u64,
    sent: u64,
    lacking: u32,
    part: Part,
}

#[derive(Debug, Default)]
struct Writer {
    sent: u32,
    /// Sends before this one have reached everybody.
    landed: u32,
    under_way: VecDeque<UnderWay>,
    /// Sends before this one left more than once, so that they may come more than once.
    resent: u32,
    /// The writer's own row among the readers.
    reader: Option<u32>,
}

/// A delivery that was due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    /// When its send was planned, nanoseconds.
    pub(crate) planned: u64,
    /// When it was sent.
    pub(crate) sent: u64,
    /// Where it counts.
    pub(crate) part: Part,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ledger {
    audience: Audience,
    history: History,
    writers: Box<[Writer]>,
    standing: Box<[bool]>,
    standing_count: u32,
    /// By reader and writer: the number expected next.
    next: Box<[u32]>,
    /// By reader and writer: from which number on sends are due.
    since: Box<[u32]>,
    /// What a reader skipped and may still get.
    gaps: HashMap<(u32, u32), Vec<Range<u32>>>,
}

impl Ledger {
    /// `own_rows`: the reader's row of each writer, none for a writer that does not read.
    pub(crate) fn new(audience: Audience, history: History, readers: u32, own_rows: &[Option<u32>]) -> Self {
        let cells = readers as usize * own_rows.len();
        Self {
            audience,
            history,
            writers: own_rows.iter().map(|&reader| Writer { reader, ..Writer::default() }).collect(),
            standing: vec![false; readers as usize].into(),
            standing_count: 0,
            next: vec![0; cells].into(),
            since: vec![0; cells].into(),
            gaps: HashMap::new(),
        }
    }

    /// A reader is synced or subscribed.
    pub(crate) fn stand(&mut self, reader: u32) {
        if std::mem::replace(&mut self.standing[reader as usize], true) {
            return;
        }
        self.standing_count += 1;
        for writer in 0..self.writers.len() {
            let cell = self.cell(reader, writer as u32);
            self.since[cell] = self.writers[writer].sent;
            if self.history == History::None {
                self.next[cell] = self.writers[writer].sent;
            }
        }
    }

    /// A reader is gone; when it comes back it begins anew.
    pub(crate) fn leave(&mut self, reader: u32) {
        let stood = std::mem::replace(&mut self.standing[reader as usize], false);
        self.standing_count -= u32::from(stood);
        for writer in 0..self.writers.len() as u32 {
            let cell = self.cell(reader, writer);
            let missing = self.gaps.remove(&(reader, writer)).unwrap_or_default();
            if stood && self.is_due(reader, writer) {
                let (since, next) = (self.since[cell], self.next[cell]);
                let state = &mut self.writers[writer as usize];
                for number in state.landed.max(since)..state.sent {
                    if number >= next || missing.iter().any(|gap| gap.contains(&number)) {
                        let entry = &mut state.under_way[(number - state.landed) as usize];
                        entry.lacking = entry.lacking.saturating_sub(1);
                    }
                }
                state.settle();
            }
            self.next[cell] = 0;
        }
    }

    /// Notes a send; gives its number and how many readers are to get it. None if too many are under way.
    pub(crate) fn send(&mut self, writer: u32, planned: u64, sent: u64, part: Part) -> Option<(u32, u32)> {
        let due = self.due(writer);
        let state = &mut self.writers[writer as usize];
        if state.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        let number = state.sent;
        state.sent += 1;
        state.under_way.push_back(UnderWay { planned, sent, lacking: due, part });
        state.settle();
        Some((number, due))
    }

    /// Takes back the latest send of a writer, which its socket refused.
    pub(crate) fn unsend(&mut self, writer: u32) {
        let state = &mut self.writers[writer as usize];
        if state.under_way.pop_back().is_some() {
            state.sent -= 1;
        }
    }

    /// How many a writer sent.
    pub(crate) fn sent_by(&self, writer: u32) -> u32 {
        self.writers[writer as usize].sent
    }

    /// A writer sends again what it has sent so far: the server may lack it, or may have passed it on already.
    pub(crate) fn resend(&mut self, writer: u32) {
        let state = &mut self.writers[writer as usize];
        state.resent = state.sent;
    }

    /// Sends of a writer that somebody lacks.
    pub(crate) fn in_flight(&self, writer: u32) -> usize {
        self.writers[writer as usize].under_way.len()
    }

    /// True if every reader that stands has everything that is due.
    pub(crate) fn is_settled(&self) -> bool {
        self.writers.iter().all(|writer| writer.under_way.is_empty())
    }

    /// Numbers sent by all writers together.
    pub(crate) fn sent(&self) -> u64 {
        self.writers.iter().map(|writer| u64::from(writer.sent)).sum()
    }

    /// A reader was sent `numbers` of a writer. `on_due` is called for each that was due.
    pub(crate) fn deliver(
        &mut self,
        reader: u32,
        writer: u32,
        numbers: Range<u32>,
        found: &mut Correctness,
        mut on_due: impl FnMut(Delivery),
    ) {
        found.checked += u64::from(numbers.end - numbers.start);
        let Some(state) = self.writers.get(writer as usize) else {
            found.corrupted += 1;
            note(found, || {
                format!("reader {reader} was sent something of writer {writer}, who does not exist")
            });
            return;
        };
        if numbers.end > state.sent {
            found.corrupted += 1;
            note(found, || {
                format!(
                    "reader {reader} was sent number {} of writer {writer}, of {} sent",
                    numbers.end - 1,
                    state.sent
                )
            });
            return;
        }
        if !self.is_due(reader, writer) {
            return;
        }
        let cell = self.cell(reader, writer);
        let (next, since) = (self.next[cell], self.since[cell]);
        if numbers.end > next {
            if numbers.start > next {
                self.gaps.entry((reader, writer)).or_default().push(next..numbers.start);
            }
            self.next[cell] = numbers.end;
        }
        let stands = self.standing[reader as usize];
        for number in numbers.clone() {
            if number < next && !self.fill(reader, writer, number) {
                if stands && number >= since && number >= self.writers[writer as usize].resent {
                    found.duplicated += 1;
                    note(found, || {
                        format!("reader {reader} was sent number {number} of writer {writer} twice")
                    });
                }
                continue;
            }
            if !stands || number < since {
                continue;
            }
            if number < next {
                found.reordered += 1;
                note(found, || {
                    format!("reader {reader} was sent number {number} of writer {writer} after {}", next - 1)
                });
            }
            let state = &mut self.writers[writer as usize];
            let Some(at) = number.checked_sub(state.landed) else { continue };
            if let Some(entry) = state.under_way.get_mut(at as usize) {
                entry.lacking = entry.lacking.saturating_sub(1);
                on_due(Delivery { planned: entry.planned, sent: entry.sent, part: entry.part });
            }
        }
        self.writers[writer as usize].settle();
    }

    /// What standing readers never got, and readers that have everything or not.
    pub(crate) fn finish(&self, name: &str, found: &mut Correctness) {
        for reader in 0..self.standing.len() as u32 {
            if !self.standing[reader as usize] {
                continue;
            }
            let mut lacking = 0;
            for writer in (0..self.writers.len() as u32).filter(|writer| self.is_due(reader, *writer)) {
                let cell = self.cell(reader, writer);
                let tail = self.writers[writer as usize].sent - self.next[cell];
                let gaps: u32 = self
                    .gaps
                    .get(&(reader, writer))
                    .into_iter()
                    .flatten()
                    .map(|gap| gap.end - gap.start)
                    .sum();
                lacking += u64::from(tail + gaps);
                if tail + gaps > 0 {
                    let first = self
                        .gaps
                        .get(&(reader, writer))
                        .and_then(|gaps| gaps.first())
                        .map_or(self.next[cell], |gap| gap.start);
                    note(found, || {
                        format!(
                            "{name}: reader {reader} never got {} sends of writer {writer}, from number {first} on",
                            tail + gaps
                        )
                    });
                }
            }
            found.lost += lacking;
            match self.history {
                History::Whole if lacking == 0 => found.converged += 1,
                History::Whole => found.diverged += 1,
                History::None => {}
            }
        }
    }

    /// Removes a number from a reader's gaps; false if it is in none.
    fn fill(&mut self, reader: u32, writer: u32, number: u32) -> bool {
        let Some(gaps) = self.gaps.get_mut(&(reader, writer)) else { return false };
        let Some(at) = gaps.iter().position(|gap| gap.contains(&number)) else { return false };
        let gap = gaps.swap_remove(at);
        gaps.extend([gap.start..number, number + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
        if gaps.is_empty() {
            self.gaps.remove(&(reader, writer));
        }
        true
    }

    fn due(&self, writer: u32) -> u32 {
        let own = self.writers[writer as usize].reader;
        let own_stands = own.is_some_and(|reader| self.standing[reader as usize]);
        match self.audience {
            Audience::All => self.standing_count,
            Audience::Others => self.standing_count - u32::from(own_stands),
        }
    }

    /// Whether a writer's sends are for this reader.
    fn is_due(&self, reader: u32, writer: u32) -> bool {
        self.audience == Audience::All || self.writers[writer as usize].reader != Some(reader)
    }

    fn cell(&self, reader: u32, writer: u32) -> usize {
        reader as usize * self.writers.len() + writer as usize
    }
}

impl Writer {
    fn settle(&mut self) {
        while self.under_way.front().is_some_and(|entry| entry.lacking == 0) {
            self.under_way.pop_front();
            self.landed += 1;
        }
    }
}

/// Describes one of the first faults.
pub(crate) fn note(found: &mut Correctness, words: impl FnOnce() -> String) {
    if found.examples.len() < EXAMPLES_MAX {
        found.examples.push(words());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: Part = Part::Stage(0);

    fn document(readers: u32) -> Ledger {
        let mut ledger = Ledger::new(Audience::Others, History::Whole, readers, &[Some(0)]);
        (0..readers).for_each(|reader| ledger.stand(reader));
        ledger
    }

    fn deliver(ledger: &mut Ledger, reader: u32, numbers: Range<u32>, found: &mut Correctness) -> u32 {
        let mut due = 0;
        ledger.deliver(reader, 0, numbers, found, |_| due += 1);
        due
    }

    #[test]
    fn a_send_is_under_way_until_the_last_reader_has_it() {
        let (mut ledger, mut found) = (document(3), Correctness::default());
        assert_eq!(ledger.send(0, 1, 2, STAGE), Some((0, 2)));
        assert_eq!(deliver(&mut ledger, 1, 0..1, &mut found), 1);
        assert_eq!(ledger.in_flight(0), 1);
        assert_eq!(deliver(&mut ledger, 2, 0..1, &mut found), 1);
        assert!(ledger.is_settled());
        ledger.finish("d", &mut found);
        assert_eq!((found.faults(), found.converged), (0, 3));
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let (mut ledger, mut found) = (document(2), Correctness::default());
        for _ in 0..6 {
            ledger.send(0, 1, 1, STAGE);
        }
        deliver(&mut ledger, 1, 0..1, &mut found);
        deliver(&mut ledger, 1, 0..1, &mut found);
        assert_eq!(found.duplicated, 1);
        deliver(&mut ledger, 1, 3..4, &mut found);
        assert_eq!(deliver(&mut ledger, 1, 2..3, &mut found), 1);
        assert_eq!(found.reordered, 1);
        deliver(&mut ledger, 1, 8..9, &mut found);
        assert_eq!(found.corrupted, 1);
        ledger.finish("d", &mut found);
        // Number 1, and 4 and 5.
        assert_eq!((found.lost, found.diverged), (3, 1));
        assert!(!found.examples.is_empty());
    }

    #[test]
    fn a_newcomer_may_get_the_past_in_any_way_but_must_get_it() {
        let mut found = Correctness::default();
        let mut ledger = Ledger::new(Audience::Others, History::Whole, 2, &[Some(0)]);
        ledger.stand(0);
        for _ in 0..3 {
            assert_eq!(ledger.send(0, 1, 1, STAGE).unwrap().1, 0);
        }
        // A broadcast that overtakes the step 2, the step 2, and what stood in the server's buffer.
        assert_eq!(deliver(&mut ledger, 1, 2..3, &mut found), 0);
        assert_eq!(deliver(&mut ledger, 1, 0..3, &mut found), 0);
        ledger.stand(1);
        assert_eq!(deliver(&mut ledger, 1, 2..3, &mut found), 0);
        ledger.finish("d", &mut found);
        assert_eq!((found.faults(), found.converged), (0, 2));
    }

    #[test]
    fn who_leaves_is_not_waited_for_and_begins_anew() {
        let (mut ledger, mut found) = (document(3), Correctness::default());
        ledger.send(0, 1, 1, STAGE);
        deliver(&mut ledger, 1, 0..1, &mut found);
        ledger.leave(2);
        assert!(ledger.is_settled());
        assert_eq!(deliver(&mut ledger, 2, 0..1, &mut found), 0);
        ledger.stand(2);
        assert_eq!(ledger.send(0, 1, 1, STAGE).unwrap().1, 2);
        deliver(&mut ledger, 2, 1..2, &mut found);
        deliver(&mut ledger, 1, 1..2, &mut found);
        ledger.finish("d", &mut found);
        assert_eq!(found.faults(), 0);
    }

    #[test]
    fn a_subscriber_is_owed_nothing_of_the_past_and_an_echo_everything() {
        let mut found = Correctness::default();
        let mut topic = Ledger::new(Audience::Others, History::None, 1, &[None]);
        topic.send(0, 1, 1, STAGE);
        topic.stand(0);
        topic.finish("t", &mut found);
        assert_eq!(found.faults(), 0);
        let mut echo = Ledger::new(Audience::All, History::None, 1, &[Some(0)]);
        echo.stand(0);
        assert_eq!(echo.send(0, 1, 1, STAGE), Some((0, 1)));
        echo.finish("e", &mut found);
        assert_eq!(found.lost, 1);
    }
}
