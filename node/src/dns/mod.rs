//! The node in its region's name: a thread that has the name kept, or answers for its zone.
//!
//! | file | concern |
//! | --- | --- |
//! | `mod.rs` | the thread, and what the rest of the node says and sees |
//! | `translate.rs` | from how the node stands to what is wanted, and who is in the pool |
//!
//! Nothing waits for it but a drain, for a while: a provider that fails is seen ([`Dns::status`]), and holds nobody up. While another
//! process has the node's addresses it does nothing: that one has the same sockets for queries, so that none goes unanswered.

mod translate;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_dns::{
    Inputs, KeeperSettings, NameServer, Provider, ProviderSettings, Server, ServerCounts, ServerSettings,
    SettingError, Sockets, State, Wanted, Wish, ZoneView, keep,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::admin::Events;
use crate::config::{self, DnsWay};
use crate::shedding::{Health, Standing};
use crate::upgrade::Handed;
use translate::{Owners, is_alone, own_is_out, pool, view, wish};

/// Between two tries to listen for queries: the process before this one may still do so.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What the node wants of its thread.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    /// To be out: it does not serve yet.
    Start,
    /// To be in or out as it stands.
    Serve,
    /// To be out, for this reason.
    Drain(Arc<str>),
    /// Nothing for now: another process has the node's addresses.
    Rest,
    /// Nothing any more: whoever comes after it has the addresses.
    End,
}

impl Demand {
    /// The thread has something to do.
    fn is_work(&self) -> bool {
        !matches!(self, Self::Rest | Self::End)
    }
}

/// What the rest of the node says to the thread, and sees of it.
#[derive(Clone, Debug)]
pub struct Dns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    provider: &'static str,
    addresses: Vec<IpAddr>,
    demand: watch::Sender<Demand>,
    keeper: watch::Receiver<Option<State>>,
    seen: Mutex<Seen>,
    copies: Copies,
}

/// What the thread shows besides its keeper's state.
#[derive(Clone, Debug)]
struct Seen {
    wish: Wish,
    since: Instant,
    /// Zero of the keeper's clock.
    epoch: Instant,
    /// Embedded: no answer leads here any more.
    is_out: bool,
    /// Embedded: why nobody is answered.
    trouble: Option<String>,
    counts: Option<Arc<ServerCounts>>,
}

/// What it listens on for queries once more: for a process that takes over, and for this one when it goes on.
type Copies = Mutex<Vec<Sockets>>;

/// How the node stands with its region's name.
#[derive(Clone, Debug)]
pub struct Status {
    /// The name.
    pub name: String,
    /// Who keeps it, as it is configured.
    pub provider: &'static str,
    /// What clients reach the node at.
    pub addresses: Vec<IpAddr>,
    /// What it wants.
    pub wanted: Wanted,
    /// Why.
    pub cause: Arc<str>,
    /// Since when.
    pub since: Instant,
    /// Whether its addresses are in, as far as is known.
    pub is_in: Option<bool>,
    /// It wants out, and stays for the pool's sake.
    pub is_kept: bool,
    /// What the name has.
    pub zone: Vec<IpAddr>,
    /// When that was seen.
    pub looked: Option<Instant>,
    /// What does not work.
    pub trouble: Option<Trouble>,
    /// What its own server did.
    pub counts: Option<Arc<ServerCounts>>,
}

/// What does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, where that is known.
    pub since: Option<Instant>,
    /// How often it was tried.
    pub attempts: u32,
    /// What was said last.
    pub last: String,
}

impl Dns {
    /// Out, whatever is measured; `why` is for the log.
    pub(crate) fn drain(&self, why: &str) {
        self.0.demand.send_replace(Demand::Drain(why.into()));
    }

    /// In again, if the node is well.
    pub(crate) fn serve(&self) {
        self.0.demand.send_replace(Demand::Serve);
    }

    /// Another process has the node's addresses: they stay as they are, until this one serves again.
    pub(crate) fn rest(&self) {
        self.0.demand.send_replace(Demand::Rest);
    }

    /// Whoever comes after this process has the addresses.
    fn end(&self) {
        self.0.demand.send_replace(Demand::End);
    }

    /// It is known that nobody is sent here any more.
    pub(crate) fn is_out(&self) -> bool {
        match &*self.0.keeper.borrow() {
            Some(state) => state.is_out == Some(true) && state.wanted != Wanted::In,
            None => self.0.lock().is_out,
        }
    }

