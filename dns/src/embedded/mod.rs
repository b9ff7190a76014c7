//! An authoritative server for a zone, from what a pool says: the nodes answer for their region's name themselves.
//!
//! It answers `A` and `AAAA` of the names in the view, `SOA`, `NS` and the addresses of the name servers, and nothing else. It is made
//! to stand behind a delegation, among strangers: it recurses for nobody, transfers no zone, answers nothing larger than 1232 bytes
//! over UDP, and bounds what it sends to one network.
//!
//! | module | concern |
//! | --- | --- |
//! | `zone` | the view of the pool, and what the zone has by it |
//! | `choose` | which nodes stand in an answer |
//! | `answer` | from the bytes of a query to the bytes of its answer: no I/O |
//! | `limit` | how much one network gets over UDP |
//! | `server` | sockets and connections |

mod answer;
mod choose;
mod limit;
mod server;
mod zone;

pub use limit::RateLimit;
pub use server::{Server, ServerCounts, ServerSettings, Sockets};
pub use zone::{NameServer, PoolMember, ZoneName, ZoneView};
