//! A WebSocket server that does its work, or does one thing wrong in a way that is asked for.
//!
//! `/echo` echoes. `/t/NAME` subscribes, and what arrives on `/p` goes to the subscribers of the topic that its first four
//! bytes name. `/` is for Hocuspocus, whose frames name their documents. Any other path
//! is a document of y-websocket clients. Updates are kept and sent to the other members.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pinwire_protocol::document::hocuspocus::{self, Body, Frame, Scope};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::handshake::{Parsed, append_response, parse_request};
use pinwire_protocol::ws::{self, Decoder, Event, Kind, Limits, Role, Scratch};

/// What goes wrong with one delivery in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not sent.
    Drop(u64),
    /// It is sent twice.
    Duplicate(u64),
    /// It is sent after the one that follows.
    Reorder(u64),
    /// Its last byte but one is another.
    Corrupt(u64),
    /// It, and everything behind it, waits so many milliseconds; once.
    Stall(u64, u64),
    /// From it on, nothing is sent any more.
    Silence(u64),
    /// Its connection is cut.
    Cut(u64),
    /// At it, the server loses all documents and connections, as one that ends and starts again with nothing; once.
    Restart(u64),
    /// Whoever joins gets all but the last update.
    ForgetLast,
    /// Whoever joins is sent elsewhere, with code 4009.
    Redirect(SocketAddr),
    /// Upgrades are refused with 503.
    Refuse,
    /// So many are, and others are not.
    RefuseFirst(u64),
}

struct Hub {
    fault: Fault,
    deliveries: u64,
    held: HashMap<u64, Vec<u8>>,
    rooms: HashMap<String, Vec<Arc<Outlet>>>,
    updates: HashMap<String, Vec<Vec<u8>>>,
    next: u64,
}

impl Hub {
    /// Whether this upgrade is refused.
    fn refuses(&mut self) -> bool {
        match &mut self.fault {
            Fault::Refuse => true,
            Fault::RefuseFirst(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

struct Outlet {
    number: u64,
    socket: Mutex<TcpStream>,
}

/// Starts it on a free port; it ends with the test's process.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::new(Mutex::new(Hub {
        fault,
        deliveries: 0,
        held: HashMap::new(),
        rooms: HashMap::new(),
        updates: HashMap::new(),
        next: 0,
    }));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let hub = Arc::clone(&hub);
            thread::spawn(move || serve(socket, &hub));
        }
    });
    address
}

fn serve(mut socket: TcpStream, hub: &Mutex<Hub>) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let (path, mut bytes) = upgrade(&mut socket, hub)?;
    let outlet = {
        let mut hub = hub.lock().unwrap();
        hub.next += 1;
        let outlet = Arc::new(Outlet { number: hub.next, socket: Mutex::new(socket.try_clone().ok()?) });
        if let Fault::Redirect(to) = hub.fault {
            let mut close = Vec::new();
            ws::append_close(&mut close, 4009_u16, &format!("REDIRECT:ws://{to}"), None);
            let _ = socket.write_all(&close);
            return None;
        }
        hub.rooms.entry(path.clone()).or_default().push(Arc::clone(&outlet));
        outlet
    };
    let (mut decoder, mut scratch) = (Decoder::new(Role::Server, false), Scratch::new());
    loop {
        let mut at = 0;
        while at < bytes.len() {
            let decoded = decoder.decode(&mut bytes[at..], &Limits::DEFAULT, &mut scratch).ok()?;
            at += decoded.consumed;
            match decoded.event {
                Some(Event::Message { kind, payload }) => message(hub, &path, &outlet, kind, payload),
                Some(Event::Close { .. }) => {
                    leave(hub, &outlet);
                    let mut close = Vec::new();
                    ws::append_close_reply(&mut close, Some(1000), None);
                    let _ = socket.write_all(&close);
                    return None;
                }
                _ => {}
            }
        }
        bytes.resize(64 * 1024, 0);
        let count = socket.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        if count == 0 {
            leave(hub, &outlet);
            return None;
        }
    }
}

fn leave(hub: &Mutex<Hub>, outlet: &Outlet) {
    for room in hub.lock().unwrap().rooms.values_mut() {
        room.retain(|other| other.number != outlet.number);
    }
}

fn upgrade(socket: &mut TcpStream, hub: &Mutex<Hub>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = socket.read(&mut chunk).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&chunk[..count]);
        if let Parsed::Complete { head_len, request } = parse_request(&head).ok()? {
            let mut answer = Vec::new();
            if hub.lock().unwrap().refuses() {
                ws::handshake::append_refusal(&mut answer, 503, Some(1), "{}");
                let _ = socket.write_all(&answer);
                return None;
            }
            let path = request.target.split('?').next()?.to_owned();
            append_response(&mut answer, request.key?, None, None);
            let rest = head[head_len..].to_vec();
            socket.write_all(&answer).ok()?;
            return Some((path, rest));
        }
    }
}

