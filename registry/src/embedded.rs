//! A registry within the process.

use crate::{Answering, Book, Registry, Request};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A registry in memory, shared by the regions of one process. It ends with it.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    book: Mutex<Book>,
    began: Instant,
    /// Microseconds of Unix time when it began: it goes on by the monotonic clock, so time never goes back.
    began_us: u64,
}

impl Embedded {
    /// An empty registry. `life` is random: it tells this registry from the one before a restart.
    pub fn new(life: u64) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began_us = u64::try_from(since_epoch.as_micros()).unwrap_or(0);
        let book = Mutex::new(Book::new(format!("embedded-{life:016x}")));
        Self { shared: Arc::new(Shared { book, began: Instant::now(), began_us }) }
    }
}

impl Registry for Embedded {
    fn ask(&self, request: Request) -> Answering {
        let shared = &self.shared;
        let mut book = shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        // Read behind the lock, so that time never goes back for the book.
        let passed = u64::try_from(shared.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let answer = book.apply(shared.began_us.saturating_add(passed), &request);
        Box::pin(std::future::ready(Ok(answer)))
    }
}
