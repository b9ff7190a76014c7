//! Another process takes over: who connects meanwhile, upgrades that come to nothing, and nodes that end in the middle of one.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::admin::tcp;
use crate::leaving::node;
use crate::member::Member;
use crate::regions::{System, until};
use crate::rig::{PATIENCE, Serving, program};

pub fn address(serving: &Serving) -> String {
    serving.ready["regions"][0]["ws_url"].as_str().unwrap().strip_prefix("ws://").unwrap().to_owned()
}

/// Connects again and again, each time with a whole request, until it is told to stop. Answers how many went wrong.
fn knock_on(address: &str, token: &str, stop: &AtomicBool, done: &AtomicU32) -> Vec<String> {
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let outcome = TcpStream::connect(address).and_then(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            Write::write_all(
                &mut socket,
                format!("GET /discovery?documentName=d&token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        });
        match outcome {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => _ = done.fetch_add(1, Ordering::Relaxed),
            other => wrong.push(format!("{other:?}")),
        }
    }
    wrong
}

#[test]
fn another_process_takes_over_and_nobody_who_connects_is_refused() {
    let system = System::start();
    let serving = system.node_for_upgrade("here-a", "", &[]);
    let mut there = system.join(&serving);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let knocking: Vec<_> = (0..2)
        .map(|_| {
            let (address, token) = (address(&serving), system.token.clone());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || knock_on(&address, &token, &stop, &done))
        })
        .collect();
    until(|| done.load(Ordering::Relaxed) > 20);
    let next = upgrade(&system, &serving);
    let pid = next.0;
    assert_ne!(pid, serving.child.id());
    // A client of the one before is sent away, and finds the document where it comes next.
    assert_eq!(there.end(), (1012, "the node stops".to_owned()));
    let before = done.load(Ordering::Relaxed);
    until(|| done.load(Ordering::Relaxed) > before + 20);
    stop.store(true, Ordering::Relaxed);
    for knocking in knocking {
        assert_eq!(knocking.join().unwrap(), Vec::<String>::new());
    }
    drop(there);
    let mut old = serving;
    assert_eq!(old.child.wait().unwrap().code(), Some(0), "the one before ends by itself");
    let mut again = Member::join(&old, &system.token);
    again.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    // The admin API is that of the one that serves. What it told the tool a moment ago holds for a while.
    until(|| node(&old).totals.connections == 1);
    assert_eq!(node(&old).drain, None);
    drop(next);
}

/// Has another process take over, which is ended with what this returns.
pub fn upgrade(system: &System, serving: &Serving) -> Killed {
    let output = asked_by_tool(system, serving);
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{told}");
    Killed(told.split(' ').nth(1).unwrap().parse().unwrap())
}

/// What `pinwire-node upgrade` comes to.
pub fn asked_by_tool(system: &System, serving: &Serving) -> Output {
    program()
        .args(["upgrade", "--config"])
        .arg(system.config("here-a"))
        .args(["--set", &format!("admin.listen={}", tcp(serving).peer_addr().unwrap())])
        .output()
        .unwrap()
}

/// A process that no handle is there for.
pub struct Killed(pub u32);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).status();
    }
}

/// A node that speaks both, and what to connect to it by.
struct Both {
    serving: Serving,
    plain: String,
    tls: String,
    client: Arc<ClientConfig>,
}

impl Both {
    fn start(system: &System, settings: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let beside = |name: &str| system.config("here-a").with_file_name(name);
        fs::write(beside("node.crt"), made.cert.pem()).unwrap();
        fs::write(beside("node.key"), made.signing_key.serialize_pem()).unwrap();
        let tables =
            "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [\"node.crt\"]\nkeys = [\"node.key\"]\n";
        let serving = system.node_for_upgrade("here-a", tables, settings);
        let line = serving.logs(&["ready", "plain="]);
        let plain = line.split("plain=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let url = serving.ready["regions"][0]["ws_url"].as_str().unwrap();
        let tls = url.strip_prefix("wss://").unwrap().to_owned();
        Self { serving, plain, tls, client: client(made.cert.der().clone()) }
    }

    fn dial(address: &str) -> std::io::Result<TcpStream> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// The level of a metric, read over plain text.
    fn level(&self, name: &str) -> f64 {
        let mut socket = Self::dial(&self.plain).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    /// Upgrades again and again until it is told to stop; answers what went wrong.
    fn knock(&self, is_tls: bool, token: &str, stop: &Arc<AtomicBool>, done: &Arc<AtomicU32>) -> Knocking {
        let (address, client) = (if is_tls { &self.tls } else { &self.plain }.clone(), self.client.clone());
        let (token, stop, done) = (token.to_owned(), Arc::clone(stop), Arc::clone(done));
        std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let outcome = Self::dial(&address).and_then(|socket| match is_tls {
                    true => upgraded(&mut sealed(socket, &client), &token),
                    false => upgraded(&mut { socket }, &token),
                });
                match outcome {
                    Ok(head) if head.starts_with("HTTP/1.1 101 ") => _ = done.fetch_add(1, Ordering::Relaxed),
                    other => wrong.push(format!("{is_tls}: {other:?}")),
                }
            }
            wrong
        })
    }
}

