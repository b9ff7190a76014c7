//! What follows when another process has taken over, or is about to: it is lost, it is told to end, a third comes; and what clients,
//! resolvers and systemd see of that.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pinwire_admin_api::actions::UpgradeBegun;
use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::node::{Upgrade, UpgradeState};

use crate::admin::{self, ask, bearer, good, tcp};
use crate::leaving::node;
use crate::member::Member;
use crate::provider::{Behaviour, Provider};
use crate::regions::{System, holds, insertion, until, write};
use crate::rig::{PATIENCE, Serving, program};
use crate::upgrade::{address, asked_by_tool, child_of, upgrade};
use crate::writers::{Writers, check};
use crate::zone::{NAME, free_port};

/// Longer than any test: clients of the process before stay.
const LONG: &str = "drain.window=600s";

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

fn last(serving: &Serving) -> (u32, UpgradeState) {
    let Upgrade { pid, state, .. } = node(serving).upgrade.expect("there was one");
    (pid, state)
}

#[test]
fn a_process_that_has_taken_over_and_is_lost_is_replaced_by_the_one_before() {
    let system = System::start();
    let serving = system.node_for_upgrade("here-a", "", &[LONG]);
    let mut ann = system.join(&serving);
    let next = upgrade(&system, &serving);
    serving.logs(&["draining", "another process has taken over"]);
    assert_eq!(last(&serving), (next.0, UpgradeState::Succeeded), "it answers for itself");
    let mut of_next = system.join(&serving);
    until(|| node(&serving).totals.connections == 1);
    kill(next.0, "KILL");
    serving.logs(&["is lost: this one serves again", "SIGKILL"]);
    // Whom it had is gone with it; whom the one before has is still there, and whoever comes is let in.
    assert_eq!(of_next.cut(), None, "no close frame of a process that was killed");
    let mut ben = system.join(&serving);
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    assert_eq!(node(&serving).drain, None);
    // What was counted holds for a moment.
    until(|| node(&serving).totals.connections == 2);
    assert_eq!(last(&serving), (next.0, UpgradeState::Lost));
    assert_eq!(serving.get("/health", "").0, 200);
    let EventPage { events, .. } =
        good(ask(tcp(&serving), "GET", "/v1/events", &bearer(&admin::token()), ""));
    let lost = |what: &What| matches!(what, What::SuccessorLost { pid, .. } if *pid == next.0);
    assert_eq!(events.iter().filter(|event| lost(&event.what)).count(), 1, "{events:?}");
    // Another one may try.
    let again = upgrade(&system, &serving);
    assert_ne!(again.0, next.0);
    assert_eq!(last(&serving), (again.0, UpgradeState::Succeeded));
    let mut cleo = Member::join(&serving, &system.token);
    cleo.until(|payload| payload.starts_with(&[0, 1]) && holds(payload, "from-ann")).unwrap();
}

