//! The thread that asks the others how they are: their `/health`, each every few seconds and not all at once.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Uri, header};
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, Limited};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Catalogue, Condition, Place, Sight};
use crate::config::{Cluster, RegionStatus};
use crate::https::{self, chain};
use pinwire_shed::State;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Bytes of an answer.
const BODY_MAX: usize = 16 << 10;
/// Regions asked at the same time.
const AT_ONCE: usize = 16;
/// The second round comes so soon: the first ones pay for new connections.
const SOON: Duration = Duration::from_secs(1);

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub struct Prober {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks at other regions panicked");
        }
    }
}

/// Starts the thread, if there are others to ask.
///
/// # Errors
/// The system gives no thread, or trusts no authority that could vouch for the others.
pub(crate) fn start(catalogue: &Arc<Catalogue>, cluster: &Cluster) -> io::Result<Option<Prober>> {
    let asked: Vec<&Place> = asked(catalogue).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let is_tls = asked.iter().any(|place| place.url().starts_with("wss://"));
    let client = https::client(&cluster.authorities, is_tls.then_some("regions"), 1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (stop, stopping) = watch::channel(());
    let rounds = Rounds { client, catalogue: Arc::clone(catalogue), interval: cluster.probe_interval };
    let thread = std::thread::Builder::new().name("regions".to_owned()).spawn(move || {
        runtime.block_on(rounds.run(stopping));
        // A name that is just being looked up holds nobody up.
        runtime.shutdown_background();
    })?;
    Ok(Some(Prober { stop: Some(stop), thread: Some(thread) }))
}

/// What a region says of itself, and after how long; or why it says nothing.
pub(crate) type Heard = Result<(Duration, &'static str), String>;

/// Asks each region once, for tools.
///
/// # Errors
/// The system trusts no authority that could vouch for them.
pub(crate) async fn look_once(catalogue: &Catalogue, cluster: &Cluster) -> io::Result<Vec<(String, Heard)>> {
    let places: Vec<&Place> = asked(catalogue).collect();
    let is_tls = places.iter().any(|place| place.url().starts_with("wss://"));
    let client = https::client(&cluster.authorities, is_tls.then_some("regions"), 1)?;
    let look = async |place: &Place| {
        let heard = tokio::time::timeout(DEADLINE, ask(&client, place)).await;
        let heard = heard.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")));
        let heard = heard.map(|(took, health)| (took, Condition::from(health.status).word()));
        (place.name().to_owned(), heard)
    };
    let mut seen = Vec::new();
    for some in places.chunks(AT_ONCE) {
        seen.extend(futures_util::future::join_all(some.iter().map(|place| look(place))).await);
    }
    Ok(seen)
}

/// Regions that clients may be sent to.
fn asked(catalogue: &Catalogue) -> impl Iterator<Item = &Place> {
    catalogue.others().filter(|place| place.status() == RegionStatus::Live)
}

struct Rounds {
    client: https::Client<Empty<Bytes>>,
    catalogue: Arc<Catalogue>,
    interval: Duration,
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Health {
    status: State,
    occupancy: Option<f64>,
}

impl Rounds {
    async fn run(self, mut stopping: watch::Receiver<()>) {
        let mut next = SOON.min(self.interval);
        loop {
            let began = Instant::now();
            let round =
                stream::iter(asked(&self.catalogue)).for_each_concurrent(AT_ONCE, |place| self.look(place));
            tokio::select! {
                () = round => {}
                _ = stopping.changed() => return,
            }
            tokio::select! {
                () = tokio::time::sleep_until(began + jittered(next)) => {}
                _ = stopping.changed() => return,
            }
            next = self.interval;
        }
    }

    async fn look(&self, place: &Place) {
        let before = place.seen();
        let asked = tokio::time::timeout(DEADLINE, ask(&self.client, place)).await;
        let (now, why) = match asked.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}"))) {
            Ok((took, health)) => {
                let occupancy =
                    health.occupancy.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, 1.0));
                (Sight::answered(before, took, health.status.into(), occupancy), String::new())
            }
            Err(why) => (Sight::missed(before), why),
        };
        let is_away =
            |sight: Option<Sight>| sight.is_some_and(|sight| sight.condition == Condition::Unreachable);
        match (is_away(before), is_away(Some(now))) {
            (false, true) => tracing::warn!(
                region = place.name(),
                why,
                "a region does not answer: new documents go elsewhere"
            ),
            (true, false) => tracing::info!(region = place.name(), "the region answers again"),
            _ => {}
        }
        place.see(now);
    }
}

