//! The allocator's settings, for a process that has its connections for hours and whose operators watch its memory.
//!
//! mimalloc returns freed pages to the system a second after they became free, and only when it is called then: a node whose
//! connections have left makes no calls. So they are returned at once. What it keeps beyond that is returned when most of
//! the connections have left.
#![allow(unsafe_code, reason = "the allocator's options are set through its C interface")]

use std::ffi::c_long;

/// `mi_option_purge_delay` in mimalloc.h, milliseconds; the bindings have no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has freed pages returned to the system at once, unless `MIMALLOC_PURGE_DELAY` says otherwise. To be called before other
/// threads are started.
pub fn give_back_at_once() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        set_purge_delay(0);
    }
}

/// Returns what the calling thread's allocator keeps for a next time: a partly used page for each size of block.
pub(crate) fn give_back_now() {
    // SAFETY: the call frees what is not in use, of the heap of the thread that makes it.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn set_purge_delay(milliseconds: c_long) {
    // SAFETY: the call stores a number in a table of the allocator, at an index that the table has.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purge_delay() -> c_long {
        // SAFETY: the call reads a number from a table of the allocator, at an index that the table has.
        unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // What mimalloc 3 has by itself: another number here, and the option's place has changed.
        assert_eq!(purge_delay(), 1000);
        give_back_at_once();
        assert_eq!(purge_delay(), 0);
    }
}
