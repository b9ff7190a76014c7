//! How this node's own region looks: as the node does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pinwire_shed::Part;

use super::{Condition, Sight};
use crate::shedding::Health;

/// What other nodes are told of this one.
#[derive(Clone, Debug)]
pub struct Own {
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

    /// As other regions are seen.
    #[must_use]
    pub fn sight(&self) -> Sight {
        let condition = Condition::from(self.health.status());
        Sight::answered(None, Duration::ZERO, condition, Some(self.occupancy()))
    }
}
