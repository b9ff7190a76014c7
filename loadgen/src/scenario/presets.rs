//! One scenario of each kind, with figures that one machine can carry: where flags and files begin.

use std::time::Duration;

use crate::scenario::{
    Arrivals, Auth, Clients, Dialect, Driver, GeneratorSettings, Kind, Load, RawMode, Scenario, StagePlan,
    Target, Trust,
};

/// All of them.
pub const NAMES: [&str; 11] = [
    "connect",
    "idle",
    "document",
    "fanout",
    "hot",
    "churn",
    "reconnect-storm",
    "slow-reader",
    "redirect",
    "soak",
    "raw",
];

/// What a preset is for, in a line.
#[must_use]
pub fn purpose(name: &str) -> &'static str {
    match name {
        "connect" => "handshakes a second: dial, join, leave",
        "idle" => "density: hold connections that only answer pings",
        "document" => "edits in documents of several members, with awareness",
        "fanout" => "one writer, many readers of one document",
        "hot" => "a few huge documents among many small ones",
        "churn" => "clients come and go while others edit",
        "reconnect-storm" => "cut every connection at once; time until all are back",
        "slow-reader" => "some members read slowly or not at all; the others must not notice",
        "redirect" => "dial the wrong region first and follow the redirect",
        "soak" => "edits for long, at a modest rate",
        "raw" => "any WebSocket server: echo or broadcast",
        _ => "",
    }
}

/// The preset of that name.
#[must_use]
pub fn preset(name: &str) -> Option<Scenario> {
    let seconds = Duration::from_secs;
    let (kind, count, load) = match name {
        "connect" => (Kind::Connect, 1_000, open(500.0, 10)),
        "idle" => {
            let kind =
                Kind::Idle { documents_of: 10, awareness_bytes: 0, update_at_end: true, hold: seconds(60) };
            (kind, 1_000, open(0.0, 0))
        }
        "document" => {
            let kind = Kind::Document {
                documents: 100,
                members: 10,
                writers: 10,
                edit_bytes: 1,
                awareness_rate: 0.1,
                awareness_bytes: 60,
            };
            (kind, 1_000, open(1_000.0, 10))
        }
        "fanout" => (Kind::Fanout { edit_bytes: 64 }, 1_000, open(20.0, 10)),
        "hot" => (Kind::Hot { documents: 100, skew: 1.0, edit_bytes: 16 }, 1_000, open(500.0, 10)),
        "churn" => {
            (Kind::Churn { documents_of: 10, stay: seconds(5), edit_rate: 1.0 }, 1_000, open(100.0, 20))
        }
        "reconnect-storm" => {
            let kind = Kind::ReconnectStorm { documents_of: 10, storms: 3 };
            (kind, 1_000, Load::Closed { in_flight: 1, duration: seconds(60) })
        }
        "slow-reader" => {
            let kind = Kind::SlowReader {
                documents: 10,
                members: 10,
                slow: 2,
                slow_bytes_per_second: 1_000,
                edit_bytes: 100,
            };
            (kind, 100, open(500.0, 10))
        }
        "redirect" => (Kind::Redirect { home_url: String::new() }, 100, open(0.0, 0)),
        "soak" => (Kind::Soak { documents: 50, members: 10, edit_bytes: 16 }, 500, open(200.0, 600)),
        "raw" => {
            let kind = Kind::Raw {
                mode: RawMode::Echo,
                text: false,
                bytes: 64,
                subscribe_path: None,
                topics: 1,
                publishers: 1,
                publish_prefix: String::new(),
            };
            (kind, 100, open(1_000.0, 10))
        }
        _ => return None,
    };
    Some(Scenario {
        kind,
        target: Target {
            urls: vec!["ws://127.0.0.1:8080".into()],
            trust: Trust::Host,
            auth: Auth::None,
            document_prefix: "load-".into(),
            headers: Vec::new(),
            protocols: Vec::new(),
            dialect: Dialect::YWebsocket,
            deflate: false,
            region: "local-1".into(),
            discover: false,
        },
        clients: Clients {
            count,
            rate: None,
            dialling: 128,
            timeout: seconds(20),
            redial: false,
            silence: None,
        },
        load,
        warm_up: seconds(1),
        drain: seconds(5),
        late_after: seconds(1),
        generator: GeneratorSettings {
            threads: 0,
            cores: Vec::new(),
            driver: Driver::Auto,
            sources: Vec::new(),
            seed: 1,
        },
        server: None,
    })
}

fn open(rate: f64, seconds: u64) -> Load {
    let stage = StagePlan { name: None, from: rate, to: rate, duration: Duration::from_secs(seconds) };
    Load::Open { stages: vec![stage], arrivals: Arrivals::Constant }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_there_is_described_and_can_be_run() {
        for name in NAMES {
            let scenario = preset(name).unwrap();
            assert_eq!(scenario.name(), name);
            assert!(!purpose(name).is_empty());
            let problems = scenario.problems();
            assert!(problems.is_empty() || name == "redirect", "{name}: {problems:?}");
        }
        assert!(preset("none").is_none());
    }
}
