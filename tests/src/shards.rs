//! A node of nothing but shards, whose store, verifier and mail answer at once: for tests of the shard's rules, frame by
//! frame.

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::{self, Body, Frame as Keyed};
use pinwire_protocol::document::name::NameRules;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::ywebsocket;
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Limits, Opcode, Role, Scratch};
use pinwire_shard::{
    Access, App, AppLimits, DocumentRef, Effect, FIRST_LINK, Grant, Kept, Mail, Opening, Pinned, Policy,
    Route, Segment, Settings, Shard, SocketAction, Verdict, ticks,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long these nodes wait for a first frame, and for Auth.
pub const FIRST_FRAME_MS: u64 = 10_000;

/// Grants the same for every document.
#[derive(Debug)]
struct Fixed(Option<Access>);

impl Policy for Fixed {
    fn access(&self, _document: &str, _origin: Option<&str>) -> Result<Access, Close> {
        self.0.ok_or_else(|| Close::new(CloseCode::Forbidden, "document not allowed"))
    }
}

/// Something a client was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A binary message.
    Message(Vec<u8>),
    /// A close frame.
    Close(u16, String),
    /// The end of the stream.
    Finish,
}

/// See the module's documentation.
pub struct Node {
    /// One of each thread.
    pub shards: Vec<Shard>,
    /// Every token is of this app.
    pub app: Arc<App>,
    /// What tokens grant.
    pub limits: AppLimits,
    /// No token can be judged: its key cannot be fetched.
    pub is_key_missing: bool,
    /// When tokens end, in seconds of Unix time.
    pub expires: Option<u64>,
    /// On the shards' clock.
    pub now_ms: u64,
    /// By how many seconds the wall clock was set forward since the start, or back.
    pub clock_set_by: i64,
    readers: BTreeMap<(usize, u32), (Decoder, Vec<Got>)>,
    /// Writes wait in `unstored` until the store is back.
    pub store_is_out: bool,
    unstored: Vec<(usize, DocumentRef, u32)>,
    /// Documents that are opened wait in `unopened` for [`Self::refuse_opens`].
    pub opens_wait: bool,
    /// See [`Self::opens_wait`].
    pub unopened: Vec<(usize, DocumentRef)>,
    /// Mail for links to other nodes: which, and what.
    pub mailed: Vec<(u16, Mail)>,
    /// What waits for the socket that is asked about.
    pub backlog: usize,
    /// Compactions wait in `jobs` for [`Self::work_off`].
    pub worker_is_out: bool,
    jobs: Vec<(usize, DocumentRef, pinwire_shard::document::yjs::Compaction)>,
    /// Sockets that are not received from.
    paused: BTreeSet<u32>,
    /// Who was sent pings.
    pub pings: Vec<u32>,
    /// What documents were opened as, in order, by the thread.
    pub opened: Vec<(usize, DocumentRef)>,
    /// Those that ended.
    pub ended: Vec<(usize, DocumentRef)>,
    /// What was stored, update by update.
    pub kept: Vec<Vec<u8>>,
    /// What other nodes are to be told.
    pub says: Vec<Box<[u8]>>,
}

impl Node {
    /// A node of so many threads, at one second.
    pub fn new(threads: u16) -> Self {
        Self::with(threads, false)
    }

    /// The same, where sessions end with their tokens or do not.
    pub fn with(threads: u16, end_on_expiry: bool) -> Self {
        Self::set(threads, |settings| settings.end_on_expiry = end_on_expiry)
    }

    /// One whose session store other nodes have, too.
    pub fn of_region(threads: u16) -> Self {
        Self::set(threads, |settings| {
            settings.is_shared = true;
            settings.grace_ms = 0;
        })
    }

