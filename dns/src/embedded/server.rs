//! Sockets and connections.

use super::answer::{Answered, Transport, answer, truncated};
use super::limit::{Limiter, RateLimit, Verdict, network};
use super::zone::{Fixed, Zone, ZoneView};
use crate::SettingError;
use crate::name::host_name;
use arc_swap::ArcSwap;
use fastrand::Rng;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::LowerName;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Larger queries are none (a name has 255 bytes at most).
const QUERY_MAX_BYTES: usize = 4096;
/// A connection ends after this, however busy it is: nobody keeps a place for ever.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// After an accept that failed, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After a datagram that could not be received, so that a socket that always fails takes no core.
const RECEIVE_PAUSE: Duration = Duration::from_millis(1);
/// One network has at most one part in so many of all connections.
const NETWORK_SHARE: usize = 8;
/// Attempts to find a port that is free with UDP and TCP, where any is asked for.
const BIND_ATTEMPTS: u32 = 16;

/// What a server answers for, where, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The zone, as its parent delegates it: `example.net`, or a region's name itself.
    pub zone: String,
    /// Where it listens, with UDP and TCP. On a host with several addresses each is given, since an answer comes from the address
    /// that was asked.
    pub listen: Vec<SocketAddr>,
    /// How long resolvers may keep addresses.
    pub ttl_s: u32,
    /// How long they may keep that there are none.
    pub negative_ttl_s: u32,
    /// The mail address of whoever is in charge, with a dot for the `@`: `hostmaster.example.net`.
    pub contact: String,
    /// Addresses in one answer, at most.
    pub addresses_max: usize,
    /// What one network gets over UDP.
    pub rate: RateLimit,
    /// TCP connections at once; more are closed as they come.
    pub connections_max: usize,
    /// How long a connection may be silent, or not take what it asked for.
    pub idle: Duration,
}

impl ServerSettings {
    /// The usual, for a zone.
    #[must_use]
    pub fn new(zone: impl Into<String>, listen: Vec<SocketAddr>) -> Self {
        let zone = zone.into();
        Self {
            contact: format!("hostmaster.{zone}"),
            zone,
            listen,
            ttl_s: 30,
            negative_ttl_s: 5,
            addresses_max: 8,
            rate: RateLimit::default(),
            connections_max: 256,
            idle: Duration::from_secs(10),
        }
    }

    fn fixed(&self) -> Result<Fixed, SettingError> {
        if !(1..=32).contains(&self.addresses_max) {
            let fault = format!("{} is out of range", self.addresses_max);
            return Err(SettingError::new("addresses_max", fault, "give 1 to 32; 8 is usual"));
        }
        for (setting, ttl_s) in [("ttl", self.ttl_s), ("negative_ttl", self.negative_ttl_s)] {
            if !(1..=86_400).contains(&ttl_s) {
                return Err(SettingError::new(
                    setting,
                    format!("{ttl_s} s is out of range"),
                    "give 1 to 86400",
                ));
            }
        }
        Ok(Fixed {
            apex: LowerName::new(&host_name("zone", &self.zone)?),
            contact: host_name("contact", &self.contact)?,
            ttl_s: self.ttl_s,
            negative_ttl_s: self.negative_ttl_s,
            addresses_max: self.addresses_max,
        })
    }
}

/// What a server did since it began.
#[derive(Debug, Default)]
pub struct ServerCounts {
    /// Queries over UDP, also those that got no answer.
    pub udp: AtomicU64,
    /// Queries over TCP.
    pub tcp: AtomicU64,
    /// Answers with addresses or other records, or that there are none.
    pub answered: AtomicU64,
    /// Answers that a name does not exist.
    pub no_such_name: AtomicU64,
    /// Answers that refuse, or say what is wrong with the query.
    pub refused: AtomicU64,
    /// Answers that say that TCP has to be used.
    pub truncated: AtomicU64,
    /// Queries over UDP that got no answer for the sake of the bound.
    pub limited: AtomicU64,
    /// Connections that were closed since there were too many.
    pub connections_refused: AtomicU64,
}

