//! The thread's read buffers: a few large ones shared by all connections, since an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Lends at most `count` buffers of `size` bytes.
pub(crate) struct BufferPool {
    shelf: Rc<RefCell<Shelf>>,
    size: usize,
}

struct Shelf {
    spare: Vec<Box<[u8]>>,
    unmade: usize,
}

impl BufferPool {
    pub(crate) fn new(size: usize, count: usize) -> BufferPool {
        let shelf = Shelf { spare: Vec::with_capacity(count), unmade: count };
        BufferPool { shelf: Rc::new(RefCell::new(shelf)), size }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        let shelf = self.shelf.borrow();
        shelf.spare.is_empty() && shelf.unmade == 0
    }

    /// Gives up the buffers that nobody has.
    pub(crate) fn give_back(&self) {
        let mut shelf = self.shelf.borrow_mut();
        shelf.unmade += shelf.spare.len();
        shelf.spare.clear();
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
    fn buffers_that_were_given_up_are_made_again() {
        let pool = BufferPool::new(16, 2);
        drop((pool.rent(), pool.rent()));
        let held = pool.rent().unwrap();
        pool.give_back();
        assert_eq!(pool.shelf.borrow().spare.len(), 0);
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
