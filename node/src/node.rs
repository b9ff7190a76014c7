//! A running node: its parts, put together.
//!
//! | file | concern |
//! | --- | --- |
//! | `threads.rs` | data threads: how they are started |
//! | `succession.rs` | another process that takes the node's place |
//! | `stopping.rs` | the end |

mod stopping;
mod succession;
mod threads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::TryFromIntError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_cluster::{ENDLESS_US, Settings as PinsSettings};
use pinwire_registry::NodeView;

use crate::admin::{AdminAddress, Around, Doorway, Events, ListenError, Operators};
use crate::apps::{self, Apps, Lookups};
use crate::capacity::Capacity;
use crate::cluster::{
    self, ClusterStats, Gates, PinsWay, Registries, Running, SessionWay, SharedRegistry, Trays, UrlError,
};
use crate::config::{BUDGET_PER_THREAD, Config, RegistryKind, WrongRegion};
use crate::control::{self, Control, LocalUsage, Lookup, Open, RegistryPins, RegistryUsage, Services, Usage};
use crate::data::{Envelope, Mailbox, Rules, Shared, THREADS_MAX, Unanswered};
use crate::dns;
use crate::drain::{self, Drains};
use crate::jwks::{self, Fetching};
use crate::listening::Listeners;
use crate::live::Live;
use crate::log::Log;
use crate::metrics::Threads;
use crate::peer::{self, Movable, Peers};
use crate::ready::{Joining, Readiness};
use crate::regions::{self, Catalogue, Own, Prober};
use crate::shedding::{self, Admission, Health, SheddingWay};
use crate::status::{self, StatusThread};
use crate::store::{self, StoreConfig, StoreThreads};
use crate::traces::{self, Exporter};
use crate::upgrade::{Handed, Upgrades};
use succession::Copies;
use threads::{Ways, start_data_threads};

pub use stopping::Hung;
pub(crate) use threads::AbortOnPanic;

/// How long a data thread may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long HTTP requests that run may take when the node stops.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// At least one.
    addresses: Vec<SocketAddr>,
    mailboxes: Arc<[Mailbox]>,
    threads: Vec<JoinHandle<()>>,
    control: Option<Control>,
    admin: Option<Operators>,
    health: Arc<Health>,
    live: Arc<Live>,
    gates: Arc<Gates>,
    session: Option<Running<SessionWay>>,
    pins: Running<PinsWay>,
    peers: Option<Peers>,
    lookups: Lookups,
    prober: Option<Prober>,
    status: Option<StatusThread>,
    store: Option<StoreThreads>,
    fetching: Fetching,
    shedding: Running<SheddingWay>,
    traces: Option<Exporter>,
    asked: Arc<Threads>,
    drains: Drains,
    dns: Option<dns::Thread>,
    copies: Copies,
    /// Where documents are, if no other process can have them.
    alone: Option<&'static str>,
    readiness: Readiness,
    /// What is done once it is to accept.
    opening: Option<Opening>,
    /// Has it join its region's name once it is ready.
    joining: Option<Joining>,
}

/// See [`Node::open`].
#[derive(Debug)]
struct Opening {
    /// Of each data thread.
    listeners: Vec<Vec<TcpListener>>,
    movable: Option<Movable>,
}

/// What a node is started with besides its configuration: what operators are shown and may change.
#[derive(Debug, Default)]
pub struct Start {
    /// The log of the process.
    pub log: Option<Log>,
    /// [`Resolved::digest`](crate::config::Resolved::digest) of the configuration.
    pub digest: Option<String>,
    /// A registry that other nodes of this process share, instead of one of its own.
    pub registry: Option<SharedRegistry>,
    /// Data threads of this process's other nodes, which have cores of their own where there are enough: of those that started
    /// before, and of all.
    pub other_threads: OtherThreads,
    /// Listening sockets of the process before.
    pub handed: Handed,
    /// How operators have another process take over.
    pub upgrades: Option<Upgrades>,
    /// Nobody is accepted before [`Node::open`]: another process accepts from the same sockets, and goes on if this one fails.
    pub waits: bool,
}

