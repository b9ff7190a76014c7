//! The registries of the license regions that a node knows.

use std::fmt;
use std::sync::Arc;

use pinwire_redis::{Endpoint, EndpointError, Link, Settings};
use pinwire_registry::{Answering, Embedded, RedisRegistry, Registry, Request};

use crate::config::{Cluster, RedisUrl, RegistryKind};

/// A registry in this process. Nodes that share one are regions of one system.
#[derive(Clone)]
pub struct SharedRegistry(Embedded);

impl SharedRegistry {
    /// An empty one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(Embedded::new(getrandom::u64()?)))
    }
}

impl fmt::Debug for SharedRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRegistry")
    }
}

/// Where the registries are, one for each license region in the order of their numbers. Each thread opens links of its own: none
/// of them waits for what another has asked.
#[derive(Clone, Debug)]
pub struct Registries(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Embedded(SharedRegistry),
    Redis(Arc<[RedisUrl]>),
}

/// A Redis cannot be what its URL says.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {source}")]
pub struct UrlError {
    url: RedisUrl,
    source: EndpointError,
}

impl Registries {
    /// Those of a configuration; `shared` is the one in this process, if there is one already.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(cluster: &Cluster, shared: Option<SharedRegistry>) -> Result<Self, getrandom::Error> {
        Ok(Self(match (&cluster.registry, shared) {
            (RegistryKind::Embedded, Some(shared)) => Kind::Embedded(shared),
            (RegistryKind::Embedded, None) => Kind::Embedded(SharedRegistry::new()?),
            (RegistryKind::Redis(all), _) => {
                Kind::Redis(all.iter().map(|license| license.url.clone()).collect())
            }
        }))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.0 {
            Kind::Embedded(_) => 1,
            Kind::Redis(urls) => urls.len(),
        }
    }

    /// Opens links to all of them, on the thread of a tokio runtime that is entered. They connect when they are first used.
    ///
    /// # Errors
    /// A URL that cannot be used, or whose files cannot be read.
    pub fn open(&self) -> Result<Vec<AnyRegistry>, UrlError> {
        match &self.0 {
            Kind::Embedded(SharedRegistry(embedded)) => Ok(vec![AnyRegistry(Arc::new(embedded.clone()))]),
            Kind::Redis(urls) => {
                let open = |url| Ok(AnyRegistry(Arc::new(RedisRegistry::new(link(url)?))));
                urls.iter().map(open).collect()
            }
        }
    }
}

/// A link to a Redis, with the bounds that all have.
///
/// # Errors
/// A URL that cannot be used, or whose files cannot be read.
pub fn link(url: &RedisUrl) -> Result<Link, UrlError> {
    link_with(url, Settings::default())
}

/// The same with other bounds.
///
/// # Errors
/// As [`link`].
pub fn link_with(url: &RedisUrl, settings: Settings) -> Result<Link, UrlError> {
    let wrong = |source| UrlError { url: url.clone(), source };
    let endpoint: Endpoint = url.secret().parse().map_err(wrong)?;
    Link::new(endpoint, settings).map_err(wrong)
}

/// A registry, whichever kind it is.
#[derive(Clone)]
pub struct AnyRegistry(Arc<dyn Registry>);

impl Registry for AnyRegistry {
    fn ask(&self, request: Request) -> Answering {
        self.0.ask(request)
    }
}

impl fmt::Debug for AnyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyRegistry")
    }
}

impl From<AnyRegistry> for Arc<dyn Registry> {
    fn from(AnyRegistry(registry): AnyRegistry) -> Self {
        registry
    }
}
