//! The load generator beside a cluster: followed while it runs, and asked in the end what it found.

use super::options::Plan;
use crate::cluster::{Process, nap};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For clients to come, and for them to leave when all is over.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than any run: it is told when to end.
const LONGEST: &str = "15m";

/// What clients are like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Also the prefix of its documents.
    pub(super) name: &'static str,
    pub(super) dialect: &'static str,
    pub(super) clients: u32,
    pub(super) members: u32,
    /// Edits a second.
    pub(super) rate: u32,
    /// From a dial to joined; then it has failed.
    pub(super) timeout: &'static str,
    /// Whether clients give up connections on which nothing comes, each at a time of its own.
    pub(super) silence: Option<&'static str>,
}

impl Shape {
    /// Half of the clients speak Hocuspocus, two a document, so that some documents are on one node alone; they are told what is
    /// acknowledged. The others are y-websocket clients, five a document, on all nodes.
    pub(super) fn both(plan: &Plan) -> Vec<Self> {
        let half = plan.clients / 2;
        let shape = |name, dialect, members| Self {
            name,
            dialect,
            clients: half - half % members,
            members,
            rate: (half / 2).clamp(20, 300),
            timeout: if plan.is_long { "10s" } else { "4s" },
            silence: None,
        };
        vec![shape("hocuspocus", "hocuspocus", 2), shape("ywebsocket", "y-websocket", 5)]
    }

    pub(super) fn documents(&self) -> u32 {
        self.clients / self.members
    }
}

/// A run of the load generator.
pub(super) struct Load {
    pub(super) shape: Shape,
    process: Process,
    results: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// What it said last.
#[derive(Debug, Default)]
struct Seen {
    second: Value,
    /// What is not an event.
    words: String,
    has_ended: bool,
}

impl Load {
    /// Starts it against nodes, `(region, URL)`.
    pub(super) fn start(
        program: &Path,
        shape: Shape,
        secret: &str,
        urls: &[(String, String)],
        more: &[&str],
        folder: &Path,
    ) -> Result<Self> {
        let results = folder.join(format!("{}.json", shape.name));
        let text = format!(
            "document --dialect {dialect} --documents {documents} --members {members} --rate {rate} \
             --duration {LONGEST} --warm-up 0s --drain 60s --timeout {timeout} --awareness-rate 0.05 --redial --threads 1 \
             --secret {secret} --document-prefix {name}- --view json --json {results}",
            dialect = shape.dialect,
            documents = shape.documents(),
            members = shape.members,
            rate = shape.rate,
            timeout = shape.timeout,
            name = shape.name,
            results = results.display(),
        );
        let mut args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        for (region, url) in urls {
            args.extend(["--url".to_owned(), format!("{region}={url}")]);
        }
        if let Some(silence) = shape.silence {
            args.extend(["--silence".to_owned(), silence.to_owned()]);
        }
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let log = folder.join(format!("loadgen-{}.log", shape.name));
        let mut process = Process::start(&[], program, &args, &log, |command| {
            command.stderr(Stdio::piped());
        })?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stderr = process.child().stderr.take().context("stderr")?;
        let of_thread = Arc::clone(&seen);
        let said = File::create(folder.join(format!("loadgen-{}.events", shape.name)))?;
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || follow(stderr, said, &of_thread))?;
        Ok(Self { shape, process, results, seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all clients have joined and write.
    pub(super) fn wait_until_writing(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.seen().second["phase"] != "load" {
            if self.seen().has_ended {
                bail!("{} ended before it wrote: {}", self.shape.name, self.seen().words);
            }
            ensure!(began.elapsed() < PATIENCE, "{}: not all clients have joined", self.shape.name);
            nap();
        }
        Ok(())
    }

    /// Clients that are connected, in all and to a region.
    pub(super) fn open(&self) -> u64 {
        self.seen().second["open"].as_u64().unwrap_or(0)
    }

    /// The number of the last second that was told.
    pub(super) fn second(&self) -> u64 {
        self.seen().second["second"].as_u64().unwrap_or(0)
    }

    /// Ends the writing; clients wait for what is under way.
    pub(super) fn ask_to_end(&mut self) {
        self.process.signal("INT");
    }

    /// What it found, once it has ended.
    pub(super) fn results(&mut self) -> Result<Value> {
        let began = Instant::now();
        while self.process.outcome()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "{} does not end", self.shape.name);
            nap();
        }
        let words = self.seen().words.clone();
        let text = std::fs::read_to_string(&self.results)
            .with_context(|| format!("{} left no results: {words}", self.shape.name))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Also keeps what it said.
fn follow(stderr: ChildStderr, mut said: File, seen: &Mutex<Seen>) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // For whoever looks for a cause; without it the run is as good.
        let _ = writeln!(said, "{line}");
        match serde_json::from_str::<Value>(&line) {
            Ok(event) if event["event"] == "second" => lock().second = event,
            Ok(_) => {}
            Err(_) => lock().words += &format!("{line}\n"),
        }
    }
    lock().has_ended = true;
}
