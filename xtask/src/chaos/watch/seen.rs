//! What has to hold of pins, and of what nodes serve. A document is in one region under an epoch, held in that region alone, and epochs
//! never fall. No two regions serve a document under a lease in the same instant: once a node has said that it serves it under a claim, no
//! other region's says so under a lower one, nor does the same region's; and none does under a claim that the registry gave to
//! another region. Where the registry may forget, all of that is healed within a lease, but one claim is never of two regions.

use super::Rules;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Instant;

/// Hexadecimal digits of a claim's epoch, which come first.
const EPOCH_DIGITS: usize = 16;
/// Problems that are told; more say no more.
const TOLD: usize = 5;

/// What was seen.
#[derive(Debug, Default)]
pub(in super::super) struct Seen {
    /// Lists of pins that nodes answered.
    pub(in super::super) answers: u64,
    /// Documents that nodes said they serve under a lease.
    pub(in super::super) served: u64,
    documents: HashMap<String, Document>,
    /// What should not be.
    pub(in super::super) problems: Vec<String>,
}

/// A claim, its region, and when that was told first.
#[derive(Debug)]
struct Told {
    claim: String,
    region: String,
    at: Instant,
}

/// What was told of a document.
#[derive(Debug, Default)]
struct Document {
    /// By the registry.
    pinned: Vec<Told>,
    /// By nodes that serve it under a lease.
    served: Vec<Told>,
    /// Who tells of a lower claim than was told before, a node or, with no name, the registry; and since when.
    behind: HashMap<String, Instant>,
}

/// An answer about a document.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    /// A node, or with no name the registry.
    by: &'a str,
    claim: &'a str,
    region: &'a str,
    asked: Instant,
}

impl Seen {
    /// Different documents, and the claims that they had.
    pub(in super::super) fn counts(&self) -> (usize, usize) {
        (self.documents.len(), self.documents.values().map(|document| document.pinned.len()).sum())
    }

    /// Adds a list of pins, and when it was asked for.
    pub(super) fn note_pins(&mut self, pins: &[Value], asked: Instant, rules: Rules) {
        self.answers += 1;
        for pin in pins {
            let (claim, region) = (text(pin, "claim"), text(pin, "region"));
            let name = name_of(pin);
            let known = self.documents.entry(name.clone()).or_default();
            let mut found = known.note_pin(Answer { by: "", claim, region, asked }, rules);
            let is_home =
                |node: &Value| node.as_str().is_some_and(|node| node.split('/').next() == Some(region));
            if !pin["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(is_home)) {
                found.push(format!("is of {region:?} and held by {}", pin["nodes"]));
            }
            self.tell(&name, found);
        }
    }

    /// Adds the documents that a node has, and when it was asked for them.
    pub(super) fn note_documents(
        &mut self,
        by: &str,
        region: &str,
        documents: &[Value],
        asked: Instant,
        rules: Rules,
    ) {
        for document in documents {
            // One that is being opened is not served yet; and what a node serves without a lease is its own clients' alone.
            let Some(claim) = document["claim"].as_str().filter(|_| document["is_adrift"] == false) else {
                continue;
            };
            self.served += 1;
            let name = name_of(document);
            let known = self.documents.entry(name.clone()).or_default();
            let found = known.note_served(Answer { by, claim, region, asked }, rules);
            self.tell(&name, found);
        }
    }

    fn tell(&mut self, name: &str, found: Vec<String>) {
        let room = TOLD.saturating_sub(self.problems.len());
        self.problems.extend(found.into_iter().take(room).map(|what| format!("{name} {what}")));
    }
}

fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item[field].as_str().unwrap_or_default()
}

fn name_of(item: &Value) -> String {
    format!("{}/{}/{}", text(item, "tenant"), text(item, "app"), text(item, "name"))
}

fn epoch(claim: &str) -> &str {
    claim.get(..EPOCH_DIGITS).unwrap_or_default()
}

