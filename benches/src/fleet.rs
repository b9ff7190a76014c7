//! Many clients on one thread, of y-websocket or of Hocuspocus: each dials, syncs, answers pings, and hands its updates to
//! a [`Watcher`].
//!
//! They are as cheap as the node's own connections, being made of the same engine and codec, so that a client process does
//! not become what is measured.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pinwire_engine::{Cause, Config, Driver, Engine, Event, Segment, Slot, allowed_cores, pin_to_core};
use pinwire_loadgen::scenario::Dialect;
use pinwire_protocol::document::awareness::{self, Entry};
use pinwire_protocol::document::hocuspocus::{self, Body};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::update;
use pinwire_protocol::document::ywebsocket::{self, EMPTY_AWARENESS, Message};
use pinwire_protocol::ws::handshake::{
    ClientRequest, Expected, ParsedResponse, append_request, parse_response, request_key,
};
use pinwire_protocol::ws::{self, Decoder, Frame, Limits, Opcode, Role, Scratch};
use pinwire_tls::{ClientConfig, client_session};
use socket2::{Domain, Socket, Type};

/// The state vector of a client that has nothing.
const EMPTY_STATE_VECTOR: [u8; 1] = [0];
/// What Hocuspocus clients of today say they are.
const HOCUSPOCUS_VERSION: &str = "4.0.0";
/// A Hocuspocus pong: a frame of this byte.
const HOCUSPOCUS_PONG: u8 = 10;

/// Runs `main` with a fleet on a thread of its own, bound to the last processor: a node pins its threads from the first one
/// on, and processes started by the calling thread stay free of this binding.
///
/// # Errors
/// The thread or its engine cannot be made, or `main` fails.
pub fn on_last_processor<T: Send + 'static>(
    server: SocketAddr,
    main: impl AsyncFnOnce(Fleet) -> Result<T> + Send,
) -> Result<T> {
    on_last_processor_with(Config { driver: Driver::Epoll, ..Config::default() }, server, main)
}

/// As [`on_last_processor`], with an engine as `config` says.
///
/// # Errors
/// The thread or its engine cannot be made, or `main` fails.
pub fn on_last_processor_with<T: Send + 'static>(
    config: Config,
    server: SocketAddr,
    main: impl AsyncFnOnce(Fleet) -> Result<T> + Send,
) -> Result<T> {
    engine_on_last_processor(config, async move |engine| main(Fleet::new(engine, server)).await)
}

/// The same with the engine alone, for clients of another kind.
///
/// # Errors
/// The thread or its engine cannot be made, or `main` fails.
pub fn engine_on_last_processor<T: Send + 'static>(
    config: Config,
    main: impl AsyncFnOnce(Engine) -> Result<T> + Send,
) -> Result<T> {
    let clients = || -> Result<T> {
        if let Some(core) = allowed_cores()?.last() {
            pin_to_core(*core)?;
        }
        pinwire_engine::run(config, async move |engine| main(engine).await)?
    };
    std::thread::scope(|scope| scope.spawn(clients).join())
        .map_err(|_| anyhow!("the clients' thread panicked"))?
}

/// What a client wants when it dials.
#[derive(Debug)]
pub struct Dial<'a> {
    /// The address it comes from.
    pub source: Ipv4Addr,
    /// Of the server, what stands before the document's name in the request's path; of Pinwire nothing.
    pub path: &'a str,
    /// The document's name.
    pub document: &'a str,
    /// Its token, where the server wants one.
    pub token: Option<&'a str>,
    /// What it speaks.
    pub dialect: Dialect,
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
    /// TLS handshakes that went on from an earlier one.
    pub resumed: u64,
}

/// How clients speak TLS.
#[derive(Clone, Debug)]
pub struct FleetTls {
    /// What their connections are made by.
    pub config: Arc<ClientConfig>,
    /// Under so many names, each client under the one of its number, they dial: sessions are kept by name.
    pub names: usize,
}

/// How a client got in sync.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// From dialling to its first step 2.
    pub time: Duration,
    /// Bytes that the socket had brought by then, the upgrade's answer included.
    pub bytes: u64,
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
    tls: Option<FleetTls>,
}

