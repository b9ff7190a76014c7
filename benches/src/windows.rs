//! Windows of load that are held against each other: echo, topics of a floor, documents of a node.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pinwire_loadgen::preflight;
use pinwire_loadgen::results::VerdictLevel;
use pinwire_loadgen::run::Seat;
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Auth, Kind, Load, RawMode, Scenario, StagePlan};
use serde_json::{Value, json};

use crate::load::{Measured, measure};

/// What carries an edit of one character as a message: dialect, sync message, length, update.
pub const EDIT_BYTES: u32 = 23;

/// What a server is asked to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Send every message back.
    Echo {
        /// Connections.
        connections: u32,
        /// Bytes of a message.
        bytes: u32,
    },
    /// Send what a member sends to the others of its topic, of a floor.
    Topics(Topology),
    /// The same as edits of documents, of a node.
    Documents {
        /// Who is where.
        topology: Topology,
        /// Secret of the tokens.
        secret: String,
    },
}

/// Groups of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Documents or topics.
    pub groups: u32,
    /// Members of each.
    pub members: u32,
    /// Members of each that write.
    pub writers: u32,
}

impl Topology {
    /// Members of all groups.
    #[must_use]
    pub fn connections(self) -> u32 {
        self.groups * self.members
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many sends a second in all, whether earlier ones have arrived or not.
    Rate(f64),
    /// So many under way for each writer.
    InFlight(u32),
}

impl Pace {
    /// For tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Pace::Rate(rate) => format!("{rate:.0}/s"),
            Pace::InFlight(count) => format!("{count} in flight"),
        }
    }
}

/// How long, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub time: Duration,
}

/// What one window brought.
#[derive(Clone, Debug)]
pub struct Window {
    /// Sends a second.
    pub sends: f64,
    /// Deliveries a second.
    pub deliveries: f64,
    /// Edits or messages that came in one frame.
    pub per_frame: f64,
    /// Share of a core that the server used, all its threads.
    pub server: f64,
    /// The same of the generator's busiest thread.
    pub generator: f64,
    /// Percentiles of the time from the planned send to the delivery: 50, 99, 99.9, microseconds.
    pub latency: [f64; 3],
    /// Planned sends that did not leave.
    pub dropped: u64,
    /// What keeps the generator's figures from being the server's, if anything.
    pub doubts: Vec<String>,
}

impl Window {
    fn of(measured: &Measured, time: Duration) -> Self {
        let total = &measured.results.total;
        let verdict = &measured.results.verdict;
        let is_valid = verdict.level == VerdictLevel::Valid;
        Self {
            sends: total.sent as f64 / total.seconds,
            deliveries: measured.per_second(),
            per_frame: total.received as f64 / total.frames_received as f64,
            server: measured.cpu.as_secs_f64() / time.as_secs_f64(),
            generator: measured.generator_busy(),
            latency: [50.0, 99.0, 99.9].map(|percentile| measured.latency_us(percentile) as f64),
            dropped: total.dropped,
            doubts: if is_valid { Vec::new() } else { verdict.reasons.clone() },
        }
    }

    /// Server time of a delivery.
    #[must_use]
    pub fn us_per_delivery(&self) -> f64 {
        self.server * 1e6 / self.deliveries
    }

    /// For a result file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "sends_per_second": self.sends,
            "deliveries_per_second": self.deliveries,
            "per_frame": self.per_frame,
            "server_busy": self.server,
            "generator_busy": self.generator,
            "latency_us_p50_p99_p999": self.latency,
            "dropped": self.dropped,
            "doubts": self.doubts,
        })
    }
}

/// Connects, loads and disconnects.
///
/// # Errors
/// A client is refused or cut off, or a message is lost, doubled, out of order or not as it was sent.
pub fn window(server: (SocketAddr, u32), work: &Work, pace: Pace, times: Times) -> Result<Window> {
    let (address, pid) = server;
    let mut scenario = scenario(address, work, pace, times).context("no such preset")?;
    let findings = preflight::prepare(&mut scenario, Seat::ALONE, Seat::ALONE);
    ensure!(findings.obstacles.is_empty(), "this cannot work: {}", findings.obstacles.join("; "));
    let measured = measure(&scenario, times.time, pid)?;
    measured.ensure_whole()?;
    Ok(Window::of(&measured, times.time))
}

fn scenario(address: SocketAddr, work: &Work, pace: Pace, times: Times) -> Option<Scenario> {
    let mut scenario = preset(if matches!(work, Work::Documents { .. }) { "document" } else { "raw" })?;
    let raw = |mode, bytes, topics, publishers, subscribe_path: Option<&str>| Kind::Raw {
        mode,
        text: false,
        bytes,
        subscribe_path: subscribe_path.map(str::to_owned),
        topics,
        publishers,
        publish_prefix: String::new(),
    };
    scenario.target.urls = vec![format!("ws://{address}")];
    match work {
        Work::Echo { connections, bytes } => {
            scenario.target.urls = vec![format!("ws://{address}/echo")];
            scenario.kind = raw(RawMode::Echo, *bytes, 1, 1, None);
            scenario.clients.count = *connections;
        }
        Work::Topics(topology) => {
            let publishers = topology.groups * topology.writers;
            scenario.kind = raw(RawMode::Members, EDIT_BYTES, topology.groups, publishers, Some("/t/{n}"));
            scenario.clients.count = topology.connections();
        }
        Work::Documents { topology, secret } => {
            scenario.kind = Kind::Document {
                documents: topology.groups,
                members: topology.members,
                writers: topology.writers,
                edit_bytes: 1,
                awareness_rate: 0.0,
                awareness_bytes: 0,
            };
            scenario.target.auth = Auth::Secret(secret.clone());
            pinwire_node::config::DEV_REGION.clone_into(&mut scenario.target.region);
        }
    }
    scenario.load = match pace {
        Pace::InFlight(in_flight) => Load::Closed { in_flight, duration: times.time },
        Pace::Rate(rate) => Load::Open {
            stages: vec![StagePlan { name: None, from: rate, to: rate, duration: times.time }],
            arrivals: Arrivals::Constant,
        },
    };
    scenario.warm_up = times.warm_up;
    // Windows must not meet in the same documents.
    scenario.generator.seed = fastrand::u64(..u64::from(u32::MAX));
    scenario.settle();
    Some(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Floor, serve};
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn every_kind_of_work_is_a_scenario_without_problems() {
        let topology = Topology { groups: 10, members: 10, writers: 2 };
        let times = Times { warm_up: Duration::ZERO, time: Duration::from_secs(1) };
        let all = [
            Work::Echo { connections: 10, bytes: 20 },
            Work::Topics(topology),
            Work::Documents { topology, secret: "secret".into() },
        ];
        for work in all {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            for pace in [Pace::Rate(10.0), Pace::InFlight(1)] {
                let scenario = scenario(address, &work, pace, times).unwrap();
                assert_eq!(scenario.problems(), [""; 0], "{work:?}");
            }
        }
    }

    #[test]
    fn both_floors_carry_topics_to_every_other_member() {
        for floor in [Floor::Epoll, Floor::Uring] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let server = (listener.local_addr().unwrap(), std::process::id());
            std::thread::spawn(move || serve(floor, listener, false));
            let work = Work::Topics(Topology { groups: 2, members: 5, writers: 2 });
            let times = Times { warm_up: Duration::ZERO, time: Duration::from_secs(1) };
            let window = window(server, &work, Pace::InFlight(1), times).unwrap();
            assert!(window.deliveries > window.sends && (window.per_frame - 1.0).abs() < 1e-9);
        }
    }
}
