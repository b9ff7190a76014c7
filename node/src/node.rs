//! A running node: listeners, data threads, the HTTP thread, and their end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::TryFromIntError;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_cluster::{ENDLESS_US, Settings as PinsSettings};
use pinwire_engine::{Engine, allowed_cores, pin_to_core};
use pinwire_protocol::ws;
use pinwire_registry::NodeView;
use pinwire_shard::{Settings, Shard, ticks};

use crate::admin::{AdminAddress, Around, Doorway, Events, ListenError, Operators};
use crate::apps::{self, Apps, Lookups};
use crate::capacity::Capacity;
use crate::cluster::{
    self, Claimed, ClusterStats, Gates, PinsWay, Registries, Running, SessionWay, SharedRegistry,
    SharedStore, Trays, UrlError,
};
use crate::config::{BUDGET_PER_THREAD, Config, Driver, RegistryKind, WrongRegion};
use crate::control::{
    self, Control, HttpDoor, LocalUsage, Lookup, Open, RegistryPins, RegistryUsage, Services, Usage,
};
use crate::data::{
    Authority, DataThread, Envelope, Listening, Mailbox, Parts, Rules, Shared, THREADS_MAX, Unanswered,
    Worker,
};
use crate::dns;
use crate::drain::{self, Drains, Stage};
use crate::jwks::{self, Fetching};
use crate::listening::Listeners;
use crate::live::Live;
use crate::log::Log;
use crate::metrics::Threads;
use crate::peer::{self, Movable, Peers, Relay};
use crate::ready::{Joining, Readiness};
use crate::regions::{self, Catalogue, Own, Prober};
use crate::shedding::{self, Admission, Health, SheddingWay};
use crate::status::{self, StatusThread};
use crate::store::{self, FileStore, MemoryStore, SessionStore, StoreConfig, StoreThreads, Way};
use crate::traces::{self, Exporter, Recorder};
use crate::upgrade::{Handed, Successor, Upgrade, UpgradeError, Upgrades};

