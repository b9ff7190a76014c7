//! Clients that write one character after another and count what is acknowledged, wherever they are sent.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::{Reader, write_var_uint};

use crate::member::{Member, Told};
use crate::rig::{PATIENCE, Serving};

/// Where they write, if nothing else is said: the document of a [`Member`].
const DOCUMENT: &str = "d";
/// Acknowledgements of each writer before something is done, and after.
const SOME: u32 = 15;
/// Before a writer dials again whom nobody told where.
const AGAIN: Duration = Duration::from_millis(50);

pub fn url(node: &Serving) -> String {
    node.ready["regions"][0]["ws_url"].as_str().unwrap().to_owned()
}

/// Told of a writer's acknowledgements: which writer, where, and how many there are.
type Acknowledged = (usize, String, u32);

/// Clients that write one character after another, each once the one before it is acknowledged. They bring along nothing but the
/// one that is not.
pub struct Writers {
    stop: Vec<Sender<()>>,
    running: Vec<JoinHandle<Writer>>,
    heard: Receiver<Acknowledged>,
    /// Of each, where it was acknowledged last and how often.
    last: Vec<(String, u32)>,
    /// Dials that came to nothing.
    refused: Arc<AtomicU32>,
}

impl Writers {
    /// One at each node; `is_bare`: they follow no redirect.
    pub fn at(nodes: &[&Serving], token: &str, is_bare: bool) -> Self {
        Self::on(DOCUMENT, nodes, token, is_bare)
    }

    /// Likewise, on another document.
    pub fn on(document: &'static str, nodes: &[&Serving], token: &str, is_bare: bool) -> Self {
        Self::who_go(document, nodes.iter().map(|node| vec![url(node)]).collect(), token, is_bare)
    }

    /// So many at the first of these nodes; whoever is sent away from there goes to the next.
    pub fn of(count: usize, nodes: &[&Serving], token: &str) -> Self {
        let urls: Vec<String> = nodes.iter().map(|node| url(node)).collect();
        Self::who_go(DOCUMENT, vec![urls; count], token, true)
    }

    fn who_go(document: &'static str, all: Vec<Vec<String>>, token: &str, is_bare: bool) -> Self {
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
            let mut writer =
                Writer { number, document, url, next, token, is_bare, acknowledged: 0, dials: 0, refused };
            let told = told.clone();
            running.push(std::thread::spawn(move || {
                while writer.write(&told, &stopping) {}
                writer
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
        self.running.into_iter().map(|running| running.join().unwrap().acknowledged).collect()
    }

    /// The same, of writers whose connections were there all the time.
    pub fn end_undisturbed(self) -> Vec<u32> {
        drop(self.stop);
        let writers: Vec<Writer> = self.running.into_iter().map(|running| running.join().unwrap()).collect();
        let dials: Vec<u32> = writers.iter().map(|writer| writer.dials).collect();
        assert!(dials.iter().all(|dials| *dials == 1), "connections were dropped: {dials:?}");
        writers.into_iter().map(|writer| writer.acknowledged).collect()
    }
}

struct Writer {
    number: usize,
    document: &'static str,
    url: String,
    /// Where it goes when it is sent away.
    next: std::vec::IntoIter<String>,
    token: String,
    is_bare: bool,
    acknowledged: u32,
    dials: u32,
    refused: Arc<AtomicU32>,
}

impl Writer {
    /// Dials and writes until the connection ends; false: it is to stop.
    fn write(&mut self, told: &Sender<Acknowledged>, stopping: &Receiver<()>) -> bool {
        self.dials += 1;
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
        member.say(|out| hocuspocus::append_auth(out, self.document, &self.token, None));
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
            if stopping.try_recv() == Err(TryRecvError::Disconnected) {
                return false;
            }
            let update = self.update();
            let message = SyncMessage::Update { update: &update };
            member.say(|out| hocuspocus::append_sync(out, self.document, &message));
        }
    }

    /// Whether it was told where to go, and goes there.
    fn sent_away(&mut self, reason: &str) -> bool {
        let Some(url) = reason.strip_prefix("REDIRECT:") else {
            self.url = self.next.next().unwrap_or_else(|| self.url.clone());
            return false;
        };
        assert!(!self.is_bare, "a client that cannot follow was sent to {url}");
        self.url = url.strip_suffix(self.document).and_then(|url| url.strip_suffix('/')).unwrap().to_owned();
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
fn there(token: &str, node: &Serving, writers: usize) -> Vec<u32> {
    let mut member = Member::join(node, token);
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

/// Nodes have everything that was acknowledged.
pub fn check(token: &str, nodes: &[&Serving], acknowledged: &[u32]) {
    for node in nodes {
        let there = there(token, node, acknowledged.len());
        let is_whole = there.iter().zip(acknowledged).all(|(there, acknowledged)| there >= acknowledged);
        assert!(is_whole, "{there:?} are there, and {acknowledged:?} were acknowledged");
    }
}