#[test]
fn a_process_that_has_taken_over_and_is_told_to_end_is_replaced_by_nobody_and_nobody_waits_in_vain() {
    let system = System::start();
    let mut serving = system.node_for_upgrade("here-a", "", &[LONG]);
    let mut there = system.join(&serving);
    let admin = tcp(&serving).peer_addr().unwrap();
    let next = upgrade(&system, &serving);
    kill(next.0, "TERM");
    // The one before drains for long, and has the listeners no more.
    until(|| TcpStream::connect(address(&serving)).is_err() && TcpStream::connect(admin).is_err());
    assert_eq!(serving.child.try_wait().unwrap(), None);
    // Its client is there all the same: asked what it lacks, it answers.
    there.say(|out| pinwire_protocol::document::ywebsocket::append_sync_step1(out, &[0]));
    there.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    serving.signal("TERM");
    serving.logs(&["stopping", "SIGTERM"]);
    serving.signal("TERM");
    assert_eq!(serving.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_third_process_takes_over_while_the_first_still_drains_and_is_replaced_by_nobody_else() {
    let system = System::start();
    let serving = system.node_for_upgrade("here-a", "", &[LONG]);
    let _of_first = system.join(&serving);
    let second = upgrade(&system, &serving);
    let _of_second = system.join(&serving);
    let third = upgrade(&system, &serving);
    let environment = fs::read(format!("/proc/{}/environ", third.0)).unwrap();
    assert!(holds(&environment, "PINWIRE_GENERATION=3"));
    serving.logs(&["another process has taken over", &third.0.to_string()]);
    // The second is none of the first one's business any more.
    kill(second.0, "KILL");
    until(|| !std::path::Path::new(&format!("/proc/{}", second.0)).exists());
    for _ in 0..5 {
        assert_eq!(last(&serving), (third.0, UpgradeState::Succeeded));
    }
    system.join(&serving);
}

#[test]
fn an_upgrade_is_answered_at_once_and_what_becomes_of_it_is_told_afterwards() {
    let system = System::start();
    let provider = Provider::start(Behaviour::Raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned()));
    let serving = system.node_for_upgrade("here-a", "", &[]);
    let mut ann = system.join(&serving);
    // Keys that nobody has, for the next process.
    let file = system.config("here-a");
    let before = fs::read_to_string(&file).unwrap();
    let wrong = before.replace("secret_file = \"secret\"", &format!("jwks_urls = [\"{}\"]", provider.url()));
    assert_ne!(wrong, before);
    fs::write(&file, wrong).unwrap();
    let begun = ask(tcp(&serving), "POST", "/v1/node/upgrade", &bearer(&admin::token()), "");
    assert_eq!(begun.0, 202, "{}", begun.1);
    let UpgradeBegun { pid } = serde_json::from_str(&begun.1).unwrap();
    serving.logs(&["does not take over yet", "no key to check tokens with"]);
    assert_eq!(last(&serving), (pid, UpgradeState::Starting));
    let second = ask(tcp(&serving), "POST", "/v1/node/upgrade", &bearer(&admin::token()), "");
    assert!(second.0 == 409 && second.1.contains("being started already"), "{second:?}");
    kill(pid, "TERM");
    until(|| last(&serving) == (pid, UpgradeState::Failed));
    // The tool says what came of it, in the words of the process that did not take over.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| asked_by_tool(&system, &serving));
        serving.logs(&["another process is started to take over"]);
        serving.logs(&["does not take over yet", "no key to check tokens with"]);
        let child = child_of(&serving);
        kill(child.0, "TERM");
        let asked = asked.join().unwrap();
        let told = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(!asked.status.success() && told.contains("goes on as it was"), "{told}");
        assert!(told.contains("SIGTERM before it was ready"), "{told}");
    });
    // Nobody has noticed.
    let mut ben = system.join(&serving);
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    assert_eq!(node(&serving).drain, None);
    fs::write(&file, before).unwrap();
    let next = upgrade(&system, &serving);
    assert_eq!(last(&serving), (next.0, UpgradeState::Succeeded));
}

#[test]
fn listeners_of_both_families_are_handed_over() {
    let system = System::start();
    let mut serving = system.node_for_upgrade("here-a", "", &["listen=127.0.0.1:0,[::1]:0"]);
    let line = serving.logs(&["ready", "plain="]);
    let plain = line.split("plain=\"").nth(1).unwrap().split('"').next().unwrap();
    let six: SocketAddr = plain.split(", ").nth(1).unwrap().parse().unwrap();
    assert!(six.is_ipv6());
    let _next = upgrade(&system, &serving);
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    for at in [address(&serving), six.to_string()] {
        let mut socket = TcpStream::connect(&at).unwrap();
        socket.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{at}: {answer}");
    }
}

#[test]
fn no_acknowledged_edit_is_lost_and_no_connection_refused_in_an_upgrade_under_load() {
    let system = System::start();
    let mut serving = system.node_for_upgrade("here-a", "", &["drain.window=1s"]);
    let mut writers = Writers::of(8, &[&serving], &system.token);
    writers.until_some_more(&[&serving]);
    let _next = upgrade(&system, &serving);
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    writers.until_some_more(&[&serving]);
    assert_eq!(writers.refused(), 0);
    check(&system.token, &[&serving], &writers.end());
}

#[test]
fn no_acknowledged_edit_is_lost_and_no_connection_refused_in_a_drain_under_load() {
    let system = System::start();
    let mut one = system.node_for_upgrade("here-a", "", &["drain.window=1s", "drain.leave=100ms"]);
    let other = system.node_for_upgrade("here-b", "", &[]);
    let mut writers = Writers::of(8, &[&one, &other], &system.token);
    writers.until_some_more(&[&one]);
    one.signal("TERM");
    assert_eq!(one.child.wait().unwrap().code(), Some(0));
    writers.until_some_more(&[&other]);
    assert_eq!(writers.refused(), 0);
    check(&system.token, &[&other], &writers.end());
}

