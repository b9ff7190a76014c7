//! A node that runs out of file descriptors or memory: it says so, does not spin, answers what it can, and comes back.

use std::io::{Read, Write};
use std::net::TcpStream;

use pinwire_protocol::document::varint::write_var_uint;
use pinwire_protocol::document::ywebsocket;
use pinwire_protocol::ws::{self, Frame, Opcode};

use crate::rig::{Home, PATIENCE, Serving};

const FILES: u32 = 256;
/// More than such a process has descriptors.
const HERD: usize = 400;

fn start(home: &Home, driver: &str) -> Serving {
    let driver = format!("driver={driver}");
    let settings = [
        "listen=127.0.0.1:0",
        "threads=1",
        "max_connections=10000",
        "address_limits.enabled=false",
        "deadlines.handshake=2s",
        "deadlines.first_frame=60s",
        &driver,
    ];
    let node = Serving::start_with_files(FILES, &home.config(), &settings);
    node.logs(&["WARN", "ulimit -n is 256", "not for the 10000 of max_connections", "LimitNOFILE="]);
    node
}

/// Connects and says nothing.
fn silent(node: &Serving) -> TcpStream {
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
    let socket = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Processor time that the node takes while a silent connection runs into its deadline, which is two seconds.
fn busy_in_two_seconds(node: &Serving) -> f64 {
    let before = node.metric("process_cpu_seconds_total");
    let mut waiting = silent(node);
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0, "its deadline ends it");
    node.metric("process_cpu_seconds_total") - before
}

/// Fills the node up, and lets half of its connections go again.
fn more_than_it_has_room_for_are_refused(driver: &str) {
    let home = Home::new();
    let node = start(&home, driver);
    let token = home.token();
    let mut there = Vec::new();
    let mut refused = 0;
    for _ in 0..HERD {
        match node.knock(&token) {
            (socket, status) if status == "101" => there.push(socket),
            (_, status) => {
                assert_eq!(status, "503");
                refused += 1;
            }
        }
    }
    let limit = node.metric("pinwire_connections_limit");
    assert_eq!(there.len() as f64, limit, "as many as it says, and then no more");
    assert!((100.0..f64::from(FILES)).contains(&limit), "{limit}");
    assert_eq!(refused + there.len(), HERD);
    node.logs(&["WARN", "connections at 100 %, and no other node could take the clients"]);
    assert_eq!(node.get("/health", "").0, 503, "it answers while it is full");
    let busy = busy_in_two_seconds(&node);
    assert!(busy < 1.0, "{busy} s of processor time while nothing happens");
    there.truncate(there.len() / 2);
    // Their ends are seen before what comes after them.
    let back = (0..there.len() / 2).all(|_| {
        let (socket, status) = node.knock(&token);
        there.push(socket);
        status == "101"
    });
    assert!(back, "there is room again");
}

#[test]
fn a_full_process_refuses_and_takes_connections_again_on_epoll() {
    more_than_it_has_room_for_are_refused("epoll");
}

#[test]
fn a_full_process_refuses_and_takes_connections_again_on_io_uring() {
    more_than_it_has_room_for_are_refused("auto");
}

/// Takes every descriptor by connections that say nothing, until their deadline.
fn silence_takes_every_descriptor_for_a_while(driver: &str) {
    let home = Home::new();
    let node = start(&home, driver);
    let herd: Vec<TcpStream> = (0..HERD).map(|_| silent(&node)).collect();
    node.logs(&["WARN", "no more connections can be taken for now"]);
    // Whoever comes now waits for the deadline of those before.
    assert_eq!(node.get("/health", "").0, 200);
    assert!(node.metric("pinwire_accept_pauses_total") >= 1.0);
    let busy = busy_in_two_seconds(&node);
    assert!(busy < 1.0, "{busy} s of processor time for connections that say nothing");
    for mut socket in herd {
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "its deadline ends it");
    }
    assert_eq!(node.knock(&home.token()).1, "101");
}

#[test]
fn silent_connections_end_at_their_deadline_and_nothing_spins_on_epoll() {
    silence_takes_every_descriptor_for_a_while("epoll");
}

#[test]
fn silent_connections_end_at_their_deadline_and_nothing_spins_on_io_uring() {
    silence_takes_every_descriptor_for_a_while("auto");
}

/// A frame with an update of so many bytes, by a client of its own.
fn insertion(client: u8, len: usize) -> Vec<u8> {
    let mut update = vec![1, 1, client, 0, 4, 1, 1, b't'];
    write_var_uint(&mut update, len as u64);
    update.resize(update.len() + len, b'x');
    update.push(0);
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    ywebsocket::append_update(&mut payload, &update);
    ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
    bytes
}

#[test]
fn a_node_short_of_memory_takes_no_new_clients_until_it_has_some_again() {
    let home = Home::new();
    let settings = [
        "listen=127.0.0.1:0",
        "threads=1",
        "shedding.max_memory=40MiB",
        "shedding.resources=memory",
        "shedding.dwell=1s",
        "deadlines.grace=0s",
        "address_limits.enabled=false",
    ];
    let node = Serving::start_with(&home.config(), &settings);
    let token = home.token();
    let (mut member, status) = node.knock(&token);
    assert_eq!((status.as_str(), node.get("/health", "").0), ("101", 200));
    for client in 1..=60 {
        member.write_all(&insertion(client, 1 << 20)).unwrap();
    }
    node.logs(&["WARN", "memory at ", "overloaded", "no_new_connections", "change="]);
    assert_eq!(node.knock(&token).1, "503");
    let (status, health) = node.get("/health", "");
    assert!(status == 503 && health.contains("overloaded"), "{status} {health}");
    assert!(node.metric("pinwire_handshakes_refused_total{reason=\"overloaded\"") >= 1.0);
    // Its document goes with it.
    drop(member);
    node.logs(&["INFO", "all is well", "serving"]);
    assert_eq!((node.knock(&token).1.as_str(), node.get("/health", "").0), ("101", 200));
}