    fn set(threads: u16, change: impl Fn(&mut Settings)) -> Self {
        let shard = |thread| {
            let mut settings = Settings {
                thread,
                threads,
                placement_seed: 7,
                seed: 7,
                ws: Limits::DEFAULT,
                names: NameRules::default(),
                first_frame: ticks(FIRST_FRAME_MS),
                ping: ticks(25_000),
                pong: ticks(20_000),
                idle_frame: ticks(20_000),
                slow_reader: ticks(60_000),
                close: ticks(3_000),
                grace_ms: 10_000,
                gather_us_per_member: 150,
                compress_min: usize::MAX,
                end_on_expiry: false,
                is_shared: false,
            };
            change(&mut settings);
            Shard::new(settings, 1_000, 1_000)
        };
        Self {
            shards: (0..threads).map(shard).collect(),
            app: Arc::new(App::new("tenant", "app")),
            limits: AppLimits::UNLIMITED,
            is_key_missing: false,
            expires: None,
            now_ms: 1_000,
            clock_set_by: 0,
            readers: BTreeMap::new(),
            store_is_out: false,
            unstored: Vec::new(),
            opens_wait: false,
            unopened: Vec::new(),
            mailed: Vec::new(),
            backlog: 0,
            worker_is_out: false,
            jobs: Vec::new(),
            paused: BTreeSet::new(),
            pings: Vec::new(),
            opened: Vec::new(),
            ended: Vec::new(),
            kept: Vec::new(),
            says: Vec::new(),
        }
    }

    fn verdict(&self, token: &str) -> Verdict {
        if self.is_key_missing {
            return Err(Close::try_again(5_000));
        }
        let access = match token {
            "writer" => Some(Access::ReadWrite),
            "reader" => Some(Access::ReadOnly),
            "elsewhere" => None,
            _ => return Err(Close::new(CloseCode::InvalidToken, "invalid token")),
        };
        Ok(Arc::new(Grant {
            app: Arc::clone(&self.app),
            limits: self.limits,
            subject: "someone".into(),
            regions: None,
            expires: self.expires,
            policy: Box::new(Fixed(access)),
        }))
    }

    /// A socket is upgraded, on the first thread.
    pub fn open(&mut self, slot: u32, document: Option<&str>, token: Option<&str>) {
        let opening = Opening {
            document: document.map(Into::into),
            token: token.map(Into::into),
            origin: None,
            peer: [127, 0, 0, 1].into(),
            deflate: false,
        };
        self.readers.insert((0, slot), (Decoder::new(Role::Client, false), Vec::new()));
        self.shards[0].open(slot, opening);
        self.run();
    }

    /// A client sends a frame.
    pub fn frame(&mut self, slot: u32, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        ws::append_frame(&mut bytes, Frame::new(opcode).masked([1, 2, 3, 4]), payload);
        let socket = self.readers.keys().find(|(_, number)| *number == slot);
        let thread = socket.map_or(0, |(thread, _)| *thread);
        self.shards[thread].bytes(slot, &mut bytes);
        self.run();
    }

    /// A writer of "doc" comes, by y-websocket, and syncs.
    pub fn join(&mut self, slot: u32) {
        self.open(slot, Some("doc"), Some("writer"));
        self.step1(slot);
    }

