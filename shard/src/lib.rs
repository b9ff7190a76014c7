//! Messages to effects: one data thread's connections, documents and sessions.
//!
//! Deterministic: bytes, events, the time and seeds come in through [`Shard`]'s methods, bytes and [`Effect`]s come out. There
//! is no I/O here, no clock, no global, so a simulator drives any number of shards through any schedule and gets the same
//! run from the same seed.
//!
//! Invariants worth naming:
//! - A document is *owned* by one shard (its *pin* is the region's); fan-out touches no lock.
//! - What a member lacks is a cursor into the document's log: no update can vanish in a queue.
//! - Other nodes may have the document, too: what they add comes from the session store and is not stored again, and of their users
//!   nothing is told back.
//! - No byte of a client reaches the Yjs library before the structural walk accepted it.
//! - What a connection is sent in a turn stands together in the [`Outbox`]; direct replies are bounded per turn, and a
//!   connection whose socket is full is not read from.

mod app;
mod apps;
mod conn;
mod deadlines;
pub mod document;
mod edit;
mod effect;
mod ending;
mod expiry;
mod fanout;
mod grant;
mod hocuspocus;
mod inspect;
mod leaving;
mod limits;
mod mail;
mod members;
mod operator;
mod output;
mod postponed;
mod refusals;
mod region;
mod relay;
mod remote;
mod shard;
mod slab;
mod stats;
mod subject;
mod wheel;
mod ywebsocket;

pub use app::{App, AppLimits, Unadmitted};
pub use conn::Traveller;
pub use effect::{
    ConnRef, DocumentName, DocumentRef, Effect, Kept, NodeTag, Outbox, PutBack, Segment, Slot, SocketAction,
};
pub use grant::{Access, Grant, Opening, Policy, Verdict};
pub use inspect::{
    ConnId, ConnectionFilter, ConnectionState, ConnectionView, Dialect, DocumentFacts, DocumentFilter,
    DocumentState, DocumentView, MemberView, NoConnId, Place, Rates,
};
pub use limits::{Settings, ticks};
pub use mail::{Body, FIRST_LINK, Mail, Pinned, ROUTE_MS, RemoteSession, Route};
pub use operator::{Ended, Told};
pub use shard::{Shard, owner_of};
pub use slab::Slab;
pub use stats::Stats;
pub use subject::Subject;
pub use wheel::TICK_MS;
