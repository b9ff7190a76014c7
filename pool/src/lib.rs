//! The nodes of a region: who lives, who serves, and who may leave DNS.
//!
//! Each node tells the pool each few seconds how it is, and is told how the others are. What nodes decide about each other has to
//! be decided in one place: two that are overloaded at the same moment must not both leave. So it is decided in the region's Redis,
//! as one step, by its clock; [`Book`] is the same in memory, and tests give both the same requests.
//!
//! | module | concern |
//! | --- | --- |
//! | `member` | what is said, and what is heard |
//! | `book` | the rules, in memory |
//! | `redis` | the same in Redis: keys, scripts, answers |

mod book;
mod member;
mod redis;

pub use book::Book;
pub use member::{Beat, Gone, Heard, Member, Seen};
pub use redis::{PoolError, RedisPool};
