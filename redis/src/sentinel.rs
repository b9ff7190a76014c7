//! The master that sentinels name.
//!
//! All sentinels are asked, and the answer with the highest configuration epoch counts: a sentinel that was cut off names the
//! old master for as long as it does not hear from the others. A server that is named has to say itself that it is a master.

use crate::dial::Dialer;
use crate::endpoint::Host;
use crate::error::{Error, Verdict};
use crate::server::Server;
use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use redis::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// A sentinel that does not answer in this time does not count.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(800);
/// Sentinels are asked once in this time at most, however many calls fail.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// A master by its name, and who knows where it is.
pub(crate) struct Sentinels {
    name: String,
    sentinels: Vec<Server>,
    dialer: Arc<Dialer>,
    master: ArcSwapOption<Server>,
    looked: Mutex<Looked>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    reason: Arc<str>,
}

impl Sentinels {
    pub(crate) fn new(
        name: &str,
        hosts: &[Host],
        dialer: Arc<Dialer>,
        sentinel_dialer: &Arc<Dialer>,
        changes: watch::Sender<u64>,
    ) -> Self {
        let sentinel = |host: &Host| Server::new(host.clone(), sentinel_dialer.clone(), false);
        let sentinels = hosts.iter().map(sentinel).collect();
        let (master, looked) = (ArcSwapOption::empty(), Mutex::default());
        Self { name: name.to_owned(), sentinels, dialer, master, looked, changes }
    }

    pub(crate) async fn master(&self) -> Result<Arc<Server>, Error> {
        match self.master.load_full() {
            Some(master) => Ok(master),
            None => Box::pin(self.look()).await,
        }
    }

    /// Asks the sentinels again.
    pub(crate) async fn look(&self) -> Result<Arc<Server>, Error> {
        let mut looked = self.looked.lock().await;
        let is_fresh = looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY_MIN);
        if !is_fresh {
            looked.at = Some(Instant::now());
            let named = join_all(self.sentinels.iter().map(|sentinel| self.ask(sentinel))).await;
            let failures: Vec<String> = named.iter().filter_map(|outcome| outcome.clone().err()).collect();
            match named.into_iter().flatten().max_by_key(|(epoch, _)| *epoch) {
                Some((_, host)) => self.adopt(host),
                None => looked.reason = failures.join("; ").into(),
            }
        }
        self.master.load_full().ok_or_else(|| Error::OutOfReach(looked.reason.clone()))
    }

    fn adopt(&self, host: Host) {
        if self.master.load().as_ref().is_some_and(|master| master.host == host) {
            return;
        }
        tracing::info!(master = %host, name = %self.name, "the sentinels name a master");
        self.master.store(Some(Arc::new(Server::new(host, self.dialer.clone(), true))));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What one sentinel says: the configuration epoch, and where the master is.
    async fn ask(&self, sentinel: &Server) -> Result<(u64, Host), String> {
        let deadline = Instant::now() + SENTINEL_TIMEOUT;
        let mut state = redis::cmd("SENTINEL");
        state.arg("MASTER").arg(&self.name);
        let mut address = redis::cmd("SENTINEL");
        address.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let state = sentinel.call(&state, deadline).await.map_err(|verdict| describe(sentinel, verdict))?;
        let address =
            sentinel.call(&address, deadline).await.map_err(|verdict| describe(sentinel, verdict))?;
        let epoch = field(&state, "config-epoch").and_then(|text| text.parse().ok()).unwrap_or(0);
        let parts: Vec<String> = redis::from_redis_value(address).unwrap_or_default();
        match parts.as_slice() {
            [name, port] if port.parse::<u16>().is_ok() => {
                Ok((epoch, Host { name: name.clone(), port: port.parse().unwrap_or_default() }))
            }
            _ => Err(format!("sentinel {}: it knows no master `{}`", sentinel.host, self.name)),
        }
    }
}

fn describe(sentinel: &Server, verdict: Verdict) -> String {
    let reason = match verdict {
        Verdict::Lost(reason) => reason.to_string(),
        Verdict::Failed(error) => error.to_string(),
        _ => "it cannot serve".to_owned(),
    };
    format!("sentinel {}: {reason}", sentinel.host)
}

/// A field of an answer that is a map, or a flat list of names and values.
#[must_use]
pub fn field(answer: &Value, name: &str) -> Option<String> {
    let is_name = |value: &Value| matches!(value, Value::BulkString(text) if text == name.as_bytes());
    let value = match answer {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value),
        Value::Array(items) => items.chunks_exact(2).find(|pair| is_name(&pair[0])).map(|pair| &pair[1]),
        _ => None,
    }?;
    redis::from_redis_value(value.clone()).ok()
}
