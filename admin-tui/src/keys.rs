//! Which key does what: one table, for the program, its help, its hints and its documentation.

use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::app::Kind;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table has the words")]
pub enum Does {
    Quit,
    Help,
    Back,
    Open,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    Filter,
    Command,
    SortNext,
    SortBefore,
    SortTurn,
    HistoryBack,
    HistoryForward,
    LastView,
    Follow,
    Mark,
    MarkRange,
    Unmark,
    Copy,
    Save,
    Theme,
    Redraw,
    Show(Kind),
    Drain,
    Undrain,
    Move,
    Close,
    Unpin,
    LogLevel,
    Pause,
    SeekBack,
    SeekForward,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What it does.
    pub does: Does,
    /// What the configuration calls it.
    pub name: &'static str,
    /// The keys.
    pub keys: &'static [&'static str],
    /// In words.
    pub help: &'static str,
    /// Under which heading.
    pub group: &'static str,
}

const fn row(
    does: Does,
    name: &'static str,
    keys: &'static [&'static str],
    help: &'static str,
    group: &'static str,
) -> Binding {
    Binding { does, name, keys, help, group }
}

const GO: &str = "Go";
const LOOK: &str = "Look";
const ACT: &str = "Act (with --rw)";
const REPLAY: &str = "Replay";

/// The table.
pub const BINDINGS: &[Binding] = &[
    row(Does::Show(Kind::Overview), "overview", &["1"], "overview: the world, totals, what is wrong", GO),
    row(Does::Show(Kind::Regions), "regions", &["2"], "regions, and round trips between them", GO),
    row(Does::Show(Kind::Nodes), "nodes", &["3"], "nodes", GO),
    row(Does::Show(Kind::Pins), "pins", &["4"], "pins: which region has which document", GO),
    row(Does::Show(Kind::Documents), "documents", &["5"], "the busiest documents", GO),
    row(Does::Show(Kind::Connections), "connections", &["6"], "connections", GO),
    row(Does::Show(Kind::Apps), "apps", &["7"], "apps and their limits", GO),
    row(Does::Show(Kind::Events), "events", &["8"], "events, each with its cause", GO),
    row(Does::Show(Kind::Logs), "logs", &["9"], "logs of nodes", GO),
    row(Does::Show(Kind::Audit), "audit", &["0"], "what operators had done", GO),
    row(Does::Show(Kind::Cores), "cores", &["t"], "threads of all nodes, by their load", GO),
    row(Does::Show(Kind::Flow), "flow", &["w"], "where clients went: served, redirected, refused", GO),
    row(Does::Show(Kind::Latency), "latency", &["m"], "round trips between regions over time", GO),
    row(Does::Open, "open", &["enter"], "go into what is selected", GO),
    row(Does::Back, "back", &["esc", "backspace"], "back to where you came from; clears a filter first", GO),
    row(Does::HistoryBack, "history-back", &["["], "one view back in history", GO),
    row(Does::HistoryForward, "history-forward", &["]"], "one view forward in history", GO),
    row(Does::LastView, "last-view", &["-"], "the view before this one, and back again", GO),
    row(Does::Up, "up", &["up", "k"], "up", GO),
    row(Does::Down, "down", &["down", "j"], "down", GO),
    row(Does::PageUp, "page-up", &["pageup", "ctrl-b"], "a page up", GO),
    row(Does::PageDown, "page-down", &["pagedown", "ctrl-f"], "a page down", GO),
    row(Does::First, "first", &["home", "g"], "to the first row", GO),
    row(Does::Last, "last", &["end", "G"], "to the last row", GO),
    row(Does::Left, "left", &["left", "h"], "the view before", GO),
    row(Does::Right, "right", &["right", "l"], "the next view", GO),
    row(Does::Filter, "filter", &["/"], "filter: words, region=eu, occ>80, app=~^a, -f letters, !word", LOOK),
    row(Does::Command, "command", &[":"], "command line; Tab completes", LOOK),
    row(Does::SortNext, "sort-next", &[">"], "sort by the next column", LOOK),
    row(Does::SortBefore, "sort-before", &["<"], "sort by the column before", LOOK),
    row(Does::SortTurn, "sort-turn", &["r"], "turn the order round", LOOK),
    row(Does::Follow, "follow", &["f"], "follow: stay at the newest row", LOOK),
    row(
        Does::Mark,
        "mark",
        &["space"],
        "mark the row, or do not; where no row can be marked, a page down",
        LOOK,
    ),
    row(
        Does::MarkRange,
        "mark-range",
        &["ctrl-space"],
        "mark all rows from the last one marked to this one",
        LOOK,
    ),
    row(Does::Unmark, "unmark", &["u"], "forget all marks", LOOK),
    row(Does::Copy, "copy", &["y"], "copy what is selected (OSC 52, also over SSH)", LOOK),
    row(
        Does::Save,
        "save",
        &["S"],
        "save the last 5 minutes, or what led to what is wrong (KEPT), as a recording",
        LOOK,
    ),
    row(Does::Theme, "theme", &["T"], "the next theme", LOOK),
    row(Does::Help, "help", &["?", "f1"], "this help", LOOK),
    row(Does::Redraw, "redraw", &["ctrl-l"], "draw everything anew", LOOK),
    row(Does::Quit, "quit", &["q", "ctrl-c"], "leave", LOOK),
    row(Does::Drain, "drain", &["D"], "drain the node, or all that are marked; so do the others", ACT),
    row(Does::Undrain, "undrain", &["U"], "take the node back into service", ACT),
    row(Does::Move, "move", &["M"], "move the document to another region", ACT),
    row(Does::Close, "close", &["C"], "close the connection", ACT),
    row(Does::Unpin, "unpin", &["X"], "take the document away from its region", ACT),
    row(Does::LogLevel, "log-level", &["L"], "log something else on the node for a while", ACT),
    row(Does::Pause, "pause", &["p"], "pause a replay, or stop the picture of what is live", REPLAY),
    row(Does::SeekBack, "seek-back", &[","], "10 s back", REPLAY),
    row(Does::SeekForward, "seek-forward", &["."], "10 s forward", REPLAY),
];