    /// How the node stands with the name.
    #[must_use]
    pub fn status(&self) -> Status {
        let seen = self.0.lock().clone();
        let keeper = self.0.keeper.borrow().clone();
        let at = |us| seen.epoch + Duration::from_micros(us);
        let trouble = match (&keeper, &seen.trouble) {
            (_, Some(last)) => Some(Trouble { since: None, attempts: 0, last: last.clone() }),
            (Some(State { trouble: Some(trouble), .. }), None) => Some(Trouble {
                since: Some(at(trouble.since_us)),
                attempts: trouble.attempts,
                last: trouble.last.to_string(),
            }),
            _ => None,
        };
        Status {
            name: self.0.name.clone(),
            provider: self.0.provider,
            addresses: self.0.addresses.clone(),
            wanted: seen.wish.wanted,
            cause: seen.wish.cause,
            since: seen.since,
            is_in: match &keeper {
                Some(state) => state.is_in,
                None => Some(!seen.is_out),
            },
            is_kept: keeper.as_ref().is_some_and(|state| state.is_kept),
            zone: keeper.iter().flat_map(|state| &state.zone).flatten().copied().collect(),
            looked: keeper.as_ref().and_then(|state| state.looked_us).map(at),
            trouble,
            counts: seen.counts,
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Queries are answered from now on.
    fn answers(&self, server: &Server) {
        let mut seen = self.lock();
        (seen.trouble, seen.counts) = (None, Some(server.counts()));
        drop(seen);
        match server.copies() {
            Ok(copies) => *self.copies() = copies,
            Err(error) => {
                tracing::warn!(%error, "queries go unanswered for a moment when another process takes over");
            }
        }
    }

    fn copies(&self) -> MutexGuard<'_, Vec<Sockets>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropping it ends it, with the name as it is.
#[derive(Debug)]
pub(crate) struct Thread {
    dns: Dns,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Its sockets once more, for a process that takes over.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let copies = self.dns.0.copies().iter().map(Sockets::try_clone).collect::<io::Result<Vec<_>>>()?;
        Ok(copies.into_iter().flat_map(|Sockets { udp, tcp }| [udp.into(), tcp.into()]).collect())
    }

    /// Closes those: no query waits there.
    pub(crate) fn let_go(&self) {
        self.dns.0.copies().clear();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.dns.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the dns thread panicked");
        }
    }
}

/// What the thread knows of its node.
#[derive(Debug)]
pub(crate) struct Own {
    /// Its name in the pool.
    pub(crate) node: String,
    /// As much of the pool stays in the name, whoever wants out.
    pub(crate) keep_percent: u32,
    /// Another process has the addresses until this one is ready.
    pub(crate) waits: bool,
}

/// Starts the thread of a node.
///
/// # Errors
/// The system gives no thread, or the provider cannot be used.
pub(crate) fn start(
    config: config::Dns,
    own: Own,
    health: &Arc<Health>,
    events: Option<Arc<Events>>,
    seed: u64,
    handed: &mut Handed,
) -> io::Result<(Dns, Thread)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (demand, demands) = watch::channel(Demand::Start);
    let (shown, keeper) = watch::channel(None);
    let config::Dns { name, addresses, way } = config;
    let standing = health.subscribe();
    let first = wish(&standing.borrow(), &Demand::Start, Instant::now());
    let now = Instant::now();
    let seen = Seen { wish: first, since: now, epoch: now, is_out: true, trouble: None, counts: None };
    let dns = Dns(Arc::new(Inner {
        name: name.name_text(),
        provider: provider_name(&way),
        addresses: addresses.iter().copied().collect(),
        demand,
        keeper,
        seen: Mutex::new(seen),
        copies: Mutex::default(),
    }));
    let inner = Arc::clone(&dns.0);
    let around =
        Around { inner, node: own.node.clone(), health: Arc::clone(health), standing, demands, events };
    let task: Task = match way {
        DnsWay::Kept { provider, check } => {
            let provider = provider.provider(name).map_err(io::Error::other)?;
            let provider = provider.ok_or_else(|| io::Error::other("there is no DNS provider"))?;
            let check_us = u64::try_from(check.as_micros()).unwrap_or(u64::MAX);
            let settings = KeeperSettings::new(own.node, addresses, check_us).map_err(io::Error::other)?;
            let settings = KeeperSettings { floor_percent: own.keep_percent, ..settings };
            Box::new(move || {
                runtime.block_on(around.keep(settings, provider.into(), shown, seed));
                end(runtime);
            })
        }
        DnsWay::Embedded { server, servers } => {
            let taken = server.as_ref().map(|server| take(server, handed)).unwrap_or_default();
            let is_shared = own.waits && !taken.is_empty();
            *around.inner.copies() = taken;
            Box::new(move || {
                runtime.block_on(around.answer(server, servers, is_shared));
                end(runtime);
                drop(shown);
            })
        }
    };
    let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(task)?;
    Ok((dns.clone(), Thread { dns, thread: Some(thread) }))
}

