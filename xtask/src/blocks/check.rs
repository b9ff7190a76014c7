//! What can be said of a block that is not run: it parses, and the programs, tasks and flags that it names exist.

use super::run::parses;
use crate::shell::{command, root};
use crate::unit::release_binary;
use anyhow::{Context, Result, ensure};
use std::fs;

/// The project's own programs.
const PROGRAMS: &[&str] = &["pinwire-node", "pinwire-loadgen", "pinwire-bench-server"];

pub(super) fn check(script: &str) -> Result<()> {
    parses(script)?;
    for line in script.replace("\\\n", " ").lines() {
        for part in line.split(['|', ';', '&', '(', ')']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let is_before =
                |word: &&&str| word.contains('=') || matches!(**word, "sudo" | "timeout" | "time");
            let before = words.iter().take_while(is_before).count();
            check_command(&words[before..]).with_context(|| format!("`{}`", part.trim()))?;
        }
    }
    Ok(())
}

fn check_command(words: &[&str]) -> Result<()> {
    match words {
        ["cargo", "xtask", "help", ..] => {}
        ["cargo", "xtask", task, ..] => {
            ensure!(
                crate::HELP.lines().any(|line| line.split_whitespace().next() == Some(task)),
                "no such task"
            );
        }
        ["cargo", "measure", name, ..] => {
            let manifest = fs::read_to_string(root().join("benches/Cargo.toml"))?;
            ensure!(manifest.contains(&format!("name = \"{name}\"")), "no such measurement");
        }
        ["cargo", "run", flags @ ..] => {
            let package = flags.iter().skip_while(|word| !matches!(**word, "-p" | "--package")).nth(1);
            let given = flags.iter().position(|word| *word == "--").map_or(&[][..], |at| &flags[at + 1..]);
            if let Some(package) = package.filter(|package| PROGRAMS.contains(package)) {
                check_flags(package, given)?;
            }
        }
        [program, given @ ..] => {
            let name = program.rsplit('/').next().unwrap_or_default();
            if PROGRAMS.contains(&name) {
                check_flags(name, given)?;
            }
        }
        [] => {}
    }
    Ok(())
}

/// Every flag stands in the help of the program, or of the command that the first words name.
fn check_flags(program: &str, given: &[&str]) -> Result<()> {
    let commands: Vec<&str> = given.iter().copied().take_while(|word| !word.starts_with('-')).collect();
    let help = (0..=commands.len()).rev().find_map(|count| {
        let mut help = command(release_binary(program));
        let output = help.args(&commands[..count]).arg("--help").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let help = help.with_context(|| format!("{program} has no help; `cargo xtask build` makes it"))?;
    for word in given.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
        let flag = word.split('=').next().unwrap_or(word);
        let is_known =
            help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|known| known == flag);
        ensure!(is_known, "{program} does not know {flag}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_measurements_that_are_named_exist() {
        check("cd x && FOO=1 cargo xtask fuzz --seconds 600\ncargo measure density -- \\\n  --driver uring")
            .unwrap();
        assert!(check("cargo xtask surprise").is_err());
        assert!(check("cargo measure surprise").is_err());
        assert!(check("if true; then").is_err(), "it has to parse");
    }
}
