//! Where a document is active.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinwire_registry::{Answer, AppName, DocumentName, Request};

use super::{BoxFuture, Lookup, OutOfReach};
use crate::apps::Record;
use crate::regions::{Catalogue, Own};

/// The registry of pins, as discovery sees it.
pub trait Pins: fmt::Debug + Send + Sync {
    /// The region that holds the document, or the best one for this client where none does. Claims nothing.
    fn locate<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Located, OutOfReach>>;
}

/// A document somebody looks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The app's id.
    pub app: &'a str,
    /// The document's name.
    pub document: &'a str,
    /// The number of the license region whose registry knows.
    pub license: u8,
    /// The region closest to the client, by its token.
    pub prefer_region: Option<&'a str>,
    /// Regions that its token is for; `None`: all.
    pub regions: Option<&'a [Box<str>]>,
    /// The app's record, which may allow some regions only.
    pub record: Option<&'a Record>,
}

impl Wanted<'_> {
    fn allows(&self, region: &str) -> bool {
        let by_token = self.regions.is_none_or(|regions| regions.iter().any(|allowed| **allowed == *region));
        by_token && self.record.is_none_or(|record| record.allows(region))
    }
}

/// Where to open a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The region.
    pub region: String,
    /// Base of its WebSocket URLs, without a trailing slash.
    pub ws_url: String,
    /// Nobody holds the document.
    pub is_new: bool,
}

/// The registries of the license regions, and the catalogue of regions.
///
/// What is pinned is remembered for a moment: many clients look for the same document when they all come back. A client that is
/// sent to a region which has just left the document pins it there, or is redirected by that region, which goes by the registry.
#[derive(Debug)]
pub struct RegistryPins {
    lookup: Arc<Lookup>,
    catalogue: Arc<Catalogue>,
    own: Own,
    pinned: Mutex<HashMap<Key, (Instant, Located)>>,
}

/// A license region's number, and a document in there.
type Key = (u8, DocumentName);

/// How long a document that is pinned counts as pinned.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Documents remembered; one more, and those are forgotten whose time is up, else all.
const PINNED_MAX: usize = 4096;

impl RegistryPins {
    /// Nothing is remembered yet.
    pub fn new(lookup: Arc<Lookup>, catalogue: Arc<Catalogue>, own: Own) -> Self {
        Self { lookup, catalogue, own, pinned: Mutex::default() }
    }

    async fn find(&self, wanted: Wanted<'_>) -> Result<Located, OutOfReach> {
        let app = AppName(format!("{}::{}", wanted.tenant, wanted.app).into());
        let document = DocumentName { app, name: wanted.document.into() };
        let key = (wanted.license, document);
        if let Some(pinned) = self.recall(&key) {
            return Ok(pinned);
        }
        let request = Request::Locate { document: key.1.clone() };
        let Answer::Located(pin) = self.lookup.ask(wanted.license, request).await? else {
            return Err(OutOfReach);
        };
        // What was taken away is idle as soon as those who held it have left.
        let Some(owner) = pin.map(|pin| pin.owner).filter(|owner| !owner.is_nobody()) else {
            return self.choose(&wanted);
        };
        // What clients reach it by is best known to those who run it.
        let known = self.catalogue.get(&owner.region).map(|place| place.url()).filter(|url| !url.is_empty());
        let ws_url = if owner.ws_url.is_empty() { known.unwrap_or_default() } else { &owner.ws_url };
        let located = Located { region: owner.region.to_string(), ws_url: ws_url.to_owned(), is_new: false };
        self.remember(key, located.clone());
        Ok(located)
    }

    /// The best region for a document that nobody holds. Where none is allowed it is this one, for which the token is refused.
    fn choose(&self, wanted: &Wanted<'_>) -> Result<Located, OutOfReach> {
        self.catalogue.own().see(self.own.sight(Instant::now()));
        let best = self.catalogue.best(wanted.prefer_region, |region| wanted.allows(region));
        let place = best.unwrap_or(self.catalogue.own());
        Ok(Located { region: place.name().to_owned(), ws_url: place.url().to_owned(), is_new: true })
    }

    fn recall(&self, key: &Key) -> Option<Located> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, located) = pinned.get(key)?;
        (since.elapsed() < REMEMBERED).then(|| located.clone())
    }

    fn remember(&self, key: Key, located: Located) {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if pinned.len() >= PINNED_MAX {
            pinned.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        }
        if pinned.len() >= PINNED_MAX {
            pinned.clear();
        }
        pinned.insert(key, (Instant::now(), located));
    }
}

