//! A node's threads: they drive their shards as `Shard`'s documentation prescribes, and answer effects with every delay
//! that real ones have.

use super::member::hash;
use super::model::DocumentId;
use super::plan::Plan;
use super::relay::CLAIM;
use super::socket::{Place, SocketId};
use super::token::Token;
use super::wire::Received;
use super::world::{Event, Input, PING_MS, PONG_MS, SILENT_MS, SLOW_READER_MS, World};
use pinwire_protocol::close::Close;
use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_shard::document::log::{self, Log};
use pinwire_shard::document::yjs::{self, Compacted};
use pinwire_shard::{DocumentName, DocumentRef, Effect, FIRST_LINK, Kept, Segment, SocketAction};

impl World {
    pub(super) fn turn(&mut self, thread: usize) {
        if self.threads[thread].turn_at != Some(self.now_ms) {
            return;
        }
        self.threads[thread].turn_at = None;
        self.threads[thread].turns += 1;
        let unix = self.unix();
        self.threads[thread].shard.begin_turn(self.now_ms * 1_000, unix);
        let inputs = std::mem::take(&mut self.threads[thread].inbox);
        for input in inputs {
            self.apply(thread, input);
            if self.rng.bool() {
                self.effects(thread);
            }
        }
        self.effects(thread);
        self.threads[thread].shard.settle();
        self.effects(thread);
        self.threads[thread].shard.flush();
        self.send_outbox(thread);
        self.threads[thread].shard.finish_turn();
        self.effects(thread);
        self.after_turn(thread);
    }

    fn after_turn(&mut self, thread: usize) {
        for slot in std::mem::take(&mut self.threads[thread].freed) {
            self.threads[thread].slots[slot as usize] = None;
        }
        for (socket, to) in std::mem::take(&mut self.threads[thread].departing) {
            self.depart(thread, socket, to);
        }
        let shard = &self.threads[thread].shard;
        if shard.has_work() {
            self.wake(thread, self.now_ms + 1);
        } else if let Some(deadline) = shard.next_deadline_us() {
            self.wake(thread, deadline.div_ceil(1_000));
        }
    }

    fn apply(&mut self, thread: usize, input: Input) {
        match input {
            Input::Open(socket) => self.server_opens(thread, socket),
            Input::Readable(socket) => self.server_reads(thread, socket),
            Input::Ended(socket) => self.report_end(thread, socket),
            Input::Drained(socket) => {
                if let Some(slot) = self.sockets[socket].place_on(thread) {
                    self.threads[thread].shard.drained(slot);
                }
            }
            Input::Verdict(conn, ticket, verdict) => {
                self.threads[thread].shard.verdict(conn, ticket, verdict);
            }
            Input::Opened(document, session) => {
                self.threads[thread].shard.opened(document, session);
            }
            Input::Stored(document, position) => self.threads[thread].shard.stored(document, position),
            Input::Compacted(document, result) => {
                if result.dropped > 0 {
                    self.model.violate(format!("compaction left {} entries out", result.dropped));
                }
                self.threads[thread].shard.compacted(document, result);
            }
            Input::Notice(document, notice) => self.noticed(thread, document, notice),
            Input::Reloaded(document, kept) => self.reloaded(thread, document, kept),
            Input::Adrift(is_adrift) => {
                // What was said before is not held against it.
                self.effects(thread);
                self.threads[thread].is_adrift = is_adrift;
                self.threads[thread].shard.adrift(u64::from(is_adrift));
            }
            Input::Lost(document) => {
                let close = Close::redirect("wss://elsewhere.example/document");
                self.threads[thread].shard.lost(document, &close);
            }
            Input::Mail(from, mail) => self.threads[thread].shard.mail(from, mail),
            Input::Relayed(document, route) => self.threads[thread].shard.relayed(document, route),
            Input::LinkLost(link) => self.threads[thread].shard.link_lost(link),
            Input::Depart(socket, to) => self.threads[thread].departing.push((socket, to)),
            Input::Arrive(socket, traveller) => {
                let slot = self.take_slot(thread, socket);
                self.sockets[socket].place = Place::At(thread, slot);
                self.sockets[socket].is_paused = false;
                self.threads[thread].shard.arrive(slot, *traveller);
                self.input(thread, Input::Readable(socket));
            }
        }
    }

    pub(super) fn take_slot(&mut self, thread: usize, socket: SocketId) -> u32 {
        let slots = &mut self.threads[thread].slots;
        let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        if slot == slots.len() {
            slots.push(None);
        }
        slots[slot] = Some(socket);
        slot as u32
    }

