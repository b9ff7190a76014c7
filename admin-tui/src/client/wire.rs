//! What is asked of nodes, and what comes back. All of it can be written into a recording; no token is ever in it.
//!
//! A console and its nodes need not be of the same version: what this one does not know is kept as it came, and a kind of event
//! that it has never heard of is shown by its fields.

use std::time::Duration;

use pinwire_admin_api::actions::{AuditPage, Log};
use pinwire_admin_api::apps::{AppPage, RecordedApp};
use pinwire_admin_api::cluster::{Nodes, PinPage, Regions};
use pinwire_admin_api::connections::ConnectionPage;
use pinwire_admin_api::documents::{Document, DocumentDetail};
use pinwire_admin_api::log::LogPage;
use pinwire_admin_api::node::{Node, Thread};
use pinwire_admin_api::stream::DocumentName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::address::Address;

/// Something new of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Update {
    /// Which.
    pub node: Address,
    /// What.
    pub what: What,
}

/// What is new.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is one of those to be watched now.
    Watched,
    /// Its stream stands.
    Connected,
    /// It is not reached, or no longer.
    Lost {
        /// Why, and what helps.
        why: String,
        /// It refused who asks: trying again does not help by itself.
        is_refusal: bool,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// How it is.
    Look(Box<Look>),
    /// An answer.
    Answered(Box<Answer>),
    /// A question came to nothing.
    Unanswered {
        /// Which.
        ask: Ask,
        /// Why.
        why: String,
    },
    /// An action ended.
    Acted {
        /// What was asked for, in words.
        what: String,
        /// What came of it.
        outcome: Result<String, String>,
    },
}

/// How a node is: `snapshot` or `change` of its stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// The node.
    pub node: NodeSeen,
    /// Its threads: all, or those that changed.
    pub threads: Vec<Thread>,
    /// Documents at the top: all, or those that changed.
    pub documents: Vec<Document>,
    /// Which are at the top now; missing in a snapshot, where all are in `documents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<DocumentName>>,
    /// What happened.
    pub events: Vec<Happened>,
    /// Events that are not kept any more.
    #[serde(default)]
    pub events_lost: u64,
    /// Seconds that were left out.
    #[serde(default)]
    pub skipped: u64,
}

/// A node as it describes itself, with fields that this console may not know.
#[derive(Clone, Debug)]
pub struct NodeSeen {
    /// What is known of it.
    pub node: Node,
    /// All that it said.
    pub said: Value,
}

impl<'de> Deserialize<'de> for NodeSeen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = Value::deserialize(deserializer)?;
        let node = Node::deserialize(&said).map_err(serde::de::Error::custom)?;
        Ok(Self { node, said })
    }
}

impl Serialize for NodeSeen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.said.serialize(serializer)
    }
}

/// An event of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Counts from 1 since the node's start.
    pub sequence: u64,
    /// When, RFC 3339.
    pub at: String,
    /// Which kind.
    pub kind: String,
    /// The rest.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Regions, as they look from the node.
    Regions,
    /// Nodes that the registries know.
    Nodes,
    /// A page of pins.
    Pins {
        /// Whose registry.
        db_code: Option<String>,
        /// Where the page begins.
        cursor: Option<String>,
    },
    /// A document with members.
    Document(DocumentName),
    /// A page of connections.
    Connections {
        /// Where the page begins.
        cursor: Option<String>,
    },
    /// Apps.
    Apps,
    /// The record of an app: tenant and id.
    Record((String, String)),
    /// What operators had done.
    Audit,
    /// What is logged.
    Log,
    /// Lines of the log after this number.
    LogLines {
        /// The number.
        since: u64,
    },
}

