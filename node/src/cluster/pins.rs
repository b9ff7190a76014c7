//! The thread that claims documents and renews leases: a [`Pins`] core for each license region, over its registry.
//!
//! It waits for nothing but its queue, its timers and the answers to what it asked, all at once: a registry that is slow or away
//! holds up no other one, and no renewal waits for a claim.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pinwire_admin_api::events::What;
use pinwire_cluster::{AskId, Decision, Effect, Lease, Pins, Settings, Ticket};
use pinwire_registry::{Answer, AppName, AppUse, Claim, DocumentName, Owner, Registry, Share};
use pinwire_shard::App;
use std::collections::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::allotments::Allotment;
use super::registries::UrlError;
use super::running::{Running, Signals, runtime};
use super::{AnyRegistry, ClusterStats, Gates, PinEvent, Registries, Trays, came_to};
use crate::admin::Events;
use crate::apps::{Apps, Records};
use crate::data::Mailbox;
use crate::shedding::{Cause, Health};

/// Requests of data threads that wait; they keep what does not fit.
const QUEUE: usize = 8_192;
/// Requests taken from the queue before timers and answers are looked at again.
const TAKEN_AT_ONCE: usize = 256;
/// How long a node that stops waits for its registries to know.
const RETIRE_PATIENCE: Duration = Duration::from_secs(2);
/// The longest that an answer is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked up what apps use, for the next renewal.
const LOOK_AT_APPS: Duration = Duration::from_secs(1);
/// Apps looked at under one lock.
const APPS_AT_ONCE: usize = 1_024;

/// Something that a data thread wants.
#[derive(Debug)]
pub(crate) enum Request {
    /// It opens a document of an app that may have so many. Answered in its tray.
    Hold { registry: u8, document: DocumentName, ticket: Ticket, max_documents: u32 },
    /// It has closed it. One that is being moved is not held for a while longer.
    Leave { registry: u8, document: DocumentName, ticket: Ticket, is_moving: bool },
    /// The region's sessions have it under a newer claim than it is held under.
    Fenced { registry: u8, document: DocumentName, claim: Claim },
    /// A document is being moved to another region: it is given back if nobody here has it open.
    GiveBack { registry: u8, document: DocumentName },
    /// A document of another region, which handed it over, is to be moved from one claim to another, and to wait here for its
    /// clients.
    Move { registry: u8, document: DocumentName, claim: Claim, to: Claim, reply: oneshot::Sender<Decision> },
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct PinsWay(mpsc::Sender<Request>);

impl PinsWay {
    /// Gives the request back if the queue is full. Once the thread has ended nothing is wanted of it any more.
    pub(crate) fn send(&self, request: Request) -> Result<(), Request> {
        match self.0.try_send(request) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => Err(request),
        }
    }
}

impl PinsWay {
    /// Has the registry move a document here; `None`: it may be moved or not.
    pub(crate) async fn move_here(
        &self,
        registry: u8,
        document: DocumentName,
        claim: Claim,
        to: Claim,
    ) -> Option<Decision> {
        let (reply, decision) = oneshot::channel();
        self.0.send(Request::Move { registry, document, claim, to, reply }).await.ok()?;
        decision.await.ok()
    }
}

#[cfg(test)]
impl PinsWay {
    /// A way without a thread, and its other end.
    pub(super) fn to_a_test() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }
}

/// A data thread's number in the upper bits of a ticket.
const THREAD_SHIFT: u32 = 48;

/// In the place of a data thread's number: a document that is being moved here.
const OF_MOVES: u16 = u16::MAX;

/// The `n`th ticket of a data thread.
pub(crate) fn ticket(thread: u16, n: u64) -> Ticket {
    Ticket(u64::from(thread) << THREAD_SHIFT | n)
}

fn thread_of(Ticket(ticket): Ticket) -> usize {
    (ticket >> THREAD_SHIFT) as usize
}

