//! The list of nodes.

use pinwire_admin_api::standing::Reach;

use super::{Field, Rows, Scope, Target, Unit, Value};
use crate::model::{Link, Millis, Model, NodeState, words};

pub(super) const FIELDS: &[Field] = &[
    Field::text("node", "NODE", 16, "its name, or where it is reached").grow(),
    Field::text("region", "REGION", 12, "its region").rank(4),
    Field::text("state", "STATE", 13, "its status, or why there is none"),
    Field::number("occupancy", "OCC", 5, "how full it is, in percent"),
    Field::number("connections", "CONNS", 6, "connections"),
    Field::number("limit", "LIMIT", 6, "most connections").rank(6),
    Field::number("documents", "DOCS", 6, "active documents").rank(2),
    Field::number("in", "IN/s", 6, "messages received in a second").rank(2),
    Field::number("out", "OUT/s", 6, "messages sent in a second").rank(2),
    Field::number("cpu", "CPU", 5, "cores in use"),
    Field::number("memory", "MEM", 9, "resident memory"),
    Field::number("lag", "LAG", 6, "the longest mean turn of a thread: how long what comes has to wait"),
    Field::number("refusals", "REF/s", 6, "clients refused in a second").rank(5),
    Field::text("dns", "DNS", 10, "in the region's name, or out of it").rank(3),
    Field::text("rung", "DOES", 10, "what it still does").rank(9),
    Field::text("drain", "DRAIN", 11, "where it is on its way out").rank(8),
    Field::number("pool", "POOL", 5, "nodes of its region that it hears of").rank(10),
    Field::text("change", "CHANGE", 12, "the change that made it stand so, as refused clients are told")
        .rank(11),
    Field::text("driver", "DRIVER", 8, "how it talks to the kernel").rank(9),
    Field::text("version", "VERSION", 8, "of its program").rank(7),
    Field::number("age", "AGE", 6, "since it told anything").rank(1),
    Field::text("why", "WHY", 20, "the cause of its state").rank(8),
    Field::text("address", "ADDRESS", 24, "where the console reaches it").rank(10),
];

pub(super) struct Nodes<'model> {
    rows: Vec<(usize, &'model NodeState, String)>,
    now: Millis,
}

impl<'model> Nodes<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope, now: Millis) -> Self {
        let mut rows: Vec<_> = model
            .nodes()
            .filter(|(number, node)| scope.has(*number, node.region()))
            .map(|(number, node)| (number, node, node.label()))
            .collect();
        rows.sort_by(|(_, a, label), (_, b, other)| (a.region(), label).cmp(&(b.region(), other)));
        Self { rows, now }
    }

    fn why(node: &'model NodeState) -> Option<&'model str> {
        if let Link::Lost { why, .. } = &node.link {
            return Some(why);
        }
        node.cause()
    }
}

impl Rows for Nodes<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, node, label)) = self.rows.get(row) else { return Value::None };
        let told = node.seen().map(|seen| &seen.node);
        let counts = told.map(|told| &told.totals);
        let has_pool = node.standing().is_some_and(|standing| standing.pool.reach != Reach::Alone);
        let count = |count: Option<u64>| Value::number(count.map(|count| count as f64), Unit::Count);
        match FIELDS.get(field).map_or("", |field| field.name) {
            "node" => Value::text(label),
            "region" => Value::maybe(node.region()),
            "state" => {
                let (state, word) = node.state(self.now);
                Value::State(state, word.into())
            }
            "occupancy" => Value::number(node.occupancy().map(|share| share * 100.0), Unit::Percent),
            "connections" => count(counts.map(|counts| counts.connections)),
            "limit" => count(told.map(|told| u64::from(told.max_connections))),
            "documents" => count(counts.map(|counts| counts.documents)),
            "in" => Value::number(node.load().received, Unit::Rate),
            "out" => Value::number(node.load().sent, Unit::Rate),
            "cpu" => Value::number(node.load().cpu, Unit::Cores),
            "memory" => Value::number(
                told.and_then(|told| told.process.resident_bytes).map(|bytes| bytes as f64),
                Unit::Bytes,
            ),
            "lag" => Value::number(node.turn().map(|turn| turn * 1000.0), Unit::Millis),
            "refusals" => Value::number(node.load().refusals, Unit::Rate),
            "dns" => told.and_then(|told| told.dns.as_ref()).map_or(Value::None, |dns| {
                let (state, word) = words::dns(dns);
                Value::State(state, word.into())
            }),
            "rung" => Value::maybe(node.standing().map(|standing| words::rung(standing.rung))),
            "drain" => {
                Value::maybe(told.and_then(|told| told.drain.as_ref()).map(|drain| words::stage(drain.stage)))
            }
            "change" => Value::maybe(node.standing().map(|standing| standing.change.as_str())),
            "pool" => {
                count(node.standing().map(|standing| standing.pool.members.len() as u64).filter(|_| has_pool))
            }
            "driver" => told.and_then(|told| told.driver).map_or(Value::None, |driver| {
                Value::text(match driver {
                    pinwire_admin_api::node::Driver::IoUring => "io_uring",
                    pinwire_admin_api::node::Driver::Epoll => "epoll",
                })
            }),
            "version" => Value::maybe(told.map(|told| told.version.as_str())),
            "age" => Value::number(node.age(self.now).map(|age| age as f64 / 1000.0), Unit::Seconds),
            "why" => Value::maybe(Self::why(node)),
            "address" => Value::Text(node.address().to_string().into()),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(number, ..)| Target::Node(*number))
    }

    fn key(&self, row: usize) -> Option<u64> {
        self.rows.get(row).map(|(number, ..)| *number as u64)
    }

    fn is_stale(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|(_, node, _)| node.is_stale(self.now))
    }
}