type Task = Box<dyn FnOnce() + Send>;

/// A name that is just being looked up is not waited for: that takes as long as its servers are silent.
fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_background();
}

/// Sockets for queries that were handed over: of addresses that have both.
fn take(server: &ServerSettings, handed: &mut Handed) -> Vec<Sockets> {
    let both = |address| Some(Sockets { udp: handed.datagrams(address)?, tcp: handed.listener(address)? });
    server.listen.iter().copied().filter_map(both).collect()
}

fn provider_name(way: &DnsWay) -> &'static str {
    match way {
        DnsWay::Embedded { .. } => "embedded",
        DnsWay::Kept { provider, .. } => match provider {
            ProviderSettings::Rfc2136(_) => "rfc2136",
            ProviderSettings::Route53(_) => "route53",
            ProviderSettings::Cloudflare(_) => "cloudflare",
            ProviderSettings::Exec(_) => "exec",
            ProviderSettings::None => "none",
        },
    }
}

/// What the thread goes by.
struct Around {
    inner: Arc<Inner>,
    node: String,
    health: Arc<Health>,
    standing: watch::Receiver<Arc<Standing>>,
    demands: watch::Receiver<Demand>,
    events: Option<Arc<Events>>,
}

impl Around {
    /// Waits until there is something to do; false at the end.
    async fn has_work(&mut self) -> bool {
        // Whoever demands is in the same place.
        let demand = self.demands.wait_for(|demand| *demand != Demand::Rest).await;
        demand.is_ok_and(|demand| *demand != Demand::End)
    }

    /// Has the name kept, but while another process has the addresses.
    async fn keep(
        mut self,
        settings: KeeperSettings,
        provider: Arc<dyn Provider>,
        shown: watch::Sender<Option<State>>,
        seed: u64,
    ) {
        while self.has_work().await {
            let (wishes, wish) = watch::channel(self.inner.lock().wish.clone());
            let (pools, pool) = watch::channel(None);
            let inputs = Inputs { wish, pool, state: shown.clone() };
            self.inner.lock().epoch = Instant::now();
            let keeping = keep(settings.clone(), Arc::clone(&provider), inputs, seed);
            tokio::join!(keeping, self.translate(wishes, pools));
        }
    }

    /// Tells the keeper what the node wants and who is in the pool, until the node wants nothing of it.
    async fn translate(
        &mut self,
        wishes: watch::Sender<Wish>,
        pools: watch::Sender<Option<Arc<[pinwire_dns::Member]>>>,
    ) {
        let mut keeper = self.inner.keeper.clone();
        let (mut owners, mut told) = (Owners::default(), Told::default());
        loop {
            let demand = self.demands.borrow_and_update().clone();
            if !demand.is_work() {
                return;
            }
            let standing = Arc::clone(&self.standing.borrow_and_update());
            let members = pool(&standing.pool, &mut owners).map(Arc::from);
            pools.send_if_modified(|known| {
                let is_news = *known != members;
                *known = members;
                is_news
            });
            if let Some(wish) = self.want(&standing, &demand) {
                wishes.send_replace(wish);
            }
            let state = keeper.borrow_and_update().clone();
            self.health.keep_in_name(state.as_ref().is_some_and(|state| state.is_kept));
            let zone = state.as_ref().and_then(|state| state.zone.as_ref());
            self.health
                .leave_alone_in_name(zone.is_some_and(|zone| is_alone(&standing.pool, &self.node, zone)));
            self.tell(&mut told, state.as_ref());
            tokio::select! {
                changed = self.demands.changed() => if changed.is_err() { return },
                changed = self.standing.changed() => if changed.is_err() { return },
                _ = keeper.changed() => {}
            }
        }
    }

    /// What the node wants, if that is news.
    fn want(&self, standing: &Standing, demand: &Demand) -> Option<Wish> {
        let wish = wish(standing, demand, Instant::now());
        let mut seen = self.inner.lock();
        if seen.wish.wanted == wish.wanted {
            return None;
        }
        (seen.wish, seen.since) = (wish.clone(), Instant::now());
        Some(wish)
    }

