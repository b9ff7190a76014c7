//! The registries of the license regions that a node knows.

use std::fmt;
use std::sync::Arc;

use pinwire_registry::{Answering, Embedded, Registry, Request};

/// A registry, whichever kind it is.
#[derive(Clone)]
pub struct AnyRegistry(Arc<dyn Registry>);

impl AnyRegistry {
    /// This one.
    pub fn new(registry: impl Registry + 'static) -> Self {
        Self(Arc::new(registry))
    }

    /// An empty one in this process.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn embedded() -> Result<Self, getrandom::Error> {
        Ok(Self::new(Embedded::new(getrandom::u64()?)))
    }
}

impl Registry for AnyRegistry {
    fn ask(&self, request: Request) -> Answering {
        self.0.ask(request)
    }
}

impl fmt::Debug for AnyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyRegistry(..)")
    }
}