/// How long a data thread may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long HTTP requests that run may take when the node stops.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);
/// Microseconds between two fan-outs of a busy document, for each member: twice what a send takes.
const GATHER_US_PER_MEMBER: u32 = 8;
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
    /// Listeners besides those of data threads once more, for a process that takes over.
    copies: Vec<OwnedFd>,
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
        let connections = Arc::new(AtomicU32::new(0));
        let waits = start.waits;
        let unanswered = Arc::new(Unanswered::new(if waits { 0 } else { config.threads.max(1) }));
        let own = Own {
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
        let (dns, dns_thread) = start_dns(&config, &health, events.as_ref())?.unzip();
        let drains = Drains::new(drain::Around {
            times: config.drain,
            epoch,
            health: Arc::clone(&health),
            events: events.clone(),
            connections: Arc::clone(&connections),
            unanswered: Arc::clone(&unanswered),
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
        let mut copies = doorway.as_ref().map(Doorway::copies).transpose()?.unwrap_or_default();
        copies.extend(peers.as_mut().and_then(|peers| peers.copy.take()));
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
        drains.started(&mailboxes, Box::new(again), of_threads);
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

    /// The process before has been told that this one serves: what goes with a process goes with this one now.
    pub fn has_taken_over(&self) {
        if let Some(admin) = &self.admin {
            admin.own();
        }
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

    /// Starts the process that is to take over; `tell` is told whether it is ready. This one goes on until [`Self::succeeded`].
    ///
    /// # Errors
    /// It does not start; nothing has changed then.
    pub fn start_successor(
        &self,
        upgrade: &Upgrade,
        tell: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> Result<Successor, UpgradeError> {
        match self.alone {
            Some(place) => Err(UpgradeError::Alone(place)),
            None if self.drains.progress().stage != Stage::Serving => Err(UpgradeError::Draining),
            None => {
                self.sockets().map_err(UpgradeError::Start).and_then(|sockets| upgrade.run(sockets, tell))
            }
        }
    }

    /// Tells operators what came of an upgrade.
    pub fn note_succession(&self, outcome: Result<u32, &UpgradeError>) {
        if let Some(events) = self.events() {
            events.note(match outcome {
                Ok(pid) => What::Succeeded { pid },
                Err(error) => What::SuccessionFailed { error: error.to_string() },
            });
        }
    }

    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.drains.copies()?;
        for copy in &self.copies {
            sockets.push(copy.try_clone()?);
        }
        Ok(sockets)
    }

    /// Another process has the addresses: this one takes nobody any more, and its clients are closed by and by.
    ///
    /// # Errors
    /// The system gives no thread; then it goes on.
    pub fn succeeded(&mut self) -> io::Result<()> {
        self.drains.succeeded()?;
        self.copies.clear();
        if let Some(peers) = &mut self.peers {
            peers.stop_serving();
        }
        if let Some(admin) = self.admin.take() {
            admin.disown();
            admin.stop(HTTP_PATIENCE);
        }
        Ok(())
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

    /// Closes every connection, waits a little for their clients to agree, and ends all threads.
    pub fn stop(mut self) {
        self.health.drain();
        drop(self.joining.take());
        if let Some(admin) = &self.admin {
            admin.events().note(What::Stopping);
        }
        if let Some(peers) = &mut self.peers {
            peers.stop_serving();
        }
        // A thread that waits for its lease reads no mailbox.
        self.gates.stop();
        for mailbox in self.mailboxes.iter() {
            mailbox.push_waiting(Envelope::Stop);
        }
        for thread in self.threads.drain(..) {
            // A data thread that panicked has ended the process already.
            let _ = thread.join();
        }
        drop(self.dns);
        drop(self.peers);
        // Everything is stored, as far as that can be: what this node held is left, and waits for its clients.
        drop(self.session);
        drop(self.pins);
        drop(self.shedding);
        drop((self.lookups, self.prober, self.status));
        if let Some(control) = self.control.take() {
            control.stop(HTTP_PATIENCE);
        }
        if let Some(admin) = self.admin.take() {
            admin.stop(HTTP_PATIENCE);
        }
        drop(self.fetching);
        if let Some(store) = self.store.take() {
            store.stop();
        }
        // Last, since the others record until they end.
        drop(self.traces);
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

/// From a data thread to the others.
#[derive(Clone)]
struct Ways {
    http: HttpDoor,
    /// To the store on disk, if there is one.
    store: Option<Way>,
    pins: PinsWay,
    trays: Trays,
    /// Whose documents another node's clients may have, too.
    relay: Option<Relay>,
    /// Whether this node's clients are carried to other regions.
    relays: bool,
    others: OtherThreads,
    placement_seed: u64,
    /// To the sessions in the region's Redis, if they are there.
    session: Option<SessionWay>,
}

/// The ways to the data threads, and the threads.
type DataPlane = (Arc<[Mailbox]>, Vec<JoinHandle<()>>);

fn start_data_threads(
    shared: &Arc<Shared>,
    rules: &Arc<Rules>,
    ways: &Ways,
    listeners: Vec<Listening>,
) -> Result<DataPlane, StartError> {
    let cores = allowed_cores()?;
    let count = listeners.len();
    let placement_seed = ways.placement_seed;
    let worker = Worker::start()?;
    let (ready, mailboxes_in) = channel();
    let mut threads = Vec::with_capacity(count);
    let mut senders = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (way, ways_in) = channel::<Arc<[Mailbox]>>();
        senders.push(way);
        let thread = Starting {
            number: u16::try_from(number)?,
            core: ways.others.core(&cores, number, count),
            settings: settings(&shared.config, number, count, placement_seed)?,
            verdict_seed: random_bytes()?,
            shared: Arc::clone(shared),
            rules: Arc::clone(rules),
            ways: ways.clone(),
            worker: worker.clone(),
            listeners,
        };
        let ready = ready.clone();
        let handle = std::thread::Builder::new()
            .name(format!("data-{number}"))
            .spawn(move || thread.run(&ready, &ways_in))?;
        threads.push(handle);
    }
    drop(ready);
    let mailboxes = collect_mailboxes(&mailboxes_in, count)?;
    for way in senders {
        // A thread that is not there any more has told why.
        let _ = way.send(Arc::clone(&mailboxes));
    }
    Ok((mailboxes, threads))
}

/// A thread's mailbox once it has one, or why it cannot run.
type Ready = (usize, io::Result<Mailbox>);

fn collect_mailboxes(ready: &Receiver<Ready>, count: usize) -> Result<Arc<[Mailbox]>, StartError> {
    let mut mailboxes: Vec<Option<Mailbox>> = vec![None; count];
    for (number, mailbox) in ready.iter().take(count) {
        let mailbox = mailbox.map_err(|error| StartError::DataThread(number, error))?;
        if let Some(place) = mailboxes.get_mut(number) {
            *place = Some(mailbox);
        }
    }
    let all: Option<Vec<Mailbox>> = mailboxes.into_iter().collect();
    all.map(Arc::from).ok_or_else(|| io::Error::other("a data thread ended while it started").into())
}

/// What a data thread takes with it.
struct Starting {
    number: u16,
    core: Option<usize>,
    settings: Settings,
    verdict_seed: [u8; 32],
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    ways: Ways,
    worker: Worker,
    listeners: Listening,
}

impl Starting {
    fn run(self, ready: &Sender<Ready>, ways: &Receiver<Arc<[Mailbox]>>) {
        let number = usize::from(self.number);
        if let Some(core) = self.core
            && let Err(error) = pin_to_core(core)
        {
            tracing::warn!(number, core, %error, "a data thread could not be pinned to its core");
        }
        let config = engine_config(&self.shared);
        let ready_inside = ready.clone();
        let guard = AbortOnPanic;
        let outcome = pinwire_engine::run(config, move |engine| self.serve(engine, ready_inside, ways));
        std::mem::forget(guard);
        if let Err(error) = outcome {
            // Nobody listens once the node has started; the error is then in the log.
            tracing::error!(number, %error, "a data thread cannot run");
            let _ = ready.send((number, Err(error)));
        }
    }

    async fn serve(self, mut engine: Engine, ready: Sender<Ready>, ways: &Receiver<Arc<[Mailbox]>>) {
        let number = usize::from(self.number);
        if let Some(reason) = engine.fallback_reason() {
            tracing::warn!(number, %reason, "epoll is used, io_uring is not allowed here");
        }
        tracing::info!(
            number,
            driver = ?engine.driver(),
            rings = engine.rings(),
            slots = engine.slots_max(),
            core = ?self.core,
            "data thread"
        );
        let Listening { listeners, tls } = self.listeners;
        let listens = !listeners.is_empty();
        for listener in listeners {
            if let Err(error) = engine.listen(listener) {
                let _ = ready.send((number, Err(error)));
                return;
            }
        }
        let mailbox = Mailbox::new(engine.waker(), engine.door());
        let _ = ready.send((number, Ok(mailbox)));
        drop(ready);
        // The sender is gone if another thread could not start: then neither does this one.
        let Ok(mailboxes) = ways.recv() else { return };
        let buffers = self.shared.config.buffers;
        let random = self.settings.seed as u32;
        let authority = Authority::new(
            self.rules,
            buffers.verdicts_per_thread,
            self.verdict_seed,
            buffers.costly_checks_per_turn,
            Recorder::new(self.shared.traces.clone(), Some(self.number)),
        );
        let Some(mailbox) = mailboxes.get(number).cloned() else { return };
        let Ways { http, store, pins, trays, relay, relays, session, .. } = self.ways;
        let store: Box<dyn SessionStore> = match (session, store) {
            (Some(way), _) => Box::new(SharedStore::new(self.number, way)),
            (None, Some(way)) => Box::new(FileStore::new(self.number, mailbox, way)),
            (None, None) => Box::<MemoryStore>::default(),
        };
        let store = Claimed::new(self.number, pins, trays, relay.clone().filter(|_| relays), store, random);
        let parts = Parts {
            listens,
            number: self.number,
            shard: Shard::new(self.settings, 0, 0),
            authority,
            store,
            mailboxes,
            relay,
            worker: self.worker,
            http,
            random,
            tls_listeners: tls,
        };
        if let Some(thread) = DataThread::new(self.shared, parts) {
            thread.run(engine).await;
        }
    }
}

/// A data thread that panics takes its connections with it and leaves a node that serves half of its documents. The
/// process ends instead, and its supervisor starts it again.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("a thread that the node cannot do without panicked; the node ends");
        std::process::abort();
    }
}

fn engine_config(shared: &Shared) -> pinwire_engine::Config {
    let config = &shared.config;
    pinwire_engine::Config {
        driver: match config.driver {
            Driver::Auto => pinwire_engine::Driver::Auto,
            Driver::Uring => pinwire_engine::Driver::Uring,
            Driver::Epoll => pinwire_engine::Driver::Epoll,
        },
        slots_max: shared.slots_per_thread,
        rings: config.rings_per_thread,
        slot_out_max: config.buffers.outbound_per_connection,
        thread_out_max: config.buffers.outbound_per_thread,
        costly_steps_per_turn: config.tls.as_ref().map_or(1, |tls| tls.handshakes_per_turn),
        ..pinwire_engine::Config::default()
    }
}

fn settings(
    config: &Config,
    number: usize,
    count: usize,
    placement_seed: u64,
) -> Result<Settings, StartError> {
    let deadlines = config.deadlines;
    let in_ticks = |time: Duration| ticks(millis(time));
    Ok(Settings {
        thread: u16::try_from(number)?,
        threads: u16::try_from(count)?,
        placement_seed,
        seed: random_u64()?,
        ws: ws::Limits {
            max_frame: config.websocket.max_frame_bytes as u64,
            max_message: config.websocket.max_message_bytes,
            max_fragments: config.websocket.max_fragments,
        },
        names: config.names,
        first_frame: in_ticks(deadlines.first_frame),
        ping: in_ticks(deadlines.ping),
        pong: in_ticks(deadlines.pong),
        idle_frame: in_ticks(deadlines.idle_frame),
        slow_reader: in_ticks(deadlines.slow_reader),
        close: in_ticks(deadlines.close),
        // Where the store outlives them, documents wait there.
        grace_ms: if config.cluster.session.is_some() { 0 } else { millis(deadlines.grace) },
        gather_us_per_member: GATHER_US_PER_MEMBER,
        compress_min: config.deflate.map_or(usize::MAX, |deflate| deflate.min_bytes),
        end_on_expiry: config.end_sessions,
        is_shared: config.cluster.session.is_some(),
    })
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
) -> Result<Option<(dns::Dns, dns::Thread)>, StartError> {
    let Some(dns) = &config.dns else { return Ok(None) };
    let own = dns::Own { node: config.cluster.node.clone(), keep_percent: config.shedding.keep.div_ceil(10) };
    Ok(Some(dns::start(dns.clone(), own, health, events.cloned(), random_u64()?)?))
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
