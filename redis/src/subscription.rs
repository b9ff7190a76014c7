//! Messages, and the places where some may be missing.

use crate::dial::Connection;
use crate::endpoint::Host;
use crate::link::{Link, Settings};
use crate::server::backoff;
use futures_util::future::join_all;
use redis::{PushInfo, PushKind, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// A connection without messages is asked so often whether it still stands.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Something that a subscription has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of a channel.
    Message {
        /// Which.
        channel: Vec<u8>,
        /// What.
        payload: Vec<u8>,
    },
    /// Messages before this may be missing: a connection was down, another server took over, or the queue was full. Those
    /// after it are complete, but for channels of a server of a Cluster that is out of reach: once that is back there is
    /// another one.
    Interrupted,
}

/// Messages of channels, in order. It begins with [`Event::Interrupted`], as soon as it stands, and ends when dropped.
pub struct Subscription {
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    pub(crate) fn begin(link: Link, channels: Vec<Vec<u8>>) -> Self {
        let queue = Arc::new(Queue::new(link.settings()));
        let task = tokio::spawn(keep_subscribed(link, channels, queue.clone())).abort_handle();
        Self { queue, task }
    }

    /// The next event. May be dropped and called again.
    pub async fn next(&mut self) -> Event {
        loop {
            let filled = self.queue.filled.notified();
            if let Some(event) = self.queue.take() {
                return event;
            }
            filled.await;
        }
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.take()
    }
}

/// Events between the connections and who takes them: bounded; what does not fit becomes an interruption.
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
}

fn size_of(event: &Event) -> usize {
    match event {
        Event::Message { channel, payload } => channel.len() + payload.len(),
        Event::Interrupted => 0,
    }
}

impl Queue {
    fn new(settings: &Settings) -> Self {
        let (messages_max, bytes_max) = (settings.messages_max, settings.message_bytes_max);
        Self { waiting: Mutex::default(), filled: Notify::new(), messages_max, bytes_max }
    }

    fn push(&self, event: Event) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = waiting.bytes + size_of(&event);
        let is_full = waiting.events.len() >= self.messages_max || bytes > self.bytes_max;
        if is_full || event == Event::Interrupted {
            // What waits would be followed by a catch-up in any case.
            *waiting = Waiting::default();
            waiting.events.push_back(Event::Interrupted);
        } else {
            waiting.bytes = bytes;
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Event> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let event = waiting.events.pop_front()?;
        waiting.bytes -= size_of(&event);
        Some(event)
    }
}

/// Channels by where they are.
type Placement = BTreeMap<Host, Vec<Vec<u8>>>;

async fn keep_subscribed(link: Link, channels: Vec<Vec<u8>>, queue: Arc<Queue>) {
    let mut changes = link.changes();
    let mut attached = Attached::default();
    let mut failed = 0;
    loop {
        changes.mark_unchanged();
        match attached.attach(&link, &channels, &queue).await {
            Ok(()) => {
                failed = 0;
                let reason = attached.stand(&link, &channels, &mut changes).await;
                tracing::info!(endpoint = %link.endpoint(), reason, "a subscription was interrupted");
            }
            Err(reason) => {
                failed += 1;
                tracing::debug!(endpoint = %link.endpoint(), reason, "a subscription does not stand");
                // What stands of it goes on.
                attached.drop_silent(link.settings().deadline).await;
            }
        }
        tokio::time::sleep(backoff(failed)).await;
        link.look_again().await;
    }
}

/// The servers whose channels are subscribed to. One that is out of reach takes nothing from the others.
#[derive(Default)]
struct Attached {
    parts: Vec<Part>,
    lost: Arc<Notify>,
}

/// The channels of one server, on a connection of their own.
struct Part {
    host: Host,
    channels: Vec<Vec<u8>>,
    connection: Connection,
    is_lost: Arc<AtomicBool>,
}

impl Part {
    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }
}

async fn place(link: &Link, channels: &[Vec<u8>]) -> Result<Placement, String> {
    let mut placement = Placement::new();
    for channel in channels {
        let host = link.host_of(channel).await.map_err(|error| error.to_string())?;
        placement.entry(host).or_default().push(channel.clone());
    }
    Ok(placement)
}

