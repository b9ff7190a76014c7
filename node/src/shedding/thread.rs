//! The thread that judges the node: it looks at sources and checks, publishes what that comes to, and tells the pool.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_pool::Member;
use pinwire_shed::{Change, Duty, Judge, Leave, Load, Marks, Part, Resource, Rung, State, Why};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::beats::{Beats, News};
use super::checks::{Checks, Ill};
use super::sources::{Sources, Wanted};
use super::{Admission, Cause, ChangeId, Health, Standing};
use crate::admin::{Events, rung_of, status_of};
use crate::cluster::{Running, Signals, StartError, runtime};
use crate::config::{BUDGET_PER_THREAD, RedisUrl, Shedding};
use crate::data::Mailbox;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Over what time handshakes are counted.
const ASKED_OVER: Duration = Duration::from_secs(1);
/// How long a node that starts waits for the first look.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// How long the pool may take to hear that the node ends.
const RETIRE_PATIENCE: Duration = Duration::from_secs(1);

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) config: Shedding,
    pub(crate) region: String,
    /// This node's name in it.
    pub(crate) node: String,
    /// The region's Redis, where its nodes share one.
    pub(crate) redis: Option<RedisUrl>,
    /// Data threads.
    pub(crate) threads: usize,
    /// The folder of the store on disk, if there is one.
    pub(crate) store: Option<PathBuf>,
    /// Upgraded connections, and how many there may be.
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) max_connections: u32,
    pub(crate) health: Arc<Health>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) events: Option<Arc<Events>>,
    /// Zero of every thread's monotonic clock.
    pub(crate) epoch: Instant,
}

/// The way to the thread: another configuration.
#[derive(Debug)]
pub(crate) struct SheddingWay(watch::Sender<Shedding>);

/// Something comes in there once the thread has looked for the first time.
#[derive(Debug)]
pub(crate) struct FirstLook(Receiver<()>);

impl FirstLook {
    /// Waits for it, a little: nobody is to be told of a standing that nobody has looked for.
    pub(crate) fn wait(self) {
        let _ = self.0.recv_timeout(FIRST_PATIENCE);
    }
}

impl SheddingWay {
    pub(crate) fn update(&self, config: &Shedding) {
        self.0.send_if_modified(|now| {
            let is_other = now != config;
            now.clone_from(config);
            is_other
        });
    }
}

/// Starts the thread. Once its handle is dropped it tells the pool that the node ends.
///
/// # Errors
/// The system gives no thread or no timer, or the URL of the Redis cannot be used.
pub(crate) fn start(around: Around) -> Result<(Running<SheddingWay>, FirstLook), StartError> {
    let runtime = runtime()?;
    let (sender, settings) = watch::channel(around.config.clone());
    let (first, looked) = channel();
    let beats = {
        let _inside = runtime.enter();
        Beats::new(around.redis.as_ref(), &around.region)?
    };
    let life = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?;
    let work = async move |Signals { mailboxes, stopping }: Signals| {
        if let Ok(mailboxes) = mailboxes.await {
            let mut work = Work::new(around, beats, life, settings, &mailboxes);
            work.look(Instant::now());
            // Who starts the node may have given up.
            let _ = first.send(());
            tokio::select! {
                () = work.run() => {}
                // Its sender is dropped.
                _ = stopping => {}
            }
            // Who does not hear it finds out by the lease.
            let _ = timeout(RETIRE_PATIENCE, work.beats.retire()).await;
        }
    };
    Ok((Running::start("shedding", runtime, SheddingWay(sender), work)?, FirstLook(looked)))
}

struct Work {
    around: Around,
    life: u64,
    settings: watch::Receiver<Shedding>,
    sources: Sources,
    checks: Checks,
    judge: Judge,
    beats: Beats,
    /// As the last change had it.
    cause: Arc<str>,
    changes: [u64; 4],
    /// Handshakes in a second of late, and since when they are counted.
    asked: (u32, Instant),
    ahead_ms: i64,
}

impl Work {
    fn new(
        around: Around,
        beats: Beats,
        life: u64,
        settings: watch::Receiver<Shedding>,
        mailboxes: &[Mailbox],
    ) -> Self {
        Self {
            life,
            settings,
            sources: Sources::new(around.config.root.clone()),
            checks: Checks::new(mailboxes, around.store.clone()),
            judge: Judge::new(marks(&around.config)),
            beats,
            cause: Arc::from(""),
            changes: [0; 4],
            asked: (0, Instant::now()),
            ahead_ms: 0,
            around,
        }
    }

