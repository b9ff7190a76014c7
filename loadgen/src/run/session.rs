//! What clients are sent: answers to upgrades, messages, edits, pings and closes.

use anyhow::Result;
use pinwire_protocol::close::REDIRECT_PREFIX;
use pinwire_protocol::document::hocuspocus::{self, Body};
use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::update;
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::handshake::{BadResponse, Expected, ParsedResponse, parse_response};
use pinwire_protocol::ws::{self, Decoder, Limits, Opcode, Role};

use crate::results::Measure;
use crate::run::client::Stage;
use crate::run::content::{self, FIRST_CLIENT};
use crate::run::ledger::note;
use crate::run::schedule::Part;
use crate::run::worker::{Unacknowledged, Worker};
use crate::scenario::{Dialect, Kind, RawMode};

/// The state vector of a client that has nothing.
const EMPTY_STATE_VECTOR: [u8; 1] = [0];
/// Clients that a server's state vector may name.
const STATE_VECTOR_MAX: usize = 1 << 20;
/// What Hocuspocus clients of today say they are.
const HOCUSPOCUS_VERSION: &str = "4.0.0";
/// Servers' messages may be this large: a big document arrives in one.
const LIMITS: Limits = Limits { max_frame: 256 << 20, max_message: 256 << 20, max_fragments: 1 << 20 };

impl Worker {
    /// Bytes came for a client.
    pub(crate) fn received(&mut self, client: u32, bytes: &mut [u8]) -> Result<()> {
        self.connected(client);
        match &mut self.clients[client as usize].stage {
            Stage::Upgrading(upgrading) => {
                upgrading.head.extend_from_slice(bytes);
                let asks = upgrading.asks;
                if let Some(took) = upgrading.tcp.take() {
                    self.time(Measure::ConnectTcp, took);
                }
                if asks {
                    self.discovered(client);
                    return Ok(());
                }
                self.upgraded(client)
            }
            Stage::Joining | Stage::Joined | Stage::Closing => self.frames(client, bytes),
            Stage::Away | Stage::Waiting => Ok(()),
        }
    }

    fn upgraded(&mut self, client: u32) -> Result<()> {
        let scenario = std::sync::Arc::clone(&self.given.scenario);
        let protocols: Vec<&str> = scenario.target.protocols.iter().map(String::as_str).collect();
        let Stage::Upgrading(upgrading) = &mut self.clients[client as usize].stage else { return Ok(()) };
        let expected =
            Expected { key: &upgrading.key, protocols: &protocols, deflate: scenario.target.deflate };
        let (head_len, deflate) = match parse_response(&upgrading.head, &expected) {
            Ok(ParsedResponse::Partial) => return Ok(()),
            Ok(ParsedResponse::Complete { head_len, accepted }) => (head_len, accepted.deflate.is_some()),
            Err(BadResponse::Status { status, .. }) => {
                self.cut(client, &format!("refused {status}"));
                return Ok(());
            }
            Err(error) => {
                self.cut(client, &format!("upgrade: {error}"));
                return Ok(());
            }
        };
        let mut rest = upgrading.head.split_off(head_len);
        let token = upgrading.token.take();
        let now = self.now();
        let state = &mut self.clients[client as usize];
        state.stage = Stage::Joining;
        state.decoder = Decoder::new(Role::Client, deflate);
        let took = now.saturating_sub(state.step);
        state.step = now;
        let region = state.region;
        self.counts.opened(!self.is_draining);
        self.counts.regions.opened(region, !self.is_draining);
        self.time(Measure::Upgrade, took);
        self.start_join(client, token.as_deref().unwrap_or_default());
        self.frames(client, &mut rest)
    }

