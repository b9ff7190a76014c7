//! Recordings, replays, support bundles.
//!
//! A recording is lines of JSON: a head with the version of its form, then updates, each with its time. There is no token in it, but
//! names of documents and people are: it is as confidential as the admin API. A support bundle is one JSON document in which these
//! are replaced by marks that tell them apart within the bundle and nowhere else.
//!
//! | module | concern |
//! | --- | --- |
//! | `rolling` | the last minutes, kept without being asked for |

mod rolling;

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Update;
use crate::format::date;
use crate::model::{Link, Millis, Model, problems};

pub use rolling::{Excerpt, KEPT, Rolling};

/// Version of the form of recordings, bundles and streams: another first number cannot be read.
pub const SCHEMA_VERSION: u32 = 1;
/// Lines that wait for the disk: what comes when there is no room is left out, and counted.
const QUEUE: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Head {
    schema_version: u32,
    program: String,
    started: String,
}

#[derive(Deserialize)]
struct Frame {
    at: Millis,
    #[serde(flatten)]
    update: Update,
}

/// An update as it is written.
#[derive(Serialize)]
struct FrameOf<'update> {
    at: Millis,
    #[serde(flatten)]
    update: &'update Update,
}

/// An update as a line of a recording.
#[must_use]
pub fn line(update: &Update, at: Millis) -> Option<String> {
    serde_json::to_string(&FrameOf { at, update }).ok()
}

/// The first line of one.
fn head(now: Millis) -> Result<String> {
    let head = Head {
        schema_version: SCHEMA_VERSION,
        program: format!("pinwire-admin {}", env!("CARGO_PKG_VERSION")),
        started: date(now),
    };
    Ok(serde_json::to_string(&head)?)
}

/// A new file that nobody else reads.
fn create(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("{}: cannot be made", path.display()))
}

/// Writes a new file that nobody else reads; what is there is not written over.
///
/// # Errors
/// There is one of that name, or the disk does not take it.
pub fn write_new(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = create(path)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

/// Writes a recording, on a thread of its own: a slow disk does not hold up the console.
#[derive(Debug)]
pub struct Recorder {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    /// Updates that were left out.
    pub left_out: u64,
}

impl Recorder {
    /// Begins one.
    ///
    /// # Errors
    /// The file cannot be made, or there is one already.
    pub fn create(path: &Path, now: Millis) -> Result<Self> {
        let (file, head) = (create(path)?, head(now)?);
        let (lines, todo) = sync_channel::<String>(QUEUE);
        let write = move || {
            let mut out = BufWriter::new(file);
            writeln!(out, "{head}")?;
            while let Ok(line) = todo.recv() {
                writeln!(out, "{line}")?;
                // What waits is written with it; then it is on its way to the disk.
                while let Ok(line) = todo.try_recv() {
                    writeln!(out, "{line}")?;
                }
                out.flush()?;
            }
            out.flush()
        };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(write)?;
        Ok(Self { lines: Some(lines), thread: Some(thread), left_out: 0 })
    }

    /// Takes an update, as the line that it is.
    pub fn record(&mut self, line: String) {
        let sent = self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        self.left_out += u64::from(!sent);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A recording, as it is played.
#[derive(Debug)]
pub struct Player {
    frames: Vec<(Millis, Update)>,
    /// The next frame to be shown.
    next: usize,
    at: Millis,
    /// Time stands still.
    pub is_paused: bool,
}

impl Player {
    /// Reads a recording. A last line that is not whole, as of a console that was killed, is left out.
    ///
    /// # Errors
    /// What is no recording, with the line.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut lines = BufReader::new(file).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let head: Head = serde_json::from_str(&first).with_context(|| {
            format!("{}: line 1 is not the head of a recording of pinwire-admin", path.display())
        })?;
        ensure!(
            head.schema_version == SCHEMA_VERSION,
            "{}: recorded in form {}, and this console reads form {SCHEMA_VERSION}: use {}",
            path.display(),
            head.schema_version,
            head.program
        );
        let mut frames: Vec<(Millis, Update)> = Vec::new();
        let mut broken = None;
        for (number, line) in lines.enumerate() {
            if let Some(error) = broken.take() {
                return Err(error);
            }
            match serde_json::from_str::<Frame>(&line?) {
                Ok(frame) => {
                    let at = frames.last().map_or(frame.at, |(last, _)| frame.at.max(*last));
                    frames.push((at, frame.update));
                }
                Err(error) => {
                    broken = Some(anyhow::anyhow!("{}: line {}: {error}", path.display(), number + 2));
                }
            }
        }
        let at = frames.first().map_or(0, |(at, _)| *at);
        Ok(Self { frames, next: 0, at, is_paused: false })
    }

    /// Where it is.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.at
    }

    fn end(&self) -> Millis {
        self.frames.last().map_or(self.at, |(at, _)| *at)
    }

    /// Goes on; gives what came meanwhile. At its end it stands.
    pub fn advance(&mut self, by: Duration) -> Vec<(Update, Millis)> {
        if self.is_paused {
            return Vec::new();
        }
        self.at = (self.at + by.as_millis() as u64).min(self.end());
        self.due()
    }

    fn due(&mut self) -> Vec<(Update, Millis)> {
        let from = self.next;
        while self.frames.get(self.next).is_some_and(|(at, _)| *at <= self.at) {
            self.next += 1;
        }
        self.frames[from..self.next].iter().map(|(at, update)| (update.clone(), *at)).collect()
    }

    /// Goes forward or back. True where all has to be forgotten first: what is given is then all up to there.
    pub fn seek(&mut self, by: i64) -> (bool, Vec<(Update, Millis)>) {
        let start = self.frames.first().map_or(0, |(at, _)| *at);
        self.at = self.at.saturating_add_signed(by).clamp(start, self.end());
        if by < 0 {
            self.next = 0;
        }
        (by < 0, self.due())
    }
}

