//! `/v1/stream`: a console is sent how things are, and then each second what is different.
//!
//! Nothing is queued for a console. What is sent next is worked out when its socket has taken what came before, against
//! what it was sent last: a slow console gets fewer steps, is told how many seconds were left out, and is never wrong. One
//! that takes nothing at all is cut by its socket's deadline. All consoles share one look at the data threads each second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, Sse};
use futures_util::stream::{Stream, unfold};
use pinwire_admin_api::documents::{Document, DocumentSort};
use pinwire_admin_api::node::{Node, Thread};
use pinwire_admin_api::stream::{Change, DocumentName, Snapshot};
use pinwire_shard::DocumentFilter;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Services;
use super::documents::{order, tell_all};
use super::overview::{of_node, of_threads};
use super::problem::Problem;
use super::request::Parameters;
use super::routes::{Errors, Shared};
use crate::control::is_stopping;
use crate::data::inspect::Order;

/// Consoles at the same time.
const STREAMS_MAX: usize = 16;
/// Documents at the top that are looked at, for all consoles.
const TOP: usize = 100;
/// Events in a snapshot, and in a change.
const EVENTS: usize = 100;
/// Between two changes.
const PACE: Duration = Duration::from_secs(1);

/// What a console wants to see.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamParameters {
    /// Documents with the most of this. `edits` without it.
    #[param(inline)]
    sort: Option<DocumentSort>,
    /// How many, 20 without it.
    #[param(minimum = 0, maximum = 100)]
    documents: Option<usize>,
}

/// Server-sent events: `snapshot` with how things are (a `Snapshot`), then each second `change` with what is different (a
/// `Change`). At most 16 consoles are served at the same time.
#[utoipa::path(
    get,
    path = "/v1/stream",
    operation_id = "stream",
    tag = "stream",
    params(StreamParameters),
    responses((status = 200, content_type = "text/event-stream", body = String, description = "`event: snapshot` with a Snapshot as its data, then `event: change` with a Change each second"), Errors)
)]
pub(super) async fn stream(
    State(services): Shared,
    Parameters(asked): Parameters<StreamParameters>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let documents = asked.documents.unwrap_or(20);
    if documents > TOP {
        return Err(Problem::malformed(format!("documents has to lie between 0 and {TOP}")));
    }
    let seat = services.streams.seat()?;
    let console = Console {
        order: order(asked.sort.unwrap_or(DocumentSort::Edits)),
        documents,
        stopping: services.stopping.clone(),
        services,
        seen: None,
        _seat: seat,
    };
    Ok(Sse::new(unfold(console, Console::next)))
}

/// What all consoles share.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    seats: Arc<AtomicUsize>,
    /// The last look at the documents, by their order. Locked while it is taken, so that all who wait share it.
    looks: Mutex<HashMap<Order, Look>>,
}

/// When documents were looked at, and those at the top then.
type Look = (Instant, Arc<[Document]>);

/// A console's place among those that are served.
#[derive(Debug)]
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    fn seat(&self) -> Result<Seat, Problem> {
        let one_more = |taken: usize| (taken < STREAMS_MAX).then_some(taken + 1);
        match self.seats.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Seat(Arc::clone(&self.seats))),
            Err(_) => Err(Problem::unavailable(format!("{STREAMS_MAX} consoles are being served already"))),
        }
    }

    /// The top of the documents, as of less than a step ago.
    async fn top(&self, services: &Services, order: Order) -> Arc<[Document]> {
        let mut looks = self.looks.lock().await;
        if let Some((_, top)) = looks.get(&order).filter(|(taken, _)| taken.elapsed() < PACE * 9 / 10) {
            return Arc::clone(top);
        }
        let (rows, _) = services.plane.top(&Arc::new(DocumentFilter::default()), order, None, TOP).await;
        let top: Arc<[Document]> = tell_all(services, &rows).into();
        looks.insert(order, (Instant::now(), Arc::clone(&top)));
        top
    }
}

/// One console's stream.
struct Console {
    services: Arc<Services>,
    order: Order,
    documents: usize,
    stopping: watch::Receiver<Option<Duration>>,
    /// What it was sent last.
    seen: Option<Seen>,
    _seat: Seat,
}

struct Seen {
    at: Instant,
    threads: Vec<Thread>,
    documents: HashMap<DocumentName, Document>,
    events: u64,
}

/// How things are.
struct Now {
    node: Node,
    threads: Vec<Thread>,
    documents: Vec<Document>,
}

