//! The last things that happened, told when a seed fails.

use super::world::MILLI;
use std::collections::VecDeque;

/// Lines that are kept; `PINWIRE_LINES=N` keeps N.
const LINES: usize = 300;

pub(super) struct Tracer {
    is_on: bool,
    lines: VecDeque<String>,
    most: usize,
}

impl Tracer {
    pub(super) fn new(is_on: bool) -> Self {
        let most = std::env::var("PINWIRE_LINES").ok().and_then(|lines| lines.parse().ok());
        Self { is_on, lines: VecDeque::new(), most: most.unwrap_or(LINES) }
    }

    pub(super) fn say(&mut self, now_us: u64, what: impl FnOnce() -> String) {
        if self.is_on {
            if self.lines.len() >= self.most {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>10} {}", now_us / MILLI, what()));
        }
    }

    pub(super) fn lines(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
