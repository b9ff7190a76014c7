//! What is wrong right now, in words: the worst first, each with where to look.

use super::{Link, Millis, Model, NodeState, RegionState, State, regions, words};
use crate::format;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much.
    pub state: State,
    /// What it is about.
    pub subject: String,
    /// What, and what is known of why.
    pub text: String,
    /// The node to look at.
    pub node: Option<usize>,
    /// The region to look at.
    pub region: Option<String>,
    /// The document to look at: tenant, app, name.
    pub document: Option<(String, String, String)>,
}

/// A mean turn of this many seconds is felt by clients.
const SLOW_TURN: f64 = 0.05;
/// A thread that works this share of its time has nothing in reserve.
const BUSY: f64 = 0.9;

/// All that is wrong.
#[must_use]
pub fn problems(model: &Model, now: Millis) -> Vec<Problem> {
    let mut found = Vec::new();
    for (number, node) in model.nodes() {
        of_node(number, node, now, &mut found);
    }
    for region in regions(model, now) {
        of_region(&region, &mut found);
    }
    of_cluster(model, now, &mut found);
    found.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.subject.cmp(&b.subject)));
    found
}

fn about(state: State, subject: impl Into<String>, text: impl Into<String>) -> Problem {
    Problem { state, subject: subject.into(), text: text.into(), node: None, region: None, document: None }
}

fn of_node(number: usize, node: &NodeState, now: Millis, found: &mut Vec<Problem>) {
    let mut say = |state: State, text: String| {
        found.push(Problem { node: Some(number), ..about(state, node.label(), text) });
    };
    if let Link::Lost { why, since, is_refusal, .. } = &node.link {
        let for_long = format::age(now.saturating_sub(*since));
        let what = if *is_refusal { "refuses the console" } else { "is not reached" };
        say(State::Bad, format!("{what} for {for_long}: {why}"));
        return;
    }
    let Some(seen) = node.seen() else { return };
    if node.is_stale(now) {
        say(State::Doubtful, format!("has told nothing for {}", format::age(node.age(now).unwrap_or(0))));
    }
    words::wrong(node, now, &mut say);
    let down: Vec<String> = node
        .threads()
        .iter()
        .filter(|thread| !thread.is_up)
        .map(|thread| thread.thread.to_string())
        .collect();
    if !down.is_empty() {
        say(State::Bad, format!("data thread {} does not answer", down.join(", ")));
    }
    if let (Some(open), Some(most)) = (seen.node.process.open_files, seen.node.process.max_files)
        && most > 0
        && open as f64 / most as f64 > 0.9
    {
        say(State::Doubtful, format!("has {open} of {most} file descriptors open"));
    }
    if let Some(turn) = node.turn().filter(|turn| *turn > SLOW_TURN) {
        say(
            State::Doubtful,
            format!("turns of a thread take {} on average: clients wait that long", format::seconds(turn)),
        );
    }
    for (thread, load) in node.threads().iter().zip(node.thread_loads()) {
        if load.busy.is_some_and(|busy| busy > BUSY) {
            let hottest =
                node.documents().iter().filter(|document| document.thread == thread.thread).max_by(|a, b| {
                    (a.edits_per_second * a.members as f64)
                        .total_cmp(&(b.edits_per_second * b.members as f64))
                });
            let document = hottest
                .map(|document| (document.tenant.clone(), document.app.clone(), document.name.clone()));
            let by = hottest.map_or_else(String::new, |hot| {
                format!(
                    ": most of it {}, {} members, {} edits/s",
                    hot.name,
                    hot.members,
                    format::number(hot.edits_per_second)
                )
            });
            let text = format!(
                "thread {} works {} of its time{by}",
                thread.thread,
                format::share(load.busy.unwrap_or(1.0))
            );
            found.push(Problem {
                node: Some(number),
                document,
                ..about(State::Doubtful, node.label(), text)
            });
        }
    }
    if let Some(refusals) = node.load().refusals.filter(|refusals| *refusals >= 1.0) {
        found.push(Problem {
            node: Some(number),
            ..about(
                State::Doubtful,
                node.label(),
                format!("refuses {} clients a second: see its log", format::number(refusals)),
            )
        });
    }
    for document in node.documents().iter().filter(|document| document.is_rejecting) {
        found.push(Problem {
            node: Some(number),
            document: Some((document.tenant.clone(), document.app.clone(), document.name.clone())),
            ..about(
                State::Bad,
                document.name.clone(),
                format!(
                    "drops edits on {}: its store is {} behind",
                    node.label(),
                    format::bytes(document.unstored_bytes as f64)
                ),
            )
        });
    }
    for app in &node.apps {
        for (what, used) in
            [("connections", app.connections), ("documents", app.documents), ("operations", app.operations)]
        {
            if let Some(limit) =
                used.limit.filter(|limit| *limit > 0 && f64::from(used.used) >= 0.95 * f64::from(*limit))
            {
                let text = format!("uses {} of {limit} {what} on {}", used.used, node.label());
                found.push(Problem {
                    node: Some(number),
                    ..about(State::Doubtful, format!("{}::{}", app.tenant, app.app), text)
                });
            }
        }
    }
}

fn of_region(region: &RegionState, found: &mut Vec<Problem>) {
    let mut say = |state: State, text: String| {
        found.push(Problem { region: Some(region.name.clone()), ..about(state, region.name.clone(), text) });
    };
    let by: Vec<&str> =
        region.seen.iter().filter(|(health, _)| health == "unreachable").map(|(_, by)| by.as_str()).collect();
    if !by.is_empty() {
        let what = if region.live > 0 {
            ", though the console reaches it: look at the way between them"
        } else {
            ""
        };
        say(State::Bad, format!("is unreachable from {}{what}", by.join(", ")));
    }
    if region.nodes == 0
        && let Some((health, by)) = region.seen.first()
        && matches!(health.as_str(), "overloaded" | "degraded" | "draining")
    {
        let state = if health == "overloaded" { State::Bad } else { State::Doubtful };
        say(state, format!("is {health}, says {by}; no node of it is watched"));
    }
    if region.nodes > 0 && region.live == 0 {
        say(State::Bad, "no node of it is reached by the console".into());
    }
}

fn of_cluster(model: &Model, now: Millis, found: &mut Vec<Problem>) {
    if let Some(known) = model.known() {
        for code in &known.unanswered {
            found.push(about(
                State::Bad,
                code.clone(),
                "the registry does not answer: documents cannot be opened or moved",
            ));
        }
    }
    let missing: Vec<String> =
        model.unwatched().map(|node| format!("{}/{}", node.region, node.name)).collect();
    if !missing.is_empty() {
        let names = missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let text = format!(
            "{} nodes that registries know are not watched ({names}): name them with --url",
            missing.len()
        );
        found.push(about(State::Unknown, "console", text));
    }
    let fresh = || model.nodes().filter(|(_, node)| !node.is_stale(now)).filter_map(|(_, node)| node.seen());
    let mut versions: Vec<&str> = fresh().map(|seen| seen.node.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        found.push(about(
            State::Doubtful,
            "versions",
            format!("nodes run different ones: {}", versions.join(", ")),
        ));
    }
}
