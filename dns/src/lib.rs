//! A region's name (`eu-central-1.example.net`) resolves to the addresses of its healthy nodes.
//!
//! There are two ways. Either somebody else has the zone, and each node keeps its own addresses there: a [`Keeper`] decides, over a
//! [`Provider`], and [`keep`] runs both. Or the nodes answer for the zone themselves: a [`Server`], from a [`ZoneView`] of the
//! pool.
//!
//! | module | concern |
//! | --- | --- |
//! | `name` | the name, its zone, its TTL |
//! | `provider` | whoever has the zone: dynamic updates, services, a program |
//! | `keeper` | who is in the name: deterministic, no I/O, no clock |
//! | `task` | a keeper over a provider |
//! | `embedded` | an authoritative server for the zone |
//! | `error` | what is wrong, where, and what would mend it |
//! | `secret` | something that stands in no log |
//!
//! What operators need to know is in `docs/dns.md`.

mod embedded;
mod error;
mod keeper;
mod name;
mod provider;
mod secret;
mod task;

pub use embedded::{
    NameServer, PoolMember, RateLimit, Server, ServerCounts, ServerSettings, Sockets, ZoneName, ZoneView,
};
pub use error::{Failure, ProviderError, SettingError};
pub use keeper::{
    AskId, Effect, Keeper, KeeperSettings, Member, News, Reason, Standing, State, Trouble, Wanted,
};
pub use name::RegionName;
pub use provider::{
    Addresses, AwsCredentials, Change, CloudflareSettings, Doing, ExecSettings, Held, Provider,
    ProviderSettings, Rfc2136Settings, Route53Settings, TsigAlgorithm, TsigKey,
};
pub use secret::Secret;
pub use task::{Inputs, Wish, keep};
