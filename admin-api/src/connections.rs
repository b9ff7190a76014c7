//! Connections.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// In no order that means anything.
    pub connections: Vec<Connection>,
    /// Where the next page begins: the parameter `cursor`. Missing where there is nothing more. There may be more although a
    /// page is not full: looking through all connections for a few takes several pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// A data thread did not answer in time: its connections are missing.
    pub is_partial: bool,
}

/// A WebSocket connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Its name as long as it lives, also when it moves to another thread. The log has the same as `conn`.
    pub id: String,
    /// The data thread that has its socket.
    pub thread: u16,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// When it was opened.
    #[schema(format = DateTime)]
    pub since: String,
    /// Whose token it showed, once it was let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For which app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The token's `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it speaks, once it has said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// Documents that it is a member of; not all, if there are very many.
    pub documents: Vec<String>,
    /// How many there are.
    pub document_count: u32,
    /// Whether messages are compressed.
    pub is_compressed: bool,
    /// Seconds since bytes came last.
    pub idle_seconds: f64,
    /// Bytes that wait for its socket.
    pub backlog_bytes: u64,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Not admitted to any document yet.
    Waiting,
    /// It has a document, or had.
    Open,
    /// On its way to another thread.
    Moving,
    /// Refused, or closed by one of both sides.
    Closing,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// y-websocket: one document, in the path.
    YWebsocket,
    /// Hocuspocus: any number of documents.
    Hocuspocus,
}