struct Client {
    slot: Slot,
    stage: Stage,
    id: u32,
    clock: u32,
    presence: Option<Box<str>>,
    /// Of a Hocuspocus client.
    hocuspocus: Option<Box<Session>>,
    dialled: Instant,
    joined: Option<Joined>,
    bytes: u64,
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

/// A Hocuspocus client's frames carry the document's name; its first one carries the token.
struct Session {
    key: String,
    token: String,
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
            tls: None,
        }
    }

    /// Clients that dial from now on speak TLS.
    pub fn speak_tls(&mut self, tls: FleetTls) {
        self.tls = Some(tls);
    }

    /// Rings of the clients' engine.
    #[must_use]
    pub fn rings(&self) -> u32 {
        self.engine.rings()
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

    /// How a client got in sync, if it is.
    #[must_use]
    pub fn joined(&self, client: usize) -> Option<Joined> {
        self.clients[client].joined
    }

    /// Forgets clients that are all gone, and their counts: numbers begin at 0 again.
    ///
    /// # Errors
    /// One is still there.
    pub fn forget(&mut self) -> Result<()> {
        ensure!(
            self.clients.iter().all(|client| matches!(client.stage, Stage::Gone)),
            "a client is still there"
        );
        self.clients.clear();
        self.counts = Counts::default();
        Ok(())
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
        if let Some(FleetTls { config, names }) = &self.tls {
            let name = format!("client-{}.example", self.clients.len() % names);
            self.engine.set_transform(slot, client_session(Arc::clone(config), &name)?);
        }
        let key = request_key(fastrand::u128(..).to_ne_bytes());
        let target = match (dial.dialect, dial.token) {
            (Dialect::Hocuspocus, _) => "/".to_owned(),
            (Dialect::YWebsocket, Some(token)) => format!("{}/{}?token={token}", dial.path, dial.document),
            (Dialect::YWebsocket, None) => format!("{}/{}", dial.path, dial.document),
        };
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
            hocuspocus: (dial.dialect == Dialect::Hocuspocus).then(|| {
                let token = dial.token.unwrap_or_default().to_owned();
                Box::new(Session { key: dial.document.to_owned(), token })
            }),
            dialled: Instant::now(),
            joined: None,
            bytes: 0,
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
                Event::Opened { is_resumed, .. } => self.counts.resumed += u64::from(is_resumed),
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
        let found = &self.clients[client];
        append(&mut self.engine, found.slot, found.hocuspocus.as_deref(), &SyncMessage::Update { update })
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
        let found = &self.clients[client];
        append_payload(&mut self.engine, found.slot, |out| match &found.hocuspocus {
            Some(session) => hocuspocus::append_awareness(out, &session.key, &body),
            None => ywebsocket::append_awareness(out, &body),
        })
    }

    /// Sends every client's close frame; their ends follow in later turns.
    ///
    /// # Errors
    /// A connection takes no more.
    pub fn close_all(&mut self) -> Result<()> {
        (0..self.clients.len()).try_for_each(|client| self.close(client))
    }

    /// Sends one client's close frame; its end follows in a later turn.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn close(&mut self, client: usize) -> Result<()> {
        let client = &mut self.clients[client];
        match std::mem::replace(&mut client.stage, Stage::Gone) {
            Stage::Open(decoder) => {
                client.stage = Stage::Closing(decoder);
                let start = self.engine.arena().len();
                ws::append_close(self.engine.arena(), 1000_u16, "", Some(mask()));
                queue(&mut self.engine, client.slot, start)?;
            }
            other => client.stage = other,
        }
        Ok(())
    }

    fn number(&self, slot: Slot) -> Result<usize> {
        let number = self.by_slot.get(slot.index()).context("an event of no client")?;
        Ok(*number as usize)
    }

    fn received(&mut self, number: usize, bytes: &mut [u8], watcher: &mut impl Watcher) -> Result<()> {
        self.clients[number].bytes += bytes.len() as u64;
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
        let client = &self.clients[number];
        match &client.hocuspocus {
            Some(session) => append_payload(&mut self.engine, client.slot, |out| {
                hocuspocus::append_auth(out, &session.key, &session.token, Some(HOCUSPOCUS_VERSION));
            })?,
            None => {
                append(&mut self.engine, client.slot, None, &STEP1)?;
                self.announce(number)?;
            }
        }
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
                    let said = if client.hocuspocus.is_some() {
                        hocuspocus_says(payload)?
                    } else {
                        ywebsocket_says(payload)?
                    };
                    match said {
                        Said::Sync(SyncMessage::Step1 { .. }) => {
                            let nothing = SyncMessage::Step2 { update: &update::EMPTY };
                            append(engine, client.slot, client.hocuspocus.as_deref(), &nothing)?;
                        }
                        Said::Sync(SyncMessage::Step2 { update }) => {
                            if client.joined.is_none() {
                                counts.synced += 1;
                                client.joined =
                                    Some(Joined { time: client.dialled.elapsed(), bytes: client.bytes });
                            }
                            watcher.update(number, update)?;
                        }
                        Said::Sync(SyncMessage::Update { update }) => watcher.update(number, update)?,
                        Said::Authenticated => {
                            append(engine, client.slot, client.hocuspocus.as_deref(), &STEP1)?;
                        }
                        Said::Idle => counts.idle_frames += 1,
                        Said::Awareness => counts.awareness_frames += 1,
                        Said::Ping => append_payload(engine, client.slot, |out| out.push(HOCUSPOCUS_PONG))?,
                        Said::Nothing => {}
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
                    bail!("closed by the server: {code:?} {reason}")
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

/// A step 1 of a client that has nothing.
const STEP1: SyncMessage<'static> = SyncMessage::Step1 { state_vector: &EMPTY_STATE_VECTOR };

/// What a server's frame means to a client.
enum Said<'a> {
    Sync(SyncMessage<'a>),
    Authenticated,
    Idle,
    Awareness,
    Ping,
    Nothing,
}

fn ywebsocket_says(payload: &[u8]) -> Result<Said<'_>> {
    Ok(match ywebsocket::decode(payload)? {
        Message::SyncStep1 { state_vector } => Said::Sync(SyncMessage::Step1 { state_vector }),
        Message::SyncStep2 { update } => Said::Sync(SyncMessage::Step2 { update }),
        Message::Update { update } => Said::Sync(SyncMessage::Update { update }),
        Message::Awareness(_) if payload == EMPTY_AWARENESS => Said::Idle,
        Message::Awareness(_) => Said::Awareness,
        Message::QueryAwareness => Said::Nothing,
        Message::PermissionDenied { reason } => bail!("permission denied: {reason}"),
    })
}

fn hocuspocus_says(payload: &[u8]) -> Result<Said<'_>> {
    let hocuspocus::Frame::Message { body, .. } = hocuspocus::decode(payload)? else {
        return Ok(if payload == hocuspocus::PING_FRAME { Said::Ping } else { Said::Nothing });
    };
    Ok(match body {
        Body::Sync(message) | Body::SyncReply(message) => Said::Sync(message),
        Body::Authenticated { .. } => Said::Authenticated,
        Body::Awareness([0]) => Said::Idle,
        Body::Awareness(_) => Said::Awareness,
        Body::SyncStatus { applied: false } => bail!("an edit was not applied"),
        Body::PermissionDenied { reason } => bail!("permission denied: {reason}"),
        Body::Close { reason } => bail!("the document was closed: {}", reason.unwrap_or_default()),
        _ => Said::Nothing,
    })
}

fn append(
    engine: &mut Engine,
    slot: Slot,
    session: Option<&Session>,
    message: &SyncMessage<'_>,
) -> Result<()> {
    append_payload(engine, slot, |out| match (session, *message) {
        (Some(session), message) => hocuspocus::append_sync(out, &session.key, &message),
        (None, SyncMessage::Step1 { state_vector }) => ywebsocket::append_sync_step1(out, state_vector),
        (None, SyncMessage::Step2 { update }) => ywebsocket::append_sync_step2(out, update),
        (None, SyncMessage::Update { update }) => ywebsocket::append_update(out, update),
    })
}

fn append_payload(engine: &mut Engine, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut payload = Vec::with_capacity(64);
    write(&mut payload);
    let start = engine.arena().len();
    ws::append_frame(engine.arena(), Frame::new(Opcode::Binary).masked(mask()), &payload);
    queue(engine, slot, start)
}

pub(crate) fn queue(engine: &mut Engine, slot: Slot, start: usize) -> Result<()> {
    let end = engine.arena().len();
    engine.send(slot, Segment::Arena(u32::try_from(start)?..u32::try_from(end)?))?;
    Ok(())
}

/// Fresh for each frame, as RFC 6455 5.3 asks of a client.
pub(crate) fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}
