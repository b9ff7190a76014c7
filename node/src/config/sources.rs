//! Where a configuration comes from: defaults, a file over them, variables over that, flags on top. Every problem is
//! found in one go, each with its place and its mend.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::Draft;
use super::keys::{self, KEYS, Reload, VARIABLE_PREFIX};

/// What a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// Variables, by name; those that do not begin with `PINWIRE_` do not matter.
    pub variables: Vec<(String, String)>,
    /// `KEY=VALUE` of each flag `--set`, in order.
    pub settings: Vec<String>,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// As it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// By the variable of this name.
    Variable(String),
    /// By a flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Origin,
    /// What about, if it is about a key.
    pub key: String,
    /// What is wrong, and how to mend it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, what } = self;
        match place {
            // A default cannot be wrong by itself: what is wrong is that nothing else was set.
            Origin::Default => {}
            place => write!(f, "{place}: ")?,
        }
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(what)
    }
}

/// All that the sources say, as far as it can be read.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) draft: Draft,
    /// Of each of [`KEYS`].
    origins: Vec<Origin>,
    /// What keeps a node from starting.
    pub(super) problems: Vec<Problem>,
    /// What does not.
    pub(super) warnings: Vec<Problem>,
    /// The file cannot be understood at all: nothing else is to be said.
    pub(super) is_unreadable: bool,
}

impl Sources {
    /// Whether a variable sets a key.
    #[must_use]
    pub fn has_variables(&self) -> bool {
        let is_key = |name: &String| KEYS.iter().any(|key| key.variable() == *name && key.name != "log");
        self.variables.iter().any(|(name, _)| is_key(name))
    }

    pub(super) fn read(&self) -> Written {
        let mut written = Written {
            draft: Draft::default(),
            origins: vec![Origin::Default; KEYS.len()],
            problems: Vec::new(),
            warnings: Vec::new(),
            is_unreadable: false,
        };
        if let Some(path) = &self.file {
            match read_text(path) {
                Ok(text) => File { path, text: &text }.read_into(&mut written),
                Err(what) => {
                    let place = Origin::File { path: path.clone(), line: 1, column: 1 };
                    written.problem(place, "", what);
                    written.is_unreadable = true;
                }
            }
            if written.is_unreadable {
                // Whatever else is missing stands in there.
                return written;
            }
        }
        let mut variables = self.variables.clone();
        variables.retain(|(name, _)| name.starts_with(VARIABLE_PREFIX));
        variables.sort();
        for (name, value) in variables {
            let place = Origin::Variable(name.clone());
            match KEYS.iter().position(|key| key.variable() == name) {
                Some(at) => written.set_text(at, &value, place),
                // Others' variables begin so too: only what looks like a slip is told.
                None => {
                    if let Some(meant) = meant_by_variable(&name) {
                        let what = format!("no key has this variable, and it is ignored; is {meant} meant?");
                        written.warnings.push(Problem { place, key: String::new(), what });
                    }
                }
            }
        }
        for setting in &self.settings {
            let Some((name, value)) = setting.split_once('=') else {
                written.problem(Origin::Flag, setting, "has no value; write --set KEY=VALUE".to_owned());
                continue;
            };
            match keys::position(name.trim()) {
                Some(at) => written.set_text(at, value.trim(), Origin::Flag),
                None => written.problem(Origin::Flag, name, unknown(name)),
            }
        }
        written
    }
}

/// Files of a configuration, and those that it names, are small.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The bytes of a file that is one: a pipe would be waited for, a device read for ever.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("cannot be read: it is no regular file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("cannot be read: it has more than {} MiB", FILE_BYTES_MAX >> 20));
    }
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_file(path)?).map_err(|_| "cannot be read: it is no UTF-8 text".to_owned())
}

fn meant_by_variable(wrong: &str) -> Option<String> {
    if wrong == TOKEN_OF_THE_CONSOLE {
        return None;
    }
    let distance = |variable: &String| strsim::damerau_levenshtein(wrong, variable);
    let nearest = KEYS.iter().map(keys::Key::variable).min_by_key(distance)?;
    (distance(&nearest) <= (wrong.len() / 6).max(2)).then_some(nearest)
}

/// A shell that has it for `pinwire-admin` may start a node, too.
const TOKEN_OF_THE_CONSOLE: &str = "PINWIRE_ADMIN_TOKEN";

