//! Lists: rows with fields. What a view draws, a filter tests, a sort compares, and `--once` prints is the same [`Value`].

mod apps;
mod connections;
mod cores;
mod events;
mod flow;
mod latency;
mod logs;
mod nodes;
mod pins;
mod regions;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use pinwire_admin_api::stream::DocumentName;

use crate::format;
use crate::model::{Millis, Model, State};

pub(crate) use apps::nearness as app_nearness;
pub(crate) use pins::document_state as pins_document_state;

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// Regions.
    Regions,
    /// Nodes.
    Nodes,
    /// Data threads.
    Cores,
    /// Pins.
    Pins,
    /// Active documents at the top of nodes.
    Documents,
    /// Connections.
    Connections,
    /// Members of the document that is looked at.
    Members,
    /// Apps.
    Apps,
    /// What an app uses on each node.
    Use,
    /// What became of whoever dialled, by node.
    Flow,
    /// Round trips between regions.
    Latency,
    /// What happened.
    Events,
    /// Lines of nodes' logs.
    Logs,
    /// What operators had done.
    Audit,
}

impl List {
    /// All, with the names that flags and the command line have for them.
    pub const ALL: [(Self, &str); 14] = [
        (Self::Regions, "regions"),
        (Self::Nodes, "nodes"),
        (Self::Cores, "cores"),
        (Self::Pins, "pins"),
        (Self::Documents, "documents"),
        (Self::Connections, "connections"),
        (Self::Members, "members"),
        (Self::Apps, "apps"),
        (Self::Use, "use"),
        (Self::Flow, "flow"),
        (Self::Latency, "latency"),
        (Self::Events, "events"),
        (Self::Logs, "logs"),
        (Self::Audit, "audit"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(list, _)| *list == self).map_or("", |(_, name)| name)
    }

    /// Its fields.
    #[must_use]
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Regions => regions::FIELDS,
            Self::Nodes => nodes::FIELDS,
            Self::Cores => cores::FIELDS,
            Self::Pins => pins::FIELDS,
            Self::Documents => pins::DOCUMENT_FIELDS,
            Self::Connections => connections::FIELDS,
            Self::Members => connections::MEMBER_FIELDS,
            Self::Apps => apps::FIELDS,
            Self::Use => apps::USE_FIELDS,
            Self::Flow => flow::FIELDS,
            Self::Latency => latency::FIELDS,
            Self::Events => events::FIELDS,
            Self::Logs => logs::FIELDS,
            Self::Audit => logs::AUDIT_FIELDS,
        }
    }

    /// Names of its fields.
    #[must_use]
    pub fn field_names(self) -> Vec<&'static str> {
        self.fields().iter().map(|field| field.name).collect()
    }

    /// Its rows, as of now.
    #[must_use]
    pub fn rows<'model>(self, model: &'model Model, scope: &Scope, now: Millis) -> Box<dyn Rows + 'model> {
        match self {
            Self::Regions => Box::new(regions::Regions::new(model, now)),
            Self::Nodes => Box::new(nodes::Nodes::new(model, scope, now)),
            Self::Cores => Box::new(cores::Cores::new(model, scope, now)),
            Self::Pins => Box::new(pins::Pins::new(model, now)),
            Self::Documents => Box::new(pins::Documents::new(model, scope, now)),
            Self::Connections => Box::new(connections::Connections::new(model, scope)),
            Self::Members => Box::new(connections::Members::new(model, now)),
            Self::Apps => Box::new(apps::Apps::of_all(model)),
            Self::Use => Box::new(apps::Apps::of_each(model, scope)),
            Self::Flow => Box::new(flow::Flows::new(model, scope, now)),
            Self::Latency => Box::new(latency::Latency::new(model, scope, now)),
            Self::Events => Box::new(events::Events::new(model, scope)),
            Self::Logs => Box::new(logs::Logs::new(model, scope)),
            Self::Audit => Box::new(logs::Audit::new(model, scope)),
        }
    }

    /// Its rows are what somebody says, each at a time: texts to read, with no numbers and no names of their own.
    #[must_use]
    pub fn is_of_texts(self) -> bool {
        matches!(self, Self::Events | Self::Logs | Self::Audit)
    }

    /// What stands above the pictures of its rows, if these have any.
    #[must_use]
    pub fn strip(self) -> Option<&'static str> {
        match self {
            Self::Flow => Some("LAST MINUTE"),
            Self::Latency => Some("OVER TIME"),
            Self::Cores => Some("BUSY OVER TIME"),
            _ => None,
        }
    }

    /// How it is sorted at first.
    #[must_use]
    pub fn first_sort(self) -> Option<crate::query::Sort> {
        let by = |name: &str, is_descending| {
            let field = self.fields().iter().position(|field| field.name == name)?;
            Some(crate::query::Sort { field, is_descending })
        };
        match self {
            Self::Documents => by("edits", true),
            Self::Connections => by("backlog", true),
            _ => None,
        }
    }
}

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// A node, by number.
    pub node: Option<usize>,
    /// A region.
    pub region: Option<String>,
    /// An app.
    pub app: Option<crate::model::AppName>,
}

