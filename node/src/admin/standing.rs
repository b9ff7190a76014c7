//! How the node stands, as the API has it.

use pinwire_admin_api::node::Status;
use pinwire_admin_api::standing::{Part, Pool, PoolMember, Reach, Rung, Standing};
use pinwire_pool::Seen;
use pinwire_shed::{Load, Resource, State};

use crate::shedding;

pub(crate) fn status_of(state: State) -> Status {
    match state {
        State::Healthy => Status::Healthy,
        State::Degraded => Status::Degraded,
        State::Overloaded => Status::Overloaded,
        State::Draining => Status::Draining,
    }
}

pub(crate) fn rung_of(rung: pinwire_shed::Rung) -> Rung {
    match rung {
        pinwire_shed::Rung::Serving => Rung::Serving,
        pinwire_shed::Rung::Thrifty => Rung::Thrifty,
        pinwire_shed::Rung::NoNewDocuments => Rung::NoNewDocuments,
        pinwire_shed::Rung::NoNewConnections => Rung::NoNewConnections,
    }
}

pub(super) fn standing_of(standing: &shedding::Standing) -> Standing {
    let (high_water, low_water) = standing.marks;
    Standing {
        change: standing.change.to_string(),
        cause: standing.cause.to_string(),
        rung: rung_of(standing.rung()),
        in_dns: standing.wants_dns(),
        is_last: standing.is_last(),
        occupancy: rounded(standing.load.occupancy().share),
        parts: Resource::ALL.into_iter().filter_map(|of| part(&standing.load, of)).collect(),
        high_water,
        low_water,
        handshakes_per_second: rounded(standing.budget),
        pool: pool(&standing.pool),
    }
}

fn part(load: &Load, of: Resource) -> Option<Part> {
    let share = rounded(load.share_of(of)?);
    let of_bytes = match of {
        Resource::Connections => Some(load.connections),
        Resource::Memory => load.memory,
        Resource::Cpu => None,
    };
    let (used, limit) = of_bytes.map(|part| (part.used, part.limit)).unzip();
    Some(Part { resource: of.name().to_owned(), share, used, limit })
}

fn pool(pool: &shedding::Pool) -> Pool {
    let (reach, error) = match &pool.reach {
        shedding::Reach::Alone => (Reach::Alone, None),
        shedding::Reach::Reached => (Reach::Reached, None),
        shedding::Reach::Lost { why } => (Reach::Lost, Some(why.to_string())),
    };
    let heard = pool.heard.as_ref();
    Pool {
        reach,
        error,
        age_seconds: heard.map(|(_, at)| rounded(at.elapsed().as_secs_f64())),
        members: heard.iter().flat_map(|(heard, _)| &heard.members).map(member).collect(),
    }
}

fn member(seen: &Seen) -> PoolMember {
    let Seen { member, is_in } = seen;
    PoolMember {
        name: member.name.to_string(),
        in_dns: *is_in,
        wants_out: member.wants_out,
        occupancy: f64::from(member.occupancy) / 1e3,
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// To thousandths.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_as_far_as_they_are_known() {
        let connections = pinwire_shed::Part { used: 1, limit: 3 };
        let load = Load { connections, memory: None, cpu: Some(0.5) };
        let told = standing_of(&shedding::Standing { load, ..shedding::Standing::default() });
        let cpu = Part { resource: "cpu".to_owned(), share: 0.5, used: None, limit: None };
        let connections =
            Part { resource: "connections".to_owned(), share: 0.333, used: Some(1), limit: Some(3) };
        assert_eq!((told.parts, told.occupancy), (vec![connections, cpu], 0.5));
    }
}
