//! A document that is moved to another region while clients write, with real servers of Redis: what was acknowledged is there.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_admin_api::actions::DocumentMoved;
use pinwire_admin_api::cluster::{Pin, PinPage};
use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::{Reader, write_var_uint};
use serde_json::Value;

use crate::member::{Member, Told};
use crate::regions::{System, until};
use crate::rig::{PATIENCE, Serving};

const DOCUMENT: &str = "d";
/// Acknowledgements of each writer before something is done, and after.
const SOME: u32 = 15;
/// Before a writer dials again whom nobody told where.
const AGAIN: Duration = Duration::from_millis(50);

fn url(node: &Serving) -> String {
    node.ready["regions"][0]["ws_url"].as_str().unwrap().to_owned()
}

/// Told of a writer's acknowledgements: which writer, where, and how many there are.
type Acknowledged = (usize, String, u32);

/// Clients that write one character after another, each once the one before it is acknowledged. They bring along nothing but the
/// one that is not.
pub struct Writers {
    stop: Vec<Sender<()>>,
    running: Vec<JoinHandle<u32>>,
    heard: Receiver<Acknowledged>,
    /// Of each, where it was acknowledged last and how often.
    last: Vec<(String, u32)>,
    /// Dials that came to nothing.
    refused: Arc<AtomicU32>,
}

impl Writers {
    /// One at each node; `is_bare`: they follow no redirect.
    fn at(nodes: &[&Serving], token: &str, is_bare: bool) -> Self {
        Self::who_go(nodes.iter().map(|node| vec![url(node)]).collect(), token, is_bare)
    }

    /// So many at the first of these nodes; whoever is sent away from there goes to the next.
    pub fn of(count: usize, nodes: &[&Serving], token: &str) -> Self {
        let urls: Vec<String> = nodes.iter().map(|node| url(node)).collect();
        Self::who_go(vec![urls; count], token, true)
    }

    fn who_go(all: Vec<Vec<String>>, token: &str, is_bare: bool) -> Self {
        let (told, heard) = channel();
        let refused = Arc::<AtomicU32>::default();
        let (mut stop, mut running) = (Vec::new(), Vec::new());
        let last = all.iter().map(|urls| (urls[0].clone(), 0)).collect();
        for (number, urls) in all.into_iter().enumerate() {
            let (stopper, stopping) = channel();
            stop.push(stopper);
            let mut next = urls.into_iter();
            let url = next.next().unwrap();
            let (token, refused) = (token.to_owned(), Arc::clone(&refused));
            let mut writer = Writer { number, url, next, token, is_bare, acknowledged: 0, refused };
            let told = told.clone();
            running.push(std::thread::spawn(move || {
                while writer.write(&told, &stopping) {}
                writer.acknowledged
            }));
        }
        Self { stop, running, heard, last, refused }
    }

    /// Waits until each was acknowledged some more times by a node of these.
    pub fn until_some_more(&mut self, nodes: &[&Serving]) {
        let urls: Vec<String> = nodes.iter().map(|node| url(node)).collect();
        let mut missing = vec![SOME; self.last.len()];
        let deadline = Instant::now() + 2 * PATIENCE;
        // What was acknowledged until now does not count.
        self.heard.try_iter().for_each(|(number, at, count)| self.last[number] = (at, count));
        while missing.iter().any(|missing| *missing > 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            let (number, at, count) = self.heard.recv_timeout(left).unwrap_or_else(|_| {
                panic!("{missing:?} acknowledgements are missing by {urls:?}; {:?}", self.last)
            });
            if urls.contains(&at) {
                missing[number] = missing[number].saturating_sub(1);
            }
            self.last[number] = (at, count);
        }
    }

    /// How many dials came to nothing.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often each was acknowledged.
    pub fn end(self) -> Vec<u32> {
        drop(self.stop);
        self.running.into_iter().map(|running| running.join().unwrap()).collect()
    }
}

struct Writer {
    number: usize,
    url: String,
    /// Where it goes when it is sent away.
    next: std::vec::IntoIter<String>,
    token: String,
    is_bare: bool,
    acknowledged: u32,
    refused: Arc<AtomicU32>,
}

