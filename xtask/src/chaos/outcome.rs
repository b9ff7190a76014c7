//! What came of a scenario.

use serde_json::{Value, json};
use std::fmt;

/// Faults that the load generator tells apart.
const FAULTS: [&str; 5] = ["lost", "duplicated", "reordered", "corrupted", "diverged"];

/// See the module's documentation.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) scenario: &'static str,
    pub(super) seconds: f64,
    pub(super) clients: u64,
    pub(super) edits: u64,
    /// Deliveries that were compared with what was sent.
    pub(super) checked: u64,
    /// Connections that ended without their client's wish, and redirects of such as stood.
    pub(super) lost: u64,
    pub(super) redirected: u64,
    pub(super) faults: u64,
    /// Edits that were acknowledged and had to be brought again by their writers.
    pub(super) brought: u64,
    pub(super) absent: u64,
    /// From the loss of a connection until its client was synced again: p50, p99, max, milliseconds. Of several loads the greatest.
    pub(super) recover_ms: [f64; 3],
    /// What was seen besides.
    pub(super) notes: Vec<String>,
    /// What should not be.
    pub(super) problems: Vec<String>,
}

impl Outcome {
    /// Adds what a load found. Where another region took over, it has nothing of what was acknowledged until clients bring it: that is
    /// documented, and no fault.
    pub(super) fn add(&mut self, name: &str, results: &Value, is_taken_over: bool) {
        let number = |path: &str| results.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.clients += number("/connections/wanted");
        self.edits += number("/total/sent");
        self.checked += number("/correctness/checked");
        self.absent += number("/connections/absent");
        self.redirected += number("/connections/redirected");
        let lost = results["connections"]["lost"].as_object();
        self.lost += lost.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        for (slot, name) in self.recover_ms.iter_mut().zip(["p50_ns", "p99_ns", "max_ns"]) {
            *slot = slot.max(number(&format!("/total/latency/recover/{name}")) as f64 / 1e6);
        }
        for fault in FAULTS {
            let count = number(&format!("/correctness/{fault}"));
            self.faults += count;
            if count > 0 {
                self.problems.push(format!("{name}: {count} {fault}"));
            }
        }
        let forgotten = number("/correctness/forgotten");
        self.brought += forgotten;
        if !is_taken_over && forgotten > 0 {
            self.faults += forgotten;
            self.problems.push(format!("{name}: {forgotten} forgotten"));
        }
        let examples = results["correctness"]["examples"].as_array().filter(|_| !self.problems.is_empty());
        for example in examples.cloned().iter().flatten().take(3) {
            self.problems.push(format!("{name}: {}", example.as_str().unwrap_or_default()));
        }
        self.demand(number("/total/sent") > 0, || format!("{name}: nothing was written"));
        self.demand(number("/correctness/converged") > 0, || format!("{name}: nobody was compared"));
        let absent = number("/connections/absent");
        self.demand(absent == 0, || {
            format!("{name}: {absent} clients are not back in the end: {}", results["total"]["errors"])
        });
    }

    /// A problem unless it holds.
    pub(super) fn demand(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// What had to be brought again, where that may be.
    pub(super) fn note_brought(&mut self) {
        if self.brought > 0 {
            self.note(format!(
                "{} acknowledged edits were not there, and brought again by who wrote them",
                self.brought
            ));
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What [`Self::json`] wrote.
    pub(super) fn read(scenario: &'static str, json: &Value) -> Self {
        let number = |name: &str| json[name].as_u64().unwrap_or(0);
        let words = |name: &str| -> Vec<String> {
            let list = json[name].as_array().into_iter().flatten();
            list.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
        };
        Self {
            scenario,
            seconds: json["seconds"].as_f64().unwrap_or(0.0),
            clients: number("clients"),
            edits: number("edits"),
            checked: number("checked"),
            lost: number("lost_connections"),
            redirected: number("redirected"),
            faults: number("faults"),
            brought: number("brought_again"),
            absent: number("absent"),
            recover_ms: ["p50", "p99", "max"].map(|at| json["recover_ms"][at].as_f64().unwrap_or(0.0)),
            notes: words("notes"),
            problems: words("problems"),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "scenario": self.scenario, "seconds": self.seconds, "clients": self.clients, "edits": self.edits,
            "checked": self.checked, "lost_connections": self.lost, "redirected": self.redirected, "faults": self.faults,
            "brought_again": self.brought,
            "absent": self.absent,
            "recover_ms": { "p50": self.recover_ms[0], "p99": self.recover_ms[1], "max": self.recover_ms[2] },
            "notes": self.notes, "problems": self.problems,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.problems.is_empty() { "ok" } else { "FAILED" };
        let [p50, p99, max] = self.recover_ms;
        write!(
            f,
            "{:<18} {word:<6} {:>5.1} s  {} clients, {} edits, {} deliveries checked, {} faults, {} brought again; {} connections lost, {} redirects; back \
             after {p50:.0} / {p99:.0} / {max:.0} ms (p50, p99, max)",
            self.scenario,
            self.seconds,
            self.clients,
            self.edits,
            self.checked,
            self.faults,
            self.brought,
            self.lost,
            self.redirected
        )?;
        for note in &self.notes {
            write!(f, "\n    {note}")?;
        }
        for problem in &self.problems {
            write!(f, "\n    PROBLEM: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let outcome = Outcome {
            scenario: "kill",
            seconds: 1.5,
            clients: 1,
            edits: 2,
            checked: 3,
            lost: 4,
            redirected: 5,
            faults: 6,
            brought: 7,
            absent: 8,
            recover_ms: [1.0, 2.0, 3.0],
            notes: vec!["a note".to_owned()],
            problems: vec!["a problem".to_owned()],
        };
        assert_eq!(Outcome::read("kill", &outcome.json()), outcome);
    }

    #[test]
    fn a_fault_or_a_client_that_stays_away_is_a_problem() {
        let good = json!({
            "connections": { "wanted": 2, "absent": 0, "redirected": 1, "lost": { "reset": 3 } },
            "correctness": { "checked": 9, "converged": 3, "lost": 0, "forgotten": 0 },
            "total": { "sent": 5, "latency": { "recover": { "p50_ns": 2_000_000, "p99_ns": 0, "max_ns": 0 } } },
        });
        let mut outcome = Outcome::default();
        outcome.add("good", &good, false);
        assert!(outcome.problems.is_empty(), "{outcome}");
        assert_eq!((outcome.clients, outcome.lost, outcome.recover_ms[0]), (2, 3, 2.0));
        for (path, value) in [
            ("/correctness/lost", 1),
            ("/correctness/forgotten", 1),
            ("/connections/absent", 1),
            ("/total/sent", 0),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = json!(value);
            let mut outcome = Outcome::default();
            outcome.add("bad", &bad, false);
            assert!(!outcome.problems.is_empty(), "{path}");
        }
    }
}
