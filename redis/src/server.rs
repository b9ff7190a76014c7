//! One server, reached again by itself after a loss.

use crate::dial::{Connection, Dialer};
use crate::endpoint::Host;
use crate::error::{Error, Verdict, judge};
use arc_swap::ArcSwapOption;
use redis::{Cmd, Pipeline, PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Wait after the first failed attempt; it doubles with each, up to the longest. Jittered by half.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LONGEST: Duration = Duration::from_secs(2);

/// A connection that stands, and when it was last heard of.
struct Standing {
    connection: Connection,
    /// The other side is gone.
    is_over: Arc<AtomicBool>,
    /// Microseconds since the server was first named.
    heard_us: AtomicU64,
}

/// Attempts to connect.
#[derive(Default)]
struct Attempts {
    failed: u32,
    next: Option<Instant>,
    reason: Arc<str>,
}

/// One server. Whoever calls first connects; the others wait for that.
pub(crate) struct Server {
    pub(crate) host: Host,
    dialer: Arc<Dialer>,
    /// A replica is of no use (and a sentinel may not have heard of a change yet).
    must_be_master: bool,
    began: Instant,
    standing: ArcSwapOption<Standing>,
    attempts: Mutex<Attempts>,
}

impl Server {
    pub(crate) fn new(host: Host, dialer: Arc<Dialer>, must_be_master: bool) -> Self {
        let (standing, attempts) = (ArcSwapOption::empty(), Mutex::default());
        Self { host, dialer, must_be_master, began: Instant::now(), standing, attempts }
    }

    /// Sends a command, and waits for its answer until `deadline`.
    pub(crate) async fn call(&self, command: &Cmd, deadline: Instant) -> Result<Value, Verdict> {
        let standing = self.standing(deadline).await?;
        let mut pipe = standing.connection.pipe.clone();
        self.answer(&standing, deadline, command.query_async(&mut pipe)).await
    }

    /// Sends a command right behind `ASKING`, which lets a server answer for a slot that is on its way to it.
    pub(crate) async fn call_asking(&self, command: &Cmd, deadline: Instant) -> Result<Value, Verdict> {
        let standing = self.standing(deadline).await?;
        let mut pipe = standing.connection.pipe.clone();
        let mut both = Pipeline::new();
        both.cmd("ASKING").ignore().add_command(command.clone());
        let answers: Vec<Value> = self.answer(&standing, deadline, both.query_async(&mut pipe)).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Forgets the connection: the server is not what it was.
    pub(crate) fn drop_connection(&self) {
        self.standing.store(None);
    }

    async fn answer<T>(
        &self,
        standing: &Arc<Standing>,
        deadline: Instant,
        answer: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Verdict> {
        let sent_us = self.now_us();
        let verdict = match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(value)) => {
                standing.heard_us.store(self.now_us(), Ordering::Relaxed);
                return Ok(value);
            }
            Ok(Err(error)) => {
                let verdict = judge(&error);
                if !matches!(verdict, Verdict::Lost(_)) {
                    standing.heard_us.store(self.now_us(), Ordering::Relaxed);
                }
                verdict
            }
            // Answers that came meanwhile show a server that is slow, not one that is gone.
            Err(_) if standing.heard_us.load(Ordering::Relaxed) > sent_us => {
                Verdict::Failed(self.unreached("slow"))
            }
            Err(_) => Verdict::Lost(format!("{}: no answer in time", self.host).into()),
        };
        if matches!(verdict, Verdict::Lost(_)) {
            self.drop_this(standing);
        }
        Err(verdict)
    }

    fn drop_this(&self, standing: &Arc<Standing>) {
        let current = self.standing.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, standing)) {
            self.standing.compare_and_swap(&*current, None);
        }
    }

    async fn standing(&self, deadline: Instant) -> Result<Arc<Standing>, Verdict> {
        if let Some(standing) = self.current() {
            return Ok(standing);
        }
        match tokio::time::timeout_at(deadline.into(), Box::pin(self.connect())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Verdict::Failed(self.unreached("no connection in time"))),
        }
    }

    async fn connect(&self) -> Result<Arc<Standing>, Verdict> {
        let mut attempts = self.attempts.lock().await;
        if let Some(standing) = self.current() {
            return Ok(standing);
        }
        if attempts.next.is_some_and(|next| Instant::now() < next) {
            return Err(Verdict::Failed(Error::OutOfReach(attempts.reason.clone())));
        }
        // Whoever calls while this one is cancelled by its deadline has to wait as well.
        attempts.next = Some(Instant::now() + backoff(attempts.failed));
        attempts.reason = format!("{}: no connection in time", self.host).into();
        match self.dial().await {
            Ok((connection, is_over)) => {
                let heard_us = AtomicU64::new(self.now_us());
                let standing = Arc::new(Standing { connection, is_over, heard_us });
                self.standing.store(Some(standing.clone()));
                *attempts = Attempts::default();
                Ok(standing)
            }
            Err(reason) => {
                attempts.next = Some(Instant::now() + backoff(attempts.failed));
                attempts.failed = attempts.failed.saturating_add(1);
                attempts.reason = reason.into();
                Err(Verdict::Failed(Error::OutOfReach(attempts.reason.clone())))
            }
        }
    }

    fn current(&self) -> Option<Arc<Standing>> {
        self.standing.load_full().filter(|standing| !standing.is_over.load(Ordering::Acquire))
    }

    async fn dial(&self) -> Result<(Connection, Arc<AtomicBool>), String> {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = is_over.clone();
        let watch = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                flag.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        };
        let connection = self.dialer.dial(&self.host, watch).await?;
        if self.must_be_master {
            check_role(&connection).await.map_err(|error| format!("{}: {error}", self.host))?;
        }
        Ok((connection, is_over))
    }

    fn unreached(&self, reason: &str) -> Error {
        Error::out_of_reach(format!("{}: {reason}", self.host))
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Fails unless this is a master.
pub(crate) async fn check_role(connection: &Connection) -> Result<(), String> {
    let mut pipe = connection.pipe.clone();
    let role: Value = redis::cmd("ROLE").query_async(&mut pipe).await.map_err(|error| error.to_string())?;
    match role {
        Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(name)) if name == b"master") => {
            Ok(())
        }
        _ => Err("this is a replica now".to_owned()),
    }
}

pub(crate) fn backoff(failed: u32) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << failed.min(10)).min(BACKOFF_LONGEST);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}