impl Writer {
    /// Dials and writes until the connection ends; false: it is to stop.
    fn write(&mut self, told: &Sender<Acknowledged>, stopping: &Receiver<()>) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.url.strip_prefix("ws://").unwrap()) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return wait(stopping);
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        if socket.write_all(upgrade.as_bytes()).is_err() {
            return wait(stopping);
        }
        let mut member = Member::from(socket);
        member.say(|out| hocuspocus::append_auth(out, DOCUMENT, &self.token, None));
        loop {
            let message = match member.told() {
                Told::Message(message) => message,
                Told::Close(_, reason) => return self.sent_away(&reason) || wait(stopping),
            };
            let Ok(Frame::Message { body, .. }) = hocuspocus::decode(&message) else { continue };
            match body {
                Body::Authenticated { .. } => {}
                Body::PermissionDenied { reason } => return self.sent_away(reason) || wait(stopping),
                Body::Close { reason } => {
                    return self.sent_away(reason.unwrap_or_default()) || wait(stopping);
                }
                Body::SyncStatus { applied } => {
                    assert!(applied, "an update was refused");
                    self.acknowledged += 1;
                    // Nobody may listen any more.
                    let _ = told.send((self.number, self.url.clone(), self.acknowledged));
                }
                _ => continue,
            }
            if stopping.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return false;
            }
            let update = self.update();
            member
                .say(|out| hocuspocus::append_sync(out, DOCUMENT, &SyncMessage::Update { update: &update }));
        }
    }

    /// Whether it was told where to go, and goes there.
    fn sent_away(&mut self, reason: &str) -> bool {
        let Some(url) = reason.strip_prefix("REDIRECT:") else {
            self.url = self.next.next().unwrap_or_else(|| self.url.clone());
            return false;
        };
        assert!(!self.is_bare, "a client that cannot follow was sent to {url}");
        self.url = url.strip_suffix("/d").unwrap().to_owned();
        true
    }

    /// One more character.
    fn update(&self) -> Vec<u8> {
        let mut update = vec![1, 1, self.number as u8 + 1];
        write_var_uint(&mut update, self.acknowledged.into());
        update.extend_from_slice(&[4, 1, 1, b't', 1, b'x', 0]);
        update
    }
}

/// False: it is to stop.
fn wait(stopping: &Receiver<()>) -> bool {
    stopping.recv_timeout(AGAIN) == Err(RecvTimeoutError::Timeout)
}

/// How many characters of each writer a node has.
fn there(system: &System, node: &Serving, writers: usize) -> Vec<u32> {
    let mut member = Member::join(node, &system.token);
    let step = member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
    let mut reader = Reader::new(&step[2..]);
    let mut vector = Reader::new(reader.var_bytes().unwrap());
    let mut there = vec![0; writers];
    for _ in 0..vector.var_uint().unwrap() {
        let (client, clock) = (vector.var_uint().unwrap(), vector.var_uint().unwrap());
        if let Some(there) = there.get_mut(client as usize - 1) {
            *there = clock as u32;
        }
    }
    there
}

pub fn check(system: &System, nodes: &[&Serving], acknowledged: &[u32]) {
    for node in nodes {
        let there = there(system, node, acknowledged.len());
        let is_whole = there.iter().zip(acknowledged).all(|(there, acknowledged)| there >= acknowledged);
        assert!(is_whole, "{there:?} are there, and {acknowledged:?} were acknowledged");
    }
}

fn ask(node: &Serving, method: &str, path: &str, body: &str) -> (u16, String) {
    let url = node.ready["regions"][0]["admin_url"].as_str().unwrap();
    let socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    socket.set_read_timeout(Some(3 * PATIENCE)).unwrap();
    crate::admin::ask(
        socket,
        method,
        path,
        &format!("Authorization: Bearer {}\r\n", crate::admin::token()),
        body,
    )
}

fn pin(node: &Serving) -> Pin {
    let (status, body) = ask(node, "GET", "/v1/pins", "");
    assert_eq!(status, 200, "{body}");
    let page: PinPage = serde_json::from_str(&body).unwrap();
    page.pins.into_iter().next().expect("the document is active")
}

fn move_it(node: &Serving, to: &str) -> (u16, String) {
    let Pin { tenant, app, name, .. } = pin(node);
    ask(node, "POST", &format!("/v1/pins/{tenant}/{app}/{name}/move"), &format!("{{\"region\":\"{to}\"}}"))
}

fn moved(node: &Serving, from: &str, to: &str) {
    let (status, body) = move_it(node, to);
    assert_eq!(status, 200, "{body}");
    let moved: DocumentMoved = serde_json::from_str(&body).unwrap();
    assert_eq!((&*moved.from, &*moved.region), (from, to));
    let pin = pin(node);
    assert_eq!((&*pin.region, pin.claim), (to, moved.claim));
}

const LINKED: &str = "peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"secret\"\n";

