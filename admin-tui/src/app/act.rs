//! Actions: asked for, shown with what they do, confirmed by typing a name, handed over. Where rows are marked there is one of each, all
//! confirmed together.

use ratatui::crossterm::event::KeyEvent;

use super::action::Action;
use super::prompt::Typed;
use super::{App, Command, Kind, Prompt, PromptKind};
use crate::client::Address;
use crate::keys::Does;
use crate::list::Target;
use crate::model::Millis;

/// Actions that wait for being named.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// Which, each with the node that is asked: at least one, all of one kind.
    pub actions: Vec<(Address, Action)>,
    /// What has been typed.
    pub typed: Prompt,
}

impl Confirm {
    /// In a few words.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.actions[..] {
            [(_, action)] => action.title(),
            actions => actions.first().map_or_else(String::new, |(_, action)| action.title_of(actions.len())),
        }
    }

    /// What has to be typed: the name of what it is done with; of several what is done, and to how many.
    #[must_use]
    pub fn wanted(&self) -> String {
        match &self.actions[..] {
            [(_, action)] => action.name().to_owned(),
            actions => actions
                .first()
                .map_or_else(String::new, |(_, action)| format!("{} {}", action.verb(), actions.len())),
        }
    }
}

/// What became of several actions that were confirmed together.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// All of them.
    pub title: String,
    /// Each, and what came of it, once that is known.
    pub rows: Vec<(String, Option<Result<(), String>>)>,
}

impl Outcomes {
    /// Takes what came of one. Gives how many are done, if it is one of these.
    pub(super) fn take(&mut self, what: &str, outcome: &Result<String, String>) -> Option<String> {
        let (_, told) = self.rows.iter_mut().find(|(title, told)| title == what && told.is_none())?;
        *told = Some(outcome.as_ref().map(drop).map_err(Clone::clone));
        Some(self.count())
    }

    /// How many are done, and how many are not.
    #[must_use]
    pub fn count(&self) -> String {
        let count = |is_it: fn(&Option<Result<(), String>>) -> bool| {
            self.rows.iter().filter(|(_, told)| is_it(told)).count()
        };
        let (done, failed) =
            (count(|told| matches!(told, Some(Ok(())))), count(|told| matches!(told, Some(Err(_)))));
        let failed = if failed == 0 { String::new() } else { format!(", {failed} not done") };
        format!("{done} of {} done{failed}", self.rows.len())
    }
}

impl App {
    /// Somebody wants something done with what is marked, or else with what is selected.
    pub(super) fn want(&mut self, does: Does, argument: &str, now: Millis) {
        match self.actions(does, argument, now) {
            Err(why) => self.say(why, now),
            Ok(_) if does == Does::Move && argument.trim().is_empty() => {
                let hint = format!("to which region? There are {}", self.regions(now).join(", "));
                self.prompt = Some(Prompt::new(PromptKind::Command, "move ").with_hint(hint));
            }
            Ok(_) if does == Does::Move && !self.regions(now).iter().any(|name| name == argument.trim()) => {
                let regions = self.regions(now).join(", ");
                self.say(format!("there is no region `{}`; there are {regions}", argument.trim()), now);
            }
            Ok(actions) => {
                self.confirm = Some(Confirm { actions, typed: Prompt::new(PromptKind::Command, "") });
            }
        }
    }

    /// Names of the regions that there are.
    pub(super) fn regions(&self, now: Millis) -> Vec<String> {
        crate::model::regions(&self.model, now).into_iter().map(|region| region.name).collect()
    }

