//! What a turn queues, until `flush` hands it to the kernel in one call per connection.

use std::ops::Range;
use std::sync::Arc;

use crate::config::{ARENA_KEEP, LIST_KEEP, PIECES_MAX};
use crate::slot::{Handle, NO_TURN};

/// A piece of output.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes of this turn's arena. Many connections may name the same range.
    Arena(Range<u32>),
    /// Part of a shared frame; what the socket does not take is kept by reference.
    Shared(Arc<[u8]>, Range<u32>),
}

impl Segment {
    pub(crate) fn len(&self) -> usize {
        match self {
            Segment::Arena(range) | Segment::Shared(_, range) => range.len(),
        }
    }
}

/// Why `send` took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `Config::slot_out_max` bytes wait for this connection.
    #[error("the connection's output is full")]
    SlotFull,
    /// The connection is blocked and `Config::thread_out_max` bytes wait on the thread.
    #[error("the thread's output is full")]
    ThreadFull,
    /// The slot is closed, moving, shut down for writing, or its socket is dead.
    #[error("the connection takes no more output")]
    Ended,
    /// The range does not lie within the arena or the shared frame.
    #[error("the range lies outside its buffer")]
    OutOfRange,
}

pub(crate) enum Piece {
    Arena(Range<usize>),
    /// Bytes that already went through the slot's transform.
    Wire(Range<usize>),
    Shared(Arc<[u8]>, Range<usize>),
}

struct Node {
    piece: Piece,
    next: u32,
}

/// What one connection has queued this turn: a list through `Output::nodes`.
struct Dirty {
    handle: Handle,
    first: u32,
    last: u32,
    bytes: usize,
}

/// This turn's output of all connections.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) arena: Vec<u8>,
    pub(crate) wire: Vec<u8>,
    nodes: Vec<Node>,
    dirty: Vec<Dirty>,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Connections with output, as (index for `turn`, handle, bytes).
    pub(crate) fn queued(&self) -> impl Iterator<Item = (u32, Handle, usize)> {
        self.dirty.iter().zip(0u32..).map(|(dirty, turn)| (turn, dirty.handle, dirty.bytes))
    }

    pub(crate) fn bytes(&self, turn: u32) -> usize {
        self.dirty.get(turn as usize).map_or(0, |dirty| dirty.bytes)
    }

    pub(crate) fn in_range(&self, segment: &Segment) -> bool {
        let (range, limit) = match segment {
            Segment::Arena(range) => (range, self.arena.len()),
            Segment::Shared(bytes, range) => (range, bytes.len()),
        };
        range.start <= range.end && range.end as usize <= limit
    }

    /// Adds a piece behind what the connection has queued; returns the connection's `turn`.
    pub(crate) fn push(&mut self, handle: Handle, turn: u32, piece: Piece) -> u32 {
        let bytes = piece_len(&piece);
        if turn == NO_TURN {
            let turn = self.dirty.len() as u32;
            let node = self.node(piece);
            self.dirty.push(Dirty { handle, first: node, last: node, bytes });
            return turn;
        }
        let dirty = &mut self.dirty[turn as usize];
        dirty.bytes += bytes;
        let last = dirty.last;
        if extend(&mut self.nodes[last as usize].piece, &piece) {
            return turn;
        }
        let node = self.node(piece);
        self.nodes[last as usize].next = node;
        self.dirty[turn as usize].last = node;
        turn
    }

    fn node(&mut self, piece: Piece) -> u32 {
        self.nodes.push(Node { piece, next: u32::MAX });
        (self.nodes.len() - 1) as u32
    }

    /// Replaces everything the connection has queued by one range of `wire`.
    pub(crate) fn replace(&mut self, turn: u32, wire: Range<usize>) {
        let bytes = wire.len();
        let node = self.node(Piece::Wire(wire));
        let dirty = &mut self.dirty[turn as usize];
        (dirty.first, dirty.last, dirty.bytes) = (node, node, bytes);
    }

    /// True when all of it already went through the transform.
    pub(crate) fn is_wire(&self, turn: u32) -> bool {
        self.walk(turn).all(|node| matches!(node.piece, Piece::Wire(_)))
    }

    fn walk(&self, turn: u32) -> impl Iterator<Item = &Node> {
        let mut next = self.dirty.get(turn as usize).map_or(u32::MAX, |dirty| dirty.first);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(node)
        })
    }

    pub(crate) fn slice<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        match piece {
            Piece::Arena(range) => &self.arena[range.clone()],
            Piece::Wire(range) => &self.wire[range.clone()],
            Piece::Shared(bytes, range) => &bytes[range.clone()],
        }
    }

    /// The connection's pieces in order.
    pub(crate) fn pieces(&self, turn: u32) -> impl Iterator<Item = &Piece> {
        self.walk(turn).map(|node| &node.piece)
    }

    /// The bytes of the connection's pieces in order.
    pub(crate) fn slices(&self, turn: u32) -> impl Iterator<Item = &[u8]> {
        self.walk(turn).map(|node| self.slice(&node.piece))
    }

    /// Calls `keep` with every piece from `offset` on, cut to what is left of it.
    pub(crate) fn rest(&self, turn: u32, mut offset: usize, mut keep: impl FnMut(&Piece, Range<usize>)) {
        for node in self.walk(turn) {
            let range = piece_range(&node.piece);
            if offset >= range.len() {
                offset -= range.len();
                continue;
            }
            keep(&node.piece, range.start + offset..range.end);
            offset = 0;
        }
    }

    /// Forgets the turn.
    pub(crate) fn clear(&mut self) {
        for buffer in [&mut self.arena, &mut self.wire] {
            buffer.clear();
            if buffer.capacity() > ARENA_KEEP {
                buffer.shrink_to(ARENA_KEEP);
            }
        }
        self.nodes.clear();
        self.nodes.shrink_to(LIST_KEEP);
        self.dirty.clear();
        self.dirty.shrink_to(LIST_KEEP);
    }
}

