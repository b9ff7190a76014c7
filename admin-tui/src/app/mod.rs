//! The program without its edges: an input in, changed state and commands out. It reads no clock and does no I/O.
//!
//! | module | concern |
//! | --- | --- |
//! | `screen` | which view, of what, and the way back |
//! | `pane` | the cursor, filter and order of a list |
//! | `input` | keys, mouse and the command line |
//! | `prompt` | a line that is being typed |
//! | `marks` | rows that are marked |
//! | `act` | actions: asked for, confirmed, handed over |
//! | `action` | what they are |

pub mod action;

mod act;
mod input;
mod marks;
mod pane;
mod prompt;
mod screen;

use std::collections::{BTreeMap, HashMap};

use crate::client::{Address, Ask, Discovery, Update};
use crate::keys::Keys;
use crate::list::{List, Target};
use crate::model::{Focus, Millis, Model, Problem, problems};
use crate::theme::Theme;

pub use act::{Confirm, Outcomes};
pub use input::{COMMANDS, Input};
pub use marks::Marks;
pub use pane::Pane;
pub use prompt::{Prompt, PromptKind};
pub use screen::{Kind, Screen};

use action::Action;

/// What the program is to do for the app.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// End.
    Quit,
    /// Watch a node.
    Watch(Address),
    /// Ask a node.
    Ask(Address, Ask),
    /// Have a node do something.
    Act(Address, Action),
    /// Put text on the clipboard.
    Copy(String),
    /// Draw everything anew.
    Redraw,
    /// Go so many milliseconds forward or back in a replay.
    Seek(i64),
    /// Write a support bundle there.
    Bundle(String),
    /// Write what was told in the last minutes there, as a recording.
    Save(String),
    /// Go to another cluster of the configuration.
    Context(String),
}

/// What the program was started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Actions are allowed.
    pub may_act: bool,
    /// How other nodes are found.
    pub discovery: Discovery,
    /// The context's name, for the title.
    pub context: String,
    /// It is a recording that is shown.
    pub is_replay: bool,
    /// Colours and glyphs.
    pub theme: Theme,
    /// `NO_COLOR` is set: the theme stays without.
    pub is_plain: bool,
    /// Keys.
    pub keys: Keys,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct App {
    /// What is known.
    pub model: Model,
    /// What it was started with.
    pub options: Options,
    /// What is shown.
    pub screen: Screen,
    /// Where one came from, by going into things.
    pub trail: Vec<Screen>,
    history: Vec<Screen>,
    /// Of the history: the one that is shown.
    history_at: usize,
    /// The view before this one, and the way back from it.
    last: Option<(Screen, Vec<Screen>)>,
    panes: HashMap<Kind, Pane>,
    marks: BTreeMap<Kind, Marks>,
    /// A line that is being typed.
    pub prompt: Option<Prompt>,
    /// Actions that wait for being named.
    pub confirm: Option<Confirm>,
    /// What became of several.
    pub outcomes: Option<Outcomes>,
    /// Help is shown.
    pub is_help: bool,
    /// Which page of it; they go round.
    pub help_page: usize,
    /// What was said last to who sits there, and when.
    pub notice: Option<(String, Millis)>,
    /// When what led to something was kept, until it is saved.
    pub kept_at: Option<Millis>,
    /// Nothing new is shown.
    pub is_paused: bool,
    /// Updates that came while it was paused.
    held: Vec<(Update, Millis)>,
    order: Order,
    problems: (u64, Millis, Vec<Problem>),
    /// Rows of the list that the screen had room for last.
    pub page: usize,
}

/// The rows of the list that is shown, and what they were worked out from.
#[derive(Debug, Default)]
struct Order {
    rows: Vec<u32>,
    from: Option<(Screen, u64, u64)>,
    at: Millis,
    /// When it was looked last whether they are to be worked out anew.
    looked: Millis,
}

/// Lists are put in order at most this often while nobody touches them.
const ARRANGE_EVERY: Millis = 500;
/// Updates that are held while it is paused: an hour of ten nodes. What comes then is not shown, once it goes on.
const HELD_MAX: usize = 36_000;
/// How long a notice stands.
const NOTICE: Millis = 8_000;

