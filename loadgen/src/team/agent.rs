//! An agent: runs its share of whatever a coordinator asks for, one coordinator at a time.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::preflight;
use crate::run::{Conductor, Second, Status, Watch, run};
use crate::team::greeting::{self, Welcome};
use crate::team::wire::{FromAgent, MESSAGE_MAX, Outlet, SILENCE_MAX, Stream, Task, ToAgent, read};

/// Connections that have not shown yet that they know the token, at one time: more are closed.
const STRANGERS_MAX: usize = 16;
/// Their time to do so.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// A token that is worth the name.
const TOKEN_MIN: usize = 16;

/// Serves coordinators until the process ends, dialling from `sources` if there are any. `announce` is told the address once it listens.
///
/// # Errors
/// It cannot listen, or would be open to everybody.
pub fn serve(
    listen: SocketAddr,
    token: Option<&str>,
    sources: Vec<String>,
    announce: impl FnOnce(SocketAddr),
) -> Result<()> {
    if !listen.ip().is_loopback() {
        let token = token.unwrap_or_default();
        ensure!(
            token.len() >= TOKEN_MIN,
            "an agent on {} can be reached from other hosts, and whoever reaches it can send load from here: give a \
             token of at least {TOKEN_MIN} characters with --agent-token or PINWIRE_AGENT_TOKEN",
            listen.ip()
        );
    }
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    announce(listener.local_addr()?);
    let door = Arc::new(Door {
        token: token.unwrap_or_default().to_owned(),
        welcome: welcome(),
        sources,
        guest: Mutex::new(None),
        strangers: AtomicUsize::new(0),
    });
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error).context("the agent can take no more connections"),
        };
        let Some(stranger) = Stranger::count(&door) else { continue };
        let door = Arc::clone(&door);
        std::thread::Builder::new().name("session".into()).spawn(move || {
            let peer = stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |peer| peer.to_string());
            if let Err(error) = meet(Stream::Tcp(stream), &door, &peer, stranger) {
                eprintln!("{peer}: {error:#}");
            }
        })?;
    }
    Ok(())
}

/// Serves the process that started this one, over the socket that is this one's stdin.
///
/// # Errors
/// There is no such socket, or the other side is gone.
pub fn serve_parent() -> Result<()> {
    crate::signals::leave_to_parent()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stream = Stream::Pair(socket);
    stream.set_patience(Some(SILENCE_MAX)).context("an inherited agent is started by --processes alone")?;
    greeting::receive(&mut stream, "", &welcome(), || Ok(()))?;
    session(stream, &[])
}

fn welcome() -> Welcome {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    Welcome { host: boot.trim().to_owned(), cores }
}

/// Who may come in.
struct Door {
    token: String,
    welcome: Welcome,
    /// Addresses of this host to dial from.
    sources: Vec<String>,
    /// The coordinator that is being served.
    guest: Mutex<Option<String>>,
    strangers: AtomicUsize,
}

/// One of the connections that are not known yet.
struct Stranger(Arc<Door>);