/// Fields that name people, documents or hosts.
const NAMES: &[&str] = &[
    "tenant",
    "app",
    "name",
    "subject",
    "document",
    "documents",
    "payload",
    "address",
    "peer_address",
    "ws_url",
    "url",
    "admin_url",
    "reason",
    "connection",
    "token",
    "certificate",
    "text",
    "why",
    "addresses",
    "has",
    "error",
];

/// Replaces names by marks: the same name by the same mark, for those that are written with the same of these.
#[derive(Clone, Debug)]
pub struct Redaction {
    salt: [u8; 16],
}

impl Redaction {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Ok(Self { salt })
    }

    fn value(&self, value: Value) -> Value {
        redacted(value, &self.salt, false)
    }

    /// A line of a recording, if it is of a kind in which all names are known: how nodes are and whether they are reached, regions,
    /// nodes, and apps. Of events it leaves when they were and of which kind.
    fn line(&self, line: &str) -> Option<String> {
        let mut frame: Value = serde_json::from_str(line).ok()?;
        let host = mark(frame.get("node")?.as_str()?, &self.salt);
        let what = frame.get_mut("what")?;
        *what = match what.as_object()?.iter().next()? {
            (kind, look) if kind == "look" => json!({ "look": self.look(look.clone())? }),
            (kind, lost) if kind == "lost" => json!({ "lost": self.value(lost.clone()) }),
            (kind, answer) if kind == "answered" => json!({ "answered": self.answer(answer)? }),
            _ => return None,
        };
        frame["node"] = json!(format!("http://node-{}:80", host.trim_start_matches('#')));
        // What cannot be read again is of no use.
        serde_json::from_value::<Frame>(frame.clone()).ok()?;
        serde_json::to_string(&frame).ok()
    }

    fn look(&self, mut look: Value) -> Option<Value> {
        for event in look.get_mut("events")?.as_array_mut()? {
            event.as_object_mut()?.retain(|name, _| matches!(name.as_str(), "sequence" | "at" | "kind"));
        }
        let name = look.get("node")?.get("name").cloned();
        // Of a connection `documents` are names; here each is more than that.
        let documents = self.value(look.get_mut("documents")?.take());
        let mut look = self.value(look);
        look["documents"] = documents;
        // A node's own name is what it is about.
        if let Some(name) = name {
            look.get_mut("node")?.as_object_mut()?.insert("name".into(), name);
        }
        Some(look)
    }

    /// Names of regions and nodes stay.
    fn answer(&self, answer: &Value) -> Option<Value> {
        let (kind, told) = answer.as_object()?.iter().next()?;
        let list = match kind.as_str() {
            "regions" => "regions",
            "nodes" => "nodes",
            "apps" => return Some(json!({ "apps": self.value(told.clone()) })),
            _ => return None,
        };
        let names = told.get(list)?.as_array()?.iter().map(|row| row.get("name").cloned());
        let mut redacted = self.value(told.clone());
        for (row, name) in redacted.get_mut(list)?.as_array_mut()?.iter_mut().zip(names) {
            row.as_object_mut()?.insert("name".into(), name.unwrap_or_default());
        }
        Some(json!({ kind: redacted }))
    }
}