impl Console {
    /// The next message, or the end when the node stops.
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let (message, seen) = match self.seen.take() {
            None => self.begin().await,
            Some(seen) => {
                tokio::select! {
                    () = tokio::time::sleep_until(seen.at + PACE) => {}
                    () = is_stopping(&mut self.stopping) => return None,
                }
                self.go_on(seen).await
            }
        };
        self.seen = Some(seen);
        Some((Ok(message), self))
    }

    async fn begin(&self) -> (Message, Seen) {
        let at = Instant::now();
        let now = self.look().await;
        let events = &self.services.events;
        let page = events.since(events.before_last(EVENTS as u64), EVENTS);
        let seen =
            Seen { at, threads: now.threads.clone(), documents: by_name(&now.documents), events: page.next };
        let Now { node, threads, documents } = now;
        let snapshot = Snapshot { node, threads, documents, events: page.events };
        (message("snapshot", &snapshot), seen)
    }

    async fn go_on(&self, seen: Seen) -> (Message, Seen) {
        let steps = seen.at.elapsed().as_millis() / PACE.as_millis();
        let at = Instant::now();
        let Now { node, threads, documents } = self.look().await;
        let page = self.services.events.since(seen.events, EVENTS);
        let order = documents.iter().map(name).collect();
        let is_news = |document: &&Document| seen.documents.get(&name(document)) != Some(document);
        let change = Change {
            node,
            threads: threads.iter().filter(|thread| !seen.threads.contains(thread)).copied().collect(),
            order,
            documents: documents.iter().filter(is_news).cloned().collect(),
            events: page.events,
            events_lost: page.lost,
            skipped: u64::try_from(steps.saturating_sub(1)).unwrap_or(u64::MAX),
        };
        let seen = Seen { at, threads, documents: by_name(&documents), events: page.next };
        (message("change", &change), seen)
    }

    async fn look(&self) -> Now {
        let services = &self.services;
        let reports = services.plane.reports().await;
        let documents = match self.documents {
            0 => Vec::new(),
            count => services.streams.top(services, self.order).await.iter().take(count).cloned().collect(),
        };
        Now { node: of_node(services, &reports), threads: of_threads(&reports), documents }
    }
}

fn name(document: &Document) -> DocumentName {
    let Document { tenant, app, name, .. } = document;
    DocumentName { tenant: tenant.clone(), app: app.clone(), name: name.clone() }
}

fn by_name(documents: &[Document]) -> HashMap<DocumentName, Document> {
    documents.iter().map(|document| (name(document), document.clone())).collect()
}

fn message(event: &'static str, data: &impl serde::Serialize) -> Message {
    // These types have nothing that JSON cannot say.
    Message::default().event(event).json_data(data).unwrap_or_else(|_| Message::default().event(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Access, Clock, Events, Plane};
    use crate::config::Cluster;
    use crate::control::Lookup;
    use crate::regions::{Catalogue, Own};
    use pinwire_admin_api::events::What;

    fn services() -> (watch::Sender<Option<Duration>>, Arc<Services>) {
        let (stop, stopping) = watch::channel(None);
        let nobody = crate::config::Admin {
            listen: Vec::new(),
            socket: None,
            token: None,
            tls: None,
            audit_log: None,
            public_url: None,
        };
        let services = Services {
            region: "eu-central-1".to_owned(),
            max_connections: 1,
            clock: Clock::since(std::time::Instant::now()),
            health: Arc::default(),
            apps: Arc::default(),
            records: Arc::default(),
            cluster: Cluster::alone(),
            stats: Arc::default(),
            known_db_codes: Vec::new(),
            catalogue: Arc::new(Catalogue::new("eu-central-1", "ws://127.0.0.1:1", &[])),
            own: Own {
                node: "a".into(),
                health: Arc::default(),
                connections: Arc::default(),
                max_connections: 1,
            },
            lookup: Lookup::new(Box::new(Vec::new), Arc::default()),
            relay: None,
            drains: crate::drain::Drains::idle(),
            dns: None,
            upgrades: None,
            plane: Plane::new(Arc::default()),
            events: Arc::new(Events::default()),
            audit: Arc::default(),
            access: Arc::new(Access::new(&nobody).unwrap()),
            log: None,
            store: None,
            status: None,
            digest: Arc::default(),
            stopping,
            streams: Streams::default(),
        };
        (stop, Arc::new(services))
    }

    fn console(services: &Arc<Services>) -> Console {
        Console {
            order: Order::Edits,
            documents: 1,
            stopping: services.stopping.clone(),
            seen: None,
            _seat: services.streams.seat().unwrap(),
            services: Arc::clone(services),
        }
    }

    /// What a console is told next, as it goes over the wire.
    async fn told(console: Console) -> (String, Console) {
        let (message, console) = console.next().await.unwrap();
        (format!("{:?}", message.unwrap()), console)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_console_misses_seconds_and_no_events_and_is_told_so() {
        let (_stop, services) = services();
        let (first, console) = told(console(&services)).await;
        assert!(first.contains("snapshot"), "{first}");
        services.events.note(What::LogChanged { filter: "early".to_owned() });
        let (second, console) = told(console).await;
        assert!(second.contains("early") && second.contains("skipped\\\":0"), "{second}");
        services.events.note(What::LogChanged { filter: "meanwhile".to_owned() });
        // Its socket takes nothing for a while: it asks for no more.
        tokio::time::advance(Duration::from_millis(5_500)).await;
        let (third, console) = told(console).await;
        assert!(third.contains("meanwhile") && third.contains("skipped\\\":4"), "{third}");
        for _ in 0..5_000 {
            services.events.note(What::Stopping);
        }
        let (fourth, _) = told(console).await;
        assert!(!fourth.contains("events_lost\\\":0"), "{fourth}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_node_and_gives_its_place_back() {
        let (stop, services) = services();
        let (_, console) = told(console(&services)).await;
        assert_eq!(services.streams.seats.load(Ordering::Relaxed), 1);
        stop.send_replace(Some(Duration::ZERO));
        assert!(console.next().await.is_none());
        assert_eq!(services.streams.seats.load(Ordering::Relaxed), 0);
    }
}
