//! The thread: when it looks, whom it asks, what it is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinwire_admin_api::events::What;
use pinwire_redis::Settings;
use pinwire_status::{At, Board, Maintenance, Notice, Pace, Place, Report, State, View};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::desk::{Asked, Desk, Done, Refused, Request};
use super::file::StatusFile;
use super::others::Others;
use super::records::Records;
use super::shared::Shared;
use super::shown::{Published, Shown};
use super::sightings::{all, published};
use crate::admin::Events;
use crate::cluster;
use crate::config::{self, Cluster, RegistryKind};
use crate::regions::{Catalogue, Condition};
use crate::shedding::Health;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(2);
/// How long Redis may take for an answer: what is published does not wait for it.
const REDIS: Settings = Settings {
    deadline: Duration::from_secs(2),
    connect: Duration::from_secs(1),
    calls_max: 4,
    messages_max: 1,
    message_bytes_max: 1,
};
/// Answers of other regions that wait.
const LEARNT: usize = 16;
/// A page is made anew after so many seconds at the latest: what is long over leaves it.
const PAGE_SECONDS: u64 = 3600;

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) config: config::Status,
    /// Base of the region's own HTTP URLs.
    pub(crate) http_url: String,
    pub(crate) cluster: Cluster,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) health: Arc<Health>,
    pub(crate) events: Option<Arc<Events>>,
    /// Where documents are kept, if they are kept on disk.
    pub(crate) folder: Option<PathBuf>,
}

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct StatusThread {
    pub(crate) desk: Desk,
    pub(crate) published: Published,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for StatusThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the status thread panicked");
        }
    }
}

