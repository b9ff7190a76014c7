//! What people and programs see of a run while it goes on: a full screen, a line a second, JSON a second, or nothing.

pub mod draw;
mod json;
mod lines;
pub mod live;
pub mod model;
pub mod palette;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::outcome::Exit;
use crate::results::Results;
use crate::run::{Second, Status, Watch};
use crate::scenario::{Load, Scenario};

/// How a run shows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Live where stdout and stderr are a terminal, else lines.
    #[default]
    Auto,
    /// The whole terminal, until the run is over.
    Live,
    /// A line a second on stderr.
    Lines,
    /// A JSON object a second on stderr, one a line.
    Json,
    /// Nothing.
    None,
}

/// What a run is about.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// The scenario's name.
    pub scenario: String,
    /// Where clients connect.
    pub target: String,
    /// What is special about this run, as a step of a search.
    pub step: Option<String>,
    /// Whether sends have planned times.
    pub is_open: bool,
    /// Whether all clients are to stand at one time.
    pub all_stand: bool,
    /// Seconds of the load, and of it those that are not counted.
    pub warm_up: f64,
}

impl Heading {
    /// Of a scenario.
    #[must_use]
    pub fn of(scenario: &Scenario, step: Option<String>) -> Self {
        let urls = &scenario.target.urls;
        let more = if urls.len() > 1 { format!(" and {} more", urls.len() - 1) } else { String::new() };
        Self {
            scenario: scenario.name().to_owned(),
            target: format!("{}{more}", urls.first().map_or("", String::as_str)),
            step,
            is_open: matches!(scenario.load, Load::Open { .. }) && scenario.has_planned_sends(),
            all_stand: scenario.all_stand(),
            warm_up: scenario.warm_up.as_secs_f64(),
        }
    }
}

/// One way of showing.
trait View {
    /// A run begins.
    fn begin(&self, heading: &Heading);
    /// Something that is worth a line.
    fn note(&self, text: &str);
    /// See [`Watch`].
    fn status(&self, status: &Status);
    /// See [`Watch`].
    fn second(&self, second: &Second);
    /// The runs are over, and these are the results.
    fn end(&self, _results: &Results, _exit: Exit) {}
}

/// What was chosen. Dropping it gives the terminal back.
pub struct Viewer {
    view: Option<Box<dyn View>>,
    stop: Arc<AtomicBool>,
}

impl Viewer {
    /// Starts showing; `stop` ends the load.
    ///
    /// # Errors
    /// A live view was asked for, and there is no terminal.
    pub fn start(choice: Choice, stop: Arc<AtomicBool>) -> Result<Self> {
        let is_terminal = std::io::stderr().is_terminal();
        let choice = match choice {
            Choice::Auto if is_terminal && std::io::stdout().is_terminal() && !is_dumb() => Choice::Live,
            Choice::Auto => Choice::Lines,
            choice => choice,
        };
        let view: Option<Box<dyn View>> = match choice {
            Choice::None => None,
            Choice::Json => Some(Box::<json::Json>::default()),
            Choice::Live if !is_terminal => bail!("a live view needs a terminal on stderr: use --view lines"),
            Choice::Live => Some(Box::new(live::Live::start(Arc::clone(&stop))?)),
            Choice::Lines | Choice::Auto => Some(Box::<lines::Lines>::default()),
        };
        Ok(Self { view, stop })
    }

    /// A run begins.
    pub fn begin(&self, heading: &Heading) {
        if let Some(view) = &self.view {
            view.begin(heading);
        }
    }

    /// Something that is worth a line.
    pub fn note(&self, text: &str) {
        if let Some(view) = &self.view {
            view.note(text);
        }
    }

    /// The runs are over.
    pub fn end(self, results: &Results, exit: Exit) {
        if let Some(view) = &self.view {
            view.end(results, exit);
        }
    }
}

impl Watch for Viewer {
    fn status(&self, status: &Status) {
        if let Some(view) = &self.view {
            view.status(status);
        }
    }

    fn second(&self, second: &Second) {
        if let Some(view) = &self.view {
            view.second(second);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A terminal that cannot be drawn on.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}