impl App {
    /// With nothing known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            model: Model::default(),
            options,
            screen: Screen::default(),
            trail: Vec::new(),
            history: vec![Screen::default()],
            history_at: 0,
            last: None,
            panes: HashMap::new(),
            marks: BTreeMap::new(),
            prompt: None,
            confirm: None,
            outcomes: None,
            is_help: false,
            help_page: 0,
            notice: None,
            kept_at: None,
            is_paused: false,
            held: Vec::new(),
            order: Order::default(),
            problems: (0, 0, Vec::new()),
            page: 10,
        }
    }

    /// Takes an update.
    pub fn update(&mut self, update: Update, now: Millis) {
        self.report(&update, now);
        if self.is_paused && !self.options.is_replay {
            if self.held.len() < HELD_MAX {
                self.held.push((update, now));
            }
            return;
        }
        self.model.apply(update, now);
    }

    /// Says how an action ended.
    fn report(&mut self, update: &Update, now: Millis) {
        if let crate::client::What::Acted { what, outcome } = &update.what {
            let text = match outcome {
                Ok(_) => format!("done: {what}"),
                // The reason first: what was asked for is known, and the rest of a line is cut.
                Err(why) => format!("not done: {why}: {what}"),
            };
            if let Err(why) = outcome
                && self.outcomes.is_none()
            {
                let rows = vec![(what.clone(), Some(Err(why.clone())))];
                self.outcomes = Some(Outcomes { title: "asked for".into(), rows });
                return self.say(text, now);
            }
            let several = self.outcomes.as_mut().and_then(|outcomes| outcomes.take(what, outcome));
            self.say(several.map_or(text.clone(), |count| format!("{count}; {text}")), now);
        }
    }

    /// Time went on: what to ask, and whom to watch.
    pub fn tick(&mut self, now: Millis) -> Vec<Command> {
        if self.notice.as_ref().is_some_and(|(_, since)| now.saturating_sub(*since) > NOTICE) {
            self.notice = None;
        }
        if self.options.is_replay {
            return Vec::new();
        }
        let mut commands: Vec<Command> =
            self.model.candidates(&self.options.discovery).into_iter().map(Command::Watch).collect();
        let focus = self.focus();
        commands.extend(self.model.wants(&focus, now).into_iter().map(|(node, ask)| Command::Ask(node, ask)));
        commands
    }

    /// What is looked at.
    #[must_use]
    pub fn focus(&self) -> Focus {
        let kind = self.screen.kind;
        Focus {
            pins: kind == Kind::Pins,
            document: self.screen.document.clone().filter(|_| kind == Kind::Document),
            connections: kind == Kind::Connections,
            apps: matches!(kind, Kind::Apps | Kind::App | Kind::Overview),
            record: self.screen.scope.app.clone().filter(|_| kind == Kind::App),
            logs: matches!(kind, Kind::Logs | Kind::Audit),
            node: self.screen.scope.node,
        }
    }

    /// The list that is shown, if it is one.
    #[must_use]
    pub fn list(&self) -> Option<List> {
        self.screen.kind.list()
    }

    /// The pane of the view that is shown.
    #[must_use]
    pub fn pane(&self) -> Pane {
        self.panes.get(&self.screen.kind).cloned().unwrap_or_else(|| Pane::of(self.screen.kind))
    }

    pub(crate) fn pane_mut(&mut self) -> &mut Pane {
        let kind = self.screen.kind;
        self.panes.entry(kind).or_insert_with(|| Pane::of(kind))
    }

    /// What is wrong right now.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems.2
    }

    /// Numbers of the rows that are shown, in order.
    #[must_use]
    pub fn rows(&self) -> &[u32] {
        &self.order.rows
    }

    /// Works out what is shown, before it is drawn.
    pub fn arrange(&mut self, now: Millis) {
        let (version, at, _) = self.problems;
        if version != self.model.version() || now.saturating_sub(at) >= 500 {
            self.problems = (self.model.version(), now, problems(&self.model, now));
        }
        let pane = self.pane();
        let from = Some((self.screen.clone(), pane.version, self.data_version()));
        let is_touched = self
            .order
            .from
            .as_ref()
            .zip(from.as_ref())
            .is_none_or(|(old, new)| (&old.0, old.1) != (&new.0, new.1));
        // At its end the time of a replay stands still: what came last is shown too.
        let stands = self.options.is_replay && now == self.order.looked;
        self.order.looked = now;
        let is_due = stands || now.saturating_sub(self.order.at) >= ARRANGE_EVERY || now < self.order.at;
        if is_touched || (is_due && self.order.from != from) || self.list().is_none() {
            self.arrange_now(&pane, is_touched, now);
            self.order.from = from;
            self.order.at = now;
        }
        let count = self.order.rows.len();
        let is_following = pane.is_following;
        let pane = self.pane_mut();
        pane.cursor =
            if is_following { count.saturating_sub(1) } else { pane.cursor.min(count.saturating_sub(1)) };
    }

    fn arrange_now(&mut self, pane: &Pane, is_touched: bool, now: Millis) {
        let Some(list) = self.list() else {
            let count = u32::try_from(self.problems.2.len()).unwrap_or(0);
            self.order.rows =
                if self.screen.kind == Kind::Overview { (0..count).collect() } else { Vec::new() };
            return;
        };
        let rows = list.rows(&self.model, &self.screen.scope, now);
        let arranged = crate::query::arrange(rows.as_ref(), &pane.filter, pane.sort);
        // The cursor stays on what it was on, where rows come and go around it; a look at very many of them would take too long.
        let cursor = match &pane.target {
            Some(target) if !is_touched && arranged.len() <= 5_000 => {
                arranged.iter().position(|row| rows.target(*row as usize) == *target)
            }
            _ => None,
        };
        if let Some(marks) = self.marks.get_mut(&self.screen.kind) {
            marks.keep(rows.as_ref());
        }
        drop(rows);
        self.order.rows = arranged;
        if let Some(cursor) = cursor {
            self.pane_mut().cursor = cursor;
        }
    }

    fn data_version(&self) -> u64 {
        self.model.version()
    }

    /// What the cursor is on.
    #[must_use]
    pub fn target(&self, now: Millis) -> Target {
        let cursor = self.pane().cursor;
        let Some(row) = self.order.rows.get(cursor) else { return self.screen.target() };
        match self.list() {
            Some(list) => list.rows(&self.model, &self.screen.scope, now).target(*row as usize),
            None => self.problems().get(*row as usize).map_or(Target::Nothing, problem_target),
        }
    }

    /// What the row that the cursor is on says, where rows are texts: events, lines of a log, what operators had done.
    #[must_use]
    pub fn text(&self, now: Millis) -> Option<String> {
        let list = self.list().filter(|list| list.is_of_texts())?;
        let row = *self.order.rows.get(self.pane().cursor)? as usize;
        let field = list.fields().iter().position(|field| field.grows)?;
        Some(list.rows(&self.model, &self.screen.scope, now).value(row, field).show())
    }

    /// What was drawn: where the list is scrolled to, and how much of it there was room for.
    pub fn scrolled(&mut self, hits: crate::view::Hits) {
        self.page = usize::from(hits.list.height).max(1);
        self.pane_mut().offset = hits.offset;
    }

    /// Tells who sits there something.
    pub fn say(&mut self, text: impl Into<String>, now: Millis) {
        self.notice = Some((text.into(), now));
    }

    /// Begins anew at another cluster.
    pub fn move_to(&mut self, context: String, discovery: Discovery) {
        self.forget();
        self.options.context = context;
        self.options.discovery = discovery;
        self.held.clear();
        self.is_paused = false;
        // What was looked at is of the cluster before, and so is the way to it.
        self.screen = Screen::of(
            if self.screen.scope == crate::list::Scope::default() && self.screen.document.is_none() {
                self.screen.kind
            } else {
                Kind::Overview
            },
        );
        self.trail.clear();
        self.history = vec![self.screen.clone()];
        self.history_at = 0;
        self.last = None;
        // Numbers of nodes are others there.
        self.marks.clear();
        self.confirm = None;
        self.outcomes = None;
        self.problems = (0, 0, Vec::new());
    }

    /// Begins anew with nothing known, as a replay does that is wound back; what is shown stays.
    pub fn forget(&mut self) {
        self.model = Model::default();
        self.order = Order::default();
    }
}

fn problem_target(problem: &Problem) -> Target {
    use pinwire_admin_api::stream::DocumentName;
    if let Some(app) = &problem.app {
        return Target::App(app.clone());
    }
    match (&problem.document, problem.node, &problem.region) {
        (Some((tenant, app, name)), ..) => {
            Target::Document(DocumentName { tenant: tenant.clone(), app: app.clone(), name: name.clone() })
        }
        (None, Some(node), _) => Target::Node(node),
        (None, None, Some(region)) => Target::Region(region.clone()),
        _ => Target::Nothing,
    }
}

#[cfg(test)]
mod tests;
