//! Made-up clusters, for tests, measurements and pictures: the same each time.

use std::time::Duration;

use pinwire_admin_api::apps::{App, AppPage, Use};
use pinwire_admin_api::cluster::{ClusterNode, Nodes, Pin, PinPage, Region, Regions};
use pinwire_admin_api::connections::{Connection, ConnectionPage, ConnectionState, Dialect};
use pinwire_admin_api::documents::{Document, DocumentDetail, DocumentState, Member};
use pinwire_admin_api::log::{LogLevel, LogLine, LogPage};
use pinwire_admin_api::node::{
    Counts, Dns, DnsTrouble, Drain, DrainStage, Driver, Flow, Node, Process, Status, Thread, Times,
    TurnedAway,
};
use pinwire_admin_api::standing::{Part, Pool, PoolMember, Reach, Rung, Standing};
use serde_json::json;

use super::{Millis, Model};
use crate::client::{Address, Answer, Happened, Look, NodeSeen, Update, What};
use crate::format::date;

/// Regions of the small cluster.
pub const REGIONS: [(&str, &str); 3] =
    [("eu-central-1", "Frankfurt"), ("us-east-1", "Virginia"), ("ap-southeast-1", "Singapore")];

/// Where a node of a made-up cluster is.
#[must_use]
pub fn address(number: usize) -> Address {
    Address::Tcp { host: format!("10.0.{}.{}", number / 200, number % 200 + 10), port: 9180, is_tls: true }
}

fn region_of(number: usize, regions: usize) -> String {
    REGIONS
        .get(number % regions)
        .map_or_else(|| format!("region-{}", number % regions), |(name, _)| (*name).to_owned())
}

