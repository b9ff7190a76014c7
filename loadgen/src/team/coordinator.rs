//! The coordinator: shares a run out, keeps agents in step, shows what they tell, and merges what they found.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::environment::Environment;
use crate::merge::{self, Part};
use crate::preflight::Findings;
use crate::results::{Interval, Results};
use crate::run::server::ServerWatch;
use crate::run::tls::read_roots;
use crate::run::{Faults, Phase, Seat, Second, Status, Watch};
use crate::scenario::{Auth, Scenario, Trust};
use crate::team::clock::{Estimate, ROUNDS};
use crate::team::greeting;
use crate::team::wire::{FromAgent, MESSAGE_MAX, Outlet, SILENCE_MAX, SILENT, Stream, Task, ToAgent, read};

/// Messages of all agents that wait for the main thread: beyond them agents wait, their threads of load do not.
const EVENTS_MAX: usize = 256;
/// How long the main thread listens before it looks around.
const LISTEN: Duration = Duration::from_millis(50);
/// Watchers hear so often what stands.
const STATUS_EVERY: Duration = Duration::from_millis(240);
/// Agents hear so often that the coordinator is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// From the order to start to the start, beside the way to the agents: their main threads look ten times a second.
const START_LEAD: Duration = Duration::from_millis(300);
/// To reach an agent, and for its answer to a task.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads of all processes: clients have numbers of 24 bits within them.
const THREADS_MAX: u32 = 256;
/// Last lines of a process's stderr that are kept for its obituary.
const LAST_WORDS: usize = 3;

/// Every process of the run was lost: there is nothing to report.
#[derive(Debug)]
pub struct AgentsLost(String);

impl fmt::Display for AgentsLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no process of the run has results: {}", self.0)
    }
}

impl std::error::Error for AgentsLost {}

/// See the module's documentation.
pub struct Team {
    members: Vec<Member>,
    events: Receiver<(usize, Event)>,
    /// Our clock's zero.
    epoch: Instant,
}

struct Member {
    name: String,
    host: String,
    cores: u32,
    outlet: Outlet,
    child: Option<Local>,
    clock: Estimate,
    pings: BTreeMap<u32, Duration>,
    /// Why it is of no use any more.
    failure: Option<String>,
    run: Progress,
}

/// A process that was started for the run.
struct Local {
    process: Child,
    last_words: Arc<Mutex<Vec<String>>>,
}

/// Where a member is in a run.
#[derive(Default)]
struct Progress {
    findings: Option<Findings>,
    status: Status,
    at_half: Option<u64>,
    has_joined: bool,
    seconds_told: u32,
    results: Option<Box<Results>>,
}

enum Event {
    Said(Box<FromAgent>, Duration),
    Lost(String),
}

