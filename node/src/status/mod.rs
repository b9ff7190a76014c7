//! What is published of how the regions are: a thread looks at them, keeps a [`Board`](pinwire_status::Board), and renders what
//! `/status` answers.
//!
//! Nodes of a region share one history through the region's Redis: whoever holds a lease there looks and writes, the others show what
//! was written. Without Redis a node has a history of its own, also while Redis is out of reach. Notices of maintenance may be
//! announced at any node; other regions read them from `/status.json`, and so show them while the region that announced them is down.
//!
//! | module | concern |
//! | --- | --- |
//! | `thread` | the thread: when it looks, whom it asks, what it is asked |
//! | `sightings` | how regions look from here, in states and words |
//! | `records` | where history and notices are kept |
//! | `shared` | the region's Redis |
//! | `file` | a file, where there is no Redis and a folder |
//! | `others` | what other regions have announced |
//! | `shown` | what is answered: rendered once for each change |
//! | `desk` | what operators ask for: announcing, changing, withdrawing |

mod desk;
mod file;
mod others;
mod records;
mod shared;
mod shown;
mod sightings;
mod thread;

pub(crate) use desk::{Asked, Desk, Done, Refused};
pub(crate) use shown::{Form, Published, Shown};
pub(crate) use thread::{Around, StatusThread, start};
