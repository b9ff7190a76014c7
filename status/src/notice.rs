//! Maintenance that was announced.

use serde::{Deserialize, Serialize};

use crate::{At, DAY, KEPT_DAYS, REGIONS_MAX};

/// Characters of a title.
const TITLE_MAX: usize = 120;
/// Characters of a text.
const TEXT_MAX: usize = 2000;
/// Characters of a region's name, and of an id.
const NAME_MAX: usize = 128;
/// How far ahead maintenance may end.
const AHEAD_DAYS: u64 = 366;

/// What is announced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Announcement {
    /// Which regions are worked on.
    pub regions: Vec<String>,
    /// From when.
    pub from: At,
    /// To when; then it is over.
    pub to: At,
    /// In a few words.
    pub title: String,
    /// In more words.
    pub text: String,
}

/// An announcement as it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for all its revisions, and on all boards.
    pub id: String,
    /// Counts from 1. Of two revisions the higher one holds.
    pub revision: u64,
    /// When this revision was made.
    pub revised: At,
    /// Nobody has to know of it any more after this.
    pub kept_until: At,
    /// It was called off. It is kept all the same: a board that was away must not bring it back.
    pub is_withdrawn: bool,
    /// What it says.
    pub told: Announcement,
}

/// Where a notice is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is to come.
    Planned,
    /// It is now.
    Underway,
    /// It was.
    Over,
    /// It was called off.
    Withdrawn,
}

impl Phase {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Underway => "underway",
            Self::Over => "over",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What is wrong with an announcement, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {what}")]
pub struct Wrong {
    /// Of which part.
    pub field: &'static str,
    /// What.
    pub what: String,
}

impl Announcement {
    /// Whether it can be announced now.
    ///
    /// # Errors
    /// It cannot, for this reason.
    pub fn check(&self, now: At) -> Result<(), Wrong> {
        self.check_form()?;
        if self.to <= now {
            return wrong("to", format!("lies in the past: it is {now}"));
        }
        if self.to > now.plus(AHEAD_DAYS * DAY) {
            return wrong("to", format!("lies more than {AHEAD_DAYS} days ahead; announce it later"));
        }
        Ok(())
    }

    /// What does not depend on the time.
    fn check_form(&self) -> Result<(), Wrong> {
        if self.regions.is_empty() || self.regions.len() > REGIONS_MAX {
            return wrong("regions", format!("has to name between 1 and {REGIONS_MAX} regions"));
        }
        if let Some(name) = self.regions.iter().find(|name| !is_name(name)) {
            return wrong("regions", format!("names {name:?}, which is no region"));
        }
        check_text("title", &self.title, TITLE_MAX)?;
        check_text("text", &self.text, TEXT_MAX)?;
        if self.title.trim().is_empty() || self.title.contains('\n') {
            return wrong("title", "has to be one line that says something");
        }
        if self.to <= self.from {
            return wrong("to", format!("does not lie behind from, {}", self.from));
        }
        Ok(())
    }
}

fn wrong<T>(field: &'static str, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { field, what: what.into() })
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), Wrong> {
    if text.chars().count() > most {
        return wrong(field, format!("has more than {most} characters"));
    }
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(c) => wrong(field, format!("contains {c:?}, a control character; take it away")),
        None => Ok(()),
    }
}

/// Of a region, or an id.
pub(crate) fn is_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is_fine)
}

impl Notice {
    /// The first revision.
    ///
    /// # Errors
    /// It cannot be announced.
    pub fn announce(now: At, id: String, told: Announcement) -> Result<Self, Wrong> {
        told.check(now)?;
        let kept_until = kept_until(&told);
        Ok(Self { id, revision: 1, revised: now, kept_until, is_withdrawn: false, told })
    }

    /// The next revision, which says something else.
    ///
    /// # Errors
    /// It cannot be announced.
    pub fn change(&self, now: At, told: Announcement) -> Result<Self, Wrong> {
        told.check(now)?;
        let kept_until = self.kept_until.max(kept_until(&told));
        Ok(Self { told, kept_until, ..self.next(now) })
    }