impl Document {
    /// Adds what the registry told; what is wrong with it.
    fn note_pin(&mut self, answer: Answer<'_>, rules: Rules) -> Vec<String> {
        let Answer { claim, region, asked, .. } = answer;
        let mut found = Vec::new();
        // Nobody is a region: the document was taken away from all.
        for other in self.pinned.iter().filter(|other| other.region != region && !other.region.is_empty()) {
            let is_same = match rules.heals_within {
                // A registry that forgot a claim may give another one for the same epoch; the higher wins.
                Some(_) => other.claim == claim,
                None => epoch(&other.claim) == epoch(claim),
            };
            if is_same && !region.is_empty() {
                found.push(format!("is of {} as {} and of {region} as {claim}", other.region, other.claim));
            }
        }
        // Answers of several nodes overtake each other: only what was told before this was asked counts.
        let highest = highest(&self.pinned, asked).map(|told| told.claim.clone());
        let highest = highest.filter(|highest| highest.as_str() > claim);
        if let Some(highest) = self.is_behind(answer, highest, rules) {
            found.push(format!("is {claim} of {region} and was {highest}"));
        }
        add(&mut self.pinned, answer);
        found
    }

    /// Adds what a node said that has a lease; what is wrong with it.
    fn note_served(&mut self, answer: Answer<'_>, rules: Rules) -> Vec<String> {
        let Answer { by, claim, region, asked } = answer;
        let mut found = Vec::new();
        let told = self.served.iter().chain(&self.pinned);
        let mut others =
            told.filter(|other| other.claim == claim && other.region != region && !other.region.is_empty());
        if let Some(other) = others.next() {
            found.push(format!("is served by {by} as {claim}, which is of {}", other.region));
        }
        let is_elsewhere = |told: &&Told| told.region != region && !told.region.is_empty();
        let pinned = self.pinned.iter().filter(is_elsewhere).filter(|told| told.at < asked);
        let pinned = pinned.max_by(|one, other| one.claim.cmp(&other.claim));
        let higher = highest(&self.served, asked).into_iter().chain(pinned);
        let higher = higher.max_by(|one, other| one.claim.cmp(&other.claim));
        let higher = higher.filter(|higher| higher.claim.as_str() > claim);
        let higher = higher.map(|higher| format!("{} of {}", higher.claim, higher.region));
        if let Some(higher) = self.is_behind(answer, higher, rules) {
            found.push(format!("is served by {by} as {claim}, after {higher}"));
        }
        add(&mut self.served, answer);
        found
    }

    /// What is higher than what was told, if that may not be.
    fn is_behind(&mut self, answer: Answer<'_>, higher: Option<String>, rules: Rules) -> Option<String> {
        let Some(higher) = higher else {
            self.behind.remove(answer.by);
            return None;
        };
        let since = *self.behind.entry(answer.by.to_owned()).or_insert(answer.asked);
        let is_wrong = rules.heals_within.is_none_or(|within| answer.asked.duration_since(since) > within);
        is_wrong.then_some(higher)
    }
}

/// The highest claim that was told before something was asked.
fn highest(told: &[Told], asked: Instant) -> Option<&Told> {
    told.iter().filter(|told| told.at < asked).max_by(|one, other| one.claim.cmp(&other.claim))
}

