//! The last things that happened, told when a seed fails.

use super::world::MILLI;
use std::collections::VecDeque;

/// Lines that are kept.
const LINES: usize = 400;

pub(super) struct Tracer {
    is_on: bool,
    lines: VecDeque<String>,
}

impl Tracer {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, lines: VecDeque::new() }
    }

    pub(super) fn say(&mut self, now_us: u64, what: impl FnOnce() -> String) {
        if self.is_on {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>10} {}", now_us / MILLI, what()));
        }
    }

    pub(super) fn lines(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
