//! Whoever has the zone: a name's addresses are read there, and changed.
//!
//! | module | provider |
//! | --- | --- |
//! | `rfc2136` | a server that takes dynamic updates: BIND, Knot, PowerDNS, Windows |
//! | `route53` | Amazon Route 53 |
//! | `cloudflare` | Cloudflare |
//! | `exec` | a program of the operator's |
//! | `http` | the client that the services are asked with |

mod cloudflare;
mod exec;
mod http;
mod rfc2136;
mod route53;

pub use cloudflare::CloudflareSettings;
pub use exec::ExecSettings;
pub use rfc2136::{Rfc2136Settings, TsigAlgorithm, TsigKey};
pub use route53::{AwsCredentials, Route53Settings};

use crate::{ProviderError, RegionName, SettingError};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

/// The addresses of a name, of both families.
pub type Addresses = BTreeSet<IpAddr>;

/// What a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All its addresses.
    pub addresses: Addresses,
    /// Those that resolvers keep for longer than the name is to have it, as far as the provider tells: somebody changed their TTL.
    pub slow: Addresses,
}

impl Held {
    /// Notes an address, and how long resolvers keep it.
    pub(crate) fn note(&mut self, address: IpAddr, ttl_s: u32, name: &RegionName) {
        self.addresses.insert(address);
        if ttl_s > name.ttl_s() {
            self.slow.insert(address);
        }
    }
}

impl From<Addresses> for Held {
    fn from(addresses: Addresses) -> Self {
        Self { addresses, slow: Addresses::new() }
    }
}

/// Something that a provider is doing. Dropping it does not take it back.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// A change of a name's addresses. To add what is there already, or to remove what is not, is no error: it may be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Addresses that the name has afterwards. Their TTL is the region's, also of those that it had with a longer one.
    pub add: Addresses,
    /// Addresses that it does not have afterwards. All others stay.
    pub remove: Addresses,
    /// The change is right only if the name has exactly these addresses now; if not, it ends with [`ProviderError::Changed`]. How
    /// surely depends on the provider: see [`Provider::compares_exactly`].
    pub only_if: Option<Addresses>,
}

/// A provider, for one name.
pub trait Provider: fmt::Debug + Send + Sync {
    /// All addresses that the name has, as its primary server has them. None if there is no such name.
    fn read(&self) -> Doing<'_, Held>;

    /// Changes them, in one step where the provider can. It ends in bounded time.
    fn change(&self, change: Change) -> Doing<'_, ()>;

    /// [`Change::only_if`] is compared and the change made in one step, whoever else is changing the name. Otherwise it is
    /// compared right before the change, and two changes at the same moment can both happen.
    fn compares_exactly(&self) -> bool;

    /// Which server, service or program this is, for logs.
    fn place(&self) -> String;
}

/// Which provider, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderSettings {
    /// A server that takes dynamic updates.
    Rfc2136(Rfc2136Settings),
    /// Amazon Route 53.
    Route53(Route53Settings),
    /// Cloudflare.
    Cloudflare(CloudflareSettings),
    /// A program.
    Exec(ExecSettings),
    /// DNS is kept by somebody else, or by the nodes' own server.
    None,
}

impl ProviderSettings {
    /// The provider for `name`, if DNS is kept by one. Nothing is asked of it yet.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn provider(self, name: RegionName) -> Result<Option<Box<dyn Provider>>, SettingError> {
        Ok(Some(match self {
            Self::Rfc2136(settings) => Box::new(rfc2136::Rfc2136::new(name, settings)?),
            Self::Route53(settings) => Box::new(route53::Route53::new(name, settings)?),
            Self::Cloudflare(settings) => Box::new(cloudflare::Cloudflare::new(name, settings)?),
            Self::Exec(settings) => Box::new(exec::Exec::new(name, settings)?),
            Self::None => return Ok(None),
        }))
    }

    /// A time between two looks that the provider bears with many nodes: Route 53 takes five requests a second of a whole
    /// account, Cloudflare 1,200 in five minutes of a user.
    #[must_use]
    pub fn usual_check_us(&self) -> u64 {
        let seconds = match self {
            Self::Rfc2136(_) | Self::None => 10,
            Self::Exec(_) | Self::Cloudflare(_) => 30,
            Self::Route53(_) => 60,
        };
        seconds * 1_000_000
    }
}
