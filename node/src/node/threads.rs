//! The data threads of a node: how they are started, and what each takes with it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pinwire_engine::{Engine, allowed_cores, pin_to_core};
use pinwire_protocol::ws;
use pinwire_shard::{Settings, Shard, ticks};

use super::{OtherThreads, StartError, millis, random_bytes, random_u64};
use crate::cluster::{Claimed, PinsWay, SessionWay, SharedStore, Trays};
use crate::config::{Config, Driver};
use crate::control::HttpDoor;
use crate::data::{Authority, DataThread, Listening, Mailbox, Parts, Rules, Shared, Worker};
use crate::peer::Relay;
use crate::store::{FileStore, MemoryStore, SessionStore, Way};
use crate::traces::Recorder;

/// Microseconds between two fan-outs of a busy document, for each member: twice what a send takes.
const GATHER_US_PER_MEMBER: u32 = 8;

/// From a data thread to the others.
#[derive(Clone)]
pub(super) struct Ways {
    pub(super) http: HttpDoor,
    /// To the store on disk, if there is one.
    pub(super) store: Option<Way>,
    pub(super) pins: PinsWay,
    pub(super) trays: Trays,
    /// Whose documents another node's clients may have, too.
    pub(super) relay: Option<Relay>,
    /// Whether this node's clients are carried to other regions.
    pub(super) relays: bool,
    pub(super) others: OtherThreads,
    pub(super) placement_seed: u64,
    /// To the sessions in the region's Redis, if they are there.
    pub(super) session: Option<SessionWay>,
}

/// The ways to the data threads, and the threads.
pub(super) type DataPlane = (Arc<[Mailbox]>, Vec<JoinHandle<()>>);

pub(super) fn start_data_threads(
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
