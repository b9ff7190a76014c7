//! The node in its region's name: a thread that has the name kept, or answers for its zone.
//!
//! | file | concern |
//! | --- | --- |
//! | `mod.rs` | the thread, and what the rest of the node says and sees |
//! | `translate.rs` | from how the node stands to what is wanted, and who is in the pool |
//!
//! Nothing waits for it but a drain, for a while: a provider that fails is seen ([`Dns::status`]), and holds nobody up.

mod translate;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_dns::{
    Inputs, KeeperSettings, NameServer, ProviderSettings, Server, ServerCounts, ServerSettings, SettingError,
    State, Wanted, Wish, ZoneView, keep,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::admin::Events;
use crate::config::{self, DnsWay};
use crate::shedding::{Health, Standing};
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
    /// Nothing any more: whoever comes after it has the addresses.
    End,
}

/// What the rest of the node says to the thread, and sees of it.
#[derive(Clone, Debug)]
pub struct Dns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    provider: &'static str,
    addresses: Vec<IpAddr>,
    epoch: Instant,
    demand: watch::Sender<Demand>,
    keeper: watch::Receiver<Option<State>>,
    seen: Mutex<Seen>,
}

/// What the thread shows besides its keeper's state.
#[derive(Clone, Debug)]
struct Seen {
    wish: Wish,
    since: Instant,
    /// Embedded: no answer leads here any more.
    is_out: bool,
    /// Embedded: why nobody is answered.
    trouble: Option<String>,
    counts: Option<Arc<ServerCounts>>,
}

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

    /// Another process has the node's addresses: they stay as they are.
    pub(crate) fn end(&self) {
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
        let at = |us| self.0.epoch + Duration::from_micros(us);
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
    }
}

/// The thread. Dropping it ends it, with the name as it is.
#[derive(Debug)]
pub(crate) struct Thread {
    dns: Dns,
    thread: Option<JoinHandle<()>>,
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
) -> io::Result<(Dns, Thread)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (demand, demands) = watch::channel(Demand::Start);
    let (shown, keeper) = watch::channel(None);
    let config::Dns { name, addresses, way } = config;
    let standing = health.subscribe();
    let first = wish(&standing.borrow(), &Demand::Start, Instant::now());
    let seen = Seen { wish: first, since: Instant::now(), is_out: true, trouble: None, counts: None };
    let dns = Dns(Arc::new(Inner {
        name: name.name_text(),
        provider: provider_name(&way),
        addresses: addresses.iter().copied().collect(),
        epoch: Instant::now(),
        demand,
        keeper,
        seen: Mutex::new(seen),
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
            let (wishes, wish) = watch::channel(around.inner.lock().wish.clone());
            let (pools, pool) = watch::channel(None);
            let inputs = Inputs { wish, pool, state: shown };
            Box::new(move || {
                runtime.block_on(async {
                    let keeping = keep(settings, provider.into(), inputs, seed);
                    tokio::join!(keeping, around.translate(wishes, pools));
                });
            })
        }
        DnsWay::Embedded { server, servers } => Box::new(move || {
            runtime.block_on(around.answer(server, servers));
            drop(shown);
        }),
    };
    let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(task)?;
    Ok((dns.clone(), Thread { dns, thread: Some(thread) }))
}

type Task = Box<dyn FnOnce() + Send>;

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
    /// Tells the keeper what the node wants and who is in the pool, until the node wants nothing any more.
    async fn translate(
        mut self,
        wishes: watch::Sender<Wish>,
        pools: watch::Sender<Option<Arc<[pinwire_dns::Member]>>>,
    ) {
        let mut keeper = self.inner.keeper.clone();
        let (mut owners, mut told) = (Owners::default(), Told::default());
        loop {
            let demand = self.demands.borrow_and_update().clone();
            if demand == Demand::End {
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

    /// Answers for the zone, until the node wants nothing any more.
    async fn answer(mut self, server: Option<ServerSettings>, servers: Vec<NameServer>) {
        let mut owners = Owners::default();
        let name = self.inner.name.clone();
        let (views, watched) = watch::channel(Arc::new(ZoneView::default()));
        let serving = serve(server, watched, Arc::clone(&self.inner));
        tokio::pin!(serving);
        loop {
            let demand = self.demands.borrow_and_update().clone();
            if demand == Demand::End {
                return;
            }
            let standing = Arc::clone(&self.standing.borrow_and_update());
            let wish = self.want(&standing, &demand);
            let wanted = wish.map_or_else(|| self.inner.lock().wish.wanted, |wish| wish.wanted);
            let own = (self.node.as_str(), self.inner.addresses.as_slice(), wanted);
            self.inner.lock().is_out = own_is_out(&standing.pool, own);
            if let Some(view) = view(&standing, own, &name, &servers, &mut owners) {
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

/// Answers queries, as soon as it can listen. It ends only by being dropped.
async fn serve(settings: Option<ServerSettings>, view: watch::Receiver<Arc<ZoneView>>, inner: Arc<Inner>) {
    let Some(settings) = settings else { return std::future::pending().await };
    loop {
        match Server::bind(settings.clone(), view.clone()).await {
            Ok(server) => {
                let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
                tracing::info!(
                    zone = settings.zone,
                    addresses = addresses.join(", "),
                    "answers for the zone"
                );
                inner.answers(&server);
                return server.run().await;
            }
            Err(error) => {
                let said = said_of(&error);
                let is_news = inner.lock().trouble.replace(said) != Some(said_of(&error));
                if is_news {
                    tracing::error!(%error, "nobody is answered for the zone; it is tried again");
                }
            }
        }
        sleep(LISTEN_AGAIN).await;
    }
}

fn said_of(error: &SettingError) -> String {
    format!("{}; {}", error.fault, error.mend)
}
