//! A node that fills up, and one that is ill: what it still does, what clients are told, and that nobody who is there is sent away.
//! What the host has are files of the test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::node::{Node, Status};
use pinwire_admin_api::standing::{Reach, Rung, Standing};
use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_protocol::document::ywebsocket;
use tempfile::TempDir;

use crate::admin::{self, bearer, good, tcp};
use crate::member::Member;
use crate::regions::System;
use crate::rig::{Home, PATIENCE, Serving};

/// A host whose memory a test decides about: a cgroup with a limit.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let group = host.path().join("sys/fs/cgroup/pinwire");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(host.path().join("proc/self")).unwrap();
        fs::write(host.path().join("proc/self/cgroup"), "0::/pinwire\n").unwrap();
        fs::write(group.join("memory.max"), "100000\n").unwrap();
        host.fill(10);
        host
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// So many percent of its memory are in use.
    fn fill(&self, percent: u32) {
        let group = self.path().join("sys/fs/cgroup/pinwire");
        // Nobody reads half of it.
        fs::write(group.join("new"), format!("{}\n", percent * 1_000)).unwrap();
        fs::rename(group.join("new"), group.join("memory.current")).unwrap();
    }

    fn table(&self) -> String {
        format!("[shedding]\ndwell = \"1s\"\nhost_root = \"{}\"\n", self.path().display())
    }
}

/// What counts in tests that decide about it; elsewhere nothing of this machine does.
const MEMORY: &str = "shedding.resources=memory";

fn node_of(system: &System, name: &str, host: &Host) -> Serving {
    system.node_having(name, "here-1", &host.table(), &[MEMORY])
}

/// Asks again and again: each question is a request, which takes its time.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
    }
}

fn told(node: &Serving) -> Node {
    good(admin::ask(tcp(node), "GET", "/v1/node", &bearer(&admin::token()), ""))
}

fn events(node: &Serving) -> Vec<What> {
    let page: EventPage = good(admin::ask(tcp(node), "GET", "/v1/events", &bearer(&admin::token()), ""));
    page.events.into_iter().map(|event| event.what).collect()
}

/// A handshake for a document, and its whole answer.
fn knock(node: &Serving, target: &str) -> (TcpStream, String) {
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
    let mut socket = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        socket,
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    if !head.contains(" 503 ") {
        return (socket, head);
    }
    let mut body = String::new();
    socket.read_to_string(&mut body).unwrap();
    (socket, head + &body)
}

fn is_refused_for(answer: &str, reason: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let seconds = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.parse::<u64>().unwrap())
    });
    assert!((1..=120).contains(&seconds.unwrap()), "{answer}");
    assert!(answer.contains(&format!("\"reason\":\"{reason}\"")), "{answer}");
}

/// The id in the answer of a client that is refused.
fn change_in(answer: &str) -> &str {
    answer.split_once("\"change\":\"").unwrap().1.split_once('"').unwrap().0
}

/// The member is served: what it says is acknowledged by what it asks for.
fn is_served(member: &mut Member) {
    member.say(|out| ywebsocket::append_sync_step1(out, &[0]));
    member.until(|payload| payload.starts_with(&[0, 1])).unwrap();
}

