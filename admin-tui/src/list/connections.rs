//! The lists of connections, and of members of the document that is looked at.

use pinwire_admin_api::connections::{Connection, ConnectionState, Dialect};
use pinwire_admin_api::documents::Member;
use pinwire_admin_api::stream::DocumentName;

use super::{Field, Rows, Scope, Target, Unit, Value, key_of};
use crate::model::{Millis, Model, State, millis};

pub(super) const FIELDS: &[Field] = &[
    Field::text("id", "CONNECTION", 12, "its id; the log has the same as conn"),
    Field::text("node", "NODE", 16, "its node"),
    Field::text("state", "STATE", 9, "where it is in its life"),
    Field::text("subject", "SUBJECT", 14, "its token's sub").grow(),
    Field::text("app", "APP", 14, "tenant and app").rank(1),
    Field::text("documents", "DOCUMENTS", 18, "documents that it is a member of").rank(2),
    Field::number("count", "DOCS", 5, "how many documents").rank(4),
    Field::text("dialect", "DIALECT", 12, "what it speaks").rank(3),
    Field::number("idle", "IDLE", 7, "since bytes came last"),
    Field::number("backlog", "BACKLOG", 9, "bytes that wait for its socket"),
    Field::number("thread", "CORE", 4, "the thread that has it").rank(5),
];

pub(super) struct Connections<'model> {
    rows: Vec<(usize, &'model Connection, String)>,
}

impl<'model> Connections<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let label = node.label();
            node.connections.rows().iter().map(move |connection| (number, connection, label.clone()))
        });
        Self { rows: rows.collect() }
    }
}

fn dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::YWebsocket => "y-websocket",
        Dialect::Hocuspocus => "hocuspocus",
    }
}

impl Rows for Connections<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, connection, label)) = self.rows.get(row) else { return Value::None };
        match FIELDS.get(field).map_or("", |field| field.name) {
            "id" => Value::text(&connection.id),
            "node" => Value::text(label),
            "state" => match connection.state {
                ConnectionState::Waiting => Value::State(State::Unknown, "waiting".into()),
                ConnectionState::Open => Value::State(State::Good, "open".into()),
                ConnectionState::Moving => Value::State(State::Leaving, "moving".into()),
                ConnectionState::Closing => Value::State(State::Leaving, "closing".into()),
            },
            "subject" => Value::maybe(connection.subject.as_deref()),
            "app" => match (&connection.tenant, &connection.app) {
                (Some(tenant), Some(app)) => Value::Text(format!("{tenant}::{app}").into()),
                _ => Value::None,
            },
            "documents" if connection.documents.is_empty() => Value::None,
            "documents" => Value::Text(connection.documents.join(", ").into()),
            "count" => Value::count(u64::from(connection.document_count)),
            "dialect" => Value::maybe(connection.dialect.map(dialect)),
            "idle" => Value::Number(connection.idle_seconds, Unit::Seconds),
            "backlog" => Value::Number(connection.backlog_bytes as f64, Unit::Bytes),
            "thread" => Value::count(u64::from(connection.thread)),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        let Some((node, connection, _)) = self.rows.get(row) else { return Target::Nothing };
        let document = || {
            let (tenant, app) = (connection.tenant.clone()?, connection.app.clone()?);
            Some(DocumentName { tenant, app, name: connection.documents.first()?.clone() })
        };
        Target::Connection { node: *node, id: connection.id.clone(), document: document() }
    }

    fn key(&self, row: usize) -> Option<u64> {
        self.rows.get(row).map(|(node, connection, _)| key_of(&(*node, &connection.id)))
    }
}

pub(super) const MEMBER_FIELDS: &[Field] = &[
    Field::text("subject", "SUBJECT", 16, "its token's sub").grow(),
    Field::text("connection", "CONNECTION", 12, "its connection's id"),
    Field::text("dialect", "DIALECT", 12, "what it speaks"),
    Field::text("rights", "RIGHTS", 10, "whether its edits are taken"),
    Field::number("since", "SINCE", 7, "how long its connection has been open"),
    Field::number("thread", "CORE", 4, "the thread that has its socket").rank(1),
];

pub(super) struct Members<'model> {
    rows: &'model [Member],
    node: Option<usize>,
    now: Millis,
}

impl<'model> Members<'model> {
    pub(super) fn new(model: &'model Model, now: Millis) -> Self {
        let document = model.document.as_ref();
        let rows = document.map_or(&[][..], |(detail, _)| detail.members.as_slice());
        Self { rows, node: model.document_node(), now }
    }
}

impl Rows for Members<'_> {
    fn fields(&self) -> &'static [Field] {
        MEMBER_FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(member) = self.rows.get(row) else { return Value::None };
        match MEMBER_FIELDS.get(field).map_or("", |field| field.name) {
            "subject" => Value::maybe(member.subject.as_deref()),
            "connection" => Value::maybe(member.connection.as_deref()),
            "dialect" => Value::text(dialect(member.dialect)),
            "rights" if member.is_read_only => Value::State(State::Unknown, "read-only".into()),
            "rights" => Value::State(State::Good, "writes".into()),
            "since" => {
                let since = member.since.as_deref().and_then(millis);
                Value::number(
                    since.map(|since| self.now.saturating_sub(since) as f64 / 1000.0),
                    Unit::Seconds,
                )
            }
            "thread" => Value::number(member.thread.map(f64::from), Unit::Count),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        let id = self.rows.get(row).and_then(|member| member.connection.clone());
        match (id, self.node) {
            (Some(id), Some(node)) => Target::Connection { node, id, document: None },
            _ => Target::Nothing,
        }
    }

    fn key(&self, row: usize) -> Option<u64> {
        let id = self.rows.get(row)?.connection.as_ref()?;
        Some(key_of(&(self.node?, id)))
    }
}