fn unknown(name: &str) -> String {
    match keys::meant_by(name) {
        Some(meant) => format!("there is no such key; is {meant} meant?"),
        None => {
            "there is no such key; `pinwire-node config schema` and docs/configuration.md have all".to_owned()
        }
    }
}

impl Written {
    /// Where the value of a key was set.
    pub(super) fn origin(&self, name: &str) -> Origin {
        keys::position(name).and_then(|at| self.origins.get(at)).cloned().unwrap_or(Origin::Default)
    }

    /// Whether one of these keys has a value that could not be taken.
    pub(super) fn is_wrong(&self, names: &[&str]) -> bool {
        self.problems.iter().any(|problem| names.contains(&problem.key.as_str()))
    }

    /// Notes what is wrong with the value of a key.
    pub(super) fn wrong(&mut self, name: &str, what: impl Into<String>) {
        self.problem(self.origin(name), name, what.into());
    }

    /// Whether a key was set nowhere.
    pub(super) fn is_default(&self, name: &str) -> bool {
        self.origin(name) == Origin::Default
    }

    /// Notes what is wrong at a place within the value of a key.
    pub(super) fn wrong_at(&mut self, place: Origin, name: &str, what: String) {
        self.problem(place, name, what);
    }

    /// Notes what is doubtful about the value of a key.
    pub(super) fn doubtful(&mut self, name: &str, what: impl Into<String>) {
        let problem = Problem { place: self.origin(name), key: name.to_owned(), what: what.into() };
        self.warnings.push(problem);
    }

    /// Gives the keys that a running node does not take over their values of `running` back.
    pub(super) fn keep_what_needs_a_restart(&mut self, running: &Self) {
        for (at, key) in KEYS.iter().enumerate().filter(|(_, key)| key.reload == Reload::Restart) {
            key.field.copy(&running.draft, &mut self.draft);
            self.origins[at].clone_from(&running.origins[at]);
        }
    }

    fn problem(&mut self, place: Origin, key: &str, what: String) {
        self.problems.push(Problem { place, key: key.to_owned(), what });
    }

    fn set_text(&mut self, at: usize, text: &str, place: Origin) {
        let Some(key) = KEYS.get(at) else { return };
        match key.field.set_text(&mut self.draft, text, Path::new("")) {
            Ok(()) => self.origins[at] = place,
            Err(what) => self.problem(place, key.name, what),
        }
    }

    fn set(&mut self, at: usize, value: &DeValue<'_>, place: Origin, base: &Path) {
        let Some(key) = KEYS.get(at) else { return };
        match key.field.set(&mut self.draft, value, base) {
            Ok(()) => self.origins[at] = place,
            Err(what) => self.problem(place, key.name, what),
        }
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn read_into(&self, written: &mut Written) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        // What follows the first is most often its doing.
        if let Some(error) = errors.first() {
            let place = self.place(error.span().map_or(0, |span| span.start));
            written.problem(place, "", error.message().trim().replace('\n', ", "));
            written.is_unreadable = true;
            return;
        }
        self.table(table.get_ref(), "", written);
    }

    fn table(&self, table: &DeTable<'_>, prefix: &str, written: &mut Written) {
        // In the order of the file, so that problems are.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            self.entry(key, value, prefix, written);
        }
    }

    fn entry(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        prefix: &str,
        written: &mut Written,
    ) {
        let name =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let place = self.place(key.span().start);
        let base = self.path.parent().unwrap_or(Path::new(""));
        if let Some(at) = keys::position(&name) {
            written.set(at, value.get_ref(), place, base);
            if let ("regions", DeValue::Array(tables)) = (name.as_str(), value.get_ref()) {
                let places = tables.iter().map(|table| self.place(table.span().start));
                written
                    .draft
                    .regions
                    .iter_mut()
                    .zip(places)
                    .for_each(|(region, place)| region.place = Some(place));
            }
            return;
        }
        let is_table =
            KEYS.iter().any(|known| known.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')));
        match value.get_ref() {
            DeValue::Table(inner) if is_table || !inner.is_empty() => self.table(inner, &name, written),
            _ if is_table => {
                written.problem(place, &name, format!("is a table: write [{name}] and its keys below"));
            }
            _ => written.problem(place, &name, unknown(&name)),
        }
    }

    fn place(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Origin::File { path: self.path.to_owned(), line, column }
    }
}
