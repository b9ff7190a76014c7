//! A lean client: connections that each keep some messages under way to an echo server, and check every byte that comes back.
//!
//! It runs on a thread of its own and is told what to do over a channel, so that one command holds connections to several
//! servers and lets one after the other run. It speaks through the io_uring floor's ring: a heavier client would be what is
//! measured.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pinwire_engine::pin_to_core;
use pinwire_protocol::ws::handshake::{
    ClientRequest, Expected, ParsedResponse, append_request, parse_response, request_key,
};

use crate::floor::uring::Ring;
use crate::floor::{Handler, Next, Output};
use crate::procfs::{self, Cpu};

/// Longest wait for an answer to an order beyond its own time: what has not come then was lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that begin to send in one turn.
const STARTS: usize = 256;
/// Handshakes under way.
const DIALS: usize = 128;
/// All messages are masked with it: what a server has to do does not depend on which key it is.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A message says which connection sent it and how manieth it is.
const STAMP: usize = 8;
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Messages that each connection has under way.
    pub in_flight: u32,
    /// Bytes of a message.
    pub bytes: usize,
}

/// What a window brought.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// How long it was.
    pub time: Duration,
    /// Messages that came back.
    pub messages: u64,
    /// Processor time of the server, all its threads.
    pub server: Cpu,
    /// Of the client's thread.
    pub client: Cpu,
}

impl Window {
    /// Server time of a message.
    #[must_use]
    pub fn us_per_message(&self) -> f64 {
        self.server.total.as_secs_f64() * 1e6 / self.messages as f64
    }

    /// Messages a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }
}

enum Order {
    /// Keep messages under way for so long, and measure after the warm-up.
    Run { warm_up: Duration, time: Duration },
    /// Send so many messages in all.
    Count(u64),
}

/// Connections to one server.
#[derive(Debug)]
pub struct EchoClient {
    orders: Sender<Order>,
    answers: Receiver<Result<Window>>,
}

impl EchoClient {
    /// Connects on a new thread on that core; returns when all connections stand.
    ///
    /// # Errors
    /// A connection is refused.
    pub fn connect(address: SocketAddr, server_pid: u32, load: Load, core: usize) -> Result<Self> {
        ensure!(load.bytes >= STAMP && load.bytes <= 60_000, "messages of {STAMP} to 60000 bytes");
        let (orders, to_do) = channel();
        let (answer, answers) = channel();
        let (ready, is_ready) = channel();
        std::thread::Builder::new().name("echo-client".into()).spawn(move || {
            let worker = pin_to_core(core)
                .map_err(anyhow::Error::from)
                .and_then(|()| Worker::connect(address, server_pid, load));
            let mut worker = match worker {
                Ok(worker) => worker,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            for order in to_do {
                if answer.send(worker.follow(&order)).is_err() {
                    return;
                }
            }
        })?;
        is_ready.recv_timeout(PATIENCE).context("connections do not come to stand")??;
        Ok(Self { orders, answers })
    }

    /// Keeps messages under way for so long. Returns when the last is back.
    ///
    /// # Errors
    /// A message was lost, or came back as another.
    pub fn run(&self, warm_up: Duration, time: Duration) -> Result<Window> {
        self.give(Order::Run { warm_up, time }, warm_up + time)
    }

    /// Sends so many messages. Returns when the last is back.
    ///
    /// # Errors
    /// A message was lost, or came back as another.
    pub fn count(&self, messages: u64) -> Result<Window> {
        self.give(Order::Count(messages), PATIENCE)
    }

    fn give(&self, order: Order, time: Duration) -> Result<Window> {
        self.orders.send(order).map_err(|_| anyhow!("the client is gone"))?;
        self.answers
            .recv_timeout(time + PATIENCE)
            .context("messages were lost: the last ones do not come back")?
    }
}

/// What can be read at a moment.
struct Reading {
    at: Instant,
    messages: u64,
    server: Cpu,
    client: Cpu,
}

impl Reading {
    fn since(&self, begin: &Self) -> Window {
        Window {
            time: self.at - begin.at,
            messages: self.messages - begin.messages,
            server: self.server.since(begin.server),
            client: self.client.since(begin.client),
        }
    }
}

struct Worker {
    ring: Ring,
    echoes: Echoes,
    server_pid: u32,
}

impl Worker {
    fn connect(address: SocketAddr, server_pid: u32, load: Load) -> Result<Self> {
        let mut worker = Self { ring: Ring::new()?, echoes: Echoes::new(load), server_pid };
        for number in 0..load.connections {
            while number - worker.echoes.open >= DIALS {
                worker.turn()?;
            }
            let socket = TcpStream::connect(address).context("the server refuses connections")?;
            socket.set_nodelay(true)?;
            let conn = worker.ring.adopt(socket.as_fd(), &mut worker.echoes)?;
            let key = request_key(fastrand::u128(..).to_ne_bytes());
            let host = address.to_string();
            let request = ClientRequest {
                host: &host,
                target: "/echo",
                key: &key,
                protocols: &[],
                origin: None,
                headers: &[],
                deflate: false,
            };
            let out = worker.ring.output();
            let start = out.bytes.len();
            append_request(&mut out.bytes, &request)?;
            out.send(conn, start);
            worker.echoes.lines[conn as usize].key = Some(key);
        }
        while worker.echoes.open < load.connections {
            worker.turn()?;
        }
        Ok(worker)
    }