/// Why the thread does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Around {
    /// One for each license region, in the order of their numbers.
    pub(crate) registries: Registries,
    pub(crate) settings: Settings,
    /// Other nodes, of this process or another, have the same registries.
    pub(crate) has_others: bool,
    pub(crate) gates: Arc<Gates>,
    pub(crate) trays: Trays,
    pub(crate) apps: Arc<Apps>,
    pub(crate) records: Arc<Records>,
    pub(crate) health: Arc<Health>,
    pub(crate) events: Option<Arc<Events>>,
    pub(crate) stats: Arc<ClusterStats>,
}

fn app_name(app: &App) -> AppName {
    AppName(format!("{}::{}", app.tenant(), app.id()).into())
}

/// Starts the thread; it registers the node at once. Once its handle is dropped the node leaves its registries in good order.
///
/// # Errors
/// The system gives no thread, no timer or no random numbers; or a registry's URL cannot be used.
pub(crate) fn start(around: Around) -> Result<Running<PinsWay>, StartError> {
    let runtime = runtime()?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let registries = {
        let _inside = runtime.enter();
        around.registries.open()?
    };
    let work = Work::new(around, registries, requests)?;
    Ok(Running::start("pins", runtime, PinsWay(sender), move |signals| work.run(signals))?)
}

#[derive(Debug)]
struct Core {
    pins: Pins,
    registry: AnyRegistry,
    is_out_of_reach: bool,
    is_retired: bool,
}

/// Which registry answered what to which question; `None` if it failed.
type Answered = (usize, AskId, Option<Answer>);

struct Work {
    cores: Vec<Core>,
    asked: JoinSet<Answered>,
    requests: mpsc::Receiver<Request>,
    /// For each data thread.
    news: Vec<Vec<PinEvent>>,
    mailboxes: Option<Arc<[Mailbox]>>,
    patience: Duration,
    renew_us: u64,
    gates: Arc<Gates>,
    trays: Trays,
    apps: Arc<Apps>,
    records: Arc<Records>,
    health: Arc<Health>,
    events: Option<Arc<Events>>,
    stats: Arc<ClusterStats>,
    /// Other nodes admit connections of the same apps: each from its share of their limits.
    has_others: bool,
    /// Documents that are being moved here, and who waits for that.
    moves: HashMap<Ticket, oneshot::Sender<Decision>>,
    last_move: u64,
    /// Apps that are used, and the number of their registry.
    used: HashMap<AppName, (usize, Allotment)>,
}

impl Work {
    fn new(
        around: Around,
        registries: Vec<AnyRegistry>,
        requests: mpsc::Receiver<Request>,
    ) -> io::Result<Self> {
        let Around { settings, has_others, gates, trays, apps, records, health, events, stats, .. } = around;
        let patience = Duration::from_micros(settings.renew_us).min(ANSWER_PATIENCE);
        if has_others {
            apps.await_shares();
        }
        let mut cores = Vec::with_capacity(registries.len());
        for registry in registries {
            let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
            let pins = Pins::new(settings.clone(), seed);
            cores.push(Core { pins, registry, is_out_of_reach: false, is_retired: false });
        }
        let (asked, news) = (JoinSet::new(), Vec::new());
        let mailboxes = None;
        let work = Self {
            cores,
            asked,
            requests,
            news,
            mailboxes,
            patience,
            renew_us: settings.renew_us,
            gates,
            trays,
            apps,
            records,
            health,
            events,
            stats,
            has_others,
            moves: HashMap::new(),
            last_move: 0,
            used: HashMap::new(),
        };
        Ok(work)
    }

