//! What of a configuration a running node takes over: swapped as a whole, seen by every thread in its next turn.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use pinwire_engine::Transform;
use pinwire_tls::{ProducesTickets, ServerConfig, server_config, server_session, ticketer};
use pinwire_token::{Key, KeySet, Policy};

use crate::config::{AddressLimits, Certificates, Config};
use crate::jwks::{Refetch, merge};
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
    /// What the trust is made of; locked while it is made, never on a data thread.
    made_of: Mutex<MadeOf>,
    refetch: Refetch,
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

/// The parts of a [`Trust`].
#[derive(Debug)]
struct MadeOf {
    configured: KeySet,
    /// Keys by URL, as they were fetched last.
    fetched: Vec<Key>,
    fetches: bool,
    policy: Policy,
    /// Names that stand for more than one key, as they were told last.
    ambiguous: BTreeSet<String>,
}

impl MadeOf {
    fn new(config: &Config, fetched: Vec<Key>, ambiguous: BTreeSet<String>) -> Self {
        let (configured, policy) = (config.keys.clone(), config.policy.clone());
        Self { configured, fetched, fetches: !config.jwks.urls.is_empty(), policy, ambiguous }
    }

    fn trust(&mut self) -> Trust {
        let (mut keys, ambiguous) = merge(&self.configured, &self.fetched);
        for name in ambiguous.difference(&self.ambiguous) {
            tracing::warn!(kid = name, "two keys have this name; tokens that name it are checked with both");
        }
        self.ambiguous = ambiguous;
        if self.fetches {
            keys.expect_more();
        }
        Trust { keys, policy: self.policy.clone() }
    }
}

impl Live {
    /// As the configuration has it; no request may be older than `epoch`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(config: &Config, epoch: Instant) -> io::Result<Self> {
        let mut made_of = MadeOf::new(config, Vec::new(), BTreeSet::new());
        let live = Self {
            trust: ArcSwap::from_pointee(made_of.trust()),
            made_of: Mutex::new(made_of),
            refetch: Refetch::default(),
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
        self.make_trust(|parts| {
            let (fetched, ambiguous) =
                (std::mem::take(&mut parts.fetched), std::mem::take(&mut parts.ambiguous));
            *parts = MadeOf::new(config, fetched, ambiguous);
        });
        let before = self.limiter.load().as_ref().map(|limiter| limiter.0);
        if before != config.address_limits {
            self.limit_addresses(config.address_limits);
        }
        self.speak_tls(config);
    }

    /// Takes other keys over that were fetched; the same change nothing.
    pub(crate) fn set_fetched(&self, fetched: Vec<Key>) {
        let prints = |keys: &[Key]| keys.iter().map(Key::fingerprint).collect::<Vec<_>>();
        let known = prints(&self.made_of.lock().unwrap_or_else(PoisonError::into_inner).fetched);
        if known != prints(&fetched) {
            self.make_trust(|parts| parts.fetched = fetched);
        }
    }

    fn make_trust(&self, change: impl FnOnce(&mut MadeOf)) {
        let mut parts = self.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        self.trust.store(Arc::new(parts.trust()));
    }

    /// How tokens with an unknown key ask for keys to be fetched.
    #[must_use]
    pub(crate) fn refetch(&self) -> &Refetch {
        &self.refetch
    }

    /// Keys of the configuration, and all.
    pub(crate) fn key_counts(&self) -> (usize, usize) {
        let configured =
            self.made_of.lock().unwrap_or_else(PoisonError::into_inner).configured.iter().count();
        (configured, self.trust.load().keys.iter().count())
    }

    /// Connections that are there keep what they were made by.
    fn speak_tls(&self, config: &Config) {
        let Some(tls) = &config.tls else { return };
        match server_config(&tls.certificates, &self.ticketer, None) {
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