/// Keys as they are now: the table's, and what the configuration has instead.
#[derive(Clone, Debug)]
pub struct Keys {
    by_key: HashMap<String, Does>,
    of: HashMap<Does, Vec<String>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self::with(&HashMap::new()).unwrap_or_else(|_| Self { by_key: HashMap::new(), of: HashMap::new() })
    }
}

impl Keys {
    /// With other keys for some names.
    ///
    /// # Errors
    /// A name that is none, or a key that does two things.
    pub fn with(others: &HashMap<String, Vec<String>>) -> Result<Self, String> {
        if let Some(unknown) =
            others.keys().find(|name| BINDINGS.iter().all(|binding| binding.name != **name))
        {
            let near = BINDINGS
                .iter()
                .map(|binding| binding.name)
                .min_by_key(|name| strsim::damerau_levenshtein(name, unknown));
            return Err(format!(
                "keys.{unknown}: there is no such action; did you mean {}?",
                near.unwrap_or("quit")
            ));
        }
        let (mut by_key, mut of) = (HashMap::new(), HashMap::new());
        for binding in BINDINGS {
            let own = || binding.keys.iter().map(|key| (*key).to_owned()).collect();
            let keys: Vec<String> = others.get(binding.name).cloned().unwrap_or_else(own);
            for key in &keys {
                if !is_name(key) {
                    return Err(format!(
                        "keys.{}: there is no key `{key}`: write it as in `ctrl-s`, `f5`, `x`",
                        binding.name
                    ));
                }
                if by_key.insert(key.clone(), binding.does).is_some() {
                    return Err(format!("keys.{}: `{key}` does something else already", binding.name));
                }
            }
            of.insert(binding.does, keys);
        }
        Ok(Self { by_key, of })
    }

    /// What a key does.
    #[must_use]
    pub fn does(&self, key: &KeyEvent) -> Option<Does> {
        self.by_key.get(&name(key)?).copied()
    }

    /// The first key for something.
    #[must_use]
    pub fn key(&self, does: Does) -> &str {
        self.of.get(&does).and_then(|keys| keys.first()).map_or("", String::as_str)
    }

    /// All keys for something.
    #[must_use]
    pub fn all(&self, does: Does) -> &[String] {
        self.of.get(&does).map_or(&[], Vec::as_slice)
    }
}

