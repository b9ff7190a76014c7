//! The exit code: what a script learns from a run.

use std::process::ExitCode;

use crate::results::{Results, VerdictLevel};
use crate::team::AgentsLost;

/// How a run ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Good,
    /// 99: an assertion failed, or something was lost, duplicated, reordered, corrupted, forgotten or diverged.
    Failed,
    /// 98: the generator was the limit.
    GeneratorLimit,
    /// 97: the target could not be reached, or was lost.
    TargetLost,
    /// 2: the command line or the scenario is wrong.
    Usage,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Good => 0,
            Exit::Failed => 99,
            Exit::GeneratorLimit => 98,
            Exit::TargetLost => 97,
            Exit::Usage => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(u8::from(exit))
    }
}

/// The exit of a run. Without all of its processes a run says nothing. A target that is gone, and did
/// not come back, explains everything else; a fault is one whatever the generator did; then
/// what an overloaded generator measured is not held against the server.
#[must_use]
pub fn of(results: &Results) -> Exit {
    let connections = &results.connections;
    let lost: u64 = connections.lost.values().sum();
    let is_lost = connections.joined == 0 && connections.dialled > 0
        || lost > 0 && lost >= connections.peak && connections.absent > 0;
    if results.processes.iter().any(|part| part.failure.is_some()) {
        Exit::GeneratorLimit
    } else if is_lost {
        Exit::TargetLost
    } else if results.correctness.faults() > 0 {
        Exit::Failed
    } else if results.verdict.level == VerdictLevel::Invalid {
        Exit::GeneratorLimit
    } else if results.assertions.iter().any(|assertion| !assertion.held) {
        Exit::Failed
    } else {
        Exit::Good
    }
}

/// The exit of a run that could not be done.
#[must_use]
pub fn of_error(error: &anyhow::Error) -> Exit {
    if error.is::<AgentsLost>() { Exit::GeneratorLimit } else { Exit::Usage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Assertion, ProcessPart, tests::results};

    #[test]
    fn what_explains_the_rest_comes_first() {
        let mut run = results();
        assert_eq!(of(&run), Exit::Good);
        run.assertions.push(Assertion { expression: String::new(), held: false, seen: String::new() });
        assert_eq!(of(&run), Exit::Failed);
        run.verdict.level = VerdictLevel::Invalid;
        assert_eq!(of(&run), Exit::GeneratorLimit);
        run.correctness.lost = 1;
        assert_eq!(of(&run), Exit::Failed);
        run.connections.dialled = 5;
        assert_eq!(of(&run), Exit::TargetLost);
        run.connections.joined = 5;
        run.connections.peak = 5;
        assert_eq!(of(&run), Exit::Failed);
        run.connections.lost.insert("reset".into(), 5);
        assert_eq!(of(&run), Exit::Failed, "all are back");
        run.connections.absent = 1;
        assert_eq!(of(&run), Exit::TargetLost);
        run.processes.push(ProcessPart { failure: Some("killed".into()), ..ProcessPart::default() });
        assert_eq!(of(&run), Exit::GeneratorLimit);
    }
}
