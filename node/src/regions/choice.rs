//! The best region for a client with a new document.

use std::time::Duration;

use super::{Catalogue, Condition, Place};

/// A region that lacks something it relies on is as good as a healthy one that is so much farther away.
const DEGRADED_MS: f64 = 50.0;
/// One that is full likewise; one that is half full a quarter of it.
const FULL_MS: f64 = 100.0;
/// How far a region is that nobody has measured.
const UNKNOWN: Duration = Duration::from_millis(500);

impl Catalogue {
    /// The best of the regions that are `allowed`: the one that the client's token prefers, if it is up, else a sibling cluster
    /// of that, else the one that is nearest from here, not counting one that is degraded or full as near. Where none is up it
    /// is one that may come back: the preferred one, this one, any.
    #[must_use]
    pub fn best(&self, preferred: Option<&str>, allowed: impl Fn(&str) -> bool) -> Option<&Place> {
        let allowed: Vec<&Place> = self.iter().filter(|place| allowed(place.name())).collect();
        let open: Vec<&Place> = allowed.iter().copied().filter(|place| place.is_open()).collect();
        let named = |places: &[&'_ Place]| -> Option<usize> {
            places.iter().position(|place| Some(place.name()) == preferred)
        };
        if let Some(at) = named(&open) {
            return open.get(at).copied();
        }
        let siblings = open
            .iter()
            .copied()
            .filter(|place| preferred.is_some_and(|name| are_siblings(name, place.name())));
        if let Some(sibling) = self.nearest(siblings) {
            return Some(sibling);
        }
        self.nearest(open.iter().copied())
            .or_else(|| {
                named(&allowed)
                    .and_then(|at| allowed.get(at).copied())
                    .filter(|place| !place.url().is_empty())
            })
            .or_else(|| allowed.into_iter().find(|place| !place.url().is_empty()))
    }

    fn nearest<'a>(&'a self, places: impl Iterator<Item = &'a Place>) -> Option<&'a Place> {
        places.min_by(|one, other| self.distance(one).total_cmp(&self.distance(other)))
    }

    /// In milliseconds, with what makes a region worse than far.
    fn distance(&self, place: &Place) -> f64 {
        let seen = place.seen();
        let round_trip = match seen.and_then(|seen| seen.round_trip) {
            Some(round_trip) => round_trip,
            None if std::ptr::eq(place, self.own()) => Duration::ZERO,
            None => UNKNOWN,
        };
        let is_degraded = seen.is_some_and(|seen| seen.condition == Condition::Degraded);
        let occupancy = seen.and_then(|seen| seen.occupancy).unwrap_or(0.0);
        round_trip.as_secs_f64() * 1000.0
            + if is_degraded { DEGRADED_MS } else { 0.0 }
            + FULL_MS * occupancy * occupancy
    }
}

