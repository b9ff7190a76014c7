//! A data thread's share of the node's drain: from when on it takes nobody, and whom it closes when.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pinwire_shard::RemoteSession;
use pinwire_shed::{Drain, Windows};

/// A queue of connections that is never empty is cut off after so long.
const QUEUE_PATIENCE_US: u64 = 1_000_000;
/// Bounds of the time between two looks at who is due.
const LOOK_US: (u64, u64) = (1_000, 100_000);
/// Connections that came from other threads meanwhile are looked for this often.
const SEARCH_US: u64 = 500_000;

/// What the node tells its data threads of a drain.
#[derive(Debug)]
pub(crate) enum Leave {
    /// The drain of this number is on since then, by the node's clock. `is_succeeded`: another process accepts from the same
    /// queues, and whoever was accepted here is let in all the same.
    Begin { number: u64, windows: Windows, began_us: u64, is_succeeded: bool },
    /// It is not any more, as of this number. The listeners take the place of those that were closed.
    Cancel { number: u64, listeners: Vec<TcpListener> },
}

/// Who a node that drains has not answered yet, besides its clients. A thread tells its guests before it tells that it has
/// stopped listening, and counts a client before its guest is gone: read the other way round, nobody falls in between.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// Data threads that listen.
    listening: AtomicU32,
    /// Connections before their upgrade.
    guests: AtomicU32,
}

impl Unanswered {
    /// So many threads listen.
    pub(crate) fn new(listening: usize) -> Self {
        let listening = AtomicU32::new(u32::try_from(listening).unwrap_or(u32::MAX));
        Self { listening, guests: AtomicU32::new(0) }
    }

    /// Nobody comes any more, and whoever came has been answered.
    pub(crate) fn is_nobody(&self) -> bool {
        self.listening.load(Ordering::SeqCst) == 0 && self.guests.load(Ordering::SeqCst) == 0
    }
}

/// What a thread has told [`Unanswered`].
#[derive(Debug)]
pub(crate) struct ToldOfGuests {
    guests: u32,
    listens: bool,
}

impl ToldOfGuests {
    /// Of a thread that listens, or not.
    pub(crate) fn new(listens: bool) -> Self {
        Self { guests: 0, listens }
    }

    /// At the end of a turn.
    pub(crate) fn tell(&mut self, all: &Unanswered, guests: usize, listens: bool) {
        let guests = u32::try_from(guests).unwrap_or(u32::MAX);
        if self.guests != guests {
            all.guests.fetch_add(guests.wrapping_sub(self.guests), Ordering::SeqCst);
            self.guests = guests;
        }
        match (self.listens, listens) {
            (true, false) => _ = all.listening.fetch_sub(1, Ordering::SeqCst),
            (false, true) => _ = all.listening.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }
        self.listens = listens;
    }
}

/// Who is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A connection of this thread.
    Here(u32),
    /// A session that another node carries here: its link, and its name there.
    Carried(u16, RemoteSession),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Leaving {
    drain: Drain,
    /// The last that was heard of: an older one comes late.
    number: u64,
    /// Another process accepts from the same queues.
    is_succeeded: bool,
    /// When it begins to close.
    closes_us: u64,
    /// Who is still to be closed, in no order.
    rest: Vec<Client>,
    searched_us: Option<u64>,
    /// The listeners are open.
    pub(crate) listens: bool,
    next_us: Option<u64>,
}

impl Leaving {
    /// The thread serves, or will once it listens.
    pub(crate) fn new(listens: bool) -> Self {
        Self {
            drain: Drain::new(Windows { leave_us: 0, close_us: 0 }),
            number: 0,
            is_succeeded: false,
            closes_us: u64::MAX,
            rest: Vec::new(),
            searched_us: None,
            listens,
            next_us: None,
        }
    }

