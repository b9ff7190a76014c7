//! Scenario files: TOML, laid over the preset of the kind they name, so that a file holds only what differs.

use anyhow::{Context, Result, bail};

use crate::scenario::Scenario;
use crate::scenario::presets::{NAMES, preset};

/// Reads a scenario file.
///
/// # Errors
/// Names the line, and what is not known there.
pub fn parse(text: &str) -> Result<Scenario> {
    let file: toml::Table =
        text.parse().map_err(|error: toml::de::Error| anyhow::anyhow!("{}", error.to_string().trim_end()))?;
    let kind = file.get("kind").and_then(|kind| kind.get("name")).and_then(toml::Value::as_str);
    let Some(kind) = kind else {
        bail!("kind.name is missing; it is one of {}", NAMES.join(", "));
    };
    let Some(base) = preset(kind) else {
        bail!("kind.name is `{kind}`; it is one of {}", NAMES.join(", "));
    };
    let mut whole = toml::Table::try_from(&base)?;
    lay_over(&mut whole, file);
    whole
        .try_into()
        .map_err(|error: toml::de::Error| {
            let line = line_of(text, error.message());
            match line {
                Some(line) => anyhow::anyhow!("line {line}: {}", error.message()),
                None => anyhow::anyhow!("{}", error.message()),
            }
        })
        .context("not a scenario")
}

/// Tables merge; a load of the other model replaces the whole load, and so does a list.
fn lay_over(whole: &mut toml::Table, file: toml::Table) {
    for (key, value) in file {
        match (whole.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above))
                if !is_other_choice(&key, below, &above) =>
            {
                lay_over(below, above);
            }
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}

fn is_other_choice(key: &str, below: &toml::Table, above: &toml::Table) -> bool {
    matches!(key, "load" | "auth") && !above.keys().any(|choice| below.contains_key(choice))
}

/// The first line with the name that the message puts in backticks.
fn line_of(text: &str, message: &str) -> Option<usize> {
    let name = message.split('`').nth(1)?;
    text.lines()
        .position(|line| line.split(['=', ']']).next().is_some_and(|key| key.contains(name)))
        .map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::scenario::{Kind, Load};

    #[test]
    fn a_file_holds_only_what_differs_from_the_preset() {
        let text =
            "[kind]\nname = \"document\"\nmembers = 3\n[load.closed]\nin_flight = 2\nduration = \"5s\"\n";
        let scenario = parse(text).unwrap();
        assert!(matches!(scenario.kind, Kind::Document { members: 3, documents: 100, .. }));
        assert!(matches!(scenario.load, Load::Closed { in_flight: 2, .. }));
    }

    #[test]
    fn what_is_not_known_is_named_with_its_line() {
        let wrong =
            format!("{:#}", parse("[kind]\nname = \"fanout\"\n\n[clients]\ncuont = 3\n").unwrap_err());
        assert!(wrong.contains("line 5") && wrong.contains("cuont"), "{wrong}");
        assert!(format!("{:#}", parse("[kind]\nname = \"x\"\n").unwrap_err()).contains("slow-reader"));
        assert!(format!("{:#}", parse("[kind\n").unwrap_err()).contains("line 1"));
    }
}