    async fn run(mut self, Signals { mut mailboxes, mut stopping }: Signals) {
        let mut look_at_apps = Instant::now();
        loop {
            self.go_on();
            let due = self.next_due();
            tokio::select! {
                biased;
                Some(joined) = self.asked.join_next(), if !self.asked.is_empty() => {
                    let (registry, ask, answer) = came_to(joined);
                    self.answered(registry, ask, answer);
                }
                _ = &mut stopping => break,
                () = sleep_until(due) => {}
                () = sleep_until(look_at_apps) => {
                    self.look_at_apps();
                    look_at_apps = Instant::now() + LOOK_AT_APPS;
                }
                ways = &mut mailboxes, if self.mailboxes.is_none() => match ways {
                    Ok(ways) => {
                        self.mailboxes = Some(ways);
                        // There may be news from before.
                        self.wake_all();
                    }
                    // The node did not start.
                    Err(_) => break,
                },
                Some(request) = self.requests.recv() => self.wanted(request),
            }
        }
        self.retire().await;
    }

    /// Time, what it makes due, and what came of everything since.
    fn go_on(&mut self) {
        self.begin();
        for registry in 0..self.cores.len() {
            self.run_effects(registry);
        }
        self.tell();
        let pins: usize = self.cores.iter().map(|core| core.pins.len()).sum();
        self.stats.pins.set(pins as u64);
        self.look_at_leases();
    }

    /// For operators; threads that serve go by the gates.
    fn look_at_leases(&self) {
        let now_us = self.gates.now_us();
        let left = self.cores.iter().map(|core| match core.pins.lease() {
            Lease::Valid { until_us } => until_us.saturating_sub(now_us),
            Lease::Unchecked | Lease::Adrift { .. } => 0,
        });
        let left_us = left.min().unwrap_or(0);
        self.stats.lease_left_ms.set(left_us / 1000);
        self.stats.lease_valid.set(u64::from(left_us > 0));
        // Nobody has renewed yet when a node has just started.
        let is_adrift = self.cores.iter().any(|core| matches!(core.pins.lease(), Lease::Adrift { .. }));
        if self.health.note(Cause::Lease, is_adrift) && is_adrift {
            tracing::error!("the lease ran out: nothing is acknowledged or stored until it is renewed");
        }
    }

    /// The time, before anything is put in.
    fn begin(&mut self) {
        let now_us = self.gates.now_us();
        self.cores.iter_mut().for_each(|core| core.pins.begin(now_us));
    }

    fn next_due(&self) -> Instant {
        let due_us = self.cores.iter().map(|core| core.pins.next_deadline_us()).min();
        let due = due_us.and_then(|us| self.gates.at(us)).map(Instant::from_std);
        due.unwrap_or_else(|| Instant::now() + LOOK_AT_APPS)
    }

    fn answered(&mut self, registry: usize, ask: AskId, answer: Option<Answer>) {
        let Some(core) = self.cores.get_mut(registry) else { return };
        // The time of the answer, not of the turn before it.
        core.pins.begin(self.gates.now_us());
        match answer {
            Some(answer) => core.pins.answered(ask, answer),
            None => {
                self.stats.registry_unanswered.one();
                core.pins.failed(ask);
            }
        }
    }