impl Scope {
    pub(crate) fn has(&self, number: usize, region: Option<&str>) -> bool {
        self.node.is_none_or(|node| node == number)
            && self.region.as_deref().is_none_or(|wanted| region == Some(wanted))
    }
}

/// Rows with fields.
pub trait Rows {
    /// The fields.
    fn fields(&self) -> &'static [Field];
    /// How many rows.
    fn len(&self) -> usize;
    /// There is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What stands in a field; nothing where there is no such row or field.
    fn value(&self, row: usize, field: usize) -> Value<'_>;
    /// What a row is about.
    fn target(&self, _row: usize) -> Target {
        Target::Nothing
    }
    /// What tells a row from all others, as long as it is there; nothing where rows cannot be marked.
    fn key(&self, _row: usize) -> Option<u64> {
        None
    }
    /// What a row looks like over time, or which parts it has: drawn where there is room beside its fields.
    fn strip(&self, _row: usize, _columns: usize) -> Option<Strip> {
        None
    }
    /// What is told of a row is old.
    fn is_stale(&self, _row: usize) -> bool {
        false
    }
}

/// A row's picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Strip {
    /// A cell for each step of time, the oldest first, from 0, cold, to 1, hot; without a sample a gap.
    Heat(Vec<Option<f64>>),
    /// Parts of a whole: served, carried, redirected, refused.
    Parts(Option<[f64; 4]>),
}

/// What a row is about: where one goes from it, and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing that one could go to.
    Nothing,
    /// A region.
    Region(String),
    /// A node.
    Node(usize),
    /// An app.
    App(crate::model::AppName),
    /// A document.
    Document(DocumentName),
    /// A pinned document.
    Pin {
        /// Which.
        name: DocumentName,
        /// Whose registry.
        db_code: Option<String>,
        /// Which region has it.
        region: String,
    },
    /// A connection.
    Connection {
        /// On which node.
        node: usize,
        /// Its id.
        id: String,
        /// A document of it.
        document: Option<DocumentName>,
    },
}

/// A field of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What filters, `--once` and `--stream` call it.
    pub name: &'static str,
    /// Above its column.
    pub title: &'static str,
    /// Columns that it takes at least.
    pub width: u16,
    /// It stands to the right.
    pub is_number: bool,
    /// It gets what is left over.
    pub grows: bool,
    /// Shown where there is room: those of a lower rank first.
    pub rank: u8,
    /// What it means.
    pub help: &'static str,
}

impl Field {
    /// The rank of what no view draws.
    pub(crate) const HIDDEN: u8 = u8::MAX;

    /// A text.
    #[must_use]
    pub const fn text(name: &'static str, title: &'static str, width: u16, help: &'static str) -> Self {
        Self { name, title, width, is_number: false, grows: false, rank: 0, help }
    }

    /// A number.
    #[must_use]
    pub const fn number(name: &'static str, title: &'static str, width: u16, help: &'static str) -> Self {
        Self { name, title, width, is_number: true, grows: false, rank: 0, help }
    }

    /// The same, of this rank.
    #[must_use]
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// The same, in no view: for filters and programs.
    #[must_use]
    pub const fn hidden(self) -> Self {
        Self { rank: Self::HIDDEN, ..self }
    }

    /// The same, taking what is left over.
    #[must_use]
    pub const fn grow(self) -> Self {
        Self { grows: true, ..self }
    }
}