    async fn run(&mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.around.health.changed() => {}
                news = self.beats.next() => self.hear(news),
                Ok(()) = self.settings.changed() => self.reload(),
            }
            self.look(Instant::now());
        }
    }

    fn reload(&mut self) {
        let root = std::mem::take(&mut self.around.config.root);
        self.around.config = Shedding { root, ..self.settings.borrow_and_update().clone() };
        self.judge.set_marks(marks(&self.around.config));
    }

    fn hear(&mut self, news: Option<News>) {
        let Some(News { heard, ahead_ms, is_doubled }) = news else { return };
        self.ahead_ms = ahead_ms;
        self.checks.heard(&heard, ahead_ms);
        if is_doubled {
            tracing::error!(
                node = self.around.node,
                "another node of the region calls itself the same: give each a cluster.node of its own"
            );
        }
    }

    fn look(&mut self, now: Instant) {
        let now_us = now.saturating_duration_since(self.around.epoch).as_micros() as u64;
        let load = self.load(now_us);
        let away: Vec<Cause> = self.around.health.away().collect();
        let ill = self.checks.look(now_us, &away);
        let duty = Duty {
            is_draining: self.around.health.is_draining(),
            unable: away.contains(&Cause::NoKeys).then(|| Cause::NoKeys.words()),
            ill: ill.as_ref().map(|ill| ill.words),
            lacks: away.first().map(|cause| cause.words()),
            leave: self.leave(now),
            others_serve: self.beats.others_serve(now) && !self.around.health.is_alone_in_name(),
        };
        let change = self.judge.look(now_us, &load, &duty);
        if let Some(change) = &change {
            self.cause = cause(&change.why, ill.as_ref()).into();
            self.changes[change.to.state as usize] += 1;
        }
        // First it is so, then it is told.
        self.publish(now, load);
        if let Some(change) = change {
            self.tell(&change);
        }
        let me = self.member(&load);
        self.beats.beat(now, &me, self.around.config.keep);
    }

    /// What the pool says, and the name: the pool may count on a node that the name does not have.
    fn leave(&self, now: Instant) -> Leave {
        match self.beats.leave(now) {
            Leave::May if self.around.health.is_kept_in_name() => Leave::Kept,
            leave => leave,
        }
    }

    fn load(&mut self, now_us: u64) -> Load {
        let Shedding { measured, max_memory, max_cpu, .. } = self.around.config;
        let wanted = Wanted { measured, max_memory, max_cpu };
        Load {
            connections: Part {
                used: self.around.connections.load(Ordering::Relaxed).into(),
                limit: self.around.max_connections.into(),
            },
            memory: self.sources.memory(&wanted),
            cpu: self.sources.cpu(now_us, &wanted),
        }
    }

    fn publish(&mut self, now: Instant, load: Load) {
        let verdict = self.judge.verdict();
        let Around { config, admission, health, .. } = &self.around;
        admission.publish(verdict.rung, self.judge.changes());
        let budget = self.beats.share(now, config.region_budget.into(), self.most());
        let now_us = now.saturating_duration_since(self.around.epoch).as_micros() as u64;
        admission.budget.resize(budget, now_us);
        let (_, since) = self.asked;
        let passed = now.saturating_duration_since(since);
        if passed >= ASKED_OVER {
            let asked = admission.budget.demand() as f64 / passed.as_secs_f64();
            self.asked = (asked.ceil() as u32, now);
        }
        health.publish(Standing {
            verdict,
            change: self.id(),
            cause: Arc::clone(&self.cause),
            why: self.judge.why(),
            load,
            marks: (config.high, config.low),
            budget,
            documents_refused: admission.documents_refused.load(Ordering::Relaxed),
            changes: self.changes,
            measures: self.checks.measures,
            pool: self.beats.view().clone(),
        });
    }

    fn id(&self) -> ChangeId {
        ChangeId { life: self.around.admission.life(), number: self.judge.changes() }
    }

    /// Handshakes that the node can serve in a second.
    fn most(&self) -> f64 {
        let per_thread = BUDGET_PER_THREAD.saturating_mul(self.around.threads as u32);
        let budget = self.around.config.budget;
        f64::from(if budget > 0 { budget } else { per_thread })
    }

    fn member(&self, load: &Load) -> Member {
        let verdict = self.judge.verdict();
        let takes = verdict.state.is_ready() && verdict.rung < Rung::NoNewConnections;
        let is_unable =
            verdict.state == State::Draining || self.around.health.away().any(|away| away == Cause::NoKeys);
        Member {
            name: self.around.node.as_str().into(),
            life: self.life,
            addresses: self.around.health.addresses(),
            is_able: !is_unable,
            wants_out: verdict.wants_out,
            occupancy: (load.occupancy().share * 1e3).round() as u32,
            asked: self.asked.0,
            most: if takes { self.most() as u32 } else { 0 },
            ahead_ms: self.ahead_ms,
        }
    }

    /// In the log, and among the events.
    fn tell(&self, change: &Change) {
        let percent = |of: Resource| change.load.share_of(of).map(|share| (share * 100.0).round() as u32);
        let [connections, memory, cpu] = Resource::ALL.map(percent);
        let (id, state, rung) = (self.id(), change.to.state.name(), change.to.rung.name());
        let (is_in_dns, cause) = (change.to.is_in_dns, &*self.cause);
        if matches!(change.to.state, State::Degraded | State::Overloaded) {
            tracing::warn!(change = %id, state, rung, is_in_dns, connections, memory, cpu, "{cause}");
        } else {
            tracing::info!(change = %id, state, rung, is_in_dns, connections, memory, cpu, "{cause}");
        }
        let Some(events) = &self.around.events else { return };
        events.note(What::StandingChanged {
            change: id.to_string(),
            before: status_of(change.from.state),
            status: status_of(change.to.state),
            rung: rung_of(change.to.rung),
            in_dns: is_in_dns,
            cause: cause.to_owned(),
            connections_percent: connections.unwrap_or(0),
            memory_percent: memory,
            cpu_percent: cpu,
        });
    }
}

