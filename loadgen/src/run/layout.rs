//! Who is in which document or topic, and on which thread: worked out alike by every process and thread.
//!
//! All clients of a document or topic are on one thread, so that what it checks and times never crosses threads. Groups
//! go to the thread with the fewest clients so far.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::run::Seat;
use crate::run::ledger::{Audience, History};
use crate::scenario::{Kind, RawMode, Scenario};

/// A document, a topic, or one echoing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its number over all processes.
    pub(crate) number: u32,
    /// Members in all.
    pub(crate) members: u32,
    /// The first members, who write.
    pub(crate) writers: u32,
    /// Whether writers read too.
    pub(crate) writers_read: bool,
    /// The last members, who read slowly.
    pub(crate) slow: u32,
    /// Who gets what is written.
    pub(crate) audience: Audience,
    /// Whether newcomers must get the past.
    pub(crate) history: History,
}

impl Group {
    fn document(number: u32, members: u32, writers: u32) -> Self {
        Self {
            number,
            members,
            writers: writers.min(members),
            writers_read: true,
            slow: 0,
            audience: Audience::Others,
            history: History::Whole,
        }
    }

    /// The writer's row among the readers, for each writer.
    pub(crate) fn own_rows(&self) -> Vec<Option<u32>> {
        (0..self.writers).map(|writer| self.writers_read.then_some(writer)).collect()
    }
}

/// All groups of the run.
pub(crate) fn groups(scenario: &Scenario) -> Vec<Group> {
    let count = scenario.clients.count;
    let of = |members: u32, writers: u32| -> Vec<Group> {
        let members = members.max(1);
        let groups = count.div_ceil(members);
        (0..groups)
            .map(|number| Group::document(number, members.min(count - number * members), writers))
            .collect()
    };
    match &scenario.kind {
        Kind::Connect => of(1, 0),
        Kind::Redirect { .. } => (0..count).map(|number| Group::document(number, 2, 1)).collect(),
        Kind::Idle { documents_of, update_at_end, .. } => of(*documents_of, u32::from(*update_at_end)),
        Kind::Churn { documents_of, .. } => of(*documents_of, 1),
        Kind::ReconnectStorm { documents_of, .. } => of(*documents_of, 1),
        Kind::Document { documents, members, writers, .. } => {
            (0..*documents).map(|number| Group::document(number, *members, *writers)).collect()
        }
        Kind::Soak { documents, members, .. } => {
            (0..*documents).map(|number| Group::document(number, *members, *members)).collect()
        }
        Kind::SlowReader { documents, members, slow, .. } => (0..*documents)
            .map(|number| Group { slow: *slow, ..Group::document(number, *members, members - slow) })
            .collect(),
        Kind::Fanout { .. } => vec![Group::document(0, count, 1)],
        Kind::Hot { documents, skew, .. } => {
            let sizes = zipf(count, *documents, *skew);
            (0..).zip(sizes).map(|(number, members)| Group::document(number, members, 1)).collect()
        }
        Kind::Raw { mode: RawMode::Echo, .. } => (0..count)
            .map(|number| Group {
                audience: Audience::All,
                history: History::None,
                ..Group::document(number, 1, 1)
            })
            .collect(),
        Kind::Raw { mode, topics, publishers, .. } => {
            let share = |all: u32, number: u32| all / topics + u32::from(number < all % topics);
            let audience = if *mode == RawMode::BroadcastAll { Audience::All } else { Audience::Others };
            (0..*topics)
                .map(|number| {
                    let (subscribers, publishers) = (share(count, number), share(*publishers, number));
                    let writers_read = *mode == RawMode::Members;
                    Group {
                        number,
                        members: if writers_read { subscribers } else { subscribers + publishers },
                        writers: if writers_read { publishers.min(subscribers) } else { publishers },
                        writers_read,
                        slow: 0,
                        audience,
                        history: History::None,
                    }
                })
                .collect()
        }
    }
}

/// Sizes that follow Zipf's law, at least two each, with `count` in all where that leaves two for each.
fn zipf(count: u32, documents: u32, skew: f64) -> Vec<u32> {
    let weights: Vec<f64> = (1..=documents).map(|rank| f64::from(rank).powf(-skew)).collect();
    let total: f64 = weights.iter().sum();
    let spare = count.saturating_sub(2 * documents);
    let mut sizes: Vec<u32> =
        weights.iter().map(|weight| 2 + (f64::from(spare) * weight / total) as u32).collect();
    let placed: u32 = sizes.iter().sum();
    if let Some(first) = sizes.first_mut() {
        *first += count.saturating_sub(placed);
    }
    sizes
}

/// The groups of one thread of one process.
pub(crate) fn share(scenario: &Scenario, seat: Seat, thread: u32, threads: u32) -> Vec<Group> {
    let own = (seat.index * threads + thread) as usize;
    let mut mine = Vec::new();
    spread(scenario, seat.of * threads, |thread, group| {
        if thread == own {
            mine.push(group);
        }
    });
    mine
}

/// Clients of each thread of all processes.
pub(crate) fn clients(scenario: &Scenario, threads: u32) -> Vec<u64> {
    let mut clients = vec![0; threads as usize];
    spread(scenario, threads, |thread, group| clients[thread] += u64::from(group.members));
    clients
}

fn spread(scenario: &Scenario, threads: u32, mut give: impl FnMut(usize, Group)) {
    // The lightest first, and of those that are alike the first.
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> =
        (0..threads as usize).map(|at| Reverse((0, at))).collect();
    for group in groups(scenario) {
        if let Some(Reverse((load, thread))) = loads.pop() {
            loads.push(Reverse((load + u64::from(group.members), thread)));
            give(thread, group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::presets;

    fn scenario(name: &str, count: u32) -> Scenario {
        let mut scenario = presets::preset(name).unwrap();
        scenario.clients.count = count;
        scenario
    }

    #[test]
    fn every_group_is_on_exactly_one_thread() {
        for name in presets::NAMES {
            let scenario = scenario(name, 103);
            let all = groups(&scenario);
            let mut shared: Vec<Group> = (0..3)
                .flat_map(|index| (0..2).map(move |thread| (index, thread)))
                .flat_map(|(index, thread)| share(&scenario, Seat { index, of: 3 }, thread, 2))
                .collect();
            shared.sort_by_key(|group| group.number);
            assert_eq!(shared, all, "{name}");
        }
    }

    #[test]
    fn the_last_document_has_what_is_left() {
        let groups = groups(&scenario("idle", 103));
        assert_eq!(groups.iter().map(|group| group.members).sum::<u32>(), 103);
        assert_eq!(groups.last().map(|group| group.members), Some(3));
    }

    #[test]
    fn publishers_stand_beside_subscribers_or_among_them() {
        let mut scenario = scenario("raw", 10);
        for (mode, sizes) in [(RawMode::Broadcast, (7, 2)), (RawMode::Members, (5, 2))] {
            if let Kind::Raw { mode: of, topics, publishers, .. } = &mut scenario.kind {
                (*of, *topics, *publishers) = (mode, 2, 4);
            }
            let groups = groups(&scenario);
            assert!(groups.iter().all(|group| (group.members, group.writers) == sizes), "{groups:?}");
        }
    }

    #[test]
    fn hot_documents_are_huge_and_all_have_two_members() {
        let sizes = zipf(10_000, 1_000, 1.0);
        assert_eq!(sizes.iter().sum::<u32>(), 10_000);
        assert!(sizes[0] > 1_000 && sizes[999] <= 3);
    }
}
