//! The admin API as the rest of the node sees it: opened before anything runs, served when it does, stopped at the end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::thread::{self, Admin};
use super::{Access, AdminAddress, Audit, Clock, Events, Listeners, Plane, Services};
use crate::apps::{Apps, Records};
use crate::cluster::ClusterStats;
use crate::config::{self, Cluster};
use crate::control::Lookup;
use crate::dns::Dns;
use crate::drain::Drains;
use crate::metrics::Threads;
use crate::peer::Relay;
use crate::regions::{Catalogue, Own};
use crate::shedding::Health;
use crate::status::Desk;
use crate::store::Way;
use crate::upgrade::Handed;
use crate::{Start, StartError};

/// Sockets that are listened on and not served yet.
#[derive(Debug)]
pub(crate) struct Doorway {
    listeners: Listeners,
    shared: Shared,
}

/// What the thread and the rest of the node share.
#[derive(Clone, Debug)]
struct Shared {
    access: Arc<Access>,
    audit: Arc<Audit>,
    events: Arc<Events>,
    digest: Arc<ArcSwapOption<String>>,
}

/// What of the node operators are shown.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) region: String,
    pub(crate) max_connections: u32,
    pub(crate) epoch: Instant,
    pub(crate) health: Arc<Health>,
    pub(crate) apps: Arc<Apps>,
    pub(crate) records: Arc<Records>,
    pub(crate) cluster: Cluster,
    pub(crate) stats: Arc<ClusterStats>,
    pub(crate) known_db_codes: Vec<String>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) own: Own,
    pub(crate) lookup: Lookup,
    pub(crate) relay: Option<Relay>,
    pub(crate) threads: Arc<Threads>,
    pub(crate) store: Option<Way>,
    pub(crate) drains: Drains,
    pub(crate) dns: Option<Dns>,
    pub(crate) status: Option<Desk>,
}

impl Doorway {
    /// # Errors
    /// Nobody can listen there, or not in TLS.
    pub(crate) fn open(config: &config::Admin, handed: &mut Handed) -> Result<Self, StartError> {
        let access = Arc::new(Access::new(config)?);
        let listeners =
            Listeners::bind(&config.listen, config.socket.as_deref(), config.tls.is_some(), handed)?;
        let shared = Shared {
            access,
            audit: Arc::new(Audit::new(config.audit_log.as_deref())),
            events: Arc::default(),
            digest: Arc::default(),
        };
        Ok(Self { listeners, shared })
    }

    /// Where what happens is told.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.shared.events
    }

    /// Its sockets once more, for a process that takes over.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.listeners.copies()
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn serve(self, start: Start, around: Around) -> Result<Operators, StartError> {
        let Self { listeners, shared } = self;
        shared.digest.store(start.digest.map(Arc::new));
        let addresses = listeners.addresses();
        let disowned = listeners.disowned();
        let of_thread = shared.clone();
        let services = |stopping| Services {
            region: around.region,
            max_connections: around.max_connections,
            clock: Clock::since(around.epoch),
            health: around.health,
            apps: around.apps,
            records: around.records,
            cluster: around.cluster,
            stats: around.stats,
            known_db_codes: around.known_db_codes,
            catalogue: around.catalogue,
            own: around.own,
            lookup: around.lookup,
            relay: around.relay,
            plane: Plane::new(around.threads),
            events: of_thread.events,
            audit: of_thread.audit,
            access: of_thread.access,
            log: start.log,
            store: around.store,
            drains: around.drains,
            dns: around.dns,
            upgrades: start.upgrades,
            status: around.status,
            digest: of_thread.digest,
            stopping,
            streams: super::stream::Streams::default(),
        };
        Ok(Operators { thread: thread::start(listeners, services)?, addresses, shared, disowned })
    }
}

/// The admin API of a running node.
#[derive(Debug)]
pub(crate) struct Operators {
    thread: Admin,
    addresses: Vec<AdminAddress>,
    shared: Shared,
    disowned: Arc<AtomicBool>,
}

impl Operators {
    /// Where it is listened for, TCP first.
    pub(crate) fn addresses(&self) -> &[AdminAddress] {
        &self.addresses
    }

    /// Where other hosts may reach it: `None` where it is not listened for on TCP, or on every address that the host has.
    pub(crate) fn url(&self) -> Option<String> {
        let is_one = |address: &&AdminAddress| matches!(address, AdminAddress::Tcp(at, _) if !at.ip().is_unspecified());
        self.addresses.iter().find(is_one).map(ToString::to_string)
    }

    /// Where what happens is told.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.shared.events
    }

    /// Takes another configuration over.
    pub(crate) fn update(&self, config: &config::Admin, digest: String) {
        let Shared { access, audit, digest: shown, .. } = &self.shared;
        if let Err(error) = access.update(config) {
            tracing::error!(%error, "who may ask the admin API stays as it was");
        }
        audit.write_to(config.audit_log.as_deref());
        shown.store(Some(Arc::new(digest)));
    }

    /// Another process has its Unix socket: the file stays.
    pub(crate) fn disown(&self) {
        self.disowned.store(true, Ordering::Relaxed);
    }

    /// The Unix socket is this process's: the file goes with it.
    pub(crate) fn own(&self) {
        self.disowned.store(false, Ordering::Relaxed);
    }

    /// Takes connections from now on.
    pub(crate) fn open(&self) {
        self.thread.open();
    }

    /// Takes none for now; requests that run have this long.
    pub(crate) fn rest(&self, patience: Duration) {
        self.thread.rest(patience);
    }

    /// Ends it; requests that run have this long.
    pub(crate) fn stop(self, patience: Duration) {
        self.thread.stop(patience);
    }
}
