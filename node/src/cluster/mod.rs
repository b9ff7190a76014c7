//! One system of many nodes: which region has a document, and whether this node may serve.
//!
//! ```text
//!            hold, leave                     ask
//!  data-N ──────────────► pins ─────────────────────────► registry of a license region
//!    ▲  ▲   decided, lost   │ lease
//!    │  └───────────────────┤
//!    │                      ▼
//!    │     looks         gates      (before each turn, flush and append)
//!    │                      ▲
//!    │ foreign, stored      │
//!    └────────────────── session ───────────────────────► Redis of the region
//!                open, append, say
//! ```
//!
//! `pins` and `session` never wait for each other, nor for HTTP: a data thread takes what one said to the other.
//!
//! | module | concern |
//! | --- | --- |
//! | `gates` | the leases of the node, as its threads go by them |
//! | `allotments` | what this node may admit of an app's limit, and would |
//! | `pins` | the thread that claims documents and renews leases |
//! | `registries` | the registries of the license regions |
//! | `tray` | what that thread has to say to a data thread |
//! | `claimed` | a data thread's side: a document is claimed before its session is opened |
//! | `session` | the thread that keeps sessions in the region's Redis |
//! | `news` | what that thread has to say to a data thread |
//! | `tags` | numbers for other nodes |
//! | `shared` | a data thread's side of that |
//! | `running` | how these threads start and end |
//! | `stats` | what is counted |

mod allotments;
mod claimed;
mod gates;
mod news;
mod pins;
mod registries;
mod running;
mod session;
mod shared;
mod stats;
mod tags;
mod tray;

pub use claimed::Begun;
pub(crate) use claimed::Claimed;
pub(crate) use claimed::registry_name;
pub(crate) use gates::Gates;
pub(crate) use pins::{Around, PinsWay, Request as PinsRequest, StartError, start};
pub use registries::{AnyRegistry, Registries, SharedRegistry, UrlError, link, link_with};
pub(crate) use running::{Running, Signals, runtime};
#[cfg(test)]
pub(crate) use session::Request as SessionRequest;
pub(crate) use session::{Around as AroundSession, SessionWay, start as start_session};
pub(crate) use shared::SharedStore;
pub use stats::{ClusterStats, Count, Level};
pub(crate) use tray::{PinEvent, Trays};

use tokio::task::JoinError;

/// What a task came to that nobody ends early. Its panic goes on in the thread that asked, and ends the process.
pub(crate) fn came_to<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    #[test]
    #[should_panic(expected = "a broken answer")]
    fn a_panic_of_a_task_is_one_of_its_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tasks: JoinSet<()> = JoinSet::new();
            tasks.spawn(async { panic!("a broken answer") });
            tasks.join_next().await.map(super::came_to)
        });
    }
}
