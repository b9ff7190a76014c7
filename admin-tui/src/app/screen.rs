//! Which view, of what, and the way back.

use pinwire_admin_api::stream::DocumentName;

use super::App;
use crate::list::{List, Scope, Target};
use crate::model::Millis;

/// A view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as what they show")]
pub enum Kind {
    #[default]
    Overview,
    Regions,
    Nodes,
    Pins,
    Documents,
    Connections,
    Apps,
    Events,
    Logs,
    Audit,
    Cores,
    Flow,
    Latency,
    Node,
    Document,
    App,
}

impl Kind {
    /// All that can be gone to by name.
    pub const ALL: [(Self, &str); 16] = [
        (Self::Overview, "overview"),
        (Self::Regions, "regions"),
        (Self::Nodes, "nodes"),
        (Self::Pins, "pins"),
        (Self::Documents, "documents"),
        (Self::Connections, "connections"),
        (Self::Apps, "apps"),
        (Self::Events, "events"),
        (Self::Logs, "logs"),
        (Self::Audit, "audit"),
        (Self::Cores, "cores"),
        (Self::Flow, "flow"),
        (Self::Latency, "latency"),
        (Self::Node, "node"),
        (Self::Document, "document"),
        (Self::App, "app"),
    ];
    /// Those with a place in the row of tabs.
    pub const TABS: usize = 10;

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Its name where there is little room.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Overview => "over",
            Self::Regions => "regs",
            Self::Documents => "docs",
            Self::Connections => "conns",
            kind => kind.name(),
        }
    }

    /// The list that it shows.
    #[must_use]
    pub fn list(self) -> Option<List> {
        Some(match self {
            Self::Overview => return None,
            Self::Regions => List::Regions,
            Self::Nodes => List::Nodes,
            Self::Pins => List::Pins,
            Self::Documents => List::Documents,
            Self::Connections => List::Connections,
            Self::Apps => List::Apps,
            Self::Events => List::Events,
            Self::Logs => List::Logs,
            Self::Audit => List::Audit,
            Self::Cores | Self::Node => List::Cores,
            Self::Flow => List::Flow,
            Self::Latency => List::Latency,
            Self::App => List::Use,
            Self::Document => List::Members,
        })
    }

    /// The view beside it in the row of tabs.
    pub(super) fn beside(self, step: isize) -> Self {
        let at = Self::ALL[..Self::TABS].iter().position(|(kind, _)| *kind == self).unwrap_or(0);
        let count = isize::try_from(Self::TABS).unwrap_or(1);
        let next = (isize::try_from(at).unwrap_or(0) + step).rem_euclid(count);
        Self::ALL[usize::try_from(next).unwrap_or(0)].0
    }
}

/// A view of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Which view.
    pub kind: Kind,
    /// What its list is narrowed to.
    pub scope: Scope,
    /// The document that is looked at.
    pub document: Option<DocumentName>,
}

impl Screen {
    /// A view of everything.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// What it is about as a whole.
    pub(super) fn target(&self) -> Target {
        if let Some(app) = &self.scope.app {
            return Target::App(app.clone());
        }
        match (&self.document, self.scope.node, &self.scope.region) {
            (Some(name), ..) if self.kind == Kind::Document => Target::Document(name.clone()),
            (_, Some(node), _) => Target::Node(node),
            (_, _, Some(region)) => Target::Region(region.clone()),
            _ => Target::Nothing,
        }
    }
}

impl App {
    /// Shows a view of everything.
    pub(super) fn show(&mut self, kind: Kind) {
        self.show_from(kind, self.trail.clone());
    }

    /// The same, with this way back.
    pub(super) fn show_from(&mut self, kind: Kind, mut trail: Vec<Screen>) {
        // Of a node or region that is looked at, the other lists are of it too.
        let scope = match kind {
            Kind::Overview | Kind::Regions | Kind::Nodes | Kind::Pins | Kind::Apps | Kind::Latency => {
                Scope::default()
            }
            _ if self.screen.scope.app.is_some() => Scope::default(),
            _ if matches!(self.screen.kind, Kind::Node) => self.screen.scope.clone(),
            _ => Scope::default(),
        };
        let screen = Screen { kind, scope, document: None };
        if screen.scope == Scope::default() {
            trail.clear();
        } else {
            trail.push(self.screen.clone());
        }
        self.enter(screen, trail);
    }

    /// Goes into something.
    pub(super) fn open(&mut self, target: Target) {
        let screen = match target {
            Target::Nothing => return,
            Target::Region(region) => Screen {
                kind: Kind::Nodes,
                scope: Scope { region: Some(region), ..Scope::default() },
                document: None,
            },
            Target::App(app) => Screen {
                kind: Kind::App,
                scope: Scope { app: Some(app), ..Scope::default() },
                document: None,
            },
            Target::Node(node) => {
                let scope = Scope { node: Some(node), ..Scope::default() };
                Screen { kind: Kind::Node, scope, document: None }
            }
            Target::Document(name)
            | Target::Pin { name, .. }
            | Target::Connection { document: Some(name), .. } => {
                Screen { kind: Kind::Document, scope: Scope::default(), document: Some(name) }
            }
            Target::Connection { .. } => return,
        };
        if screen == self.screen {
            return;
        }
        let mut trail = self.trail.clone();
        trail.push(self.screen.clone());
        self.enter(screen, trail);
    }

    /// Goes back to where one came from.
    pub(super) fn back(&mut self) {
        let mut trail = self.trail.clone();
        match trail.pop() {
            Some(screen) => self.enter(screen, trail),
            None => self.enter(Screen::default(), trail),
        }
    }

    /// Goes to the view before this one, and with the same key back again.
    pub(super) fn toggle(&mut self, now: Millis) {
        match self.last.clone() {
            Some((screen, trail)) => self.enter(screen, trail),
            None => self.say("there was no view before this one", now),
        }
    }

    fn enter(&mut self, screen: Screen, trail: Vec<Screen>) {
        if screen == self.screen {
            self.trail = trail;
            return;
        }
        self.history.truncate(self.history_at + 1);
        self.history.push(screen.clone());
        // What nobody goes back so far for.
        let too_many = self.history.len().saturating_sub(100);
        self.history.drain(..too_many);
        self.history_at = self.history.len() - 1;
        self.go(screen, trail);
        if matches!(self.screen.kind, Kind::Node | Kind::Document | Kind::App) {
            self.pane_mut().cursor = 0;
        }
    }

    /// One view back or forward in history.
    pub(super) fn travel(&mut self, step: isize) {
        let Some(at) = self.history_at.checked_add_signed(step) else { return };
        if let Some(screen) = self.history.get(at).cloned() {
            self.history_at = at;
            self.go(screen, Vec::new());
        }
    }

    fn go(&mut self, screen: Screen, trail: Vec<Screen>) {
        // What is known of one document is not shown of another.
        if screen.kind == Kind::Document && screen.document != self.screen.document {
            self.model.document = None;
            self.model.document_problem = None;
        }
        let before = std::mem::replace(&mut self.screen, screen);
        self.last = Some((before, std::mem::replace(&mut self.trail, trail)));
    }
}
