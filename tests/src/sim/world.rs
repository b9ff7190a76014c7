//! The world: virtual time, a queue of what happens next, and everyone in it.

use super::device::Device;
use super::model::{DocumentId, Model};
use super::plan::Plan;
use super::socket::{Socket, SocketId};
use fastrand::Rng;
use pinwire_protocol::close::Close;
use pinwire_protocol::document::name::NameRules;
use pinwire_protocol::ws::Limits;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{App, ConnRef, DocumentRef, Kept, Mail, Settings, Shard, Traveller, Verdict, ticks};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Unix time at the start of a run, in seconds.
const EPOCH: u64 = 1_700_000_000;
/// Where the clocks of every run begin: not at zero, which would hide what is measured from it.
const START_MS: u64 = 1_000_000;

/// Something that happens at a moment.
pub(super) enum Event {
    Turn(usize),
    Input(usize, Input),
    /// The store wrote what a shard submitted.
    Commit {
        thread: usize,
        document: DocumentRef,
        id: DocumentId,
        position: u32,
        updates: Vec<Vec<u8>>,
    },
    /// The store loaded a session.
    Loaded {
        thread: usize,
        document: DocumentRef,
        id: DocumentId,
        refused: bool,
    },
    ToServer(SocketId, Vec<u8>),
    Fin(SocketId),
    Reset(SocketId),
    ClientRead(SocketId),
    Connect(usize),
    DeviceTick(usize),
    DeviceDue(usize),
    Edit,
    Fault,
}

/// Something that happens to one thread's shard.
pub(super) enum Input {
    Open(SocketId),
    Readable(SocketId),
    Ended(SocketId),
    Drained(SocketId),
    Verdict(ConnRef, u64, Verdict),
    Opened(DocumentRef, Result<Kept, Close>),
    Stored(DocumentRef, u32),
    Compacted(DocumentRef, Compacted),
    Mail(usize, Mail),
    Depart(SocketId, usize),
    Arrive(SocketId, Box<Traveller>),
}

pub(super) struct Thread {
    pub(super) shard: Shard,
    pub(super) inbox: VecDeque<Input>,
    pub(super) turn_at: Option<u64>,
    /// Whose socket stands at each slot.
    pub(super) slots: Vec<Option<SocketId>>,
    /// Slots that are free again after the turn.
    pub(super) freed: Vec<u32>,
    /// Sockets to be handed over after the turn.
    pub(super) departing: Vec<(SocketId, usize)>,
    pub(super) turns: u64,
}

/// A device's place in the world.
pub(super) struct Seat {
    pub(super) device: Device,
    pub(super) socket: Option<SocketId>,
    pub(super) attempts: u32,
    /// It left for good.
    pub(super) is_gone: bool,
    pub(super) due_at: Option<u64>,
}

pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    pub(super) model: Model,
    pub(super) apps: Vec<Arc<App>>,
    pub(super) threads: Vec<Thread>,
    pub(super) sockets: Vec<Socket>,
    pub(super) seats: Vec<Seat>,
    /// What the shards called the documents that they opened: thread, index, serial.
    pub(super) opened_as: BTreeMap<(usize, u32, u32), DocumentId>,
    /// Documents with a commit under way, and when the last one ends.
    pub(super) committing: BTreeMap<DocumentId, u64>,
    pub(super) store_out_until: u64,
    /// When the last mail from one thread to another arrives.
    pub(super) mail_clock: BTreeMap<(usize, usize), u64>,
    pub(super) next_client: u64,
    /// Faults and edits go on.
    pub(super) is_busy: bool,
    /// Running hash of every byte any shard sent: two runs of a seed have the same.
    pub(super) digest: u64,
    /// Tell what happens.
    is_traced: bool,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(super) events: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::random(&mut rng);
        Self::with_plan(plan, rng)
    }

    pub(super) fn with_plan(plan: Plan, mut rng: Rng) -> Self {
        let placement_seed = rng.u64(..);
        let thread = |number: usize, rng: &mut Rng| Thread {
            shard: Shard::new(
                settings(number, &plan, placement_seed, rng.u64(..)),
                START_MS,
                EPOCH + START_MS / 1000,
            ),
            inbox: VecDeque::new(),
            turn_at: None,
            slots: Vec::new(),
            freed: Vec::new(),
            departing: Vec::new(),
            turns: 0,
        };
        let threads = (0..plan.threads).map(|number| thread(number, &mut rng)).collect();
        let apps = (0..plan.apps).map(|app| Arc::new(App::new("tenant", &format!("app-{app}")))).collect();
        Self {
            now_ms: START_MS,
            rng,
            plan,
            model: Model::default(),
            apps,
            threads,
            sockets: Vec::new(),
            seats: Vec::new(),
            opened_as: BTreeMap::new(),
            committing: BTreeMap::new(),
            store_out_until: 0,
            mail_clock: BTreeMap::new(),
            next_client: 100,
            is_busy: true,
            digest: 0,
            is_traced: std::env::var_os("PINWIRE_SIM_TRACE").is_some(),
            queue: BTreeMap::new(),
            sequence: 0,
            events: 0,
        }
    }

    pub(super) fn unix(&self) -> u64 {
        EPOCH + self.now_ms / 1000
    }

    pub(super) fn at(&mut self, when_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((when_ms.max(self.now_ms), self.sequence), event);
    }

    pub(super) fn after(&mut self, delay_ms: u64, event: Event) {
        self.at(self.now_ms + delay_ms, event);
    }

    /// Lets `duration_ms` pass, or less if something went wrong.
    pub(super) fn run_for(&mut self, duration_ms: u64) {
        let end = self.now_ms + duration_ms;
        while self.model.violations.is_empty() {
            match self.queue.first_key_value() {
                Some((&(at, _), _)) if at <= end => {}
                _ => break,
            }
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now_ms = at;
            self.model.now_ms = at;
            self.events += 1;
            self.happen(event);
        }
        self.now_ms = end;
        self.model.now_ms = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(thread) => self.turn(thread),
            Event::Input(thread, input) => self.input(thread, input),
            Event::Commit { thread, document, id, position, updates } => {
                self.model.store(&id, updates);
                self.input(thread, Input::Stored(document, position));
            }
            Event::Loaded { thread, document, id, refused } => {
                let answer = self.load(&id, refused);
                self.input(thread, Input::Opened(document, answer));
            }
            Event::ToServer(socket, bytes) => self.arrived(socket, &bytes),
            Event::Fin(socket) => self.fin_arrived(socket),
            Event::Reset(socket) => self.reset_arrived(socket),
            Event::ClientRead(socket) => self.client_reads(socket),
            Event::Connect(device) => self.connect(device),
            Event::DeviceTick(device) => self.device_tick(device),
            Event::DeviceDue(device) => self.device_due(device),
            Event::Edit => self.edit(),
            Event::Fault => self.fault(),
        }
    }

    /// Says what happens on a socket, if asked to.
    pub(super) fn trace(&self, socket: SocketId, what: &str, detail: &dyn std::fmt::Debug) {
        if self.is_traced {
            let seat = self.sockets[socket].device;
            let mut detail = format!("{detail:?}");
            detail.truncate(300);
            eprintln!("{} device {seat} socket {socket} {what} {detail}", self.now_ms);
        }
    }

    /// Queues an input for a thread's next turn.
    pub(super) fn input(&mut self, thread: usize, input: Input) {
        self.threads[thread].inbox.push_back(input);
        let delay = self.rng.u64(0..=1);
        self.wake(thread, self.now_ms + delay);
    }

    /// Makes sure that a thread has a turn at `when_ms` or before.
    pub(super) fn wake(&mut self, thread: usize, when_ms: u64) {
        let when_ms = when_ms.max(self.now_ms);
        if self.threads[thread].turn_at.is_none_or(|at| at > when_ms) {
            self.threads[thread].turn_at = Some(when_ms);
            self.at(when_ms, Event::Turn(thread));
        }
    }
}

fn settings(number: usize, plan: &Plan, placement_seed: u64, seed: u64) -> Settings {
    Settings {
        thread: number as u16,
        threads: plan.threads as u16,
        placement_seed,
        seed,
        ws: Limits::DEFAULT,
        names: NameRules::default(),
        first_frame: ticks(10_000),
        ping: ticks(PING_MS),
        pong: ticks(PONG_MS),
        idle_frame: ticks(20_000),
        slow_reader: ticks(SLOW_READER_MS),
        close: ticks(5_000),
        grace_ms: GRACE_MS,
        // Large, since turns are a millisecond apart.
        gather_us_per_member: 2_000,
        compress_min: 256,
        end_on_expiry: false,
        is_shared: false,
    }
}

/// Silence after which a peer is pinged, and how long it then has.
pub(super) const PING_MS: u64 = 25_000;
/// See [`PING_MS`].
pub(super) const PONG_MS: u64 = 20_000;
/// Time without a byte taken after which a reader is closed.
pub(super) const SLOW_READER_MS: u64 = 60_000;
/// How long a document outlives its last member.
pub(super) const GRACE_MS: u64 = 10_000;
/// Time for a first frame of somebody with a token.
pub(super) const SILENT_MS: u64 = 30_000;