    /// Sends one binary message and gives what came of it.
    pub fn say(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<Got> {
        let mut payload = Vec::new();
        write(&mut payload);
        self.frame(slot, Opcode::Binary, &payload);
        self.take(slot)
    }

    /// Asks for everything by y-websocket.
    pub fn step1(&mut self, slot: u32) -> Vec<Got> {
        self.say(slot, |out| ywebsocket::append_sync_step1(out, &[0]))
    }

    /// Sends Auth for a key.
    pub fn auth(&mut self, slot: u32, key: &str, token: &str) -> Vec<Got> {
        self.say(slot, |out| hocuspocus::append_auth(out, key, token, None))
    }

    /// What a client was sent since the last call, wherever its socket is.
    pub fn take(&mut self, slot: u32) -> Vec<Got> {
        let mut sockets = self.readers.iter_mut().filter(|((_, number), _)| *number == slot);
        std::mem::take(&mut sockets.next().expect("an open socket").1.1)
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.run();
    }

    /// Every thread has some turns.
    pub fn run(&mut self) {
        for _ in 0..8 {
            for thread in 0..self.shards.len() {
                self.turn(thread);
            }
        }
    }

    fn turn(&mut self, thread: usize) {
        let unix = (self.now_ms / 1_000).saturating_add_signed(self.clock_set_by);
        self.shards[thread].begin_turn(self.now_ms * 1_000, unix);
        self.effects(thread);
        self.shards[thread].settle();
        self.effects(thread);
        self.shards[thread].flush();
        let outbox = std::mem::take(self.shards[thread].outbox());
        for (slot, segment) in outbox.sends {
            let bytes = match &segment {
                Segment::Arena(range) => &outbox.arena[range.start as usize..range.end as usize],
                Segment::Shared(bytes) => bytes,
            };
            self.receive(thread, slot, bytes.to_vec());
        }
        self.shards[thread].finish_turn();
        self.effects(thread);
    }

    fn receive(&mut self, thread: usize, slot: u32, mut bytes: Vec<u8>) {
        let (decoder, got) = self.readers.get_mut(&(thread, slot)).expect("an open socket");
        let (mut scratch, mut at) = (Scratch::new(), 0);
        while at < bytes.len() {
            let decoded =
                decoder.decode(&mut bytes[at..], &Limits::DEFAULT, &mut scratch).expect("sound frames");
            at += decoded.consumed;
            match decoded.event {
                Some(Event::Message { payload, .. }) => got.push(Got::Message(payload.to_vec())),
                Some(Event::Close { code, reason }) => {
                    got.push(Got::Close(code.unwrap_or_default(), reason.to_owned()));
                }
                Some(Event::Ping(_)) => self.pings.push(slot),
                _ => {}
            }
        }
    }

    fn effects(&mut self, thread: usize) {
        while let Some(effect) = self.shards[thread].next_effect() {
            match effect {
                Effect::Verify { conn, ticket, token } => {
                    let verdict = self.verdict(&token);
                    self.shards[thread].verdict(conn, ticket, verdict);
                }
                Effect::Open(document, _) if self.opens_wait => self.unopened.push((thread, document)),
                Effect::Open(document, _) => {
                    self.opened.push((thread, document));
                    self.shards[thread].opened(document, Ok(Kept::default()));
                }
                Effect::Closed(document, _) => self.ended.push((thread, document)),
                Effect::Say(_, message) => self.says.push(message),
                Effect::Store(document) => {
                    let submitted = self.shards[thread].submit(document);
                    let position = submitted.map(|(position, updates)| {
                        self.kept.extend(updates.map(<[u8]>::to_vec));
                        position
                    });
                    match position {
                        Some(position) if self.store_is_out => {
                            self.unstored.push((thread, document, position));
                        }
                        Some(position) => self.shards[thread].stored(document, position),
                        None => {}
                    }
                }
                Effect::Compact(document, job) if self.worker_is_out => {
                    self.jobs.push((thread, document, job));
                }
                Effect::Compact(document, job) => self.shards[thread].compacted(document, job.run()),
                Effect::Mail(link, mail) if link >= FIRST_LINK => self.mailed.push((link, mail)),
                Effect::Mail(to, mail) => self.shards[usize::from(to)].mail(thread as u16, mail),
                Effect::Socket(slot, SocketAction::Finish) => {
                    if let Some((_, got)) = self.readers.get_mut(&(thread, slot)) {
                        got.push(Got::Finish);
                    }
                }
                Effect::Socket(slot, SocketAction::PauseRead) => _ = self.paused.insert(slot),
                Effect::Socket(slot, SocketAction::ResumeRead) => _ = self.paused.remove(&slot),
                Effect::Backlog(slot, noted) => self.shards[thread].backlog(slot, noted, self.backlog),
                Effect::Move(slot, to) => {
                    let traveller = self.shards[thread].depart(slot).expect("a connection that moves");
                    let reader = self.readers.remove(&(thread, slot)).expect("an open socket");
                    self.readers.insert((usize::from(to), slot), reader);
                    self.shards[usize::from(to)].arrive(slot, traveller);
                }
                _ => {}
            }
        }
    }

    /// Refuses every open that waits.
    pub fn refuse_opens(&mut self, close: &Close) {
        for (thread, document) in std::mem::take(&mut self.unopened) {
            self.shards[thread].opened(document, Err(close.clone()));
        }
        self.run();
    }

    /// Another region has every document whose open waits, and is reached so; returns how many there were.
    pub fn relay_opens(&mut self, route: Route) -> usize {
        let opens = std::mem::take(&mut self.unopened);
        for (thread, document) in &opens {
            self.shards[*thread].relayed(*document, route);
        }
        self.run();
        opens.len()
    }

    /// This region has every document whose open waits, under this claim.
    pub fn pin_opens(&mut self, claim: Pinned) {
        for (thread, document) in std::mem::take(&mut self.unopened) {
            self.shards[thread].pinned(document, claim);
            self.shards[thread].opened(document, Ok(Kept::default()));
        }
        self.run();
    }

    /// Mail comes over a link, for a thread.
    pub fn link_brings(&mut self, thread: usize, link: u16, mail: Mail) {
        self.shards[thread].mail(link, mail);
        self.run();
    }

    /// Mail for links since the last call.
    pub fn take_mail(&mut self) -> Vec<(u16, Mail)> {
        std::mem::take(&mut self.mailed)
    }

    /// Works off the compactions that wait, and none that come of it.
    pub fn work_off(&mut self) {
        for (thread, document, job) in std::mem::take(&mut self.jobs) {
            self.shards[thread].compacted(document, job.run());
        }
        self.run();
    }

    /// Whether the socket is received from.
    pub fn is_heard(&self, slot: u32) -> bool {
        !self.paused.contains(&slot)
    }

    /// The store takes what waits, and everything from now on.
    pub fn store_is_back(&mut self) {
        self.store_is_out = false;
        for (thread, document, position) in std::mem::take(&mut self.unstored) {
            self.shards[thread].stored(document, position);
        }
        self.run();
    }

    /// A document name that a thread owns.
    pub fn name_on(&self, thread: u16) -> String {
        let is_there = |name: &String| {
            let name = pinwire_shard::DocumentName {
                tenant: "tenant".into(),
                app: "app".into(),
                name: name.as_str().into(),
            };
            self.shards[0].owner(&name) == thread
        };
        (0..1_000).map(|number| format!("document-{number}")).find(is_there).expect("a name for every thread")
    }
}

/// What a client gets that is closed.
pub fn closed(code: CloseCode, reason: &str) -> Vec<Got> {
    vec![Got::Close(code.code(), reason.to_owned())]
}

/// What a Hocuspocus client makes of what it was sent: a word for each frame.
pub fn words(got: &[Got]) -> Vec<String> {
    let word = |got: &Got| match got {
        Got::Message(payload) => match hocuspocus::decode(payload) {
            Ok(Keyed::Message { key, body }) => format!("{} {}", key.raw, body_word(&body)),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    got.iter().map(word).collect()
}

fn body_word(body: &Body<'_>) -> String {
    match body {
        Body::Sync(SyncMessage::Step1 { .. }) => "step1".to_owned(),
        Body::Sync(SyncMessage::Step2 { .. }) => "step2".to_owned(),
        Body::Sync(SyncMessage::Update { .. }) => "update".to_owned(),
        Body::Authenticated { scope } => (*scope).to_owned(),
        Body::PermissionDenied { reason } => format!("denied: {reason}"),
        Body::SyncStatus { applied } => format!("status {}", u8::from(*applied)),
        other => format!("{other:?}"),
    }
}
