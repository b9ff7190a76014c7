//! How a region can be.

use serde::{Deserialize, Serialize};

/// The state of a region, the worse ones later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything works.
    Operational,
    /// Maintenance that was announced is under way.
    Maintenance,
    /// It serves, and something is not as it should be.
    Degraded,
    /// It does not serve.
    Unavailable,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Operational, Self::Maintenance, Self::Degraded, Self::Unavailable];

    /// As in JSON, and as the page's classes are called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operational => "operational",
            Self::Maintenance => "maintenance",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Operational => "Operational",
            Self::Maintenance => "Maintenance",
            Self::Degraded => "Degraded",
            Self::Unavailable => "Unavailable",
        }
    }

    /// A sign that tells states apart without colour.
    #[must_use]
    pub const fn glyph(self) -> &'static str {
        match self {
            Self::Operational => "\u{2713}",
            Self::Maintenance => "\u{2692}",
            Self::Degraded => "\u{25b2}",
            Self::Unavailable => "\u{2715}",
        }
    }

    /// Whether it is an incident.
    #[must_use]
    pub const fn is_incident(self) -> bool {
        matches!(self, Self::Degraded | Self::Unavailable)
    }
}
