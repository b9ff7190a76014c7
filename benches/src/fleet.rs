//! Many y-websocket clients on one thread: each dials, syncs, answers pings, and hands its updates to a [`Watcher`].
//!
//! They are as cheap as the node's own connections, being made of the same engine and codec, so that a client process does
//! not become what is measured.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use pinwire_engine::{Cause, Config, Driver, Engine, Event, Segment, Slot, allowed_cores, pin_to_core};
use pinwire_protocol::document::awareness::{self, Entry};
use pinwire_protocol::document::update;
use pinwire_protocol::document::ywebsocket::{self, EMPTY_AWARENESS, Message};
use pinwire_protocol::ws::handshake::{
    ClientRequest, Expected, ParsedResponse, append_request, parse_response, request_key,
};
use pinwire_protocol::ws::{self, Decoder, Frame, Limits, Opcode, Role, Scratch};
use socket2::{Domain, Socket, Type};

/// The state vector of a client that has nothing.
const EMPTY_STATE_VECTOR: [u8; 1] = [0];

/// Runs `main` with a fleet on a thread of its own, bound to the last processor: a node pins its threads from the first one
/// on, and processes started by the calling thread stay free of this binding.
///
/// # Errors
/// The thread or its engine cannot be made, or `main` fails.
pub fn on_last_processor<T: Send + 'static>(
    server: SocketAddr,
    main: impl AsyncFnOnce(Fleet) -> Result<T> + Send,
) -> Result<T> {
    let clients = || -> Result<T> {
        if let Some(core) = allowed_cores()?.last() {
            pin_to_core(*core)?;
        }
        let config = Config { driver: Driver::Epoll, ..Config::default() };
        pinwire_engine::run(config, async move |engine| main(Fleet::new(engine, server)).await)?
    };
    std::thread::scope(|scope| scope.spawn(clients).join())
        .map_err(|_| anyhow!("the clients' thread panicked"))?
}

/// What a client wants when it dials.
#[derive(Debug)]
pub struct Dial<'a> {
    /// The address it comes from.
    pub source: Ipv4Addr,
    /// The document's name.
    pub document: &'a str,
    /// Its token.
    pub token: &'a str,
    /// Its awareness state, as JSON.
    pub presence: Option<Box<str>>,
}

/// Takes what the clients are sent.
pub trait Watcher {
    /// A client was sent an update, in a step 2 or as it happened.
    ///
    /// # Errors
    /// Anything that must end the measurement.
    fn update(&mut self, client: usize, update: &[u8]) -> Result<()>;
}

/// For measurements in which nobody edits.
impl Watcher for () {
    fn update(&mut self, client: usize, update: &[u8]) -> Result<()> {
        if update == update::EMPTY {
            Ok(())
        } else {
            bail!("client {client} was sent an edit; nobody edited")
        }
    }
}

/// What all clients together met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that got their first step 2.
    pub synced: usize,
    /// Pings answered.
    pub pings: u64,
    /// Idle frames: an empty awareness.
    pub idle_frames: u64,
    /// Awareness frames that say something.
    pub awareness_frames: u64,
    /// Data frames of all kinds.
    pub data_frames: u64,
    /// Connections that ended after we had closed them.
    pub closed: usize,
}

/// See the module's documentation.
pub struct Fleet {
    engine: Engine,
    server: SocketAddr,
    host: String,
    clients: Vec<Client>,
    /// Which client has a slot of the engine, by the slot's index.
    by_slot: Vec<u32>,
    scratch: Scratch,
    counts: Counts,
}

struct Client {
    slot: Slot,
    stage: Stage,
    id: u32,
    clock: u32,
    presence: Option<Box<str>>,
    is_synced: bool,
    pings: u32,
    data_frames: u32,
}

enum Stage {
    Upgrading(Box<Upgrading>),
    Open(Decoder),
    /// We closed: its end is awaited.
    Closing(Decoder),
    Gone,
}

struct Upgrading {
    key: String,
    head: Vec<u8>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("clients", &self.clients.len()).field("counts", &self.counts).finish()
    }
}

