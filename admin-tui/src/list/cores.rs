//! The list of data threads.

use pinwire_admin_api::node::{Driver, Thread};

use super::{Field, Rows, Scope, Strip, Target, Unit, Value};
use crate::model::{Millis, Model, NodeState, State};

pub(super) const FIELDS: &[Field] = &[
    Field::text("node", "NODE", 16, "its node").grow(),
    Field::number("thread", "CORE", 4, "its number"),
    Field::text("state", "STATE", 8, "whether it answers"),
    Field::number("busy", "BUSY", 5, "share of time in which it works, in percent"),
    Field::number("lag", "TURN", 7, "mean turn in the last second: how long what comes has to wait"),
    Field::number("p99", "P99", 7, "99 of 100 turns since the start took no longer"),
    Field::number("connections", "CONNS", 7, "connections"),
    Field::number("documents", "DOCS", 6, "active documents"),
    Field::number("pending", "HSHK", 6, "connections that are no WebSocket yet").rank(2),
    Field::number("refusals", "REFUSED", 8, "refused since the start").rank(3),
    Field::number("slow", "SLOW", 6, "closed for taking no byte, since the start").rank(4),
    Field::text("driver", "DRIVER", 8, "how it talks to the kernel").rank(5),
];

pub(super) struct Cores<'model> {
    rows: Vec<(usize, usize, &'model NodeState, &'model Thread, String)>,
    now: Millis,
}

impl<'model> Cores<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope, now: Millis) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let threads = node.threads().iter().enumerate();
            threads.map(move |(at, thread)| (number, at, node, thread, node.label()))
        });
        Self { rows: rows.collect(), now }
    }
}

impl Rows for Cores<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, at, node, thread, label)) = self.rows.get(row) else { return Value::None };
        let load = node.thread_loads().get(*at).copied().unwrap_or_default();
        let count = |pick: fn(&pinwire_admin_api::node::Counts) -> u64| {
            Value::number(thread.counts.as_ref().map(|counts| pick(counts) as f64), Unit::Count)
        };
        match FIELDS.get(field).map_or("", |field| field.name) {
            "node" => Value::text(label),
            "thread" => Value::count(u64::from(thread.thread)),
            "state" if thread.is_up => Value::State(State::Good, "up".into()),
            "state" => Value::State(State::Bad, "stuck".into()),
            "busy" => Value::number(load.busy.map(|busy| busy * 100.0), Unit::Percent),
            "lag" => Value::number(load.turn.map(|turn| turn * 1000.0), Unit::Millis),
            "p99" => Value::number(thread.turn.map(|turn| turn.p99_seconds * 1000.0), Unit::Millis),
            "connections" => count(|counts| counts.connections),
            "documents" => count(|counts| counts.documents),
            "pending" => count(|counts| counts.handshakes_pending),
            "refusals" => count(|counts| counts.refusals),
            "slow" => count(|counts| counts.closes_slow_reader),
            "driver" => Value::maybe(thread.driver.map(|driver| match driver {
                Driver::IoUring => "io_uring",
                Driver::Epoll => "epoll",
            })),
            _ => Value::None,
        }
    }

    fn strip(&self, row: usize, columns: usize) -> Option<Strip> {
        let (_, at, node, ..) = self.rows.get(row)?;
        Some(Strip::Heat(node.busy_over_time.get(*at)?.window(columns, self.now)))
    }

    fn is_stale(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|(_, _, node, ..)| node.is_stale(self.now))
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(number, ..)| Target::Node(*number))
    }
}