/// A key's name: `q`, `G`, `ctrl-c`, `pageup`.
#[must_use]
pub fn name(key: &KeyEvent) -> Option<String> {
    let plain = match key.code {
        KeyCode::Char(' ') => "space".to_owned(),
        KeyCode::Char(letter) => letter.to_string(),
        KeyCode::Enter => "enter".into(),
        KeyCode::Esc => "esc".into(),
        KeyCode::Backspace => "backspace".into(),
        KeyCode::Tab => "tab".into(),
        KeyCode::Up => "up".into(),
        KeyCode::Down => "down".into(),
        KeyCode::Left => "left".into(),
        KeyCode::Right => "right".into(),
        KeyCode::PageUp => "pageup".into(),
        KeyCode::PageDown => "pagedown".into(),
        KeyCode::Home => "home".into(),
        KeyCode::End => "end".into(),
        KeyCode::Delete => "delete".into(),
        KeyCode::F(number) => format!("f{number}"),
        _ => return None,
    };
    let mut name = String::new();
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        name.push_str("ctrl-");
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        name.push_str("alt-");
    }
    name.push_str(&plain);
    Some(name)
}

/// Whether [`name`] calls a key that.
fn is_name(text: &str) -> bool {
    let plain = text.strip_prefix("ctrl-").unwrap_or(text);
    let plain = plain.strip_prefix("alt-").unwrap_or(plain);
    let is_letter = plain.chars().count() == 1 && plain != " ";
    let is_function =
        plain.strip_prefix('f').and_then(|number| number.parse().ok()).is_some_and(|number: u8| number > 0);
    is_letter || is_function || NAMES.contains(&plain)
}

/// Keys that are called by a word.
const NAMES: &[&str] = &[
    "space",
    "enter",
    "esc",
    "backspace",
    "tab",
    "up",
    "down",
    "left",
    "right",
    "pageup",
    "pagedown",
    "home",
    "end",
    "delete",
];

/// The table as a page of documentation has it.
#[must_use]
pub fn page() -> String {
    let mut page = String::new();
    for group in [GO, LOOK, ACT, REPLAY] {
        page.push_str(&format!(
            "**{group}**\n\n| keys | what they do | name in `[keys]` |\n| --- | --- | --- |\n"
        ));
        for binding in BINDINGS.iter().filter(|binding| binding.group == group) {
            let keys: Vec<String> = binding.keys.iter().map(|key| format!("`{key}`")).collect();
            page.push_str(&format!("| {} | {} | `{}` |\n", keys.join(" "), binding.help, binding.name));
        }
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        assert!(Keys::with(&HashMap::new()).is_ok());
    }

    #[test]
    fn the_configuration_may_have_other_keys() {
        let keys = Keys::with(&HashMap::from([("quit".to_owned(), vec!["ctrl-q".to_owned()])])).unwrap();
        let key = |code, modifiers| keys.does(&KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::CONTROL), Some(Does::Quit));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), None);
        assert_eq!(keys.key(Does::Quit), "ctrl-q");
        let twice = Keys::with(&HashMap::from([("quit".to_owned(), vec!["?".to_owned()])])).unwrap_err();
        assert!(twice.contains('?'), "{twice}");
        let unknown = Keys::with(&HashMap::from([("qiut".to_owned(), Vec::new())])).unwrap_err();
        assert!(unknown.contains("did you mean quit?"), "{unknown}");
        let none = Keys::with(&HashMap::from([("quit".to_owned(), vec!["hyper-x".to_owned()])])).unwrap_err();
        assert!(none.contains("there is no key `hyper-x`"), "{none}");
        for key in ["ctrl-alt-x", "f12", "space", "é"] {
            assert!(is_name(key), "{key}");
        }
    }

    /// `PINWIRE_UPDATE_PAGES=1` writes the table of the page anew.
    #[test]
    fn the_page_of_the_documentation_has_this_table() {
        const BEGIN: &str = "<!-- keys: begin -->\n";
        const END: &str = "<!-- keys: end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, behind) = rest.split_once(END).unwrap();
        let wanted = format!("{before}{BEGIN}\n{}{END}{behind}", page());
        if std::env::var_os("PINWIRE_UPDATE_PAGES").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == wanted, "PINWIRE_UPDATE_PAGES=1 writes it anew");
    }
}
