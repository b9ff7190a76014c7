//! The loop of the interactive program: keys, updates and the clock in; commands and pictures out.
//!
//! Updates are taken as they come, many at once; the screen is drawn at most every [`FRAME`], at once after a key, and now and then
//! where nothing happens, since ages go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ratatui::crossterm::event;
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::{App, Command, Input};
use crate::client::{Fleet, Update};
use crate::config::Goal;
use crate::format::{age, clock};
use crate::model::Millis;
use crate::record::{Excerpt, Player, Recorder, Redaction, Rolling, bundle, line, write_new};
use crate::terminal::{Taken, copy};
use crate::view::{Hits, draw};

/// Between two pictures, at least.
const FRAME: Duration = Duration::from_millis(40);
/// Between two pictures, at most.
const IDLE_FRAME: Duration = Duration::from_millis(500);
/// How often it is looked what to ask.
const TICK: Duration = Duration::from_millis(50);
/// Updates that are taken before a picture is drawn.
const BATCH: usize = 512;

/// Where updates come from.
#[derive(Debug)]
pub enum Source {
    /// Nodes.
    Live(Fleet, Receiver<Update>),
    /// A recording.
    Replay(Player),
}

/// What it takes to go to another cluster: its name, and how its nodes are found.
pub struct Contexts(Box<Find>);

/// Finds a context by its name.
type Find = dyn Fn(&str) -> Result<Elsewhere>;

/// Another cluster, its nodes not watched yet.
#[derive(Debug)]
pub struct Elsewhere {
    /// Which, and how its nodes are found.
    pub goal: Goal,
    /// The network thread.
    pub fleet: Fleet,
    /// What it tells.
    pub updates: Receiver<Update>,
}

impl Contexts {
    /// Those that `go` knows.
    pub fn new(go: impl Fn(&str) -> Result<Elsewhere> + 'static) -> Self {
        Self(Box::new(go))
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("contexts")
    }
}

/// The time.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(0)
}

struct Loop {
    app: App,
    source: Source,
    contexts: Contexts,
    recorder: Option<Recorder>,
    rolling: Rolling,
    /// Recordings that are being written, and since when what is in them was kept.
    writing: Vec<(JoinHandle<Result<String>>, Option<Millis>)>,
    hits: Hits,
    drawn: Option<Instant>,
    is_dirty: bool,
    /// When it came to this cluster, and whether it has heard of all of it.
    began: Instant,
    is_settled: bool,
}

/// Runs until somebody leaves.
///
/// # Errors
/// There is no terminal.
pub fn interactive(
    app: App,
    source: Source,
    contexts: Contexts,
    recorder: Option<Recorder>,
    with_mouse: bool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut taken = Taken::take(with_mouse)?;
    let over = Arc::new(AtomicBool::new(false));
    let inputs = read_inputs(Arc::clone(&over))?;
    let looped = Loop {
        app,
        source,
        contexts,
        recorder,
        rolling: Rolling::default(),
        writing: Vec::new(),
        hits: Hits::default(),
        drawn: None,
        is_dirty: true,
        began: Instant::now(),
        is_settled: false,
    };
    let outcome = runtime.block_on(looped.run(&mut taken, inputs));
    over.store(true, Ordering::Release);
    outcome
}

/// What ends it in good order: whatever would end a program leaves the terminal as it was.
fn ends() -> Result<Vec<Signal>> {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    Ok(kinds.into_iter().map(signal).collect::<std::io::Result<_>>()?)
}