fn message(hub: &Mutex<Hub>, path: &str, from: &Arc<Outlet>, kind: Kind, payload: &[u8]) {
    let mut hub = hub.lock().unwrap();
    if path == "/" {
        return hub.provider(from, kind, payload);
    }
    if path.starts_with("/echo") {
        return hub.deliver(from, kind, payload);
    }
    if path == "/p" {
        let topic = String::from_utf8_lossy(payload.get(..4).unwrap_or_default()).into_owned();
        for to in hub.rooms.get(&format!("/t/{topic}")).cloned().unwrap_or_default() {
            hub.deliver(&to, kind, payload);
        }
        return;
    }
    match ywebsocket::decode(payload) {
        Ok(Message::SyncStep1 { .. }) => {
            let (whole, state_vector) = hub.known(path);
            let mut answer = Vec::new();
            ywebsocket::append_sync_step2(&mut answer, &whole);
            hub.write(from, Kind::Binary, &answer);
            let mut question = Vec::new();
            ywebsocket::append_sync_step1(&mut question, &state_vector);
            hub.write(from, Kind::Binary, &question);
        }
        Ok(Message::SyncStep2 { update }) if update == [0, 0] => {}
        Ok(Message::Update { update } | Message::SyncStep2 { update }) => {
            let mut payload = Vec::new();
            ywebsocket::append_update(&mut payload, update);
            hub.updates.entry(path.to_owned()).or_default().push(update.to_vec());
            for to in hub.rooms.get(path).cloned().unwrap_or_default() {
                if to.number != from.number {
                    hub.deliver(&to, kind, &payload);
                }
            }
        }
        _ => {}
    }
}

impl Hub {
    /// All that is kept of a document, and its state vector.
    fn known(&self, document: &str) -> (Vec<u8>, Vec<u8>) {
        let mut known = self.updates.get(document).cloned().unwrap_or_default();
        if self.fault == Fault::ForgetLast {
            known.pop();
        }
        let whole = yrs::merge_updates_v1(&known).unwrap_or_else(|_| vec![0, 0]);
        let whole = if known.is_empty() { vec![0, 0] } else { whole };
        let state_vector = yrs::encode_state_vector_from_update_v1(&whole).unwrap();
        (whole, state_vector)
    }

    /// A message of a Hocuspocus client.
    fn provider(&mut self, from: &Arc<Outlet>, kind: Kind, payload: &[u8]) {
        let Ok(Frame::Message { key, body }) = hocuspocus::decode(payload) else { return };
        let mut answers = vec![Vec::new()];
        match body {
            Body::Auth { .. } => {
                self.rooms.entry(key.raw.to_owned()).or_default().push(Arc::clone(from));
                hocuspocus::append_authenticated(&mut answers[0], key.raw, Scope::ReadWrite);
            }
            Body::Sync(SyncMessage::Step1 { .. }) => {
                let (update, state_vector) = self.known(key.raw);
                hocuspocus::append_sync(&mut answers[0], key.raw, &SyncMessage::Step2 { update: &update });
                let step1 = SyncMessage::Step1 { state_vector: &state_vector };
                answers.push(Vec::new());
                hocuspocus::append_sync(&mut answers[1], key.raw, &step1);
            }
            Body::Sync(SyncMessage::Step2 { update } | SyncMessage::Update { update }) => {
                hocuspocus::append_sync_status(&mut answers[0], key.raw, true);
                if update != [0, 0] {
                    self.updates.entry(key.raw.to_owned()).or_default().push(update.to_vec());
                    let mut payload = Vec::new();
                    hocuspocus::append_sync(&mut payload, key.raw, &SyncMessage::Update { update });
                    for to in self.rooms.get(key.raw).cloned().unwrap_or_default() {
                        if to.number != from.number {
                            self.deliver(&to, kind, &payload);
                        }
                    }
                }
            }
            _ => return,
        }
        for answer in answers {
            self.write(from, Kind::Binary, &answer);
        }
    }

    /// One delivery, with what goes wrong with it.
    fn deliver(&mut self, to: &Arc<Outlet>, kind: Kind, payload: &[u8]) {
        self.deliveries += 1;
        let is_turn = |every: u64| self.deliveries.is_multiple_of(every);
        match self.fault {
            Fault::Drop(every) if is_turn(every) => {}
            Fault::Duplicate(every) if is_turn(every) => {
                self.write(to, kind, payload);
                self.write(to, kind, payload);
            }
            Fault::Reorder(every) if is_turn(every) => {
                self.held.insert(to.number, payload.to_vec());
            }
            Fault::Corrupt(every) if is_turn(every) => {
                let mut other = payload.to_vec();
                let at = other.len() - 2;
                other[at] = if other[at] == b'x' { b'y' } else { b'x' };
                self.write(to, kind, &other);
            }
            Fault::Stall(at, millis) if self.deliveries == at => {
                thread::park_timeout(Duration::from_millis(millis));
                self.write(to, kind, payload);
            }
            Fault::Silence(from) if self.deliveries >= from => {}
            Fault::Restart(at) if self.deliveries == at => {
                self.updates.clear();
                for outlet in self.rooms.drain().flat_map(|(_, room)| room) {
                    let _ = outlet.socket.lock().unwrap().shutdown(std::net::Shutdown::Both);
                }
            }
            Fault::Cut(every) if is_turn(every) => {
                let _ = to.socket.lock().unwrap().shutdown(std::net::Shutdown::Both);
            }
            _ => self.write(to, kind, payload),
        }
        // What was held goes out behind what followed it.
        if !matches!(self.fault, Fault::Reorder(every) if self.deliveries.is_multiple_of(every))
            && let Some(held) = self.held.remove(&to.number)
        {
            self.write(to, kind, &held);
        }
    }

    fn write(&self, to: &Outlet, kind: Kind, payload: &[u8]) {
        let mut frame = Vec::new();
        ws::append_message(&mut frame, kind, payload);
        let _ = to.socket.lock().unwrap().write_all(&frame);
    }
}
