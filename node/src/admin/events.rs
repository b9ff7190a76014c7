//! What happened on the node: the last of it, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinwire_admin_api::events::{Event, EventPage, What};
use pinwire_engine::Pressure;
use pinwire_shard::DocumentName;
use time::OffsetDateTime;

use super::rfc3339;

/// Events of the node that are kept, and messages of clients apart from them, so that those do not wash these away.
const KEPT: usize = 1024;
/// A longer message is told without what it says.
const PAYLOAD_MAX: usize = 4 << 10;
/// What may happen very often is told once in so long.
const QUIET: Duration = Duration::from_secs(10);

/// See the module's documentation. Data threads lock it for as long as it takes to append one event, which they seldom do.
#[derive(Debug, Default)]
pub struct Events(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Sequence number of the event before the next.
    last: u64,
    node: VecDeque<Arc<Noted>>,
    messages: VecDeque<Arc<Noted>>,
    /// When something of this kind was told last.
    told: HashMap<(&'static str, u16), Instant>,
}

#[derive(Debug)]
struct Noted {
    sequence: u64,
    at: OffsetDateTime,
    what: What,
}

impl Events {
    /// Notes what happened.
    pub fn note(&self, what: What) {
        self.lock().push(what);
    }

    pub(crate) fn pressure(&self, thread: u16, of: Pressure) {
        let of = match of {
            Pressure::Slots => "connections",
            Pressure::Descriptors => "descriptors",
            Pressure::Memory => "memory",
        };
        self.note_seldom((of, thread), || What::Pressure { thread, of: of.to_owned() });
    }

    pub(crate) fn unauthenticated(&self, address: &str) {
        self.note_seldom(("unauthenticated", 0), || What::Unauthenticated { address: address.to_owned() });
    }

    /// A stateless message of a client.
    pub(crate) fn message(&self, document: &DocumentName, subject: &str, payload: &str) {
        self.note(What::Message {
            tenant: document.tenant.to_string(),
            app: document.app.to_string(),
            name: document.name.to_string(),
            subject: Some(subject.to_owned()).filter(|subject| !subject.is_empty()),
            payload: (payload.len() <= PAYLOAD_MAX).then(|| payload.to_owned()),
            bytes: payload.len() as u64,
        });
    }

    fn note_seldom(&self, kind: (&'static str, u16), what: impl FnOnce() -> What) {
        let now = Instant::now();
        let mut inner = self.lock();
        // Kinds and threads are few.
        let is_told = inner.told.get(&kind).is_some_and(|told| now.duration_since(*told) < QUIET);
        if !is_told {
            inner.told.insert(kind, now);
            inner.push(what());
        }
    }

    /// At most `limit` of what happened after the event number `since`. A number that is still to come is one from before a
    /// restart: then that is all that happened since the start.
    pub(crate) fn since(&self, since: u64, limit: usize) -> EventPage {
        let (since, found, last) = self.lock().since(since);
        let is_all = found.len() <= limit;
        let page = &found[..found.len().min(limit)];
        let next = if is_all { last } else { page.last().map_or(since, |event| event.sequence) };
        // What is missing up to there is not kept any more.
        let lost = next - since - page.len() as u64;
        let event = |noted: &Arc<Noted>| Event {
            sequence: noted.sequence,
            at: rfc3339(noted.at),
            what: noted.what.clone(),
        };
        EventPage { events: page.iter().map(event).collect(), next, lost }
    }

    /// The number of the event before the last `count`.
    pub(crate) fn before_last(&self, count: u64) -> u64 {
        self.lock().last.saturating_sub(count)
    }

    /// A queue is whole whatever a thread was doing when it panicked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, what: What) {
        self.last += 1;
        let is_message = matches!(what, What::Message { .. });
        let noted = Arc::new(Noted { sequence: self.last, at: OffsetDateTime::now_utc(), what });
        let queue = if is_message { &mut self.messages } else { &mut self.node };
        if queue.len() == KEPT {
            queue.pop_front();
        }
        queue.push_back(noted);
    }

    /// After which number, what happened in order, and the number of the last event of all. Shared: the lock is not held while
    /// texts are copied.
    fn since(&self, since: u64) -> (u64, Vec<Arc<Noted>>, u64) {
        let since = if since > self.last { 0 } else { since };
        let behind = |queue: &VecDeque<Arc<Noted>>| -> Vec<Arc<Noted>> {
            let from = queue.partition_point(|noted| noted.sequence <= since);
            queue.range(from..).cloned().collect()
        };
        let mut found = behind(&self.node);
        found.append(&mut behind(&self.messages));
        found.sort_by_key(|noted| noted.sequence);
        (since, found, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(events: &Events, times: usize) {
        (0..times).for_each(|_| events.note(What::Stopping));
    }

    #[test]
    fn events_come_in_order_and_what_is_gone_is_counted() {
        let events = Events::default();
        assert_eq!(events.since(0, 10), EventPage { events: Vec::new(), next: 0, lost: 0 });
        stop(&events, 3);
        let page = events.since(1, 10);
        let numbers: Vec<u64> = page.events.iter().map(|event| event.sequence).collect();
        assert_eq!((numbers, page.next, page.lost), (vec![2, 3], 3, 0));
        let page = events.since(0, 2);
        assert_eq!((page.events.len(), page.next, page.lost), (2, 2, 0));
        stop(&events, KEPT);
        let page = events.since(1, 5000);
        assert_eq!((page.events.len(), page.next, page.lost), (KEPT, KEPT as u64 + 3, 2));
        let page = events.since(u64::MAX, 5000);
        assert_eq!((page.events.len(), page.next), (KEPT, KEPT as u64 + 3), "a number from before a restart");
    }

    #[test]
    fn messages_of_clients_do_not_wash_away_what_happened_to_the_node() {
        let events = Events::default();
        stop(&events, 1);
        let document = DocumentName { tenant: "t".into(), app: "a".into(), name: "d".into() };
        for _ in 0..3 * KEPT {
            events.message(&document, "ann", "hello");
        }
        let page = events.since(0, 5000);
        assert_eq!(page.events.len(), KEPT + 1);
        assert_eq!(page.events[0].what, What::Stopping);
        assert_eq!(page.lost, 2 * KEPT as u64);
        events.message(&document, "", &"x".repeat(PAYLOAD_MAX + 1));
        let last = events.since(page.next, 1).events.remove(0);
        let told = matches!(last.what, What::Message { subject: None, payload: None, bytes: 4097, .. });
        assert!(told, "{last:?}");
    }

    #[test]
    fn pressure_is_told_once_in_a_while_for_each_thread_and_kind() {
        let events = Events::default();
        for _ in 0..100 {
            events.pressure(0, Pressure::Slots);
            events.pressure(1, Pressure::Slots);
            events.pressure(1, Pressure::Memory);
        }
        assert_eq!(events.since(0, 100).events.len(), 3);
    }
}
