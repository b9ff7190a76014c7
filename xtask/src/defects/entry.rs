//! A file of `tests/defects`: a place, a wrong version of it, and the test that must notice.

use crate::shell::root;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Defect {
    /// The file's stem.
    pub(super) name: String,
    /// The source file, relative to the root.
    pub(super) file: String,
    pub(super) check: Check,
    pub(super) from: String,
    pub(super) to: String,
}

/// The tests that must notice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Check {
    pub(super) package: String,
    /// The integration test; the library's own tests where none is named.
    pub(super) test: Option<String>,
    /// Part of the tests' names; all of the binary where none is given.
    pattern: Option<String>,
}

/// All defects, or those that are named.
pub(super) fn read_all(chosen: &[String]) -> Result<Vec<Defect>> {
    let mut defects = Vec::new();
    for entry in fs::read_dir(root().join("tests/defects")).context("tests/defects")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "defect") {
            defects
                .push(parse(&name, &fs::read_to_string(&path)?).with_context(|| format!("defect {name}"))?);
        }
    }
    let known: BTreeSet<&String> = defects.iter().map(|defect| &defect.name).collect();
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
        bail!("no defect is called {unknown}");
    }
    defects.retain(|defect| chosen.is_empty() || chosen.contains(&defect.name));
    ensure!(!defects.is_empty(), "no defect to plant");
    defects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(defects)
}

pub(super) fn parse(name: &str, text: &str) -> Result<Defect> {
    let (head, body) = text.split_once("--- from\n").context("no `--- from` line")?;
    let (from, to) = body.split_once("--- to\n").context("no `--- to` line")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    ensure!(!from.trim().is_empty() && from != to, "nothing would change");
    Ok(Defect {
        name: name.to_owned(),
        file: field("file:").context("no `file:` line")?.to_owned(),
        check: Check::parse(field("test:").context("no `test:` line")?)?,
        from: from.to_owned(),
        to: to.to_owned(),
    })
}

impl Check {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace().peekable();
        let package = words.next().filter(|word| *word == "-p").and_then(|_| words.next());
        let package = package.context("`test:` begins with `-p PACKAGE`")?.to_owned();
        let test = match words.next_if(|word| word.starts_with('-')) {
            None | Some("--lib") => None,
            Some("--test") => Some(words.next().context("`--test` needs a name")?.to_owned()),
            Some(other) => bail!("`{other}` is neither `--lib` nor `--test NAME`"),
        };
        let pattern = words.next().map(str::to_owned);
        ensure!(words.next().is_none(), "`test:` takes one part of a name");
        let check = Self { package, test, pattern };
        let names = [Some(&check.package), check.test.as_ref(), check.pattern.as_ref()];
        let is_plain =
            |name: &str| name.chars().all(|char| char.is_ascii_alphanumeric() || "_-:".contains(char));
        ensure!(names.into_iter().flatten().all(|name| is_plain(name)), "`test:` takes plain names");
        Ok(check)
    }

    /// The same as a filter of nextest.
    pub(super) fn filter(&self) -> String {
        let mut filter = format!("package(={})", self.package);
        match &self.test {
            Some(test) => filter.push_str(&format!(" & kind(test) & binary(={test})")),
            None => filter.push_str(" & kind(lib)"),
        }
        if let Some(pattern) = &self.pattern {
            filter.push_str(&format!(" & test({pattern})"));
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str =
        "# Why.\nfile: shard/src/a.rs\ntest: -p pinwire-shard name\n--- from\none\n--- to\ntwo\n";

    #[test]
    fn an_entry_names_file_test_and_change() {
        let defect = parse("a-name", ENTRY).unwrap();
        assert_eq!(defect.file, "shard/src/a.rs");
        assert_eq!(defect.check.filter(), "package(=pinwire-shard) & kind(lib) & test(name)");
        assert_eq!((defect.from.as_str(), defect.to.as_str()), ("one\n", "two\n"));
    }

    #[test]
    fn an_entry_that_changes_nothing_is_refused() {
        assert!(parse("a-name", &ENTRY.replace("two", "one")).is_err());
        assert!(parse("a-name", &ENTRY.replace("test:", "taste:")).is_err());
        assert!(parse("a-name", &ENTRY.replace("--- to", "--- too")).is_err());
    }

    #[test]
    fn a_check_is_one_binary_and_part_of_a_name() {
        let sim = Check::parse("-p pinwire-tests --test sim every_seed").unwrap();
        assert_eq!(sim.filter(), "package(=pinwire-tests) & kind(test) & binary(=sim) & test(every_seed)");
        let all = Check::parse("-p pinwire-engine --test deadlines").unwrap();
        assert_eq!(all.filter(), "package(=pinwire-engine) & kind(test) & binary(=deadlines)");
        for wrong in ["pinwire-shard name", "-p", "-p a --test", "-p a --bin b", "-p a b c", "-p a b|c"] {
            assert!(Check::parse(wrong).is_err(), "{wrong}");
        }
    }
}