type Knocking = JoinHandle<Vec<String>>;

fn client(root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn sealed(socket: TcpStream, client: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), socket)
}

fn request(token: &str) -> String {
    format!(
        "GET /d?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Asks for the upgrade; the head of the answer.
fn upgraded(stream: &mut (impl Read + Write), token: &str) -> std::io::Result<String> {
    stream.write_all(request(token).as_bytes())?;
    head(stream)
}

fn head(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn who_was_accepted_by_the_process_before_is_let_in_there_and_nobody_who_upgrades_is_refused() {
    const EACH: usize = 4;
    let system = System::start();
    // No time for clients: those in their handshake have theirs all the same.
    let both = Both::start(&system, &["drain.window=0s"]);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let knocking = [false, true].map(|is_tls| both.knock(is_tls, &system.token, &stop, &done));
    until(|| done.load(Ordering::Relaxed) > 20);
    let whole = request(&system.token);
    let (begun, rest) = whole.split_at(20);
    let plain: Vec<TcpStream> = (0..EACH)
        .map(|_| {
            let mut socket = Both::dial(&both.plain).unwrap();
            socket.write_all(begun.as_bytes()).unwrap();
            socket
        })
        .collect();
    let tls: Vec<TcpStream> = (0..EACH).map(|_| Both::dial(&both.tls).unwrap()).collect();
    until(|| both.level("pinwire_handshakes_pending") >= 2.0 * EACH as f64);
    let next = upgrade(&system, &both.serving);
    both.serving.logs(&["draining", "another process has taken over"]);
    for mut socket in plain {
        socket.write_all(rest.as_bytes()).unwrap();
        let mut member = Member::from(socket);
        assert_eq!(member.end(), (1012, "the node stops".to_owned()));
    }
    for socket in tls {
        let answer = upgraded(&mut sealed(socket, &both.client), &system.token).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
    let before = done.load(Ordering::Relaxed);
    until(|| done.load(Ordering::Relaxed) > before + 20);
    stop.store(true, Ordering::Relaxed);
    for knocking in knocking {
        assert_eq!(knocking.join().unwrap(), Vec::<String>::new());
    }
    let mut old = both.serving;
    assert_eq!(old.child.wait().unwrap().code(), Some(0), "the one before ends by itself");
    drop(next);
}

/// Starts an upgrade that waits for a Redis that is not there; the process that is to take over.
fn begin_in_vain(system: &System, serving: &Serving) -> Killed {
    let file = system.config("here-a");
    let text = fs::read_to_string(&file).unwrap();
    let url = system.here.url();
    assert_eq!(text.matches(&*url).count(), 1);
    fs::write(&file, text.replace(&*url, "redis://127.0.0.1:1")).unwrap();
    serving.signal("USR2");
    serving.logs(&["does not take over yet", "sessions are out of reach"]);
    child_of(serving)
}

/// The only process that a node has started.
pub fn child_of(serving: &Serving) -> Killed {
    let parent = serving.child.id().to_string();
    let output = Command::new("ps").args(["--no-headers", "-o", "pid", "--ppid", &parent]).output().unwrap();
    Killed(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

#[test]
fn an_upgrade_that_comes_to_nothing_leaves_everything_as_it_was() {
    let system = System::start();
    let socket = system.config("here-a").with_file_name("admin.sock");
    let serving =
        system.node_for_upgrade("here-a", "", &[&format!("admin.socket={}", socket.to_str().unwrap())]);
    let next = begin_in_vain(&system, &serving);
    assert_eq!(serving.knock(&system.token).1, "101");
    assert!(Command::new("kill").arg(next.0.to_string()).status().unwrap().success());
    serving.logs(&["goes on as it was", "does not take over", "SIGTERM"]);
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    assert_eq!(serving.knock(&system.token).1, "101");
    assert_eq!(node(&serving).drain, None);
    assert_eq!(serving.end(), 0);
    assert!(!socket.exists(), "it goes with its node");
}

#[test]
fn a_node_that_is_told_to_end_during_an_upgrade_ends_and_so_does_the_other_process() {
    let system = System::start();
    let serving = system.node_for_upgrade("here-a", "", &[]);
    let next = begin_in_vain(&system, &serving);
    serving.signal("TERM");
    serving.logs(&["stopping", "SIGTERM"]);
    let mut serving = serving;
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    until(|| !std::path::Path::new(&format!("/proc/{}", next.0)).exists());
}