async fn ask(client: &https::Client<Empty<Bytes>>, place: &Place) -> Result<(Duration, Health), String> {
    // `wss` is `https`, and `ws` is `http`.
    let url = format!("{}/health", place.url().replacen("ws", "http", 1));
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, https::USER_AGENT)
        .body(Empty::new())
        .map_err(|error| chain(&error))?;
    let began = Instant::now();
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let took = began.elapsed();
    let status = response.status();
    let body =
        Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(|error| chain(&*error))?;
    let health = serde_json::from_slice(&body.to_bytes());
    health
        .map(|health| (took, health))
        .map_err(|_| format!("it answered {status}, and nothing that a node says"))
}

/// A little sooner or later, so that nodes do not ask all at once. Without random numbers of the system they may.
fn jittered(time: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    time.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::config::RegionEntry;

    /// A region whose node answers each request with the next of these; the thread ends with the last.
    fn region(answers: Vec<&'static str>) -> (SocketAddr, JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut connections, mut answers) = (0, answers.into_iter());
            let mut answer = answers.next();
            while answer.is_some() {
                let (stream, _) = listener.accept().unwrap();
                connections += 1;
                let mut lines = BufReader::new(&stream).lines();
                while let Some(body) = answer {
                    let head = lines.by_ref().map_while(Result::ok).find(|line| line.is_empty());
                    if head.is_none() || body.is_empty() {
                        answer = answers.next();
                        break;
                    }
                    let length = body.len();
                    let text =
                        format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {length}\r\n\r\n{body}");
                    (&stream).write_all(text.as_bytes()).unwrap();
                    answer = answers.next();
                }
            }
            connections
        });
        (address, thread)
    }

    fn catalogue(address: SocketAddr) -> Arc<Catalogue> {
        let entry = |name: &str, status| RegionEntry {
            name: name.to_owned(),
            url: format!("ws://{address}"),
            status,
            area: None,
        };
        let entries = [entry("us-1", RegionStatus::Live), entry("ap-1", RegionStatus::ComingSoon)];
        Arc::new(Catalogue::new("eu-1", "ws://127.0.0.1:1", &entries))
    }

    fn rounds(catalogue: &Arc<Catalogue>) -> Rounds {
        let client = https::client(&[], None, 1).unwrap();
        Rounds { client, catalogue: Arc::clone(catalogue), interval: Duration::from_secs(1) }
    }

    #[tokio::test]
    async fn what_a_region_says_is_taken_down_whatever_its_status_code() {
        let (address, node) = region(vec![
            r#"{"status":"healthy","timestamp":"x","occupancy":0.25}"#,
            r#"{"status":"draining","added":1}"#,
            r#"{"status":"healthy","occupancy":7}"#,
        ]);
        let catalogue = catalogue(address);
        let (rounds, place) = (rounds(&catalogue), catalogue.get("us-1").unwrap());
        rounds.look(place).await;
        let first = place.seen().unwrap();
        assert_eq!((first.condition, first.occupancy), (Condition::Healthy, Some(0.25)));
        assert!(first.round_trip.unwrap() < DEADLINE);
        rounds.look(place).await;
        assert_eq!(
            place.seen().map(|seen| (seen.condition, seen.occupancy)),
            Some((Condition::Draining, None))
        );
        rounds.look(place).await;
        assert_eq!(place.seen().unwrap().occupancy, Some(1.0));
        assert_eq!(node.join().unwrap(), 1, "connections");
    }

    #[tokio::test]
    async fn a_region_that_says_nothing_that_a_node_says_is_away_after_the_second_time() {
        let (address, node) = region(vec![r#"{"status":"healthy"}"#, "<html>", ""]);
        let catalogue = catalogue(address);
        let (rounds, place) = (rounds(&catalogue), catalogue.get("us-1").unwrap());
        for expected in [Condition::Healthy, Condition::Healthy, Condition::Unreachable] {
            rounds.look(place).await;
            assert_eq!(place.seen().map(|seen| seen.condition), Some(expected));
        }
        drop(rounds);
        node.join().unwrap();
    }

    #[test]
    fn the_thread_asks_live_regions_and_ends_when_it_is_dropped() {
        let (address, node) = region(vec![r#"{"status":"degraded"}"#]);
        let catalogue = catalogue(address);
        let cluster = Cluster { probe_interval: Duration::from_secs(3600), ..Cluster::alone() };
        let prober = start(&catalogue, &cluster).unwrap().unwrap();
        node.join().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while catalogue.get("us-1").unwrap().seen().is_none() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(catalogue.get("ap-1").unwrap().seen(), None);
        drop(prober);
        let alone = Arc::new(Catalogue::new("eu-1", "ws://127.0.0.1:1", &[]));
        assert!(start(&alone, &cluster).unwrap().is_none());
    }
}
