//! What the console was told in the last minutes, kept without being asked for, so that it can be saved once something has gone wrong.
//!
//! Lines of a recording are compressed into segments. Each begins with how all nodes stood, so that a recording can begin with any of
//! them; the oldest go as whole segments, by age or by bytes. What came before something of the gravest kind is kept apart until it
//! is saved. Pages that are asked for one after the other (pins, connections, log lines) are left out: they are many, and told anew.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::{Redaction, create, head, line};
use crate::client::{Answer, Update, What};
use crate::model::{Millis, Model, Problem, State};

/// What came in this time is kept.
pub const KEPT: Millis = 300_000;
/// A segment ends after this.
const SEGMENT: Millis = 30_000;
/// Compressed bytes that are kept at most, and as many again for what is kept apart: the oldest go, however young.
const BYTES_MAX: usize = 64 << 20;
/// Of these, of one segment: it ends early.
const SEGMENT_BYTES_MAX: usize = BYTES_MAX / 16;

#[derive(Debug)]
struct Segment {
    /// Counts without a gap where one goes on from the one before.
    number: u64,
    from: Millis,
    to: Millis,
    /// How all nodes stood when it began: compressed lines.
    start: Vec<u8>,
    /// What came: likewise.
    frames: Vec<u8>,
}

impl Segment {
    fn bytes(&self) -> usize {
        self.start.len() + self.frames.len()
    }
}

struct Open {
    number: u64,
    from: Millis,
    to: Millis,
    start: Vec<u8>,
    frames: DeflateEncoder<Vec<u8>>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Rolling {
    ended: VecDeque<Arc<Segment>>,
    open: Option<Open>,
    next: u64,
    bytes_max: Option<usize>,
    /// What came before something went wrong.
    apart: Option<Excerpt>,
    /// When that was last.
    apart_at: Option<Millis>,
    /// What was wrong when it was looked last, of the gravest kind.
    wrong: BTreeSet<String>,
}

impl std::fmt::Debug for Rolling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rolling").field("ended", &self.ended.len()).finish_non_exhaustive()
    }
}

/// Segments that go on from one another: a recording.
#[derive(Clone, Debug, Default)]
pub struct Excerpt(Vec<Arc<Segment>>);

impl Rolling {
    /// Takes an update and the line that it is in a recording. `model` is without it; while nothing new is shown it stands still,
    /// and no segment begins with it unless there has to be one.
    pub fn push(&mut self, update: &Update, line: &str, model: &Model, is_paused: bool, now: Millis) {
        if is_page(update) {
            return;
        }
        let is_over = self.open.as_ref().is_none_or(|open| {
            let is_full = open.frames.get_ref().len() >= self.bytes_max() / 16;
            is_full || (!is_paused && now.saturating_sub(open.from) >= SEGMENT)
        });
        if is_over {
            self.end();
            self.begin(model, now);
        }
        if let Some(open) = &mut self.open {
            open.to = now;
            // Into memory, which does not fail.
            let _ = writeln!(open.frames, "{line}");
        }
        self.forget_old(now);
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max.unwrap_or(SEGMENT_BYTES_MAX * 16)
    }

    fn begin(&mut self, model: &Model, now: Millis) {
        let mut start = encoder();
        for line in model.checkpoint().iter().filter_map(|update| line(update, now)) {
            let _ = writeln!(start, "{line}");
        }
        let start = start.finish().unwrap_or_default();
        self.open = Some(Open { number: self.next, from: now, to: now, start, frames: encoder() });
        self.next += 1;
    }

    fn end(&mut self) {
        let Some(Open { number, from, to, start, frames }) = self.open.take() else { return };
        let frames = frames.finish().unwrap_or_default();
        self.ended.push_back(Arc::new(Segment { number, from, to, start, frames }));
    }

    fn forget_old(&mut self, now: Millis) {
        let open = self.open.as_ref().map_or(0, |open| open.start.len() + open.frames.get_ref().len());
        let mut bytes = open + self.ended.iter().map(|segment| segment.bytes()).sum::<usize>();
        while let Some(oldest) = self.ended.front()
            && (oldest.to.saturating_add(KEPT) < now || bytes > self.bytes_max())
        {
            bytes -= oldest.bytes();
            self.ended.pop_front();
        }
    }

    /// Looks whether something of the gravest kind is wrong that was not before: what led to it is kept apart then. Whether it was.
    /// What is wrong before the console has heard of everything was so when it came.
    pub fn look(&mut self, problems: &[Problem], is_settled: bool, now: Millis) -> bool {
        let grave = problems.iter().filter(|problem| problem.state == State::Bad);
        let wrong: BTreeSet<String> = grave.map(|problem| problem.subject.clone()).collect();
        let is_new = !wrong.is_subset(&self.wrong);
        self.wrong = wrong;
        // What goes wrong within minutes of something else is likely of the same cause, and what is kept goes on until then.
        let is_same = self.apart_at.is_some_and(|at| now.saturating_sub(at) < KEPT);
        if !is_new || is_same || !is_settled {
            return false;
        }
        self.end();
        if self.ended.is_empty() {
            return false;
        }
        self.apart = Some(Excerpt(self.ended.iter().cloned().collect()));
        self.apart_at = Some(now);
        true
    }

