//! The apps that this node has seen, shared by the data threads (which count) and HTTP (which reports), and what their license
//! regions say of them.
//!
//! | module | concern |
//! | --- | --- |
//! | `record` | an app's record, understood |
//! | `records` | the records that are known |
//! | `lookups` | the thread that asks registries for them |

mod lookups;
mod record;
mod records;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinwire_shard::App;

pub(crate) use lookups::{Lookups, start as start_lookups};
pub use record::{RECORD_MAX, Record, RecordError};
pub use records::Records;
pub(crate) use records::{Found, PATIENCE as RECORD_PATIENCE};

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
    apps: BTreeMap<Box<str>, Entry>,
    /// Size at which the next sweep is due.
    sweep_at: usize,
    /// Other nodes admit connections of these apps, too.
    are_shared: bool,
}

#[derive(Debug)]
struct Entry {
    app: Arc<App>,
    /// The license region that its first token named, if one did.
    db_code: Option<Box<str>>,
}

/// An app is of another license region than a token says.
#[derive(Debug)]
pub struct Elsewhere {
    /// The app.
    pub app: Arc<App>,
    /// The one it is of.
    pub db_code: Box<str>,
}

/// Below this many apps sweeping is not worth it.
const SWEEP_MIN: usize = 4096;

impl Apps {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Other nodes admit connections of the apps, too: from now on this one has a share of each one's limit, and awaits it.
    pub(crate) fn await_shares(&self) {
        let mut inner = self.lock();
        inner.are_shared = true;
        inner.apps.values().for_each(|entry| entry.app.await_share());
    }

    /// The app, entered now if it is not yet known. Both ids come from a verified token and hold no `:`; so do the license region
    /// and its number.
    ///
    /// # Errors
    /// Its tokens named another license region before.
    pub fn enter(
        &self,
        tenant: &str,
        app: &str,
        db_code: Option<&str>,
        license: u8,
    ) -> Result<Arc<App>, Elsewhere> {
        let mut inner = self.lock();
        let key = format!("{tenant}::{app}");
        if let Some(known) = inner.apps.get_mut(key.as_str()) {
            return match (&known.db_code, db_code) {
                (Some(before), Some(named)) if **before != *named => {
                    Err(Elsewhere { app: Arc::clone(&known.app), db_code: before.clone() })
                }
                (None, Some(named)) if known.app.license() == license => {
                    known.db_code = Some(named.into());
                    Ok(Arc::clone(&known.app))
                }
                _ => Ok(Arc::clone(&known.app)),
            };
        }
        inner.sweep_if_due();
        let new = Arc::new(App::in_license(tenant, app, license));
        if inner.are_shared {
            new.await_share();
        }
        inner.apps.insert(key.into(), Entry { app: Arc::clone(&new), db_code: db_code.map(Into::into) });
        Ok(new)
    }

    /// The app, if it is known.
    pub fn get(&self, tenant: &str, app: &str) -> Option<Arc<App>> {
        self.lock().apps.get(format!("{tenant}::{app}").as_str()).map(|entry| Arc::clone(&entry.app))
    }

    /// The license region that its tokens named, if the app is known and they did.
    pub fn db_code(&self, tenant: &str, app: &str) -> Option<Box<str>> {
        self.lock().apps.get(format!("{tenant}::{app}").as_str())?.db_code.clone()
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
            .map(|(_, entry)| Arc::clone(&entry.app))
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
        self.apps.retain(|_, Entry { app, .. }| {
            Arc::strong_count(app) > 1 || app.connections() > 0 || app.documents() > 0
        });
        self.sweep_at = 2 * self.apps.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(apps: &Apps, tenant: &str, app: &str) -> Arc<App> {
        apps.enter(tenant, app, None, 0).unwrap()
    }

    #[test]
    fn the_same_ids_are_the_same_app() {
        let apps = Apps::new();
        assert!(apps.get("t", "a").is_none());
        let first = enter(&apps, "t", "a");
        assert!(Arc::ptr_eq(&first, &enter(&apps, "t", "a")));
        assert!(Arc::ptr_eq(&first, &apps.get("t", "a").unwrap()));
        assert!(!Arc::ptr_eq(&first, &enter(&apps, "t", "b")));
        assert_eq!((first.tenant(), first.id()), ("t", "a"));
    }

    #[test]
    fn pages_are_in_order_and_can_be_narrowed_to_a_tenant() {
        let apps = Apps::new();
        for (tenant, app) in [("u", "a"), ("t", "c"), ("t", "a"), ("t", "b"), ("tt", "a")] {
            enter(&apps, tenant, app);
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
        let held = enter(&apps, "t", "held");
        assert!(enter(&apps, "t", "counted").admit_connection(1).is_ok());
        for n in 0..3 * SWEEP_MIN {
            enter(&apps, "t", &n.to_string());
            assert!(apps.len() <= SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&held, &enter(&apps, "t", "held")));
        assert_eq!(apps.get("t", "counted").unwrap().connections(), 1);
    }

    #[test]
    fn among_other_nodes_an_app_begins_with_a_part_of_its_limit() {
        let apps = Apps::new();
        let before = enter(&apps, "t", "before");
        apps.await_shares();
        for app in [before, enter(&apps, "t", "since")] {
            assert!(app.admit_connection(9).is_ok());
            assert_eq!(app.admit_connection(9), Err(pinwire_shard::Unadmitted::Share));
        }
    }

    #[test]
    fn an_app_is_of_the_license_region_that_its_first_token_names() {
        let apps = Apps::new();
        let first = apps.enter("t", "a", Some("aws-eu-west-1"), 1).unwrap();
        assert_eq!(first.license(), 1);
        assert!(Arc::ptr_eq(&first, &apps.enter("t", "a", None, 1).unwrap()));
        let refused = apps.enter("t", "a", Some("aws-us-east-1"), 2).unwrap_err();
        assert_eq!((&*refused.db_code, Arc::ptr_eq(&first, &refused.app)), ("aws-eu-west-1", true));
        let silent = enter(&apps, "t", "b");
        assert!(Arc::ptr_eq(&silent, &apps.enter("t", "b", Some("aws-eu-west-1"), 0).unwrap()));
        assert!(apps.enter("t", "b", Some("aws-us-east-1"), 0).is_err());
    }
}
