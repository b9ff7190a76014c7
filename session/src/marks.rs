//! What a data thread had absorbed before a compaction began.

use std::collections::VecDeque;

/// Marks that are remembered; beyond it every second of the older half is forgotten, so that a compaction stands for a little
/// less than it could.
const MARKS_MAX: usize = 32;

/// Where in a document's log what came from other nodes ends. A data thread keeps one for each open document.
#[derive(Debug, Default)]
pub struct Marks {
    /// Marks with the log's end once they were absorbed, both rising.
    absorbed: VecDeque<(u64, u32)>,
}

impl Marks {
    /// What [`Effect::Foreign`](crate::Effect::Foreign) or [`Effect::Reload`](crate::Effect::Reload) brought is in the log,
    /// which ends at `position` now.
    pub fn note(&mut self, mark: u64, position: u32) {
        match self.absorbed.back_mut() {
            Some(last) if last.1 == position => last.0 = mark,
            _ => self.absorbed.push_back((mark, position)),
        }
        if self.absorbed.len() > MARKS_MAX {
            let mut index = 0;
            self.absorbed.retain(|_| {
                index += 1;
                index % 2 == 1 || index > MARKS_MAX / 2
            });
        }
    }

    /// The newest mark that was absorbed before `upto`, for [`Sessions::rebase`](crate::Sessions::rebase); 0: none.
    #[must_use]
    pub fn before(&self, upto: u32) -> u64 {
        let mut newest_first = self.absorbed.iter().rev();
        newest_first.find(|(_, position)| is_at_or_before(*position, upto)).map_or(0, |(mark, _)| *mark)
    }
}

/// Positions wrap; two are compared by their distance.
pub(crate) fn is_at_or_before(position: u32, upto: u32) -> bool {
    upto.wrapping_sub(position) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn a_mark_counts_once_its_updates_are_before_the_position() {
        let mut marks = Marks::default();
        assert_eq!(marks.before(10), 0);
        marks.note(1, 10);
        marks.note(2, 20);
        assert_eq!((marks.before(9), marks.before(10), marks.before(19), marks.before(20)), (0, 1, 1, 2));
    }

    #[test]
    fn positions_that_wrap_are_compared_by_their_distance() {
        let mut marks = Marks::default();
        marks.note(1, u32::MAX - 5);
        marks.note(2, 7);
        assert_eq!((marks.before(u32::MAX), marks.before(3), marks.before(7)), (1, 1, 2));
    }

    #[test]
    fn forgotten_marks_make_a_compaction_stand_for_less_never_for_more() {
        let mut marks = Marks::default();
        for mark in 1..=1_000_u32 {
            marks.note(u64::from(mark), mark * 10);
        }
        assert!(marks.absorbed.len() <= super::MARKS_MAX);
        for position in 0..10_100 {
            assert!(marks.before(position) <= u64::from(position / 10));
        }
        assert_eq!(marks.before(10_000), 1_000);
    }
}
