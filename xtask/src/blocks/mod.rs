//! Every shell block of the documentation, run or, where that cannot be, checked.

mod check;
pub(crate) mod page;
pub(crate) mod run;

use crate::shell::{command, project_files, root, target_dir};
use crate::tally::Tally;
use crate::unit;
use anyhow::{Context, Result};
use page::Page;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Writes what commands say into the pages, instead of comparing.
const WRITE: &str = "--write";

/// Goes before a page's script: what was built already is not built again with the features of one package alone.
const CARGO: &str = "cargo() {
    if [[ \"$1 $2 $3 $5\" == 'run --release -p --' ]]; then
        local program=$4
        shift 5
        \"$program\" \"$@\"
    else
        command cargo \"$@\"
    fi
}
";

/// Runs the pages that are named, or all: [--write] [PAGE...].
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    unit::build(&[])?;
    let (flags, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == WRITE);
    // Pages use fixed ports: two checkouts on one host take turns.
    let lock = File::create(std::env::temp_dir().join("pinwire-blocks.lock"))?;
    lock.lock().context("waiting for another checkout's pages")?;
    let mut tally = Tally::default();
    for file in pages()? {
        if names.is_empty() || names.iter().any(|page| file == Path::new(page)) {
            tally += run_page(&file, !flags.is_empty()).with_context(|| file.display().to_string())?;
        }
    }
    Ok(tally)
}

/// Every page of the project, the first ones first.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = project_files()?;
    pages.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    pages.sort_by_key(|file| (file.components().count(), file.clone()));
    Ok(pages)
}

pub(crate) fn read(file: &Path) -> Result<Page> {
    Page::parse(&fs::read_to_string(root().join(file))?)
}

fn run_page(file: &Path, writes: bool) -> Result<Tally> {
    let page = read(file)?;
    let mut tally = Tally::default();
    for step in page.steps.iter().filter(|step| step.not_run.is_some()) {
        let checked = check::check(&step.script);
        tally.record(report(file, step.line, checked.err().map(|error| format!("{error:#}")).as_deref()));
    }
    if page.is_on_a_machine || page.steps.iter().all(|step| step.not_run.is_some()) {
        return Ok(tally);
    }
    let start = Instant::now();
    let folder = if page.is_in_checkout { root() } else { scratch(file)? };
    let mut bash = command("bash");
    bash.args(["-c", &format!("{CARGO}{}", run::script(&page)?)]).current_dir(folder);
    bash.env("PATH", path()?).env("PAGE", root().join(file));
    bash.env("CARGO_TARGET_DIR", target_dir()).env_remove("CARGO_MANIFEST_DIR");
    let outcomes = run::run(&mut bash)?;
    let page = if writes {
        write(file, &page, &outcomes)?;
        read(file)?
    } else {
        page
    };
    for (at, step) in page.steps.iter().enumerate().filter(|(_, step)| step.not_run.is_none()) {
        tally.record(report(file, step.line, run::judge(step, outcomes.get(&at)).as_deref()));
    }
    println!("{}: {tally}, {:.1} s", file.display(), start.elapsed().as_secs_f64());
    Ok(tally)
}

/// Writes what commands said below those whose page shows something else.
fn write(file: &Path, page: &Page, outcomes: &BTreeMap<usize, run::Outcome>) -> Result<()> {
    let path = root().join(file);
    let mut lines: Vec<String> = fs::read_to_string(&path)?.lines().map(str::to_owned).collect();
    // From the last to the first: the lines before one stay where they are.
    for (at, step) in page.steps.iter().enumerate().rev().filter(|(_, step)| !step.shown.is_empty()) {
        let Some(outcome) = outcomes.get(&at).filter(|outcome| run::judge(step, Some(outcome)).is_some())
        else {
            continue;
        };
        let first = step.line - 1 + step.script.lines().count();
        lines.splice(first..first + step.shown.len(), outcome.said.lines().map(str::to_owned));
        println!("wrote {}:{}", file.display(), step.line);
    }
    fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Says what is wrong with a step, and gives whether nothing is.
pub(crate) fn report(file: &Path, line: usize, wrong: Option<&str>) -> bool {
    if let Some(wrong) = wrong {
        println!("{}:{line}: {wrong}", file.display());
    }
    wrong.is_none()
}

/// An empty folder.
fn scratch(file: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("blocks").join(file.with_extension(""));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The programs of the release build come first.
fn path() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = target_dir().join("release");
    Ok(std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_can_be_read_and_its_blocks_parse() {
        for file in pages().unwrap() {
            let page = read(&file).unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
            for step in page.steps {
                run::parses(&step.script)
                    .unwrap_or_else(|error| panic!("{}:{}: {error:#}", file.display(), step.line));
            }
        }
    }
}
