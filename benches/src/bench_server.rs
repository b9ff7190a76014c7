//! The node's engine and protocol code without documents and tokens, to be measured and tested beside other servers.
//!
//! `/echo` sends every message back as it came. `/t/NNNN` subscribes to a topic. On `/p` each message goes, as it came,
//! to all subscribers of the topic that its first four bytes name in ASCII digits, on every thread.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_queue::ArrayQueue;
use pinwire_engine::{Config, Driver, DriverInUse, Engine, Event, ReadBuf, Segment, Slot, Waker};
use pinwire_node::cli::DriverArg;
use pinwire_protocol::ws::{
    self, Decoder, Frame, Kind, Limits, Opcode, Role, Scratch, WindowBits, handshake,
};

/// Topics are four digits.
const TOPICS: usize = 10_000;
/// Messages that may wait in one thread's mailbox. When it is full, publishers are not read until there is room.
const MAILBOX: usize = 16 * 1024;
/// How soon a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// How long a peer may take to close its side after the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of answers to one read that are put together before they are queued.
const ANSWERS: usize = 256 << 10;
/// Smaller messages are sent uncompressed.
const DEFLATE_FROM: usize = 256;

/// What a bench server is made of.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where to listen; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Data threads; as many as processors if not given
    #[arg(long)]
    pub threads: Option<usize>,
    /// How to do I/O
    #[arg(long, value_enum, default_value_t = DriverArg::Auto)]
    pub driver: DriverArg,
    /// Largest message in bytes
    #[arg(long, default_value_t = 64 << 20)]
    pub max_message: usize,
    /// End when the last client is gone
    #[arg(long)]
    pub when_idle: bool,
}

/// Serves for ever, or until the last client is gone; `ready` is told the address once connections are accepted.
///
/// # Errors
/// A thread cannot start, or fails.
pub fn serve(args: &Args, ready: impl Fn(SocketAddr) -> Result<()> + Send + Sync + 'static) -> Result<()> {
    let cores = pinwire_engine::allowed_cores()?;
    let threads = args.threads.unwrap_or(cores.len()).max(1);
    let limits = Limits {
        max_frame: args.max_message as u64,
        max_message: args.max_message,
        // Autobahn sends 4 MiB in fragments of 64 bytes.
        max_fragments: 1 << 20,
    };
    let first = pinwire_engine::listener(args.listen)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(pinwire_engine::listener(addr)?);
    }
    let mailboxes: Arc<[Mailbox]> = (0..threads).map(|_| Mailbox::new()).collect();
    let (ready, to_start) = (Arc::new(ready), Arc::new(AtomicUsize::new(threads)));
    let mut handles = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let mailboxes = Arc::clone(&mailboxes);
        let (ready, to_start) = (Arc::clone(&ready), Arc::clone(&to_start));
        // More threads than processors: the system places them.
        let core = (threads <= cores.len()).then(|| cores[number]);
        let config = Config { driver: driver(args.driver), ..Config::default() };
        let when_idle = args.when_idle;
        let thread = std::thread::Builder::new().name(format!("data-{number}"));
        handles.push(thread.spawn(move || -> Result<()> {
            if let Some(core) = core {
                pinwire_engine::pin_to_core(core)?;
            }
            pinwire_engine::run(config, async move |mut engine: Engine| -> Result<()> {
                engine.listen(listener)?;
                mailboxes[number].set_waker(engine.waker());
                if let (DriverInUse::Epoll, Some(reason)) = (engine.driver(), engine.fallback_reason()) {
                    eprintln!("thread {number}: io_uring is not used: {reason}");
                }
                if to_start.fetch_sub(1, Ordering::AcqRel) == 1 {
                    ready(addr)?;
                }
                DataThread::new(number, mailboxes, limits).serve(engine, when_idle).await;
                Ok(())
            })?
        })?);
    }
    for handle in handles {
        handle.join().map_err(|_| anyhow::anyhow!("a data thread panicked"))??;
    }
    Ok(())
}

fn driver(arg: DriverArg) -> Driver {
    match arg {
        DriverArg::Auto => Driver::Auto,
        DriverArg::Uring => Driver::Uring,
        DriverArg::Epoll => Driver::Epoll,
    }
}

/// A published message on its way to another thread's subscribers.
struct Publication {
    topic: u16,
    frame: Arc<[u8]>,
}

/// What other threads leave for one thread.
struct Mailbox {
    queue: ArrayQueue<Publication>,
    waker: std::sync::OnceLock<Waker>,
    /// Subscribers of each topic on that thread.
    subscribers: Box<[AtomicU32]>,
}

