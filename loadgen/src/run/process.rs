//! A run of one process, as its main thread sees it: threads started, kept in step, listened to, and put together.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use pinwire_engine::{Config, RINGS_MAX, Waker, allowed_cores, pin_to_core};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::environment::Environment;
use crate::procfs;
use crate::results::{Connections, Correctness, Generator, Interval, Results, SCHEMA, Stage, Tally};
use crate::run::address::{Endpoint, sources};
use crate::run::counts::StageCounts;
use crate::run::desk::{Desk, Outcome, Report, Reporter, Standing};
use crate::run::layout;
use crate::run::server::{SETTLE, ServerWatch};
use crate::run::tls;
use crate::run::tokens::Tokens;
use crate::run::worker::{Assignment, Worker};
use crate::run::{Conductor, Faults, Phase, Seat, Second, Status, Watch};
use crate::scenario::{Driver, Kind, Load, Scenario};
use crate::sum::add_regions;
use crate::verdict::{Evidence, verdict};

/// How long the main thread listens before it looks around.
const LISTEN: Duration = Duration::from_millis(100);
/// Faults described in words, in all.
pub(crate) const EXAMPLES_MAX: usize = 20;

/// Runs this process's share.
///
/// # Errors
/// The run could not be done at all: a scenario with problems, a target without an address, no descriptors. What clients
/// met on the way is in the results.
pub fn run(scenario: &Scenario, seat: Seat, conductor: &dyn Conductor, watch: &dyn Watch) -> Result<Results> {
    let mut scenario = scenario.clone();
    scenario.settle();
    let problems = scenario.problems();
    ensure!(problems.is_empty(), "the scenario cannot be run:\n  {}", problems.join("\n  "));
    let mut process = Process::start(&Arc::new(scenario), seat, conductor)?;
    process.connect(conductor, watch)?;
    process.carry_load(watch)?;
    process.results(watch)
}

struct Process {
    scenario: Arc<Scenario>,
    threads: Vec<Thread>,
    news: Receiver<(usize, Report)>,
    base: Instant,
    started: OffsetDateTime,
    environment: Environment,
    wanted: u64,
    seconds: BTreeMap<u32, Second>,
    emitted: Vec<Interval>,
    server: Option<ServerWatch>,
    retransmits_before: u64,
    is_stopped: bool,
    last_status: Instant,
    /// The load begins.
    load_from: Option<Instant>,
}

struct Thread {
    desk: Arc<Desk>,
    waker: Waker,
    standing: Standing,
    has_joined: bool,
    seconds_told: u32,
    outcome: Option<Outcome>,
    handle: JoinHandle<()>,
}

impl Process {
    fn start(scenario: &Arc<Scenario>, seat: Seat, conductor: &dyn Conductor) -> Result<Self> {
        let endpoints =
            scenario.target.urls.iter().map(|url| Endpoint::resolve(url)).collect::<Result<Vec<_>>>()?;
        let home = match &scenario.kind {
            Kind::Redirect { home_url } => Some(Endpoint::resolve(home_url)?),
            _ => None,
        };
        let server = scenario.server.as_ref().map(|server| ServerWatch::new(server.pid)).transpose()?;
        let environment = Environment::record();
        let threads = match scenario.generator.threads {
            0 => u32::try_from(allowed_cores()?.len()).unwrap_or(1),
            threads => threads,
        };
        let all = layout::groups(scenario);
        let mut sender_base = vec![0; all.len()];
        let mut senders = 0;
        for group in &all {
            sender_base[group.number as usize] = senders;
            senders += group.writers;
        }
        let all_clients: u64 = all.iter().map(|group| u64::from(group.members)).sum();
        let mut random = fastrand::Rng::with_seed(scenario.generator.seed);
        let tokens = Arc::new(Tokens::new(&scenario.target.auth, &scenario.target.region, &mut random)?);
        let is_secure = endpoints.iter().chain(&home).any(|endpoint| endpoint.is_secure);
        let tls = is_secure.then(|| tls::client(&scenario.target.trust)).transpose()?;
        let sources: Arc<[_]> = sources(&scenario.generator.sources)?.into();
        let started = OffsetDateTime::now_utc();
        // Runs must not meet in a document: the name is of this run, the same in all its processes.
        let run_name = format!("{:08x}", scenario.generator.seed as u32);
        let (sender, news) = channel();
        let base = conductor.base();
        let mut process = Self {
            threads: Vec::new(),
            news,
            base,
            started,
            environment,
            wanted: 0,
            seconds: BTreeMap::new(),
            emitted: Vec::new(),
            server,
            retransmits_before: procfs::retransmits(),
            is_stopped: false,
            last_status: base,
            load_from: None,
            scenario: Arc::clone(scenario),
        };
        let starts_with_half = (process.server.is_some() || conductor.waits_at_half())
            && matches!(scenario.kind, Kind::Idle { .. });
        for thread in 0..threads {
            let groups = layout::share(scenario, seat, thread, threads);
            let members: u64 = groups.iter().map(|group| u64::from(group.members)).sum();
            let writers: u64 = groups.iter().map(|group| u64::from(group.writers)).sum();
            let number = seat.index * threads + thread;
            let desk = Arc::new(Desk::default());
            desk.dial_percent.store(if starts_with_half { 50 } else { 100 }, Ordering::Release);
            let assignment = Assignment {
                scenario: Arc::clone(scenario),
                endpoints: endpoints.clone(),
                home: home.clone(),
                tls: tls.clone(),
                sources: Arc::clone(&sources),
                tokens: Arc::clone(&tokens),
                groups,
                sender_base: sender_base.clone(),
                share: members as f64 / (all_clients as f64).max(1.0),
                send_share: writers as f64 / f64::from(senders).max(1.0),
                client_base: number << 24,
                offset: f64::from(number) / f64::from(seat.of * threads),
                seed: scenario.generator.seed.wrapping_add(u64::from(number) << 32),
                run_name: run_name.clone(),
                base,
                desk: Arc::clone(&desk),
                reporter: Reporter { thread: thread as usize, sender: sender.clone() },
            };
            process.wanted += members;
            process.threads.push(spawn(thread, assignment, desk)?);
        }
        Ok(process)
    }

