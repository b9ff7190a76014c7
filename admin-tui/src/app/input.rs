//! Keys, mouse and the command line.

use ratatui::crossterm::event::{Event, KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;

use super::prompt::Typed;
use super::{App, Command, Kind, Prompt, PromptKind};
use crate::keys::Does;
use crate::list::{Target, full_name};
use crate::model::Millis;
use crate::theme::Palette;

/// Why there is no other theme.
const PLAIN: &str = "NO_COLOR is set: the theme is mono";

/// What happens at the terminal.
pub type Input = Event;

/// Commands of the command line, beside the names of views: what they are called, what stands behind, in words.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("node", "NAME", "the node whose name has this in it"),
    ("region", "NAME", "the nodes of a region"),
    ("document", "TENANT::APP::NAME", "a document"),
    ("app", "TENANT::APP", "an app, its limits and its record"),
    ("context", "NAME", "another cluster of the configuration"),
    ("filter", "TERMS", "filter the list"),
    ("sort", "FIELD [desc]", "sort the list; nothing: as rows come"),
    ("follow", "", "stay at the newest row, or do not"),
    ("theme", "NAME", "safe, high-contrast, light or mono"),
    ("copy", "", "copy what is selected"),
    ("save", "FILE", "write the last 5 minutes, or what led to what is wrong, as a recording"),
    ("bundle", "FILE", "write a redacted support bundle"),
    ("drain", "", "drain the node"),
    ("undrain", "", "take the node back into service"),
    ("move", "REGION", "move the document"),
    ("close", "", "close the connection"),
    ("unpin", "", "take the document away from its region"),
    ("log", "FILTER [SECONDS]", "log something else on the node"),
    ("pause", "", "pause, or go on"),
    ("seek", "SECONDS", "go forward or back in a replay"),
    ("help", "", "what the keys do"),
    ("quit", "", "leave"),
];

