//! Bytes a socket did not take: sent before anything newer of the same connection.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Small pieces are copied behind each other until a buffer holds this much; then a new one is begun, so that
/// growing never copies more than this.
const OWNED_PIECE_MAX: usize = 64 * 1024;

enum Piece {
    Owned { bytes: Vec<u8>, sent: usize },
    Shared { bytes: Arc<[u8]>, range: Range<usize> },
}

impl Piece {
    fn rest(&self) -> &[u8] {
        match self {
            Piece::Owned { bytes, sent } => &bytes[*sent..],
            Piece::Shared { bytes, range } => &bytes[range.clone()],
        }
    }

    fn skip(&mut self, count: usize) {
        match self {
            Piece::Owned { sent, .. } => *sent += count,
            Piece::Shared { range, .. } => range.start += count,
        }
    }
}

/// The unsent bytes of one connection, in order.
#[derive(Default)]
pub(crate) struct Tail {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Tail {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `new` to the end.
    pub(crate) fn push_bytes(&mut self, new: &[u8]) {
        if new.is_empty() {
            return;
        }
        self.bytes += new.len();
        match self.pieces.back_mut() {
            Some(Piece::Owned { bytes, .. }) if bytes.len() + new.len() <= OWNED_PIECE_MAX => {
                bytes.extend_from_slice(new);
            }
            _ => self.pieces.push_back(Piece::Owned { bytes: new.to_vec(), sent: 0 }),
        }
    }

    /// Keeps a reference to the end of a shared frame; small rests are copied instead, so that a few bytes do not
    /// hold a large frame in memory.
    pub(crate) fn push_shared(&mut self, bytes: &Arc<[u8]>, range: Range<usize>) {
        const COPY_BELOW: usize = 512;
        if range.len() < COPY_BELOW {
            return self.push_bytes(&bytes[range]);
        }
        self.bytes += range.len();
        self.pieces.push_back(Piece::Shared { bytes: Arc::clone(bytes), range });
    }

    /// The unsent pieces in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::rest)
    }

    /// Drops `count` bytes the socket took.
    pub(crate) fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.bytes);
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(front) = self.pieces.front_mut() {
            let rest = front.rest().len();
            if count < rest {
                front.skip(count);
                return;
            }
            count -= rest;
            self.pieces.pop_front();
        }
    }

    /// Drops everything; returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.pieces = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(tail: &Tail) -> Vec<u8> {
        tail.pieces().flatten().copied().collect()
    }

    #[test]
    fn pieces_leave_in_order_at_any_cut() {
        let shared: Arc<[u8]> = (0..2_000u32).map(|n| n as u8).collect();
        let mut whole = b"head".to_vec();
        whole.extend_from_slice(&shared[10..1_900]);
        whole.extend_from_slice(b"tail");
        for cut in [1, 3, 4, 5, 500, 1_893, 1_894, 1_897, 1_898] {
            let mut tail = Tail::default();
            tail.push_bytes(b"head");
            tail.push_shared(&shared, 10..1_900);
            tail.push_bytes(b"tail");
            tail.advance(cut);
            assert_eq!(contents(&tail), whole[cut..]);
            assert_eq!(tail.bytes(), whole.len() - cut);
        }
    }

    #[test]
    fn a_small_rest_does_not_hold_a_shared_frame() {
        let shared: Arc<[u8]> = vec![7; 4_096].into();
        let mut tail = Tail::default();
        tail.push_shared(&shared, 4_000..4_096);
        assert_eq!(Arc::strong_count(&shared), 1);
        assert_eq!(tail.bytes(), 96);
    }

    #[test]
    fn an_emptied_tail_holds_nothing() {
        let mut tail = Tail::default();
        tail.push_bytes(b"abc");
        assert_eq!(tail.clear(), 3);
        assert!(tail.is_empty());
        assert_eq!(tail.pieces().count(), 0);
    }
}
