//! Before a run: can so many connections be opened from here, and what has to change if not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use pinwire_engine::RINGS_MAX;

use crate::run::address::{Endpoint, sources};
use crate::run::{Seat, layout};
use crate::scenario::{Driver, Scenario};

/// Descriptors that are not connections.
const DESCRIPTORS_SPARE: u64 = 100;
/// Ports of a source address that are left to others.
const PORTS_SPARE: u32 = 500;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What keeps the run from working, each with its mend.
    pub obstacles: Vec<String>,
    /// What was arranged by itself.
    pub arranged: Vec<String>,
}

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    descriptors: u64,
    ports: u32,
    threads: u32,
}

/// Looks at the machine, and spreads the source addresses where the target is on loopback. The process has the `seat` in
/// the run, and the place `on_host` among the run's processes on this machine.
pub fn prepare(scenario: &mut Scenario, seat: Seat, on_host: Seat) -> Findings {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(1024);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u32>().ok());
    let ports = match (ends.next(), ends.next()) {
        (Some(first), Some(last)) => last.saturating_sub(first),
        _ => 28_000,
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = if scenario.generator.threads == 0 { cores } else { scenario.generator.threads };
    look(scenario, Allowed { descriptors, ports, threads }, seat, on_host)
}

/// Connections that one thread has room for: with io_uring in the tables of as many rings as it may have, each as large
/// as the descriptor limit.
fn room_of_thread(driver: Driver, allowed: Allowed) -> u64 {
    match driver {
        Driver::Epoll => allowed.descriptors.saturating_sub(DESCRIPTORS_SPARE),
        Driver::Auto | Driver::Uring => allowed.descriptors * u64::from(RINGS_MAX),
    }
}

fn look(scenario: &mut Scenario, allowed: Allowed, seat: Seat, on_host: Seat) -> Findings {
    let mut findings = Findings::default();
    let clients = layout::clients(scenario, seat.of * allowed.threads);
    let processes: Vec<&[u64]> = clients.chunks(allowed.threads.max(1) as usize).collect();
    let own = processes.get(seat.index as usize).copied().unwrap_or_default();
    findings.obstacles.extend(look_at_descriptors(scenario.generator.driver, allowed, own));
    let most = processes.iter().map(|threads| threads.iter().sum::<u64>()).max().unwrap_or(0);
    look_at_ports(scenario, allowed, on_host, (own.iter().sum(), most), &mut findings);
    let cores = &mut scenario.generator.cores;
    if !cores.is_empty() {
        // Each process goes on where the one before it ended.
        let first = (on_host.index * allowed.threads) as usize % cores.len();
        cores.rotate_left(first);
    }
    findings
}

fn look_at_descriptors(driver: Driver, allowed: Allowed, own: &[u64]) -> Option<String> {
    let room = room_of_thread(driver, allowed);
    let (wanted, whose, per_descriptor) = match driver {
        Driver::Epoll => (own.iter().sum(), "a process with epoll", 1),
        Driver::Auto | Driver::Uring => {
            (own.iter().copied().max().unwrap_or(0), "one of its threads", u64::from(RINGS_MAX))
        }
    };
    (wanted > room).then(|| {
        format!(
            "{whose} would hold {wanted} connections, more than the {room} that the descriptor limit of {} allows: raise \
             it with `ulimit -n {}`, or use more --processes or --threads",
            allowed.descriptors,
            wanted.div_ceil(per_descriptor) + DESCRIPTORS_SPARE
        )
    })
}

/// `own` are this process's connections, `most` those of the process that has most.
fn look_at_ports(
    scenario: &mut Scenario,
    allowed: Allowed,
    on_host: Seat,
    (own, most): (u64, u64),
    findings: &mut Findings,
) {
    let each = u64::from(allowed.ports.saturating_sub(PORTS_SPARE).max(1));
    // A scenario with wrong sources has been refused before.
    let given = sources(&scenario.generator.sources).unwrap_or_default();
    if given.is_empty() && is_loopback(scenario) {
        // Each process has a stretch of its own, so that none takes another's ports. 127.0.0.1 is the server's.
        let stretch = u32::try_from(most.div_ceil(each).max(1)).unwrap_or(u32::MAX);
        if stretch == 1 && on_host.of == 1 {
            return;
        }
        let last_of_loopback = u64::from(u32::from(Ipv4Addr::new(127, 255, 255, 254)));
        let first =
            u64::from(u32::from(Ipv4Addr::LOCALHOST)) + 1 + u64::from(on_host.index) * u64::from(stretch);
        let last = (first + u64::from(stretch) - 1).min(last_of_loopback);
        let address = |number: u64| Ipv4Addr::from(number as u32);
        let range = format!("{}-{}", address(first.min(last)), address(last));
        if stretch > 1 {
            findings.arranged.push(format!(
                "dialling from {range}: one address has {} ports for {own} connections",
                allowed.ports
            ));
        }
        scenario.generator.sources = vec![range];
        return;
    }
    let processes = on_host.of.max(1) as usize;
    let (has, sharing) = if given.len() >= processes {
        let own: Vec<String> =
            given.iter().skip(on_host.index as usize).step_by(processes).map(ToString::to_string).collect();
        let count = own.len();
        if processes > 1 {
            scenario.generator.sources = own;
        }
        (count as u64, 1)
    } else {
        // Too few for each to have its own: they share what there is.
        (given.len().max(1) as u64, processes as u64)
    };
    if own > has * each / sharing {
        let needed = (own * processes as u64).div_ceil(each);
        findings.obstacles.push(format!(
            "{own} connections of a process need {needed} source addresses of {each} ports each in all, and there are \
             {}: give more with --sources, or widen the range with `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`",
            given.len().max(1)
        ));
    }
}