/// What was asked, and the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Ask::Regions`].
    Regions(Regions),
    /// To [`Ask::Nodes`].
    Nodes(Nodes),
    /// To [`Ask::Pins`].
    Pins {
        /// Whose registry was asked.
        db_code: Option<String>,
        /// It is the first page.
        is_first: bool,
        /// The page.
        page: PinPage,
    },
    /// To [`Ask::Document`].
    Document(DocumentDetail),
    /// To [`Ask::Connections`].
    Connections {
        /// It is the first page.
        is_first: bool,
        /// The page.
        page: ConnectionPage,
    },
    /// To [`Ask::Apps`].
    Apps(AppPage),
    /// To [`Ask::Record`].
    Record {
        /// Of which app: tenant and id.
        app: (String, String),
        /// It.
        record: RecordedApp,
    },
    /// To [`Ask::Audit`].
    Audit(AuditPage),
    /// To [`Ask::Log`].
    Log(Log),
    /// To [`Ask::LogLines`].
    LogLines(LogPage),
}

impl Ask {
    /// The path and query that it is.
    #[must_use]
    pub fn path(&self) -> String {
        let cursor = |cursor: &Option<String>| {
            cursor.as_ref().map_or_else(String::new, |cursor| format!("&cursor={}", encode(cursor)))
        };
        match self {
            Self::Regions => "/v1/regions".into(),
            Self::Nodes => "/v1/nodes".into(),
            Self::Pins { db_code, cursor: at } => {
                let code =
                    db_code.as_ref().map_or_else(String::new, |code| format!("&db_code={}", encode(code)));
                format!("/v1/pins?limit=500{code}{}", cursor(at))
            }
            Self::Document(name) => document_path(name),
            Self::Connections { cursor: at } => format!("/v1/connections?limit=500{}", cursor(at)),
            Self::Apps => "/v1/apps?limit=500".into(),
            Self::Record((tenant, app)) => format!("/v1/apps/{}/{}/record", encode(tenant), encode(app)),
            Self::Audit => "/v1/audit?limit=1000".into(),
            Self::Log => "/v1/log".into(),
            Self::LogLines { since } => format!("/v1/log/lines?limit=1000&since={since}"),
        }
    }

    /// Reads the answer.
    pub(super) fn read(&self, body: &[u8]) -> Result<Answer, serde_json::Error> {
        Ok(match self {
            Self::Regions => Answer::Regions(serde_json::from_slice(body)?),
            Self::Nodes => Answer::Nodes(serde_json::from_slice(body)?),
            Self::Pins { db_code, cursor } => Answer::Pins {
                db_code: db_code.clone(),
                is_first: cursor.is_none(),
                page: serde_json::from_slice(body)?,
            },
            Self::Document(_) => Answer::Document(serde_json::from_slice(body)?),
            Self::Connections { cursor } => {
                Answer::Connections { is_first: cursor.is_none(), page: serde_json::from_slice(body)? }
            }
            Self::Apps => Answer::Apps(serde_json::from_slice(body)?),
            Self::Record(app) => Answer::Record { app: app.clone(), record: serde_json::from_slice(body)? },
            Self::Audit => Answer::Audit(serde_json::from_slice(body)?),
            Self::Log => Answer::Log(serde_json::from_slice(body)?),
            Self::LogLines { .. } => Answer::LogLines(serde_json::from_slice(body)?),
        })
    }
}

/// The path of a document.
#[must_use]
pub fn document_path(name: &DocumentName) -> String {
    format!("/v1/documents/{}", name_path(name))
}

/// A document's name as part of a path.
#[must_use]
pub fn name_path(name: &DocumentName) -> String {
    format!("{}/{}/{}", encode(&name.tenant), encode(&name.app), encode(&name.name))
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        let name = DocumentName { tenant: "a/b".into(), app: "c?d".into(), name: "e f%".into() };
        assert_eq!(Ask::Document(name).path(), "/v1/documents/a%2Fb/c%3Fd/e%20f%25");
        let pins = Ask::Pins { db_code: Some("x&y".into()), cursor: Some("t::a::ä".into()) };
        assert_eq!(pins.path(), "/v1/pins?limit=500&db_code=x%26y&cursor=t%3A%3Aa%3A%3A%C3%A4");
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let event = r#"{"sequence":3,"at":"2026-01-01T00:00:00Z","kind":"comet","tail":{"long":true}}"#;
        let event: Happened = serde_json::from_str(event).unwrap();
        assert_eq!((event.kind.as_str(), event.fields["tail"]["long"].as_bool()), ("comet", Some(true)));
    }
}
