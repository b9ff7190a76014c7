//! Apps, and what they use of their limits.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some apps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppPage {
    /// By tenant and id.
    pub apps: Vec<App>,
    /// Where the next page begins: the parameter `cursor`. Missing where there is nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An app, and what it uses on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub app: String,
    /// Open sockets with at least one admitted session.
    pub connections: Use,
    /// Active documents.
    pub documents: Use,
    /// Edits and stateless messages of this minute, those included that data threads have set aside for it.
    pub operations: Use,
    /// Sessions that one document may have. Missing where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users_per_document: Option<u32>,
}

/// What is used, and how much may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Use {
    /// Now.
    pub used: u32,
    /// At most, by the token seen last. Missing where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What the license region says of an app. It is the same for all nodes that know the license region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRecord {
    /// Limits for tokens that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RecordLimits>,
    /// Regions in which documents of the app may be opened. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 256)]
    pub regions: Option<Vec<String>>,
    /// Public keys (JWK) that its tokens may be signed with, beside those of the nodes' configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>, max_items = 16)]
    pub keys: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
}

/// Limits, named as in tokens. What is missing comes from the nodes' configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordLimits {
    /// Open connections, all nodes and regions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Active documents, all nodes and regions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<u32>,
    /// Sessions on one document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users_per_doc: Option<u32>,
    /// Operations a minute in one region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops_per_minute: Option<u32>,
}

/// An app's record, and which one it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordedApp {
    /// Rises with each change; the header `ETag` has it in quotation marks.
    pub version: u64,
    /// What it says; missing where there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<AppRecord>,
}
