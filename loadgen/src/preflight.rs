//! Before a run: can so many connections be opened from here, and what has to change if not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::run::address::{Endpoint, sources};
use crate::scenario::{Driver, Kind, RawMode, Scenario};

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

/// Looks at the machine, and spreads the source addresses where the target is on loopback.
pub fn prepare(scenario: &mut Scenario) -> Findings {
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
    look(scenario, Allowed { descriptors, ports, threads })
}

fn look(scenario: &mut Scenario, allowed: Allowed) -> Findings {
    let mut findings = Findings::default();
    let wanted = wanted(scenario);
    // A ring's table is limited as a process's is: with io_uring each thread has one of its own.
    let tables = if scenario.generator.driver == Driver::Epoll { 1 } else { u64::from(allowed.threads) };
    let room = allowed.descriptors.saturating_sub(DESCRIPTORS_SPARE) * tables;
    if u64::from(wanted) > room {
        findings.obstacles.push(format!(
            "{wanted} connections are more than the {room} that the descriptor limit of {} allows: raise it with \
             `ulimit -n {}`, or use more threads with io_uring (each has a table of its own)",
            allowed.descriptors,
            u64::from(wanted) + DESCRIPTORS_SPARE
        ));
    }
    let each = allowed.ports.saturating_sub(PORTS_SPARE).max(1);
    let given = sources(&scenario.generator.sources).map_or(0, |given| given.len() as u32);
    let needed = wanted.div_ceil(each);
    if needed > given.max(1) {
        if is_loopback(scenario) && given == 0 {
            // 127.0.0.1 is the server's.
            let last = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + needed);
            let range = format!("127.0.0.2-{last}");
            findings.arranged.push(format!(
                "dialling from {range}: one address has {} ports for {wanted} connections",
                allowed.ports
            ));
            scenario.generator.sources = vec![range];
        } else {
            findings.obstacles.push(format!(
                "{wanted} connections need {needed} source addresses of {each} ports each, and there are {}: give \
                 more with --sources, or widen the range with `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`",
                given.max(1)
            ));
        }
    }
    findings
}

fn wanted(scenario: &Scenario) -> u32 {
    match &scenario.kind {
        Kind::Redirect { .. } => scenario.clients.count * 2,
        Kind::Raw { publishers, mode: RawMode::Broadcast | RawMode::BroadcastAll, .. } => {
            scenario.clients.count + publishers
        }
        _ => scenario.clients.count,
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

    #[test]
    fn loopback_gets_as_many_sources_as_it_needs() {
        let mut scenario = idle(39_000, "ws://127.0.0.1:1");
        let findings = look(&mut scenario, ALLOWED);
        assert_eq!((findings.obstacles.len(), findings.arranged.len()), (0, 1));
        assert_eq!(scenario.generator.sources, ["127.0.0.2-127.0.0.3"]);
    }

    #[test]
    fn too_few_descriptors_or_ports_are_told_with_the_mend() {
        let findings = look(&mut idle(50_000, "ws://127.0.0.1:1"), ALLOWED);
        assert!(findings.obstacles[0].contains("ulimit -n 50100"));
        let mut far = idle(39_000, "ws://192.0.2.1:1");
        let findings = look(&mut far, ALLOWED);
        assert!(findings.obstacles[0].contains("--sources"), "{findings:?}");
        let mut epoll = idle(25_000, "ws://127.0.0.1:1");
        epoll.generator.driver = Driver::Epoll;
        assert_eq!(look(&mut epoll, ALLOWED).obstacles.len(), 1);
    }

    #[test]
    fn a_small_run_needs_nothing() {
        assert_eq!(look(&mut idle(100, "ws://127.0.0.1:1"), ALLOWED), Findings::default());
    }
}