#[test]
fn a_node_gives_up_step_by_step_and_takes_back_and_nobody_is_sent_away() {
    let (system, host, other_host) = (System::start(), Host::new(), Host::new());
    let node = node_of(&system, "here-1a", &host);
    node.logs(&["INFO", "all is well", "healthy"]);
    let other = node_of(&system, "here-1b", &other_host);
    other.logs(&["INFO", "all is well"]);
    let token = &system.token;
    let mut member = system.join(&node);

    host.fill(70);
    node.logs(&["WARN", "memory at 70 %", "degraded", "thrifty", "is_in_dns=true", "memory=70"]);
    assert!(knock(&node, &format!("/new-1?token={token}")).1.starts_with("HTTP/1.1 101 "));

    // The other node may not have been heard of at first: without it this one would go on opening documents.
    host.fill(75);
    node.logs(&["WARN", "memory at 7", "no_new_documents", "is_in_dns=true"]);
    let (_, answer) = knock(&node, &format!("/new-2?token={token}"));
    is_refused_for(&answer, "new_document");
    assert!(knock(&node, &format!("/d?token={token}")).1.starts_with("HTTP/1.1 101 "), "it is here");
    assert_eq!(node.get("/health", "").0, 200);
    let mut hocuspocus = Member::from(knock(&node, "/").0);
    hocuspocus.is_upgraded();
    hocuspocus.say(|out| hocuspocus::append_auth(out, "d", token, Some("4.1.0")));
    let is = |payload: &[u8], key: &str| match hocuspocus::decode(payload) {
        Ok(Frame::Message { key: of, body: Body::Authenticated { .. } }) => of.raw == key,
        _ => false,
    };
    hocuspocus.until(|payload| is(payload, "d")).unwrap();
    hocuspocus.say(|out| hocuspocus::append_auth(out, "new-3", token, Some("4.1.0")));
    until("a document is not opened", || node.metric("pinwire_documents_refused_total") >= 1.0);

    host.fill(81);
    node.logs(&["WARN", "memory at 81 %", "overloaded", "no_new_connections", "is_in_dns=false"]);
    let (_, answer) = knock(&node, &format!("/d?token={token}"));
    is_refused_for(&answer, "overloaded");
    let change = change_in(&answer).to_owned();
    let (status, health) = node.get("/health", "");
    assert!(status == 503 && health.contains("memory at 81 %") && health.contains(&change), "{health}");
    let mut asks = Member::from(knock(&node, &format!("/d?token={token}&refuse=close")).0);
    asks.is_upgraded();
    let (code, reason) = asks.end();
    let wait_ms: u64 = reason.strip_prefix("retry_ms=").unwrap().parse().unwrap();
    assert!(code == 1013 && (1_000..=120_000).contains(&wait_ms), "{code} {reason}");
    let known = told(&node);
    let standing = known.standing.unwrap();
    assert_eq!(
        (known.status, standing.rung, standing.in_dns),
        (Status::Overloaded, Rung::NoNewConnections, false)
    );
    assert_eq!((standing.change.as_str(), standing.pool.reach), (change.as_str(), Reach::Reached));
    assert_eq!(standing.parts[1].share, 0.81);
    let is_told = |what: &What| match what {
        What::StandingChanged {
            change: id, status: Status::Overloaded, memory_percent: Some(81), ..
        } => *id == change,
        _ => false,
    };
    assert!(events(&node).iter().any(is_told), "{:?}", events(&node));
    assert_eq!(node.metric("pinwire_in_dns"), 0.0);
    let refused = || node.metric("pinwire_handshakes_refused_total{reason=\"overloaded\"");
    until("they are counted", || refused() >= 2.0);
    assert!(
        knock(&other, &format!("/new-4?token={token}")).1.starts_with("HTTP/1.1 101 "),
        "the other one serves"
    );
    is_served(&mut member);

    host.fill(10);
    node.logs(&["INFO", "all is well", "healthy", "is_in_dns=true"]);
    assert!(knock(&node, &format!("/new-5?token={token}")).1.starts_with("HTTP/1.1 101 "));
    // What waited is opened now.
    hocuspocus.until(|payload| is(payload, "new-3")).unwrap();
    is_served(&mut member);
}

#[test]
fn of_two_nodes_that_fill_up_at_once_one_stays_in() {
    let system = System::start();
    let hosts = [Host::new(), Host::new()];
    let nodes =
        [("here-1a", &hosts[0]), ("here-1b", &hosts[1])].map(|(name, host)| node_of(&system, name, host));
    for node in &nodes {
        node.logs(&["INFO", "all is well"]);
    }
    hosts.iter().for_each(|host| host.fill(85));
    let token = &system.token;
    let both = || [&nodes[0], &nodes[1]].map(|node| told(node).standing.unwrap());
    let is_decided = || {
        let standings = both();
        // One that waits for the pool's answer stays, too, and does not say this.
        let stays = |standing: &&Standing| {
            standing.is_last && standing.cause.contains("no other node could take the clients")
        };
        standings.iter().filter(stays).count() == 1
            && standings.iter().filter(|standing| !standing.in_dns).count() == 1
    };
    until("one stays and one leaves", || {
        assert!(both().iter().any(|standing| standing.in_dns), "the pool is never emptied");
        is_decided()
    });
    let standings = both();
    let (last, gone) = if standings[0].is_last { (0, 1) } else { (1, 0) };
    assert_eq!(nodes[last].get("/health", "").0, 200);
    assert!(knock(&nodes[last], &format!("/d?token={token}")).1.starts_with("HTTP/1.1 101 "));
    is_refused_for(&knock(&nodes[gone], &format!("/d?token={token}")).1, "overloaded");
    // At its end the last one refuses as well, and still stays in.
    hosts[last].fill(96);
    nodes[last].logs(&["WARN", "memory at 96 %", "no_new_connections", "is_in_dns=true"]);
    is_refused_for(&knock(&nodes[last], &format!("/d?token={token}")).1, "overloaded");
    // The other one has room again, and the last may leave.
    hosts[gone].fill(10);
    nodes[gone].logs(&["INFO", "all is well"]);
    nodes[last].logs(&["WARN", "overloaded", "is_in_dns=false"]);
}

