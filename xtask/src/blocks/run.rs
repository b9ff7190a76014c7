//! Runs the steps of a page in one bash, and compares what they say with what the page shows.

use super::page::{Page, Step};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

const DRIVER: &str = include_str!("driver.sh");
/// A page beyond this hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// What became of a step.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) said: String,
    pub(crate) status: i32,
}

/// The script of a page, for bash.
pub(crate) fn script(page: &Page) -> Result<String> {
    let mut script = DRIVER.to_owned();
    for (at, step) in page.steps.iter().enumerate().filter(|(_, step)| step.not_run.is_none()) {
        parses(&step.script).with_context(|| format!("line {}", step.line))?;
        let _ = write!(script, "\nstep_{at}() {{\n{}\n}}\n", step.script.trim_end());
    }
    for (at, step) in page.steps.iter().enumerate().filter(|(_, step)| step.not_run.is_none()) {
        let _ = match &step.service {
            Some(text) => writeln!(script, "serve {at} '{}'", text.replace('\'', "'\\''")),
            None => writeln!(script, "run {at}"),
        };
    }
    Ok(script)
}

/// True for what bash can read.
pub(crate) fn parses(script: &str) -> Result<()> {
    let output = Command::new("bash").args(["-nc", script]).stdin(Stdio::null()).output().context("bash")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Runs `bash`, a command that is given the script, to its end, and gives the outcome of each step that was begun.
pub(crate) fn run(bash: &mut Command) -> Result<BTreeMap<usize, Outcome>> {
    bash.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = bash.spawn().context("cannot run bash")?;
    let mut stdout = child.stdout.take().context("stdout")?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = std::io::Read::read_to_end(&mut stdout, &mut bytes);
        read.map(|_| bytes)
    });
    let ended = crate::shell::wait_within(&mut child, LIMIT)?;
    let bytes = reader.join().ok().context("the reader panicked")??;
    ensure!(ended.is_some(), "it did not end within {} s", LIMIT.as_secs());
    Ok(outcomes(&String::from_utf8_lossy(&bytes)))
}

fn outcomes(said: &str) -> BTreeMap<usize, Outcome> {
    let mut outcomes = BTreeMap::new();
    for part in said.split('\u{1}') {
        let (head, rest) = part.split_once('\n').unwrap_or((part, ""));
        let mut words = head.split(' ');
        let (kind, at) = (words.next(), words.next().and_then(|at| at.parse().ok()));
        match (kind, at) {
            (Some("begin"), Some(at)) => {
                outcomes.insert(at, Outcome { said: rest.to_owned(), status: -1 });
            }
            (Some("end"), Some(at)) => {
                if let Some(outcome) = outcomes.get_mut(&at) {
                    outcome.status = words.next().and_then(|status| status.parse().ok()).unwrap_or(-1);
                }
            }
            _ => {}
        }
    }
    outcomes
}

/// What is wrong with an outcome, if something is.
pub(crate) fn judge(step: &Step, outcome: Option<&Outcome>) -> Option<String> {
    let Some(Outcome { said, status }) = outcome else { return Some("an earlier one failed".to_owned()) };
    if *status != 0 {
        return Some(format!("ended with {status}:\n{said}"));
    }
    if let Some(missing) = step.says.iter().find(|text| !said.contains(text.as_str())) {
        return Some(format!("did not say `{missing}`:\n{said}"));
    }
    let lines: Vec<&str> = said.lines().collect();
    let shown: Vec<&str> = step.shown.iter().map(String::as_str).collect();
    (!shown.is_empty() && !agree(&shown, &lines))
        .then(|| format!("said something else than the page:\n{said}"))
}

/// Whether lines are those that a page shows, where a line `...` stands for any lines and `...` in a line for any text.
fn agree(shown: &[&str], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=said.len()).any(|skipped| agree(rest, &said[skipped..])),
        (Some((pattern, shown)), Some((line, said))) => {
            line_agrees(pattern.trim_end(), line.trim_end()) && agree(shown, said)
        }
        _ => false,
    }
}

fn line_agrees(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    last.map_or(rest.is_empty(), |last| line.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_a_line_or_what_it_leaves_out() {
        for (shown, said, expected) in [
            ("a\nb", "a\nb", true),
            ("a\nb", "a\nc", false),
            ("a", "a\nb", false),
            ("a\n...", "a\nb\nc", true),
            ("...\nc", "a\nb\nc", true),
            ("...\nd", "a\nb\nc", false),
            ("pid ..., up ... s", "pid 12, up 3.4 s", true),
            ("pid ..., up ... s", "pid 12, up 3.4 m", false),
        ] {
            let (one, other): (Vec<&str>, Vec<&str>) = (shown.lines().collect(), said.lines().collect());
            assert_eq!(agree(&one, &other), expected, "{shown:?} {said:?}");
        }
    }

    #[test]
    fn steps_share_a_shell_and_the_first_that_fails_ends_the_page() {
        let step = |script: &str| Step { script: script.to_owned(), ..Step::default() };
        let mut service = step("echo ready; cat /dev/zero >/dev/null");
        service.service = Some("ready".to_owned());
        let steps = vec![
            service,
            step("word=hello; cd /"),
            step("echo $word $PWD; grep -c ready $service"),
            step("fails false; fails true; echo no"),
            step("echo never"),
        ];
        let page = Page { steps, ..Page::default() };
        let outcomes = run(Command::new("bash").args(["-c", &script(&page).unwrap()])).unwrap();
        assert_eq!(outcomes[&2].said, "hello /\n1\n");
        assert_eq!(judge(&page.steps[2], outcomes.get(&2)), None);
        assert_eq!(outcomes[&3].status, 1);
        assert!(judge(&page.steps[3], outcomes.get(&3)).is_some());
        assert!(judge(&page.steps[4], outcomes.get(&4)).is_some(), "what did not run has not passed");
    }
}
