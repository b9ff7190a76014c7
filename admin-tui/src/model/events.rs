//! What happened, of all nodes in one order: what nodes tell, and what the console saw by itself (`lost`, `region`).

use std::collections::VecDeque;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Millis, State};
use crate::client::Happened;

/// Events that are kept.
const KEPT: usize = 5_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// On which node, by number.
    pub node: usize,
    /// What people call it.
    pub label: String,
    /// Which kind.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The document that it is about, as `{tenant}::{app}::{name}`.
    pub document: Option<String>,
    /// Whether it is a good sign.
    pub state: State,
}

/// Whether something is a good sign.
fn weigh(kind: &str, fields: &Map<String, Value>) -> State {
    let field = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    match kind {
        "lost" | "reload_refused" | "document_given_up" | "not done" | "succession_failed"
        | "successor_lost" | "dns_failing" => State::Bad,
        "standing_changed" => match (field("status"), field("rung")) {
            ("overloaded", _) => State::Bad,
            ("draining", _) => State::Leaving,
            ("healthy", "serving") => State::Good,
            _ => State::Doubtful,
        },
        "incident_began" if field("state") == "unavailable" => State::Bad,
        "pressure" | "unauthenticated" | "document_lost" | "region" | "incident_began" | "refusing" => {
            State::Doubtful
        }
        "stopping" | "draining" | "drained" | "dns_left" => State::Leaving,
        _ => State::Good,
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Events {
    rows: VecDeque<Event>,
}

impl Events {
    pub(super) fn take(&mut self, node: usize, label: &str, news: Vec<Happened>, now: Millis) {
        for happened in news {
            let at = millis(&happened.at).unwrap_or(now);
            let document = document(&happened.fields);
            let text = tell(&happened.kind, &happened.fields);
            let state = weigh(&happened.kind, &happened.fields);
            let (label, kind) = (label.to_owned(), happened.kind);
            self.insert(Event { at, node, label, kind, text, document, state });
        }
    }

    pub(super) fn note(&mut self, node: usize, label: String, now: Millis, kind: &str, text: String) {
        let (state, kind) = (weigh(kind, &Map::new()), kind.to_owned());
        self.insert(Event { at: now, node, label, kind, text, document: None, state });
    }

    fn insert(&mut self, event: Event) {
        let mut at = self.rows.len();
        while at > 0 && self.rows[at - 1].at > event.at {
            at -= 1;
        }
        self.rows.insert(at, event);
        if self.rows.len() > KEPT {
            self.rows.pop_front();
        }
    }

    /// All, the oldest first.
    #[must_use]
    pub fn rows(&self) -> &VecDeque<Event> {
        &self.rows
    }
}

/// An RFC 3339 time.
pub(crate) fn millis(text: &str) -> Option<Millis> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn document(fields: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let Some(document) = text("document") {
        return Some(document.to_owned());
    }
    Some(format!("{}::{}::{}", text("tenant")?, text("app")?, text("name")?))
}

/// An event in words; one that is not known by its fields.
fn tell(kind: &str, fields: &Map<String, Value>) -> String {
    let field = |name: &str| fields.get(name).map(plain).unwrap_or_default();
    let document = document(fields).unwrap_or_default();
    match kind {
        "started" => format!("the node started, version {}", field("version")),
        "stopping" => "the node is about to stop".into(),
        "standing_changed" => of_standing(fields),
        "draining" => format!("the node leaves, with {} connections: {}", field("connections"), field("why")),
        "drain_cancelled" => "the node does not leave after all".into(),
        "drained" => format!("its clients have left; {} connections are left", field("connections")),
        "succeeded" => format!("process {} has taken over, and this one drains", field("pid")),
        "successor_lost" => format!(
            "process {} had taken over and is lost ({}): this one goes on",
            field("pid"),
            field("how")
        ),
        "succession_failed" => format!("another process does not take over: {}", field("error")),
        "dns_joined" => format!("its addresses are in the region's name: {}", field("why")),
        "dns_left" => format!("its addresses are out of the region's name: {}", field("why")),
        "dns_failing" => format!("the region's name cannot be kept: {}", field("error")),
        "dns_works" => "the region's name can be kept again".into(),
        "incident_began" => format!("{} is {} as seen from here", field("region"), field("state")),
        "incident_ended" => format!("{} is as it should be again", field("region")),
        "maintenance_announced" => {
            format!("maintenance of {} was announced: {}", field("regions"), field("title"))
        }
        "maintenance_withdrawn" => format!("maintenance was called off: {}", field("title")),
        "reloaded" => format!(
            "the configuration was read again: changed {}; needs a restart: {}",
            or_nothing(field("changed")),
            or_nothing(field("needs_restart"))
        ),
        "reload_refused" => format!("the configuration cannot be used: {}", field("problems")),
        "pressure" => {
            format!("thread {} takes no more connections: no more {}", field("thread"), field("of"))
        }
        "unauthenticated" => format!("somebody at {} asked without the node's token", field("address")),
        "message" => format!("{document}: a client's message of {} bytes", field("bytes")),
        "connection_closed" => {
            format!("an operator closed connection {} with {}", field("connection"), field("code"))
        }
        "document_lost" => format!("{document} is in {} now: its clients were sent there", field("region")),
        "document_given_up" => format!("{document}: the region's Redis had no room for it for too long"),
        "document_unpinned" => format!("{document} was taken away from this region: its clients come again"),
        "unpinned" => format!("an operator took {document} away from {}", field("region")),
        "document_moved" => format!("{document} was moved here from {}", field("from")),
        "document_ended" => format!("an operator ended {document} with {} members", field("members")),
        "message_sent" => format!("an operator sent a message to {} members of {document}", field("members")),
        "log_changed" => format!("logged is {}", field("filter")),
        "erased" => format!("{} documents were removed from the store for good", field("documents")),
        _ => {
            let pairs: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            pairs.join(" ")
        }
    }
}

/// What a node does from now on, and why.
fn of_standing(fields: &Map<String, Value>) -> String {
    let field = |name: &str| fields.get(name).map(plain).unwrap_or_default();
    let (before, status) = (field("before"), field("status"));
    let change =
        if before == status { format!("is {status} still") } else { format!("was {before}, is {status}") };
    let does = match field("rung").as_str() {
        "serving" => String::new(),
        rung => format!(", {}", rung.replace('_', " ")),
    };
    let dns = match fields.get("in_dns").and_then(Value::as_bool) {
        Some(false) => ", and belongs out of DNS",
        _ => "",
    };
    format!("{change}{does}{dns}: {}", field("cause"))
}

fn or_nothing(text: String) -> String {
    if text.is_empty() { "nothing".into() } else { text }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(sequence: u64, at: &str, kind: &str, fields: &str) -> Happened {
        Happened { sequence, at: at.into(), kind: kind.into(), fields: serde_json::from_str(fields).unwrap() }
    }

    #[test]
    fn events_of_several_nodes_are_in_one_order() {
        let mut events = Events::default();
        events.take(0, "a", vec![happened(1, "2026-01-01T00:00:05Z", "stopping", "{}")], 0);
        events.take(1, "b", vec![happened(1, "2026-01-01T00:00:03Z", "started", r#"{"version":"1"}"#)], 0);
        let order: Vec<&str> = events.rows().iter().map(|event| event.label.as_str()).collect();
        assert_eq!(order, ["b", "a"]);
    }

    #[test]
    fn a_kind_that_nobody_knows_is_told_by_its_fields() {
        let mut events = Events::default();
        let fields = r#"{"cause":"memory","document":"t::a::n","much":[1,2]}"#;
        events.take(0, "a", vec![happened(1, "no time", "comet", fields)], 77);
        let event = &events.rows()[0];
        assert_eq!(event.at, 77);
        assert_eq!(event.document.as_deref(), Some("t::a::n"));
        assert_eq!(event.text, "cause=memory document=t::a::n much=1, 2");
    }

    #[test]
    fn every_kind_that_nodes_tell_has_words_and_a_weight() {
        let told = include_str!("../../../admin-api/tests/golden/events.json");
        let pages: Vec<Value> = serde_json::from_str(told).unwrap();
        let all: Vec<Happened> = pages
            .iter()
            .flat_map(|page| page["events"].as_array().unwrap())
            .map(|event| serde_json::from_value(event.clone()).unwrap())
            .collect();
        assert!(all.len() > 25, "{}", all.len());
        let mut events = Events::default();
        events.take(0, "a", all, 0);
        for event in events.rows() {
            let is_told_by_fields = event.text.split(' ').next().is_some_and(|word| word.contains('='));
            assert!(!event.text.is_empty() && !is_told_by_fields, "{}: {}", event.kind, event.text);
        }
        let fields = r#"{"before":"healthy","status":"overloaded","rung":"no_new_connections","in_dns":false,"cause":"memory at 91 %"}"#;
        let mut events = Events::default();
        events.take(0, "a", vec![happened(1, "2026-01-01T00:00:05Z", "standing_changed", fields)], 0);
        let event = &events.rows()[0];
        assert_eq!(
            (event.text.as_str(), event.state),
            (
                "was healthy, is overloaded, no new connections, and belongs out of DNS: memory at 91 %",
                State::Bad
            )
        );
    }

    #[test]
    fn only_the_last_are_kept() {
        let mut events = Events::default();
        (0..KEPT as u64 + 10).for_each(|at| events.note(0, "a".into(), at, "lost", String::new()));
        assert_eq!((events.rows().len(), events.rows()[0].at), (KEPT, 10));
    }
}
