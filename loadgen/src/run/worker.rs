//! One thread of load: an engine full of clients, and the order in which a turn does things.
//!
//! 1. Wait for the kernel, the next planned send, the next timer, or the main thread.
//! 2. Receive: what came is checked and timed before anything is sent, so that a slow turn does not flatter latency.
//! 3. Timers, dials, planned sends, each bounded per turn.
//! 4. Flush, then see whether the phase is over.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use pinwire_engine::{Cause, Engine, Event, ReadBuf, Slot};
use pinwire_protocol::ws::Scratch;
use pinwire_tls::ClientConfig;

use crate::procfs::{ThreadTime, own_thread_time};
use crate::results::{Correctness, GeneratorThread, Measure};
use crate::run::address::Endpoint;
use crate::run::client::{Client, Stage};
use crate::run::counts::Counts;
use crate::run::desk::{Desk, Outcome, Report, Reporter, Standing};
use crate::run::layout::Group;
use crate::run::ledger::{History, Ledger};
use crate::run::load::Pace;
use crate::run::schedule::{Part, Planned};
use crate::run::tokens::Tokens;
use crate::run::{Faults, Phase};
use crate::scenario::{Kind, Scenario};

/// How often the main thread hears from this one.
const REPORT_EVERY: u64 = 250_000_000;
/// How often the end of a phase is looked for.
const CHECK_EVERY: u64 = 5_000_000;
/// Documents whose end state a fresh client fetches and checks, a thread.
const AUDITS_MAX: usize = 64;
/// Connections closed in a turn.
const CLOSES_PER_TURN: usize = 1024;
/// Longest wait for the ends of connections that were closed, beside the time to close them.
const CLOSING_MAX: u64 = 10_000_000_000;
/// A client's slot in [`Worker::by_slot`] that nobody has.
const NOBODY: u32 = u32::MAX;

/// What fires at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A client dials again.
    Redial(u32),
    /// A dial has taken too long: the client, and the time of that dial.
    Timeout(u32, u64),
    /// A client leaves.
    Leave(u32),
    /// A slow reader reads on.
    Resume(u32),
    /// A client renews its awareness state.
    Announce(u32),
    /// All connections are cut.
    Storm,
}

/// A group on this thread.
pub(crate) struct Place {
    pub(crate) plan: Group,
    pub(crate) name: Rc<str>,
    pub(crate) first_client: u32,
    pub(crate) ledger: Ledger,
    /// Sender number of its first writer.
    pub(crate) first_sender: u32,
    pub(crate) is_touched: bool,
    /// Of Hocuspocus: what left and is not acknowledged, by writer.
    pub(crate) unacknowledged: HashMap<u32, VecDeque<Unacknowledged>>,
    /// Of Hocuspocus: how many of its edits each writer knows to be safe.
    pub(crate) safe: HashMap<u32, u32>,
}

/// What a writer sent and is owed an acknowledgement for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unacknowledged {
    /// Its edits before this one are safe then.
    pub(crate) end: u32,
    /// When it left.
    pub(crate) sent: u64,
    /// Where it counts; nowhere for edits that were sent again.
    pub(crate) part: Option<Part>,
}

/// What a thread is given.
pub(crate) struct Assignment {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Where documents are opened first, of `redirect`.
    pub(crate) home: Option<Endpoint>,
    /// What TLS connections are made by, if there are any.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) sources: Arc<[Ipv4Addr]>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) groups: Vec<Group>,
    /// Sender numbers over all processes begin here for each group number.
    pub(crate) sender_base: Vec<u32>,
    /// This thread's part of all clients, and so of the dials.
    pub(crate) share: f64,
    /// Its part of all senders, and so of the sends.
    pub(crate) send_share: f64,
    /// Number of its first client over all processes.
    pub(crate) client_base: u32,
    /// Its number among all threads, 0 to 1.
    pub(crate) offset: f64,
    pub(crate) seed: u64,
    pub(crate) run_name: String,
    pub(crate) base: Instant,
    pub(crate) desk: Arc<Desk>,
    pub(crate) reporter: Reporter,
}

