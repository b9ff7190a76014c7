//! The outcome as JUnit XML, which CI systems show by themselves: a case for the verdict, one for the checks of deliveries,
//! and one for each assertion.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::html::escape;
use crate::results::{Results, VerdictLevel};

/// Writes it.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)).with_context(|| format!("cannot write {}", path.display()))
}

struct Case {
    name: String,
    /// What was seen, and whether that is a failure.
    seen: String,
    has_failed: bool,
}

fn cases(results: &Results) -> Vec<Case> {
    let found = &results.correctness;
    let verdict = &results.verdict;
    let mut cases = vec![
        Case {
            name: "the generator was not the limit".into(),
            seen: verdict.reasons.join("\n"),
            has_failed: verdict.level == VerdictLevel::Invalid,
        },
        Case {
            name: "every delivery was right".into(),
            seen: format!(
                "{} checked: {} lost, {} duplicated, {} reordered, {} corrupted, {} diverged, {} forgotten\n{}",
                found.checked,
                found.lost,
                found.duplicated,
                found.reordered,
                found.corrupted,
                found.diverged,
                found.forgotten,
                found.examples.join("\n")
            ),
            has_failed: found.faults() > 0,
        },
    ];
    cases.extend(results.assertions.iter().map(|assertion| Case {
        name: assertion.expression.clone(),
        seen: assertion.seen.clone(),
        has_failed: !assertion.held,
    }));
    cases
}

fn render(results: &Results) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = suite(&mut out, results);
    out
}

fn suite(out: &mut String, results: &Results) -> fmt::Result {
    let cases = cases(results);
    let failures = cases.iter().filter(|case| case.has_failed).count();
    let (name, time) = (text(&results.scenario), results.total.seconds);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuites><testsuite name=\"pinwire-loadgen {name}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" \
         skipped=\"0\" time=\"{time:.3}\" timestamp=\"{}\">",
        cases.len(),
        text(&results.started_at)
    )?;
    for case in &cases {
        let seen = text(&case.seen);
        write!(out, "<testcase classname=\"pinwire-loadgen.{name}\" name=\"{}\">", text(&case.name))?;
        if case.has_failed {
            write!(out, "<failure message=\"{}\">{seen}</failure>", seen.lines().next().unwrap_or_default())?;
        } else if !seen.is_empty() {
            write!(out, "<system-out>{seen}</system-out>")?;
        }
        writeln!(out, "</testcase>")?;
    }
    writeln!(out, "</testsuite></testsuites>")
}

/// Text as it may stand in XML 1.0: control characters may not, not even escaped.
fn text(text: &str) -> String {
    let is_fit =
        |c: &char| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    escape(&text.chars().filter(is_fit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::results::{Assertion, VerdictLevel, tests::results};

    #[test]
    fn each_assertion_is_a_case_and_what_failed_says_what_was_seen() {
        let mut results = results();
        let assertion = |expression: &str, held| Assertion {
            expression: expression.into(),
            held,
            seen: "p99 = 3 ms".into(),
        };
        results.assertions = vec![assertion("p99<5ms", true), assertion("p99<1ms", false)];
        results.correctness.lost = 1;
        results.correctness.examples.push("reader \u{1} never got 1 & more".into());
        results.verdict.level = VerdictLevel::Degraded;
        let xml = render(&results);
        assert!(xml.contains("tests=\"4\" failures=\"2\""), "{xml}");
        assert!(xml.contains("name=\"p99&lt;1ms\"><failure message=\"p99 = 3 ms\">"), "{xml}");
        assert!(xml.contains("reader  never got 1 &amp; more"), "{xml}");
    }
}
