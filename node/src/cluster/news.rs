//! What the thread of the sessions has to tell the data threads, and how much of it they have not taken yet.
//!
//! A data thread may sleep, since it may not serve, or be busy. What others write goes on meanwhile: beyond a bound the thread of the
//! sessions hears no more notices until the data threads have caught up. Notices that find no room then are dropped where they
//! arrive, and what was missed is found by comparing heads, as after an interruption.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pinwire_shard::Kept;

use crate::data::{Envelope, Mailbox, Outgoing, Told};
use crate::store::StoreEvent;

/// Bytes that all data threads together have not taken; beyond it no more notices are heard.
const UNREAD_MAX: usize = 64 << 20;
/// What an event takes besides its bytes.
const EVENT_BYTES: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct News {
    /// For each data thread, with its size.
    threads: Vec<(Vec<StoreEvent>, usize)>,
    outgoing: Outgoing,
    unread: Arc<AtomicUsize>,
}

impl News {
    pub(super) fn new(mailboxes: Arc<[Mailbox]>) -> Self {
        let threads = mailboxes.iter().map(|_| (Vec::new(), 0)).collect();
        Self { threads, outgoing: Outgoing::new(mailboxes, None), unread: Arc::default() }
    }

    /// Something for one thread.
    pub(super) fn tell(&mut self, thread: u16, event: StoreEvent) {
        if let Some((events, bytes)) = self.threads.get_mut(usize::from(thread)) {
            *bytes += size_of(&event);
            events.push(event);
        }
    }

    /// Something for all of them.
    pub(super) fn tell_all(&mut self, event: impl Fn() -> StoreEvent) {
        for thread in 0..self.threads.len() {
            self.tell(thread as u16, event());
        }
    }

    /// Hands over what there is; true if a mailbox was full.
    pub(super) fn hand_over(&mut self) -> bool {
        for (thread, (events, bytes)) in self.threads.iter_mut().enumerate() {
            if !events.is_empty() {
                let told = Told::new(std::mem::take(events), std::mem::take(bytes), &self.unread);
                self.outgoing.send(thread as u16, Envelope::Sessions(told));
            }
        }
        self.outgoing.flush(0)
    }

    /// Too much waits for data threads: what is not heard now is compared later.
    pub(super) fn is_held_up(&self) -> bool {
        self.unread.load(Ordering::Relaxed) > UNREAD_MAX
    }
}

fn size_of(event: &StoreEvent) -> usize {
    let of_all = |updates: &[Box<[u8]>]| updates.iter().map(|update| update.len() + 16).sum::<usize>();
    let of_kept = |kept: &Kept| kept.base.as_ref().map_or(0, |base| base.len()) + of_all(&kept.tail);
    EVENT_BYTES
        + match event {
            StoreEvent::Opened(_, Ok(kept)) | StoreEvent::Reload(_, _, kept) => of_kept(kept),
            StoreEvent::Foreign(_, _, updates) => of_all(updates),
            StoreEvent::Said(_, _, message) => message.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use pinwire_engine::{Config, Driver};
    use pinwire_shard::DocumentRef;

    use super::*;

    const DOCUMENT: DocumentRef = DocumentRef { index: 3, serial: 1 };

    #[test]
    fn while_data_threads_take_nothing_no_more_is_heard() {
        let config = Config { driver: Driver::Epoll, ..Config::default() };
        pinwire_engine::run(config, |engine| async move {
            let mailbox = Mailbox::new(engine.waker(), engine.door());
            let mut news = News::new([mailbox.clone()].into());
            let update =
                || StoreEvent::Foreign(DOCUMENT, 1, vec![vec![7; 1 << 20].into_boxed_slice()].into());
            let mut told = 0;
            while !news.is_held_up() {
                assert!(told < 100, "nobody takes anything");
                news.tell(0, update());
                assert!(!news.hand_over());
                told += 1;
            }
            let Some(Envelope::Sessions(first)) = mailbox.pop() else { panic!("nothing was told") };
            assert_eq!(first.into_events().count(), 1);
            assert!(!news.is_held_up(), "what was taken counts no more");
            // A mailbox that goes, goes with what is in it.
            while mailbox.pop().is_some() {}
            assert_eq!(news.unread.load(Ordering::Relaxed), 0);
        })
        .unwrap();
    }
}