fn add(told: &mut Vec<Told>, Answer { claim, region, .. }: Answer<'_>) {
    if !told.iter().any(|known| known.claim == claim && known.region == region) {
        let (claim, region) = (claim.to_owned(), region.to_owned());
        told.push(Told { claim, region, at: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    const STRICT: Rules = Rules { every: Duration::ZERO, heals_within: None };
    const HEALING: Rules = Rules { heals_within: Some(Duration::from_secs(9)), ..STRICT };

    fn claim(epoch: u64, nonce: u64) -> String {
        format!("{epoch:016x}-{nonce:016x}")
    }

    fn pin(region: &str, epoch: u64, nonce: u64, holder: &str) -> Value {
        let claim = claim(epoch, nonce);
        json!({ "tenant": "t", "app": "a", "name": "d", "region": region, "claim": claim, "nodes": [holder] })
    }

    /// Who said that it serves the document, under which claim, and whether it has a lease.
    struct Serves(&'static str, u64, bool);

    /// What is wrong with answers, asked for one second after the other.
    fn told<T>(answers: &[T], mut note: impl FnMut(&mut Seen, &T, Instant)) -> usize {
        let (mut seen, began) = (Seen::default(), Instant::now());
        for (at, answer) in (1..).zip(answers) {
            note(&mut seen, answer, began + Duration::from_secs(at));
        }
        seen.problems.len()
    }

    fn problems(rules: Rules, answers: &[Value]) -> usize {
        told(answers, |seen, pin, asked| seen.note_pins(std::slice::from_ref(pin), asked, rules))
    }

    fn serving(rules: Rules, answers: &[Serves]) -> usize {
        told(answers, |seen, Serves(node, epoch, has_lease), asked| {
            let region = node.split('/').next().unwrap();
            let document = json!({ "tenant": "t", "app": "a", "name": "d", "claim": claim(*epoch, 1), "is_adrift": !has_lease });
            seen.note_documents(node, region, &[document], asked, rules);
        })
    }

    #[test]
    fn claims_that_rise_are_good_wherever_they_are() {
        let rising = [pin("eu", 1, 9, "eu/n/1"), pin("us", 2, 1, "us/n/1"), pin("us", 2, 1, "us/m/1")];
        assert_eq!(problems(STRICT, &rising), 0);
        let served = [Serves("eu/n", 1, true), Serves("us/n", 2, true), Serves("us/m", 2, true)];
        assert_eq!(serving(STRICT, &served), 0);
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
        seen.note_pins(&[pin("us", 2, 1, "us/n/1")], before, STRICT);
        seen.note_pins(&[pin("eu", 1, 1, "eu/n/1")], before, STRICT);
        assert_eq!(seen.problems, Vec::<String>::new());
    }

    #[test]
    fn a_holder_in_another_region_is_a_problem() {
        assert_eq!(problems(STRICT, &[pin("eu", 1, 1, "us/n/1")]), 1);
    }

    #[test]
    fn a_region_that_serves_on_under_a_lease_after_another_one_has_begun_is_a_problem() {
        let two = || vec![Serves("eu/n", 1, true), Serves("us/n", 2, true), Serves("eu/n", 1, true)];
        assert_eq!(serving(STRICT, &two()), 1);
        assert_eq!(serving(HEALING, &two()), 0);
        let stays = two().into_iter().chain((0..10).map(|_| Serves("eu/n", 1, true)));
        assert_eq!(serving(HEALING, &stays.collect::<Vec<_>>()), 1);
        let adrift = [Serves("eu/n", 1, true), Serves("us/n", 2, true), Serves("eu/n", 1, false)];
        assert_eq!(serving(STRICT, &adrift), 0, "its own clients alone see that");
    }

    #[test]
    fn a_lower_claim_of_the_same_region_is_a_problem_too() {
        assert_eq!(serving(STRICT, &[Serves("eu/n", 2, true), Serves("eu/m", 1, true)]), 1);
    }

    #[test]
    fn one_claim_in_two_regions_is_a_problem_whatever_the_registry_forgot() {
        for rules in [STRICT, HEALING] {
            assert_eq!(serving(rules, &[Serves("eu/n", 1, true), Serves("us/n", 1, true)]), 1);
        }
    }

    #[test]
    fn a_region_that_serves_what_the_registry_gave_to_another_is_a_problem() {
        let began = Instant::now();
        let mut seen = Seen::default();
        let document =
            json!({ "tenant": "t", "app": "a", "name": "d", "claim": claim(1, 1), "is_adrift": false });
        seen.note_pins(&[pin("us", 2, 1, "us/n/1")], began, STRICT);
        seen.note_documents("eu/n", "eu", &[document], began + Duration::from_secs(1), STRICT);
        assert_eq!((seen.problems.len(), seen.served), (1, 1));
    }
}