    fn server_opens(&mut self, thread: usize, socket: SocketId) {
        let slot = self.take_slot(thread, socket);
        self.sockets[socket].place = Place::At(thread, slot);
        let opening = self.opening(socket);
        self.threads[thread].shard.open(slot, opening);
        self.input(thread, Input::Readable(socket));
    }

    /// A read completes: some or all of what arrived, then perhaps the end.
    fn server_reads(&mut self, thread: usize, socket: SocketId) {
        let now_ms = self.now_ms;
        let found = &mut self.sockets[socket];
        let Some(slot) = found.place_on(thread) else { return };
        if found.is_paused && !std::mem::take(&mut found.may_overrun) {
            return;
        }
        if !found.arrived.is_empty() {
            let most = if self.rng.u8(0..4) == 0 { self.rng.usize(1..=64) } else { 64 << 10 };
            let len = most.min(found.arrived.len());
            let mut bytes: Vec<u8> = found.arrived.drain(..len).collect();
            found.last_received_ms = now_ms;
            self.threads[thread].shard.bytes(slot, &mut bytes);
            let found = &self.sockets[socket];
            if !found.arrived.is_empty() || found.fin_arrived {
                self.input(thread, Input::Readable(socket));
            }
        } else if found.fin_arrived {
            self.report_end(thread, socket);
        }
    }

    fn report_end(&mut self, thread: usize, socket: SocketId) {
        let found = &mut self.sockets[socket];
        let Some(slot) = found.place_on(thread) else { return };
        if !std::mem::replace(&mut found.end_reported, true) {
            self.threads[thread].shard.ended(slot);
        }
    }

    /// Hands a socket to another thread, once nothing waits for it.
    fn depart(&mut self, thread: usize, socket: SocketId, to: usize) {
        let Some(slot) = self.sockets[socket].place_on(thread) else { return };
        if !self.sockets[socket].tail.is_empty() {
            return self.after(10, Event::Input(thread, Input::Depart(socket, to)));
        }
        if self.is_busy && Plan::chance(&mut self.rng, self.plan.failed_moves) {
            self.threads[thread].shard.move_failed(slot);
            return self.wake(thread, self.now_ms);
        }
        let Some(traveller) = self.threads[thread].shard.depart(slot) else { return };
        self.threads[thread].slots[slot as usize] = None;
        self.sockets[socket].place = Place::Travelling;
        let delay = self.rng.u64(0..=self.plan.mail_ms);
        self.after(delay, Event::Input(to, Input::Arrive(socket, Box::new(traveller))));
    }

    // Bytes.

    fn send_outbox(&mut self, thread: usize) {
        let outbox = self.threads[thread].shard.outbox();
        let sends = std::mem::take(&mut outbox.sends);
        let arena = std::mem::take(&mut outbox.arena);
        let mut touched = Vec::new();
        for (slot, segment) in sends {
            let bytes = match &segment {
                Segment::Arena(range) => &arena[range.start as usize..range.end as usize],
                Segment::Shared(bytes) => bytes,
            };
            let socket = self.threads[thread].slots.get(slot as usize).copied().flatten();
            let Some(socket) = socket.filter(|s| self.sockets[*s].place == Place::At(thread, slot)) else {
                continue;
            };
            self.digest = self.digest.rotate_left(5) ^ hash(bytes);
            self.audit(socket, bytes);
            self.sockets[socket].tail.extend(bytes);
            if !touched.contains(&socket) {
                touched.push(socket);
            }
        }
        for socket in touched {
            self.sockets[socket].fill_kernel(self.now_ms);
            self.schedule_client_read(socket);
            let found = &mut self.sockets[socket];
            if let (Some(slot), false) = (found.place_on(thread), found.tail.is_empty()) {
                found.is_blocked = true;
                found.was_ever_blocked = true;
                found.ever_troubled = true;
                let backlog = found.tail.len();
                self.threads[thread].shard.blocked(slot, backlog);
            }
        }
    }