/// One by one: the answer to several channels at once is several messages.
async fn subscribe(
    connection: &Connection,
    channels: &[Vec<u8>],
    is_sharded: bool,
) -> redis::RedisResult<()> {
    let mut pipe = connection.pipe.clone();
    for channel in channels {
        let mut command = redis::cmd(if is_sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" });
        let _: Value = command.arg(channel.as_slice()).query_async(&mut pipe).await?;
    }
    Ok(())
}

fn receive(push: PushInfo, queue: &Queue, is_lost: &AtomicBool, lost: &Notify) {
    match push.kind {
        PushKind::Message | PushKind::SMessage => {
            let mut parts = push.data.into_iter();
            if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                (parts.next(), parts.next())
            {
                queue.push(Event::Message { channel, payload });
            }
        }
        // Not asked for: the slot of the channel has moved.
        PushKind::SUnsubscribe | PushKind::Unsubscribe | PushKind::Disconnection => {
            is_lost.store(true, Ordering::Release);
            lost.notify_one();
        }
        _ => {}
    }
}

impl Attached {
    /// Keeps what stands and is as it should be, and subscribes to the rest: an error if some of it is missing.
    async fn attach(&mut self, link: &Link, channels: &[Vec<u8>], queue: &Arc<Queue>) -> Result<(), String> {
        let mut placement = place(link, channels).await?;
        self.parts.retain(|part| !part.is_lost() && placement.get(&part.host) == Some(&part.channels));
        self.parts.iter().for_each(|part| _ = placement.remove(&part.host));
        let missing = placement.into_iter();
        let dialled = join_all(missing.map(|(host, channels)| self.dial(link, host, channels, queue))).await;
        let (mut outcome, before) = (Ok(()), self.parts.len());
        for part in dialled {
            match part {
                Ok(part) => self.parts.push(part),
                Err(reason) => outcome = Err(reason),
            }
        }
        if self.parts.len() > before {
            queue.push(Event::Interrupted);
        }
        outcome
    }

    async fn dial(
        &self,
        link: &Link,
        host: Host,
        channels: Vec<Vec<u8>>,
        queue: &Arc<Queue>,
    ) -> Result<Part, String> {
        let is_lost = Arc::new(AtomicBool::new(false));
        let (queue, flag, lost) = (queue.clone(), is_lost.clone(), self.lost.clone());
        let pushes = move |push| {
            receive(push, &queue, &flag, &lost);
            Ok::<(), ()>(())
        };
        let connection = link.dial(&host, pushes).await?;
        let subscribed = subscribe(&connection, &channels, link.is_cluster());
        match tokio::time::timeout(link.settings().deadline, subscribed).await {
            Ok(outcome) => outcome.map_err(|error| format!("{host}: {error}"))?,
            Err(_) => return Err(format!("{host}: no answer in time")),
        }
        Ok(Part { host, channels, connection, is_lost })
    }

    /// Returns why it does not stand any more.
    async fn stand(
        &mut self,
        link: &Link,
        channels: &[Vec<u8>],
        changes: &mut watch::Receiver<u64>,
    ) -> String {
        // A single server never changes: its sender is gone.
        let mut may_change = true;
        loop {
            if let Some(part) = self.parts.iter().find(|part| part.is_lost()) {
                return format!("{}: the connection is lost, or its channels have moved", part.host);
            }
            tokio::select! {
                () = self.lost.notified() => {}
                changed = changes.changed(), if may_change => {
                    may_change = changed.is_ok();
                    let placed = place(link, channels).await;
                    if may_change && placed.is_ok_and(|placement| !self.is_placed(&placement)) {
                        return "another server has the channels".to_owned();
                    }
                }
                () = tokio::time::sleep(PING_EVERY) => self.drop_silent(link.settings().deadline).await,
            }
        }
    }

    fn is_placed(&self, placement: &Placement) -> bool {
        let is_there = |part: &Part| placement.get(&part.host) == Some(&part.channels);
        self.parts.len() == placement.len() && self.parts.iter().all(is_there)
    }

    /// Asks all of them whether they still stand. Those that do not answer are lost.
    async fn drop_silent(&self, deadline: Duration) {
        let ping = async |part: &Part| {
            let mut pipe = part.connection.pipe.clone();
            let command = redis::cmd("PING");
            let answer = tokio::time::timeout(deadline, command.query_async::<Value>(&mut pipe)).await;
            if !matches!(answer, Ok(Ok(_))) {
                part.is_lost.store(true, Ordering::Release);
            }
        };
        join_all(self.parts.iter().map(ping)).await;
    }
}