    /// The next revision, which calls it off.
    #[must_use]
    pub fn withdraw(&self, now: At) -> Self {
        Self { is_withdrawn: true, ..self.next(now) }
    }

    fn next(&self, now: At) -> Self {
        Self { revision: self.revision.saturating_add(1), revised: now.max(self.revised), ..self.clone() }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self, now: At) -> Phase {
        match () {
            () if self.is_withdrawn => Phase::Withdrawn,
            () if now < self.told.from => Phase::Planned,
            () if now < self.told.to => Phase::Underway,
            () => Phase::Over,
        }
    }

    /// Whether this region is worked on now.
    #[must_use]
    pub fn covers(&self, region: &str, now: At) -> bool {
        self.phase(now) == Phase::Underway && self.told.regions.iter().any(|name| name == region)
    }

    /// Whether it may be taken over from others: they may have another version, or be wrong about the time.
    #[must_use]
    pub(crate) fn is_sound(&self, now: At) -> bool {
        let furthest = now.plus((2 * AHEAD_DAYS + KEPT_DAYS) * DAY);
        is_name(&self.id) && self.kept_until <= furthest && self.told.check_form().is_ok()
    }

    /// What decides which of two revisions holds, the same on every board. Who calls something off at the same time as somebody
    /// changes it prevails.
    pub(crate) fn rank(&self) -> (u64, bool, At, &Announcement) {
        (self.revision, self.is_withdrawn, self.revised, &self.told)
    }
}

/// As long as a board may be away and still have an older revision.
fn kept_until(told: &Announcement) -> At {
    told.to.plus(KEPT_DAYS * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Announcement {
        Announcement {
            regions: vec!["eu-1".to_owned()],
            from: At::unix(1000),
            to: At::unix(2000),
            title: "New servers".to_owned(),
            text: "Clients reconnect\nonce.".to_owned(),
        }
    }

    #[test]
    fn a_notice_goes_through_its_phases() {
        let notice = Notice::announce(At::unix(0), "m1".to_owned(), told()).unwrap();
        for (now, phase) in [(999, Phase::Planned), (1000, Phase::Underway), (2000, Phase::Over)] {
            assert_eq!(notice.phase(At::unix(now)), phase, "{now}");
            assert_eq!(notice.covers("eu-1", At::unix(now)), phase == Phase::Underway);
            assert!(!notice.covers("us-1", At::unix(now)));
            assert_eq!(notice.withdraw(At::unix(now)).phase(At::unix(now)), Phase::Withdrawn);
        }
    }

    #[test]
    fn what_cannot_be_announced_is_told_with_its_place() {
        type Spoil = fn(&mut Announcement);
        let cases: [(&str, Spoil); 9] = [
            ("regions", |told| told.regions.clear()),
            ("regions", |told| told.regions.push("<b>".to_owned())),
            ("title", |told| told.title.clear()),
            ("title", |told| told.title = "two\nlines".to_owned()),
            ("title", |told| told.title = "x".repeat(TITLE_MAX + 1)),
            ("text", |told| told.text = "\u{7}".to_owned()),
            ("to", |told| told.to = told.from),
            ("to", |told| (told.from, told.to) = (At::unix(1), At::unix(100))),
            ("to", |told| told.to = At::unix(1000 * DAY)),
        ];
        let now = At::unix(500);
        assert_eq!(told().check(now), Ok(()));
        for (number, (field, spoil)) in cases.into_iter().enumerate() {
            let mut told = told();
            spoil(&mut told);
            assert_eq!(told.check(now).map_err(|wrong| wrong.field), Err(field), "{number}");
        }
    }

    #[test]
    fn a_notice_is_kept_as_long_as_the_longest_of_its_revisions() {
        let long = Announcement { to: At::unix(9000), ..told() };
        let first = Notice::announce(At::unix(0), "m1".to_owned(), long).unwrap();
        let second = first.change(At::unix(1), told()).unwrap().withdraw(At::unix(2));
        assert_eq!((second.revision, second.kept_until), (3, first.kept_until));
    }
}