    /// Until every process's clients have joined.
    fn connect(&mut self, conductor: &dyn Conductor, watch: &dyn Watch) -> Result<()> {
        let mut steady = (0, Instant::now());
        while !self.is_done() {
            self.listen(watch)?;
            self.look_for_stop(watch);
            let open = self.open();
            if open != steady.0 {
                steady = (open, Instant::now());
            }
            if !self.threads.iter().all(|thread| thread.has_joined || thread.outcome.is_some()) {
                self.hold_at_half(conductor, watch, steady)?;
            } else if open == 0 && self.scenario.all_stand() && self.wanted > 0 {
                // Nobody is there to send or receive: waiting for the load's end would tell nothing.
                self.order(|desk| desk.stop.store(true, Ordering::Release));
            } else if let Some(start) = conductor.start()? {
                self.load_from = Some(start);
                let start = start.saturating_duration_since(self.base).as_nanos();
                let start = u64::try_from(start).unwrap_or(1).max(1);
                self.order(|desk| desk.start.store(start, Ordering::Release));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets the second half of the clients dial when the memory of the first has been read.
    fn hold_at_half(
        &mut self,
        conductor: &dyn Conductor,
        watch: &dyn Watch,
        (open, since): (u64, Instant),
    ) -> Result<()> {
        if self.threads.iter().all(|thread| thread.desk.dial_percent.load(Ordering::Acquire) == 100) {
            return Ok(());
        }
        let stands = open * 2 + 2 * self.threads.len() as u64 >= self.wanted && since.elapsed() > SETTLE;
        let is_given_up = since.elapsed() > self.scenario.clients.timeout || watch.is_stopped();
        if stands && let Some(server) = &mut self.server {
            server.look_at_half(open)?;
        }
        if (stands || is_given_up) && conductor.may_pass_half(open) {
            self.order(|desk| desk.dial_percent.store(100, Ordering::Release));
        }
        Ok(())
    }

    /// Until the last thread is done.
    fn carry_load(&mut self, watch: &dyn Watch) -> Result<()> {
        while !self.is_done() {
            self.listen(watch)?;
            self.look_for_stop(watch);
            let is_loading = self.threads.iter().any(|thread| thread.standing.phase <= Phase::Load);
            let open = self.open();
            let measure_from = self.load_from.unwrap_or(self.base) + self.scenario.warm_up;
            if let Some(server) = &mut self.server {
                server.look(measure_from, is_loading, open);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.threads.iter().all(|thread| thread.outcome.is_some())
    }

    fn open(&self) -> u64 {
        self.threads.iter().map(|thread| thread.standing.open).sum()
    }

    fn order(&self, give: impl Fn(&Desk)) {
        for thread in &self.threads {
            give(&thread.desk);
            thread.waker.wake();
        }
    }

    fn look_for_stop(&mut self, watch: &dyn Watch) {
        if watch.is_stopped() && !self.is_stopped {
            self.is_stopped = true;
            self.order(|desk| desk.stop.store(true, Ordering::Release));
        }
    }

    fn listen(&mut self, watch: &dyn Watch) -> Result<()> {
        match self.news.recv_timeout(LISTEN) {
            Ok((thread, report)) => self.hear(thread, report, watch)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("every thread of load is gone"),
        }
        if self.last_status.elapsed() > Duration::from_millis(240) {
            self.last_status = Instant::now();
            watch.status(&self.status());
        }
        Ok(())
    }

    fn hear(&mut self, thread: usize, report: Report, watch: &dyn Watch) -> Result<()> {
        match report {
            Report::Joined(standing) => {
                self.threads[thread].standing = standing;
                self.threads[thread].has_joined = true;
            }
            Report::Seconds { finished, standing } => {
                self.threads[thread].standing = standing;
                self.take_seconds(thread, &finished, watch);
            }
            Report::Done(outcome) => {
                let mut outcome = outcome.with_context(|| format!("worker {}", thread + 1))?;
                let finished = std::mem::take(&mut outcome.finished);
                self.threads[thread].standing.phase = Phase::Done;
                self.threads[thread].outcome = Some(outcome);
                self.take_seconds(thread, &finished, watch);
            }
        }
        Ok(())
    }

    /// A second is complete when every thread that still runs has told its part.
    fn take_seconds(&mut self, thread: usize, finished: &[Second], watch: &dyn Watch) {
        for part in finished {
            let number = part.interval.second;
            let whole = self.seconds.entry(number).or_default();
            whole.interval.second = number;
            whole.add(part);
            self.threads[thread].seconds_told = number + 1;
        }
        let running = self.threads.iter().filter(|thread| thread.outcome.is_none());
        let complete = running.map(|thread| thread.seconds_told).min().unwrap_or(u32::MAX);
        while let Some(entry) = self.seconds.first_entry() {
            if *entry.key() >= complete {
                break;
            }
            let (_, mut second) = entry.remove_entry();
            if let Some(server) = &mut self.server {
                second.interval.server = server.sample();
            }
            watch.second(&second);
            self.emitted.push(second.interval);
        }
    }

    fn status(&self) -> Status {
        let phase = self.threads.iter().map(|thread| thread.standing.phase).min().unwrap_or_default();
        let mut faults = Faults::default();
        self.threads.iter().for_each(|thread| faults.add(&thread.standing.faults));
        Status {
            phase,
            elapsed: self.base.elapsed().as_secs_f64(),
            load_elapsed: self.load_from.map(|from| from.elapsed().as_secs_f64()),
            load_seconds: self.scenario.load_duration().as_secs_f64(),
            wanted: self.wanted,
            open: self.open(),
            faults,
            rate: self.threads.iter().map(|thread| thread.standing.rate).sum(),
        }
    }

    fn results(mut self, watch: &dyn Watch) -> Result<Results> {
        let retransmits = procfs::retransmits().saturating_sub(self.retransmits_before);
        let mut generator = Generator { threads: Vec::new(), retransmits, memory_peak: procfs::own_peak() };
        let mut connections = Connections { wanted: self.wanted, ..Connections::default() };
        let mut correctness = Correctness::default();
        let mut regions = BTreeMap::new();
        let mut stages = vec![StageCounts::default(); self.scenario.stage_count()];
        let mut total = Tally::default();
        let mut loaded = None;
        for thread in std::mem::take(&mut self.threads) {
            let _ = thread.handle.join();
            let Some(outcome) = thread.outcome else { continue };
            loaded = loaded.max(outcome.loaded.map(Duration::from_nanos));
            let mut counts = outcome.counts;
            generator.threads.push(outcome.thread);
            connections.add(&counts.connections);
            correctness.add(&outcome.correctness);
            add_regions(&mut regions, &std::mem::take(&mut counts.regions).into_total());
            for (measure, histogram) in std::mem::take(&mut counts.connects) {
                total.latency.entry(measure).or_default().add(&histogram);
            }
            let (parts, outside) = counts.into_stages();
            for (cause, count) in outside {
                *total.errors.entry(cause).or_default() += count;
            }
            for (whole, part) in stages.iter_mut().zip(parts) {
                whole.add(&part);
            }
        }
        correctness.examples.truncate(EXAMPLES_MAX);
        let loaded = self.is_stopped.then(|| loaded.unwrap_or_default());
        let stages = stages_of(&self.scenario, stages, loaded);
        for stage in &stages {
            total.add(&stage.tally);
        }
        let is_open = matches!(self.scenario.load, Load::Open { .. }) && self.scenario.has_planned_sends();
        let verdict = verdict(&Evidence {
            total: &total,
            generator: &generator,
            connections: &connections,
            is_open,
            all_stand: self.scenario.all_stand(),
            seconds: total.seconds,
            is_stopped: self.is_stopped,
        });
        let server = self.server.take().map(|server| server.finish(&total));
        self.threads.clear();
        watch.status(&Status {
            phase: Phase::Done,
            wanted: self.wanted,
            faults: Faults::from(&correctness),
            ..self.status()
        });
        Ok(Results {
            schema: SCHEMA.to_owned(),
            scenario: self.scenario.name().to_owned(),
            settings: serde_json::to_value(self.scenario.without_secrets())?,
            started_at: self.started.format(&Rfc3339)?,
            environment: self.environment,
            stages,
            total,
            intervals: self.emitted,
            connections,
            regions,
            correctness,
            generator,
            server,
            verdict,
            processes: Vec::new(),
            search: Vec::new(),
            assertions: Vec::new(),
        })
    }
}

/// What was counted in each stage, with its plan; a load that was stopped went on for no longer than `loaded`.
fn stages_of(scenario: &Scenario, counts: Vec<StageCounts>, loaded: Option<Duration>) -> Vec<Stage> {
    let mut start = scenario.warm_up;
    let durations = scenario.stage_durations();
    let plans = match &scenario.load {
        Load::Open { stages, .. } if scenario.has_planned_sends() => stages.clone(),
        _ => Vec::new(),
    };
    let mut stages = Vec::new();
    for (number, (counts, duration)) in counts.into_iter().zip(durations).enumerate() {
        let plan = plans.get(number);
        let measured = loaded.map_or(duration, |loaded| loaded.saturating_sub(start).min(duration));
        stages.push(Stage {
            name: plan.and_then(|plan| plan.name.clone()).unwrap_or_else(|| (number + 1).to_string()),
            start_ms: start.as_millis() as u64,
            duration_ms: measured.as_millis() as u64,
            rate: plan.map(|plan| (plan.from, plan.to)),
            tally: counts.into_tally(measured.as_secs_f64()),
        });
        start += duration;
    }
    stages
}

fn spawn(number: u32, assignment: Assignment, desk: Arc<Desk>) -> Result<Thread> {
    let (hand_over, waker) = channel();
    let settings = assignment.scenario.generator.clone();
    let reporter = assignment.reporter.clone();
    let slots = assignment.groups.iter().map(|group| group.members).sum::<u32>() + 256;
    let driver = match settings.driver {
        Driver::Auto => pinwire_engine::Driver::Auto,
        Driver::Uring => pinwire_engine::Driver::Uring,
        Driver::Epoll => pinwire_engine::Driver::Epoll,
    };
    let config =
        Config { driver, slots_max: slots, rings: RINGS_MAX, reads_per_turn: 256, ..Config::default() };
    let core = settings.cores.get(number as usize % settings.cores.len().max(1)).copied();
    let work = move || -> Result<Outcome> {
        if let Some(core) = core {
            pin_to_core(core).with_context(|| format!("core {core}"))?;
        }
        pinwire_engine::run(config, async move |engine: pinwire_engine::Engine| {
            let _ = hand_over.send(engine.waker());
            Worker::new(engine, assignment).run().await
        })?
    };
    let handle = std::thread::Builder::new().name(format!("worker {}", number + 1)).spawn(move || {
        // A thread that panics says so; the others would wait for it for ever.
        let done = catch_unwind(AssertUnwindSafe(work));
        reporter.send(Report::Done(Box::new(done.unwrap_or_else(|_| Err(anyhow!("it panicked"))))));
    })?;
    // A thread that cannot make its engine hands nothing over; why, its report says.
    let waker = waker.recv().context("a thread of load could not start: no io_uring, or no descriptors")?;
    Ok(Thread {
        desk,
        waker,
        standing: Standing::default(),
        has_joined: false,
        seconds_told: 0,
        outcome: None,
        handle,
    })
}
