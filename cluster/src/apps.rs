//! What is said and learnt about apps with each renewal.

use pinwire_registry::{AppName, AppRecord, AppUse};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Apps in one renewal of which something changed.
const CHANGED: usize = 1_000;
/// Apps in one renewal of which nothing did. A renewal that came late may have overwritten what was said later: so each is said
/// again in turn.
const REPEATED: usize = 50;
/// Renewals that say that an app is not used (any more), for the same reason.
const IDLE: u32 = 6;
/// Versions in one renewal.
const VERSIONS: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Apps {
    uses: BTreeMap<AppName, Use>,
    /// The last one that was repeated.
    repeated: Option<AppName>,
    versions: BTreeMap<AppName, u64>,
    /// The last one whose version was said.
    asked: Option<AppName>,
}

#[derive(Debug)]
struct Use {
    usage: AppUse,
    is_told: bool,
    /// What the registry knows that is wanted.
    asked: u32,
    /// Renewals that said that it is not used.
    idle: u32,
}

impl Apps {
    pub(crate) fn set(&mut self, usage: AppUse) {
        let known = self.uses.get(&usage.app);
        if known.is_some_and(|known| known.usage == usage) {
            return;
        }
        let asked = known.map_or(0, |known| known.asked);
        self.uses.insert(usage.app.clone(), Use { usage, is_told: false, asked, idle: 0 });
    }

    pub(crate) fn know(&mut self, app: AppName, version: u64) {
        self.versions.insert(app, version);
    }

    pub(crate) fn forget(&mut self, app: &AppName) {
        self.versions.remove(app);
    }

    pub(crate) fn learn(&mut self, records: &[(AppName, AppRecord)]) {
        for (app, record) in records {
            if let Some(version) = self.versions.get_mut(app) {
                *version = record.version;
            }
        }
    }

    /// What the next renewal says.
    pub(crate) fn for_renewal(&mut self) -> (Vec<AppUse>, Vec<(AppName, u64)>) {
        let changed = self.uses.values().filter(|usage| !usage.is_told).take(CHANGED);
        let mut uses: Vec<AppUse> = changed.map(|usage| usage.usage.clone()).collect();
        let told = turn(&self.uses, &mut self.repeated, REPEATED);
        uses.extend(told.filter(|(_, usage)| usage.is_told).map(|(_, usage)| usage.usage.clone()));
        let versions = turn(&self.versions, &mut self.asked, VERSIONS);
        (uses, versions.map(|(app, version)| (app.clone(), *version)).collect())
    }

    /// The registry knows what a renewal said. Apps that have not been used for a while are of no interest any more.
    pub(crate) fn told(&mut self, uses: &[AppUse]) {
        for said in uses {
            let Some(known) = self.uses.get_mut(&said.app) else { continue };
            known.asked = said.wanted;
            if known.usage != *said {
                continue;
            }
            known.is_told = true;
            if said.connections == 0 && said.wanted == 0 {
                known.idle += 1;
                if known.idle == IDLE {
                    self.uses.remove(&said.app);
                }
            }
        }
    }

    /// What the registry was asked for, as far as it heard.
    pub(crate) fn asked(&self, app: &AppName) -> u32 {
        self.uses.get(app).map_or(0, |known| known.asked)
    }

    /// The registry may have forgotten what it was told.
    pub(crate) fn tell_everything(&mut self) {
        for usage in self.uses.values_mut() {
            (usage.is_told, usage.asked) = (false, 0);
        }
    }
}

/// The next `count` entries after `last`, from the beginning again at the end.
fn turn<'a, T>(
    map: &'a BTreeMap<AppName, T>,
    last: &mut Option<AppName>,
    count: usize,
) -> impl Iterator<Item = (&'a AppName, &'a T)> + use<'a, T> {
    let after = last.take().map_or(Bound::Unbounded, Bound::Excluded);
    let (later, earlier) = match &after {
        Bound::Excluded(app) => (map.range((after.clone(), Bound::Unbounded)), Some(map.range(..=app))),
        _ => (map.range::<AppName, _>(..), None),
    };
    let entries: Vec<_> = later.chain(earlier.into_iter().flatten()).take(count).collect();
    *last = entries.last().map(|(app, _)| (*app).clone());
    entries.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName(name.into())
    }

    fn usage(name: &str, connections: u32) -> AppUse {
        AppUse { app: app(name), connections, wanted: connections, max_connections: 100 }
    }

    #[test]
    fn what_changed_is_said_until_it_was_heard_and_the_rest_in_turn() {
        let mut apps = Apps::default();
        apps.set(usage("a", 1));
        let (first, _) = apps.for_renewal();
        assert_eq!(first, [usage("a", 1)]);
        apps.set(usage("a", 2));
        apps.told(&first);
        assert_eq!(apps.for_renewal().0, [usage("a", 2)], "what was heard is an older one");
        apps.told(&[usage("a", 2)]);
        assert_eq!(apps.for_renewal().0, [usage("a", 2)], "its turn");
        apps.set(usage("a", 0));
        for _ in 0..IDLE {
            assert_eq!(apps.for_renewal().0, [usage("a", 0)]);
            apps.told(&[usage("a", 0)]);
        }
        assert!(apps.for_renewal().0.is_empty());
    }

    #[test]
    fn what_was_asked_for_is_what_was_heard_and_not_what_is_wanted_since() {
        let mut apps = Apps::default();
        apps.set(usage("a", 1));
        let (first, _) = apps.for_renewal();
        apps.set(usage("a", 7));
        assert_eq!(apps.asked(&app("a")), 0);
        apps.told(&first);
        assert_eq!((apps.asked(&app("a")), apps.asked(&app("b"))), (1, 0));
        apps.told(&[usage("a", 7)]);
        apps.set(usage("a", 0));
        assert_eq!(apps.asked(&app("a")), 7);
        apps.tell_everything();
        assert_eq!(apps.asked(&app("a")), 0);
    }

    #[test]
    fn each_app_has_its_turn() {
        let mut apps = Apps::default();
        for number in 0..REPEATED * 2 + 7 {
            let usage = usage(&format!("{number:03}"), 1);
            apps.set(usage.clone());
            apps.told(&[usage]);
        }
        let mut said = BTreeMap::new();
        for _ in 0..3 {
            let (uses, _) = apps.for_renewal();
            assert_eq!(uses.len(), REPEATED);
            for usage in uses {
                *said.entry(usage.app).or_insert(0) += 1;
            }
        }
        assert_eq!(said.len(), REPEATED * 2 + 7);
    }

    #[test]
    fn versions_follow_what_is_learnt() {
        let mut apps = Apps::default();
        apps.know(app("a"), 1);
        apps.learn(&[(app("a"), AppRecord { version: 2, record: None })]);
        apps.learn(&[(app("b"), AppRecord { version: 2, record: None })]);
        assert_eq!(apps.for_renewal().1, [(app("a"), 2)]);
        apps.forget(&app("a"));
        assert!(apps.for_renewal().1.is_empty());
    }
}