impl ServerCounts {
    fn count(&self, answered: &Answered) {
        let counter = match answered.code {
            ResponseCode::NoError => &self.answered,
            ResponseCode::NXDomain => &self.no_such_name,
            _ => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
        if answered.is_truncated {
            self.truncated.fetch_add(1, Relaxed);
        }
    }
}

/// An authoritative server for one zone. It has its sockets, and answers while [`Self::run`] runs.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(Arc<UdpSocket>, TcpListener)>,
    addresses: Vec<SocketAddr>,
    view: watch::Receiver<Arc<ZoneView>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ServerSettings,
    fixed: Fixed,
    zone: ArcSwap<Zone>,
    counts: Arc<ServerCounts>,
    /// Connections by network.
    connections: Mutex<BTreeMap<u128, usize>>,
    start: Instant,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// A setting cannot be used, or an address is not to be had.
    pub async fn bind(
        settings: ServerSettings,
        view: watch::Receiver<Arc<ZoneView>>,
    ) -> Result<Self, SettingError> {
        Self::bind_with(settings, view, Vec::new()).await
    }

    /// Listens, on these sockets where they are for its addresses: other processes may have them, too.
    ///
    /// # Errors
    /// As with [`Self::bind`].
    pub async fn bind_with(
        settings: ServerSettings,
        mut view: watch::Receiver<Arc<ZoneView>>,
        mut open: Vec<Sockets>,
    ) -> Result<Self, SettingError> {
        let fixed = settings.fixed()?;
        if settings.listen.is_empty() {
            return Err(SettingError::new("listen", "there is no address", "give one, such as 192.0.2.1:53"));
        }
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for address in &settings.listen {
            let taken = open.iter().position(|open| open.is_for(*address)).map(|at| open.swap_remove(at));
            let bound = match taken {
                Some(open) => open.into_tokio(),
                None => bind(*address).await,
            };
            let (udp, tcp) = bound.map_err(|error| {
                let mend = match error.kind() {
                    io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
                    io::ErrorKind::AddrInUse => {
                        "another server, perhaps a local resolver, has it: give one address"
                    }
                    _ => "give an address that this host has",
                };
                SettingError::new("listen", format!("cannot listen at {address}: {error}"), mend)
            })?;
            addresses.push(tcp.local_addr().unwrap_or(*address));
            sockets.push((Arc::new(udp), tcp));
        }
        let (zone, faults) = Zone::new(fixed.clone(), &view.borrow_and_update(), None);
        warn(&faults);
        let shared = Shared {
            settings,
            fixed,
            zone: ArcSwap::from_pointee(zone),
            counts: Arc::default(),
            connections: Mutex::default(),
            start: Instant::now(),
        };
        Ok(Self { sockets, addresses, view, shared: Arc::new(shared) })
    }

    /// Where it listens, in the order of the settings.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it did; they go on counting while it runs.
    #[must_use]
    pub fn counts(&self) -> Arc<ServerCounts> {
        Arc::clone(&self.shared.counts)
    }

    /// Its sockets once more, in the order of the settings.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn copies(&self) -> io::Result<Vec<Sockets>> {
        let copy = |(udp, tcp): &(Arc<UdpSocket>, TcpListener)| {
            let udp = udp.as_fd().try_clone_to_owned()?.into();
            Ok(Sockets { udp, tcp: tcp.as_fd().try_clone_to_owned()?.into() })
        };
        self.sockets.iter().map(copy).collect()
    }

    /// Answers, until it is dropped. Connections end with it.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    /// Answers until `end`: then it takes no more. Connections that are there go on by themselves, within their deadlines.
    pub async fn run_until(mut self, end: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let (ends, ending) = watch::channel(false);
        for (udp, tcp) in self.sockets {
            tasks.spawn(serve_udp(udp, Arc::clone(&self.shared), ending.clone()));
            tasks.spawn(serve_tcp(tcp, Arc::clone(&self.shared), ending.clone()));
        }
        let mut is_told = true;
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => {
                    ends.send_replace(true);
                    // They see it before anything else that comes.
                    while tasks.join_next().await.is_some() {}
                    return;
                }
                // When nobody tells any more, the last view stands.
                changed = self.view.changed(), if is_told => is_told = changed.is_ok(),
                Some(ended) = tasks.join_next() => {
                    // They go on for ever, unless one panics: half a server is worse than none.
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
            let view = Arc::clone(&self.view.borrow_and_update());
            let (zone, faults) = Zone::new(self.shared.fixed.clone(), &view, Some(&self.shared.zone.load()));
            warn(&faults);
            self.shared.zone.store(Arc::new(zone));
        }
    }
}

