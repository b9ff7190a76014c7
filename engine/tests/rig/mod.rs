//! A data thread under test: an engine driven by a closure, reachable from the test by commands.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pinwire_engine::{
    Cause, Config, Driver, DriverInUse, Engine, Event, Pressure, Segment, Slot, Waker, run,
};

/// Longer than anything here takes; a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

type Command = Box<dyn FnOnce(&mut Engine) + Send>;

/// An engine on a thread of its own.
pub struct DataThread {
    pub addr: SocketAddr,
    pub waker: Waker,
    commands: Sender<Command>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What an engine under test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rig {
    Epoll,
    Uring,
    /// io_uring with many small rings, so that a test's connections lie in several.
    Rings,
}

pub fn config(rig: Rig) -> Config {
    let driver = if rig == Rig::Epoll { Driver::Epoll } else { Driver::Auto };
    let whole = Config { driver, slots_max: 4_096, ..Config::default() };
    match rig {
        Rig::Rings => Config { rings: 32, ring_slots_max: 128, ..whole },
        Rig::Epoll | Rig::Uring => whole,
    }
}

impl DataThread {
    /// Starts a thread that listens on loopback and hands every event to `handler`.
    pub fn start<H>(config: Config, mut handler: H) -> DataThread
    where
        H: FnMut(&mut Engine, Event) + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (commands, inbox) = channel::<Command>();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (started, waker) = channel();
        let wanted = config.driver;
        let thread = std::thread::spawn(move || {
            run(config, async move |mut engine: Engine| {
                // Where io_uring is not allowed the automatic choice is tested instead, and must say why.
                match (wanted, engine.driver()) {
                    (Driver::Epoll, used) => assert_eq!(used, DriverInUse::Epoll),
                    (_, DriverInUse::Epoll) => assert!(engine.fallback_reason().is_some()),
                    (_, DriverInUse::Uring) => assert!(engine.fallback_reason().is_none()),
                }
                engine.listen(listener).unwrap();
                started.send(engine.waker()).unwrap();
                while !stopped.load(Ordering::SeqCst) {
                    engine.wait(None).await;
                    while let Ok(command) = inbox.try_recv() {
                        command(&mut engine);
                    }
                    engine.poll();
                    while let Some(event) = engine.next_event() {
                        handler(&mut engine, event);
                    }
                    engine.flush();
                }
            })
            .unwrap();
        });
        let waker = waker.recv_timeout(PATIENCE).unwrap();
        DataThread { addr, waker, commands, stop, thread: Some(thread) }
    }

    /// A thread that forwards its events to the returned channel.
    pub fn observed(config: Config) -> (DataThread, Receiver<Seen>) {
        let (seen, events) = channel();
        let thread = DataThread::start(config, move |_, event| {
            // The test may have seen enough and be gone.
            let _ = seen.send(Seen::from(event));
        });
        (thread, events)
    }

    /// Runs `command` on the thread and returns what it returns.
    pub fn call<T: Send + 'static>(&self, command: impl FnOnce(&mut Engine) -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let command: Command = Box::new(move |engine| {
            answer.send(command(engine)).unwrap();
        });
        self.commands.send(command).unwrap();
        self.waker.wake();
        result.recv_timeout(PATIENCE).expect("the data thread answers")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// An event in a form that may cross threads.
#[derive(Debug)]
pub enum Seen {
    Accepted(Slot),
    Data(Slot, Vec<u8>),
    Ended(Slot, Cause),
    Drained(Slot),
    Departed(Slot, u64),
    MoveFailed(Slot, u64),
    Arrived(Slot, u64),
    Detached(Slot, OwnedFd),
    Pressure(Pressure),
    /// What no test awaits; shown when one comes.
    Failure(#[expect(dead_code, reason = "shown when a test fails")] String),
}

impl From<Event> for Seen {
    fn from(event: Event) -> Seen {
        match event {
            Event::Accepted { slot, .. } => Seen::Accepted(slot),
            Event::Data { slot, buf } => Seen::Data(slot, buf.to_vec()),
            Event::Ended { slot, cause } => Seen::Ended(slot, cause),
            Event::Drained { slot } => Seen::Drained(slot),
            Event::Departed { slot, token, .. } => Seen::Departed(slot, token),
            Event::MoveFailed { slot, token, .. } => Seen::MoveFailed(slot, token),
            Event::Arrived { slot, token } => Seen::Arrived(slot, token),
            Event::Detached { slot, fd, .. } => Seen::Detached(slot, fd),
            Event::Pressure { of } => Seen::Pressure(of),
            other => Seen::Failure(format!("{other:?}")),
        }
    }
}

/// The next event.
pub fn next(events: &Receiver<Seen>) -> Seen {
    events.recv_timeout(PATIENCE).expect("an event comes")
}

/// The next event, which has to be a connection.
pub fn accepted(events: &Receiver<Seen>) -> Slot {
    match next(events) {
        Seen::Accepted(slot) => slot,
        other => panic!("expected a connection, got {other:?}"),
    }
}

/// Data of the slot until `len` bytes have come.
pub fn received(events: &Receiver<Seen>, from: Slot, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        match next(events) {
            Seen::Data(slot, bytes) if slot == from => all.extend(bytes),
            other => panic!("expected data of {from:?}, got {other:?}"),
        }
    }
    all
}

/// Echoes, and closes when the peer has finished.
pub fn echo(engine: &mut Engine, event: Event) {
    match event {
        Event::Data { slot, buf } => {
            queue(engine, slot, &buf);
            engine.recycle(buf);
        }
        Event::Ended { slot, .. } => engine.close(slot),
        _ => {}
    }
}

/// Queues `bytes` through the arena.
pub fn queue(engine: &mut Engine, slot: Slot, bytes: &[u8]) {
    let arena = engine.arena();
    let start = u32::try_from(arena.len()).unwrap();
    arena.extend_from_slice(bytes);
    let end = u32::try_from(arena.len()).unwrap();
    engine.send(slot, Segment::Arena(start..end)).unwrap();
}

/// Bytes that reveal loss, doubling and reordering: every position has its own value.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len.div_ceil(4)).flat_map(|n| (n as u32).wrapping_mul(0x9E37_79B1).to_le_bytes()).take(len).collect()
}