#[test]
fn what_was_acknowledged_before_a_move_is_there_after_it_and_clients_follow() {
    let system = System::start();
    let node = |name, region| system.node_with(name, region, LINKED);
    let (here_a, here_b) = (node("here-a", "here-1"), node("here-b", "here-1"));
    let (there_a, there_b) = (node("there-a", "there-1"), node("there-b", "there-1"));
    let (here, there) = ([&here_a, &here_b], [&there_a, &there_b]);
    let mut writers = Writers::at(&[&here_a, &here_b, &here_a, &here_b], &system.token, false);
    writers.until_some_more(&here);
    // There, asked of a node that hands over; back, asked of one that takes.
    moved(&here_a, "here-1", "there-1");
    writers.until_some_more(&there);
    for node in here {
        let (code, reason) = Member::join(node, &system.token).end();
        assert!(code == 4009 && there.iter().any(|there| reason.contains(&url(there))), "{code} {reason}");
    }
    moved(&here_b, "there-1", "here-1");
    writers.until_some_more(&here);
    let (status, body) = move_it(&there_a, "here-1");
    assert_eq!(status, 409, "{body}");
    let acknowledged = writers.end();
    check(&system, &here, &acknowledged);
}

#[test]
fn clients_that_cannot_follow_are_carried_to_where_a_document_was_moved() {
    let system = System::start();
    let config = format!("{LINKED}wrong_region = \"relay\"\n");
    let node = |name, region| system.node_with(name, region, &config);
    let (here_a, here_b) = (node("here-a", "here-1"), node("here-b", "here-1"));
    let there = node("there-a", "there-1");
    let mut writers = Writers::at(&[&here_a, &here_b], &system.token, true);
    writers.until_some_more(&[&here_a, &here_b]);
    moved(&there, "here-1", "there-1");
    writers.until_some_more(&[&here_a, &here_b]);
    let acknowledged = writers.end();
    check(&system, &[&there], &acknowledged);
    assert_eq!(pin(&here_a).region, "there-1");
}

#[test]
fn a_region_goes_on_with_a_document_that_it_handed_over_in_vain() {
    let system = System::start();
    let node = |name, region| system.node_with(name, region, LINKED);
    let (here, there) = (node("here-a", "here-1"), node("there-a", "there-1"));
    let mut writers = Writers::at(&[&here, &here], &system.token, false);
    writers.until_some_more(&[&here]);
    let before = pin(&here);
    // Where it goes to its sessions do not answer, and who takes it is killed.
    system.there.pause();
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| move_it(&here, "there-1"));
        here.logs(&["a document is handed over"]);
        there.signal("KILL");
        let (status, body) = moving.join().unwrap();
        assert_eq!(status, 503, "{body}");
    });
    system.there.resume();
    writers.until_some_more(&[&here]);
    until(|| pin(&here).claim > before.claim);
    assert_eq!(pin(&here).region, "here-1");
    let acknowledged = writers.end();
    check(&system, &[&here], &acknowledged);
}

#[test]
fn what_cannot_be_moved_is_said_with_its_mend() {
    let system = System::start();
    let (linked, alone) = (system.node_with("here-a", "here-1", LINKED), system.node("here-b", "here-1"));
    let there = system.node("there-a", "there-1");
    let ask_of = |node: &Serving, document: &str, region: &str| {
        let path = format!("/v1/pins/acme/notes/{document}/move");
        let (status, body) = ask(node, "POST", &path, &format!("{{\"region\":\"{region}\"}}"));
        let problem: Value = serde_json::from_str(&body).unwrap();
        (status, problem["detail"].as_str().unwrap().to_owned())
    };
    let (status, detail) = ask_of(&alone, "d", "there-1");
    assert!(status == 409 && detail.contains("cluster.peer_listen"), "{status} {detail}");
    let (status, detail) = ask_of(&linked, "d", "mars-1");
    assert!(status == 422 && detail.contains("mars-1"), "{status} {detail}");
    let (status, detail) = ask_of(&linked, "d", "there-1");
    assert!(status == 409 && detail.contains("cluster.peer_listen"), "{status} {detail}");
    let (status, detail) = ask_of(&linked, "nobody-has-it", "here-1");
    assert!(status == 404 && detail.contains("idle"), "{status} {detail}");
    let mut ann = system.join(&there);
    let (status, body) = move_it(&linked, "here-1");
    assert_eq!(status, 503, "{body}");
    ann.say(|out| pinwire_protocol::document::ywebsocket::append_sync_step1(out, &[0]));
    ann.until(|payload| payload.starts_with(&[0, 1])).unwrap();
}
