//! All pins, swept page by page. What is shown is the last sweep that was whole, and of the first sweep what has come.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pinwire_admin_api::cluster::{Pin, PinPage};
use pinwire_admin_api::documents::Document;

use super::Millis;

/// A pin, and what is worked out of it once.
#[derive(Clone, Debug)]
pub struct PinRow {
    /// The pin.
    pub pin: Pin,
    /// License region.
    pub db_code: Option<String>,
    /// Names the document.
    pub key: u64,
    /// When it was pinned, by the registry's clock.
    pub since: Option<Millis>,
    /// When the page with it came.
    pub told: Millis,
}

/// What documents at the top of nodes do, of all nodes that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Top {
    /// Sessions.
    pub members: u64,
    /// Edits in a second.
    pub edits: f64,
    /// Their bytes.
    pub bytes: f64,
}

impl Top {
    /// Nodes of one region have the same edits, and members of their own.
    pub(super) fn add(&mut self, document: &Document) {
        self.members += document.members;
        self.edits = self.edits.max(document.edits_per_second);
        self.bytes = self.bytes.max(document.bytes_per_second);
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pins {
    swept: BTreeMap<Option<String>, Sweep>,
    version: u64,
    /// Why the last sweep broke off.
    pub problem: Option<String>,
}

#[derive(Debug, Default)]
struct Sweep {
    whole: Vec<PinRow>,
    coming: Vec<PinRow>,
    at: Option<Millis>,
}

impl Sweep {
    fn rows(&self) -> &[PinRow] {
        if self.at.is_none() { &self.coming } else { &self.whole }
    }
}

impl Pins {
    pub(super) fn page(&mut self, db_code: &Option<String>, is_first: bool, page: PinPage, now: Millis) {
        let sweep = self.swept.entry(db_code.clone()).or_default();
        if is_first {
            sweep.coming.clear();
        }
        let row = |pin: Pin| PinRow {
            key: hash(&pin.tenant, &pin.app, &pin.name),
            since: since(&pin.claim),
            db_code: db_code.clone(),
            told: now,
            pin,
        };
        sweep.coming.extend(page.pins.into_iter().map(row));
        let was_shown = sweep.at.is_none();
        if page.next.is_none() {
            sweep.whole = std::mem::take(&mut sweep.coming);
            sweep.at = Some(now);
            self.problem = None;
        }
        if was_shown || page.next.is_none() {
            self.version += 1;
        }
    }

    pub(super) fn broke_off(&mut self, why: String) {
        self.problem = Some(why);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.swept.values().map(|sweep| sweep.rows().len()).sum()
    }

    /// There is none, or none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One by its number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&PinRow> {
        let mut number = number;
        for sweep in self.swept.values() {
            match sweep.rows().get(number) {
                Some(row) => return Some(row),
                None => number -= sweep.rows().len(),
            }
        }
        None
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &PinRow> {
        self.swept.values().flat_map(|sweep| sweep.rows())
    }

    /// Milliseconds since the oldest of the sweeps ended; missing where one never did.
    #[must_use]
    pub fn age(&self, now: Millis) -> Option<Millis> {
        let ages = self.swept.values().map(|sweep| sweep.at.map(|at| now.saturating_sub(at)));
        ages.fold(None, |most: Option<Option<Millis>>, age| {
            Some(most.map_or(age, |most| most.zip(age).map(|(a, b)| a.max(b))))
        })
        .flatten()
    }

    /// Rises with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// Names a document, for tables.
pub(super) fn hash(tenant: &str, app: &str, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tenant, app, name).hash(&mut hasher);
    hasher.finish()
}

/// The epoch of a claim is microseconds of the registry's clock, as long as that is right.
fn since(claim: &str) -> Option<Millis> {
    let epoch = u64::from_str_radix(claim.split('-').next()?, 16).ok()?;
    /// From 2020 to 2100.
    const PLAUSIBLE: std::ops::Range<u64> = 1_577_836_800_000_000..4_102_444_800_000_000;
    PLAUSIBLE.contains(&epoch).then_some(epoch / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str], next: Option<&str>) -> PinPage {
        let pin = |name: &&str| Pin {
            tenant: "t".into(),
            app: "a".into(),
            name: (*name).into(),
            region: "eu".into(),
            ws_url: String::new(),
            claim: "0005f2a1c3d4e5f8-8c1f0b6f2a9d4e17".into(),
            nodes: Vec::new(),
            grace_seconds: None,
        };
        PinPage { db_code: None, pins: names.iter().map(pin).collect(), next: next.map(str::to_owned) }
    }

    fn names(pins: &Pins) -> Vec<&str> {
        pins.iter().map(|row| row.pin.name.as_str()).collect()
    }

    #[test]
    fn the_first_sweep_is_shown_as_it_comes_and_later_ones_once_they_are_whole() {
        let mut pins = Pins::default();
        pins.page(&None, true, page(&["a", "b"], Some("b")), 1);
        assert_eq!((names(&pins), pins.age(5)), (vec!["a", "b"], None));
        pins.page(&None, false, page(&["c"], None), 2);
        assert_eq!((names(&pins), pins.age(5)), (vec!["a", "b", "c"], Some(3)));
        pins.page(&None, true, page(&["c"], Some("c")), 3);
        assert_eq!(names(&pins), ["a", "b", "c"]);
        pins.page(&None, false, page(&["d"], None), 4);
        assert_eq!(names(&pins), ["c", "d"]);
    }

    #[test]
    fn license_regions_are_swept_apart() {
        let mut pins = Pins::default();
        pins.page(&Some("x".into()), true, page(&["a"], None), 1);
        pins.page(&Some("y".into()), true, page(&["b"], Some("b")), 2);
        assert_eq!((names(&pins), pins.age(5)), (vec!["a", "b"], None));
        assert_eq!(pins.get(1).unwrap().pin.name, "b");
        assert!(pins.get(2).is_none());
    }

    #[test]
    fn an_epoch_that_is_no_time_is_no_age() {
        assert_eq!(since("0005f2a1c3d4e5f8-8c1f0b6f2a9d4e17"), Some(0x0005_f2a1_c3d4_e5f8 / 1000));
        for claim in ["", "0000000000000001-1", "ffffffffffffffff-1", "ä-1"] {
            assert_eq!(since(claim), None);
        }
    }
}