    fn turn(&mut self) -> Result<()> {
        self.ring.turn(&mut self.echoes)?;
        match self.echoes.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn follow(&mut self, order: &Order) -> Result<Window> {
        match *order {
            Order::Run { warm_up, time } => {
                self.start(u64::MAX)?;
                self.turn_for(warm_up)?;
                let begin = self.reading()?;
                self.turn_for(time)?;
                let window = self.reading()?.since(&begin);
                self.finish()?;
                Ok(window)
            }
            Order::Count(messages) => {
                let begin = self.reading()?;
                self.start(messages)?;
                while self.echoes.quota > 0 {
                    self.turn()?;
                }
                self.finish()?;
                Ok(self.reading()?.since(&begin))
            }
        }
    }

    /// Puts messages under way on every connection, of at most so many in all.
    fn start(&mut self, quota: u64) -> Result<()> {
        self.echoes.quota = quota;
        let mut starting = 0..self.echoes.lines.len();
        while !starting.is_empty() {
            for conn in starting.by_ref().take(STARTS) {
                self.echoes.send(conn as u32, self.echoes.load.in_flight, self.ring.output());
            }
            if self.echoes.under_way > 0 {
                self.turn()?;
            }
        }
        Ok(())
    }

    fn turn_for(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.turn()?;
        }
        Ok(())
    }

    /// Sends no more, and waits for what is under way.
    fn finish(&mut self) -> Result<()> {
        self.echoes.quota = 0;
        while self.echoes.under_way > 0 {
            self.turn()?;
        }
        Ok(())
    }

    fn reading(&self) -> Result<Reading> {
        let (server, client) = self.cpu()?;
        Ok(Reading { at: Instant::now(), messages: self.echoes.back, server, client })
    }

    fn cpu(&self) -> Result<(Cpu, Cpu)> {
        Ok((procfs::cpu(self.server_pid, "")?.1, procfs::own_thread()?))
    }
}

/// The connections of a client.
struct Echoes {
    load: Load,
    lines: Vec<Line>,
    open: usize,
    /// Messages that may still be sent.
    quota: u64,
    under_way: u64,
    back: u64,
    /// A message as it is sent and as it comes back, the stamp left out.
    sent: Vec<u8>,
    expected: Vec<u8>,
    fault: Option<anyhow::Error>,
}

#[derive(Default)]
struct Line {
    /// Until the upgrade is answered.
    key: Option<String>,
    sent: u32,
    back: u32,
}

impl Echoes {
    fn new(load: Load) -> Self {
        let payload: Vec<u8> = (0..load.bytes).map(|at| b'a' + (at % 26) as u8).collect();
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (frame, mask) in [(&mut sent, MASKED), (&mut expected, 0)] {
            frame.push(BINARY);
            match load.bytes {
                len @ ..=125 => frame.push(mask | len as u8),
                len => {
                    frame.push(mask | 126);
                    frame.extend_from_slice(&(len as u16).to_be_bytes());
                }
            }
        }
        sent.extend_from_slice(&KEY);
        sent.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        expected.extend_from_slice(&payload);
        Self {
            load,
            lines: Vec::new(),
            open: 0,
            quota: 0,
            under_way: 0,
            back: 0,
            sent,
            expected,
            fault: None,
        }
    }

