//! The pins as every node tells them, asked for some times a second for as long as a scenario lasts: a document is in one region under
//! an epoch, and epochs never fall. Where the registry may forget, both are healed within a lease.

use super::http::Http;
use crate::cluster::{Cluster, nap};
use anyhow::Result;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Hexadecimal digits of a claim's epoch, which come first.
const EPOCH_DIGITS: usize = 16;
/// Problems that are told; more say no more.
const TOLD: usize = 5;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How often each node is asked.
    pub(super) every: Duration,
    /// For so long a claim may be another than the highest that was seen, if the registry may forget.
    pub(super) heals_within: Option<Duration>,
}

/// Threads that ask, one a node: one that is stopped answers late, and holds up no other.
pub(super) struct Watch {
    has_ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

/// What was seen of pins.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Lists of pins that nodes answered.
    pub(super) answers: u64,
    /// Documents, and the claims that each had.
    documents: HashMap<String, Document>,
    /// What should not be.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Default)]
struct Document {
    /// Claims and their regions, each with when it was first told.
    claims: Vec<(String, String, Instant)>,
    /// Since when a lower claim is told than before.
    fallen: Option<Instant>,
}

impl Watch {
    /// Begins to ask all nodes of a cluster.
    pub(super) fn start(cluster: &Cluster, rules: Rules) -> Result<Self> {
        let mut watch = Self { has_ended: Arc::default(), seen: Arc::default(), threads: Vec::new() };
        for node in &cluster.nodes {
            let (host, token) = (node.admin(), node.shared.admin_token.clone());
            let (has_ended, seen) = (Arc::clone(&watch.has_ended), Arc::clone(&watch.seen));
            let ask = move || {
                while !has_ended.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    // A node that is killed, stopped or cut off, or whose registry is away, has no answer.
                    if let Ok(pins) = pins(&host, &token) {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).note(&pins, asked, rules);
                    }
                    while asked.elapsed() < rules.every && !has_ended.load(Ordering::Relaxed) {
                        nap();
                    }
                }
            };
            watch.threads.push(std::thread::Builder::new().name("watch".to_owned()).spawn(ask)?);
        }
        Ok(watch)
    }

    /// Ends it; what was seen.
    pub(super) fn end(self) -> Seen {
        self.has_ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // One that panicked has told why.
            let _ = thread.join();
        }
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All pins, as a node tells them.
pub(super) fn pins(host: &str, token: &str) -> Result<Vec<Value>> {
    let mut http = Http::connect(host, Some(token))?;
    let (mut pins, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http.json(&format!("/v1/pins?limit=500{cursor}"))?;
        pins.extend(page["pins"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(pins),
        }
    }
}

impl Seen {
    /// Different documents and claims.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.documents.len(), self.documents.values().map(|document| document.claims.len()).sum())
    }

    /// Adds an answer to what was asked at some time.
    fn note(&mut self, pins: &[Value], asked: Instant, rules: Rules) {
        self.answers += 1;
        let Self { documents, problems, .. } = self;
        for pin in pins {
            let text = |field: &str| pin[field].as_str().unwrap_or_default();
            let name = format!("{}/{}/{}", text("tenant"), text("app"), text("name"));
            let (claim, region) = (text("claim"), text("region"));
            let known = documents.entry(name.clone()).or_default();
            let mut found = known.note(claim, region, asked, rules);
            let is_home =
                |node: &Value| node.as_str().is_some_and(|node| node.split('/').next() == Some(region));
            if !pin["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(is_home)) {
                found.push(format!("is of {region:?} and held by {}", pin["nodes"]));
            }
            let room = TOLD.saturating_sub(problems.len());
            problems.extend(found.into_iter().take(room).map(|what| format!("{name} {what}")));
        }
    }
}