/// Whether two regions are clusters of one area, as `eu-central-1` and `eu-central-2` are.
fn are_siblings(one: &str, other: &str) -> bool {
    let area = |name: &'_ str| -> Option<usize> {
        let (area, number) = name.rsplit_once('-')?;
        (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(area.len())
    };
    match (area(one), area(other)) {
        (Some(at), Some(other_at)) => one != other && one[..at] == other[..other_at],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sight;
    use super::*;
    use crate::config::{RegionEntry, RegionStatus};

    fn catalogue(statuses: &[(&str, RegionStatus)]) -> Catalogue {
        let entry = |(name, status): &(&str, RegionStatus)| RegionEntry {
            name: (*name).to_owned(),
            url: format!("wss://{name}.example.net"),
            status: *status,
            area: None,
        };
        let entries: Vec<RegionEntry> = statuses.iter().map(entry).collect();
        Catalogue::new("eu-central-1", "wss://eu-central-1.example.net", &entries)
    }

    fn all_live() -> Catalogue {
        let names = ["eu-central-1", "eu-central-2", "us-east-1", "us-east-2", "us-east-10", "ap-south-1"];
        catalogue(&names.map(|name| (name, RegionStatus::Live)))
    }

    fn see(catalogue: &Catalogue, name: &str, millis: u64, condition: Condition, occupancy: f64) {
        let sight = Sight::answered(None, Duration::from_millis(millis), condition, Some(occupancy));
        catalogue.get(name).unwrap().see(sight);
    }

    fn best<'a>(catalogue: &'a Catalogue, preferred: &str) -> &'a str {
        let preferred = Some(preferred).filter(|name| !name.is_empty());
        catalogue.best(preferred, |_| true).unwrap().name()
    }

    #[test]
    fn the_preferred_region_wins_while_it_is_up_however_far() {
        let catalogue = all_live();
        assert_eq!(best(&catalogue, "us-east-1"), "us-east-1", "not looked at yet");
        see(&catalogue, "us-east-1", 120, Condition::Degraded, 0.99);
        assert_eq!(best(&catalogue, "us-east-1"), "us-east-1");
        assert_eq!(best(&catalogue, ""), "eu-central-1");
        assert_eq!(best(&catalogue, "mars-1"), "eu-central-1");
    }

    #[test]
    fn a_sibling_cluster_takes_the_place_of_one_that_is_down() {
        let catalogue = all_live();
        for down in [Condition::Overloaded, Condition::Draining, Condition::Unreachable] {
            see(&catalogue, "us-east-1", 90, down, 0.1);
            see(&catalogue, "us-east-2", 95, Condition::Healthy, 0.1);
            see(&catalogue, "us-east-10", 91, Condition::Healthy, 0.1);
            assert_eq!(best(&catalogue, "us-east-1"), "us-east-10", "{down:?}");
        }
        see(&catalogue, "us-east-10", 91, Condition::Healthy, 0.9);
        assert_eq!(best(&catalogue, "us-east-1"), "us-east-2", "the other is nearly full");
        see(&catalogue, "us-east-2", 95, Condition::Unreachable, 0.1);
        see(&catalogue, "us-east-10", 91, Condition::Unreachable, 0.1);
        assert_eq!(best(&catalogue, "us-east-1"), "eu-central-1", "the nearest from here");
    }

    #[test]
    fn otherwise_it_is_the_nearest_and_not_one_that_is_degraded_or_full() {
        let catalogue = all_live();
        see(&catalogue, "eu-central-1", 0, Condition::Draining, 0.0);
        see(&catalogue, "us-east-1", 90, Condition::Healthy, 0.0);
        see(&catalogue, "ap-south-1", 110, Condition::Healthy, 0.0);
        assert_eq!(best(&catalogue, ""), "us-east-1");
        see(&catalogue, "us-east-1", 90, Condition::Degraded, 0.0);
        assert_eq!(best(&catalogue, ""), "ap-south-1");
        see(&catalogue, "ap-south-1", 110, Condition::Healthy, 0.9);
        assert_eq!(best(&catalogue, ""), "us-east-1");
    }

    #[test]
    fn only_regions_that_are_live_and_allowed_are_chosen() {
        let catalogue = catalogue(&[
            ("eu-central-1", RegionStatus::Live),
            ("us-east-1", RegionStatus::Maintenance),
            ("us-east-2", RegionStatus::Live),
            ("ap-south-1", RegionStatus::ComingSoon),
        ]);
        assert_eq!(best(&catalogue, "us-east-1"), "us-east-2");
        assert_eq!(best(&catalogue, "ap-south-1"), "eu-central-1");
        let only = |allowed: &'static str| catalogue.best(Some("eu-central-1"), move |name| name == allowed);
        assert_eq!(only("us-east-2").unwrap().name(), "us-east-2");
        assert_eq!(only("us-east-1").unwrap().name(), "us-east-1", "it may be all there is");
        assert!(only("mars-1").is_none());
    }

    #[test]
    fn where_none_is_up_the_client_is_sent_where_it_belongs() {
        let catalogue = all_live();
        let names: Vec<String> = catalogue.iter().map(|place| place.name().to_owned()).collect();
        names.iter().for_each(|name| see(&catalogue, name, 10, Condition::Overloaded, 1.0));
        assert_eq!(best(&catalogue, "us-east-2"), "us-east-2");
        assert_eq!(best(&catalogue, ""), "eu-central-1");
    }

    #[test]
    fn clusters_of_an_area_differ_in_their_number_only() {
        assert!(are_siblings("eu-central-1", "eu-central-12"));
        for (one, other) in [
            ("eu-central-1", "eu-central-1"),
            ("eu-central-1", "eu-west-1"),
            ("a", "b"),
            ("a-x", "a-y"),
            ("a-", "a-1"),
        ] {
            assert!(!are_siblings(one, other), "{one} {other}");
        }
    }
}