#[test]
fn load_that_oscillates_around_the_mark_changes_nothing_more() {
    let (home, host) = (Home::new(), Host::new());
    let root = format!("shedding.host_root={}", host.path().display());
    let settings = ["listen=127.0.0.1:0", "threads=1", MEMORY, &root];
    let node = Serving::start_with(&home.config(), &settings);
    node.logs(&["INFO", "all is well"]);
    host.fill(81);
    node.logs(&["WARN", "memory at 81 %, and no other node could take the clients"]);
    let changes = || node.metric("pinwire_standing_changes_total");
    let before = changes();
    for percent in [78, 82, 76, 81, 71, 80] {
        host.fill(percent);
        // It was looked at since.
        let share = f64::from(percent) / 100.0;
        let occupancy = || node.metric("pinwire_occupancy_ratio{resource=\"memory\"}");
        until("it is measured", || occupancy() == share);
    }
    assert_eq!(changes(), before);
}

#[test]
fn a_budget_lets_clients_in_by_and_by_and_a_reload_changes_it() {
    let home = Home::new();
    home.replace("# budget = 0\n", "budget = 1\n");
    let settings = ["listen=127.0.0.1:0", "threads=1", "address_limits.enabled=false"];
    let node = Serving::start_with(&home.config(), &settings);
    let token = home.token();
    until("the budget holds", || node.metric("pinwire_handshakes_budget") == 1.0);
    let (mut there, mut refused) = (Vec::new(), 0);
    // They come as one wave: some wait for their turn, and the others are told at once to come again.
    let waves: Vec<_> = std::thread::scope(|scope| {
        let knocking = [(); 20].map(|()| scope.spawn(|| knock(&node, &format!("/d?token={token}"))));
        knocking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (socket, answer) in waves {
        if answer.starts_with("HTTP/1.1 101 ") {
            there.push(socket);
        } else {
            is_refused_for(&answer, "budget");
            refused += 1;
        }
    }
    assert!(there.len() > 1 && refused >= 10, "{} came in, {refused} did not", there.len());
    assert_eq!(node.get("/health", "").0, 200, "who asks is answered");
    home.replace("budget = 1\n", "budget = 1000\n");
    node.signal("HUP");
    until("another budget holds", || node.metric("pinwire_handshakes_budget") == 1000.0);
    for _ in 0..20 {
        assert!(knock(&node, &format!("/d?token={token}")).1.starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn a_name_that_two_nodes_have_is_told() {
    let system = System::start();
    let hosts = [Host::new(), Host::new()];
    let first = node_of(&system, "here-1a", &hosts[0]);
    first.logs(&["INFO", "all is well"]);
    let second = node_of(&system, "here-1a", &hosts[1]);
    second.logs(&["ERROR", "another node of the region calls itself the same"]);
}

#[test]
fn a_pool_that_is_out_of_reach_leaves_the_node_in() {
    let (mut system, host) = (System::start(), Host::new());
    let node = node_of(&system, "here-1a", &host);
    node.logs(&["INFO", "all is well"]);
    system.here.kill();
    node.logs(&["WARN", "the pool of the region's nodes is out of reach"]);
    host.fill(85);
    node.logs(&["WARN", "memory at 85 %, and no other node could take the clients", "is_in_dns=true"]);
    assert!(matches!(told(&node).standing.unwrap().pool.reach, Reach::Lost));
}