impl Fleet {
    fn new(engine: Engine, server: SocketAddr) -> Self {
        Self {
            engine,
            server,
            host: server.to_string(),
            clients: Vec::new(),
            by_slot: Vec::new(),
            scratch: Scratch::new(),
            counts: Counts::default(),
        }
    }

    /// What all clients met so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Pings and data frames that each client met so far.
    pub fn each(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.clients.iter().map(|client| (client.pings, client.data_frames))
    }

    /// Connects one more client and sends its upgrade request; the next turns do the rest. Clients are numbered from 0 as
    /// they dial.
    ///
    /// # Errors
    /// The connection is refused, or a descriptor is lacking.
    pub fn dial(&mut self, dial: Dial<'_>) -> Result<usize> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).context("no socket")?;
        socket.bind(&SocketAddrV4::new(dial.source, 0).into()).context("no port")?;
        socket.connect(&self.server.into()).context("the node refuses connections")?;
        let slot = self.engine.adopt(OwnedFd::from(socket), self.server)?;
        let key = request_key(fastrand::u128(..).to_ne_bytes());
        let target = format!("/{}?token={}", dial.document, dial.token);
        let request = ClientRequest {
            host: &self.host,
            target: &target,
            key: &key,
            protocols: &[],
            origin: None,
            headers: &[],
            deflate: false,
        };
        let start = self.engine.arena().len();
        append_request(self.engine.arena(), &request)?;
        queue(&mut self.engine, slot, start)?;
        let number = self.clients.len();
        if self.by_slot.len() <= slot.index() {
            self.by_slot.resize(slot.index() + 1, u32::MAX);
        }
        self.by_slot[slot.index()] = u32::try_from(number)?;
        self.clients.push(Client {
            slot,
            stage: Stage::Upgrading(Box::new(Upgrading { key, head: Vec::new() })),
            id: fastrand::u32(..),
            clock: 0,
            presence: dial.presence,
            is_synced: false,
            pings: 0,
            data_frames: 0,
        });
        Ok(number)
    }

    /// Waits until something happens or the deadline has come, acts on it, and sends what was queued.
    ///
    /// # Errors
    /// A client was refused, disconnected or sent nonsense, or the watcher objects.
    pub async fn turn(&mut self, deadline: Instant, watcher: &mut impl Watcher) -> Result<()> {
        self.engine.flush();
        self.engine.wait(Some(deadline)).await;
        self.engine.poll();
        while let Some(event) = self.engine.next_event() {
            match event {
                Event::Data { slot, mut buf } => {
                    let number = self.number(slot)?;
                    self.received(number, &mut buf, watcher).with_context(|| format!("client {number}"))?;
                    self.engine.recycle(buf);
                }
                Event::Ended { slot, cause } => self.ended(slot, cause)?,
                Event::Overflow { .. } => bail!("the node does not read what a client sends"),
                _ => {}
            }
        }
        self.engine.flush();
        Ok(())
    }

