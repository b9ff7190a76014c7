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
