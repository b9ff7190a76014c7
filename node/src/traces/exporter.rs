//! The thread that takes records from the queue and sends them to a collector.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, header};
use http_body_util::Full;
use prost::Message;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Queue, Record, Traces, otlp};
use crate::https::{self, chain};

/// How often the queue is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How long what waits at the end may take.
const LAST: Duration = Duration::from_secs(1);
/// Records of one request.
const BATCH: usize = 512;

/// The running thread. Dropping it sends what waits, once.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for traces panicked");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The system gives no thread, or trusts no authority that could vouch for an `https` collector.
pub(crate) fn start(traces: Traces, region: String) -> io::Result<(Arc<Queue>, Exporter)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let queue = Arc::new(Queue::new(traces.one_in));
    let (stop, stopping) = watch::channel(());
    let is_https = traces.endpoint.scheme_str() == Some("https");
    let sender = Sender {
        client: https::client(&[], is_https.then_some("traces.endpoint"), 1)?,
        queue: Arc::clone(&queue),
        traces,
        region,
        is_down: false,
    };
    let thread = std::thread::Builder::new()
        .name("traces".to_owned())
        .spawn(move || runtime.block_on(sender.run(stopping)))?;
    Ok((queue, Exporter { stop: Some(stop), thread: Some(thread) }))
}

struct Sender {
    client: https::Client<Full<Bytes>>,
    queue: Arc<Queue>,
    traces: Traces,
    region: String,
    /// The last request came to nothing: told once, until one comes through.
    is_down: bool,
}

impl Sender {
    async fn run(mut self, mut stopping: watch::Receiver<()>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_stopping = tokio::select! {
                _ = ticks.tick() => false,
                _ = stopping.changed() => true,
            };
            if is_stopping {
                // A node that stops does not wait for its collector.
                let _ = tokio::time::timeout(LAST, self.send_waiting()).await;
                return;
            }
            self.send_waiting().await;
        }
    }

    /// Sends what waits, in batches. After one that came to nothing the rest waits for the next time.
    async fn send_waiting(&mut self) {
        loop {
            let batch: Vec<Record> = std::iter::from_fn(|| self.queue.pop()).take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            let sent = match tokio::time::timeout(self.traces.timeout, self.send(&batch)).await {
                Ok(sent) => sent,
                Err(_) => Err(format!("no answer within {:?}", self.traces.timeout)),
            };
            let counter = if sent.is_ok() { &self.queue.exported } else { &self.queue.refused };
            counter.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let is_ok = sent.is_ok();
            self.tell(sent);
            if !is_ok || batch.len() < BATCH {
                return;
            }
        }
    }

    async fn send(&self, batch: &[Record]) -> Result<(), String> {
        let body = otlp::request(batch, &self.region).encode_to_vec();
        let mut request = Request::post(self.traces.endpoint.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, https::USER_AGENT);
        for (name, value) in &self.traces.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| chain(&error))?;
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    /// A line for each change, not for each batch.
    fn tell(&mut self, sent: Result<(), String>) {
        let endpoint = &self.traces.endpoint;
        match sent {
            Ok(()) if self.is_down => {
                tracing::info!(%endpoint, "the collector takes traces again");
                self.is_down = false;
            }
            Err(error) if !self.is_down => {
                tracing::warn!(%endpoint, error, "the collector takes no traces; they are dropped until it does");
                self.is_down = true;
            }
            _ => {}
        }
    }
}