    fn wanted(&mut self, request: Request) {
        self.begin();
        self.want(request);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(request) = self.requests.try_recv() else { return };
            self.want(request);
        }
    }

    fn want(&mut self, request: Request) {
        match request {
            Request::Hold { registry, document, ticket, max_documents } => {
                let Some(core) = self.cores.get_mut(usize::from(registry)) else { return };
                core.pins.hold(&document, ticket, max_documents);
            }
            Request::Leave { registry, document, ticket, is_moving } => {
                let Some(core) = self.cores.get_mut(usize::from(registry)) else { return };
                if is_moving {
                    core.pins.give_back(&document, ticket);
                } else {
                    core.pins.leave(&document, ticket);
                }
            }
            Request::Fenced { registry, document, claim } => {
                let Some(core) = self.cores.get_mut(usize::from(registry)) else { return };
                core.pins.fenced(&document, claim);
            }
            Request::GiveBack { registry, document } => {
                let Some(core) = self.cores.get_mut(usize::from(registry)) else { return };
                core.pins.give_back_left(&document);
            }
            Request::Move { registry, document, claim, to, reply } => {
                let Some(core) = self.cores.get_mut(usize::from(registry)) else { return };
                self.last_move += 1;
                let ticket = ticket(OF_MOVES, self.last_move);
                self.moves.insert(ticket, reply);
                core.pins.move_here(&document, ticket, claim, to);
            }
        }
    }

    fn run_effects(&mut self, registry: usize) {
        while let Some(effect) = self.cores[registry].pins.next_effect() {
            match effect {
                Effect::Ask(ask, request) => {
                    self.stats.registry_asked.one();
                    let asked = self.cores[registry].registry.clone();
                    let patience = self.patience;
                    let stats = Arc::clone(&self.stats);
                    self.asked.spawn(async move {
                        let began = Instant::now();
                        let answer = timeout(patience, asked.ask(request)).await;
                        let answer = answer.ok().and_then(Result::ok);
                        if answer.is_some() {
                            stats.registry_times.note(began.elapsed());
                        }
                        (registry, ask, answer)
                    });
                }
                Effect::Decided(document, ticket, decision) if thread_of(ticket) == usize::from(OF_MOVES) => {
                    // It waits for its clients as in any grace.
                    self.cores[registry].pins.leave(&document, ticket);
                    if let Some(reply) = self.moves.remove(&ticket) {
                        // Whoever waited may have given up.
                        let _ = reply.send(decision);
                    }
                }
                Effect::Decided(_, ticket, decision) => {
                    self.stats.decided(&decision);
                    self.note(ticket, PinEvent::Decided(ticket, decision));
                }
                Effect::Lost(document, ticket, owner) => self.lost(&document, ticket, owner),
                Effect::Reclaimed(_, ticket, claim) => self.note(ticket, PinEvent::Reclaimed(ticket, claim)),
                Effect::Lease(lease) => {
                    // What was lost lies in the trays before anybody may serve again.
                    self.tell();
                    self.publish(registry, lease);
                }
                Effect::Life(node) => tracing::info!(%node, "known to the registry"),
                Effect::Shares(shares) => self.share(&shares),
                Effect::Records(records) => {
                    for (app, record) in &records {
                        self.records.learn(app, record, std::time::Instant::now());
                    }
                }
                Effect::Reach(is_reached) => self.reach(registry, is_reached),
                Effect::Retired => self.cores[registry].is_retired = true,
            }
        }
    }

    fn note(&mut self, ticket: Ticket, event: PinEvent) {
        let thread = thread_of(ticket);
        if self.news.len() <= thread {
            self.news.resize_with(thread + 1, Vec::new);
        }
        self.news[thread].push(event);
    }

    fn lost(&mut self, document: &DocumentName, ticket: Ticket, owner: Owner) {
        if owner.is_nobody() {
            tracing::warn!(%document, "the document was unpinned; its clients come again, wherever it is then");
            if let Some(events) = &self.events {
                events.note(What::DocumentUnpinned { document: document.to_string() });
            }
            return self.note(ticket, PinEvent::Lost(ticket, owner));
        }
        self.stats.pins_lost.one();
        tracing::warn!(%document, region = %owner.region, "another region has the document now; its clients are sent there");
        if let Some(events) = &self.events {
            events.note(What::DocumentLost {
                document: document.to_string(),
                region: owner.region.to_string(),
            });
        }
        self.note(ticket, PinEvent::Lost(ticket, owner));
    }

    /// Lays news into the trays.
    fn tell(&mut self) {
        for (thread, news) in self.news.iter_mut().enumerate().filter(|(_, news)| !news.is_empty()) {
            self.trays.put(thread, news);
            if let Some(mailbox) = self.mailboxes.as_ref().and_then(|mailboxes| mailboxes.get(thread)) {
                mailbox.wake();
            }
        }
    }

    fn publish(&self, registry: usize, lease: Lease) {
        self.gates.publish(registry, lease);
        if !matches!(lease, Lease::Valid { .. }) {
            self.stats.lease_lapses.one();
        }
        // A thread that sleeps may have something to do now, or to stop doing.
        self.wake_all();
    }

    fn wake_all(&self) {
        for mailbox in self.mailboxes.iter().flat_map(|mailboxes| mailboxes.iter()) {
            mailbox.wake();
        }
    }

    fn reach(&mut self, registry: usize, is_reached: bool) {
        self.cores[registry].is_out_of_reach = !is_reached;
        let is_away = self.cores.iter().any(|core| core.is_out_of_reach);
        if !self.health.note(Cause::Registry, is_away) {
            return;
        }
        if is_away {
            tracing::error!(
                "a registry is out of reach: documents that are open stay so, others cannot be opened"
            );
        } else {
            tracing::info!("the registry is back");
        }
    }

    /// What apps use on this node, and would like to be able to use: said with the next renewal.
    fn look_at_apps(&mut self) {
        if !self.has_others {
            return;
        }
        self.begin();
        let mut before = std::mem::take(&mut self.used);
        let mut last: Option<String> = None;
        loop {
            let page = self.apps.page("", last.as_deref(), APPS_AT_ONCE);
            for app in &page {
                let name = app_name(app);
                let known = before.remove(&name).map(|(_, allotment)| allotment);
                if known.is_some() || app.connections() > 0 || app.is_short() {
                    self.use_app(name, app, known);
                }
            }
            last = page.last().map(|app| app_name(app).to_string());
            if page.len() < APPS_AT_ONCE {
                break;
            }
        }
        for (app, version) in self.records.versions(self.used.keys()) {
            if let Some((registry, _)) = self.used.get(&app) {
                self.cores[*registry].pins.know_app(app, version);
            }
        }
        for (app, (registry, _)) in before {
            self.cores[registry].pins.forget_app(&app);
            let usage = AppUse { app, connections: 0, wanted: 0, max_connections: 0 };
            self.cores[registry].pins.use_app(usage);
        }
    }

    fn use_app(&mut self, name: AppName, app: &App, before: Option<Allotment>) {
        let registry = usize::from(app.license());
        let Some(core) = self.cores.get_mut(registry) else { return };
        let is_news = before.is_none() || app.is_short();
        let allotment = Allotment::wish(app, before);
        let usage = allotment.usage(name.clone());
        if allotment.is_idle() && app.documents() == 0 {
            core.pins.forget_app(&name);
        } else {
            self.used.insert(name, (registry, allotment));
        }
        core.pins.use_app(usage);
        if is_news {
            core.pins.renew_soon();
        }
    }

    fn share(&mut self, shares: &[(Share, u32)]) {
        let now_us = self.gates.now_us();
        for (share, asked) in shares {
            let Some((_, allotment)) = self.used.get_mut(&share.app) else { continue };
            let Some((tenant, id)) = share.app.0.split_once("::") else { continue };
            let Some(app) = self.apps.get(tenant, id) else { continue };
            allotment.answered(&app, share.connections, *asked, now_us, self.renew_us);
        }
    }

    /// Everything is left, with grace.
    async fn retire(&mut self) {
        let deadline = Instant::now() + RETIRE_PATIENCE;
        for core in &mut self.cores {
            core.pins.begin(self.gates.now_us());
            core.pins.retire();
        }
        loop {
            self.go_on();
            if self.cores.iter().all(|core| core.is_retired) {
                return;
            }
            let due = self.next_due();
            tokio::select! {
                Some(joined) = self.asked.join_next(), if !self.asked.is_empty() => {
                    let (registry, ask, answer) = came_to(joined);
                    self.answered(registry, ask, answer);
                }
                () = sleep_until(due) => {}
                () = sleep_until(deadline) => {
                    return tracing::warn!("a registry does not answer; what this node held is left when its lease runs out");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_registry::{AppRecord, Node, NodeView, Renewed, Request as Asked};

    const RENEW_US: u64 = 5_000_000;

    /// The thread's work as if other nodes shared its registry, which is played by hand; and the time by its clock.
    struct Bench {
        work: Work,
        now_us: u64,
    }

    impl Bench {
        fn new() -> Self {
            let node = Node { region: "here".into(), name: "here-1".into(), life: 0 };
            let me = NodeView {
                node,
                ws_url: "wss://here".into(),
                peer_address: "".into(),
                version: "1".into(),
                admin_url: "".into(),
            };
            let settings = Settings { me, lease_us: 4 * RENEW_US, renew_us: RENEW_US, grace_us: RENEW_US };
            let registries = Registries::new(&crate::config::Cluster::alone(), None).unwrap();
            let open = registries.open().unwrap();
            let around = Around {
                registries,
                settings,
                has_others: false,
                gates: Arc::new(Gates::new(1, std::time::Instant::now())),
                trays: Trays::new(1),
                apps: Arc::new(Apps::new()),
                records: Arc::new(Records::default()),
                health: Arc::new(Health::default()),
                events: None,
                stats: Arc::new(ClusterStats::default()),
            };
            let mut work = Work::new(around, open, mpsc::channel(1).1).unwrap();
            work.has_others = true;
            let mut bench = Self { work, now_us: 0 };
            assert!(matches!(bench.renewed(&[]), Asked::Register { .. }));
            bench
        }

        /// The next renewal, which is answered with `shares`.
        fn renewed(&mut self, shares: &[Share]) -> Asked {
            self.now_us += RENEW_US;
            let pins = &mut self.work.cores[0].pins;
            pins.begin(self.now_us);
            let (ask, request) = std::iter::from_fn(|| pins.next_effect())
                .find_map(|effect| match effect {
                    Effect::Ask(ask, request) => Some((ask, request)),
                    _ => None,
                })
                .expect("a renewal is due");
            let (lost, records) = (Vec::new(), Vec::new());
            let renewed = Renewed { now: 1, history: "a".into(), lost, shares: shares.to_vec(), records };
            pins.answered(ask, Answer::Renewed(renewed));
            self.work.run_effects(0);
            request
        }

        /// What the next renewal says after a look at the apps: wanted connections, and versions.
        fn said(&mut self, shares: &[Share]) -> (Vec<u32>, Vec<(AppName, u64)>) {
            self.work.look_at_apps();
            let Asked::Renew { apps, versions, .. } = self.renewed(shares) else { panic!("no renewal") };
            (apps.iter().map(|app| app.wanted).collect(), versions)
        }
    }

    #[test]
    fn versions_are_said_of_apps_that_are_used() {
        let mut bench = Bench::new();
        let app = bench.work.apps.enter("t", "a", None, 0).unwrap();
        let version = (app_name(&app), 3);
        let record = AppRecord { version: 3, record: None };
        bench.work.records.learn(&version.0, &record, std::time::Instant::now());
        assert_eq!(bench.said(&[]).1, []);
        assert!(app.admit_connection(1).is_ok() && app.admit_document(1).is_ok());
        assert_eq!(bench.said(&[]).1, std::slice::from_ref(&version));
        app.release_connection();
        assert_eq!(bench.said(&[]), (vec![0], vec![version]), "a document is open");
        app.release_document();
        assert_eq!(bench.said(&[]).1, []);
        assert!(bench.work.used.is_empty());
    }

    #[test]
    fn a_share_counts_while_the_app_is_used() {
        let mut bench = Bench::new();
        let app = bench.work.apps.enter("t", "a", None, 0).unwrap();
        let share = |connections| [Share { app: app_name(&app), connections }];
        assert!(app.admit_connection(9).is_ok());
        bench.said(&share(7));
        assert_eq!(app.share(), Some(7));
        app.release_connection();
        assert_eq!((bench.said(&share(0)).0, app.share()), (vec![0], None));
        assert_eq!(app.admit_connection(9), Ok(()), "whoever comes back first does not wait");
        // An answer to the renewal before.
        bench.work.look_at_apps();
        bench.work.share(&[(share(0)[0].clone(), 0)]);
        assert_eq!(app.share(), None);
    }
}
