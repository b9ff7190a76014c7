//! How a node stands: how full it is, what it still does, and the pool of its region's nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// Names the change that made it so; answers to clients that are refused for it have it, too.
    pub change: String,
    /// Why, with numbers as of that change.
    pub cause: String,
    /// What the node still does.
    pub rung: Rung,
    /// Whether the region's name is to resolve to the node.
    pub in_dns: bool,
    /// It would leave, and stays since no other node could take its clients.
    pub is_last: bool,
    /// From 0, nothing, to 1, full: of what there is least of.
    pub occupancy: f64,
    /// How full of each thing that is known and counts.
    pub parts: Vec<Part>,
    /// From this occupancy on new clients are for other nodes.
    pub high_water: f64,
    /// Below it they are taken again, after a while.
    pub low_water: f64,
    /// WebSocket handshakes that are let in in a second.
    pub handshakes_per_second: f64,
    /// The nodes of the region.
    pub pool: Pool,
}

/// What a node still does, from everything to the least. Sessions that are there are served on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Everything.
    Serving,
    /// The same; presence is gathered for longer before it goes out.
    Thrifty,
    /// Documents that nobody here has open are for other nodes.
    NoNewDocuments,
    /// New connections are for other nodes.
    NoNewConnections,
}

/// So much used of so much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Of what: `connections`, `memory` or `cpu`.
    pub resource: String,
    /// From 0, nothing, to 1, full, and beyond.
    pub share: f64,
    /// In use: connections, or bytes; missing for processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// What there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// The nodes of a region as one of them knows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Whether they can be asked.
    pub reach: Reach,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds since they were heard of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// All who live, by name; none where a node is its own pool.
    pub members: Vec<PoolMember>,
}

/// Whether a pool can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// There is no Redis that nodes share: the node is its own pool.
    Alone,
    /// It answers.
    Reached,
    /// It does not: what was heard last counts for a while.
    Lost,
}

/// A node of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolMember {
    /// Its name in the region.
    pub name: String,
    /// Its addresses belong into DNS.
    pub in_dns: bool,
    /// It would rather have its clients elsewhere.
    pub wants_out: bool,
    /// From 0, nothing, to 1, full, and beyond.
    pub occupancy: f64,
    /// What the region's name is to resolve to on its account.
    pub addresses: Vec<String>,
}
