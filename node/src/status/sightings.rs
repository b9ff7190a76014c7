//! How regions look from here, in states and words.

use pinwire_status::State;

use crate::config::RegionStatus;
use crate::regions::{Catalogue, Condition, Place};

/// How a region looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting<'a> {
    pub(super) region: &'a str,
    pub(super) state: State,
    pub(super) words: &'static str,
}

/// How all regions look that somebody has looked at; the own one as the best of its nodes does, since each of them serves any
/// document.
pub(super) fn all<'a>(catalogue: &'a Catalogue, own: Condition) -> impl Iterator<Item = Sighting<'a>> {
    let mine = Some(of(catalogue.own(), Some(own)));
    let others = catalogue.others().map(|place| of(place, place.seen().map(|seen| seen.condition)));
    mine.into_iter().chain(others).flatten()
}

/// Regions that there are for clients.
pub(super) fn published(catalogue: &Catalogue) -> impl Iterator<Item = &Place> {
    catalogue.iter().filter(|place| place.status() != RegionStatus::ComingSoon)
}

fn of(place: &Place, seen: Option<Condition>) -> Option<Sighting<'_>> {
    let (state, words) = match (place.status(), seen) {
        (RegionStatus::ComingSoon, _) | (RegionStatus::Live, None) => return None,
        (RegionStatus::Maintenance, _) => {
            (State::Maintenance, "It serves what it has; new documents are opened elsewhere.")
        }
        (RegionStatus::Live, Some(seen)) => told(seen),
    };
    Some(Sighting { region: place.name(), state, words })
}

fn told(seen: Condition) -> (State, &'static str) {
    match seen {
        Condition::Healthy => (State::Operational, ""),
        Condition::Degraded => (State::Degraded, "It serves; something that it relies on is away."),
        Condition::Overloaded => {
            (State::Degraded, "It takes no new clients for now; those that are connected are served.")
        }
        Condition::Draining => {
            (State::Degraded, "It takes no new clients; those that are connected are served.")
        }
        Condition::Unreachable => (State::Unavailable, "It does not answer."),
    }
}

/// The best of what the nodes of a region say of themselves.
pub(super) fn best(words: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Condition> {
    const BEST_FIRST: [Condition; 4] =
        [Condition::Healthy, Condition::Degraded, Condition::Overloaded, Condition::Draining];
    let place = |word: &str| BEST_FIRST.iter().position(|condition| condition.word() == word);
    words.into_iter().filter_map(|word| place(word.as_ref())).min().map(|place| BEST_FIRST[place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegionEntry;
    use crate::regions::Sight;

    #[test]
    fn a_region_is_as_the_best_of_its_nodes() {
        assert_eq!(best(["overloaded", "degraded", "draining"]), Some(Condition::Degraded));
        assert_eq!(best(["draining", "added-later"]), Some(Condition::Draining));
        assert_eq!(best(["added-later"]), None);
    }

    #[test]
    fn regions_that_nobody_looked_at_or_that_are_not_there_yet_are_not_told() {
        let entry = |name: &str, status| RegionEntry {
            name: name.to_owned(),
            url: format!("ws://{name}.example.net"),
            status,
            area: None,
        };
        let entries = [
            entry("us-1", RegionStatus::Live),
            entry("us-2", RegionStatus::Live),
            entry("ap-1", RegionStatus::ComingSoon),
            entry("ap-2", RegionStatus::Maintenance),
        ];
        let catalogue = Catalogue::new("eu-1", "ws://127.0.0.1:1", &entries);
        catalogue.get("us-1").unwrap().see(Sight::missed(None));
        let told = |own| -> Vec<(String, State)> {
            all(&catalogue, own).map(|seen| (seen.region.to_owned(), seen.state)).collect()
        };
        let expected = |own| {
            [("eu-1", own), ("us-1", State::Unavailable), ("ap-2", State::Maintenance)]
                .map(|(name, state)| (name.to_owned(), state))
                .to_vec()
        };
        assert_eq!(told(Condition::Healthy), expected(State::Operational));
        for ill in [Condition::Degraded, Condition::Overloaded, Condition::Draining] {
            assert_eq!(told(ill), expected(State::Degraded), "{ill:?}");
        }
        let names: Vec<&str> = published(&catalogue).map(Place::name).collect();
        assert_eq!(names, ["eu-1", "us-1", "us-2", "ap-2"]);
    }
}
