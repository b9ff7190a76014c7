//! What a console is sent: a [`Snapshot`] first, then a [`Change`] each second.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::documents::Document;
use crate::events::Event;
use crate::node::{Node, Thread};

/// The event `snapshot`: how things are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// The node.
    pub node: Node,
    /// Its data threads.
    pub threads: Vec<Thread>,
    /// The documents at the top of the order that was asked for.
    pub documents: Vec<Document>,
    /// What happened last, the oldest first.
    pub events: Vec<Event>,
}

/// The event `change`: what is different from what was sent last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The node, which always is.
    pub node: Node,
    /// Threads that are.
    pub threads: Vec<Thread>,
    /// The documents at the top now, in their order, by name.
    pub order: Vec<DocumentName>,
    /// Those of them that are new there or changed.
    pub documents: Vec<Document>,
    /// What happened since.
    pub events: Vec<Event>,
    /// What happened since and is not kept any more.
    pub events_lost: u64,
    /// Seconds that were left out because the console was not done with the one before.
    pub skipped: u64,
}

/// Names a document on the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct DocumentName {
    /// Whose.
    pub tenant: String,
    /// Of which app.
    pub app: String,
    /// Which.
    pub name: String,
}