fn is_loopback(scenario: &Scenario) -> bool {
    let addresses = scenario.target.urls.iter().map(|url| Endpoint::resolve(url));
    addresses.flatten().all(|endpoint| match endpoint.address.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::presets::preset;

    const ALLOWED: Allowed = Allowed { descriptors: 20_000, ports: 28_000, threads: 2 };

    fn idle(count: u32, url: &str) -> Scenario {
        let mut scenario = preset("idle").unwrap();
        scenario.clients.count = count;
        scenario.target.urls = vec![url.into()];
        scenario
    }

    fn alone(scenario: &mut Scenario) -> Findings {
        look(scenario, ALLOWED, Seat::ALONE, Seat::ALONE)
    }

    #[test]
    fn loopback_gets_as_many_sources_as_it_needs() {
        let mut scenario = idle(39_000, "ws://127.0.0.1:1");
        let findings = alone(&mut scenario);
        assert_eq!((findings.obstacles.len(), findings.arranged.len()), (0, 1));
        assert_eq!(scenario.generator.sources, ["127.0.0.2-127.0.0.3"]);
    }

    #[test]
    fn too_few_descriptors_or_ports_are_told_with_the_mend() {
        let scarce = Allowed { descriptors: 50, ..ALLOWED };
        let findings = look(&mut idle(50_000, "ws://127.0.0.1:1"), scarce, Seat::ALONE, Seat::ALONE);
        assert!(findings.obstacles[0].contains("ulimit -n 198"), "{findings:?}");
        let findings = alone(&mut idle(39_000, "ws://192.0.2.1:1"));
        assert!(findings.obstacles[0].contains("--sources"), "{findings:?}");
        let mut epoll = idle(25_000, "ws://127.0.0.1:1");
        epoll.generator.driver = Driver::Epoll;
        assert_eq!(alone(&mut epoll).obstacles.len(), 1);
        // One document is on one thread, however many there are.
        let mut fanout = preset("fanout").unwrap();
        (fanout.clients.count, fanout.target.urls) = (25_000, vec!["ws://127.0.0.1:1".into()]);
        assert_eq!(look(&mut fanout, scarce, Seat::ALONE, Seat::ALONE).obstacles.len(), 1);
    }

    #[test]
    fn a_small_run_needs_nothing() {
        assert_eq!(alone(&mut idle(100, "ws://127.0.0.1:1")), Findings::default());
    }

    #[test]
    fn processes_on_one_machine_dial_from_addresses_of_their_own() {
        let mut seen = Vec::new();
        for index in 0..3 {
            let seat = Seat { index, of: 3 };
            let mut scenario = idle(100_000, "ws://127.0.0.1:1");
            scenario.generator.cores = vec![0, 1, 2, 3, 4, 5];
            let findings = look(&mut scenario, ALLOWED, seat, seat);
            assert_eq!(findings.obstacles, Vec::<String>::new());
            assert_eq!(scenario.generator.cores[0], index as usize * 2);
            seen.extend(sources(&scenario.generator.sources).unwrap());
        }
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), all), (6, 6));
    }

    #[test]
    fn given_sources_are_dealt_out_or_shared_where_they_are_too_few() {
        let mut scenario = idle(1_000, "ws://192.0.2.1:1");
        scenario.generator.sources = vec!["10.0.0.1-10.0.0.5".into()];
        let seat = Seat { index: 1, of: 2 };
        look(&mut scenario, ALLOWED, seat, seat);
        assert_eq!(scenario.generator.sources, ["10.0.0.2", "10.0.0.4"]);
        // 15,000 of each of two processes do not fit into the ports of one address.
        let mut scenario = idle(30_000, "ws://192.0.2.1:1");
        assert_eq!(look(&mut scenario, ALLOWED, seat, seat).obstacles.len(), 1);
        let elsewhere = look(&mut scenario, ALLOWED, seat, Seat::ALONE);
        assert_eq!(elsewhere.obstacles, Vec::<String>::new());
    }
}