/// A support bundle of what is known.
///
/// # Errors
/// It cannot be written as JSON.
pub fn bundle(model: &Model, redaction: &Redaction, now: Millis) -> Result<String> {
    let redact = |value: Value| redaction.value(value);
    let nodes: Vec<Value> = model
        .nodes()
        .map(|(number, node)| {
            let mut said = node.seen().map_or(Value::Null, |seen| seen.said.clone());
            // A node's own name is what the bundle is about.
            let name = said.as_object_mut().and_then(|said| said.remove("name"));
            json!({
                "number": number,
                "node_name": name,
                "link": match &node.link {
                    Link::Live => json!("live"),
                    Link::Connecting => json!("connecting"),
                    Link::Lost { is_refusal, since, .. } => json!({ "lost_since": date(*since), "is_refusal": is_refusal }),
                },
                "age_ms": node.age(now),
                "said": redact(said),
                "threads": node.threads(),
                "turn_seconds": node.turn(),
                "documents": redact(json!(node.documents())),
                "apps": redact(json!(node.apps)),
                "audit": redact(json!(node.audit)),
                "log": node.log,
                "log_lines": node.lines.iter().map(|line| json!({ "at": line.at, "level": line.level })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let events: Vec<Value> = model
        .events
        .rows()
        .iter()
        .map(|event| json!({ "at": date(event.at), "node": event.node, "kind": event.kind }))
        .collect();
    let wrong: Vec<Value> = problems(model, now)
        .iter()
        .map(|problem| json!({ "state": format!("{:?}", problem.state), "node": problem.node, "region": problem.region }))
        .collect();
    let whole = json!({
        "schema_version": SCHEMA_VERSION,
        "at": date(now),
        "console": env!("CARGO_PKG_VERSION"),
        "nodes": nodes,
        "known_nodes": model.known().map_or(0, |known| known.nodes.len()),
        "unanswered_registries": model.known().map(|known| known.unanswered.clone()),
        "pins": model.pins.len(),
        "events": events,
        "problems": wrong,
    });
    Ok(serde_json::to_string_pretty(&whole)?)
}

fn redacted(value: Value, salt: &[u8; 16], is_name: bool) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let is_name = is_name || NAMES.contains(&name.as_str());
                    (name, redacted(value, salt, is_name))
                })
                .collect(),
        ),
        Value::Array(values) => {
            Value::Array(values.into_iter().map(|value| redacted(value, salt, is_name)).collect())
        }
        Value::String(text) if is_name => Value::String(mark(&text, salt)),
        other => other,
    }
}

