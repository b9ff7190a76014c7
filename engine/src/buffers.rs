//! The thread's read buffers: a few large ones shared by all connections, since an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A thread without connections keeps its buffers for so long: where connections come and go one after the other, as those do
/// that are refused, making the buffers for each would be a good part of its cost.
const KEPT: Duration = Duration::from_secs(1);

/// Lends at most `count` buffers of `size` bytes.
pub(crate) struct BufferPool {
    shelf: Rc<RefCell<Shelf>>,
    size: usize,
    /// There are spare buffers, and nobody whom they could be for.
    unused_since: Option<Instant>,
}

struct Shelf {
    spare: Vec<Box<[u8]>>,
    unmade: usize,
}

impl BufferPool {
    pub(crate) fn new(size: usize, count: usize) -> BufferPool {
        let shelf = Shelf { spare: Vec::with_capacity(count), unmade: count };
        BufferPool { shelf: Rc::new(RefCell::new(shelf)), size, unused_since: None }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        let shelf = self.shelf.borrow();
        shelf.spare.is_empty() && shelf.unmade == 0
    }

    /// Somebody is connected.
    pub(crate) fn used(&mut self) {
        self.unused_since = None;
    }

    /// Nobody is connected: buffers that nobody has are given up once it has been so for a while.
    pub(crate) fn unused(&mut self, now: Instant) {
        let mut shelf = self.shelf.borrow_mut();
        if shelf.spare.is_empty() {
            return;
        }
        let since = *self.unused_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= KEPT {
            self.unused_since = None;
            shelf.unmade += shelf.spare.len();
            shelf.spare.clear();
        }
    }

    /// When to look again, though nothing happens.
    pub(crate) fn unused_until(&self) -> Option<Instant> {
        self.unused_since.map(|since| since + KEPT)
    }

    pub(crate) fn rent(&self) -> Option<ReadBuf> {
        let mut shelf = self.shelf.borrow_mut();
        let bytes = match shelf.spare.pop() {
            Some(bytes) => bytes,
            None if shelf.unmade > 0 => {
                shelf.unmade -= 1;
                vec![0; self.size].into_boxed_slice()
            }
            None => return None,
        };
        Some(ReadBuf { bytes, len: 0, shelf: Rc::clone(&self.shelf) })
    }
}

/// Received bytes, to be read and changed in place. Dropping it gives the buffer back, as
/// [`Engine::recycle`](crate::Engine::recycle) does.
pub struct ReadBuf {
    bytes: Box<[u8]>,
    len: usize,
    shelf: Rc<RefCell<Shelf>>,
}

impl ReadBuf {
    /// The whole buffer, for filling.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for ReadBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl fmt::Debug for ReadBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for ReadBuf {
    fn drop(&mut self) {
        self.shelf.borrow_mut().spare.push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_given_up_once_nobody_has_been_there_for_a_while_and_made_again() {
        let mut pool = BufferPool::new(16, 2);
        let began = Instant::now();
        pool.unused(began);
        assert_eq!(pool.unused_until(), None, "there is nothing to give up");
        drop((pool.rent(), pool.rent()));
        let held = pool.rent().unwrap();
        let spare = |pool: &BufferPool| pool.shelf.borrow().spare.len();
        pool.unused(began);
        pool.used();
        pool.unused(began + KEPT);
        assert_eq!((spare(&pool), pool.unused_until()), (1, Some(began + 2 * KEPT)), "somebody was there");
        pool.unused(began + 2 * KEPT);
        assert_eq!((spare(&pool), pool.unused_until()), (0, None));
        assert!(pool.rent().is_some() && held.bytes.len() == 16);
    }

    #[test]
    fn a_dropped_buffer_can_be_rented_again() {
        let pool = BufferPool::new(16, 2);
        let first = pool.rent().unwrap();
        let _second = pool.rent().unwrap();
        assert!(pool.rent().is_none());
        assert!(pool.is_empty());
        drop(first);
        assert!(pool.rent().is_some());
    }
}