/// A number that jumps about, and is the same each time.
fn noise(seed: u64) -> u64 {
    let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

fn counts(number: usize, second: u64, share: u64) -> Counts {
    let base = 1_000 + 311 * number as u64;
    Counts {
        connections: (base * 4 + noise(number as u64 * 77 + second) % 60) / share,
        documents: (base / 3) / share,
        messages_received: second * (base + noise(number as u64) % 400) / share + (second / 7) * 300 / share,
        messages_sent: second * base * 6 / share,
        updates: second * base / share,
        refusals: second * 2 * u64::from(number == 1) / share,
        ..Counts::default()
    }
}

/// A look at a node, `second` seconds after it started.
#[must_use]
pub fn look(number: usize, regions: usize, second: u64, now: Millis) -> Look {
    let region = region_of(number, regions);
    let status = match number {
        1 => Status::Overloaded,
        3 => Status::Draining,
        _ => Status::Healthy,
    };
    let threads: Vec<Thread> = (0..4)
        .map(|thread| {
            let busy = 0.1 + 0.2 * f64::from(thread) + 0.05 * (number % 5) as f64;
            let count = second * 2_000;
            Thread {
                thread: thread as u16,
                is_up: !(number == 1 && thread == 3),
                driver: Some(Driver::IoUring),
                counts: Some(counts(number, second, 4)),
                turn: Some(Times { count, mean_seconds: busy / 2_000.0, p99_seconds: 0.002_048 }),
            }
        })
        .collect();
    let totals = counts(number, second, 1);
    let node = Node {
        version: "0.1.0".into(),
        region: region.clone(),
        started: date(now.saturating_sub(second * 1000)),
        uptime_seconds: second,
        status,
        driver: Some(Driver::IoUring),
        config_digest: Some("9f2c".into()),
        max_connections: if number == 1 { 6_000 } else { 20_000 },
        threads: 4,
        totals,
        process: Process {
            resident_bytes: Some(180_000_000 + 40_000_000 * (number as u64 % 7)),
            cpu_seconds: Some(second as f64 * (0.8 + 0.3 * (number % 4) as f64)),
            open_files: Some(totals.connections + 90),
            max_files: Some(65_536),
        },
        is_partial: false,
        name: Some(name_of(number, regions)),
        standing: Some(standing(number, regions, status, totals.connections)),
        drain: (status == Status::Draining).then(|| Drain {
            stage: DrainStage::Closing,
            since: date(now.saturating_sub(40_000)),
            connections_before: totals.connections * 3,
            carried: 0,
            deadline: Some(date(now + 260_000)),
        }),
        upgrade: None,
        dns: Some(dns(number, &region, status, now)),
        flow: Some(flow(number, second)),
    };
    let said = serde_json::to_value(&node).unwrap_or_default();
    let events = (1..=4)
        .map(|sequence| {
            event(sequence, number, now.saturating_sub(second.min(300) * 1000) + sequence * 5_000)
        })
        .collect();
    Look {
        node: NodeSeen { node, said },
        threads,
        documents: documents(number, now),
        order: None,
        events,
        events_lost: 0,
        skipped: 0,
    }
}

/// The overloaded one turns clients away, and some clients are for another region everywhere.
fn flow(number: usize, second: u64) -> Flow {
    let rate = 4 + number as u64 % 5;
    let away = |at: &str, reason: &str, count| TurnedAway { at: at.into(), reason: reason.into(), count };
    let turned_away = match number {
        1 => vec![away("handshake", "overloaded", second * 9), away("token", "expired", second / 10)],
        _ => vec![away("token", "expired", second / 20)],
    };
    Flow {
        upgraded: second * rate,
        redirected: second * (number as u64 % 3),
        turned_away,
        carried_out: if number.is_multiple_of(4) { 310 } else { 0 },
        carried_in: if number == 2 { 310 } else { 0 },
    }
}

fn standing(number: usize, regions: usize, status: Status, connections: u64) -> Standing {
    let most: u64 = if number == 1 { 6_000 } else { 20_000 };
    let share = |used: u64, limit: u64| (used as f64 / limit as f64 * 1000.0).round() / 1000.0;
    let memory = 180_000_000 + 40_000_000 * (number as u64 % 7);
    let part = |resource: &str, share, used, limit| Part { resource: resource.into(), share, used, limit };
    let of_connections = share(connections, most);
    let member = |of: usize| PoolMember {
        name: name_of(of, regions),
        in_dns: !matches!(of, 1 | 3),
        wants_out: matches!(of, 1 | 3),
        occupancy: if of == number { of_connections } else { 0.31 },
        addresses: vec![format!("10.0.0.{}", of + 10)],
    };
    Standing {
        change: format!("3f2a9c1d-{number}"),
        cause: match status {
            Status::Overloaded => format!("connections at {:.0} %", of_connections * 100.0),
            Status::Draining => "an operator drains it".into(),
            _ => "nothing is short".into(),
        },
        rung: match status {
            Status::Healthy => Rung::Serving,
            _ => Rung::NoNewConnections,
        },
        in_dns: status == Status::Healthy,
        is_last: false,
        occupancy: of_connections,
        parts: vec![
            part("connections", of_connections, Some(connections), Some(most)),
            part("memory", share(memory, 2_000_000_000), Some(memory), Some(2_000_000_000)),
            part("cpu", 0.2 + 0.05 * (number % 4) as f64, None, None),
        ],
        high_water: 0.8,
        low_water: 0.7,
        handshakes_per_second: 2_000.0,
        pool: Pool {
            reach: Reach::Reached,
            error: None,
            age_seconds: Some(0.5),
            members: (0..4).filter(|of| of % regions == number % regions).map(member).collect(),
        },
    }
}

fn dns(number: usize, region: &str, status: Status, now: Millis) -> Dns {
    let is_in = status == Status::Healthy;
    Dns {
        name: format!("{region}.example.net"),
        provider: "rfc2136".into(),
        addresses: vec![format!("10.0.0.{}", number + 10)],
        wants_in: is_in,
        why: if is_in { "it serves".into() } else { "its clients are for other nodes".into() },
        since: date(now.saturating_sub(90_000)),
        is_in: Some(is_in),
        is_kept: false,
        has: vec!["10.0.0.10".into(), "10.0.0.12".into()],
        seen: Some(date(now.saturating_sub(2_000))),
        failing: (number == 2).then(|| DnsTrouble {
            since: Some(date(now.saturating_sub(30_000))),
            attempts: 3,
            error: "ns1.example.net:53: no answer within 5 s".into(),
        }),
    }
}

fn name_of(number: usize, regions: usize) -> String {
    format!("{}{}", region_of(number, regions).split('-').next().unwrap_or("node"), number / regions + 1)
}

fn event(sequence: u64, number: usize, at: Millis) -> Happened {
    let fields = match sequence {
        1 => json!({ "version": "0.1.0" }),
        2 => json!({ "thread": number % 4, "of": "connections" }),
        3 => json!({ "document": "acme::notes::roadmap", "region": "us-east-1" }),
        _ => json!({ "address": "203.0.113.9:51122" }),
    };
    let kind = ["started", "pressure", "document_lost", "unauthenticated"][(sequence - 1) as usize % 4];
    let fields = fields.as_object().cloned().unwrap_or_default();
    Happened { sequence, at: date(at), kind: kind.into(), fields }
}

fn documents(number: usize, now: Millis) -> Vec<Document> {
    let document = |at: u64| Document {
        tenant: "acme".into(),
        app: "notes".into(),
        name: document_name(number as u64 * 20 + at),
        state: DocumentState::Live,
        claim: Some(format!("{:016x}-{:016x}", 0x5f2_a1c3_d4e5_0000 + at, noise(at))),
        is_adrift: false,
        since: date(now.saturating_sub(at * 60_000)),
        members: 3 + noise(at) % 40,
        present: 2 + noise(at) % 30,
        edits_per_second: 40.0 / (at + 1) as f64,
        bytes_per_second: 4_000.0 / (at + 1) as f64,
        log_bytes: 20_000 + noise(at) % 900_000,
        unstored_bytes: if number == 1 && at == 0 { 80_000 } else { 0 },
        is_rejecting: number == 1 && at == 0,
        thread: (at % 4) as u16,
    };
    (0..20).map(document).collect()
}

fn document_name(number: u64) -> String {
    const TOPICS: [&str; 6] = ["roadmap", "budget", "meeting notes", "whiteboard", "handbook", "retro"];
    format!("{}/{number:06}", TOPICS[noise(number) as usize % TOPICS.len()])
}

/// How regions look from one.
#[must_use]
pub fn regions(number: usize, count: usize) -> Regions {
    let own = region_of(number, count);
    let others = (0..count).map(|at| {
        let name = region_of(at, count);
        let is_away = at == 2 && count == 3;
        Region {
            url: Some(format!("wss://{name}.example.net")),
            status: "live".into(),
            area: REGIONS.get(at).map(|(_, area)| (*area).to_owned()),
            round_trip_ms: (name != own && !is_away)
                .then(|| 8.0 + (noise((number % count * 31 + at) as u64) % 2_000) as f64 / 10.0),
            health: Some(if is_away { "unreachable" } else { "healthy" }.into()),
            occupancy: Some(0.2 + 0.1 * (at % 7) as f64),
            name,
        }
    });
    Regions { regions: others.collect() }
}

/// The same, a moment of a time in which the way between two of them grew longer.
fn swaying(number: usize, second: u64) -> Regions {
    let mut regions = regions(number, 3);
    for region in &mut regions.regions {
        let more = if second > 60 { 2.2 } else { 1.0 + (noise(second) % 10) as f64 / 50.0 };
        region.round_trip_ms = region.round_trip_ms.map(|trip| (trip * more * 10.0).round() / 10.0);
    }
    regions
}

/// Pins of a sweep's page.
#[must_use]
pub fn pins(from: u64, to: u64, of: u64, count: usize, now: Millis) -> PinPage {
    let pin = |number: u64| {
        let region = region_of(noise(number) as usize, count.max(1));
        let is_in_grace = number % 17 == 5;
        Pin {
            tenant: "acme".into(),
            app: "notes".into(),
            name: document_name(number),
            ws_url: format!("wss://{region}.example.net"),
            claim: format!(
                "{:016x}-{:016x}",
                now.saturating_sub(noise(number) % 7_200_000) * 1000,
                noise(number + 1)
            ),
            nodes: if is_in_grace {
                Vec::new()
            } else {
                vec![format!("{region}/{}1/{:016x}", region.split('-').next().unwrap_or(""), 7)]
            },
            region,
            grace_seconds: is_in_grace.then_some(9),
        }
    };
    let next = (to < of).then(|| format!("acme::notes::{to}"));
    PinPage { db_code: None, pins: (from..to).map(pin).collect(), next }
}

/// Two regions with two nodes each, and one that nobody reaches; a node is overloaded, one drains.
pub fn cluster(model: &mut Model, now: Millis) {
    for second in 0..90 {
        let at = now - (89 - second) * 1000;
        if second % 5 == 0 && !(30..45).contains(&second) {
            for number in 0..2 {
                answer(model, number, Answer::Regions(swaying(number, second)), at);
            }
        }
        for number in 0..4 {
            // For ten seconds one told nothing.
            if !(number == 0 && (40..50).contains(&second)) {
                apply(model, number, What::Look(Box::new(look(number, 2, 500 + second, at))), at);
            }
        }
    }
    let record = json!({ "version": 3, "record": { "limits": { "maxConnections": 10_000, "opsPerMinute": 90_000 },
        "regions": ["eu-central-1", "us-east-1"], "keys": [{ "kty": "EC", "crv": "P-256", "kid": "notes-2026", "x": "", "y": "" }] } });
    if let Ok(record) = serde_json::from_value(record) {
        answer(model, 0, Answer::Record { app: ("acme".into(), "notes".into()), record }, now);
    }
    let nodes = (0..4).map(|number| ClusterNode {
        region: region_of(number, 2),
        name: name_of(number, 2),
        life: "0000000000000007".into(),
        ws_url: format!("wss://{}.example.net", region_of(number, 2)),
        peer_address: Some(format!("10.0.0.{}:7000", number + 10)),
        admin_url: Some(address(number).to_string()),
        version: "0.1.0".into(),
        db_codes: Vec::new(),
    });
    let nodes = Nodes { nodes: nodes.collect(), unanswered: Vec::new() };
    answer(model, 0, Answer::Nodes(nodes), now);
    for number in 0..4 {
        answer(model, number, Answer::Regions(regions(number % 2, 3)), now);
        answer(model, number, Answer::Apps(apps(number)), now);
        let page = ConnectionPage { connections: connections(number, now), next: None, is_partial: false };
        answer(model, number, Answer::Connections { is_first: true, page }, now);
    }
    let page = pins(0, 60, 60, 2, now);
    answer(model, 0, Answer::Pins { db_code: None, is_first: true, page }, now);
    let document = documents(0, now).remove(0);
    let member = |at: u64| Member {
        connection: Some(format!("{:x}-{:x}", 0x13b + at, at)),
        subject: Some(format!("user-{at}")),
        dialect: if at.is_multiple_of(3) { Dialect::Hocuspocus } else { Dialect::YWebsocket },
        since: Some(date(now.saturating_sub(at * 30_000))),
        is_read_only: at % 5 == 4,
        thread: Some((at % 4) as u16),
    };
    let detail = DocumentDetail {
        members: (0..document.members).map(member).collect(),
        document,
        next: None,
        is_partial: false,
    };
    answer(model, 0, Answer::Document(detail), now);
    let line = |sequence, at, level, text: &str| LogLine {
        sequence,
        at: date(at),
        level,
        target: "pinwire_node::node".into(),
        text: text.into(),
    };
    let started = line(1, now - 9_000, LogLevel::Info, "data thread number=0 driver=Uring");
    let refused = line(2, now - 4_000, LogLevel::Warn, "connections refused within a second: 120 full");
    let lines = LogPage { lines: vec![started, refused], next: 2, lost: 0 };
    answer(model, 0, Answer::LogLines(lines), now);
    let record = json!({ "records": [{ "sequence": 1, "at": date(now - 60_000), "who": { "token": "9f86d081884c7d65", "address": "10.0.0.2:50000" },
        "action": "set_log", "filter": "debug", "for_seconds": 60, "outcome": "done" }], "next": 1, "lost": 0 });
    if let Ok(page) = serde_json::from_value(record) {
        answer(model, 0, Answer::Audit(page), now);
    }
}

fn apps(number: usize) -> AppPage {
    let used = |used: u32, limit: u32| Use { used, limit: Some(limit) };
    let app = |name: &str, connections: u32| App {
        tenant: "acme".into(),
        app: name.into(),
        connections: used(connections, 10_000),
        documents: used(connections / 12, 5_000),
        operations: Use { used: connections * 3, limit: None },
        max_users_per_document: Some(200),
    };
    AppPage { apps: vec![app("notes", 4_000 + 1_900 * number as u32), app("boards", 812)], next: None }
}

fn connections(number: usize, now: Millis) -> Vec<Connection> {
    let connection = |at: u64| Connection {
        id: format!("{:x}-{at:x}", 0x13b + number as u64 * 64 + at),
        thread: (at % 4) as u16,
        state: if at % 11 == 10 { ConnectionState::Waiting } else { ConnectionState::Open },
        since: date(now.saturating_sub(at * 40_000)),
        tenant: Some("acme".into()),
        app: Some("notes".into()),
        subject: Some(format!("user-{at}")),
        dialect: Some(if at.is_multiple_of(3) { Dialect::Hocuspocus } else { Dialect::YWebsocket }),
        documents: vec![document_name(number as u64 * 20 + at % 20)],
        document_count: 1,
        is_compressed: at.is_multiple_of(2),
        idle_seconds: noise(at) as f64 % 30.0,
        backlog_bytes: if at == 3 { 700_000 } else { 0 },
    };
    (0..30).map(connection).collect()
}

/// All nodes of the small cluster are lost.
pub fn lose_all(model: &mut Model, now: Millis) {
    for number in 0..4 {
        let why = "nobody listens there: is the node running, and is this its admin.listen?".into();
        apply(model, number, What::Lost { why, is_refusal: false, retry_in: Duration::from_secs(4) }, now);
    }
}

/// A second of a large cluster: so many nodes in so many regions.
pub fn second_of(model: &mut Model, nodes: usize, regions_count: usize, second: u64, now: Millis) {
    for number in 0..nodes {
        apply(model, number, What::Look(Box::new(look(number, regions_count, 500 + second, now))), now);
    }
}

/// How regions look from each node of a large cluster.
pub fn regions_of(model: &mut Model, nodes: usize, regions_count: usize, now: Millis) {
    for number in 0..nodes {
        answer(model, number, Answer::Regions(regions(number, regions_count)), now);
    }
}

/// A sweep of so many pins.
pub fn pins_of(model: &mut Model, count: u64, regions_count: usize, now: Millis) {
    for from in (0..count).step_by(500) {
        let page = pins(from, (from + 500).min(count), count, regions_count, now);
        answer(model, 0, Answer::Pins { db_code: None, is_first: from == 0, page }, now);
    }
}

fn answer(model: &mut Model, number: usize, answer: Answer, now: Millis) {
    apply(model, number, What::Answered(Box::new(answer)), now);
}

fn apply(model: &mut Model, number: usize, what: What, now: Millis) {
    model.apply(Update { node: address(number), what }, now);
}
