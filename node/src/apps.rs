//! The apps that this node has seen, shared by the data threads (which count) and HTTP (which reports).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinwire_shard::App;

/// Directory of apps by tenant and app id.
///
/// An app stays as long as somebody holds it; the others are swept out whenever the directory has doubled, so its size
/// follows the apps in use. An app swept between two connections starts its minute of operations anew.
#[derive(Debug, Default)]
pub struct Apps {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By `{tenant}::{app}`.
    apps: BTreeMap<Box<str>, Arc<App>>,
    /// Size at which the next sweep is due.
    sweep_at: usize,
}

/// Below this many apps sweeping is not worth it.
const SWEEP_MIN: usize = 4096;

impl Apps {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The app, entered now if it is not yet known. Both ids come from a verified token and hold no `:`.
    pub fn enter(&self, tenant: &str, app: &str) -> Arc<App> {
        let mut inner = self.lock();
        let key = format!("{tenant}::{app}");
        if let Some(known) = inner.apps.get(key.as_str()) {
            return Arc::clone(known);
        }
        inner.sweep_if_due();
        let new = Arc::new(App::new(tenant, app));
        inner.apps.insert(key.into(), Arc::clone(&new));
        new
    }

    /// The app, if it is known.
    pub fn get(&self, tenant: &str, app: &str) -> Option<Arc<App>> {
        self.lock().apps.get(format!("{tenant}::{app}").as_str()).cloned()
    }

    /// At most `limit` apps whose key begins with `prefix`, in the order of their keys, behind `after` if that is given.
    pub fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Arc<App>> {
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let inner = self.lock();
        let behind = inner.apps.range::<str, _>((from, Bound::Unbounded));
        behind
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(_, app)| Arc::clone(app))
            .collect()
    }

    /// Apps known.
    pub fn len(&self) -> usize {
        self.lock().apps.len()
    }

    /// Whether no app is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A map is whole whatever a thread was doing when it panicked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn sweep_if_due(&mut self) {
        if self.apps.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.apps.retain(|_, app| Arc::strong_count(app) > 1 || app.connections() > 0 || app.documents() > 0);
        self.sweep_at = 2 * self.apps.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_ids_are_the_same_app() {
        let apps = Apps::new();
        assert!(apps.get("t", "a").is_none());
        let first = apps.enter("t", "a");
        assert!(Arc::ptr_eq(&first, &apps.enter("t", "a")));
        assert!(Arc::ptr_eq(&first, &apps.get("t", "a").unwrap()));
        assert!(!Arc::ptr_eq(&first, &apps.enter("t", "b")));
        assert_eq!((first.tenant(), first.id()), ("t", "a"));
    }

    #[test]
    fn pages_are_in_order_and_can_be_narrowed_to_a_tenant() {
        let apps = Apps::new();
        for (tenant, app) in [("u", "a"), ("t", "c"), ("t", "a"), ("t", "b"), ("tt", "a")] {
            apps.enter(tenant, app);
        }
        let names = |page: Vec<Arc<App>>| -> Vec<String> {
            page.iter().map(|app| format!("{}::{}", app.tenant(), app.id())).collect()
        };
        assert_eq!(names(apps.page("t::", None, 2)), ["t::a", "t::b"]);
        assert_eq!(names(apps.page("t::", Some("t::b"), 2)), ["t::c"]);
        assert_eq!(names(apps.page("", Some("t::c"), 9)), ["tt::a", "u::a"]);
        assert_eq!(names(apps.page("v", None, 9)), [""; 0]);
    }

    #[test]
    fn apps_in_use_stay_and_the_others_do_not_pile_up() {
        let apps = Apps::new();
        let held = apps.enter("t", "held");
        assert!(apps.enter("t", "counted").admit_connection(1).is_ok());
        for n in 0..3 * SWEEP_MIN {
            apps.enter("t", &n.to_string());
            assert!(apps.len() <= SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&held, &apps.enter("t", "held")));
        assert_eq!(apps.get("t", "counted").unwrap().connections(), 1);
    }
}