    /// What became of it is an event.
    fn tell(&self, told: &mut Told, state: Option<&State>) {
        let (Some(events), Some(state)) = (&self.events, state) else { return };
        if let Some(is_in) = state.is_in.filter(|is_in| told.is_in != Some(*is_in)) {
            if told.is_in.is_some() || is_in {
                let why = state.cause.to_string();
                events.note(if is_in { What::DnsJoined { why } } else { What::DnsLeft { why } });
            }
            told.is_in = Some(is_in);
        }
        let error = state.trouble.as_ref().map(|trouble| Arc::clone(&trouble.last));
        if told.error != error {
            events.note(match &error {
                Some(error) => What::DnsFailing { error: error.to_string() },
                None => What::DnsWorks,
            });
            told.error = error;
        }
    }

    /// Answers for the zone, but while another process does. `is_shared`: one does from the same sockets until this one is ready.
    async fn answer(mut self, server: Option<ServerSettings>, servers: Vec<NameServer>, mut is_shared: bool) {
        while self.has_work().await {
            self.answer_now(server.clone(), &servers, is_shared).await;
            // It knows the zone by now.
            is_shared = false;
        }
    }

    /// Answers until the node wants nothing of it.
    async fn answer_now(&mut self, server: Option<ServerSettings>, servers: &[NameServer], is_shared: bool) {
        let mut owners = Owners::default();
        let name = self.inner.name.clone();
        let (views, watched) = watch::channel(Arc::new(ZoneView::default()));
        let (go, goes) = watch::channel(!is_shared);
        let serving = serve(server, watched, goes, Arc::clone(&self.inner));
        tokio::pin!(serving);
        loop {
            let demand = self.demands.borrow_and_update().clone();
            if !demand.is_work() {
                // It ends with what it has received.
                drop(go);
                return serving.await;
            }
            let standing = Arc::clone(&self.standing.borrow_and_update());
            let wish = self.want(&standing, &demand);
            let wanted = wish.map_or_else(|| self.inner.lock().wish.wanted, |wish| wish.wanted);
            let own = (self.node.as_str(), self.inner.addresses.as_slice(), wanted);
            self.inner.lock().is_out = own_is_out(&standing.pool, own);
            if let Some(view) = view(&standing, own, &name, servers, &mut owners) {
                if demand != Demand::Start {
                    go.send_replace(true);
                }
                views.send_if_modified(|known| {
                    let is_news = **known != view;
                    if is_news {
                        *known = Arc::new(view);
                    }
                    is_news
                });
            }
            tokio::select! {
                changed = self.demands.changed() => if changed.is_err() { return },
                changed = self.standing.changed() => if changed.is_err() { return },
                () = &mut serving => {}
            }
        }
    }
}

/// What was told last.
#[derive(Default)]
struct Told {
    is_in: Option<bool>,
    error: Option<Arc<str>>,
}

/// Answers queries once `goes` says so and it can listen, until nobody says so any more.
async fn serve(
    settings: Option<ServerSettings>,
    view: watch::Receiver<Arc<ZoneView>>,
    mut goes: watch::Receiver<bool>,
    inner: Arc<Inner>,
) {
    let is_over = goes.clone();
    let Some(settings) = settings else { return gone(is_over).await };
    if goes.wait_for(|goes| *goes).await.is_err() {
        return;
    }
    loop {
        let copies = inner.copies().iter().map(Sockets::try_clone).collect::<io::Result<_>>();
        match Server::bind_with(settings.clone(), view.clone(), copies.unwrap_or_default()).await {
            Ok(server) => {
                let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
                tracing::info!(
                    zone = settings.zone,
                    addresses = addresses.join(", "),
                    "answers for the zone"
                );
                inner.answers(&server);
                return server.run_until(gone(is_over)).await;
            }
            Err(error) => {
                let said = said_of(&error);
                let is_news = inner.lock().trouble.replace(said) != Some(said_of(&error));
                if is_news {
                    tracing::error!(%error, "nobody is answered for the zone; it is tried again");
                }
            }
        }
        tokio::select! {
            () = sleep(LISTEN_AGAIN) => {}
            () = gone(is_over.clone()) => return,
        }
    }
}

/// Until whoever tells is gone.
async fn gone(mut told: watch::Receiver<bool>) {
    while told.changed().await.is_ok() {}
}

fn said_of(error: &SettingError) -> String {
    format!("{}; {}", error.fault, error.mend)
}