impl Pins for RegistryPins {
    fn locate<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Located, OutOfReach>> {
        Box::pin(self.find(wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use pinwire_registry::{Answering, Claimed, Embedded, Node, NodeView, Registry};
    use pinwire_token::OwnLimits;

    use super::*;
    use crate::cluster::ClusterStats;
    use crate::config::{RegionEntry, RegionStatus};
    use crate::regions::Sight;
    use crate::shedding::Health;

    /// Counts what it is asked.
    #[derive(Clone, Debug)]
    struct Counted(Embedded, Arc<AtomicU64>);

    impl Registry for Counted {
        fn ask(&self, request: Request) -> Answering {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.ask(request)
        }
    }

    struct Place {
        registries: [Counted; 2],
        pins: RegistryPins,
        catalogue: Arc<Catalogue>,
    }

    fn place() -> Place {
        let registries = [1, 2].map(|life| Counted(Embedded::new(life), Arc::default()));
        let entry = |name: &str| RegionEntry {
            name: name.to_owned(),
            url: format!("wss://{name}.example.net"),
            status: RegionStatus::Live,
            area: None,
        };
        let entries = ["eu-central-1", "us-east-1", "us-east-2"].map(entry);
        let catalogue = Arc::new(Catalogue::new("eu-central-1", "wss://eu-central-1.example.net", &entries));
        let own = Own {
            node: "a".into(),
            health: Arc::new(Health::default()),
            connections: Arc::new(AtomicU32::new(0)),
            max_connections: 10,
        };
        let links = registries.clone();
        let open = move || links.iter().map(|link| Arc::new(link.clone()) as Arc<dyn Registry>).collect();
        let lookup = Arc::new(Lookup::new(Box::new(open), Arc::new(ClusterStats::default())));
        let pins = RegistryPins::new(lookup, Arc::clone(&catalogue), own);
        Place { registries, pins, catalogue }
    }

    impl Place {
        /// A node of that region claims `t::a::doc` in a license region.
        async fn claim(&self, license: usize, region: &str, ws_url: &str) {
            let node = Node { region: region.into(), name: "n".into(), life: 1 };
            let (ws_url, peer_address, version) = (ws_url.into(), "".into(), "1".into());
            let view = NodeView { node: node.clone(), ws_url, peer_address, version, admin_url: "".into() };
            let registry = &self.registries[license].0;
            registry.ask(Request::Register { node: view, lease_us: 20_000_000 }).await.unwrap();
            let document = DocumentName { app: AppName("t::a".into()), name: "doc".into() };
            let (nonce, hold, max_documents, grace_us) = (7, 1, 10, 0);
            let claim = Request::Claim { document, node, nonce, hold, max_documents, grace_us };
            let answer = registry.ask(claim).await.unwrap();
            assert!(matches!(answer, Answer::Claimed(Claimed::Held { is_new: true, .. })), "{answer:?}");
        }
    }

    const WANTED: Wanted<'_> = Wanted {
        tenant: "t",
        app: "a",
        document: "doc",
        license: 1,
        prefer_region: None,
        regions: None,
        record: None,
    };

    fn located(region: &str, ws_url: &str, is_new: bool) -> Result<Located, OutOfReach> {
        Ok(Located { region: region.to_owned(), ws_url: ws_url.to_owned(), is_new })
    }

    #[tokio::test]
    async fn a_document_that_is_pinned_anywhere_is_found_there() {
        let place = place();
        let idle = place.pins.locate(WANTED).await;
        assert_eq!(idle, located("eu-central-1", "wss://eu-central-1.example.net", true));
        place.claim(1, "ap-south-1", "wss://ap.example.net").await;
        let wanted = Wanted { prefer_region: Some("us-east-1"), ..WANTED };
        assert_eq!(place.pins.locate(wanted).await, located("ap-south-1", "wss://ap.example.net", false));
        let elsewhere = place.pins.locate(Wanted { license: 0, ..WANTED }).await;
        assert!(elsewhere.is_ok_and(|located| located.is_new), "names are of one license region");
        assert_eq!(place.pins.locate(Wanted { document: "x", license: 2, ..WANTED }).await, Err(OutOfReach));
    }

    #[tokio::test]
    async fn where_a_document_is_pinned_is_remembered_for_a_moment_and_idle_ones_are_not() {
        let place = place();
        let asked = &place.registries[1].1;
        for _ in 0..3 {
            place.pins.locate(WANTED).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        place.claim(1, "us-east-1", "").await;
        for _ in 0..100 {
            let found = place.pins.locate(WANTED).await;
            assert_eq!(
                found,
                located("us-east-1", "wss://us-east-1.example.net", false),
                "from the catalogue"
            );
        }
        assert!(asked.load(Ordering::Relaxed) < 60, "{asked:?}");
        for n in 0..2 * PINNED_MAX {
            let name = DocumentName { app: AppName("t::a".into()), name: n.to_string().into() };
            place
                .pins
                .remember((0, name), Located { region: String::new(), ws_url: String::new(), is_new: false });
        }
        assert!(place.pins.pinned.lock().unwrap().len() <= PINNED_MAX);
    }

    #[tokio::test]
    async fn an_idle_document_is_best_opened_where_the_token_and_the_app_allow_it() {
        let place = place();
        let best = async |wanted: Wanted<'_>| place.pins.locate(wanted).await.unwrap().region;
        let preferred = Wanted { prefer_region: Some("us-east-1"), ..WANTED };
        assert_eq!(best(preferred).await, "us-east-1");
        let unreachable = Sight::missed(None);
        place.catalogue.get("us-east-1").unwrap().see(unreachable);
        assert_eq!(best(preferred).await, "us-east-2", "its sibling");
        let eu: [Box<str>; 1] = ["eu-central-1".into()];
        assert_eq!(best(Wanted { regions: Some(&eu), ..preferred }).await, "eu-central-1");
        let us: Box<[Box<str>]> = ["us-east-2".into()].into();
        let record = Record { limits: OwnLimits::default(), regions: Some(us), ..Record::default() };
        assert_eq!(best(Wanted { record: Some(&record), ..WANTED }).await, "us-east-2");
        let nowhere = Wanted { regions: Some(&eu), record: Some(&record), ..WANTED };
        assert_eq!(best(nowhere).await, "eu-central-1", "for which it is refused");
        place.pins.own.health.drain();
        assert_eq!(best(WANTED).await, "us-east-2");
    }
}
