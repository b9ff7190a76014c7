//! Maintenance that is announced on the status page.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Maintenance that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MaintenanceList {
    /// All that the region knows of, by id, also what is over or withdrawn: for 90 days.
    pub notices: Vec<Maintenance>,
    /// Whether all nodes of the region know: false while its Redis is out of reach, where this node's own is told.
    pub is_kept: bool,
}

/// An announcement as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnnouncedMaintenance {
    /// It.
    #[serde(flatten)]
    pub notice: Maintenance,
    /// Whether all nodes of the region know: false while its Redis is out of reach. They will, if this node lives until it is back.
    pub is_kept: bool,
}

/// An announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Maintenance {
    /// Its id, the same in all regions.
    pub id: String,
    /// Counts from 1 with each change.
    pub revision: u64,
    /// When it was changed last.
    #[schema(format = DateTime)]
    pub revised: String,
    /// Where it is in its life.
    pub phase: MaintenancePhase,
    /// Which regions are worked on.
    pub regions: Vec<String>,
    /// From when.
    #[schema(format = DateTime)]
    pub from: String,
    /// To when.
    #[schema(format = DateTime)]
    pub to: String,
    /// In a few words.
    pub title: String,
    /// In more words.
    pub text: String,
}

/// Where an announcement is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaintenancePhase {
    /// It is to come.
    Planned,
    /// It is now: the regions are shown as in maintenance, and have no incidents.
    Underway,
    /// It was.
    Over,
    /// It was called off.
    Withdrawn,
}

/// What is to be announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// Which regions are worked on; those of `/v1/regions`.
    #[schema(min_items = 1)]
    pub regions: Vec<String>,
    /// From when, as in RFC 3339.
    #[schema(format = DateTime)]
    pub from: String,
    /// To when.
    #[schema(format = DateTime)]
    pub to: String,
    /// One line, at most 120 characters.
    #[schema(min_length = 1, max_length = 120)]
    pub title: String,
    /// At most 2,000 characters. Lines are paragraphs.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub text: String,
}