/// See [`Start::other_threads`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OtherThreads {
    /// Of nodes that started before.
    pub before: usize,
    /// Of all other nodes.
    pub all: usize,
}

impl OtherThreads {
    /// The core of a node's data thread, of `count` that it has: none where the process has more of them than cores.
    fn core(self, cores: &[usize], number: usize, count: usize) -> Option<usize> {
        let fits = self.all + count <= cores.len();
        cores.get(self.before + number).copied().filter(|_| fits)
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The admin API cannot be listened for.
    #[error("cannot listen for the admin API on {0}")]
    Admin(#[from] ListenError),
    /// The configuration names no address.
    #[error("no address to listen on")]
    NoAddress,
    /// More threads than a node can have.
    #[error("{0} data threads; at most {THREADS_MAX} are possible")]
    TooManyThreads(usize),
    /// A data thread cannot start.
    #[error("data thread {0} cannot start")]
    DataThread(usize, #[source] io::Error),
    /// The session store cannot be used.
    #[error("the session store does not open: {0}")]
    Store(#[from] pinwire_store::RecoverError),
    /// A registry's, or the region's, Redis cannot be used.
    #[error("Redis: {0}")]
    Redis(#[from] UrlError),
    /// TLS cannot be spoken with what is configured.
    #[error("TLS: {0}")]
    Tls(#[from] pinwire_tls::Error),
    /// The system refused a thread or random numbers.
    #[error("the system refused a thread, a file or random numbers")]
    System(#[from] io::Error),
}

impl From<cluster::StartError> for StartError {
    fn from(error: cluster::StartError) -> Self {
        match error {
            cluster::StartError::System(error) => Self::System(error),
            cluster::StartError::Url(error) => Self::Redis(error),
        }
    }
}

impl From<TryFromIntError> for StartError {
    fn from(error: TryFromIntError) -> Self {
        Self::System(io::Error::other(error))
    }
}

impl Node {
    /// Starts everything; connections are accepted when this returns.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Start::default())
    }

    /// The same, with more to tell operators.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start_with(mut config: Config, mut start: Start) -> Result<Self, StartError> {
        if config.threads > THREADS_MAX {
            return Err(StartError::TooManyThreads(config.threads));
        }
        let capacity = Capacity::here(&config);
        config.max_connections = capacity.connections;
        config.http.max_connections = capacity.http;
        let listeners = Listeners::open(&config, &mut start.handed)?;
        let addresses = listeners.addresses.clone();
        let address = addresses.first().copied().ok_or(StartError::NoAddress)?;
        let open = |admin| Doorway::open(admin, &mut start.handed);
        let doorway = config.admin.as_ref().map(open).transpose()?;
        let epoch = Instant::now();
        let apps = Arc::new(Apps::new());
        let registries = Registries::new(&config.cluster, start.registry.clone())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let gates = Arc::new(Gates::new(registries.count(), epoch));
        let trays = Trays::new(config.threads.max(1));
        let health = Arc::new(Health::default());
        let live = Arc::new(Live::new(&config, epoch)?);
        let asked = Arc::new(Threads::default());
        let store = match &config.store {
            StoreConfig::Memory => None,
            StoreConfig::File(file) => Some(store::start(file, &health)?),
        };
        let key_numbers = Arc::new(jwks::Numbers::default());
        let (of_live, of_health) = (Arc::clone(&live), Arc::clone(&health));
        let shared_with_keys =
            jwks::Shared { live: of_live, health: of_health, numbers: Arc::clone(&key_numbers) };
        let fetching = jwks::start(&config.jwks, shared_with_keys)?;
        fetching.wait_for_keys(&config.jwks);
        let (queue, traces) = config
            .traces
            .clone()
            .map(|traces| traces::start(traces, config.region.name.clone()))
            .transpose()?
            .unzip();
        let (connections, carried) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let waits = start.waits;
        let unanswered = Arc::new(Unanswered::new(if waits { 0 } else { config.threads.max(1) }));
        let own = Own {
            node: config.cluster.node.as_str().into(),
            health: Arc::clone(&health),
            connections: Arc::clone(&connections),
            max_connections: config.max_connections,
        };
        let ws_url = config.region.ws_url(address);
        let catalogue = Arc::new(Catalogue::new(&config.region.name, &ws_url, &config.regions));
        let prober = regions::start(&catalogue, &config.cluster)?;
        let events = doorway.as_ref().map(|doorway| Arc::clone(doorway.events()));
        let status = status::start(status::Around {
            config: config.status.clone(),
            http_url: config.region.http_url(address),
            cluster: config.cluster.clone(),
            catalogue: Arc::clone(&catalogue),
            health: Arc::clone(&health),
            events: events.clone(),
            folder: store_folder(&config.store),
        })?;
        let stats = Arc::new(ClusterStats::default());
        let others = start.other_threads;
        let is_alone = start.registry.is_none() && config.cluster.registry == RegistryKind::Embedded;
        let lookup = Arc::new(Lookup::new(opener(&registries), Arc::clone(&stats)));
        let usage: Arc<dyn Usage> = match is_alone {
            true => Arc::new(LocalUsage(Arc::clone(&apps))),
            false => Arc::new(RegistryUsage(Arc::clone(&lookup))),
        };
        let (records, lookups) = apps::start_lookups(opener(&registries))?;
        let events = doorway.as_ref().map(|doorway| Arc::clone(doorway.events()));
        let (dns, dns_thread) = start_dns(&config, &health, events.as_ref(), &mut start)?.unzip();
        let drains = Drains::new(drain::Around {
            times: config.drain,
            epoch,
            health: Arc::clone(&health),
            events: events.clone(),
            connections: Arc::clone(&connections),
            unanswered: Arc::clone(&unanswered),
            carried: Arc::clone(&carried),
            handshake: config.deadlines.handshake,
            dns: dns.clone(),
        });
        let services = Services {
            dns: dns.clone(),
            drains: Some(drains.clone()),
            region: config.region.name.clone(),
            live: Arc::clone(&live),
            known_db_codes: config.known_db_codes.clone(),
            cluster: config.cluster.clone(),
            apps: Arc::clone(&apps),
            records: Arc::clone(&records),
            pins: Arc::new(RegistryPins::new(lookup, Arc::clone(&catalogue), own.clone())),
            catalogue: Arc::clone(&catalogue),
            own: own.clone(),
            stats: Arc::clone(&stats),
            names: config.names,
            trusted_proxies: config.trusted_proxies.clone(),
            usage,
            max_connections: config.max_connections,
            threads: config.http.metrics.then(|| Arc::clone(&asked)),
            store: store.as_ref().map(|store| Arc::clone(&store.stats)),
            status: status.as_ref().map(|status| status.published.clone()),
            page: config.page.clone(),
            key_numbers,
            traces: queue.clone(),
        };
        let (http, control) = control::start(services, config.http)?;
        let placement_seed = random_u64()?;
        let mut peers = config
            .cluster
            .peer
            .clone()
            .map(|peer| {
                let listener = start.handed.listener(peer.listen);
                peer::start(
                    listener,
                    peer::Around {
                        config: peer,
                        name: format!("{}/{}", config.region.name, config.cluster.node),
                        licenses: config.cluster.registry.clone(),
                        registries: registries.clone(),
                        apps: Arc::clone(&apps),
                        threads: config.threads.max(1),
                        placement_seed,
                        stats: Arc::clone(&stats),
                    },
                )
            })
            .transpose()?;
        let copies = Copies {
            admin: doorway.as_ref().map(Doorway::copies).transpose()?.unwrap_or_default(),
            peer: peers.as_mut().and_then(|peers| peers.copy.take()),
        };
        let admin = doorway.map(|doorway| {
            doorway.serve(
                start,
                Around {
                    region: config.region.name.clone(),
                    max_connections: config.max_connections,
                    epoch,
                    health: Arc::clone(&health),
                    apps: Arc::clone(&apps),
                    records: Arc::clone(&records),
                    cluster: config.cluster.clone(),
                    stats: Arc::clone(&stats),
                    known_db_codes: config.known_db_codes.clone(),
                    catalogue,
                    own: own.clone(),
                    relay: peers.as_ref().map(|peers| peers.relay.clone()),
                    lookup: Lookup::new(opener(&registries), Arc::clone(&stats)),
                    threads: Arc::clone(&asked),
                    store: store.as_ref().map(StoreThreads::way),
                    drains: drains.clone(),
                    dns: dns.clone(),
                    status: status.as_ref().map(|status| status.desk.clone()),
                },
            )
        });
        let admin = admin.transpose()?;
        let public = config.admin.as_ref().and_then(|admin| admin.public_url.clone());
        let admin_url = public.or_else(|| admin.as_ref().and_then(Operators::url));
        let mut pins = cluster::start(cluster::Around {
            registries,
            settings: pins_settings(&config, address, peers.as_ref(), is_alone, admin_url),
            has_others: !is_alone,
            gates: Arc::clone(&gates),
            trays: trays.clone(),
            apps: Arc::clone(&apps),
            records: Arc::clone(&records),
            health: Arc::clone(&health),
            events: events.clone(),
            stats: Arc::clone(&stats),
        })?;
        let mut session = start_session(&config, &gates, &health, &stats, events.as_ref())?;
        let admission = Arc::new(Admission::new(random_u64()? as u32, f64::from(BUDGET_PER_THREAD)));
        let (mut shedding, first_look) = shedding::start(shedding::Around {
            config: config.shedding.clone(),
            region: config.region.name.clone(),
            node: config.cluster.node.clone(),
            redis: config.cluster.session.clone(),
            threads: config.threads.max(1),
            store: match &config.store {
                StoreConfig::Memory => None,
                StoreConfig::File(file) => Some(file.folder.clone()),
            },
            connections: Arc::clone(&connections),
            max_connections: config.max_connections,
            health: Arc::clone(&health),
            admission: Arc::clone(&admission),
            events: events.clone(),
            epoch,
        })?;
        let rules = Arc::new(Rules {
            live: Arc::clone(&live),
            region: config.region.name.clone(),
            known_db_codes: config.known_db_codes.clone(),
            cluster: config.cluster.clone(),
            apps: Arc::clone(&apps),
            records: Arc::clone(&records),
        });
        let shared = Arc::new(Shared {
            config,
            slots_per_thread: capacity.slots,
            traces: queue,
            admission,
            epoch,
            live: Arc::clone(&live),
            gates,
            apps,
            connections,
            unanswered,
            carried,
            events,
        });
        let ways = Ways {
            http,
            store: store.as_ref().map(StoreThreads::way),
            pins: pins.way.clone(),
            trays,
            relay: peers.as_ref().map(|peers| peers.relay.clone()),
            relays: shared.config.cluster.wrong_region == WrongRegion::Relay,
            others,
            placement_seed,
            session: session.as_ref().map(|session| session.way.clone()),
        };
        let (again, of_threads) = (listeners.again(), listeners.copies()?);
        let mut of_each = listeners.threads;
        let mut opening = Opening { listeners: Vec::new(), movable: None };
        if waits {
            opening.listeners =
                of_each.iter_mut().map(|thread| std::mem::take(&mut thread.listeners)).collect();
        }
        let (mailboxes, threads) = start_data_threads(&shared, &rules, &ways, of_each)?;
        let (mailboxes_of_drain, relay) = (Arc::clone(&mailboxes), ways.relay.clone());
        let running = drain::Running { mailboxes: mailboxes_of_drain, listen: Box::new(again), relay };
        drains.started(running, of_threads);
        pins.started(&mailboxes);
        if peers.is_some() {
            let (pins, session) = (ways.pins.clone(), ways.session.clone());
            let (events, stats) = (shared.events.clone(), Arc::clone(&stats));
            opening.movable = Some(Movable { pins, session, events, stats });
        }
        if let Some(session) = &mut session {
            session.started(&mailboxes);
        }
        if let Some(admin) = &admin {
            admin.events().note(What::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        }
        shedding.started(&mailboxes);
        first_look.wait();
        records.started(&mailboxes);
        asked.started(&mailboxes);
        live.refetch().started(&mailboxes);
        if let Some(of_config) = &shared.config.dns {
            health.set_addresses(of_config.addresses.iter().copied().collect());
        }
        let readiness = Readiness {
            gates: Arc::clone(&shared.gates),
            health: Arc::clone(&health),
            has_sessions: session.is_some(),
        };
        let joining = dns.is_some().then(|| Joining::start(readiness.clone(), drains.clone())).transpose()?;
        let mut node = Self {
            addresses,
            mailboxes,
            threads,
            control: Some(control),
            admin,
            health,
            live,
            gates: Arc::clone(&shared.gates),
            session,
            pins,
            peers,
            lookups,
            prober,
            status,
            store,
            fetching,
            shedding,
            traces,
            asked,
            drains,
            dns: dns_thread,
            copies,
            alone: alone(&shared.config),
            readiness,
            opening: Some(opening),
            joining,
        };
        if !waits {
            node.open()?;
        }
        Ok(node)
    }

    /// Why it cannot serve yet as it is to, if it cannot.
    #[must_use]
    pub fn lacks(&self) -> Option<&'static str> {
        self.readiness.lacks()
    }

    /// Accepts connections: of clients, of operators, of other nodes. Only with [`Start::waits`] there is something to do.
    ///
    /// # Errors
    /// A data thread cannot listen.
    pub fn open(&mut self) -> io::Result<()> {
        let Some(Opening { listeners, movable }) = self.opening.take() else { return Ok(()) };
        let (reply, replies) = channel();
        for (mailbox, listeners) in self.mailboxes.iter().zip(listeners) {
            let listen = Envelope::Listen(listeners, reply.clone());
            mailbox.push_until(listen, Instant::now() + LISTEN_PATIENCE).map_err(|_| hangs())?;
        }
        drop(reply);
        while let Ok(outcome) = replies.recv_timeout(LISTEN_PATIENCE) {
            outcome?;
        }
        if let (Some(peers), Some(movable)) = (&mut self.peers, movable) {
            peers.started(&self.mailboxes, movable);
        }
        if let Some(admin) = &self.admin {
            admin.open();
        }
        Ok(())
    }

    /// Its data threads, for a watchdog.
    pub(crate) fn threads(&self) -> Arc<Threads> {
        Arc::clone(&self.asked)
    }

    /// How the node leaves.
    #[must_use]
    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    /// Where the first listener listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where all listen, those that speak TLS first.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin API is listened for, TCP first.
    #[must_use]
    pub fn admin_addresses(&self) -> &[AdminAddress] {
        self.admin.as_ref().map_or(&[], Operators::addresses)
    }

    /// What happened is told there, where operators may ask.
    #[must_use]
    pub fn events(&self) -> Option<&Arc<Events>> {
        self.admin.as_ref().map(Operators::events)
    }

    /// Takes over what a running node can of another configuration: keys, what tokens must say, limits. `digest` is its
    /// [`Resolved::digest`](crate::config::Resolved::digest).
    pub fn update(&self, config: &Config, digest: String) {
        self.live.update(config);
        if let (Some(operators), Some(admin)) = (&self.admin, &config.admin) {
            operators.update(admin, digest);
        }
        self.fetching.update(&config.jwks);
        self.shedding.way.update(&config.shedding);
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a data thread does not listen")
}

/// Where documents are kept, if they are kept on disk.
fn store_folder(store: &StoreConfig) -> Option<PathBuf> {
    match store {
        StoreConfig::Memory => None,
        StoreConfig::File(file) => Some(file.folder.clone()),
    }
}

/// Where documents are that no other process can have: `None` where nodes share them.
fn alone(config: &Config) -> Option<&'static str> {
    match (&config.cluster.session, &config.store) {
        (Some(_), _) => None,
        (None, StoreConfig::File(_)) => Some("store on disk (store.path)"),
        (None, StoreConfig::Memory) => Some("memory"),
    }
}

/// The thread that has the region's name kept, where the nodes do so.
fn start_dns(
    config: &Config,
    health: &Arc<Health>,
    events: Option<&Arc<Events>>,
    start: &mut Start,
) -> Result<Option<(dns::Dns, dns::Thread)>, StartError> {
    let Some(dns) = &config.dns else { return Ok(None) };
    let own = dns::Own {
        node: config.cluster.node.clone(),
        keep_percent: config.shedding.keep.div_ceil(10),
        waits: start.waits,
    };
    let seed = random_u64()?;
    Ok(Some(dns::start(dns.clone(), own, health, events.cloned(), seed, &mut start.handed)?))
}

/// Opens links to them for a thread that looks things up.
fn opener(registries: &Registries) -> Open {
    let registries = registries.clone();
    Box::new(move || match registries.open() {
        Ok(opened) => opened.into_iter().map(Arc::from).collect(),
        Err(error) => {
            tracing::error!(%error, "nothing can be looked up in registries");
            Vec::new()
        }
    })
}

/// The thread of the sessions in the region's Redis, where they are kept there.
fn start_session(
    config: &Config,
    gates: &Arc<Gates>,
    health: &Arc<Health>,
    stats: &Arc<ClusterStats>,
    events: Option<&Arc<Events>>,
) -> Result<Option<Running<SessionWay>>, StartError> {
    let Some(url) = &config.cluster.session else { return Ok(None) };
    let around = cluster::AroundSession {
        url: url.clone(),
        me: pinwire_registry::Node {
            region: config.region.name.as_str().into(),
            name: config.cluster.node.as_str().into(),
            life: random_u64()?,
        },
        settings: pinwire_session::Settings {
            lease_us: micros(config.cluster.lease),
            beat_us: micros(config.cluster.renew),
            full_patience_us: config.cluster.full_patience.map(micros),
            ..pinwire_session::Settings::default()
        },
        gates: Arc::clone(gates),
        health: Arc::clone(health),
        stats: Arc::clone(stats),
        events: events.cloned(),
    };
    Ok(Some(cluster::start_session(around)?))
}

fn pins_settings(
    config: &Config,
    address: SocketAddr,
    peers: Option<&Peers>,
    is_alone: bool,
    admin_url: Option<String>,
) -> PinsSettings {
    let cluster = &config.cluster;
    // Nobody else could take over what a node by itself has, however long it stood still: its lease never ends.
    let lease_us = if is_alone { ENDLESS_US } else { micros(cluster.lease) };
    // What an operator took away from it, it hears of with renewals.
    let renew_us = micros(cluster.renew);
    PinsSettings {
        me: NodeView {
            node: pinwire_registry::Node {
                region: config.region.name.as_str().into(),
                name: cluster.node.as_str().into(),
                life: 0,
            },
            ws_url: config.region.ws_url(address).into(),
            peer_address: peers.map_or_else(String::new, Peers::address).into(),
            version: env!("CARGO_PKG_VERSION").into(),
            admin_url: admin_url.unwrap_or_default().into(),
        },
        lease_us,
        renew_us,
        // Where sessions are in the node's memory or on its disk, documents wait there for their clients, and are left after that.
        grace_us: if cluster.session.is_some() { micros(config.deadlines.grace) } else { 0 },
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn random_u64() -> io::Result<u64> {
    Ok(u64::from_ne_bytes(random_bytes()?))
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
