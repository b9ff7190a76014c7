//! Calls: deadlines, bounds, redirections.

use crate::cluster::Slots;
use crate::dial::{Connection, Dialer};
use crate::endpoint::{Endpoint, EndpointError, Host, Kind};
use crate::error::{Error, Verdict};
use crate::script::Invocation;
use crate::sentinel::Sentinels;
use crate::server::{Server, check_role};
use crate::subscription::Subscription;
use redis::aio::AsyncPushSender;
use redis::{Cmd, Value};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;

/// A call is sent again so often at most, each time because it was not carried out.
const TRIES_MAX: u32 = 16;
/// Between tries while servers change their parts.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// See [`Inner::try_call`].
const DEADLINE_SLACK: Duration = Duration::from_millis(50);
/// How often the sentinels, or the Cluster, are asked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bounds of a link.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// No call waits longer than this for its answer.
    pub deadline: Duration,
    /// No attempt to connect takes longer than this.
    pub connect: Duration,
    /// Calls under way at once. Beyond it calls fail at once: a server that hangs must not gather them.
    pub calls_max: usize,
    /// Messages of a subscription that wait to be taken; beyond it they are dropped ([`crate::Event::Interrupted`]).
    pub messages_max: usize,
    /// The same in bytes.
    pub message_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            connect: Duration::from_secs(2),
            calls_max: 4096,
            messages_max: 16_384,
            message_bytes_max: 64 << 20,
        }
    }
}

/// A way to the servers of an endpoint: cheap to clone, shared by any number of callers, whose calls are pipelined over one
/// connection per server. It connects when first used, and again by itself.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    settings: Settings,
    route: Route,
    dialer: Arc<Dialer>,
    calls: Semaphore,
    changes: watch::Receiver<u64>,
    watcher: std::sync::OnceLock<AbortHandle>,
}

enum Route {
    Single(Arc<Server>),
    Sentinel(Sentinels),
    Cluster(Slots),
}

/// Whom a call goes to.
enum Target {
    /// Who has the key as far as is known.
    Owner,
    Moved(Host),
    Asked(Host),
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

impl Link {
    /// A link to `endpoint`; nothing is connected yet. Has to be called within a tokio runtime, which it stays with.
    pub fn new(endpoint: Endpoint, settings: Settings) -> Result<Self, EndpointError> {
        let dialer = Arc::new(Dialer::new(&endpoint, settings.connect)?);
        let (sender, changes) = watch::channel(0);
        let route = match &endpoint.kind {
            Kind::Single => {
                Route::Single(Arc::new(Server::new(endpoint.hosts[0].clone(), dialer.clone(), false)))
            }
            Kind::Sentinel { master } => {
                let sentinel_dialer = Arc::new(dialer.for_sentinels(&endpoint)?);
                Route::Sentinel(Sentinels::new(
                    master,
                    &endpoint.hosts,
                    dialer.clone(),
                    &sentinel_dialer,
                    sender,
                ))
            }
            Kind::Cluster => Route::Cluster(Slots::new(&endpoint.hosts, dialer.clone(), sender)),
        };
        let (calls, watcher) = (Semaphore::new(settings.calls_max), std::sync::OnceLock::new());
        let inner = Arc::new(Inner { endpoint, settings, route, dialer, calls, changes, watcher });
        if !matches!(inner.route, Route::Single(_)) {
            let watcher = tokio::spawn(watch_for_changes(Arc::downgrade(&inner))).abort_handle();
            // Set once, right here.
            let _ = inner.watcher.set(watcher);
        }
        Ok(Self { inner })
    }