    /// Looks at what the server queues, whether or not the client ever reads it.
    fn audit(&mut self, socket: SocketId, bytes: &[u8]) {
        let now_ms = self.now_ms;
        let found = &mut self.sockets[socket];
        let is_adrift = matches!(found.place, Place::At(thread, _) if self.threads[thread].is_adrift);
        for received in found.audit.read(bytes) {
            match received {
                Received::Message(payload) if is_adrift && acknowledges(&payload) => {
                    self.model.violate("a node that may not write says that an edit is safe");
                }
                Received::Close(code, reason) => {
                    let code = code.unwrap_or(1005);
                    if found.closed_with.is_some() {
                        self.model.violate(format!("a second close frame: {code} {reason}"));
                    }
                    let silent_ms =
                        now_ms - if found.was_greeted { found.last_received_ms } else { found.opened_ms };
                    // Somebody who never said anything has less time.
                    let patience_ms = if found.was_greeted { PING_MS + PONG_MS } else { SILENT_MS };
                    if code == 4011 && silent_ms + 100 < patience_ms {
                        self.model.violate(format!("closed as idle after {silent_ms} ms of silence"));
                    }
                    let untaken_ms = now_ms - found.last_taken_ms;
                    if code == 4010 && untaken_ms + 100 < SLOW_READER_MS {
                        self.model.violate(format!("closed as slow, took a byte {untaken_ms} ms ago"));
                    }
                    found.closed_with = Some((code, reason));
                }
                Received::Message(_) if found.closed_with.is_some() => {
                    self.model.violate("a message after the close frame");
                }
                Received::Broken(error) => self.model.violate(format!("frames are broken: {error}")),
                Received::Message(_) => found.was_greeted = true,
                Received::Ping(_) => {}
            }
        }
    }

    // Effects.

    fn effects(&mut self, thread: usize) {
        while let Some(effect) = self.threads[thread].shard.next_effect() {
            self.effect(thread, effect);
        }
    }

    fn effect(&mut self, thread: usize, effect: Effect) {
        match effect {
            Effect::Verify { conn, ticket, token } => {
                let node = self.node_of(thread);
                let apps = &self.apps[node * self.plan.apps..][..self.plan.apps];
                let verdict = Token::judge(&token, apps);
                match self.plan.verify.delay(&mut self.rng) {
                    None => self.threads[thread].shard.verdict(conn, ticket, verdict),
                    Some(delay) => {
                        self.after(delay, Event::Input(thread, Input::Verdict(conn, ticket, verdict)));
                    }
                }
            }
            Effect::Socket(slot, action) => self.socket_action(thread, slot, action),
            Effect::Move(slot, to) => {
                let Some(socket) = self.threads[thread].slots[slot as usize] else { return };
                let delay = self.rng.u64(0..=self.plan.mail_ms);
                let to = self.first_of_node(thread) + usize::from(to);
                self.after(delay, Event::Input(thread, Input::Depart(socket, to)));
            }
            Effect::Open(document, name) => self.open_document(thread, document, &name),
            Effect::Store(document) => self.store(thread, document),
            Effect::Compact(document, job) => {
                let result = job.run();
                match self.plan.compact.delay(&mut self.rng) {
                    None => self.input(thread, Input::Compacted(document, result)),
                    Some(delay) => {
                        self.after(delay, Event::Input(thread, Input::Compacted(document, result)));
                    }
                }
            }
            Effect::Closed(document, name) => {
                let id = self.id(&name);
                self.left(thread, document, &id);
                if !self.plan.store_keeps && !self.is_home(thread) {
                    self.model.drop_session(&id);
                }
            }
            Effect::Backlog(slot, noted) => {
                let Some(socket) = self.threads[thread].slots[slot as usize] else { return };
                let backlog = self.sockets[socket].tail.len();
                self.threads[thread].shard.backlog(slot, noted, backlog);
            }
            Effect::Mail(to, mail) if to >= FIRST_LINK => self.mail_over(thread, to, mail),
            Effect::Mail(to, mail) => {
                let first = self.first_of_node(thread);
                let to = first + usize::from(to);
                let last = self.mail_clock.entry((thread, to)).or_default();
                *last = (*last).max(self.now_ms + self.rng.u64(0..=self.plan.mail_ms));
                let when = *last;
                self.at(when, Event::Input(to, Input::Mail((thread - first) as u16, mail)));
            }
            Effect::Say(document, message) => self.say(thread, document, &message),
            Effect::Stateless { .. } => self.model.violate("a stateless message that nobody sent"),
        }
    }

