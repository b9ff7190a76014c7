//! Actions: asked for, shown with what they do, confirmed by typing a name, handed over.

use ratatui::crossterm::event::KeyEvent;

use super::action::Action;
use super::prompt::Typed;
use super::{App, Command, Kind, Prompt, PromptKind};
use crate::client::Address;
use crate::keys::Does;
use crate::list::Target;
use crate::model::Millis;

/// An action that waits for its name to be typed.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// Which.
    pub action: Action,
    /// The node that is asked.
    pub address: Address,
    /// What has been typed.
    pub typed: Prompt,
}

impl App {
    /// Somebody wants something done with what is selected.
    pub(super) fn want(&mut self, does: Does, argument: &str, now: Millis) {
        match self.action(does, argument, now) {
            Ok((action, address)) => {
                self.confirm = Some(Confirm { action, address, typed: Prompt::new(PromptKind::Command, "") });
            }
            Err(why) => self.say(why, now),
        }
    }

    fn action(&mut self, does: Does, argument: &str, now: Millis) -> Result<(Action, Address), String> {
        if self.options.is_replay {
            return Err("a recording cannot be changed".into());
        }
        if !self.options.may_act {
            return Err("this console only looks: start it with --rw to act".into());
        }
        let target = self.target(now);
        let node = match (&target, self.screen.scope.node) {
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
        let of_document = || match &target {
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
                (Action::Drain { node }, address)
            }
            Does::Undrain => {
                let (node, address) = of_node()?;
                (Action::Undrain { node }, address)
            }
            Does::LogLevel => {
                let (node, address) = of_node()?;
                let mut words = argument.split_whitespace();
                let filter = words.next().unwrap_or("info,pinwire_node=debug").to_owned();
                let seconds = match words.next() {
                    Some(word) => word.parse().map_err(|_| format!("`{word}` is no number of seconds"))?,
                    None => 300,
                };
                (Action::Log { node, filter, seconds }, address)
            }
            Does::Close => match &target {
                Target::Connection { node, id, .. } => {
                    (Action::Close { id: id.clone() }, address(Some(*node))?.1)
                }
                _ => return Err("select a connection first".into()),
            },
            Does::Unpin => {
                let (name, code) = of_document()?;
                let db_code = db_code(code, &name);
                (Action::Unpin { name, db_code }, address(any())?.1)
            }
            Does::Move => {
                let (name, code) = of_document()?;
                let region = argument.trim();
                if region.is_empty() {
                    let regions: Vec<String> = crate::model::regions(&self.model, now)
                        .into_iter()
                        .map(|region| region.name)
                        .collect();
                    self.prompt = Some(Prompt::new(PromptKind::Command, "move "));
                    return Err(format!("to which region? There are {}", regions.join(", ")));
                }
                let db_code = db_code(code, &name);
                (Action::Move { name, region: region.to_owned(), db_code }, address(any())?.1)
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
            Typed::Done if confirm.typed.text() == confirm.action.name() => {
                if let Some(Confirm { action, address, .. }) = self.confirm.take() {
                    self.say(format!("asked for: {}", action.title()), now);
                    return vec![Command::Act(address, action)];
                }
            }
            Typed::Done => confirm.typed.slip = Some("that is not its name".into()),
            Typed::More => confirm.typed.slip = None,
            Typed::Complete => {}
        }
        Vec::new()
    }
}