    fn actions(&self, does: Does, argument: &str, now: Millis) -> Result<Vec<(Address, Action)>, String> {
        if self.options.is_replay {
            return Err("a recording cannot be changed".into());
        }
        if !self.options.may_act {
            return Err("this console only looks: start it with --rw to act".into());
        }
        let mut targets = self.marked(now);
        if targets.is_empty() {
            targets.push(self.target(now));
        }
        let mut actions = Vec::new();
        for target in &targets {
            let action = self.action(does, argument, target)?;
            // Two connections may be of one document.
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        Ok(actions)
    }

    fn action(&self, does: Does, argument: &str, target: &Target) -> Result<(Address, Action), String> {
        let node = match (target, self.screen.scope.node) {
            (Target::Node(node) | Target::Connection { node, .. }, _) => Some(*node),
            (_, Some(node)) => Some(node),
            _ => None,
        };
        let any = || self.model.nodes().find(|(_, node)| node.is_live()).map(|(number, _)| number);
        let address = |node: Option<usize>| {
            let node = node.and_then(|node| self.model.node(node)).ok_or("no node is reached")?;
            Ok::<_, String>((node.label(), node.address().clone()))
        };
        let of_node = || match node {
            Some(node) => address(Some(node)),
            None => Err("select a node first".into()),
        };
        let of_document = || match target {
            Target::Document(name) | Target::Connection { document: Some(name), .. } => {
                Ok((name.clone(), None))
            }
            Target::Pin { name, db_code, .. } => Ok((name.clone(), db_code.clone())),
            _ => match &self.screen.document {
                Some(name) if self.screen.kind == Kind::Document => Ok((name.clone(), None)),
                _ => Err("select a document or a pin first".to_owned()),
            },
        };
        let db_code = |of_pin: Option<String>, name: &pinwire_admin_api::stream::DocumentName| {
            of_pin.or_else(|| {
                let mut pins = self.model.pins.iter();
                let is_it = |row: &&crate::model::PinRow| {
                    row.pin.name == name.name && row.pin.app == name.app && row.pin.tenant == name.tenant
                };
                pins.find(is_it).and_then(|row| row.db_code.clone())
            })
        };
        Ok(match does {
            Does::Drain => {
                let (node, address) = of_node()?;
                (address, Action::Drain { node })
            }
            Does::Undrain => {
                let (node, address) = of_node()?;
                (address, Action::Undrain { node })
            }
            Does::LogLevel => {
                let (node, address) = of_node()?;
                let mut words = argument.split_whitespace();
                let filter = words.next().unwrap_or("info,pinwire_node=debug").to_owned();
                let seconds = match words.next() {
                    Some(word) => word.parse().map_err(|_| format!("`{word}` is no number of seconds"))?,
                    None => 300,
                };
                (address, Action::Log { node, filter, seconds })
            }
            Does::Close => match target {
                Target::Connection { node, id, .. } => {
                    (address(Some(*node))?.1, Action::Close { id: id.clone() })
                }
                _ => return Err("select a connection first".into()),
            },
            Does::Unpin => {
                let (name, code) = of_document()?;
                let db_code = db_code(code, &name);
                (address(any())?.1, Action::Unpin { name, db_code })
            }
            Does::Move => {
                let (name, code) = of_document()?;
                let db_code = db_code(code, &name);
                let region = argument.trim().to_owned();
                (address(any())?.1, Action::Move { name, region, db_code })
            }
            _ => return Err("that is no action".into()),
        })
    }

    pub(super) fn key_of_confirm(&mut self, key: &KeyEvent, now: Millis) -> Vec<Command> {
        let Some(confirm) = &mut self.confirm else { return Vec::new() };
        match confirm.typed.key(key) {
            Typed::Given => {
                self.confirm = None;
                self.say("given up: nothing was done", now);
            }
            Typed::Done if confirm.typed.text() == confirm.wanted() => {
                return self.confirm.take().map_or_else(Vec::new, |confirm| self.confirmed(confirm, now));
            }
            Typed::Done if confirm.actions.len() > 1 => {
                confirm.typed.slip = Some(format!("that is not `{}`", confirm.wanted()));
            }
            Typed::Done => confirm.typed.slip = Some("that is not its name".into()),
            Typed::More => confirm.typed.slip = None,
            Typed::Complete => {}
        }
        Vec::new()
    }

    fn confirmed(&mut self, confirm: Confirm, now: Millis) -> Vec<Command> {
        let title = confirm.title();
        self.say(format!("asked for: {title}"), now);
        self.unmark();
        if confirm.actions.len() > 1 {
            let rows = confirm.actions.iter().map(|(_, action)| (action.title(), None)).collect();
            self.outcomes = Some(Outcomes { title, rows });
        }
        confirm.actions.into_iter().map(|(address, action)| Command::Act(address, action)).collect()
    }
}