    pub(crate) fn begin(&mut self, number: u64, windows: Windows, began_us: u64, is_succeeded: bool) {
        if number < self.number {
            return;
        }
        (self.number, self.is_succeeded) = (number, is_succeeded);
        self.drain = Drain::new(windows);
        self.drain.begin(began_us);
        self.closes_us = began_us.saturating_add(windows.leave_us);
        self.next_us = Some(self.closes_us);
        (self.rest, self.searched_us) = (Vec::new(), None);
    }

    /// False if a later drain has begun already.
    pub(crate) fn cancel(&mut self, number: u64) -> bool {
        if number < self.number {
            return false;
        }
        (self.number, self.is_succeeded) = (number, false);
        self.drain.cancel();
        (self.rest, self.searched_us, self.next_us, self.closes_us) = (Vec::new(), None, None, u64::MAX);
        true
    }

    /// Whoever comes is sent elsewhere. What another process shares the queues of has accepted nobody too many.
    pub(crate) fn turns_away(&self, now_us: u64) -> bool {
        self.is_closing(now_us) && !self.is_succeeded
    }

    /// Nobody comes any more but those who were accepted before another process took over.
    pub(crate) fn lets_guests_in(&self, now_us: u64) -> bool {
        self.is_closing(now_us) && self.is_succeeded
    }

    /// Its clients are closed.
    pub(crate) fn is_closing(&self, now_us: u64) -> bool {
        now_us >= self.closes_us
    }

    /// The listeners are to be closed; `has_waiting`: connections may wait there. Those that another process has, too, lose nobody.
    pub(crate) fn should_stop_listening(&self, now_us: u64, has_waiting: bool) -> bool {
        let is_late = now_us >= self.closes_us.saturating_add(QUEUE_PATIENCE_US);
        self.listens && self.is_closing(now_us) && (self.is_succeeded || !has_waiting || is_late)
    }

    /// Who is to be closed now, of those who are `open`. `random` gives uniform numbers.
    pub(crate) fn due(
        &mut self,
        now_us: u64,
        open: impl Iterator<Item = Client>,
        mut random: impl FnMut() -> u32,
    ) -> Vec<Client> {
        if !self.is_closing(now_us) {
            return Vec::new();
        }
        let may_search = self.searched_us.is_none_or(|searched_us| now_us >= searched_us + SEARCH_US);
        if self.rest.is_empty() && may_search {
            self.searched_us = Some(now_us);
            self.rest.extend(open);
        }
        let count = self.drain.due(now_us, self.rest.len() as u64, random()) as usize;
        let due = (0..count).filter_map(|_| self.take_one(random())).collect();
        self.next_us = self.next_look(now_us, random());
        due
    }

    /// Any of the rest.
    fn take_one(&mut self, random: u32) -> Option<Client> {
        let at = (random as usize).checked_rem(self.rest.len())?;
        Some(self.rest.swap_remove(at))
    }

    /// About when the next one is due, from half to one and a half of the time that it should be.
    fn next_look(&self, now_us: u64, random: u32) -> Option<u64> {
        let deadline_us = self.drain.deadline_us()?;
        if now_us >= deadline_us && self.rest.is_empty() && !self.listens {
            return None;
        }
        let left_us = deadline_us.saturating_sub(now_us);
        let each_us = match self.rest.len() as u64 {
            0 => SEARCH_US,
            rest => left_us / rest,
        };
        let jittered_us = each_us / 2 + u64::from(random) % each_us.max(1);
        Some(now_us + jittered_us.clamp(LOOK_US.0, LOOK_US.1).min(left_us.max(LOOK_US.0)))
    }

