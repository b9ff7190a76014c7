//! How this node's own region looks: as the node does, or as others of it do where it takes nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pinwire_shed::Part;

use super::{Condition, Sight};
use crate::shedding::Health;

/// What other nodes are told of this one.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its name in the pool of the region's nodes.
    pub(crate) node: Arc<str>,
    /// Its state.
    pub health: Arc<Health>,
    /// Upgraded connections, and how many there may be.
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) max_connections: u32,
}

impl Own {
    /// From 0, nothing, to 1, full: of what there is least of. In thousandths.
    #[must_use]
    pub fn occupancy(&self) -> f64 {
        let connections = self.connections.load(Ordering::Relaxed);
        let of_connections = f64::from(connections) / f64::from(self.max_connections.max(1));
        let load = self.health.standing().load;
        let others = [load.memory.map(Part::share), load.cpu];
        let fuller = others.into_iter().flatten().fold(of_connections, f64::max).clamp(0.0, 1.0);
        (fuller * 1000.0).round() / 1000.0
    }

    /// As other regions are seen. A region takes clients as long as one of its nodes does: who asks this one, while it takes nobody, is
    /// not to be sent elsewhere for good.
    #[must_use]
    pub fn sight(&self, now: Instant) -> Sight {
        let condition = Condition::from(self.health.status());
        let (condition, occupancy) = match self.stand_in(now).filter(|_| !condition.is_up()) {
            Some(occupancy) => (Condition::Degraded, occupancy),
            None => (condition, self.occupancy()),
        };
        Sight::answered(None, Duration::ZERO, condition, Some(occupancy))
    }

    /// Occupancy of the emptiest other node that takes clients.
    fn stand_in(&self, now: Instant) -> Option<f64> {
        let standing = self.health.standing();
        let others = standing.pool.fresh(now)?.members.iter();
        let takes = others
            .filter(|seen| seen.is_in && !seen.member.wants_out && *seen.member.name != *self.node)
            .map(|seen| seen.member.occupancy);
        takes.min().map(|thousandths| (f64::from(thousandths) / 1000.0).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use pinwire_pool::{Heard, Member, Seen};
    use pinwire_shed::{State, Verdict};

    use super::*;
    use crate::shedding::{Pool, Reach, Standing};

    fn seen(name: &str, occupancy: u32, wants_out: bool) -> Seen {
        Seen {
            member: Member { name: name.into(), occupancy, wants_out, ..Member::default() },
            is_in: !wants_out,
        }
    }

    /// What a node that is overloaded, or draining, says of its region where these are in the pool.
    fn told(state: State, members: Vec<Seen>, at: Instant) -> (Condition, Option<f64>) {
        let health = Arc::<Health>::default();
        let heard = Heard { now_us: 0, may_leave: true, is_doubled: false, members, gone: Vec::new() };
        health.publish(Standing {
            verdict: Verdict { state, ..Verdict::default() },
            pool: Pool { reach: Reach::Reached, heard: Some((Arc::new(heard), Instant::now())) },
            ..Standing::default()
        });
        let own =
            Own { node: "a".into(), health, connections: Arc::new(AtomicU32::new(9)), max_connections: 10 };
        let sight = own.sight(at);
        (sight.condition, sight.occupancy)
    }

    #[test]
    fn a_region_is_up_while_one_of_its_nodes_takes_clients() {
        let now = Instant::now();
        for state in [State::Overloaded, State::Draining] {
            let others = vec![seen("a", 900, false), seen("b", 300, false), seen("c", 200, true)];
            assert_eq!(told(state, others, now), (Condition::Degraded, Some(0.3)));
        }
        let full = vec![seen("a", 900, false), seen("b", 850, true)];
        assert_eq!(told(State::Overloaded, full, now), (Condition::Overloaded, Some(0.9)));
        let long_ago = vec![seen("b", 300, false)];
        let later = now + Duration::from_secs(60);
        assert_eq!(told(State::Draining, long_ago, later), (Condition::Draining, Some(0.9)));
        assert_eq!(told(State::Healthy, vec![seen("b", 100, false)], now), (Condition::Healthy, Some(0.9)));
    }
}
