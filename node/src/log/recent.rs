//! The last log lines, in memory: what operators see without a way to stderr.
//!
//! Whoever logs takes a lock for as long as it takes to append a text that is made before. Lines are bounded in number and length.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are kept.
const KEPT: usize = 1024;
/// Bytes of a line's text: the rest is cut off.
const TEXT_MAX: usize = 1024;

/// See the module's documentation. All copies are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Number of the last line.
    last: u64,
    lines: VecDeque<Arc<Line>>,
}

/// A line.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counts from 1.
    pub(crate) sequence: u64,
    pub(crate) at: OffsetDateTime,
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) text: String,
}

/// Some lines.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The oldest first.
    pub(crate) lines: Vec<Arc<Line>>,
    /// What comes after these is after this number.
    pub(crate) next: u64,
    /// Lines in between that are not kept any more.
    pub(crate) lost: u64,
}

impl Recent {
    /// At most `limit` lines after the number `since`. A number that is still to come is one from before a restart: then that is
    /// all lines since the start.
    pub(crate) fn since(&self, since: u64, limit: usize) -> Lines {
        let inner = self.lock();
        let since = if since > inner.last { 0 } else { since };
        let from = inner.lines.partition_point(|line| line.sequence <= since);
        let lines: Vec<Arc<Line>> = inner.lines.range(from..).take(limit).cloned().collect();
        let next = lines.last().map_or(since, |line| line.sequence);
        let lost = next - since - lines.len() as u64;
        Lines { lines, next, lost }
    }

    fn push(&self, level: Level, target: &'static str, text: String) {
        let mut inner = self.lock();
        inner.last += 1;
        if inner.lines.len() == KEPT {
            inner.lines.pop_front();
        }
        let line = Line { sequence: inner.last, at: OffsetDateTime::now_utc(), level, target, text };
        inner.lines.push_back(Arc::new(line));
    }

    /// A queue is whole whatever a thread was doing when it panicked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        self.push(*metadata.level(), metadata.target(), text.whole());
    }
}

/// What an event says, then its fields.
#[derive(Default)]
struct Text {
    message: Bounded,
    fields: Bounded,
}

impl Text {
    fn whole(self) -> String {
        let Self { message: Bounded(mut whole), fields: Bounded(fields) } = self;
        whole.push_str(if whole.is_empty() { fields.trim_start() } else { &fields });
        cut(&mut whole);
        whole
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            let _ = self.message.write_str(value);
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// A text that takes little more than a line may have, by which it is seen to be too long: a long one is not made at all.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.0.len() > TEXT_MAX {
            return Err(fmt::Error);
        }
        // No letter has more than four bytes.
        let room = (TEXT_MAX + 4).saturating_sub(self.0.len());
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX - '…'.len_utf8()));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(what: impl FnOnce()) -> Recent {
        let recent = Recent::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recent.clone()), what);
        recent
    }

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_line_is_what_was_said_and_its_fields() {
        let recent = logged(|| {
            tracing::warn!(error = %"gone", count = 3, name = "a b", "no answer from {}", "redis");
            tracing::info!(count = 1);
        });
        let lines = recent.since(0, 10);
        assert_eq!(texts(&lines), ["no answer from redis error=gone count=3 name=\"a b\"", "count=1"]);
        let first = &lines.lines[0];
        assert_eq!((first.sequence, first.level, first.target), (1, Level::WARN, module_path!()));
    }

    #[test]
    fn lines_are_bounded_in_number_and_length_and_what_is_lost_is_counted() {
        let long = "ä".repeat(TEXT_MAX);
        let recent = logged(|| {
            (0..KEPT).for_each(|number| tracing::info!(number));
            tracing::info!("{long}");
            tracing::info!(long, "{long}");
        });
        let first = recent.since(0, 5);
        assert_eq!((first.lines.len(), first.next, first.lost), (5, 7, 2));
        assert_eq!(first.lines[0].text, "number=2");
        let last = recent.since(KEPT as u64, 1000);
        assert_eq!(last.lines.len(), 2);
        for text in texts(&last) {
            assert!(text.len() <= TEXT_MAX && text.ends_with("ä…"), "{} bytes", text.len());
        }
        assert_eq!((recent.since(last.next, 9).lines.len(), recent.since(last.next, 9).lost), (0, 0));
        assert_eq!(recent.since(u64::MAX, 1).lines[0].sequence, 3, "the process started anew");
    }
}
