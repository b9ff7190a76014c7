//! The state of regions, their incidents and announced maintenance, and how these are shown.
//!
//! A [`Board`] is given what somebody saw of a region, and when. It believes that only once it was seen for a while, keeps what it came
//! to believe as incidents, and shows all of it as a [`Report`]: JSON for programs, [`atom`] for feed readers, a [`page`] for people.
//! [`Notices`] of maintenance are merged with those of other boards, in any order and as often as one likes.
//!
//! | module | concern |
//! | --- | --- |
//! | `at` | points in time |
//! | `state` | how a region can be |
//! | `region` | when a change of state is believed |
//! | `incident` | what becomes of such a change |
//! | `notice`, `notices` | maintenance that was announced: one, and all of them |
//! | `board` | all that is known |
//! | `report` | what is shown of it, in JSON |
//! | [`atom`], [`page`] | the same as a feed, and as a page |
//! | `text` | text of others in XML and HTML |

mod at;
pub mod atom;
mod board;
mod incident;
mod notice;
mod notices;
pub mod page;
mod region;
mod report;
mod state;
mod text;

pub use at::At;
pub use board::{Board, History};
pub use incident::{Incident, Update};
pub use notice::{Announcement, Notice, Phase, Wrong};
pub use notices::{Full, Notices};
pub use region::{Pace, Region};
pub use report::{IncidentShown, Kept, Maintenance, Place, RegionShown, Report, View};
pub use state::State;

/// Days that incidents, and notices of maintenance that is over, are kept.
pub const KEPT_DAYS: u64 = 90;
/// Regions that a board knows at most.
pub const REGIONS_MAX: usize = 300;
/// Incidents that a board keeps at most, beside those that go on.
pub const INCIDENTS_MAX: usize = 200;
/// Notices that may be announced at once, those that are over or withdrawn included.
pub const ANNOUNCED_MAX: usize = 100;

const DAY: u64 = 86_400;