/// See the module's documentation.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) given: Assignment,
    pub(crate) clients: Vec<Client>,
    pub(crate) places: Vec<Place>,
    pub(crate) by_slot: Vec<u32>,
    pub(crate) timers: BinaryHeap<Reverse<(u64, Timer)>>,
    pub(crate) counts: Counts,
    pub(crate) correctness: Correctness,
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    pub(crate) home: Option<Rc<Endpoint>>,
    /// Planned comings that are on their way in.
    pub(crate) arriving: HashMap<u32, Planned>,
    /// Clients that were cut off and come back, with the region where they were.
    pub(crate) lost: HashMap<u32, u16>,
    /// Redials that are due some time.
    pub(crate) redials: u32,
    /// When something came for each client last; empty unless silence is to end connections.
    pub(crate) heard: Vec<u64>,
    pub(crate) storms_left: u32,
    pub(crate) is_storm_due: bool,
    /// Reused: stretches of characters of one update.
    pub(crate) runs: Vec<(u64, u32, u32)>,
    pub(crate) scratch: Option<Scratch>,
    pub(crate) payload: Vec<u8>,
    pub(crate) random: fastrand::Rng,
    /// Clients that were dialled in this turn.
    pub(crate) fresh: Vec<u32>,
    /// Groups that got deliveries in this turn.
    pub(crate) touched: Vec<u32>,
    /// Clients that may come, of `churn` and `connect`.
    pub(crate) away: Vec<u32>,
    pub(crate) next_dial: usize,
    pub(crate) next_source: usize,
    pub(crate) dialling: u32,
    pub(crate) is_draining: bool,
    pub(crate) pace: Option<Pace>,
    pub(crate) resolved: HashMap<String, Rc<Endpoint>>,
    /// Clients sent elsewhere: where they dial until they have joined.
    pub(crate) detours: HashMap<u32, Rc<Endpoint>>,
    now: u64,
    next_report: u64,
    next_check: u64,
    turns: u64,
    closed_up_to: usize,
    load_began: Option<(Instant, ThreadTime)>,
    /// Wall time and processor time of the load: the figures of the verdict are those of the load alone.
    load_spent: Option<(Duration, ThreadTime)>,
    /// How long the load went on, nanoseconds.
    loaded: Option<u64>,
    last_usage: (Instant, Duration),
    phase: Phase,
    phase_ends: Option<u64>,
    is_audited: bool,
}

impl Worker {
    pub(crate) fn new(engine: Engine, given: Assignment) -> Self {
        let mut clients = Vec::new();
        let mut places = Vec::new();
        for (number, group) in (0_u32..).zip(&given.groups) {
            let first_client = clients.len() as u32;
            clients.extend((0..group.members).map(|member| Client::new(number, member)));
            let name =
                format!("{}{}-{}", given.scenario.target.document_prefix, given.run_name, group.number);
            let ledger = Ledger::new(group.audience, group.history, group.members + 1, &group.own_rows());
            places.push(Place {
                first_sender: given.sender_base.get(group.number as usize).copied().unwrap_or(0),
                plan: group.clone(),
                name: name.into(),
                first_client,
                ledger,
                is_touched: false,
                unacknowledged: HashMap::new(),
                safe: HashMap::new(),
            });
        }
        // A redirect to a host that has a URL leads into the same region.
        let known = given.endpoints.iter().chain(&given.home).map(|known| {
            (known.origin(), Rc::new(Endpoint { path: String::new(), query: None, ..known.clone() }))
        });
        let resolved = known.collect();
        let stages = given.scenario.stage_count();
        let random = fastrand::Rng::with_seed(given.seed);
        let usage = own_thread_time();
        Self {
            engine,
            clients,
            places,
            by_slot: Vec::new(),
            timers: BinaryHeap::new(),
            counts: Counts::new(stages, std::thread::current().name().unwrap_or("worker")),
            correctness: Correctness::default(),
            endpoints: given.endpoints.iter().cloned().map(Rc::new).collect(),
            home: given.home.clone().map(Rc::new),
            arriving: HashMap::new(),
            lost: HashMap::new(),
            redials: 0,
            heard: Vec::new(),
            storms_left: 0,
            is_storm_due: false,
            runs: Vec::new(),
            scratch: None,
            payload: Vec::new(),
            random,
            fresh: Vec::new(),
            touched: Vec::new(),
            away: Vec::new(),
            next_dial: 0,
            next_source: 0,
            dialling: 0,
            is_draining: false,
            pace: None,
            resolved,
            detours: HashMap::new(),
            now: 0,
            next_report: 0,
            next_check: 0,
            turns: 0,
            closed_up_to: 0,
            load_began: None,
            load_spent: None,
            loaded: None,
            last_usage: (Instant::now(), usage.ran),
            phase: Phase::Connecting,
            phase_ends: None,
            is_audited: false,
            given,
        }
    }

    /// Runs from the first dial to the last close.
    pub(crate) async fn run(mut self) -> Result<Outcome> {
        if matches!(self.given.scenario.kind, Kind::Connect) {
            self.away.extend((0..self.clients.len() as u32).rev());
            self.next_dial = self.clients.len();
        }
        self.now = self.clock();
        while self.phase != Phase::Done {
            let deadline = self.given.base + Duration::from_nanos(self.deadline());
            self.engine.wait(Some(deadline)).await;
            self.turn()?;
        }
        Ok(self.outcome())
    }