    /// Since when something is kept apart.
    #[must_use]
    pub fn apart_at(&self) -> Option<Millis> {
        self.apart_at.filter(|_| self.apart.is_some())
    }

    /// What is to be saved: what is kept apart and what went on from it, or else the last minutes.
    pub fn excerpt(&mut self) -> Excerpt {
        self.end();
        let mut segments = self.apart.clone().unwrap_or_default().0;
        for segment in &self.ended {
            if segments.last().is_none_or(|last| last.number + 1 == segment.number) {
                segments.push(Arc::clone(segment));
            }
        }
        Excerpt(segments)
    }

    /// It is saved: what was kept apart need not be any more.
    pub fn saved(&mut self) {
        self.apart = None;
    }

    /// What comes is of another cluster. What is kept apart stays.
    pub fn cut(&mut self) {
        self.open = None;
        self.ended.clear();
        self.wrong.clear();
        self.apart_at = self.apart_at();
        self.next += 1;
    }
}

impl Excerpt {
    /// There is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When it begins and ends.
    #[must_use]
    pub fn span(&self) -> (Millis, Millis) {
        let first = self.0.first().map_or(0, |segment| segment.from);
        (first, self.0.last().map_or(first, |segment| segment.to))
    }

    /// Writes it as a recording; with names replaced, if that is wanted.
    ///
    /// # Errors
    /// There is nothing, or the file cannot be made.
    pub fn write(&self, path: &Path, redaction: Option<&Redaction>) -> Result<()> {
        ensure!(!self.is_empty(), "nothing was told yet");
        let write = || -> Result<()> {
            let mut out = BufWriter::new(create(path)?);
            writeln!(out, "{}", head(self.span().0)?)?;
            let start = self.0.first().map(|segment| segment.start.as_slice());
            for part in start.into_iter().chain(self.0.iter().map(|segment| segment.frames.as_slice())) {
                for line in BufReader::new(DeflateDecoder::new(part)).lines() {
                    let line = line?;
                    match redaction {
                        None => writeln!(out, "{line}")?,
                        Some(redaction) => {
                            if let Some(line) = redaction.line(&line) {
                                writeln!(out, "{line}")?;
                            }
                        }
                    }
                }
            }
            Ok(out.flush()?)
        };
        write().with_context(|| path.display().to_string())
    }
}

fn encoder() -> DeflateEncoder<Vec<u8>> {
    DeflateEncoder::new(Vec::new(), Compression::fast())
}