async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let has_come = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if has_come { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Keys are read on a thread of their own, since reading waits.
fn read_inputs(over: Arc<AtomicBool>) -> Result<Receiver<Input>> {
    let (send, inputs) = mpsc::channel(256);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while !over.load(Ordering::Acquire) {
            match event::poll(Duration::from_millis(100)) {
                Ok(false) => {}
                Ok(true) => {
                    // On an error the terminal is gone, and with it who would look.
                    let Ok(input) = event::read() else { return };
                    if send.blocking_send(input).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    })?;
    Ok(inputs)
}

impl Loop {
    async fn run(mut self, taken: &mut Taken, mut inputs: Receiver<Input>) -> Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends = ends()?;
        loop {
            self.draw(taken)?;
            let commands = tokio::select! {
                input = inputs.recv() => match input {
                    None => return Ok(()),
                    Some(input) => self.input(&input),
                },
                update = next(&mut self.source) => {
                    self.update(update);
                    Vec::new()
                }
                _ = ticks.tick() => self.tick(),
                () = any(&mut ends) => return Ok(()),
            };
            for command in commands {
                if command == Command::Quit {
                    return Ok(());
                }
                self.obey(command, taken)?;
            }
        }
    }

    /// Of a replay it is the recording's.
    fn now(&self) -> Millis {
        match &self.source {
            Source::Live(..) => now(),
            Source::Replay(player) => player.now(),
        }
    }

    fn input(&mut self, input: &Input) -> Vec<Command> {
        // What a key does is seen at once.
        self.drawn = None;
        self.is_dirty = true;
        let now = self.now();
        self.app.input(input, self.hits.list, now)
    }

    fn update(&mut self, first: Update) {
        let now = now();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(update) = next.take() {
            if let Some(line) = line(&update, now) {
                self.rolling.push(&update, &line, &self.app.model, self.app.is_paused, now);
                if let Some(recorder) = &mut self.recorder {
                    recorder.record(line);
                }
            }
            self.app.update(update, now);
            count += 1;
            if let Source::Live(_, updates) = &mut self.source
                && count < BATCH
            {
                next = updates.try_recv().ok();
            }
        }
        self.is_dirty = true;
    }

    fn tick(&mut self) -> Vec<Command> {
        if let Source::Replay(player) = &mut self.source {
            player.is_paused = self.app.is_paused;
            for (update, at) in player.advance(TICK) {
                self.app.update(update, at);
                self.is_dirty = true;
            }
        }
        let now = self.now();
        if let Some(said) = self.written(false) {
            self.app.say(said, now);
            self.is_dirty = true;
        }
        self.app.tick(now)
    }

    /// Writes what was told lately, on a thread of its own: it may be much.
    fn write(&mut self, excerpt: Excerpt, path: PathBuf, redaction: Option<Redaction>) {
        let now = self.now();
        let is_redacted = redaction.is_some();
        let write = move || {
            excerpt.write(&path, redaction.as_ref())?;
            let (from, to) = excerpt.span();
            let long = age(to.saturating_sub(from));
            let advice = match is_redacted {
                true => "names are replaced in both files, look through them before you send them",
                false => "--replay shows it",
            };
            Ok(format!("written: {}, {long} up to {}Z; {advice}", path.display(), clock(to)))
        };
        // With names replaced it is not all there is.
        let kept_at = self.rolling.apart_at().filter(|_| !is_redacted);
        match std::thread::Builder::new().name("writer".into()).spawn(write) {
            Ok(thread) => self.writing.push((thread, kept_at)),
            Err(error) => self.app.say(format!("no thread to write with: {error}"), now),
        }
    }

    /// What came of one of them, once that is known.
    fn written(&mut self, waits: bool) -> Option<String> {
        let ended = self.writing.iter().position(|(thread, _)| waits || thread.is_finished())?;
        let (thread, kept_at) = self.writing.remove(ended);
        Some(match thread.join() {
            Ok(Ok(said)) => {
                if kept_at.is_some() && kept_at == self.rolling.apart_at() {
                    self.rolling.saved();
                    self.app.kept_at = None;
                }
                said
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the recording was not written".into(),
        })
    }

    fn obey(&mut self, command: Command, taken: &mut Taken) -> Result<()> {
        match command {
            Command::Quit => {}
            Command::Redraw => taken.clear()?,
            Command::Copy(text) => copy(&text),
            Command::Bundle(path) => {
                let now = self.now();
                let said = match self.bundle(&path, now) {
                    Ok(also) => format!(
                        "written: {path}{also}; names in it are replaced, look through it before you send it"
                    ),
                    Err(error) => format!("{path}: {error:#}"),
                };
                self.app.say(said, now);
            }
            Command::Save(path) => {
                let excerpt = self.rolling.excerpt();
                self.write(excerpt, path.into(), None);
            }
            Command::Seek(by) => {
                let now = self.now();
                match &mut self.source {
                    Source::Replay(player) => {
                        let (from_start, updates) = player.seek(by);
                        if from_start {
                            self.app.forget();
                        }
                        updates.into_iter().for_each(|(update, at)| self.app.update(update, at));
                    }
                    Source::Live(..) => self.app.say("only a replay has a time to go to: --replay FILE", now),
                }
                self.is_dirty = true;
            }
            Command::Context(name) => self.go_to(&name),
            Command::Watch(address) => {
                if let Source::Live(fleet, _) = &self.source {
                    let update = Update { node: address.clone(), what: crate::client::What::Watched };
                    fleet.watch(address);
                    self.app.update(update, now());
                }
            }
            Command::Ask(address, ask) => {
                if let Source::Live(fleet, _) = &self.source {
                    fleet.ask(address, ask);
                }
            }
            Command::Act(address, action) => {
                if let Source::Live(fleet, _) = &self.source
                    && !fleet.act(address.clone(), &action)
                {
                    let outcome = Err("the console is behind with what it was asked for".into());
                    let what = crate::client::What::Acted { what: action.title(), outcome };
                    self.app.update(Update { node: address, what }, now());
                }
            }
        }
        Ok(())
    }

    /// Beside a bundle goes what was told lately, with the same names replaced alike.
    fn bundle(&mut self, path: &str, now: Millis) -> Result<String> {
        let redaction = Redaction::new()?;
        write_new(Path::new(path), &bundle(&self.app.model, &redaction, now)?)?;
        let excerpt = self.rolling.excerpt();
        if excerpt.is_empty() {
            return Ok(String::new());
        }
        let beside = format!("{path}.ndjson");
        self.write(excerpt, PathBuf::from(&beside), Some(redaction));
        Ok(format!(", and {beside}"))
    }

    /// Leaves this cluster for another; also where nothing of this one is reached. What cannot be gone to leaves all as it is.
    fn go_to(&mut self, name: &str) {
        let now = self.now();
        if matches!(self.source, Source::Replay(_)) {
            return self.app.say("a recording has no other cluster", now);
        }
        match (self.contexts.0)(name) {
            Err(error) => self.app.say(format!("{error:#}"), now),
            Ok(Elsewhere { goal, fleet, updates }) => {
                self.app.move_to(goal.name, goal.discovery);
                self.rolling.cut();
                (self.began, self.is_settled) = (Instant::now(), false);
                for address in goal.addresses {
                    fleet.watch(address.clone());
                    self.app.update(Update { node: address, what: crate::client::What::Watched }, now);
                }
                // The network thread of the cluster before ends with its handle.
                self.source = Source::Live(fleet, updates);
                self.app.say(format!("at {name}"), now);
            }
        }
        self.is_dirty = true;
    }

    /// Keeps what led to something that is wrong. While nothing new is shown it is not known what is wrong.
    fn look(&mut self, now: Millis) {
        /// After this the console has heard of all that it will hear of.
        const SETTLED: Duration = Duration::from_secs(10);
        if self.app.is_paused || self.app.options.is_replay {
            return;
        }
        let (model, discovery) = (&self.app.model, &self.app.options.discovery);
        let has_all =
            model.known().is_some() && model.candidates(discovery).is_empty() && model.is_gathered();
        self.is_settled |= has_all || self.began.elapsed() > SETTLED;
        if self.rolling.look(self.app.problems(), self.is_settled, now) {
            self.app.kept_at = self.rolling.apart_at();
        }
    }

    fn draw(&mut self, taken: &mut Taken) -> Result<()> {
        let since = self.drawn.map(|drawn| drawn.elapsed());
        let is_due = match since {
            None => true,
            Some(since) => (self.is_dirty && since >= FRAME) || since >= IDLE_FRAME,
        };
        if !is_due {
            return Ok(());
        }
        let now = self.now();
        self.app.arrange(now);
        self.look(now);
        let (app, mut hits) = (&self.app, Hits::default());
        taken.terminal.draw(|frame| {
            let area: Rect = frame.area();
            hits = draw(app, area, frame.buffer_mut(), now);
            if let Some(cursor) = hits.cursor {
                frame.set_cursor_position(cursor);
            }
        })?;
        self.app.scrolled(hits);
        self.hits = hits;
        self.drawn = Some(Instant::now());
        self.is_dirty = false;
        Ok(())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // What is being written is written to its end.
        while self.written(true).is_some() {}
    }
}

async fn next(source: &mut Source) -> Update {
    if let Source::Live(_, updates) = source
        && let Some(update) = updates.recv().await
    {
        return update;
    }
    std::future::pending().await
}
