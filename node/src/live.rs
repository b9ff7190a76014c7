//! What of a configuration a running node takes over: swapped as a whole, seen by every thread in its next turn.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use pinwire_engine::Transform;
use pinwire_tls::{ProducesTickets, ServerConfig, server_config, server_session, ticketer};
use pinwire_token::{KeySet, Policy};

use crate::config::{AddressLimits, Certificates, Config};
use crate::limits::AddressLimiter;

/// What tokens are judged by.
#[derive(Debug)]
pub struct Trust {
    /// The keys that they are signed with.
    pub keys: KeySet,
    /// What they must say besides being signed.
    pub policy: Policy,
}

/// The parts of a configuration that change while a node runs.
#[derive(Debug)]
pub struct Live {
    trust: ArcSwap<Trust>,
    /// Limits per client address, while they are on, and what they were made from.
    limiter: ArcSwapOption<(AddressLimits, AddressLimiter)>,
    /// What TLS connections are made by, where TLS is spoken.
    tls: ArcSwapOption<ServerConfig>,
    /// The certificates in there.
    certificates: ArcSwapOption<Certificates>,
    ticketer: Arc<dyn ProducesTickets>,
    /// No request is older.
    epoch: Instant,
}

impl Live {
    /// As the configuration has it; no request may be older than `epoch`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(config: &Config, epoch: Instant) -> io::Result<Self> {
        let trust = Trust { keys: config.keys.clone(), policy: config.policy.clone() };
        let live = Self {
            trust: ArcSwap::from_pointee(trust),
            limiter: ArcSwapOption::empty(),
            tls: ArcSwapOption::empty(),
            certificates: ArcSwapOption::empty(),
            ticketer: ticketer().map_err(io::Error::other)?,
            epoch,
        };
        live.limit_addresses(config.address_limits);
        live.speak_tls(config);
        Ok(live)
    }

    /// Takes another configuration over. Clients whose address limits change begin with a full allowance.
    pub fn update(&self, config: &Config) {
        self.trust.store(Arc::new(Trust { keys: config.keys.clone(), policy: config.policy.clone() }));
        let before = self.limiter.load().as_ref().map(|limiter| limiter.0);
        if before != config.address_limits {
            self.limit_addresses(config.address_limits);
        }
        self.speak_tls(config);
    }

    /// Connections that are there keep what they were made by.
    fn speak_tls(&self, config: &Config) {
        let Some(tls) = &config.tls else { return };
        match server_config(&tls.certificates, &self.ticketer) {
            Ok(config) => {
                self.tls.store(Some(config));
                self.certificates.store(Some(Arc::clone(&tls.certificates)));
            }
            Err(error) => tracing::error!(%error, "TLS stays as it was"),
        }
    }

    /// A connection's side of TLS; `None` where it is not spoken.
    #[must_use]
    pub(crate) fn tls_session(&self) -> Option<Box<dyn Transform>> {
        let config = self.tls.load_full()?;
        server_session(config).inspect_err(|error| tracing::error!(%error, "TLS")).ok()
    }

    /// The certificates that clients get.
    pub(crate) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.load_full()
    }

    fn limit_addresses(&self, limits: Option<AddressLimits>) {
        let limiter = limits.map(|limits| Arc::new((limits, AddressLimiter::new(&limits, self.epoch))));
        self.limiter.store(limiter);
    }

    /// What tokens are judged by now.
    #[must_use]
    pub fn trust(&self) -> Guard<Arc<Trust>> {
        self.trust.load()
    }

    /// Calls `ask` with the limits per client address; `None` where they are off.
    pub fn with_limiter<T>(&self, ask: impl FnOnce(&AddressLimiter) -> T) -> Option<T> {
        self.limiter.load().as_ref().map(|limiter| ask(&limiter.1))
    }
}
