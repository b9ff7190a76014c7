//! The loop of the interactive program: keys, updates and the clock in; commands and pictures out.
//!
//! Updates are taken as they come, many at once; the screen is drawn at most every [`FRAME`], at once after a key, and now and then
//! where nothing happens, since ages go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ratatui::crossterm::event;
use ratatui::layout::Rect;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::{App, Command, Input};
use crate::client::{Fleet, Update};
use crate::config::Goal;
use crate::model::Millis;
use crate::record::{Player, Recorder, bundle};
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
    hits: Hits,
    drawn: Option<Instant>,
    is_dirty: bool,
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
    let looped = Loop { app, source, contexts, recorder, hits: Hits::default(), drawn: None, is_dirty: true };
    let outcome = runtime.block_on(looped.run(&mut taken, inputs));
    over.store(true, Ordering::Release);
    outcome
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
        let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
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
                _ = terminate.recv() => return Ok(()),
                _ = hang_up.recv() => return Ok(()),
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
            if let Some(recorder) = &mut self.recorder {
                recorder.record(&update, now);
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
        self.app.tick(now)
    }

    fn obey(&mut self, command: Command, taken: &mut Taken) -> Result<()> {
        match command {
            Command::Quit => {}
            Command::Redraw => taken.clear()?,
            Command::Copy(text) => copy(&text),
            Command::Bundle(path) => {
                let now = self.now();
                let said =
                    match bundle(&self.app.model, now).and_then(|text| Ok(std::fs::write(&path, text)?)) {
                        Ok(()) => format!(
                            "written: {path}; names in it are replaced, look through it before you send it"
                        ),
                        Err(error) => format!("{path}: {error:#}"),
                    };
                self.app.say(said, now);
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
                if let Source::Live(fleet, _) = &self.source {
                    fleet.act(address, &action);
                }
            }
        }
        Ok(())
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

async fn next(source: &mut Source) -> Update {
    if let Source::Live(_, updates) = source
        && let Some(update) = updates.recv().await
    {
        return update;
    }
    std::future::pending().await
}
