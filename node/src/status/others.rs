//! What other regions have announced: their `/status.json`, each every few seconds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use pinwire_status::{ANNOUNCED_MAX, Maintenance, Notice};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::sightings::published;
use crate::config::Cluster;
use crate::https::{self, chain};
use crate::regions::{Catalogue, Place};

/// How long an answer may take, all of it.
const DEADLINE: Duration = Duration::from_secs(3);
/// Bytes of an answer: more than a report can come to.
const BODY_MAX: usize = 2 << 20;
/// Regions asked at the same time.
const AT_ONCE: usize = 8;
/// The first round comes so soon.
const SOON: Duration = Duration::from_millis(500);

/// Asks the others, over and over.
pub(super) struct Others {
    client: https::Client<Empty<Bytes>>,
    catalogue: Arc<Catalogue>,
    interval: Duration,
    learnt: mpsc::Sender<Vec<Notice>>,
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Told {
    maintenance: Vec<Maintenance>,
}

/// Regions that may have announced something.
fn asked(catalogue: &Catalogue) -> impl Iterator<Item = &Place> {
    let own = catalogue.own().name();
    published(catalogue).filter(move |place| place.name() != own && !place.url().is_empty())
}

impl Others {
    /// `None`: there are no others.
    ///
    /// # Errors
    /// The system trusts no authority that could vouch for them.
    pub(super) fn new(
        catalogue: &Arc<Catalogue>,
        cluster: &Cluster,
        learnt: mpsc::Sender<Vec<Notice>>,
    ) -> io::Result<Option<Self>> {
        if asked(catalogue).next().is_none() {
            return Ok(None);
        }
        let is_tls = asked(catalogue).any(|place| place.url().starts_with("wss://"));
        let client = https::client(&cluster.authorities, is_tls.then_some("regions"), 1)?;
        Ok(Some(Self { client, catalogue: Arc::clone(catalogue), interval: cluster.probe_interval, learnt }))
    }

    pub(super) async fn run(self) {
        let mut known: Vec<(&Place, Option<HeaderValue>)> =
            asked(&self.catalogue).map(|place| (place, None)).collect();
        sleep(SOON.min(self.interval)).await;
        loop {
            let round =
                stream::iter(&mut known).for_each_concurrent(AT_ONCE, |(place, tag)| self.learn(place, tag));
            round.await;
            sleep(self.interval).await;
        }
    }

    async fn learn(&self, place: &Place, tag: &mut Option<HeaderValue>) {
        let asked = timeout(DEADLINE, self.ask(place, tag.as_ref())).await;
        match asked.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}"))) {
            // The queue's end is the end of the thread.
            Ok(Some((notices, new))) => {
                if self.learnt.send(notices).await.is_ok() {
                    *tag = new;
                }
            }
            Ok(None) => {}
            Err(why) => tracing::debug!(region = place.name(), why, "its notices could not be read"),
        }
    }

    /// `None`: nothing has changed.
    async fn ask(
        &self,
        place: &Place,
        tag: Option<&HeaderValue>,
    ) -> Result<Option<(Vec<Notice>, Option<HeaderValue>)>, String> {
        // `wss` is `https`, and `ws` is `http`.
        let url = format!("{}/status.json", place.url().replacen("ws", "http", 1));
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, https::USER_AGENT);
        let request = match tag {
            Some(tag) => request.header(header::IF_NONE_MATCH, tag),
            None => request,
        };
        let request = request.body(Empty::new()).map_err(|error| chain(&error))?;
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        let new = response.headers().get(header::ETAG).cloned();
        match response.status() {
            StatusCode::NOT_MODIFIED => return Ok(None),
            StatusCode::OK => {}
            other => return Err(format!("it answered {other}")),
        }
        let body =
            Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(|error| chain(&*error))?;
        let told: Told = serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?;
        let notices = told.maintenance.into_iter().take(2 * ANNOUNCED_MAX).map(Notice::from).collect();
        Ok(Some((notices, new)))
    }
}