impl App {
    /// Takes what happened at the terminal. `list` is where rows were drawn last.
    pub fn input(&mut self, input: &Input, list: Rect, now: Millis) -> Vec<Command> {
        let commands = match input {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key, now),
            Event::Paste(text) => {
                if let Some(confirm) = &mut self.confirm {
                    confirm.typed.paste(text);
                } else if let Some(prompt) = &mut self.prompt {
                    prompt.paste(text);
                    self.typed(now);
                }
                Vec::new()
            }
            Event::Mouse(mouse) => self.mouse(mouse, list, now),
            _ => Vec::new(),
        };
        self.arrange(now);
        self.hold(now);
        commands
    }

    /// Keeps in mind what the cursor is on.
    fn hold(&mut self, now: Millis) {
        let target = self.target(now);
        self.pane_mut().target = Some(target).filter(|target| *target != Target::Nothing);
    }

    fn mouse(&mut self, mouse: &MouseEvent, list: Rect, now: Millis) -> Vec<Command> {
        // What stands above the list is not clicked through.
        if self.confirm.is_some() || self.prompt.is_some() || self.is_help || self.outcomes.is_some() {
            if matches!(mouse.kind, MouseEventKind::Down(_)) {
                self.outcomes = None;
                (self.is_help, self.help_page) = (false, 0);
            }
            return Vec::new();
        }
        match mouse.kind {
            MouseEventKind::ScrollUp => self.step(-3),
            MouseEventKind::ScrollDown => self.step(3),
            MouseEventKind::Down(MouseButton::Left) if list.contains((mouse.column, mouse.row).into()) => {
                let pane = self.pane();
                let row = pane.offset + usize::from(mouse.row - list.y);
                if row == pane.cursor {
                    let target = self.target(now);
                    self.open(target);
                } else if row < self.rows().len() {
                    self.pane_mut().is_following = false;
                    self.pane_mut().cursor = row;
                }
            }
            _ => {}
        }
        Vec::new()
    }

    pub(super) fn step(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        let pane = self.pane_mut();
        pane.is_following = false;
        pane.cursor = pane.cursor.saturating_add_signed(by).min(last);
    }

    fn key(&mut self, key: &KeyEvent, now: Millis) -> Vec<Command> {
        if self.confirm.is_some() {
            return self.key_of_confirm(key, now);
        }
        if self.prompt.is_some() {
            return self.key_of_prompt(key, now);
        }
        let does = self.options.keys.does(key);
        if self.outcomes.is_some() && does != Some(Does::Quit) {
            self.outcomes = None;
            return Vec::new();
        }
        if self.is_help && does != Some(Does::Quit) {
            match does {
                Some(Does::Down | Does::PageDown) => self.help_page += 1,
                _ => (self.is_help, self.help_page) = (false, 0),
            }
            return Vec::new();
        }
        does.map_or_else(Vec::new, |does| self.does(does, now))
    }

    fn does(&mut self, does: Does, now: Millis) -> Vec<Command> {
        let page = isize::try_from(self.page.max(1)).unwrap_or(1);
        match does {
            Does::Quit => return vec![Command::Quit],
            Does::Redraw => return vec![Command::Redraw],
            Does::Help => self.is_help = true,
            Does::Up => self.step(-1),
            Does::Down => self.step(1),
            Does::PageUp => self.step(-page),
            Does::PageDown => self.step(page),
            Does::First => self.step(isize::MIN / 2),
            Does::Last => self.step(isize::MAX / 2),
            Does::Left => self.show(self.screen.kind.beside(-1)),
            Does::Right => self.show(self.screen.kind.beside(1)),
            Does::Open => {
                let target = self.target(now);
                self.open(target);
            }
            Does::Back if !self.pane().filter_text.is_empty() => {
                let _ = self.pane_mut().set_filter("", &[]);
            }
            Does::Back => self.back(),
            Does::HistoryBack => self.travel(-1),
            Does::HistoryForward => self.travel(1),
            Does::LastView => self.toggle(now),
            Does::Filter if self.list().is_some() => {
                let text = self.pane().filter_text;
                self.prompt = Some(Prompt::new(PromptKind::Filter, &text));
            }
            Does::Filter => self.say("there is nothing to filter in this view", now),
            Does::Command => self.prompt = Some(Prompt::new(PromptKind::Command, "")),
            Does::SortNext => self.sort_beside(1),
            Does::SortBefore => self.sort_beside(-1),
            Does::SortTurn => {
                let pane = self.pane_mut();
                pane.version += 1;
                if let Some(sort) = &mut pane.sort {
                    sort.is_descending = !sort.is_descending;
                }
            }
            Does::Follow => {
                let pane = self.pane_mut();
                pane.is_following = !pane.is_following;
                let text = if pane.is_following { "following the newest row" } else { "no longer following" };
                self.say(text, now);
            }
            Does::Mark => {
                if !self.mark(now) {
                    self.step(page);
                }
            }
            Does::MarkRange => self.mark_range(now),
            Does::Unmark => self.unmark(),
            Does::Copy => return self.copy(now),
            Does::Save if self.options.is_replay => self.say("this is a recording already", now),
            Does::Save => {
                let stamp: String =
                    crate::format::date(now).chars().filter(|letter| !":-".contains(*letter)).collect();
                let line = format!("save pinwire-{stamp}.ndjson");
                self.prompt = Some(Prompt::new(PromptKind::Command, &line));
            }
            Does::Theme if self.options.is_plain => self.say(PLAIN, now),
            Does::Theme => {
                self.options.theme.palette = self.options.theme.palette.next();
                self.say(format!("theme {}", self.options.theme.palette.name()), now);
            }
            Does::Show(kind) => self.show(kind),
            Does::Drain | Does::Undrain | Does::Move | Does::Close | Does::Unpin | Does::LogLevel => {
                self.want(does, "", now);
            }
            Does::Pause => self.pause(now),
            Does::SeekBack => return vec![Command::Seek(-10_000)],
            Does::SeekForward => return vec![Command::Seek(10_000)],
        }
        Vec::new()
    }

    fn sort_beside(&mut self, step: isize) {
        let Some(list) = self.list() else { return };
        let fields = list.fields();
        self.pane_mut()
            .sort_beside(step, fields.len(), |field| fields.get(field).is_some_and(|field| field.is_number));
    }

    fn pause(&mut self, now: Millis) {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            for (update, at) in std::mem::take(&mut self.held) {
                self.model.apply(update, at);
            }
        }
        self.say(if self.is_paused { "paused: what is shown stands still" } else { "goes on" }, now);
    }

    fn copy(&mut self, now: Millis) -> Vec<Command> {
        if let Some(text) = self.text(now) {
            self.say("copied what it says", now);
            return vec![Command::Copy(text)];
        }
        let text = match self.target(now) {
            Target::Nothing => None,
            Target::Region(region) => Some(region),
            Target::App((tenant, app)) => Some(format!("{tenant}::{app}")),
            Target::Node(node) => self.model.node(node).map(|node| node.address().to_string()),
            Target::Document(name) | Target::Pin { name, .. } => {
                Some(format!("{}::{}::{}", name.tenant, name.app, name.name))
            }
            Target::Connection { id, .. } => Some(id),
        };
        let Some(text) = text else {
            self.say("there is nothing to copy here", now);
            return Vec::new();
        };
        self.say(format!("copied: {text}"), now);
        vec![Command::Copy(text)]
    }

    fn key_of_prompt(&mut self, key: &KeyEvent, now: Millis) -> Vec<Command> {
        let Some(prompt) = &mut self.prompt else { return Vec::new() };
        match prompt.key(key) {
            Typed::More => self.typed(now),
            Typed::Given => {
                if prompt.kind == PromptKind::Filter {
                    let _ = self.pane_mut().set_filter("", &[]);
                }
                self.prompt = None;
            }
            Typed::Complete => self.complete(now),
            Typed::Done if prompt.slip.is_some() && prompt.kind == PromptKind::Filter => {}
            Typed::Done => {
                let (kind, text) = (prompt.kind, prompt.text());
                self.prompt = None;
                if kind == PromptKind::Command {
                    return self.command(&text, now);
                }
            }
        }
        Vec::new()
    }

    /// A filter holds while it is typed.
    fn typed(&mut self, _now: Millis) {
        let Some(prompt) = &self.prompt else { return };
        if prompt.kind != PromptKind::Filter {
            return;
        }
        let names = self.list().map_or_else(Vec::new, crate::list::List::field_names);
        let text = prompt.text();
        let slip = self.pane_mut().set_filter(&text, &names).err().map(|slip| slip.0);
        if let Some(prompt) = &mut self.prompt {
            prompt.slip = slip;
        }
    }

    fn complete(&mut self, now: Millis) {
        let Some(prompt) = &self.prompt else { return };
        let (kind, text) = (prompt.kind, prompt.text());
        let (before, word) =
            text.rsplit_once(' ').map_or(("", text.as_str()), |(before, word)| (before, word));
        let is_first = before.is_empty() && !text.contains(' ');
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let fields = |list: Option<crate::list::List>| {
            owned(list.map_or_else(Vec::new, crate::list::List::field_names))
        };
        let view = Kind::ALL.iter().find(|(_, name)| before.split(' ').next() == Some(name));
        let (choices, behind) = match (kind, before) {
            (PromptKind::Command, _) if is_first => {
                let views = Kind::ALL.iter().map(|(_, name)| *name);
                (owned(views.chain(COMMANDS.iter().map(|(name, ..)| *name)).collect()), " ")
            }
            (PromptKind::Command, "theme") => (owned(vec!["safe", "high-contrast", "light", "mono"]), ""),
            (PromptKind::Command, "move" | "region") => (self.regions(now), ""),
            (PromptKind::Command, "node") => (self.model.nodes().map(|(_, node)| node.label()).collect(), ""),
            (PromptKind::Command, "sort") => (fields(self.list()), " "),
            // `pins reg`: of the view that is named.
            (PromptKind::Command, _) => (fields(view.map_or(self.list(), |(kind, _)| kind.list())), "="),
            (PromptKind::Filter, _) => (fields(self.list()), "="),
        };
        let mut fits = choices.iter().filter(|choice| choice.starts_with(word) && !word.is_empty());
        if let (Some(choice), Some(prompt)) = (fits.next(), &mut self.prompt) {
            let space = if is_first { "" } else { " " };
            prompt.set(&format!("{before}{space}{choice}{behind}"));
        }
    }

    /// Does what a line of the command line says.
    pub fn command(&mut self, line: &str, now: Millis) -> Vec<Command> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if word.is_empty() {
            return Vec::new();
        }
        let known = COMMANDS.iter().map(|(name, ..)| *name).chain(["q", "q!", "h", "doc"]);
        let word = known.clone().find(|name| *name == word).unwrap_or(word);
        match word {
            "q" | "q!" | "quit" => return vec![Command::Quit],
            "h" | "help" => self.is_help = true,
            "filter" => self.set(|pane, names| pane.set_filter(rest, names), now),
            "sort" => self.set(|pane, names| pane.set_sort(rest, names), now),
            "follow" => return self.does(Does::Follow, now),
            "copy" => return self.copy(now),
            "pause" => self.pause(now),
            "context" if rest.is_empty() => self.say("which one? `pinwire-admin contexts` lists them", now),
            "context" => return vec![Command::Context(rest.to_owned())],
            "bundle" if rest.is_empty() => self.say("a name for the file is missing: bundle FILE", now),
            "bundle" => return vec![Command::Bundle(rest.to_owned())],
            "save" if self.options.is_replay => self.say("this is a recording already", now),
            "save" if rest.is_empty() => self.say("a name for the file is missing: save FILE", now),
            "save" => return vec![Command::Save(rest.to_owned())],
            "seek" => match rest.parse::<i64>() {
                Ok(seconds) => return vec![Command::Seek(seconds.saturating_mul(1000))],
                Err(_) => self.say("so many seconds: seek -30", now),
            },
            "theme" if self.options.is_plain => self.say(PLAIN, now),
            "theme" => match <Palette as clap::ValueEnum>::from_str(rest, true) {
                Ok(palette) => self.options.theme.palette = palette,
                Err(_) => self.say("there are safe, high-contrast, light and mono", now),
            },
            "drain" => self.want(Does::Drain, rest, now),
            "undrain" => self.want(Does::Undrain, rest, now),
            "move" => self.want(Does::Move, rest, now),
            "close" => self.want(Does::Close, rest, now),
            "unpin" => self.want(Does::Unpin, rest, now),
            "log" => self.want(Does::LogLevel, rest, now),
            "node" if !rest.is_empty() => {
                let found = self.model.nodes().find(|(_, node)| node.label().contains(rest));
                match found.map(|(number, _)| number) {
                    Some(node) => self.open(Target::Node(node)),
                    None => self.say(format!("there is no node with `{rest}` in its name"), now),
                }
            }
            "app" if !rest.is_empty() => match rest.split_once("::") {
                Some((tenant, app)) => self.open(Target::App((tenant.into(), app.into()))),
                None => self.say("write app TENANT::APP", now),
            },
            "region" if !rest.is_empty() => self.open(Target::Region(rest.to_owned())),
            "document" | "doc" if !rest.is_empty() => match full_name(rest) {
                Some(name) => self.open(Target::Document(name)),
                None => self.say("write document TENANT::APP::NAME", now),
            },
            _ => self.view_command(word, rest, now),
        }
        Vec::new()
    }

    /// `pins region=eu`: a view, and a filter for it.
    fn view_command(&mut self, word: &str, rest: &str, now: Millis) {
        let views = &Kind::ALL[..];
        let exact = views.iter().find(|(_, name)| *name == word);
        let Some((kind, _)) = exact.or_else(|| views.iter().find(|(_, name)| name.starts_with(word))) else {
            let names = views.iter().map(|(_, name)| *name).chain(COMMANDS.iter().map(|(name, ..)| *name));
            let near = names.min_by_key(|name| strsim::damerau_levenshtein(name, word)).unwrap_or("help");
            self.say(
                format!(
                    "`{word}` is no command; did you mean {near}? {} shows the keys",
                    self.options.keys.key(Does::Help)
                ),
                now,
            );
            return;
        };
        match kind {
            Kind::Node | Kind::Document | Kind::App => self.say(format!("write {} NAME", kind.name()), now),
            kind => {
                self.show_from(*kind, Vec::new());
                if !rest.is_empty() {
                    self.set(|pane, names| pane.set_filter(rest, names), now);
                }
            }
        }
    }

    fn set(
        &mut self,
        change: impl FnOnce(&mut super::Pane, &[&str]) -> Result<(), crate::query::Slip>,
        now: Millis,
    ) {
        let names = self.list().map_or_else(Vec::new, crate::list::List::field_names);
        if let Err(slip) = change(self.pane_mut(), &names) {
            self.say(slip.0, now);
        }
    }
}
