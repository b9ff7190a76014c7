//! All notices of maintenance that a board knows, its own and those that it learnt from others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::{ANNOUNCED_MAX, Announcement, At, Notice, Wrong};

/// Notices at most, with those that others sent; beyond it those go that nobody needs to know of soonest.
const NOTICES_MAX: usize = 2 * ANNOUNCED_MAX;

/// Notices by id. Merging is commutative, associative and idempotent, as long as there are not more than fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices(BTreeMap<String, Notice>);

/// No more can be announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are too many.
    #[error(
        "{ANNOUNCED_MAX} notices are known already, those of the past 90 days included; change one of them instead"
    )]
    Full,
    /// It says something that cannot be announced.
    #[error(transparent)]
    Wrong(#[from] Wrong),
}

impl Notices {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Notice> {
        self.0.values()
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Notice> {
        self.0.get(id)
    }

    /// The notice under which a region is worked on now, if there is one: the one that began first.
    #[must_use]
    pub fn covering(&self, region: &str, now: At) -> Option<&Notice> {
        self.iter().filter(|notice| notice.covers(region, now)).min_by_key(|notice| notice.told.from)
    }

    /// A new one, which is not in here yet.
    ///
    /// # Errors
    /// There are too many, or it cannot be announced.
    pub fn announce(&self, now: At, id: String, told: Announcement) -> Result<Notice, Full> {
        let notice = Notice::announce(now, id, told)?;
        if self.iter().filter(|known| known.kept_until > now).count() >= ANNOUNCED_MAX {
            return Err(Full::Full);
        }
        Ok(notice)
    }

    /// Takes one over, unless what is known holds against it; true if that is news.
    pub fn merge(&mut self, now: At, other: Notice) -> bool {
        if !other.is_sound(now) || other.kept_until <= now {
            return false;
        }
        match self.0.entry(other.id.clone()) {
            Entry::Vacant(entry) => {
                let id = entry.insert(other).id.clone();
                self.make_room();
                self.0.contains_key(&id)
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                let kept_until = known.kept_until.max(other.kept_until);
                let is_news = other.rank() > known.rank();
                if is_news {
                    *known = other;
                }
                known.kept_until = kept_until;
                is_news
            }
        }
    }

    /// Forgets what nobody needs to know any more.
    pub fn tidy(&mut self, now: At) {
        self.0.retain(|_, notice| notice.kept_until > now);
    }

    fn make_room(&mut self) {
        while self.0.len() > NOTICES_MAX {
            let first = self.0.values().min_by_key(|notice| (notice.kept_until, &notice.id));
            let Some(id) = first.map(|notice| notice.id.clone()) else { return };
            self.0.remove(&id);
        }
    }
}