impl Stranger {
    fn count(door: &Arc<Door>) -> Option<Self> {
        let stranger = Self(Arc::clone(door));
        (door.strangers.fetch_add(1, Ordering::AcqRel) < STRANGERS_MAX).then_some(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The one place of a coordinator.
struct Place(Arc<Door>);

impl Place {
    fn take(door: &Arc<Door>, peer: &str) -> Result<Self, String> {
        let mut guest = door.guest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*guest {
            Some(other) => Err(format!("busy: it serves the coordinator at {other}")),
            None => {
                *guest = Some(peer.to_owned());
                Ok(Self(Arc::clone(door)))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.guest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn meet(mut stream: Stream, door: &Arc<Door>, peer: &str, stranger: Stranger) -> Result<()> {
    stream.set_patience(Some(GREETING_MAX))?;
    let place = greeting::receive(&mut stream, &door.token, &door.welcome, || Place::take(door, peer))
        .context("refused")?;
    drop(stranger);
    stream.set_patience(Some(SILENCE_MAX))?;
    eprintln!("{peer}: coordinates");
    let ended = session(stream, &door.sources);
    // Whoever comes next finds the place free once the load is over.
    drop(place);
    eprintln!("{peer}: left");
    ended
}

/// One coordinator, run after run, until it leaves.
fn session(mut stream: Stream, sources: &[String]) -> Result<()> {
    let outlet = Arc::new(Outlet::new(stream.try_clone()?));
    let epoch = Instant::now();
    let mut task: Option<Task> = None;
    let mut running: Option<Running> = None;
    let ended = loop {
        let message = match read(&mut stream, MESSAGE_MAX) {
            Ok(message) => message,
            Err(error) => break error,
        };
        let done = match message {
            ToAgent::Ping { number } => {
                let at = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
                outlet.send(&FromAgent::Pong { number, at })
            }
            ToAgent::Task(mut given) => {
                if let Some(before) = running.take() {
                    before.end();
                }
                if !sources.is_empty() {
                    given.scenario.generator.sources = sources.to_vec();
                }
                let findings = preflight::prepare(&mut given.scenario, given.seat, given.on_host);
                task = Some(*given);
                outlet.send(&FromAgent::Ready { obstacles: findings.obstacles, arranged: findings.arranged })
            }
            ToAgent::Begin { at } => match task.take() {
                Some(task) => {
                    running = Some(Running::start(task, epoch, at, &outlet)?);
                    Ok(())
                }
                None => outlet.send(&FromAgent::Failed { reason: "it was given no task".into() }),
            },
            ToAgent::PassHalf => {
                give(running.as_ref(), |orders| orders.passes_half.store(true, Ordering::Release))
            }
            ToAgent::Start { at } => give(running.as_ref(), |orders| {
                let at = moment(epoch, at);
                *orders.start.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            }),
            ToAgent::Stop => give(running.as_ref(), |orders| orders.stop.store(true, Ordering::Release)),
            ToAgent::Hello(_) | ToAgent::Proof { .. } => Ok(()),
        };
        if let Err(error) = done {
            break error;
        }
    };
    if let Some(running) = running.take() {
        // Nobody waits for what it measures; the load must not go on.
        let was_running = !running.thread.is_finished();
        running.end();
        if was_running {
            bail!("the coordinator was lost during a run: {ended}; the load was stopped");
        }
    }
    Ok(())
}

fn moment(epoch: Instant, at: u64) -> Instant {
    epoch.checked_add(Duration::from_nanos(at)).unwrap_or(epoch)
}

fn give(running: Option<&Running>, order: impl FnOnce(&Orders)) -> io::Result<()> {
    if let Some(running) = running {
        order(&running.orders);
    }
    Ok(())
}

/// What the coordinator wants of a run: a state, looked at by the run's main thread.
#[derive(Default)]
struct Orders {
    passes_half: AtomicBool,
    start: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

struct Running {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(task: Task, epoch: Instant, base: u64, outlet: &Arc<Outlet>) -> Result<Self> {
        let orders = Arc::new(Orders::default());
        let seat = task.seat;
        let link = Link {
            base: moment(epoch, base),
            waits_at_half: task.waits_at_half,
            orders: Arc::clone(&orders),
            outlet: Arc::clone(outlet),
            has_joined: AtomicBool::new(false),
            is_at_half: AtomicBool::new(false),
        };
        let thread = std::thread::Builder::new().name("run".into()).spawn(move || {
            let answer = match run(&task.scenario, seat, &link, &link) {
                Ok(mut results) => {
                    // The coordinator has had them one by one.
                    results.intervals.clear();
                    FromAgent::Done(Box::new(results))
                }
                Err(error) => FromAgent::Failed { reason: format!("{error:#}") },
            };
            link.send(&answer);
        })?;
        Ok(Self { orders, thread })
    }

    fn end(self) {
        self.orders.stop.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}

/// A run's way to the coordinator.
struct Link {
    base: Instant,
    waits_at_half: bool,
    orders: Arc<Orders>,
    outlet: Arc<Outlet>,
    has_joined: AtomicBool,
    is_at_half: AtomicBool,
}

impl Link {
    fn send(&self, message: &FromAgent) {
        if self.outlet.send(message).is_err() {
            // The session's reading ends too.
            self.orders.stop.store(true, Ordering::Release);
            self.outlet.shutdown();
        }
    }
}

impl Conductor for Link {
    fn base(&self) -> Instant {
        self.base
    }

    fn waits_at_half(&self) -> bool {
        self.waits_at_half
    }

    fn may_pass_half(&self, open: u64) -> bool {
        if !self.is_at_half.swap(true, Ordering::AcqRel) {
            self.send(&FromAgent::AtHalf { open });
        }
        self.orders.passes_half.load(Ordering::Acquire) || self.orders.stop.load(Ordering::Acquire)
    }

    fn start(&self) -> Result<Option<Instant>> {
        if !self.has_joined.swap(true, Ordering::AcqRel) {
            self.send(&FromAgent::Joined);
        }
        Ok(*self.orders.start.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watch for Link {
    fn status(&self, status: &Status) {
        self.send(&FromAgent::Status(*status));
    }

    fn second(&self, second: &Second) {
        self.send(&FromAgent::Second(Box::new(second.clone())));
    }

    fn is_stopped(&self) -> bool {
        self.orders.stop.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("welcome", &self.welcome).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_others_can_reach_needs_a_token() {
        let open =
            serve("0.0.0.0:0".parse().unwrap(), None, Vec::new(), |_| panic!("it listens")).unwrap_err();
        assert!(open.to_string().contains("--agent-token"), "{open}");
        assert!(
            serve("0.0.0.0:0".parse().unwrap(), Some("short"), Vec::new(), |_| panic!("it listens")).is_err()
        );
    }

    #[test]
    fn there_is_one_place_and_it_is_free_again() {
        let door = Arc::new(Door {
            token: String::new(),
            welcome: welcome(),
            sources: Vec::new(),
            guest: Mutex::new(None),
            strangers: AtomicUsize::new(0),
        });
        let first = Place::take(&door, "a").unwrap();
        assert!(Place::take(&door, "b").err().unwrap().contains("busy: it serves the coordinator at a"));
        drop(first);
        assert!(Place::take(&door, "b").is_ok());
        let strangers: Vec<_> = (0..STRANGERS_MAX).map(|_| Stranger::count(&door).unwrap()).collect();
        assert!(Stranger::count(&door).is_none());
        drop(strangers);
        assert!(Stranger::count(&door).is_some());
    }
}