/// The same for the same text within a bundle, and without its salt nobody can try texts.
fn mark(text: &str, salt: &[u8; 16]) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // Two runs of a keyed hash that is made for hostile input; the key is thrown away with the salt.
    let mut hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().build_hasher();
    hasher.write(salt);
    hasher.write(text.as_bytes());
    hasher.write(salt);
    format!("#{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::What;
    use crate::model::example;

    fn lost(why: &str) -> Update {
        Update {
            node: example::address(0),
            what: What::Lost { why: why.into(), is_refusal: false, retry_in: Duration::from_secs(1) },
        }
    }

    fn recording(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("a.ndjson");
        let mut recorder = Recorder::create(&path, 1_000).unwrap();
        for second in 1..=20 {
            recorder.record(line(&lost(&second.to_string()), second * 1000).unwrap());
        }
        let look = example::look(0, 2, 9, 21_000);
        let look = Update { node: example::address(0), what: What::Look(Box::new(look)) };
        recorder.record(line(&look, 21_000).unwrap());
        assert_eq!(recorder.left_out, 0);
        path
    }

    fn whys(updates: &[(Update, Millis)]) -> Vec<String> {
        let why = |update: &Update| match &update.what {
            What::Lost { why, .. } => why.clone(),
            _ => "look".into(),
        };
        updates.iter().map(|(update, _)| why(update)).collect()
    }

    #[test]
    fn a_recording_is_played_paused_and_wound() {
        let folder = tempfile::tempdir().unwrap();
        let mut player = Player::open(&recording(folder.path())).unwrap();
        assert_eq!(whys(&player.advance(Duration::from_secs(2))), ["1", "2", "3"]);
        player.is_paused = true;
        assert!(player.advance(Duration::from_secs(2)).is_empty());
        player.is_paused = false;
        assert_eq!(whys(&player.advance(Duration::from_secs(1))), ["4"]);
        let (from_start, updates) = player.seek(-2_000);
        assert!(from_start);
        assert_eq!(whys(&updates), ["1", "2"]);
        let (from_start, updates) = player.seek(3_600_000);
        assert!(!from_start);
        assert_eq!(whys(&updates).last().unwrap(), "look");
        assert_eq!(player.now(), 21_000);
        assert!(player.advance(Duration::from_secs(9)).is_empty());
    }

    #[test]
    fn what_is_no_recording_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = recording(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        let other = folder.path().join("b.ndjson");
        let error = |text: &str| {
            std::fs::write(&other, text).unwrap();
            Player::open(&other).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        assert!(error("").unwrap_err().contains("line 1"));
        assert!(
            error(&text.replacen("\"schema_version\":1", "\"schema_version\":9", 1))
                .unwrap_err()
                .contains("form 9")
        );
        let broken = text.replacen("{\"at\":2000", "{\"at\":x", 1);
        assert!(error(&broken).unwrap_err().contains("line 3"));
        let cut = &text[..text.len() - 30];
        assert_eq!(error(cut), Ok(()), "a last line that is not whole is left out");
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = recording(folder.path());
        assert!(Recorder::create(&path, 0).is_err());
    }

    #[test]
    fn a_bundle_names_no_document_person_or_host() {
        let mut model = Model::default();
        example::cluster(&mut model, 1_800_000_000_000);
        let redaction = Redaction::new().unwrap();
        let text = bundle(&model, &redaction, 1_800_000_000_000).unwrap();
        for name in NAMES_OF_EXAMPLE {
            assert!(!text.contains(name), "{name}");
        }
        assert!(text.contains("eu-central-1") && text.contains("document_lost"));
    }

    const NAMES_OF_EXAMPLE: [&str; 6] = ["acme", "roadmap", "user-", "10.0.0.", "203.0.113", "9f86d081"];

    #[test]
    fn the_recording_beside_a_bundle_names_none_either_and_is_replayed() {
        let now = 1_800_000_000_000;
        let (mut model, mut rolling) = (Model::default(), Rolling::default());
        example::cluster(&mut model, now);
        // It begins with how the nodes of the example stand.
        for update in model.checkpoint() {
            rolling.push(&update, &line(&update, now).unwrap(), &model, false, now);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        rolling.excerpt().write(&path, Some(&Redaction::new().unwrap())).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for name in NAMES_OF_EXAMPLE {
            assert!(!text.contains(name), "{name}");
        }
        let mut replayed = Model::default();
        for (update, at) in Player::open(&path).unwrap().advance(Duration::from_secs(60)) {
            replayed.apply(update, at);
        }
        let labels = |model: &Model| model.nodes().map(|(_, node)| node.label()).collect::<Vec<_>>();
        assert_eq!(labels(&replayed), labels(&model));
        let documents = |model: &Model| model.nodes().map(|(_, node)| node.documents().len()).sum::<usize>();
        assert_eq!(documents(&replayed), documents(&model));
    }

    #[test]
    fn what_may_name_somebody_in_another_way_is_left_out() {
        let redaction = Redaction::new().unwrap();
        let node = example::address(0);
        let acted = What::Acted { what: "close connection 13b-2a".into(), outcome: Ok(String::new()) };
        let record = crate::client::Ask::Record(("acme".into(), "notes".into()));
        let unanswered = What::Unanswered { ask: record, why: "no".into() };
        for what in [acted, unanswered] {
            let line = line(&Update { node: node.clone(), what }, 1).unwrap();
            assert_eq!(redaction.line(&line), None);
        }
        let told = json!({ "nodes": [{ "region": "eu", "name": "eu-1", "life": "1", "version": "1", "peer_address": "10.0.0.1:1",
            "ws_url": "ws://10.0.0.1", "admin_url": "https://10.0.0.1:9180", "db_codes": ["x"] }], "unanswered": [] });
        let line =
            json!({ "at": 1, "node": "http://10.0.0.1:9180", "what": { "answered": { "nodes": told } } })
                .to_string();
        let line = redaction.line(&line).unwrap();
        assert!(!line.contains("10.0.0.1") && line.contains("eu-1"), "{line}");
    }
}