fn warn(faults: &[SettingError]) {
    for fault in faults {
        tracing::warn!(%fault, "left out of the zone");
    }
}

/// Sockets of one address.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: std::net::UdpSocket,
    /// For connections.
    pub tcp: std::net::TcpListener,
}

impl Sockets {
    fn is_for(&self, wanted: SocketAddr) -> bool {
        let is_it = |at: io::Result<SocketAddr>| {
            at.is_ok_and(|at| at.ip() == wanted.ip() && [0, at.port()].contains(&wanted.port()))
        };
        is_it(self.udp.local_addr()) && is_it(self.tcp.local_addr())
    }

    /// Once more.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }

    fn into_tokio(self) -> io::Result<(UdpSocket, TcpListener)> {
        self.udp.set_nonblocking(true)?;
        self.tcp.set_nonblocking(true)?;
        Ok((UdpSocket::from_std(self.udp)?, TcpListener::from_std(self.tcp)?))
    }
}

/// Both at one port, also where any port is asked for.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && attempt < BIND_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, mut ending: watch::Receiver<bool>) {
    let mut rng = Rng::new();
    let mut limiter = Limiter::new(shared.settings.rate, rng.u64(..));
    let mut buffer = vec![0; QUERY_MAX_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            _ = ending.wait_for(|ends| *ends) => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error is about what was sent before; the socket goes on.
        let Ok((length, from)) = received else {
            sleep(RECEIVE_PAUSE).await;
            continue;
        };
        shared.counts.udp.fetch_add(1, Relaxed);
        let query = &buffer[..length];
        let now_us = u64::try_from(shared.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let answered = match answer(query, &shared.zone.load(), Transport::Udp, &mut rng) {
            None => continue,
            Some(answered) => match limiter.verdict(from.ip(), now_us) {
                Verdict::Send => Some(answered),
                Verdict::Truncate => truncated(query),
                Verdict::Drop => None,
            },
        };
        let Some(answered) = answered else {
            shared.counts.limited.fetch_add(1, Relaxed);
            continue;
        };
        shared.counts.count(&answered);
        // What cannot be sent at once is lost, as it may be on its way: the resolver asks again.
        let _ = socket.try_send_to(&answered.bytes, from);
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, mut ending: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        let accepted = tokio::select! {
            biased;
            _ = ending.wait_for(|ends| *ends) => return connections.detach_all(),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = Place::take(&shared, from.ip()) else {
            shared.counts.connections_refused.fetch_add(1, Relaxed);
            continue;
        };
        connections.spawn(async move {
            let _ = timeout(CONNECTION_MAX, serve_connection(stream, &place.shared)).await;
        });
    }
}

/// One query after another, each answered in its turn (RFC 7766): they may come all at once.
async fn serve_connection(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut rng = Rng::new();
    let idle = shared.settings.idle;
    loop {
        let Ok(Ok(query)) = timeout(idle, read_query(&mut stream)).await else { return };
        shared.counts.tcp.fetch_add(1, Relaxed);
        let Some(answered) = answer(&query, &shared.zone.load(), Transport::Tcp, &mut rng) else { return };
        shared.counts.count(&answered);
        let Ok(length) = u16::try_from(answered.bytes.len()) else { return };
        let framed = [&length.to_be_bytes(), answered.bytes.as_slice()].concat();
        let Ok(Ok(())) = timeout(idle, stream.write_all(&framed)).await else { return };
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_MAX_BYTES {
        return Err(io::Error::other("no query is that long"));
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}

/// A connection's place among all that there may be.
struct Place {
    shared: Arc<Shared>,
    network: u128,
}

impl Place {
    fn take(shared: &Arc<Shared>, from: IpAddr) -> Option<Self> {
        let most = shared.settings.connections_max;
        let network = network(from);
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = connections.values().sum();
        let own = connections.get(&network).copied().unwrap_or_default();
        if all >= most || own >= (most / NETWORK_SHARE).max(1) {
            return None;
        }
        connections.insert(network, own + 1);
        Some(Self { shared: Arc::clone(shared), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match connections.get_mut(&self.network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => _ = connections.remove(&self.network),
        }
    }
}