    /// Sends an edit of a client.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn edit(&mut self, client: usize, update: &[u8]) -> Result<()> {
        self.message(client, |out| ywebsocket::append_update(out, update))
    }

    /// Announces a client's presence, as clients renew it: the same state under a higher clock.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn announce(&mut self, client: usize) -> Result<()> {
        let found = &mut self.clients[client];
        let Some(json) = found.presence.clone() else { return Ok(()) };
        found.clock += 1;
        let entry = Entry { client: found.id.into(), clock: found.clock, json: &json };
        let mut body = Vec::new();
        awareness::append_body(&mut body, &[entry]);
        self.message(client, |out| ywebsocket::append_awareness(out, &body))
    }

    /// Sends every client's close frame; their ends follow in later turns.
    ///
    /// # Errors
    /// A connection takes no more.
    pub fn close_all(&mut self) -> Result<()> {
        for client in &mut self.clients {
            match std::mem::replace(&mut client.stage, Stage::Gone) {
                Stage::Open(decoder) => {
                    client.stage = Stage::Closing(decoder);
                    let start = self.engine.arena().len();
                    ws::append_close(self.engine.arena(), 1000_u16, "", Some(mask()));
                    queue(&mut self.engine, client.slot, start)?;
                }
                other => client.stage = other,
            }
        }
        Ok(())
    }

    fn number(&self, slot: Slot) -> Result<usize> {
        let number = self.by_slot.get(slot.index()).context("an event of no client")?;
        Ok(*number as usize)
    }

    fn message(&mut self, client: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        append(&mut self.engine, self.clients[client].slot, write)
    }

    fn received(&mut self, number: usize, bytes: &mut [u8], watcher: &mut impl Watcher) -> Result<()> {
        let Stage::Upgrading(upgrading) = &mut self.clients[number].stage else {
            return self.decode(number, bytes, watcher);
        };
        upgrading.head.extend_from_slice(bytes);
        let expected = Expected { key: &upgrading.key, protocols: &[], deflate: false };
        let ParsedResponse::Complete { head_len, .. } = parse_response(&upgrading.head, &expected)? else {
            return Ok(());
        };
        let mut rest = upgrading.head.split_off(head_len);
        self.clients[number].stage = Stage::Open(Decoder::new(Role::Client, false));
        self.message(number, |out| ywebsocket::append_sync_step1(out, &EMPTY_STATE_VECTOR))?;
        self.announce(number)?;
        self.decode(number, &mut rest, watcher)
    }

    fn decode(&mut self, number: usize, bytes: &mut [u8], watcher: &mut impl Watcher) -> Result<()> {
        let Self { engine, clients, scratch, counts, .. } = self;
        let client = &mut clients[number];
        let (decoder, is_closing) = match &mut client.stage {
            Stage::Open(decoder) => (decoder, false),
            Stage::Closing(decoder) => (decoder, true),
            Stage::Upgrading(_) | Stage::Gone => return Ok(()),
        };
        let mut at = 0;
        while at < bytes.len() {
            let decoded = decoder.decode(&mut bytes[at..], &Limits::DEFAULT, scratch)?;
            at += decoded.consumed;
            match decoded.event {
                Some(ws::Event::Message { payload, .. }) if !is_closing => {
                    client.data_frames += 1;
                    counts.data_frames += 1;
                    match ywebsocket::decode(payload)? {
                        Message::SyncStep1 { .. } => {
                            append(engine, client.slot, |out| {
                                ywebsocket::append_sync_step2(out, &update::EMPTY);
                            })?;
                        }
                        Message::SyncStep2 { update } => {
                            counts.synced += usize::from(!client.is_synced);
                            client.is_synced = true;
                            watcher.update(number, update)?;
                        }
                        Message::Update { update } => watcher.update(number, update)?,
                        Message::Awareness(_) if payload == EMPTY_AWARENESS => counts.idle_frames += 1,
                        Message::Awareness(_) => counts.awareness_frames += 1,
                        Message::QueryAwareness => {}
                        Message::PermissionDenied { reason } => bail!("permission denied: {reason}"),
                    }
                }
                Some(ws::Event::Ping(payload)) if !is_closing => {
                    client.pings += 1;
                    counts.pings += 1;
                    let start = engine.arena().len();
                    ws::append_pong(engine.arena(), payload, Some(mask()));
                    queue(engine, client.slot, start)?;
                }
                Some(ws::Event::Close { code, reason }) if !is_closing => {
                    bail!("closed by the node: {code:?} {reason}")
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ended(&mut self, slot: Slot, cause: Cause) -> Result<()> {
        let number = self.number(slot)?;
        let client = &mut self.clients[number];
        if !matches!(client.stage, Stage::Closing(_)) {
            return Err(anyhow!("client {number} was disconnected: {cause:?}"));
        }
        client.stage = Stage::Gone;
        self.counts.closed += 1;
        self.engine.close(slot);
        Ok(())
    }
}

fn append(engine: &mut Engine, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut payload = Vec::with_capacity(64);
    write(&mut payload);
    let start = engine.arena().len();
    ws::append_frame(engine.arena(), Frame::new(Opcode::Binary).masked(mask()), &payload);
    queue(engine, slot, start)
}

fn queue(engine: &mut Engine, slot: Slot, start: usize) -> Result<()> {
    let end = engine.arena().len();
    engine.send(slot, Segment::Arena(u32::try_from(start)?..u32::try_from(end)?))?;
    Ok(())
}

/// Fresh for each frame, as RFC 6455 5.3 asks of a client.
fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}