impl Mailbox {
    fn new() -> Mailbox {
        Mailbox {
            queue: ArrayQueue::new(MAILBOX),
            waker: std::sync::OnceLock::new(),
            subscribers: (0..TOPICS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.get_or_init(|| waker);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Echo,
    Publish,
    Topic(u16),
}

impl Path {
    fn parse(target: &str) -> Option<Path> {
        match target.split('?').next()? {
            "/" | "/echo" => Some(Path::Echo),
            "/p" => Some(Path::Publish),
            // Document clients put their document's name behind it.
            path if path.starts_with("/echo/") => Some(Path::Echo),
            path => path.strip_prefix("/t/").and_then(|name| topic(name.as_bytes())).map(Path::Topic),
        }
    }
}

/// Four ASCII digits, and nothing else.
fn topic(name: &[u8]) -> Option<u16> {
    let digits = name.iter().all(u8::is_ascii_digit) && name.len() == 4;
    digits.then(|| name.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

enum Conn {
    None,
    Head(Vec<u8>),
    Open(Open),
    /// The close frame is sent; what still comes is dropped. The number tells it from a later one in the same slot.
    Closing(u64),
}

struct Open {
    decoder: Decoder,
    /// Compression was negotiated, with this window.
    window: Option<WindowBits>,
    path: Path,
}

struct DataThread {
    limits: Limits,
    conns: Vec<Conn>,
    inbound: Scratch,
    outbound: Scratch,
    hub: Hub,
    closing: VecDeque<(Instant, Slot, u64)>,
    closed: u64,
    /// Somebody has come.
    was_used: bool,
}

impl DataThread {
    fn new(number: usize, mailboxes: Arc<[Mailbox]>, limits: Limits) -> DataThread {
        DataThread {
            limits,
            conns: Vec::new(),
            inbound: Scratch::new(),
            outbound: Scratch::new(),
            hub: Hub::new(number, mailboxes),
            closing: VecDeque::new(),
            closed: 0,
            was_used: false,
        }
    }

    async fn serve(mut self, mut engine: Engine, when_idle: bool) {
        while !(when_idle && self.was_used && engine.connections() == 0) {
            let retry = self.hub.is_holding().then(|| Instant::now() + RETRY);
            let deadline = self.closing.front().map(|(at, ..)| *at);
            engine.wait([retry, deadline].into_iter().flatten().min()).await;
            self.hub.deliver_mail(&mut engine);
            engine.poll();
            while let Some(event) = engine.next_event() {
                self.handle(&mut engine, event);
            }
            self.hub.pass_on(&mut engine);
            for slot in std::mem::take(&mut self.hub.too_slow) {
                self.close(&mut engine, slot);
            }
            self.end_overdue(&mut engine);
            engine.flush();
        }
    }

    fn handle(&mut self, engine: &mut Engine, event: Event) {
        match event {
            Event::Accepted { slot, .. } => {
                self.was_used = true;
                if self.conns.len() <= slot.index() {
                    self.conns.resize_with(slot.index() + 1, || Conn::None);
                }
                self.conns[slot.index()] = Conn::Head(Vec::new());
            }
            Event::Data { slot, buf } => self.received(engine, slot, buf),
            Event::Ended { slot, .. } | Event::Overflow { slot } => self.close(engine, slot),
            Event::Pressure { of } => eprintln!("cannot accept: {of:?}"),
            Event::AcceptFailed { error } => eprintln!("accept failed: {error}"),
            _ => {}
        }
    }

    fn received(&mut self, engine: &mut Engine, slot: Slot, mut buf: ReadBuf) {
        match &mut self.conns[slot.index()] {
            Conn::Head(head) => {
                let mut head = std::mem::take(head);
                head.extend_from_slice(&buf);
                engine.recycle(buf);
                self.upgrade(engine, slot, head);
            }
            Conn::Open(_) => self.decode(engine, slot, &mut buf),
            Conn::None | Conn::Closing(_) => {}
        }
    }

    /// Answers the request once its head is whole; what follows the head are frames already.
    fn upgrade(&mut self, engine: &mut Engine, slot: Slot, mut head: Vec<u8>) {
        let start = engine.arena().len();
        let (head_len, open) = match handshake::parse_request(&head) {
            Ok(handshake::Parsed::Partial) => {
                self.conns[slot.index()] = Conn::Head(head);
                return;
            }
            Ok(handshake::Parsed::Complete { head_len, request }) => {
                (head_len, accept_upgrade(&request, engine.arena()))
            }
            Err(bad) => {
                bad.append_response(engine.arena());
                (0, None)
            }
        };
        let sent = queue(engine, slot, start);
        let Some(open) = open.filter(|_| sent) else { return self.finish(engine, slot) };
        if let Path::Topic(topic) = open.path {
            self.hub.subscribe(slot, topic);
        }
        self.conns[slot.index()] = Conn::Open(open);
        self.decode(engine, slot, &mut head[head_len..]);
    }

    fn decode(&mut self, engine: &mut Engine, slot: Slot, mut input: &mut [u8]) {
        let DataThread { conns, limits, inbound, outbound, hub, .. } = self;
        let Conn::Open(open) = &mut conns[slot.index()] else { return };
        let mut over = false;
        let mut start = engine.arena().len();
        while !input.is_empty() && !over {
            let decoded = match open.decoder.decode(input, limits, inbound) {
                Ok(decoded) => decoded,
                Err(error) => {
                    ws::append_close(engine.arena(), error.close_code() as u16, error.reason(), None);
                    over = true;
                    break;
                }
            };
            let consumed = decoded.consumed;
            match decoded.event {
                Some(ws::Event::Message { kind, payload }) => match open.path {
                    Path::Echo => append(engine.arena(), outbound, kind, payload, open.window),
                    Path::Publish => {
                        over |= !queue(engine, slot, start);
                        hub.publish(engine, slot, kind, payload);
                        start = engine.arena().len();
                    }
                    Path::Topic(_) => {}
                },
                Some(ws::Event::Ping(payload)) => ws::append_pong(engine.arena(), payload, None),
                Some(ws::Event::Close { code, .. }) => {
                    ws::append_close_reply(engine.arena(), code, None);
                    over = true;
                }
                Some(ws::Event::Pong(_)) | None => {}
            }
            input = &mut input[consumed..];
            if engine.arena().len() - start > ANSWERS {
                over |= !queue(engine, slot, start);
                start = engine.arena().len();
            }
        }
        // A connection that reads slower than it asks is cut off at the engine's bound.
        over |= !queue(engine, slot, start);
        if over {
            self.finish(engine, slot);
        }
    }

    /// The last bytes are queued: FIN behind them, and then the peer's.
    fn finish(&mut self, engine: &mut Engine, slot: Slot) {
        self.leave_topic(slot);
        self.closed += 1;
        self.conns[slot.index()] = Conn::Closing(self.closed);
        self.closing.push_back((Instant::now() + CLOSE_TIMEOUT, slot, self.closed));
        engine.shutdown_write(slot);
    }

    fn close(&mut self, engine: &mut Engine, slot: Slot) {
        self.leave_topic(slot);
        self.hub.forget_publisher(slot);
        self.conns[slot.index()] = Conn::None;
        engine.close(slot);
    }

    fn leave_topic(&mut self, slot: Slot) {
        if let Conn::Open(Open { path: Path::Topic(topic), .. }) = self.conns[slot.index()] {
            self.hub.unsubscribe(slot, topic);
        }
    }

    /// Closes what did not finish its close in time.
    fn end_overdue(&mut self, engine: &mut Engine) {
        while let Some(&(at, slot, number)) = self.closing.front() {
            let waits = matches!(self.conns[slot.index()], Conn::Closing(now) if now == number);
            if waits && at > Instant::now() {
                return;
            }
            if waits {
                self.close(engine, slot);
            }
            self.closing.pop_front();
        }
    }
}

/// Appends the answer to a request; `None`: it is a refusal.
fn accept_upgrade(request: &handshake::Request<'_>, out: &mut Vec<u8>) -> Option<Open> {
    let path = Path::parse(request.target);
    let (Some(path), Some(key), true) = (path, request.key, request.is_upgrade()) else {
        handshake::append_refusal(out, 404, None, r#"{"error":"not a WebSocket path of this server"}"#);
        return None;
    };
    let deflate = handshake::negotiate_deflate(&request.extensions);
    handshake::append_response(out, key, None, deflate);
    let decoder = Decoder::new(Role::Server, deflate.is_some());
    Some(Open { decoder, window: deflate.map(|params| params.window()), path })
}

/// Appends a message, compressed where that was negotiated and pays.
fn append(out: &mut Vec<u8>, scratch: &mut Scratch, kind: Kind, payload: &[u8], window: Option<WindowBits>) {
    if let Some(window) = window.filter(|_| payload.len() >= DEFLATE_FROM) {
        let mut compressed = Vec::with_capacity(payload.len() / 2);
        if scratch.deflate(payload, window, &mut compressed) {
            return ws::append_frame(out, Frame::new(Opcode::from(kind)).compressed(), &compressed);
        }
    }
    ws::append_message(out, kind, payload);
}

/// Queues what the arena holds from `start` on; false when the engine takes no more for the slot.
fn queue(engine: &mut Engine, slot: Slot, start: usize) -> bool {
    let end = engine.arena().len();
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) => engine.send(slot, Segment::Arena(start..end)).is_ok(),
        _ => false,
    }
}

/// Topics, on this thread and beyond.
struct Hub {
    number: usize,
    mailboxes: Arc<[Mailbox]>,
    topics: Vec<Vec<Slot>>,
    /// Where each subscriber stands in its topic's list.
    places: Vec<u32>,
    /// Publications that other threads have no room for, and the publishers that wait for it.
    held: VecDeque<(usize, Publication)>,
    waiting: Vec<Slot>,
    /// Threads that got mail this turn.
    mailed: Vec<bool>,
    /// Subscribers for whom the engine holds as much as it may: they are closed at the end of the turn.
    too_slow: Vec<Slot>,
}

impl Hub {
    fn new(number: usize, mailboxes: Arc<[Mailbox]>) -> Hub {
        Hub {
            number,
            topics: vec![Vec::new(); TOPICS],
            places: Vec::new(),
            held: VecDeque::new(),
            waiting: Vec::new(),
            mailed: vec![false; mailboxes.len()],
            too_slow: Vec::new(),
            mailboxes,
        }
    }

    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn subscribe(&mut self, slot: Slot, topic: u16) {
        let list = &mut self.topics[usize::from(topic)];
        if self.places.len() <= slot.index() {
            self.places.resize(slot.index() + 1, 0);
        }
        self.places[slot.index()] = list.len() as u32;
        list.push(slot);
        self.mailboxes[self.number].subscribers[usize::from(topic)].fetch_add(1, Ordering::Relaxed);
    }

    fn unsubscribe(&mut self, slot: Slot, topic: u16) {
        let list = &mut self.topics[usize::from(topic)];
        let place = self.places[slot.index()] as usize;
        list.swap_remove(place);
        if let Some(moved) = list.get(place) {
            self.places[moved.index()] = place as u32;
        }
        self.mailboxes[self.number].subscribers[usize::from(topic)].fetch_sub(1, Ordering::Relaxed);
    }

    fn publish(&mut self, engine: &mut Engine, from: Slot, kind: Kind, payload: &[u8]) {
        let Some(topic) = payload.get(..4).and_then(topic) else { return };
        let start = engine.arena().len();
        ws::append_message(engine.arena(), kind, payload);
        let mut frame = None;
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            let wanted = mailbox.subscribers[usize::from(topic)].load(Ordering::Relaxed) > 0;
            if number == self.number || !wanted {
                continue;
            }
            let frame = frame.get_or_insert_with(|| Arc::<[u8]>::from(&engine.arena()[start..]));
            self.held.push_back((number, Publication { topic, frame: Arc::clone(frame) }));
        }
        self.post();
        if !self.held.is_empty() {
            engine.pause_read(from);
            self.waiting.push(from);
        }
        self.fan_out(engine, topic, start);
    }

    /// Sends the frame at the arena's end to the thread's subscribers.
    fn fan_out(&mut self, engine: &mut Engine, topic: u16, start: usize) {
        for slot in &self.topics[usize::from(topic)] {
            if !queue(engine, *slot, start) {
                self.too_slow.push(*slot);
            }
        }
    }

    /// Puts what is held into the mailboxes, in order, as far as there is room.
    fn post(&mut self) {
        while let Some((number, publication)) = self.held.pop_front() {
            if let Err(publication) = self.mailboxes[number].queue.push(publication) {
                self.held.push_front((number, publication));
                return;
            }
            self.mailed[number] = true;
        }
    }

    /// Ends a turn: wakes who got mail, and reads from publishers again when nothing is held.
    fn pass_on(&mut self, engine: &mut Engine) {
        self.post();
        for (number, mailed) in self.mailed.iter_mut().enumerate() {
            if std::mem::take(mailed) {
                self.mailboxes[number].wake();
            }
        }
        if self.held.is_empty() {
            for slot in self.waiting.drain(..) {
                engine.resume_read(slot);
            }
        }
    }

    fn forget_publisher(&mut self, slot: Slot) {
        self.waiting.retain(|waiting| *waiting != slot);
    }

    /// Sends what other threads published.
    fn deliver_mail(&mut self, engine: &mut Engine) {
        for _ in 0..MAILBOX {
            let Some(Publication { topic, frame }) = self.mailboxes[self.number].queue.pop() else { return };
            let start = engine.arena().len();
            engine.arena().extend_from_slice(&frame);
            self.fan_out(engine, topic, start);
        }
    }
}
