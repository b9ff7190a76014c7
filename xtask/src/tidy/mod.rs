//! House rules as an ordinary test: what the compiler and clippy do not check.
//!
//! [`source`] reads one Rust file and says what it uses; [`rules`] says what is allowed where. Both are tested with snippets
//! that break each rule.

mod dependencies;
mod files;
mod rules;
mod source;

use crate::shell::{project_files, root};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines beyond which a file is listed as a place to ask whether it is still one concept.
const LONG_FILE_LINES: usize = 700;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Checks the checkout; prints every violation before it fails.
pub(crate) fn run(_args: &[String]) -> Result<Tally> {
    let root = root();
    let files = project_files()?;
    let (mut violations, mut functions) = (Vec::new(), BTreeSet::new());
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        violations.extend(check_file(file, &text)?);
        if is_rust(file) {
            functions.extend(files::functions(&text));
        }
        let lines = text.lines().count();
        if is_rust(file) && lines > LONG_FILE_LINES {
            println!("{} has {lines} lines: is it still one concept?", file.display());
        }
    }
    if let Ok(architecture) = fs::read_to_string(root.join("ARCHITECTURE.md")) {
        violations.extend(files::check_file_map(&architecture, &files));
    }
    let regions = fs::read_to_string(root.join("docs/regions.md")).context("docs/regions.md")?;
    violations.extend(files::check_promises(&regions, &functions));
    violations.extend(dependencies::check()?);
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("tidy: {} violations", violations.len());
    }
    Ok(Tally::default())
}

fn check_file(file: &Path, text: &str) -> Result<Vec<Violation>> {
    let mut violations = files::check_text(file, text);
    if is_rust(file) {
        let uses = source::read(text).with_context(|| format!("cannot parse {}", file.display()))?;
        violations.extend(rules::check(file, &uses));
    }
    Ok(violations)
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checkout_is_tidy() {
        super::run(&[]).unwrap();
    }
}