    /// What it leads to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Its bounds.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Whether keys are spread over servers: what belongs together has to share a hash tag, and channels are sharded.
    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.route, Route::Cluster(_))
    }

    /// Runs a script. One round trip, two where the server has not seen the script yet.
    pub async fn run(&self, invocation: Invocation<'_>) -> Result<Value, Error> {
        let _permit = self.inner.permit()?;
        self.inner.run(invocation).await
    }

    /// Sends a command to the server that has `key`.
    pub async fn call(&self, key: &[u8], command: &Cmd) -> Result<Value, Error> {
        let _permit = self.inner.permit()?;
        self.inner.call(key, command).await
    }

    /// Publishes to a channel: to its shard in a Cluster.
    pub async fn publish(&self, channel: &[u8], message: &[u8]) -> Result<(), Error> {
        let mut command = redis::cmd(if self.is_cluster() { "SPUBLISH" } else { "PUBLISH" });
        command.arg(channel).arg(message);
        self.call(channel, &command).await.map(drop)
    }

    /// Which server has `key`, and which history its data has. Another text than before means that data may be missing: the
    /// server was restarted, or another one took over.
    pub async fn history(&self, key: &[u8]) -> Result<Arc<str>, Error> {
        let mut command = redis::cmd("INFO");
        command.arg("server").arg("replication");
        let info: String = redis::from_redis_value(self.call(key, &command).await?)
            .map_err(|error| Error::out_of_reach(format!("INFO: {error}")))?;
        Ok(format!("{}:{}", info_field(&info, "master_replid"), info_field(&info, "run_id")).into())
    }

    /// Messages of these channels (of their shards in a Cluster). The first event is [`crate::Event::Interrupted`], as soon as the
    /// subscription stands.
    pub fn subscribe(&self, channels: Vec<Vec<u8>>) -> Subscription {
        Subscription::begin(self.clone(), channels)
    }

    /// Changes whenever another server has become the one to ask for something.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.clone()
    }

    /// Where `key` (or a channel) is now.
    pub(crate) async fn host_of(&self, key: &[u8]) -> Result<Host, Error> {
        Ok(self.inner.owner(key).await?.host.clone())
    }

    /// A connection of its own to a server.
    pub(crate) async fn dial<P: AsyncPushSender>(
        &self,
        host: &Host,
        pushes: P,
    ) -> Result<Connection, String> {
        let connection = self.inner.dialer.dial(host, pushes).await?;
        if matches!(self.inner.route, Route::Sentinel(_)) {
            let check = tokio::time::timeout(self.inner.settings.connect, check_role(&connection)).await;
            check
                .unwrap_or_else(|_| Err("no answer in time".to_owned()))
                .map_err(|error| format!("{host}: {error}"))?;
        }
        Ok(connection)
    }

    pub(crate) async fn look_again(&self) {
        self.inner.look_again().await;
    }
}