/// Starts the thread, if anything is to be published. What it answers with is there when this returns.
///
/// # Errors
/// The system gives no thread, or the region's Redis cannot be used.
pub(crate) fn start(around: Around) -> Result<Option<StatusThread>, cluster::StartError> {
    if !around.config.is_enabled {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (desk, requests) = Desk::open();
    let (learnt_sender, learnt) = mpsc::channel(LEARNT);
    let (stop, stopping) = watch::channel(());
    let shown = Arc::new(Shown::default());
    let others = Others::new(&around.catalogue, &around.cluster, learnt_sender)?;
    let mut work = {
        let _inside = runtime.enter();
        Work::new(around, Arc::clone(&shown))?
    };
    work.publish(now());
    let thread = std::thread::Builder::new().name("status".to_owned()).spawn(move || {
        runtime.block_on(async {
            // It ends with the runtime.
            drop(others.map(|others| tokio::spawn(others.run())));
            work.run(requests, learnt, stopping).await;
        });
        runtime.shutdown_background();
    })?;
    Ok(Some(StatusThread { desk, published: Published::new(shown), stop: Some(stop), thread: Some(thread) }))
}

fn now() -> At {
    At::unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

struct Work {
    catalogue: Arc<Catalogue>,
    health: Arc<Health>,
    events: Option<Arc<Events>>,
    view: View,
    board: Board,
    records: Records,
    shown: Arc<Shown>,
    /// What was published last, and in which hour.
    published: Option<(Report, u64)>,
    /// Incidents that go on, with their regions.
    open: BTreeMap<String, String>,
}

impl Work {
    fn new(around: Around, shown: Arc<Shown>) -> Result<Self, cluster::StartError> {
        let Around { config, http_url, cluster, catalogue, health, events, folder } = around;
        let pace = Pace { end: config.settle.as_secs(), ..Pace::default() };
        let mut board = Board::new(now(), pace);
        let own = catalogue.own().name().to_owned();
        let session = cluster.session.filter(|_| cluster.registry != RegistryKind::Embedded);
        let records = match session {
            Some(url) => {
                Records::in_redis(Shared::new(cluster::link_with(&url, REDIS)?, &own, &cluster.node))
            }
            None => Records::in_file(folder.map(|folder| StatusFile::within(&folder)), &mut board, now()),
        };
        let place = |place: &crate::regions::Place| Place {
            name: place.name().to_owned(),
            area: place.area().map(str::to_owned),
        };
        let view = View {
            title: config.title,
            seen_from: own,
            contact: config.contact,
            url: config.url.unwrap_or(http_url),
            places: published(&catalogue).map(place).collect(),
            kept: records.kept(),
        };
        let open = open(&board);
        Ok(Self { catalogue, health, events, view, board, records, shown, published: None, open })
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut learnt: mpsc::Receiver<Vec<Notice>>,
        mut stopping: watch::Receiver<()>,
    ) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = async {
                tokio::select! {
                    _ = looks.tick() => self.look().await,
                    Some(notices) = learnt.recv() => self.learn(notices).await,
                    Some(request) = requests.recv() => {
                        let answer = self.answer(request.asked).await;
                        // Whoever asked may have gone.
                        let _ = request.reply.send(answer);
                    }
                }
            };
            tokio::select! {
                () = turn => {}
                _ = stopping.changed() => break,
            }
        }
        self.records.leave().await;
    }

    /// Looks at regions, if that is on this node; keeps and publishes what there is.
    async fn look(&mut self) {
        let now = now();
        let own = Condition::from(self.health.status());
        let looked = self.records.look(&mut self.board, own, now).await;
        let names: Vec<&str> = self.view.places.iter().map(|place| place.name.as_str()).collect();
        let mut has_changed = self.board.know_only(now, &names);
        if looked.watches {
            for seen in all(&self.catalogue, looked.own) {
                has_changed |= self.board.look(now, seen.region, seen.state, seen.words);
            }
        }
        self.board.tidy(now);
        self.keep(has_changed, now).await;
    }

    async fn keep(&mut self, has_changed: bool, now: At) {
        self.records.keep(&mut self.board, has_changed, now).await;
        self.tell_incidents();
        self.publish(now);
    }

    async fn learn(&mut self, notices: Vec<Notice>) {
        let now = now();
        let mut is_news = false;
        for notice in notices {
            is_news |= self.board.notices.merge(now, notice);
        }
        if is_news {
            self.keep(true, now).await;
        }
    }

    fn publish(&mut self, now: At) {
        self.view.kept = self.records.kept();
        let report = self.board.report(now, &self.view);
        let hour = now.seconds() / PAGE_SECONDS;
        if self.published.as_ref().is_some_and(|(before, at)| *before == report && *at == hour) {
            return;
        }
        self.shown.publish(&report, now);
        self.published = Some((report, hour));
    }

    /// Tells operators of what began and ended since the last time.
    fn tell_incidents(&mut self) {
        let open = open(&self.board);
        for (id, region) in open.iter().filter(|(id, _)| !self.open.contains_key(*id)) {
            let known = self.board.history().regions.get(region);
            let state = known.and_then(|known| known.state).unwrap_or(State::Degraded).word().to_owned();
            tracing::warn!(incident = id, region, state, "an incident began");
            self.note(What::IncidentBegan { id: id.clone(), region: region.clone(), state });
        }
        for (id, region) in self.open.iter().filter(|(id, _)| !open.contains_key(*id)) {
            tracing::info!(incident = id, region, "an incident is over");
            self.note(What::IncidentEnded { id: id.clone(), region: region.clone() });
        }
        self.open = open;
    }

    fn note(&self, what: What) {
        if let Some(events) = &self.events {
            events.note(what);
        }
    }

    async fn answer(&mut self, asked: Asked) -> Result<Done, Refused> {
        let now = now();
        // What other nodes announced meanwhile counts.
        let own = Condition::from(self.health.status());
        self.records.look(&mut self.board, own, now).await;
        let notices = &self.board.notices;
        let wanted = match asked {
            Asked::List => {
                let notices = notices.iter().map(|notice| Maintenance::of(notice, now)).collect();
                return Ok(self.done(notices));
            }
            Asked::Announce(told) => notices.announce(now, new_id()?, told)?,
            Asked::Change(id, revision, told) => {
                let known = notices.get(&id).ok_or(Refused::Unknown)?;
                if known.revision != revision {
                    return Err(Refused::Revision(known.revision));
                }
                if known.is_withdrawn {
                    return Err(Refused::Over);
                }
                known.change(now, told)?
            }
            Asked::Withdraw(id) => {
                let known = notices.get(&id).ok_or(Refused::Unknown)?;
                if known.is_withdrawn || known.told.to <= now {
                    return Err(Refused::Over);
                }
                known.withdraw(now)
            }
        };
        self.board.notices.merge(now, wanted.clone());
        self.keep(true, now).await;
        let known = self.board.notices.get(&wanted.id).ok_or(Refused::Unknown)?;
        if known.revision != wanted.revision
            || known.is_withdrawn != wanted.is_withdrawn
            || known.told != wanted.told
        {
            // Somebody else was as fast, at another node.
            return Err(Refused::Revision(known.revision));
        }
        let shown = Maintenance::of(known, now);
        self.tell_notice(&shown, wanted.is_withdrawn);
        Ok(self.done(vec![shown]))
    }

    fn tell_notice(&self, shown: &Maintenance, is_withdrawn: bool) {
        let (id, title) = (shown.id.clone(), shown.told.title.clone());
        self.note(match is_withdrawn {
            true => What::MaintenanceWithdrawn { id, title },
            false => What::MaintenanceAnnounced {
                id,
                revision: shown.revision,
                title,
                regions: shown.told.regions.clone(),
            },
        });
    }

    fn done(&self, notices: Vec<Maintenance>) -> Done {
        Done { notices, is_kept: self.records.is_within_reach() }
    }
}

fn open(board: &Board) -> BTreeMap<String, String> {
    let open = board.history().incidents.iter().filter(|incident| incident.is_open());
    open.map(|incident| (incident.id.clone(), incident.region.clone())).collect()
}

/// Nobody else has it.
fn new_id() -> Result<String, Refused> {
    let random = getrandom::u64().map_err(|_| Refused::Silent)?;
    Ok(format!("m-{random:016x}"))
}