impl Team {
    /// Starts processes on this machine.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start(processes: u32) -> Result<Self> {
        ensure!(processes > 0, "--processes: at least 1");
        let program = std::env::current_exe().context("where this program is")?;
        let mut streams = Vec::new();
        for number in 1..=processes {
            let (ours, theirs) = UnixStream::pair()?;
            let mut process = Command::new(&program)
                .args(["agent", "--inherited"])
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("process {number} could not be started"))?;
            let last_words = Arc::new(Mutex::new(Vec::new()));
            if let Some(stderr) = process.stderr.take() {
                let kept = Arc::clone(&last_words);
                std::thread::Builder::new()
                    .name(format!("stderr {number}"))
                    .spawn(move || keep_last_words(stderr, &kept))?;
            }
            streams.push((
                format!("process {number}"),
                Stream::Pair(ours),
                Some(Local { process, last_words }),
            ));
        }
        Self::meet(streams, "")
    }

    /// Goes to agents that listen.
    ///
    /// # Errors
    /// One cannot be reached, is busy, of another version, or knows another token.
    pub fn connect(addresses: &[String], token: &str) -> Result<Self> {
        let mut streams = Vec::new();
        for address in addresses {
            let resolved = address
                .to_socket_addrs()
                .ok()
                .and_then(|mut all| all.next())
                .with_context(|| format!("agent {address} has no address: write it as host:port"))?;
            let stream = TcpStream::connect_timeout(&resolved, PATIENCE).with_context(|| {
                format!(
                    "agent {address} cannot be reached: run `pinwire-loadgen agent --listen {address}` there"
                )
            })?;
            streams.push((address.clone(), Stream::Tcp(stream), None));
        }
        Self::meet(streams, token)
    }

    fn meet(streams: Vec<(String, Stream, Option<Local>)>, token: &str) -> Result<Self> {
        let epoch = Instant::now();
        let (sender, events) = sync_channel(EVENTS_MAX);
        let mut team = Self { members: Vec::new(), events, epoch };
        for (number, (name, mut stream, child)) in streams.into_iter().enumerate() {
            stream.set_patience(Some(SILENCE_MAX))?;
            let welcome =
                greeting::greet(&mut stream, token).with_context(|| format!("agent {name} is of no use"))?;
            let outlet = Outlet::new(stream.try_clone()?);
            let sender = sender.clone();
            std::thread::Builder::new()
                .name(format!("from {name}"))
                .spawn(move || listen(number, stream, epoch, &sender))?;
            team.members.push(Member {
                name,
                host: welcome.host,
                cores: welcome.cores,
                outlet,
                child,
                clock: Estimate::default(),
                pings: BTreeMap::new(),
                failure: None,
                run: Progress::default(),
            });
        }
        Ok(team)
    }

    /// Runs a scenario. `note` is told what was arranged; obstacles are none with `is_forced`.
    ///
    /// # Errors
    /// A share cannot work, an agent was lost before the first dial, or all were lost.
    pub fn run(
        &mut self,
        scenario: &Scenario,
        is_forced: bool,
        watch: &dyn Watch,
        note: &dyn Fn(&str),
    ) -> Result<Results> {
        let mut scenario = scenario.clone();
        scenario.settle();
        let problems = scenario.problems();
        ensure!(problems.is_empty(), "the scenario cannot be run:\n  {}", problems.join("\n  "));
        self.settle_threads(&mut scenario)?;
        let mut run = Run {
            server: scenario.server.as_ref().map(|server| ServerWatch::new(server.pid)).transpose()?,
            seconds: BTreeMap::new(),
            emitted: Vec::new(),
            load_from: None,
            began: Instant::now(),
            is_stopped: false,
        };
        let environment = Environment::record();
        self.give_tasks(&scenario, run.server.is_some(), is_forced, note)?;
        self.measure_clocks(&mut run, watch);
        if let Some(member) = self.members.iter().find(|member| member.failure.is_some()) {
            bail!("{} was lost before the run: {}", member.name, member.failure.clone().unwrap_or_default());
        }
        run.began = Instant::now();
        let started = OffsetDateTime::now_utc();
        let ours = self.epoch.elapsed();
        self.say_each(|member| ToAgent::Begin { at: member.clock.theirs(ours) });
        self.conduct(&scenario, &mut run, watch);
        let mut results = self.merge(run)?;
        results.settings = serde_json::to_value(scenario.without_secrets())?;
        results.started_at = started.format(&Rfc3339)?;
        results.environment = Environment { server: results.environment.server.take(), ..environment };
        Ok(results)
    }

    /// Every process has the same number of threads, since all work out the same layout.
    fn settle_threads(&self, scenario: &mut Scenario) -> Result<()> {
        if scenario.generator.threads == 0 {
            let of_host = |host: &str| self.members.iter().filter(|other| other.host == host).count() as u32;
            let each = self.members.iter().map(|member| (member.cores / of_host(&member.host)).max(1));
            scenario.generator.threads = each.min().unwrap_or(1);
        }
        let threads = scenario.generator.threads.saturating_mul(self.members.len() as u32);
        ensure!(
            threads <= THREADS_MAX,
            "{threads} threads in all are more than the {THREADS_MAX} there may be"
        );
        Ok(())
    }

    fn give_tasks(
        &mut self,
        scenario: &Scenario,
        has_server: bool,
        is_forced: bool,
        note: &dyn Fn(&str),
    ) -> Result<()> {
        let mut scenario = scenario.clone();
        // The server is watched from here, and keys are read here.
        scenario.server = None;
        if let Auth::Key(file) = &mut scenario.target.auth {
            *file = std::fs::read_to_string(&*file).with_context(|| format!("the key file {file}"))?;
        }
        if let Trust::Roots(file) = &mut scenario.target.trust {
            *file = read_roots(file)?;
        }
        let hosts: Vec<String> = self.members.iter().map(|member| member.host.clone()).collect();
        let of = self.members.len() as u32;
        let mut index = 0;
        self.say_each(|member| {
            member.run = Progress::default();
            let on_host = Seat {
                index: hosts[..index].iter().filter(|host| **host == member.host).count() as u32,
                of: hosts.iter().filter(|host| **host == member.host).count() as u32,
            };
            let seat = Seat { index: index as u32, of };
            index += 1;
            ToAgent::Task(Box::new(Task {
                scenario: scenario.clone(),
                seat,
                on_host,
                waits_at_half: has_server,
            }))
        });
        let until = Instant::now() + PATIENCE;
        while self.members.iter().any(|member| member.run.findings.is_none() && member.failure.is_none()) {
            ensure!(Instant::now() < until, "an agent did not answer in {} s", PATIENCE.as_secs());
            self.listen(None, LISTEN);
        }
        let mut obstacles = Vec::new();
        for member in &self.members {
            if let Some(failure) = &member.failure {
                bail!("{} was lost before the run: {failure}", member.name);
            }
            let Some(findings) = &member.run.findings else { continue };
            findings.arranged.iter().for_each(|what| note(&format!("preflight: {}: {what}", member.name)));
            obstacles.extend(findings.obstacles.iter().map(|what| format!("{}: {what}", member.name)));
        }
        ensure!(
            obstacles.is_empty() || is_forced,
            "this cannot work (--force tries all the same):\n  {}",
            obstacles.join("\n  ")
        );
        Ok(())
    }

    /// Asks every agent for its clock, round by round.
    fn measure_clocks(&mut self, run: &mut Run, watch: &dyn Watch) {
        self.members.iter_mut().for_each(|member| member.clock = Estimate::default());
        for _ in 0..ROUNDS {
            self.ping();
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until
                && self.members.iter().any(|member| member.failure.is_none() && !member.pings.is_empty())
            {
                self.listen(Some((&mut *run, watch)), LISTEN);
            }
        }
    }

    fn ping(&mut self) {
        let now = self.epoch.elapsed();
        self.say_each(|member| {
            let number = member.pings.keys().next_back().map_or(0, |last| last + 1);
            if member.pings.len() >= ROUNDS as usize {
                member.pings.pop_first();
            }
            member.pings.insert(number, now);
            ToAgent::Ping { number }
        });
    }

    /// From the first dial to the last agent's results.
    fn conduct(&mut self, scenario: &Scenario, run: &mut Run, watch: &dyn Watch) {
        let (mut told, mut pinged) = (Instant::now(), Instant::now());
        let mut has_passed_half = false;
        while self.members.iter().any(|member| !member.is_done()) {
            self.listen(Some((&mut *run, watch)), LISTEN);
            let has_lost =
                self.members.iter().any(|member| member.run.results.is_none() && member.failure.is_some());
            if (watch.is_stopped() || has_lost) && !run.is_stopped {
                run.is_stopped = true;
                self.say_each(|_| ToAgent::Stop);
            }
            let is_at_half = |member: &Member| member.is_done() || member.run.at_half.is_some();
            let halves: Vec<u64> = self.members.iter().filter_map(|member| member.run.at_half).collect();
            if !has_passed_half && !halves.is_empty() && self.members.iter().all(is_at_half) {
                has_passed_half = true;
                let open = halves.iter().sum();
                if let Some(server) = &mut run.server {
                    // Without the reading there is no slope; the run goes on.
                    let _ = server.look_at_half(open);
                }
                self.say_each(|_| ToAgent::PassHalf);
            }
            let has_joined = |member: &Member| member.is_done() || member.run.has_joined;
            if run.load_from.is_none() && !run.is_stopped && self.members.iter().all(has_joined) {
                self.measure_clocks(run, watch);
                let round_trips = self.members.iter().filter_map(|member| member.clock.best());
                let longest = round_trips.map(|best| best.round_trip_ns).max().unwrap_or(0);
                let start = Instant::now() + START_LEAD + Duration::from_nanos(longest * 2);
                let ours = start - self.epoch;
                run.load_from = Some(start);
                self.say_each(|member| ToAgent::Start { at: member.clock.theirs(ours) });
            }
            let status = self.status(scenario, run);
            if let Some(server) = &mut run.server {
                let measure_from = run.load_from.unwrap_or(run.began) + scenario.warm_up;
                server.look(measure_from, status.phase <= Phase::Load, status.open);
            }
            if told.elapsed() >= STATUS_EVERY {
                told = Instant::now();
                watch.status(&status);
            }
            if pinged.elapsed() >= PING_EVERY {
                pinged = Instant::now();
                self.ping();
            }
        }
        self.emit(run, watch);
        watch.status(&Status { phase: Phase::Done, open: 0, ..self.status(scenario, run) });
    }

    /// Says something to every member that is left.
    fn say_each(&mut self, mut what: impl FnMut(&mut Member) -> ToAgent) {
        for member in &mut self.members {
            let message = what(member);
            if member.failure.is_none()
                && let Err(error) = member.outlet.send(&message)
            {
                member.lose(&error.to_string());
            }
        }
    }

    fn listen(&mut self, run: Option<(&mut Run, &dyn Watch)>, patience: Duration) {
        match self.events.recv_timeout(patience) {
            Ok((number, event)) => {
                let member = &mut self.members[number];
                match event {
                    Event::Lost(reason) => member.lose(&reason),
                    Event::Said(said, at) => {
                        let second = member.hear(*said, at);
                        if let (Some(second), Some((run, watch))) = (second, run) {
                            run.take(&second);
                            self.emit(run, watch);
                        }
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Every reading thread has said so before it ended.
            Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(patience),
        }
    }

    /// A second is complete when every agent that still runs has told its part.
    fn emit(&self, run: &mut Run, watch: &dyn Watch) {
        let running = self.members.iter().filter(|member| !member.is_done());
        let complete = running.map(|member| member.run.seconds_told).min().unwrap_or(u32::MAX);
        while let Some(entry) = run.seconds.first_entry() {
            if *entry.key() >= complete {
                break;
            }
            let (_, mut second) = entry.remove_entry();
            if let Some(server) = &mut run.server {
                second.interval.server = server.sample();
            }
            watch.second(&second);
            run.emitted.push(second.interval);
        }
    }

    fn status(&self, scenario: &Scenario, run: &Run) -> Status {
        let running =
            || self.members.iter().filter(|member| member.failure.is_none()).map(|member| &member.run.status);
        let mut faults = Faults::default();
        running().for_each(|status| faults.add(&status.faults));
        Status {
            phase: running().map(|status| status.phase).min().unwrap_or_default(),
            elapsed: run.began.elapsed().as_secs_f64(),
            load_elapsed: run
                .load_from
                .and_then(|from| Instant::now().checked_duration_since(from))
                .map(|elapsed| elapsed.as_secs_f64()),
            load_seconds: scenario.load_duration().as_secs_f64(),
            wanted: running().map(|status| status.wanted).sum(),
            open: running().map(|status| status.open).sum(),
            faults,
            rate: running().map(|status| status.rate).sum(),
        }
    }

    fn merge(&mut self, run: Run) -> Result<Results> {
        let parts = self.members.iter_mut().map(|member| Part {
            name: member.name.clone(),
            host: member.host.clone(),
            clock: member.clock.best(),
            results: match (member.run.results.take(), &member.failure) {
                (Some(results), _) => Ok(*results),
                (None, failure) => Err(failure.clone().unwrap_or_else(|| "it sent none".into())),
            },
        });
        let parts: Vec<Part> = parts.collect();
        let failures: Vec<String> = parts
            .iter()
            .filter_map(|part| Some(format!("{}: {}", part.name, part.results.as_ref().err()?)))
            .collect();
        let Some(mut results) = merge::merge(parts, run.emitted) else {
            return Err(AgentsLost(failures.join("; ")).into());
        };
        results.server = run.server.map(|server| server.finish(&results.total));
        Ok(results)
    }
}

/// A run, as far as it is not a member's.
struct Run {
    server: Option<ServerWatch>,
    seconds: BTreeMap<u32, Second>,
    emitted: Vec<Interval>,
    load_from: Option<Instant>,
    began: Instant,
    is_stopped: bool,
}

impl Run {
    fn take(&mut self, second: &Second) {
        let number = second.interval.second;
        let whole = self.seconds.entry(number).or_default();
        whole.interval.second = number;
        whole.add(second);
    }
}

impl Member {
    fn is_done(&self) -> bool {
        self.run.results.is_some() || self.failure.is_some()
    }

    fn hear(&mut self, said: FromAgent, at: Duration) -> Option<Second> {
        match said {
            FromAgent::Ready { obstacles, arranged } => {
                self.run.findings = Some(Findings { obstacles, arranged });
            }
            FromAgent::Pong { number, at: theirs } => {
                if let Some(asked) = self.pings.remove(&number) {
                    self.clock.take(asked, Duration::from_nanos(theirs), at);
                }
            }
            FromAgent::Status(status) => self.run.status = status,
            FromAgent::Second(mut second) => {
                self.run.seconds_told = second.interval.second.saturating_add(1);
                for thread in &mut second.detail.threads {
                    thread.name = format!("{} {}", self.name, thread.name);
                }
                return Some(*second);
            }
            FromAgent::AtHalf { open } => self.run.at_half = Some(open),
            FromAgent::Joined => self.run.has_joined = true,
            FromAgent::Done(results) => self.run.results = Some(results),
            FromAgent::Failed { reason } | FromAgent::Refused { reason } => self.failure = Some(reason),
            FromAgent::Hello(_) | FromAgent::Welcome { .. } => {}
        }
        None
    }

    /// It is gone, or might as well be.
    fn lose(&mut self, reason: &str) {
        if self.failure.is_some() {
            return;
        }
        self.outlet.shutdown();
        let Some(local) = &mut self.child else {
            self.failure = Some(reason.to_owned());
            return;
        };
        // One whose socket is closed is ending by itself, and its status says how; one that is silent has to be ended.
        let ended = if reason == SILENT { local.end() } else { local.process.wait().ok() };
        let how = ended.map_or_else(|| reason.to_owned(), |status| format!("it ended with {status}"));
        let words = local.last_words.lock().unwrap_or_else(PoisonError::into_inner).join(" | ");
        self.failure = Some(if words.is_empty() { how } else { format!("{how}: {words}") });
    }
}

impl Local {
    fn end(&mut self) -> Option<std::process::ExitStatus> {
        let _ = self.process.kill();
        self.process.wait().ok()
    }
}

impl Drop for Team {
    /// Agents see that nobody coordinates them any more.
    fn drop(&mut self) {
        for member in &mut self.members {
            member.outlet.shutdown();
            if let Some(local) = &mut member.child {
                local.end();
            }
        }
    }
}

fn listen(number: usize, mut stream: Stream, epoch: Instant, sender: &SyncSender<(usize, Event)>) {
    loop {
        let event = match read(&mut stream, MESSAGE_MAX) {
            Ok(said) => Event::Said(said, epoch.elapsed()),
            Err(error) => Event::Lost(error.to_string()),
        };
        let is_last = matches!(event, Event::Lost(_));
        if sender.send((number, event)).is_err() || is_last {
            return;
        }
    }
}

fn keep_last_words(stderr: ChildStderr, kept: &Mutex<Vec<String>>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_WORDS {
            kept.remove(0);
        }
        kept.push(line.chars().take(200).collect());
    }
}