    fn send(&mut self, conn: u32, count: u32, out: &mut Output) {
        let count = self.quota.min(count.into());
        self.quota -= count;
        self.under_way += count;
        let line = &mut self.lines[conn as usize];
        let start = out.bytes.len();
        for _ in 0..count {
            out.bytes.extend_from_slice(&self.sent);
            let at = out.bytes.len() - self.load.bytes;
            let stamp = stamp(conn, line.sent);
            for (place, (byte, key)) in out.bytes[at..].iter_mut().zip(stamp.iter().zip(KEY.iter().cycle())) {
                *place = byte ^ key;
            }
            line.sent = line.sent.wrapping_add(1);
        }
        out.send(conn, start);
    }

    /// How many bytes were answers, and how many answers they were.
    fn check(&mut self, conn: u32, bytes: &[u8]) -> Result<(usize, u32)> {
        let line = &mut self.lines[conn as usize];
        let (len, head) = (self.expected.len(), self.expected.len() - self.load.bytes);
        let frames = bytes.chunks_exact(len);
        let count = frames.len();
        for frame in frames {
            ensure!(
                frame[..head] == self.expected[..head]
                    && frame[head..head + STAMP] == stamp(conn, line.back)
                    && frame[head + STAMP..] == self.expected[head + STAMP..],
                "connection {conn} was sent something else than its message {}",
                line.back
            );
            line.back = line.back.wrapping_add(1);
        }
        self.under_way = self.under_way.checked_sub(count as u64).context("messages came back twice")?;
        self.back += count as u64;
        Ok((count * len, count as u32))
    }

    fn upgraded(&mut self, conn: u32, bytes: &[u8]) -> Result<usize> {
        let line = &mut self.lines[conn as usize];
        let Some(key) = &line.key else { bail!("connection {conn} is open") };
        match parse_response(bytes, &Expected { key, protocols: &[], deflate: false })? {
            ParsedResponse::Complete { head_len, .. } => {
                line.key = None;
                self.open += 1;
                Ok(head_len)
            }
            _ => Ok(0),
        }
    }
}

fn stamp(conn: u32, number: u32) -> [u8; STAMP] {
    (u64::from(conn) << 32 | u64::from(number)).to_be_bytes()
}

impl Handler for Echoes {
    fn opened(&mut self, _conn: u32) {
        self.lines.push(Line::default());
    }

    fn received(&mut self, conn: u32, bytes: &mut [u8], out: &mut Output) -> Next {
        let used = if self.lines[conn as usize].key.is_some() {
            self.upgraded(conn, bytes)
        } else {
            self.check(conn, bytes).map(|(used, count)| {
                self.send(conn, count, out);
                used
            })
        };
        match used {
            Ok(used) => Next::Used(used),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                Next::Close
            }
        }
    }

    fn closed(&mut self, conn: u32) {
        self.fault.get_or_insert_with(|| anyhow!("the server closed connection {conn}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Floor, serve};
    use std::net::{Ipv4Addr, TcpListener};

    fn exchange(floor: Floor, load: Load) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(floor, listener, false));
        let client =
            EchoClient::connect(address, std::process::id(), load, crate::roles::load_core().unwrap());
        let client = client.unwrap();
        assert_eq!(client.count(1000).unwrap().messages, 1000);
        assert_eq!(client.count(500).unwrap().messages, 500);
    }

    #[test]
    fn both_floors_send_back_what_they_are_sent() {
        for floor in [Floor::Epoll, Floor::Uring] {
            exchange(floor, Load { connections: 10, in_flight: 4, bytes: 20 });
            // More than a read takes: frames split over reads, and sockets that are full.
            exchange(floor, Load { connections: 3, in_flight: 100, bytes: 50_000 });
        }
    }

    #[test]
    fn a_wrong_answer_is_found() {
        let mut echoes = Echoes::new(Load { connections: 1, in_flight: 1, bytes: 20 });
        echoes.opened(0);
        echoes.quota = 2;
        echoes.send(0, 2, &mut Output::default());
        let answer = |number: u32| {
            let mut frame = echoes.expected.clone();
            frame[2..10].copy_from_slice(&stamp(0, number));
            frame
        };
        let (first, second) = (answer(0), answer(1));
        assert!(echoes.check(0, &second).is_err(), "out of order");
        assert_eq!(echoes.check(0, &[&first[..], &second[..5]].concat()).unwrap(), (first.len(), 1));
        assert!(echoes.check(0, &first).is_err(), "twice");
    }
}
