//! Everybody wants documents that nobody has, at once and everywhere: each is in exactly one region, always.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Members of a document.
const MEMBERS: u32 = 10;
/// What is promised is promised for so many.
const CLIENTS: u32 = 1_000;
const ROUNDS: [&str; 5] = ["round-1", "round-2", "round-3", "round-4", "round-5"];
const SHORT_ROUNDS: usize = 2;
/// For a round's clients to come.
const COMING: Duration = Duration::from_secs(60);

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let rounds = if rig.plan.is_long { ROUNDS.len() } else { SHORT_ROUNDS };
    let mut of_region: BTreeMap<String, usize> = BTreeMap::new();
    for (number, name) in ROUNDS.into_iter().take(rounds).enumerate() {
        let dialect = if number % 2 == 0 { "y-websocket" } else { "hocuspocus" };
        let clients = CLIENTS;
        let (members, rate, timeout, silence) = (MEMBERS, 100, "20s", None);
        let shape = Shape { name, dialect, clients, members, rate, timeout, silence };
        let documents = shape.documents() as usize;
        let seen = race(rig, shape)?;
        ensure!(seen.len() == documents, "{name}: {} of {documents} documents were pinned", seen.len());
        for (document, owners) in seen {
            rig.outcome.demand(owners.len() == 1, || format!("{document} was pinned as {owners:?}"));
            *of_region.entry(owners[0].0.clone()).or_default() += 1;
        }
        rig.wait_until_all_are_back(name)?;
        rig.end_loads()?;
    }
    let lost = rig.sum("pinwire_pins_lost_total")?;
    rig.outcome.demand(lost == 0.0, || format!("{lost} pins were lost to another region"));
    rig.outcome.note(format!("{rounds} rounds, documents by region: {of_region:?}"));
    Ok(())
}

/// Region and claim of a pin.
type Owner = (String, String);

/// One round: all owners that any document had while its clients came, and a while longer.
fn race(rig: &mut Rig, shape: Shape) -> Result<BTreeMap<String, Vec<Owner>>> {
    let urls = rig.urls();
    let documents = shape.documents() as usize;
    let prefix = format!("{}-", shape.name);
    rig.start_load(shape, &urls, &["--dialling", "1000"])?;
    let began = Instant::now();
    let mut seen: BTreeMap<String, Vec<Owner>> = BTreeMap::new();
    let mut complete_since = None;
    while complete_since.is_none_or(|since: Instant| since.elapsed() < rig.plan.hold) {
        ensure!(began.elapsed() < COMING, "{prefix}: {} of {documents} documents are pinned", seen.len());
        for pin in rig.pins()? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = text(&pin["name"]);
            if !name.starts_with(&prefix) {
                continue;
            }
            let owner = (text(&pin["region"]), text(&pin["claim"]));
            let nodes = pin["nodes"].as_array().map_or(&[][..], Vec::as_slice);
            let is_home =
                |node: &Value| node.as_str().is_some_and(|node| node.starts_with(&format!("{}/", owner.0)));
            rig.outcome
                .demand(nodes.iter().all(is_home), || format!("{name} of {} is held by {nodes:?}", owner.0));
            let owners = seen.entry(name).or_default();
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        if seen.len() == documents {
            complete_since.get_or_insert_with(Instant::now);
        }
    }
    rig.wait_until_writing()?;
    Ok(seen)
}