fn is_page(update: &Update) -> bool {
    matches!(&update.what, What::Answered(answer)
        if matches!(**answer, Answer::Pins { .. } | Answer::Connections { .. } | Answer::LogLines(_)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{example, problems};
    use crate::record::Player;

    /// A model that has heard as much as the recording.
    #[derive(Default)]
    struct Heard {
        model: Model,
        rolling: Rolling,
    }

    impl Heard {
        fn hear(&mut self, update: Update, now: Millis) {
            let line = line(&update, now).unwrap();
            self.rolling.push(&update, &line, &self.model, false, now);
            self.model.apply(update, now);
        }

        /// A look each second, the first whole and the others with changes alone.
        fn hear_looks(&mut self, from: u64, to: u64) {
            for second in from..to {
                let mut look = example::look(0, 2, second, second * 1000);
                if second > 0 {
                    look.order = Some(look.documents.iter().map(name).collect());
                    look.threads.truncate(1);
                    look.documents.truncate(1);
                }
                let what = What::Look(Box::new(look));
                self.hear(Update { node: example::address(0), what }, second * 1000);
            }
        }

        fn replayed(&mut self) -> (Model, Millis) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.ndjson");
            self.rolling.excerpt().write(&path, None).unwrap();
            let mut player = Player::open(&path).unwrap();
            let start = player.now();
            let mut model = Model::default();
            for (update, at) in player.advance(Duration::from_secs(36_000)) {
                model.apply(update, at);
            }
            (model, start)
        }
    }

    fn name(document: &pinwire_admin_api::documents::Document) -> pinwire_admin_api::stream::DocumentName {
        pinwire_admin_api::stream::DocumentName {
            tenant: document.tenant.clone(),
            app: document.app.clone(),
            name: document.name.clone(),
        }
    }

    fn lost(node: usize) -> Update {
        let retry_in = Duration::from_secs(1);
        let what = What::Lost { why: "nobody listens there".into(), is_refusal: false, retry_in };
        Update { node: example::address(node), what }
    }

    #[test]
    fn the_last_minutes_are_a_recording_that_begins_with_how_everything_stood() {
        let mut heard = Heard::default();
        heard.hear_looks(0, 1_000);
        let (model, start) = heard.replayed();
        assert!((660_000..=700_000).contains(&start), "{start}");
        let (node, then) = (model.node(0).unwrap(), heard.model.node(0).unwrap());
        assert!(node.documents().len() > 1 && node.threads().len() > 1);
        let documents =
            |node: &crate::model::NodeState| node.documents().iter().map(name).collect::<Vec<_>>();
        assert_eq!(documents(node), documents(then));
        assert_eq!(node.threads().len(), then.threads().len());
        assert_eq!(node.label(), then.label());
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_go() {
        let mut heard = Heard::default();
        heard.rolling.bytes_max = Some(64 << 10);
        heard.hear_looks(0, 600);
        let excerpt = heard.rolling.excerpt();
        let bytes: usize = excerpt.0.iter().map(|segment| segment.bytes()).sum();
        assert!(bytes <= 80 << 10, "{bytes}");
        assert_eq!(excerpt.span().1, 599_000);
        assert!(excerpt.span().0 > 0 && excerpt.0.len() > 2);
    }

    #[test]
    fn pages_are_left_out() {
        let mut heard = Heard::default();
        let page = pinwire_admin_api::cluster::PinPage { db_code: None, pins: Vec::new(), next: None };
        let answer = Answer::Pins { db_code: None, is_first: true, page };
        heard.hear(Update { node: example::address(0), what: What::Answered(Box::new(answer)) }, 1_000);
        assert!(heard.rolling.excerpt().is_empty());
    }

    #[test]
    fn what_led_to_something_grave_is_kept_until_it_is_saved() {
        let mut heard = Heard::default();
        heard.hear_looks(0, 100);
        assert!(!heard.rolling.look(&[], true, 100_000));
        heard.hear(lost(0), 100_000);
        let wrong = problems(&heard.model, 100_000);
        assert!(heard.rolling.look(&wrong, true, 100_000));
        assert!(!heard.rolling.look(&wrong, true, 101_000), "it is known");
        assert_eq!(heard.rolling.apart_at(), Some(100_000));
        // Shortly after it, what went on from it is saved with it.
        heard.hear_looks(101, 120);
        assert_eq!(heard.rolling.excerpt().span(), (0, 119_000));
        // Long after it, it is there still, and alone.
        heard.hear_looks(120, 1_000);
        assert_eq!(heard.rolling.excerpt().span().0, 0);
        assert!(heard.rolling.excerpt().span().1 < 500_000);
        let (model, start) = heard.replayed();
        assert_eq!((start, model.nodes().count()), (0, 1));
        heard.rolling.saved();
        assert_eq!(heard.rolling.apart_at(), None);
        assert!(heard.rolling.excerpt().span().0 > 600_000);
    }

    #[test]
    fn what_goes_wrong_anew_takes_the_place_of_what_is_kept_after_some_minutes() {
        let mut heard = Heard::default();
        heard.hear_looks(0, 10);
        heard.hear(lost(0), 10_000);
        let one = problems(&heard.model, 10_000);
        assert!(heard.rolling.look(&one, true, 10_000));
        heard.hear(lost(1), 20_000);
        let both = problems(&heard.model, 20_000);
        assert!(!heard.rolling.look(&both, true, 20_000), "so soon it is part of the same");
        heard.hear(lost(2), 20_000 + KEPT);
        let all = problems(&heard.model, 20_000 + KEPT);
        assert!(heard.rolling.look(&all, true, 20_000 + KEPT));
        assert_eq!(heard.rolling.apart_at(), Some(20_000 + KEPT));
    }

    #[test]
    fn what_was_wrong_when_the_console_came_is_nothing_new() {
        let mut heard = Heard::default();
        heard.hear(lost(0), 1_000);
        let wrong = problems(&heard.model, 1_000);
        assert!(!wrong.is_empty() && !heard.rolling.look(&wrong, false, 1_000));
        assert!(!heard.rolling.look(&wrong, true, 2_000));
        heard.hear(lost(1), 3_000);
        assert!(heard.rolling.look(&problems(&heard.model, 3_000), true, 3_000));
    }

    #[test]
    fn another_cluster_begins_a_recording_of_its_own() {
        let mut heard = Heard::default();
        heard.hear_looks(0, 10);
        heard.rolling.cut();
        assert!(heard.rolling.excerpt().is_empty());
        heard.hear_looks(20, 30);
        assert_eq!(heard.rolling.excerpt().span(), (20_000, 29_000));
    }
}
