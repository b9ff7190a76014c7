//! Documents and their members.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::connections::Dialect;

/// Some documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DocumentPage {
    /// In the order that was asked for.
    pub documents: Vec<Document>,
    /// Where the next page begins: the parameter `cursor`. Missing where there is nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// A data thread did not answer in time: its documents are missing.
    pub is_partial: bool,
}

/// An active document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Document {
    /// Whose it is.
    pub tenant: String,
    /// Of which app.
    pub app: String,
    /// Its name within the app.
    pub name: String,
    /// Where it is in its life.
    pub state: DocumentState,
    /// The claim under which this node serves it, as pins have it: `{epoch}-{nonce}`, each 16 hexadecimal digits. Missing while it is
    /// being opened, and where the node is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The node has no lease of the registry now: members on this node get each other's edits, and nothing is acknowledged or
    /// stored until the lease is renewed.
    #[serde(default)]
    pub is_adrift: bool,
    /// When it was opened on this node.
    #[schema(format = DateTime)]
    pub since: String,
    /// Sessions on it.
    pub members: u64,
    /// Clients that are present, by awareness.
    pub present: u64,
    /// Updates that brought something new, lately.
    pub edits_per_second: f64,
    /// Their bytes.
    pub bytes_per_second: f64,
    /// Bytes that it takes in memory as compacted past and updates since.
    pub log_bytes: u64,
    /// Of these, those that the session store does not have yet.
    pub unstored_bytes: u64,
    /// The session store is behind, and edits are dropped until it is back.
    pub is_rejecting: bool,
    /// The data thread that owns it.
    pub thread: u16,
}

/// Where a document is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentState {
    /// The session store was asked for it.
    Loading,
    /// It has members.
    Live,
    /// The last member left a short while ago; it ends soon.
    Grace,
}

/// What documents can be ordered by, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentSort {
    /// Sessions.
    Members,
    /// Edits in a second.
    Edits,
    /// Bytes of edits in a second.
    Bytes,
    /// Bytes in memory.
    Log,
}

/// A document and some of its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DocumentDetail {
    /// The document.
    pub document: Document,
    /// Some of its members.
    pub members: Vec<Member>,
    /// Where the next page of members begins: the parameter `cursor`. Missing where there is nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// A data thread did not answer in time: what it knows of members is missing.
    pub is_partial: bool,
}

/// A member of a document: one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its connection's id; missing where that has just gone, its thread did not answer, or it is on a node of another region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Its token's `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it speaks.
    pub dialect: Dialect,
    /// When its connection was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Its edits are dropped.
    pub is_read_only: bool,
    /// The data thread that has its socket; missing where that is on a node of another region, which carries the session here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u16>,
}
