//! A measurement's result as a file: what ran, where, the findings, and everything that was read.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::procfs;

/// Where results are kept, from the workspace's root.
pub const RESULTS: &str = "benches/results";

/// A result being written.
#[derive(Debug)]
pub struct Report {
    name: String,
    started: OffsetDateTime,
    text: String,
}

impl Report {
    /// Begins a report; `name` becomes part of the file's.
    #[must_use]
    pub fn new(name: &str, title: &str) -> Self {
        let started = OffsetDateTime::now_utc();
        let mut report = Self { name: name.to_owned(), started, text: format!("# {title}\n\n") };
        let mut context = vec![
            ("date".to_owned(), started.format(&Rfc3339).unwrap_or_default()),
            ("command".to_owned(), format!("`{}`", command_line())),
            ("source".to_owned(), revision()),
        ];
        context.extend(procfs::machine());
        report.table(&["", ""], context.into_iter().map(|(name, value)| vec![name, value]));
        report
    }

    /// Appends a heading.
    pub fn heading(&mut self, text: &str) {
        let _ = write!(self.text, "## {text}\n\n");
    }

    /// Appends a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = write!(self.text, "{text}\n\n");
    }

    /// Appends a table.
    pub fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut row = |cells: &[String]| {
            let _ = writeln!(self.text, "| {} |", cells.join(" | "));
        };
        row(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        row(&head.iter().map(|_| "---".to_owned()).collect::<Vec<_>>());
        rows.into_iter().for_each(|cells| row(&cells));
        self.text.push('\n');
    }

    /// Appends everything that was read, as it was read.
    pub fn raw(&mut self, value: &Value) {
        self.heading("Raw");
        let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
        let _ = write!(self.text, "```json\n{pretty}\n```\n");
    }

    /// What has been written so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the file into `folder` and says where it is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let (date, time) = (self.started.date(), self.started.time());
        let stamp = format!("{date}-{:02}{:02}{:02}", time.hour(), time.minute(), time.second());
        let path = folder.join(format!("{stamp}-{}.md", self.name));
        fs::write(&path, &self.text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// How this process was started, as one would type it; what the allocator is told by its environment is part of that.
fn command_line() -> String {
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("MIMALLOC_"));
    let settings: String = settings.map(|(name, value)| format!("{name}={value} ")).collect();
    let program = std::env::args().next().unwrap_or_default();
    let name = Path::new(&program).file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let separator = if arguments.is_empty() { "" } else { " -- " };
    format!("{settings}cargo measure {name}{separator}{}", arguments.join(" "))
}

/// The commit that is checked out, and whether something was changed since.
fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let is_changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    format!("{}{}", commit.trim(), if is_changed { ", with changes" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_ran_and_where_before_its_findings() {
        let mut report = Report::new("nothing", "Nothing");
        report.heading("Findings");
        report.table(&["a", "b"], [vec!["1".to_owned(), "2".to_owned()]]);
        let text = report.text();
        let places: Vec<_> =
            ["# Nothing", "| command |", "| kernel |", "## Findings\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"]
                .iter()
                .map(|part| text.find(part).unwrap_or_else(|| panic!("{part:?} is not in {text}")))
                .collect();
        assert!(places.is_sorted(), "{text}");
    }
}
