//! The lists of log lines, and of what operators had done.

use pinwire_admin_api::actions::{AuditRecord, Outcome, Who};
use pinwire_admin_api::log::{LogLevel, LogLine};

use super::{Field, Rows, Scope, Target, Value};
use crate::format;
use crate::model::{Model, State, millis};

pub(super) const FIELDS: &[Field] = &[
    Field::text("at", "TIME", 8, "when, UTC"),
    Field::text("node", "NODE", 16, "on which node").rank(1),
    Field::text("level", "LEVEL", 7, "how much it matters"),
    Field::text("module", "MODULE", 22, "the module that says it").rank(2),
    Field::text("text", "LINE", 30, "what it says").grow(),
];

pub(super) struct Logs<'model> {
    rows: Vec<(usize, &'model LogLine, String)>,
}

impl<'model> Logs<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let label = node.label();
            node.lines.iter().map(move |line| (number, line, label.clone()))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|(_, a, _), (_, b, _)| a.at.cmp(&b.at));
        Self { rows }
    }
}

impl Rows for Logs<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, line, label)) = self.rows.get(row) else { return Value::None };
        match field {
            0 => Value::Text(millis(&line.at).map_or_else(|| line.at.clone(), format::clock).into()),
            1 => Value::text(label),
            2 => {
                let (state, word) = match line.level {
                    LogLevel::Error => (State::Bad, "error"),
                    LogLevel::Warn => (State::Doubtful, "warn"),
                    LogLevel::Info => (State::Good, "info"),
                    LogLevel::Debug => (State::Good, "debug"),
                    LogLevel::Trace => (State::Good, "trace"),
                };
                Value::State(state, word.into())
            }
            3 => Value::text(&line.target),
            4 => Value::text(&line.text),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(node, ..)| Target::Node(*node))
    }
}

pub(super) const AUDIT_FIELDS: &[Field] = &[
    Field::text("at", "TIME", 19, "when, UTC"),
    Field::text("node", "NODE", 16, "on which node").rank(1),
    Field::text("outcome", "OUTCOME", 8, "how it ended"),
    Field::text("who", "WHO", 18, "who asked"),
    Field::text("what", "WHAT", 26, "what was asked for").grow(),
];

pub(super) struct Audit<'model> {
    rows: Vec<(usize, &'model AuditRecord, String)>,
}

impl<'model> Audit<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let label = node.label();
            node.audit.iter().map(move |record| (number, record, label.clone()))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|(_, a, _), (_, b, _)| a.at.cmp(&b.at));
        Self { rows }
    }
}

fn who(who: &Who) -> String {
    let by = who.certificate.clone().or_else(|| who.uid.map(|uid| format!("user {uid}")));
    let by = by.or_else(|| who.token.as_ref().map(|token| format!("token {token}"))).unwrap_or_default();
    match &who.address {
        Some(address) => format!("{by} at {address}"),
        None => by,
    }
}

impl Rows for Audit<'_> {
    fn fields(&self) -> &'static [Field] {
        AUDIT_FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, record, label)) = self.rows.get(row) else { return Value::None };
        match field {
            0 => Value::text(record.at.get(..19).unwrap_or(&record.at)),
            1 => Value::text(label),
            2 => match &record.outcome {
                Outcome::Done => Value::State(State::Good, "done".into()),
                Outcome::Failed(_) => Value::State(State::Bad, "failed".into()),
            },
            3 => Value::Text(who(&record.who).into()),
            4 => {
                let what = serde_json::to_value(&record.what).unwrap_or_default();
                let mut parts: Vec<_> = what.as_object().into_iter().flatten().collect();
                // What is most likely looked for first, in little room.
                parts.sort_by_key(|(name, _)| match name.as_str() {
                    "action" => 0,
                    "name" => 1,
                    "app" => 3,
                    "tenant" => 4,
                    _ => 2,
                });
                let parts = parts.into_iter().map(|(name, value)| match value {
                    serde_json::Value::String(text) if name == "action" => text.clone(),
                    serde_json::Value::String(text) => format!("{name}={text}"),
                    other => format!("{name}={other}"),
                });
                let mut text = parts.collect::<Vec<_>>().join(" ");
                if let Outcome::Failed(why) = &record.outcome {
                    text = format!("{text}: {why}");
                }
                Value::Text(text.into())
            }
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(node, ..)| Target::Node(*node))
    }
}