    /// When [`Self::due`] has to be asked again.
    pub(crate) fn deadline(&self, epoch: Instant) -> Option<Instant> {
        self.next_us.map(|next_us| epoch + Duration::from_micros(next_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const WINDOWS: Windows = Windows { leave_us: 5 * SECOND, close_us: 20 * SECOND };

    fn clients(slots: std::ops::Range<u32>) -> impl Iterator<Item = Client> {
        slots.map(Client::Here)
    }

    fn xorshift(state: &mut u32) -> u32 {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        *state
    }

    #[test]
    fn clients_are_closed_one_by_one_over_the_whole_window_and_never_all_at_once() {
        let mut leaving = Leaving::new(true);
        leaving.begin(1, WINDOWS, SECOND, false);
        assert!(!leaving.is_closing(2 * SECOND));
        let (mut open, mut state): (Vec<Client>, u32) = (clients(0..1000).collect(), 7);
        let (mut now_us, mut per_second, mut jumps) = (6 * SECOND, [0; 20], 0);
        while !open.is_empty() {
            let due = leaving.due(now_us, open.clone().into_iter(), || xorshift(&mut state));
            jumps = jumps.max(due.len());
            let second = ((now_us - 6 * SECOND) / SECOND) as usize;
            per_second[second.min(19)] += due.len();
            open.retain(|slot| !due.contains(slot));
            now_us = leaving.next_us.unwrap();
            assert!(now_us <= 26 * SECOND, "{} are left at the deadline", open.len());
        }
        assert!(per_second.iter().all(|count| (30..=70).contains(count)), "{per_second:?}");
        assert!(jumps < 10, "{jumps} at once");
    }

    #[test]
    fn who_comes_from_another_thread_meanwhile_is_closed_as_well() {
        let mut leaving = Leaving::new(true);
        leaving.begin(1, WINDOWS, 0, false);
        let mut state = 3;
        assert!(leaving.due(4 * SECOND, clients(0..9), || 1).is_empty(), "it still takes who comes");
        assert!(leaving.due(5 * SECOND, clients(0..0), || 1).is_empty());
        assert_eq!(leaving.due(25 * SECOND, clients(7..8), || xorshift(&mut state)), [Client::Here(7)]);
    }

    #[test]
    fn listeners_are_closed_when_nobody_waits_there_any_more_or_after_a_while() {
        let mut leaving = Leaving::new(true);
        assert!(!leaving.should_stop_listening(SECOND, false));
        leaving.begin(1, WINDOWS, 0, false);
        assert!(!leaving.should_stop_listening(4 * SECOND, false));
        assert!(!leaving.should_stop_listening(5 * SECOND, true));
        assert!(leaving.should_stop_listening(5 * SECOND, false));
        assert!(leaving.should_stop_listening(6 * SECOND, true));
        assert!(leaving.cancel(2));
        assert!(!leaving.should_stop_listening(60 * SECOND, false));
    }

    #[test]
    fn with_another_process_the_listeners_are_closed_at_once_and_who_was_accepted_is_let_in() {
        let mut leaving = Leaving::new(true);
        leaving.begin(1, Windows { leave_us: 0, ..WINDOWS }, SECOND, true);
        assert!(leaving.should_stop_listening(SECOND, true));
        assert!(leaving.is_closing(SECOND) && !leaving.turns_away(SECOND));
        // A drain of its own turns away.
        leaving.begin(2, Windows { leave_us: 0, ..WINDOWS }, SECOND, false);
        assert!(leaving.turns_away(SECOND));
    }

    #[test]
    fn what_comes_late_of_an_earlier_drain_changes_nothing() {
        let mut leaving = Leaving::new(true);
        assert!(leaving.cancel(2));
        leaving.begin(1, WINDOWS, 0, false);
        assert!(!leaving.is_closing(60 * SECOND), "it was taken back");
        leaving.begin(5, WINDOWS, 0, false);
        assert!(!leaving.cancel(4));
        assert!(leaving.is_closing(60 * SECOND), "it is on");
    }

    #[test]
    fn nobody_is_unanswered_once_no_thread_listens_and_its_guests_are_through() {
        let all = Unanswered::new(2);
        let (mut one, mut other) = (ToldOfGuests::new(true), ToldOfGuests::new(true));
        one.tell(&all, 3, false);
        assert!(!all.is_nobody());
        other.tell(&all, 0, false);
        assert!(!all.is_nobody());
        one.tell(&all, 0, false);
        assert!(all.is_nobody());
        other.tell(&all, 0, true);
        assert!(!all.is_nobody());
    }
}