impl Document {
    /// Adds a claim that was told; what is wrong with it.
    fn note(&mut self, claim: &str, region: &str, asked: Instant, rules: Rules) -> Vec<String> {
        let mut found = Vec::new();
        let epoch = |claim: &str| claim.get(..EPOCH_DIGITS).unwrap_or_default().to_owned();
        // Nobody is a region: the document was taken away from all.
        for (other, of, _) in self.claims.iter().filter(|(_, of, _)| of != region && !of.is_empty()) {
            let is_same = match rules.heals_within {
                // A registry that forgot a claim may give another one for the same epoch; the higher wins.
                Some(_) => other == claim,
                None => epoch(other) == epoch(claim),
            };
            if is_same && !region.is_empty() {
                found.push(format!("is of {of} as {other} and of {region} as {claim}"));
            }
        }
        // Answers of several nodes overtake each other: only what was told before this was asked counts.
        let highest = self.claims.iter().filter(|(_, _, told)| *told < asked).map(|(claim, ..)| claim).max();
        match highest.filter(|highest| highest.as_str() > claim) {
            None => self.fallen = None,
            Some(highest) => {
                let since = *self.fallen.get_or_insert(asked);
                if rules.heals_within.is_none_or(|within| asked.duration_since(since) > within) {
                    found.push(format!("is {claim} of {region} and was {highest}"));
                }
            }
        }
        if !self.claims.iter().any(|(known, of, _)| known == claim && of == region) {
            self.claims.push((claim.to_owned(), region.to_owned(), Instant::now()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STRICT: Rules = Rules { every: Duration::ZERO, heals_within: None };
    const HEALING: Rules = Rules { heals_within: Some(Duration::from_secs(9)), ..STRICT };

    fn pin(region: &str, epoch: u64, nonce: u64, holder: &str) -> Value {
        let claim = format!("{epoch:016x}-{nonce:016x}");
        json!({ "tenant": "t", "app": "a", "name": "d", "region": region, "claim": claim, "nodes": [holder] })
    }

    /// What is wrong with answers, asked for one second after the other.
    fn problems(rules: Rules, answers: &[Value]) -> usize {
        let (mut seen, began) = (Seen::default(), Instant::now());
        for (at, answer) in (1..).zip(answers) {
            seen.note(std::slice::from_ref(answer), began + Duration::from_secs(at), rules);
        }
        assert_eq!(seen.answers, answers.len() as u64);
        seen.problems.len()
    }

    #[test]
    fn claims_that_rise_are_good_wherever_they_are() {
        let rising = [pin("eu", 1, 9, "eu/n/1"), pin("us", 2, 1, "us/n/1"), pin("us", 2, 1, "us/m/1")];
        assert_eq!(problems(STRICT, &rising), 0);
    }

    #[test]
    fn two_regions_in_one_epoch_are_a_problem() {
        let two = [pin("eu", 1, 1, "eu/n/1"), pin("us", 1, 2, "us/n/1")];
        assert_eq!(problems(STRICT, &two), 1);
        assert_eq!(problems(HEALING, &two), 0);
        assert_eq!(problems(HEALING, &[pin("eu", 1, 1, "eu/n/1"), pin("us", 1, 1, "us/n/1")]), 1);
    }

    #[test]
    fn an_epoch_that_falls_is_a_problem_unless_it_rises_again_in_time() {
        let (high, low) = (pin("eu", 2, 1, "eu/n/1"), pin("us", 1, 1, "us/n/1"));
        assert_eq!(problems(STRICT, &[high.clone(), low.clone()]), 1);
        assert_eq!(problems(HEALING, &[high.clone(), low.clone(), high.clone(), low.clone()]), 0);
        let stays = [vec![high], vec![low; 11]].concat();
        assert_eq!(problems(HEALING, &stays), 1);
    }

    #[test]
    fn an_answer_that_was_asked_for_before_the_higher_claim_was_told_is_good() {
        let (mut seen, before) = (Seen::default(), Instant::now());
        seen.note(&[pin("us", 2, 1, "us/n/1")], before, STRICT);
        seen.note(&[pin("eu", 1, 1, "eu/n/1")], before, STRICT);
        assert_eq!(seen.problems, Vec::<String>::new());
    }

    #[test]
    fn a_holder_in_another_region_is_a_problem() {
        assert_eq!(problems(STRICT, &[pin("eu", 1, 1, "us/n/1")]), 1);
    }
}