/// What stands in a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'row> {
    /// Nobody knows, or there is none.
    None,
    /// A text.
    Text(Cow<'row, str>),
    /// A number.
    Number(f64, Unit),
    /// A state, and the word for it.
    State(State, Cow<'row, str>),
}

impl<'row> Value<'row> {
    pub(crate) fn text(text: &'row str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(crate) fn maybe(text: Option<&'row str>) -> Self {
        text.map_or(Self::None, Self::text)
    }

    pub(crate) fn number(number: Option<f64>, unit: Unit) -> Self {
        number.filter(|number| number.is_finite()).map_or(Self::None, |number| Self::Number(number, unit))
    }

    pub(crate) fn count(number: u64) -> Self {
        Self::Number(number as f64, Unit::Count)
    }

    /// For people.
    #[must_use]
    pub fn show(&self) -> String {
        match self {
            Self::None => "-".into(),
            Self::Text(text) | Self::State(_, text) => format::tame(text),
            Self::Number(number, unit) => unit.show(*number),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Text(text) | Self::State(_, text) => serde_json::Value::String(text.clone().into_owned()),
            Self::Number(number, _) if number.fract() == 0.0 && number.abs() < 9e15 => {
                serde_json::json!(*number as i64)
            }
            Self::Number(number, _) => serde_json::json!(number),
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things in a second.
    Rate,
    /// Bytes.
    Bytes,
    /// Hundredths.
    Percent,
    /// Milliseconds.
    Millis,
    /// Seconds: an age or what is left.
    Seconds,
    /// Cores.
    Cores,
}

impl Unit {
    /// A number with it, for people.
    #[must_use]
    pub fn show(self, number: f64) -> String {
        match self {
            Self::Count | Self::Rate => format::number(number),
            Self::Bytes => format::bytes(number),
            Self::Percent => format!("{number:.0}%"),
            Self::Millis => format::milliseconds(number),
            Self::Seconds => format::age((number * 1000.0).max(0.0) as Millis),
            Self::Cores => format!("{number:.2}"),
        }
    }
}

/// A key of a row, for [`Rows::key`].
fn key_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// `tenant::app::name` apart.
pub(crate) fn full_name(text: &str) -> Option<DocumentName> {
    let (tenant, rest) = text.split_once("::")?;
    let (app, name) = rest.split_once("::")?;
    Some(DocumentName { tenant: tenant.into(), app: app.into(), name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_of_their_own_and_a_meaning() {
        for (list, list_name) in List::ALL {
            let mut names = list.field_names();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{list_name}");
            assert!(list.fields().iter().all(|field| !field.help.is_empty()), "{list_name}");
            assert!(list.fields().iter().any(|field| field.grows), "{list_name}");
        }
    }

    /// What `--once` and `--stream` promise: within a version fields are added, and never removed.
    #[test]
    fn fields_that_were_told_once_are_told_still() {
        let told = [
            (
                List::Regions,
                "name health status nodes watched known occupancy connections documents messages rtt seen area",
            ),
            (
                List::Nodes,
                "node region state occupancy connections limit documents in out cpu memory lag refusals dns rung drain pool change \
                 driver version age why address",
            ),
            (
                List::Cores,
                "node thread state busy lag p99 connections documents pending refusals slow driver",
            ),
            (
                List::Pins,
                "document app region state holders members edits bytes age grace nodes epoch license",
            ),
            (List::Documents, "document app node state members present edits bytes log unstored thread"),
            (List::Connections, "id node state subject app documents count dialect idle backlog thread"),
            (List::Members, "subject connection dialect rights since thread"),
            (
                List::Apps,
                "app node state nodes connections max_connections documents max_documents operations max_operations max_users used",
            ),
            (
                List::Use,
                "node app state connections max_connections documents max_documents operations max_operations max_users used",
            ),
            (
                List::Flow,
                "node region dialled served redirected refused carried_out carried_in why refused_ever",
            ),
            (List::Latency, "from to now least most"),
            (List::Events, "at node kind text"),
            (List::Logs, "at node level module text"),
            (List::Audit, "at node outcome who what"),
        ];
        assert_eq!((told.len(), crate::record::SCHEMA_VERSION), (List::ALL.len(), 1));
        for (list, names) in told {
            let lost: Vec<_> =
                names.split_whitespace().filter(|name| !list.field_names().contains(name)).collect();
            assert!(lost.is_empty(), "{}: {lost:?}", list.name());
        }
    }

    #[test]
    fn a_list_of_nothing_has_no_rows_and_no_row_that_is_not_there_panics() {
        let model = Model::default();
        for (list, name) in List::ALL {
            let rows = list.rows(&model, &Scope::default(), 0);
            assert!(rows.is_empty(), "{name}");
            assert_eq!(rows.value(7, 0), Value::None, "{name}");
            assert_eq!(rows.target(7), Target::Nothing, "{name}");
        }
    }
}
