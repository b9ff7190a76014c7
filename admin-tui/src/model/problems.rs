//! What is wrong right now, in words: the worst first, each with where to look.

use pinwire_admin_api::documents::Document;

use super::{AppName, Link, Millis, Model, NodeState, RegionState, State, apps, regions, words};
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
    /// The app to look at.
    pub app: Option<AppName>,
}

/// A mean turn of this many seconds is felt by clients.
const SLOW_TURN: f64 = 0.05;
/// A thread that works this share of its time has little in reserve.
const BUSY: f64 = 0.75;
/// Deliveries a second from which on a document is looked at, if it is this share of its node's.
const HOT_DELIVERIES: f64 = 5_000.0;
/// Likewise.
const HOT_SHARE: f64 = 0.5;

/// All that is wrong.
#[must_use]
pub fn problems(model: &Model, now: Millis) -> Vec<Problem> {
    let mut found = Vec::new();
    for (number, node) in model.nodes() {
        of_node(number, node, now, &mut found);
    }
    let mut found = gather(found, model);
    for region in regions(model, now) {
        of_region(&region, &mut found);
    }
    of_apps(model, &mut found);
    of_cluster(model, now, &mut found);
    found.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.subject.cmp(&b.subject)));
    found
}

fn about(state: State, subject: impl Into<String>, text: impl Into<String>) -> Problem {
    Problem {
        state,
        subject: subject.into(),
        text: text.into(),
        node: None,
        region: None,
        document: None,
        app: None,
    }
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
        let of_down = |document: &&Document| down.iter().any(|thread| *thread == document.thread.to_string());
        let by = hottest(node.documents().iter().filter(of_down))
            .map_or_else(String::new, |hot| format!("; most was done for {}", in_words(hot)));
        say(State::Bad, format!("data thread {} does not answer{by}", down.join(", ")));
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
        let Some(busy) = load.busy.filter(|busy| *busy > BUSY) else { continue };
        let hot = hottest(node.documents().iter().filter(|document| document.thread == thread.thread));
        let by = hot.map_or_else(String::new, |hot| format!(": most of it {}", in_words(hot)));
        let text = format!("thread {} works {} of its time{by}", thread.thread, format::share(busy));
        found.push(Problem {
            node: Some(number),
            document: hot.map(named),
            ..about(State::Doubtful, node.label(), text)
        });
    }
    of_hot_documents(number, node, found);
    let lately = node.flown_lately().filter(|flown| flown.rate(flown.refused) >= 1.0);
    if let Some(flown) = lately {
        let rate = format::number(flown.rate(flown.refused));
        let text = format!("turns {rate} clients a second away: {}", flown.why(2));
        found.push(Problem { node: Some(number), ..about(State::Doubtful, node.label(), text) });
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
}

/// Deliveries a second: each edit goes to each member.
fn deliveries(document: &Document) -> f64 {
    document.edits_per_second * document.members as f64
}

fn hottest<'node>(documents: impl Iterator<Item = &'node Document>) -> Option<&'node Document> {
    documents.max_by(|a, b| deliveries(a).total_cmp(&deliveries(b))).filter(|hot| deliveries(hot) > 0.0)
}

fn named(document: &Document) -> (String, String, String) {
    (document.tenant.clone(), document.app.clone(), document.name.clone())
}

fn in_words(hot: &Document) -> String {
    let edits = format::number(hot.edits_per_second);
    format!("{}, {} members, {edits} edits/s", hot.name, hot.members)
}

/// One document that is most of what a node does, where that is much.
fn of_hot_documents(number: usize, node: &NodeState, found: &mut Vec<Problem>) {
    let all: f64 = node.documents().iter().map(deliveries).sum();
    let Some(hot) = hottest(node.documents().iter()) else { return };
    let own = deliveries(hot);
    if own < HOT_DELIVERIES || own < all * HOT_SHARE {
        return;
    }
    let text = format!(
        "is hot: {} members, {} edits/s, {} deliveries/s, {} of what {} delivers",
        hot.members,
        format::number(hot.edits_per_second),
        format::number(own),
        format::share(own / all),
        node.label()
    );
    found.push(Problem {
        node: Some(number),
        document: Some(named(hot)),
        ..about(State::Doubtful, hot.name.clone(), text)
    });
}

/// Several nodes that say the same say it once, as their region, or as so many nodes.
fn gather(found: Vec<Problem>, model: &Model) -> Vec<Problem> {
    let mut gathered: Vec<Problem> = Vec::new();
    let mut nodes: Vec<Vec<usize>> = Vec::new();
    for problem in found {
        let plain = problem.document.is_none() && problem.app.is_none() && problem.region.is_none();
        let same = gathered.iter().position(|known| {
            plain
                && known.node.is_some()
                && (&known.text, known.state, &known.document) == (&problem.text, problem.state, &None)
        });
        match (same, problem.node) {
            (Some(at), Some(node)) => nodes[at].push(node),
            _ => {
                nodes.push(problem.node.into_iter().collect());
                gathered.push(problem);
            }
        }
    }
    for (problem, nodes) in gathered.iter_mut().zip(nodes) {
        if nodes.len() < 2 {
            continue;
        }
        let region = |node: &usize| model.node(*node).and_then(NodeState::region).map(str::to_owned);
        let first = nodes.first().and_then(region);
        let is_one = nodes.iter().all(|node| region(node) == first);
        problem.text = format!("{} nodes: each {}", nodes.len(), problem.text);
        match first.filter(|_| is_one) {
            Some(region) => {
                problem.subject.clone_from(&region);
                problem.node = None;
                problem.region = Some(region);
            }
            None => "several regions".clone_into(&mut problem.subject),
        }
    }
    gathered
}

/// Apps that are about to be refused something.
fn of_apps(model: &Model, found: &mut Vec<Problem>) {
    for (name, app) in apps(model) {
        for (what, used) in [
            ("connections", app.connections),
            ("documents", app.documents),
            ("operations a minute", app.operations),
        ] {
            let Some(limit) = used.limit.filter(|_| used.share().is_some_and(|share| share >= 0.95)) else {
                continue;
            };
            let text = format!("uses {} of its {limit} {what}", used.used);
            let subject = format!("app {}::{}", name.0, name.1);
            found.push(Problem { app: Some(name.clone()), ..about(State::Doubtful, subject, text) });
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
        let others = match region.seen.first() {
            Some((health, by)) if health == "unreachable" => format!(", nor by {by}"),
            Some((health, by)) => format!("; {by} has it as {health}"),
            None => String::new(),
        };
        say(State::Bad, format!("no node of it is reached by the console{others}"));
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