    /// Nanoseconds since the run began.
    pub(crate) fn clock(&self) -> u64 {
        u64::try_from(self.given.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    fn turn(&mut self) -> Result<()> {
        self.now = self.clock();
        let began = self.now;
        self.turns += 1;
        self.counts.roll(self.now);
        self.engine.poll();
        while let Some(event) = self.engine.next_event() {
            self.event(event)?;
        }
        self.follow_orders();
        self.fire_timers()?;
        self.dial_some()?;
        self.send_planned();
        self.refill_touched();
        self.close_some();
        self.engine.flush();
        self.note_connected();
        if self.now >= self.next_check {
            self.next_check = self.now + CHECK_EVERY;
            self.check_phase()?;
        }
        if self.phase == Phase::Load {
            let took = self.clock() - began;
            self.counts.now().loop_lag.record(took);
            self.counts.detail.loop_lag.record(took);
        }
        if self.now >= self.next_report || self.phase == Phase::Done {
            self.cut_silent();
            self.report();
        }
        Ok(())
    }

    /// When the next turn is due if nothing happens.
    fn deadline(&self) -> u64 {
        if self.phase == Phase::Closing && self.closed_up_to < self.clients.len() {
            return self.now;
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let send = self.next_planned();
        let dial = self.next_dial_due();
        let start = self.given.desk.start.load(Ordering::Acquire);
        let start = (self.phase == Phase::Joined && start != 0).then_some(start);
        [timer, send, dial, start]
            .into_iter()
            .flatten()
            .fold(self.next_report.min(self.next_check.max(self.now + CHECK_EVERY)), u64::min)
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Data { slot, buf } => self.data(slot, buf)?,
            Event::Ended { slot, cause } => {
                if let Some(client) = self.client_of(slot) {
                    self.ended(client, &cause_name(cause));
                }
            }
            Event::Drained { slot } => {
                if let Some(client) = self.client_of(slot) {
                    self.connected(client);
                }
            }
            Event::Overflow { slot } => {
                if let Some(client) = self.client_of(slot) {
                    self.cut(client, "the server does not read");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, slot: Slot, mut buf: ReadBuf) -> Result<()> {
        let Some(client) = self.client_of(slot) else { return Ok(()) };
        // Fresh for each read: what waited behind other reads waited in the generator, which must show.
        self.now = self.clock();
        let bytes = buf.len();
        self.counts.now().bytes_in += bytes as u64;
        self.heard_of(client);
        self.received(client, &mut buf)?;
        drop(buf);
        self.read_slowly(client, slot, bytes);
        Ok(())
    }

    pub(crate) fn client_of(&self, slot: Slot) -> Option<u32> {
        self.by_slot.get(slot.index()).copied().filter(|client| *client != NOBODY)
    }

    pub(crate) fn forget_slot(&mut self, slot: Slot) {
        if let Some(place) = self.by_slot.get_mut(slot.index()) {
            *place = NOBODY;
        }
    }

    pub(crate) fn remember_slot(&mut self, slot: Slot, client: u32) {
        if self.by_slot.len() <= slot.index() {
            self.by_slot.resize(slot.index() + 1, NOBODY);
        }
        self.by_slot[slot.index()] = client;
    }

    fn fire_timers(&mut self) -> Result<()> {
        while let Some(&Reverse((at, timer))) = self.timers.peek() {
            if at > self.now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Redial(client) => {
                    self.redials -= 1;
                    if matches!(self.clients[client as usize].stage, Stage::Waiting) {
                        self.dial(client)?;
                    }
                }
                Timer::Timeout(client, dialled) => self.time_out(client, dialled),
                Timer::Leave(client) => self.leave(client),
                Timer::Resume(client) => {
                    if let Some(slot) = self.clients[client as usize].slot {
                        self.engine.resume_read(slot);
                    }
                }
                Timer::Announce(client) => self.announce(client),
                Timer::Storm => self.storm(),
            }
        }
        Ok(())
    }

    /// What the main thread wants.
    fn follow_orders(&mut self) {
        let desk = Arc::clone(&self.given.desk);
        if self.phase == Phase::Joined {
            let start = desk.start.load(Ordering::Acquire);
            if start != 0 && self.now >= start {
                self.begin_load(start);
            }
        }
        if desk.stop.load(Ordering::Acquire) && self.phase <= Phase::Load {
            self.end_load();
        }
    }

    fn begin_load(&mut self, start: u64) {
        self.phase = Phase::Load;
        self.load_began = Some((Instant::now(), own_thread_time()));
        self.pace = Some(Pace::new(&self.given, &self.places, start));
        self.begin_behaviour(start);
        self.start_closed();
    }

    fn end_load(&mut self) {
        if let Some((wall, before)) = self.load_began {
            let time = own_thread_time();
            let spent = ThreadTime { ran: time.ran - before.ran, waited: time.waited - before.waited };
            self.load_spent = Some((wall.elapsed(), spent));
        }
        self.loaded = self.pace.as_ref().map(|pace| self.now.saturating_sub(pace.start));
        self.phase = Phase::Draining;
        self.is_draining = true;
        self.final_edits();
        self.resume_slow_readers();
        self.phase_ends = Some(self.now + self.given.scenario.drain.as_nanos() as u64);
    }

    /// Goes on to the next phase where this one is over.
    fn check_phase(&mut self) -> Result<()> {
        if self.phase == Phase::Load && self.is_load_over() {
            self.end_load();
        }
        match self.phase {
            Phase::Connecting if self.has_joined() => {
                self.phase = Phase::Joined;
                self.given.reporter.send(Report::Joined(self.standing()));
            }
            Phase::Draining => {
                let is_settled = self.places.iter().all(|place| place.ledger.is_settled())
                    && self.dialling == 0
                    && self.redials == 0
                    && (self.lost.is_empty() || !self.given.scenario.clients.redial);
                let is_over = self.phase_ends.is_some_and(|at| self.now >= at);
                if is_settled && !self.is_audited {
                    self.is_audited = true;
                    self.audit()?;
                } else if is_settled || is_over {
                    self.finish();
                }
            }
            Phase::Closing => {
                let is_over = self.phase_ends.is_some_and(|at| self.now >= at);
                if self.closed_up_to == self.clients.len() && (self.counts.open == 0 || is_over) {
                    self.phase = Phase::Done;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A fresh client joins some of the documents, to see that what the server keeps is what was sent.
    fn audit(&mut self) -> Result<()> {
        let audited: Vec<u32> = (0..self.places.len() as u32)
            .filter(|at| {
                let place = &self.places[*at as usize];
                place.plan.history == History::Whole && place.ledger.sent() > 0
            })
            .take(AUDITS_MAX)
            .collect();
        for group in audited {
            let client = self.clients.len() as u32;
            let member = self.places[group as usize].plan.members;
            self.clients.push(Client::new(group, member));
            self.dial(client)?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        for place in &self.places {
            place.ledger.finish(&place.name, &mut self.correctness);
        }
        self.counts.connections.absent = self.absent();
        self.counts.enter(None);
        self.phase = Phase::Closing;
        let closing = self.clients.len() as u64 * 100_000;
        self.phase_ends = Some(self.now + CLOSING_MAX + closing);
        self.timers.clear();
    }

    fn close_some(&mut self) {
        if self.phase != Phase::Closing {
            return;
        }
        let end = (self.closed_up_to + CLOSES_PER_TURN).min(self.clients.len());
        for client in self.closed_up_to..end {
            self.say_goodbye(client as u32);
        }
        self.closed_up_to = end;
    }

    fn report(&mut self) {
        self.next_report = self.now + REPORT_EVERY;
        let (wall, ran) = (Instant::now(), own_thread_time().ran);
        let busy =
            (ran - self.last_usage.1).as_secs_f64() / (wall - self.last_usage.0).as_secs_f64().max(1e-9);
        self.last_usage = (wall, ran);
        self.counts.busy(busy.min(1.0));
        let standing = self.standing();
        self.given.reporter.send(Report::Seconds { finished: self.counts.take_finished(), standing });
    }

    fn standing(&self) -> Standing {
        Standing {
            phase: self.phase,
            open: self.counts.open,
            faults: Faults::from(&self.correctness),
            rate: self.rate_now(),
        }
    }

    fn outcome(mut self) -> Outcome {
        self.counts.roll(self.now + 1_000_000_000);
        let (wall, spent) = self.load_spent.unwrap_or_default();
        let thread = GeneratorThread {
            name: std::thread::current().name().unwrap_or("worker").to_owned(),
            busy: (spent.ran.as_secs_f64() / wall.as_secs_f64().max(1e-9)).min(1.0),
            starved_seconds: spent.waited.as_secs_f64(),
            turns: self.turns,
            driver: format!("{:?}", self.engine.driver()).to_lowercase(),
        };
        let finished = self.counts.take_finished();
        Outcome { counts: self.counts, correctness: self.correctness, thread, loaded: self.loaded, finished }
    }

    pub(crate) fn time(&mut self, measure: Measure, nanoseconds: u64) {
        self.counts.time(measure, nanoseconds);
    }
}

fn cause_name(cause: Cause) -> String {
    match cause {
        Cause::Eof => "ended without a close frame".into(),
        Cause::Reset => "reset".into(),
        Cause::TimedOut => "timed out".into(),
        // What the engine calls bytes that TLS refused.
        Cause::Io(ErrorKind::InvalidData) => "TLS refused: is this a wss:// port, and --ca right?".into(),
        Cause::Io(kind) => kind.to_string(),
    }
}