impl Inner {
    fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.calls.try_acquire().map_err(|_| {
            let reason = format!("{} calls to {} wait already", self.settings.calls_max, self.endpoint);
            Error::out_of_reach(reason)
        })
    }

    async fn run(self: &Arc<Self>, invocation: Invocation<'_>) -> Result<Value, Error> {
        let deadline = Instant::now() + self.settings.deadline;
        let key = invocation.first_key();
        match self.try_call(key, &invocation.by_sha(), deadline).await? {
            Some(value) => Ok(value),
            None => match Box::pin(self.try_call(key, &invocation.by_source(), deadline)).await? {
                Some(value) => Ok(value),
                None => Err(Error::Refused("the server does not keep scripts".into())),
            },
        }
    }

    async fn call(self: &Arc<Self>, key: &[u8], command: &Cmd) -> Result<Value, Error> {
        let deadline = Instant::now() + self.settings.deadline;
        let value = self.try_call(key, command, deadline).await?;
        value.ok_or_else(|| Error::Refused("NOSCRIPT".into()))
    }

    /// `None`: the server has not seen the script.
    ///
    /// Every call has a future of its own, which is moved about: what is rare (connecting, looking for servers) is boxed where it
    /// comes up, so that it is no part of it.
    async fn try_call(
        self: &Arc<Self>,
        key: &[u8],
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Option<Value>, Error> {
        // Looking for servers takes time as well. Calls keep the deadline by themselves, a little earlier.
        let until = deadline + DEADLINE_SLACK;
        match tokio::time::timeout_at(until.into(), self.try_servers(key, command, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::out_of_reach(format!("{}: no server found in time", self.endpoint))),
        }
    }

    async fn try_servers(
        self: &Arc<Self>,
        key: &[u8],
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Option<Value>, Error> {
        let mut target = Target::Owner;
        for _ in 0..TRIES_MAX {
            let outcome = match &target {
                Target::Owner => self.owner(key).await?.call(command, deadline).await,
                Target::Moved(host) => Box::pin(self.server(host)?.call(command, deadline)).await,
                Target::Asked(host) => Box::pin(self.server(host)?.call_asking(command, deadline)).await,
            };
            target = match outcome {
                Ok(value) => return Ok(Some(value)),
                Err(Verdict::NoScript) => return Ok(None),
                Err(Verdict::Moved(name, port)) => {
                    Box::pin(self.look_again()).await;
                    Target::Moved(Box::pin(self.redirected(key, name, port)).await)
                }
                Err(Verdict::Ask(name, port)) => {
                    Target::Asked(Box::pin(self.redirected(key, name, port)).await)
                }
                Err(Verdict::NotHere) => {
                    Box::pin(self.leave(key)).await;
                    if Instant::now() + TRY_EVERY >= deadline {
                        break;
                    }
                    tokio::time::sleep(TRY_EVERY.mul_f64(0.5 + fastrand::f64())).await;
                    Target::Owner
                }
                Err(Verdict::Lost(reason)) => return Err(self.failed(Error::OutOfReach(reason))),
                Err(Verdict::Failed(error)) => return Err(self.failed(error)),
            };
        }
        Err(Error::out_of_reach(format!("the servers of {} keep changing their parts", self.endpoint)))
    }

    async fn owner(&self, key: &[u8]) -> Result<Arc<Server>, Error> {
        match &self.route {
            Route::Single(server) => Ok(server.clone()),
            Route::Sentinel(sentinels) => sentinels.master().await,
            Route::Cluster(slots) => slots.owner(key).await,
        }
    }

    fn server(&self, host: &Host) -> Result<Arc<Server>, Error> {
        match &self.route {
            Route::Cluster(slots) => Ok(slots.server(host)),
            _ => {
                let reason =
                    format!("{} redirects to {host}: it is a Cluster, write redis+cluster://", self.endpoint);
                Err(Error::Refused(reason.into()))
            }
        }
    }

    /// A redirection may leave the address out: it is that of the server which answered.
    async fn redirected(&self, key: &[u8], name: String, port: u16) -> Host {
        if !name.is_empty() {
            return Host { name, port };
        }
        let name = self.owner(key).await.map(|server| server.host.name.clone()).unwrap_or_default();
        Host { name, port }
    }

    /// The server with `key` says that it is not the one to ask.
    async fn leave(&self, key: &[u8]) {
        if let Ok(server) = self.owner(key).await
            && !matches!(self.route, Route::Cluster(_))
        {
            server.drop_connection();
        }
        self.look_again().await;
    }

    /// Who is out of reach may have been replaced: the next call should know. This one does not wait for it.
    fn failed(self: &Arc<Self>, error: Error) -> Error {
        let may_be_replaced = !matches!(self.route, Route::Single(_));
        if may_be_replaced && matches!(error, Error::OutOfReach(_)) {
            let inner = self.clone();
            tokio::spawn(async move { inner.look_again().await });
        }
        error
    }

    async fn look_again(&self) {
        match &self.route {
            Route::Single(_) => {}
            Route::Sentinel(sentinels) => drop(sentinels.look().await),
            Route::Cluster(slots) => drop(slots.look().await),
        }
    }
}

async fn watch_for_changes(link: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let Some(link) = link.upgrade() else { return };
        link.look_again().await;
    }
}

/// A field of `INFO`: lines of `name:value`. Empty where there is none of this name.
#[must_use]
pub fn info_field<'info>(info: &'info str, name: &str) -> &'info str {
    let value = |line: &'info str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_end);
    info.lines().find_map(value).unwrap_or_default()
}
