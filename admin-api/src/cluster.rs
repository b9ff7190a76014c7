//! Other nodes, other regions, and who has which document, as the registries of the license regions know it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinPage {
    /// The license region whose registry this is; missing where there is one registry for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_code: Option<String>,
    /// By their names.
    pub pins: Vec<Pin>,
    /// Where the next page begins: the parameter `cursor`. Missing where there is nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A document that is active in a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    /// Whose it is.
    pub tenant: String,
    /// Of which app.
    pub app: String,
    /// Its name within the app.
    pub name: String,
    /// The region that has it; empty once it was taken away, until all have left it.
    pub region: String,
    /// Base of that region's WebSocket URLs.
    pub ws_url: String,
    /// The identity of the pin: `{epoch}-{nonce}`, each 16 hexadecimal digits. Of two the higher wins, everywhere.
    pub claim: String,
    /// Nodes that hold it, as `{region}/{name}/{life}`: none during its grace.
    pub nodes: Vec<String>,
    /// Seconds for which it still waits for its clients, if all have left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u64>,
}

/// A document was taken away from its region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unpinned {
    /// The pin as it was. Its region is empty if it had been taken away before, and somebody has not left it yet.
    pub pin: Pin,
    /// Seconds until it is idle, at the latest: nodes leave it with their next renewal, dead ones once their leases have run out.
    pub idle_within_seconds: u64,
}

/// The regions that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Regions {
    /// The one that was asked first.
    pub regions: Vec<Region>,
}

/// A region, as it looks from the node that was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// As in `eu-central-1`.
    pub name: String,
    /// Base of its WebSocket URLs; missing for one that has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it takes clients, as its operators say: `live`, `coming-soon`, `maintenance`.
    pub status: String,
    /// Where it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<String>,
    /// To it and back, smoothed; missing where nobody has measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// `healthy`, `degraded`, `overloaded`, `draining` or `unreachable`; missing where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// From 0, nothing, to 1, full; missing where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<f64>,
}

/// The nodes that registries know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// By their names.
    pub nodes: Vec<ClusterNode>,
    /// License regions whose registry did not answer: what it knows is missing.
    pub unanswered: Vec<String>,
}

/// A node that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterNode {
    /// Its region.
    pub region: String,
    /// Its name within the region.
    pub name: String,
    /// Tells its lives apart: hexadecimal.
    pub life: String,
    /// Base of its region's WebSocket URLs.
    pub ws_url: String,
    /// Where other nodes reach it; missing if they cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Base of its admin API's URL, as in `https://eu-1a.internal:9180`: `admin.public_url`, or where it is listened for. Missing
    /// if others cannot reach it, or it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
    /// Of its program.
    pub version: String,
    /// License regions that know it; empty where there is one registry for all.
    pub db_codes: Vec<String>,
}