    fn start_join(&mut self, client: u32, token: &str) {
        if matches!(self.given.scenario.kind, Kind::Raw { .. }) {
            self.joined(client);
            return;
        }
        let asked = match self.given.scenario.target.dialect {
            Dialect::YWebsocket => {
                self.sync(client, &SyncMessage::Step1 { state_vector: &EMPTY_STATE_VECTOR })
            }
            Dialect::Hocuspocus => {
                let name = self.name_of(client);
                self.queue(client, Opcode::Binary, |out| {
                    hocuspocus::append_auth(out, &name, token, Some(HOCUSPOCUS_VERSION));
                })
            }
        };
        if asked.is_err() {
            self.cut(client, "the connection takes no more");
        }
    }

    fn frames(&mut self, client: u32, bytes: &mut [u8]) -> Result<()> {
        let slot = self.clients[client as usize].slot;
        let mut scratch = self.scratch.take().unwrap_or_default();
        let mut at = 0;
        while at < bytes.len() {
            let state = &mut self.clients[client as usize];
            if state.slot != slot || slot.is_none() {
                break;
            }
            let mut decoder = std::mem::replace(&mut state.decoder, Decoder::new(Role::Client, false));
            let decoded = decoder.decode(&mut bytes[at..], &LIMITS, &mut scratch);
            self.clients[client as usize].decoder = decoder;
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.correctness.corrupted += 1;
                    note(&mut self.correctness, || format!("a frame breaks RFC 6455: {error}"));
                    self.cut(client, &format!("protocol error: {error}"));
                    break;
                }
            };
            at += decoded.consumed;
            match decoded.event {
                Some(ws::Event::Message { payload, .. }) => self.message(client, payload),
                Some(ws::Event::Ping(payload)) => {
                    self.counts.connections.pings += 1;
                    self.pong(client, payload);
                }
                Some(ws::Event::Close { .. })
                    if matches!(self.clients[client as usize].stage, Stage::Closing) =>
                {
                    self.ended(client, "closed");
                }
                Some(ws::Event::Close { code, reason }) => self.closed_by_server(client, code, reason),
                Some(ws::Event::Pong(_)) | None => {}
            }
        }
        self.scratch = Some(scratch);
        Ok(())
    }

    fn pong(&mut self, client: u32, payload: &[u8]) {
        let Some(slot) = self.clients[client as usize].slot else { return };
        let mask = self.random.u32(..).to_ne_bytes();
        let arena = self.engine.arena();
        let start = arena.len();
        ws::append_pong(arena, payload, Some(mask));
        let end = arena.len();
        let _ = self.engine.send(slot, pinwire_engine::Segment::Arena(start as u32..end as u32));
    }

    fn message(&mut self, client: u32, payload: &[u8]) {
        if matches!(self.clients[client as usize].stage, Stage::Closing) {
            return;
        }
        match (&self.given.scenario.kind, self.given.scenario.target.dialect) {
            (Kind::Raw { text, mode, publish_prefix, .. }, _) => {
                let (text, mode, prefix) = (*text, *mode, publish_prefix.len());
                self.raw(client, payload, text, mode, prefix);
            }
            (_, Dialect::YWebsocket) => self.ywebsocket(client, payload),
            (_, Dialect::Hocuspocus) => self.hocuspocus(client, payload),
        }
    }

    fn raw(&mut self, client: u32, payload: &[u8], text: bool, mode: RawMode, prefix: usize) {
        let state = &self.clients[client as usize];
        let (group, member) = (state.group, state.member);
        let place = &self.places[group as usize];
        if !place.plan.writers_read && member < place.plan.writers {
            // Some servers answer publishers; that is nobody's delivery.
            return;
        }
        // `{n}` in the prefix stands for four digits.
        let prefix = match &self.given.scenario.kind {
            Kind::Raw { publish_prefix, .. } if publish_prefix.contains("{n}") => prefix + 1,
            _ => prefix,
        };
        let head = payload.get(prefix..).and_then(|message| content::read_raw(message, text));
        let Some(head) = head else {
            self.correctness.corrupted += 1;
            note(&mut self.correctness, || {
                format!("{mode:?}: a message of {} bytes is none of ours", payload.len())
            });
            return;
        };
        let writer = head.sender.wrapping_sub(place.first_sender);
        self.deliver(client, group, member, writer, head.number, head.number + 1);
        self.counts.now().frames_received += 1;
    }

    fn ywebsocket(&mut self, client: u32, payload: &[u8]) {
        match ywebsocket::decode(payload) {
            Ok(Message::SyncStep1 { state_vector }) => self.answer_step1(client, state_vector),
            Ok(Message::SyncStep2 { update }) => {
                self.update(client, update);
                self.joined(client);
            }
            Ok(Message::Update { update }) => self.update(client, update),
            Ok(Message::Awareness(_) | Message::QueryAwareness) => {}
            Ok(Message::PermissionDenied { reason }) => {
                let cause = format!("permission denied: {reason}");
                self.cut(client, &cause);
            }
            Err(error) => self.nonsense(&error.to_string()),
        }
    }

    fn hocuspocus(&mut self, client: u32, payload: &[u8]) {
        match hocuspocus::decode(payload) {
            Ok(hocuspocus::Frame::Ping) => {
                let _ = self.queue(client, Opcode::Binary, |out| out.push(0x0a));
            }
            Ok(hocuspocus::Frame::Pong) => {}
            Ok(hocuspocus::Frame::Message { body, .. }) => match body {
                Body::Authenticated { .. } => {
                    let _ = self.sync(client, &SyncMessage::Step1 { state_vector: &EMPTY_STATE_VECTOR });
                }
                Body::Sync(SyncMessage::Step1 { state_vector })
                | Body::SyncReply(SyncMessage::Step1 { state_vector }) => {
                    self.answer_step1(client, state_vector);
                }
                Body::Sync(SyncMessage::Step2 { update })
                | Body::SyncReply(SyncMessage::Step2 { update }) => {
                    self.update(client, update);
                    self.joined(client);
                }
                Body::Sync(SyncMessage::Update { update })
                | Body::SyncReply(SyncMessage::Update { update }) => {
                    self.update(client, update);
                }
                Body::SyncStatus { applied } => self.acknowledged(client, applied),
                Body::PermissionDenied { reason } => {
                    if let Some(url) = reason.strip_prefix(REDIRECT_PREFIX)
                        && self.follow(client, url)
                    {
                        return;
                    }
                    let cause = format!("permission denied: {reason}");
                    self.cut(client, &cause);
                }
                Body::Close { reason } => {
                    let cause = format!("document closed: {}", reason.unwrap_or_default());
                    self.ended(client, &cause);
                }
                _ => {}
            },
            Err(error) => self.nonsense(&error.to_string()),
        }
    }

    fn nonsense(&mut self, error: &str) {
        self.correctness.corrupted += 1;
        note(&mut self.correctness, || format!("a message cannot be read: {error}"));
    }

    /// Who comes back sends what the server lacks of what it wrote, as Yjs does; at first there is nothing.
    fn answer_step1(&mut self, client: u32, state_vector: &[u8]) {
        let now = self.now();
        let state = &mut self.clients[client as usize];
        let (group, writer) = (state.group as usize, state.member);
        if std::mem::replace(&mut state.may_send, true) {
            let _ = self.sync(client, &SyncMessage::Step2 { update: &update::EMPTY });
            return;
        }
        let bytes = self.given.scenario.edit_bytes().unwrap_or(1);
        let place = &mut self.places[group];
        let author = FIRST_CLIENT + u64::from(place.first_sender + writer);
        let clock = StateVector::parse(state_vector, STATE_VECTOR_MAX).map_or(0, |known| known.get(author));
        let (known, sent) = (clock / bytes, place.ledger.sent_by(writer));
        let safe = place.safe.get(&writer).copied().unwrap_or(0);
        if known < safe {
            self.correctness.forgotten += u64::from(safe - known);
            note(&mut self.correctness, || {
                format!(
                    "{}: {known} edits of writer {writer} are there, and {safe} were acknowledged",
                    place.name
                )
            });
        }
        let mut lacking = Vec::new();
        if known < sent {
            place.ledger.resend(writer);
            content::append_edits(&mut lacking, author, known..sent, bytes);
            if self.given.scenario.target.dialect == Dialect::Hocuspocus {
                let waiting = place.unacknowledged.entry(writer).or_default();
                waiting.push_back(Unacknowledged { end: sent, sent: now, part: None });
            }
        } else {
            lacking.extend_from_slice(&update::EMPTY);
        }
        if self.sync(client, &SyncMessage::Step2 { update: &lacking }).is_err() {
            self.cut(client, "the connection takes no more");
        }
    }

    fn acknowledged(&mut self, client: u32, applied: bool) {
        let now = self.now();
        let state = &self.clients[client as usize];
        let (group, member) = (state.group as usize, state.member);
        // The answer to our empty step 2 comes before any edit's.
        let waiting =
            self.places[group].unacknowledged.get_mut(&member).and_then(|waiting| waiting.pop_front());
        let Some(Unacknowledged { end, sent, part }) = waiting else { return };
        if !applied {
            self.counts.error("an edit was not applied");
            return;
        }
        let safe = self.places[group].safe.entry(member).or_default();
        *safe = end.max(*safe);
        if let Some(part) = part {
            self.counts.part(part).acknowledge.record(now.saturating_sub(sent));
        }
    }

    fn update(&mut self, client: u32, update: &[u8]) {
        let state = &self.clients[client as usize];
        let (group, member) = (state.group, state.member);
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        if content::read_edits(update, |client, clock, len| runs.push((client, clock, len))).is_none() {
            self.correctness.corrupted += 1;
            note(&mut self.correctness, || {
                format!("reader {member} was sent an update of {} bytes that nobody wrote", update.len())
            });
        }
        let bytes = self.given.scenario.edit_bytes().unwrap_or(1);
        let first_sender = self.places[group as usize].first_sender;
        for &(author, clock, len) in &runs {
            if clock % bytes != 0 || len % bytes != 0 {
                self.correctness.corrupted += 1;
                note(&mut self.correctness, || format!("reader {member} was sent a part of an edit"));
                continue;
            }
            let sender = u32::try_from(author.wrapping_sub(FIRST_CLIENT)).unwrap_or(u32::MAX);
            let writer = sender.wrapping_sub(first_sender);
            self.deliver(client, group, member, writer, clock / bytes, (clock + len) / bytes);
        }
        // What an auditor is sent is history, and no delivery.
        if !runs.is_empty() && member < self.places[group as usize].plan.members {
            self.counts.now().frames_received += 1;
        }
        self.runs = runs;
    }

    fn deliver(&mut self, _client: u32, group: u32, member: u32, writer: u32, first: u32, end: u32) {
        let now = self.now();
        let late_after = self.given.scenario.late_after.as_nanos() as u64;
        let Self { places, counts, correctness, touched, .. } = self;
        let place = &mut places[group as usize];
        let is_slow = member < place.plan.members && member >= place.plan.members - place.plan.slow;
        let mut late = 0;
        place.ledger.deliver(member, writer, first..end, correctness, |due| {
            counts.interval.received += 1;
            let stage = counts.part(due.part);
            stage.received += 1;
            if is_slow {
                return;
            }
            let latency = now.saturating_sub(due.planned);
            stage.latency.record(latency);
            let uncorrected = now.saturating_sub(due.sent);
            stage.uncorrected.record(uncorrected);
            counts.detail.uncorrected.record(uncorrected);
            late += u64::from(latency > late_after && due.part != Part::WarmUp);
            counts.interval.latency.record(latency);
        });
        correctness.late += late;
        if !place.is_touched {
            place.is_touched = true;
            touched.push(group);
        }
    }
}
