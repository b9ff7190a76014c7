//! How much a document is edited: counted per edit in two windows of time, read when somebody asks.

/// Milliseconds of a window. A rate is that of the last full window and of what has passed of this one.
const WINDOW_MS: u64 = 4_000;

/// Edits and their bytes, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Activity {
    /// Number of the window that is being filled.
    window: u32,
    /// Of the window before it and of itself.
    edits: [u32; 2],
    bytes: [u32; 2],
}

/// What flows in, in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Updates that brought something new.
    pub edits: f64,
    /// Their bytes.
    pub bytes: f64,
}

impl Activity {
    /// Counts an edit of so many bytes.
    pub(crate) fn note(&mut self, now_ms: u64, bytes: usize) {
        let window = (now_ms / WINDOW_MS) as u32;
        if window != self.window {
            *self = self.at(window);
        }
        self.edits[1] = self.edits[1].saturating_add(1);
        self.bytes[1] = self.bytes[1].saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// What flows in now.
    pub(crate) fn rates(&self, now_ms: u64) -> Rates {
        let Self { edits, bytes, .. } = self.at((now_ms / WINDOW_MS) as u32);
        let seconds = (WINDOW_MS + now_ms % WINDOW_MS) as f64 / 1000.0;
        let per_second = |[before, now]: [u32; 2]| (f64::from(before) + f64::from(now)) / seconds;
        Rates { edits: per_second(edits), bytes: per_second(bytes) }
    }

    /// The same, once a window of this number is the one that is being filled.
    fn at(&self, window: u32) -> Self {
        match window.wrapping_sub(self.window) {
            0 => *self,
            1 => Self { window, edits: [self.edits[1], 0], bytes: [self.bytes[1], 0] },
            _ => Self { window, ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_told_as_it_is_and_an_end_is_noticed() {
        let mut activity = Activity::default();
        for now_ms in (0..60_000).step_by(100) {
            activity.note(now_ms, 30);
        }
        let rates = activity.rates(60_000);
        assert!((9.0..=11.0).contains(&rates.edits) && (270.0..=330.0).contains(&rates.bytes), "{rates:?}");
        assert!(activity.rates(63_999).edits < rates.edits);
        assert_eq!(activity.rates(60_000 + 2 * WINDOW_MS), Rates::default());
    }

    #[test]
    fn what_is_more_than_can_be_counted_stays_at_the_most() {
        let mut activity = Activity::default();
        activity.note(0, usize::MAX);
        activity.note(0, usize::MAX);
        assert!(activity.rates(0).bytes >= f64::from(u32::MAX) / 4.0);
    }
}