fn piece_range(piece: &Piece) -> Range<usize> {
    match piece {
        Piece::Arena(range) | Piece::Wire(range) | Piece::Shared(_, range) => range.clone(),
    }
}

fn piece_len(piece: &Piece) -> usize {
    piece_range(piece).len()
}

/// Joins `new` to `last` where it continues it.
fn extend(last: &mut Piece, new: &Piece) -> bool {
    match (last, new) {
        (Piece::Arena(last), Piece::Arena(new)) | (Piece::Wire(last), Piece::Wire(new))
            if last.end == new.start =>
        {
            last.end = new.end;
            true
        }
        _ => false,
    }
}

/// One connection's part of a flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) handle: Handle,
    pub(crate) source: Source,
    /// Bytes of the turn's output already sent; tails advance themselves.
    pub(crate) offset: usize,
    /// Bytes handed to the kernel in the present call.
    pub(crate) asked: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Tail,
    Turn(u32),
}

/// Collects up to [`PIECES_MAX`] unsent pieces; returns their bytes.
pub(crate) fn gather<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    mut offset: usize,
    mut each: impl FnMut(&'a [u8]),
) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for piece in pieces {
        if offset >= piece.len() {
            offset -= piece.len();
            continue;
        }
        let piece = &piece[offset..];
        offset = 0;
        each(piece);
        bytes += piece.len();
        count += 1;
        if count == PIECES_MAX {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle = Handle { index: 0, generation: 1 };

    #[test]
    fn neighbouring_arena_ranges_become_one_piece() {
        let mut out = Output::default();
        out.arena.extend_from_slice(b"abcdef");
        let turn = out.push(HANDLE, NO_TURN, Piece::Arena(0..2));
        out.push(HANDLE, turn, Piece::Arena(2..4));
        out.push(HANDLE, turn, Piece::Arena(5..6));
        assert_eq!(out.slices(turn).collect::<Vec<_>>(), [b"abcd".as_slice(), b"f"]);
        assert_eq!(out.bytes(turn), 5);
    }

    #[test]
    fn gathering_resumes_at_any_offset_and_stops_at_the_kernels_bound() {
        let pieces = vec![b"xyz".as_slice(); PIECES_MAX + 1];
        let mut seen = Vec::new();
        let bytes = gather(pieces.iter().copied(), 4, |piece| seen.push(piece));
        assert_eq!(seen[0], b"yz");
        assert_eq!(seen.len(), PIECES_MAX);
        assert_eq!(bytes, 3 * PIECES_MAX - 1);
    }

    #[test]
    fn a_range_outside_the_arena_is_seen() {
        let mut out = Output::default();
        out.arena.extend_from_slice(b"abc");
        assert!(out.in_range(&Segment::Arena(0..3)));
        assert!(!out.in_range(&Segment::Arena(0..4)));
        assert!(!out.in_range(&Segment::Shared(Arc::from(b"ab".as_slice()), 1..3)));
    }
}