#[test]
fn systemd_is_told_which_process_is_the_service() {
    let system = System::start();
    let home = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let until_told = |word: &str| {
        let mut message = [0; 4096];
        loop {
            let len = socket.recv(&mut message).unwrap_or_else(|error| panic!("{word}: {error}"));
            let told = String::from_utf8_lossy(&message[..len]).into_owned();
            if told.lines().any(|line| line == word) {
                return told;
            }
        }
    };
    let mut program = program();
    program.env("NOTIFY_SOCKET", home.path().join("notify"));
    let file = system.file_for_upgrade("here-a", "");
    let serving = Serving::start_by(program, &file, &["listen=127.0.0.1:0", "threads=1", LONG]);
    until_told("READY=1");
    let _there = system.join(&serving);
    let next = upgrade(&system, &serving);
    until_told(&format!("MAINPID={}", next.0));
    kill(next.0, "KILL");
    let told = until_told(&format!("MAINPID={}", serving.child.id()));
    assert!(told.lines().any(|line| line == "READY=1"), "{told}");
}

/// Who is the name's, as a stub resolver asks once.
fn query(id: u16) -> Vec<u8> {
    let mut query = [&id.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in NAME.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

/// The same query, answered without an error and with an address.
fn is_answer(answer: &[u8], id: u16) -> bool {
    answer.len() > 12 && answer[..2] == id.to_be_bytes() && answer[3] & 15 == 0 && answer[7] > 0
}

fn over_udp(server: SocketAddr, id: u16) -> std::io::Result<Vec<u8>> {
    // One network gets so much: each query is of another.
    let [high, low] = id.to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, high, low, 1), 0))?;
    socket.set_read_timeout(Some(PATIENCE / 6))?;
    socket.send_to(&query(id), server)?;
    let mut answer = vec![0; 1500];
    let len = socket.recv(&mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

fn over_tcp(server: SocketAddr, id: u16) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(PATIENCE / 6))?;
    let query = query(id);
    socket.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
    let mut len = [0; 2];
    socket.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    socket.read_exact(&mut answer)?;
    Ok(answer)
}

type Asking = fn(SocketAddr, u16) -> std::io::Result<Vec<u8>>;

#[test]
fn no_query_goes_unanswered_when_another_process_takes_over() {
    let (system, port) = (System::start(), free_port());
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tables = format!(
        "[dns]\nname = \"{NAME}\"\naddresses = [\"192.0.2.1\"]\nprovider = \"embedded\"\nzone = \"{NAME}\"\n\
         listen = [\"{server}\"]\nservers = [\"ns1.{NAME}=127.0.0.1\", \"ns2.{NAME}=127.0.0.1\"]\n"
    );
    let mut serving = system.node_for_upgrade("here-a", &tables, &["drain.window=1s"]);
    let _there = system.join(&serving);
    until(|| over_udp(server, 7).is_ok_and(|answer| is_answer(&answer, 7)));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), [0; 2].map(|_| Arc::new(AtomicU32::new(0))));
    let asking: Vec<_> = [over_udp as Asking, over_tcp]
        .into_iter()
        .zip(&done)
        .map(|(ask, done)| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(done));
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = done.fetch_add(1, Ordering::Relaxed) as u16;
                    match ask(server, id) {
                        Ok(answer) if is_answer(&answer, id) => {}
                        other => wrong.push(other),
                    }
                }
                wrong
            })
        })
        .collect();
    let some_more = || {
        let before = done.each_ref().map(|done| done.load(Ordering::Relaxed));
        until(|| done.iter().zip(before).all(|(done, before)| done.load(Ordering::Relaxed) > before + 50));
    };
    some_more();
    let next = upgrade(&system, &serving);
    some_more();
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    some_more();
    stop.store(true, Ordering::Relaxed);
    for asking in asking {
        let wrong = asking.join().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    assert!(serving.metric("pinwire_dns_queries_total{transport=\"udp\"") > 0.0, "by the next process");
    drop(next);
}
