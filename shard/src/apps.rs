//! The apps that a thread has connections or documents of, by small numbers.

use crate::slab::Slab;
use crate::{App, AppLimits};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Number of an app on this thread.
pub(crate) type AppId = u32;

#[derive(Debug)]
struct Known {
    app: Arc<App>,
    /// By the token seen last.
    limits: AppLimits,
    /// Connections and documents that refer to it.
    uses: u32,
    /// Operations leased in `minute` that are still unused.
    lease: u32,
    minute: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Apps {
    known: Slab<Known>,
    by_name: HashMap<(Box<str>, Box<str>), AppId, FixedState>,
}

impl Apps {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: Slab::default(), by_name: HashMap::with_hasher(FixedState::with_seed(seed)) }
    }

    /// The app's number, kept until [`Self::release`].
    pub(crate) fn acquire(&mut self, app: &Arc<App>, limits: AppLimits) -> AppId {
        app.note_limits(&limits);
        let name = (app.tenant().into(), app.id().into());
        let known = &mut self.known;
        let id = *self.by_name.entry(name).or_insert_with(|| {
            known.insert(Known { app: Arc::clone(app), limits, uses: 0, lease: 0, minute: 0 })
        });
        if let Some(known) = known.get_mut(id) {
            known.uses += 1;
            known.limits = limits;
        }
        id
    }

    pub(crate) fn release(&mut self, id: AppId) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.uses -= 1;
        if known.uses == 0 {
            if known.lease > 0 {
                known.app.return_operations(known.minute, known.lease);
            }
            self.by_name.remove(&(known.app.tenant().into(), known.app.id().into()));
            self.known.remove(id);
        }
    }

    pub(crate) fn get(&self, id: AppId) -> Option<&Arc<App>> {
        self.known.get(id).map(|known| &known.app)
    }

    /// Whether the app is of one of these license regions: a bit for each number.
    pub(crate) fn is_of(&self, id: AppId, licenses: u64) -> bool {
        // Nearly always there are none.
        licenses != 0 && self.known.get(id).is_some_and(|known| licenses & known.app.license_bit() != 0)
    }

    pub(crate) fn limits(&self, id: AppId) -> AppLimits {
        self.known.get(id).map_or(AppLimits::UNLIMITED, |known| known.limits)
    }

    /// Whether the app may do one more operation now, without doing it.
    pub(crate) fn has_operations(&mut self, id: AppId, now_ms: u64) -> bool {
        self.known.get_mut(id).is_none_or(|known| known.refill(now_ms))
    }

    /// Does one operation; false if the minute's are used up.
    pub(crate) fn take_operation(&mut self, id: AppId, now_ms: u64) -> bool {
        let Some(known) = self.known.get_mut(id) else { return true };
        let has_any = known.refill(now_ms);
        known.lease = known.lease.saturating_sub(1);
        has_any
    }
}

impl Known {
    fn refill(&mut self, now_ms: u64) -> bool {
        let limit = self.limits.operations_per_minute;
        if limit == u32::MAX {
            return true;
        }
        let minute = (now_ms / 60_000) as u32;
        if self.minute != minute {
            self.minute = minute;
            self.lease = 0;
        }
        if self.lease == 0 {
            self.lease = self.app.lease_operations(minute, limit);
        }
        self.lease > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_together_do_no_more_operations_than_the_app_may() {
        let app = Arc::new(App::new("t", "a"));
        let limits = AppLimits { operations_per_minute: 100, ..AppLimits::UNLIMITED };
        let mut threads = [Apps::new(1), Apps::new(2)];
        let ids = [threads[0].acquire(&app, limits), threads[1].acquire(&app, limits)];
        let mut done = 0;
        for round in 0..500 {
            done += u32::from(threads[round % 2].take_operation(ids[round % 2], 5_000));
        }
        assert_eq!(done, 100);
        assert!(threads[0].take_operation(ids[0], 65_000), "a new minute");
    }

    #[test]
    fn an_app_that_comes_and_goes_keeps_the_operations_that_it_did_not_do() {
        let app = Arc::new(App::new("t", "a"));
        let limits = AppLimits { operations_per_minute: 1000, ..AppLimits::UNLIMITED };
        let mut apps = Apps::new(1);
        let mut done = 0;
        for visit in 0..2000 {
            let id = apps.acquire(&app, limits);
            done += u32::from(visit % 2 == 0 && apps.take_operation(id, 5_000));
            let _ = apps.has_operations(id, 5_000);
            apps.release(id);
        }
        assert_eq!(done, 1000);
    }

    #[test]
    fn idle_threads_leave_operations_for_the_others() {
        let app = Arc::new(App::new("t", "a"));
        let limits = AppLimits { operations_per_minute: 10_000, ..AppLimits::UNLIMITED };
        let mut threads: Vec<Apps> = (0..128).map(Apps::new).collect();
        for apps in &mut threads {
            let id = apps.acquire(&app, limits);
            assert!(apps.has_operations(id, 5_000));
        }
    }

    #[test]
    fn an_app_is_forgotten_with_its_last_use() {
        let app = Arc::new(App::new("t", "a"));
        let mut apps = Apps::new(1);
        let id = apps.acquire(&app, AppLimits::UNLIMITED);
        assert_eq!(apps.acquire(&app, AppLimits::UNLIMITED), id);
        apps.release(id);
        assert!(apps.get(id).is_some());
        apps.release(id);
        assert!(apps.get(id).is_none() && apps.by_name.is_empty());
    }
}