fn marks(config: &Shedding) -> Marks {
    Marks::new(config.high, config.low, u64::try_from(config.dwell.as_micros()).unwrap_or(u64::MAX))
}

/// In words, with numbers.
fn cause(why: &Why, ill: Option<&Ill>) -> String {
    match (why, ill) {
        (Why::Told(words), Some(ill)) if *words == ill.words => format!("{words} ({})", ill.numbers),
        _ => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use pinwire_pool::{Heard, Seen};
    use pinwire_shed::Verdict;

    use super::*;

    /// A node of 100 connections that told the pool that it takes nobody, and heard that another one is asked for much.
    fn work(connections: u32, may_leave: bool, heard_at: Instant) -> Work {
        let config = Shedding {
            root: "/nonexistent".into(),
            budget: 1_000,
            region_budget: 300,
            ..Shedding::default()
        };
        let around = Around {
            region: "eu".to_owned(),
            node: "a".to_owned(),
            redis: None,
            threads: 1,
            store: None,
            connections: Arc::new(connections.into()),
            max_connections: 100,
            health: Arc::default(),
            admission: Arc::new(Admission::new(1, 1_000.0)),
            events: None,
            epoch: Instant::now(),
            config,
        };
        let me = Member { name: "a".into(), wants_out: true, ..Member::default() };
        let other = Member { name: "b".into(), asked: 900, most: 1_000, ..Member::default() };
        let members = [me.clone(), other].map(|member| Seen { member, is_in: false }).to_vec();
        let heard = Heard { now_us: 0, may_leave, is_doubled: false, members, gone: Vec::new() };
        let (_, settings) = watch::channel(around.config.clone());
        Work::new(around, Beats::after(me, heard, heard_at), 1, settings, &[])
    }

    #[test]
    fn who_still_lets_somebody_in_has_a_budget_whatever_it_told_the_others() {
        let now = Instant::now();
        let look = |mut work: Work, is_draining: bool| {
            if is_draining {
                work.around.health.drain();
            }
            work.look(now);
            let Verdict { state, rung, .. } = work.judge.verdict();
            // And who is refused comes back no slower than it lets somebody in.
            (state, rung, work.around.admission.budget.per_second().round())
        };
        assert_eq!(look(work(1, true, now), true), (State::Draining, Rung::Serving, 1_000.0));
        assert_eq!(
            look(work(100, false, now), false),
            (State::Overloaded, Rung::Thrifty, 1_000.0),
            "the last"
        );
        let refuses = look(work(90, true, now), false);
        assert_eq!(refuses, (State::Overloaded, Rung::NoNewConnections, 1_000.0));
        // The Redis is lost meanwhile: it takes itself for the last.
        let long_ago = now.checked_sub(Duration::from_secs(60)).unwrap();
        assert_eq!(look(work(90, true, long_ago), false), (State::Degraded, Rung::Thrifty, 1_000.0));
    }

    #[test]
    fn who_is_kept_in_the_name_takes_clients_though_the_pool_lets_it_go() {
        let now = Instant::now();
        let mut work = work(90, true, now);
        work.around.health.keep_in_name(true);
        work.look(now);
        let Verdict { state, rung, is_in_dns, wants_out } = work.judge.verdict();
        assert_eq!((state, rung, is_in_dns, wants_out), (State::Degraded, Rung::Thrifty, false, true));
        work.around.health.keep_in_name(false);
        work.look(now);
        assert_eq!(work.judge.verdict().rung, Rung::NoNewConnections);
    }

    #[test]
    fn an_ill_is_told_with_its_numbers_and_nothing_else_is() {
        let ill = Ill { words: "the clock is wrong", numbers: "by 9 s".to_owned() };
        assert_eq!(cause(&Why::Told(ill.words), Some(&ill)), "the clock is wrong (by 9 s)");
        assert_eq!(cause(&Why::Draining, Some(&ill)), "it is to end");
        assert_eq!(cause(&Why::Told("there is no key"), None), "there is no key");
    }
}