    fn socket_action(&mut self, thread: usize, slot: u32, action: SocketAction) {
        let Some(socket) = self.threads[thread].slots[slot as usize] else { return };
        let found = &mut self.sockets[socket];
        if found.place != Place::At(thread, slot) {
            return;
        }
        match action {
            SocketAction::PauseRead => {
                found.is_paused = true;
                found.may_overrun = self.rng.bool();
            }
            SocketAction::ResumeRead => {
                found.is_paused = false;
                self.input(thread, Input::Readable(socket));
            }
            SocketAction::Finish => {
                found.is_finishing = true;
                self.schedule_client_read(socket);
            }
            SocketAction::Close => {
                found.place = Place::Closed;
                self.threads[thread].freed.push(slot);
                self.schedule_client_read(socket);
            }
        }
    }

    // The session store.

    pub(super) fn id(&self, name: &DocumentName) -> DocumentId {
        let app =
            self.apps[..self.plan.apps].iter().position(|app| app.id() == &*name.app).unwrap_or_default();
        (app, name.name.to_string())
    }

    fn open_document(&mut self, thread: usize, document: DocumentRef, name: &DocumentName) {
        let id = self.id(name);
        self.opened_as.insert((thread, document.index, document.serial), id.clone());
        if self.threads[thread].is_adrift {
            self.model.violate("a node that may not claim opens a document");
        }
        self.threads[thread].shard.pinned(document, CLAIM);
        let refused = self.is_busy && Plan::chance(&mut self.rng, self.plan.refused_opens);
        let pending = self.committing.get(&id).copied().unwrap_or(0);
        match self.plan.open.delay(&mut self.rng) {
            None if pending < self.now_ms && !self.is_home(thread) => {
                let answer = self.load_for(thread, document, &id, refused);
                self.threads[thread].shard.opened(document, answer);
            }
            delay => {
                let when = (self.now_ms + delay.unwrap_or(0)).max(pending + 1);
                self.at(when, Event::Loaded { thread, document, id, refused });
            }
        }
    }

    /// What the store has of a document: some of it compacted, the rest as it came.
    pub(super) fn load(&mut self, id: &DocumentId, refused: bool) -> Result<Kept, Close> {
        if refused {
            return Err(Close::try_again(500));
        }
        let updates = &self.model.record(id).updates;
        let (compacted, rest) = updates.split_at(self.rng.usize(0..=updates.len()));
        let rest = rest.iter().map(|update| update.clone().into_boxed_slice());
        if self.plan.nodes > 1 {
            // Nodes store what builds on each other's in any order: that must not be merged, and nodes do not.
            let mut log = Log::default();
            compacted.iter().for_each(|update| log.append(log::NOBODY, update));
            let Compacted { base, left, .. } = log.compaction(Vec::new()).run();
            // It may come to nothing.
            let left =
                if base.is_some() { left } else { log.tail().map(|entry| entry.update.into()).collect() };
            let tail = left.into_iter().chain(rest).collect();
            if let Some(base) = &base {
                self.model.compacted(id, base);
            }
            return Ok(Kept { base, tail, ..Kept::default() });
        }
        let tail = rest.collect();
        if compacted.is_empty() {
            return Ok(Kept { tail, ..Kept::default() });
        }
        match yjs::merge_tiered(&compacted.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
            Ok(merged) => Ok(Kept { base: Some(merged.into()), tail, ..Kept::default() }),
            Err(_) => {
                self.model.violate(format!("{id:?}: what was stored does not merge"));
                Ok(Kept::default())
            }
        }
    }

    fn store(&mut self, thread: usize, document: DocumentRef) {
        let Some(id) = self.opened_as.get(&(thread, document.index, document.serial)).cloned() else {
            return;
        };
        let Some((position, entries)) = self.threads[thread].shard.submit(document) else { return };
        let updates: Vec<Vec<u8>> = entries.map(<[u8]>::to_vec).collect();
        self.check_submission(thread, document, &updates);
        let pending = self.committing.get(&id).copied().unwrap_or(0).max(self.store_out_until);
        match self.plan.store.delay(&mut self.rng) {
            None if pending < self.now_ms => {
                self.commit(thread, document, &id, updates);
                self.threads[thread].shard.stored(document, position);
            }
            delay => {
                let when = (self.now_ms + delay.unwrap_or(0)).max(pending);
                self.committing.insert(id.clone(), when);
                self.at(when, Event::Commit { thread, document, id, position, updates });
            }
        }
    }
}

/// Tells a client that an edit is safe.
fn acknowledges(payload: &[u8]) -> bool {
    let frame = hocuspocus::decode(payload);
    matches!(frame, Ok(Frame::Message { body: Body::SyncStatus { applied: true }, .. }))
}
