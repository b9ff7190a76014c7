//! Connections before their upgrade: what they ask for, and what becomes of them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pinwire_engine::{Carried, Engine, Segment, Slot, Stage};
use pinwire_protocol::close::Close;
use pinwire_protocol::ws::handshake::append_refusal;
use pinwire_shard::{Opening, SocketAction};

use super::admitting::{Refusal, Verdict};
use super::{Action, DataThread, number};
use crate::control::{HandOver, busy_answer, retry_after_secs};
use crate::data::handshake::{InLine, Reading, Upgrade, Wish, read_head};
use crate::metrics::handshake;
use crate::traces::What;

/// What a client is told to wait at least for whom HTTP has no room.
const BUSY_WAIT: Duration = Duration::from_secs(2);

impl DataThread {
    pub(super) fn guest_bytes(&mut self, engine: &mut Engine, slot: Slot, bytes: &mut [u8], now: Instant) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        if guest.is_done {
            if let Some((_, read)) = self.detaching.get_mut(&slot) {
                read.extend_from_slice(bytes);
            }
            return;
        }
        let peer = guest.peer;
        if let Some(is_kept) = self.guests.keep_for_turn(slot, bytes) {
            if !is_kept {
                self.refusals.handshake(handshake::BAD_REQUEST, peer.ip());
                self.guests.remove(slot);
                engine.close(slot);
            }
            return;
        }
        let Some(guest) = self.guests.get_mut(slot) else { return };
        let reading = Reading {
            trusted_proxies: &self.shared.config.trusted_proxies,
            deflate: self.shared.config.deflate.is_some(),
        };
        if guest.head.is_empty() {
            let wish = read_head(bytes, peer, &reading);
            if matches!(wish, Wish::Partial) {
                guest.head.extend_from_slice(bytes);
            }
            return self.grant(engine, slot, peer, wish, bytes, now);
        }
        let mut head = std::mem::take(&mut guest.head);
        head.extend_from_slice(bytes);
        let wish = read_head(&head, peer, &reading);
        if matches!(wish, Wish::Partial) {
            guest.head = head;
            return;
        }
        self.grant(engine, slot, peer, wish, &mut head, now);
    }

    fn grant(
        &mut self,
        engine: &mut Engine,
        slot: Slot,
        peer: SocketAddr,
        wish: Wish,
        bytes: &mut [u8],
        now: Instant,
    ) {
        match wish {
            Wish::Partial => {}
            Wish::Http => {
                if let Some(guest) = self.guests.get_mut(slot) {
                    guest.is_done = true;
                }
                self.detaching.insert(slot, (peer, bytes.to_vec()));
                engine.detach(slot);
            }
            Wish::Bad(bad) => {
                self.refusals.handshake(handshake::BAD_REQUEST, peer.ip());
                let mut answer = Vec::new();
                bad.append_response(&mut answer);
                // It may be in the middle of what it says: a socket closed now would be reset, and the answer with it.
                self.answer_and_wait(slot, &answer);
            }
            Wish::Upgrade(upgrade) => self.upgrade(engine, slot, *upgrade, bytes, now),
        }
    }

    /// A client asks for a WebSocket.
    fn upgrade(&mut self, engine: &mut Engine, slot: Slot, upgrade: Upgrade, bytes: &mut [u8], now: Instant) {
        match self.judge(&upgrade, now) {
            Verdict::Now => self.conclude(engine, slot, upgrade, None, bytes, now),
            Verdict::Later(turn) => {
                self.guests.line_up(slot, InLine { upgrade, bytes: bytes.to_vec() }, turn, now);
            }
            Verdict::Never(refusal) => self.conclude(engine, slot, upgrade, Some(refusal), bytes, now),
        }
    }

    /// Its turn has come: much may have changed meanwhile.
    pub(super) fn call_in(&mut self, engine: &mut Engine, slot: Slot, in_line: InLine, now: Instant) {
        let InLine { upgrade, mut bytes } = in_line;
        let refusal = self.refusal(&upgrade.opening, now);
        self.conclude(engine, slot, upgrade, refusal, &mut bytes, now);
    }

    /// Its turn would have come, had the budget not shrunk meanwhile.
    pub(super) fn send_home(&mut self, engine: &mut Engine, slot: Slot, in_line: InLine, now: Instant) {
        let InLine { upgrade, mut bytes } = in_line;
        let refusal = self.refuse(handshake::BUDGET, now);
        self.conclude(engine, slot, upgrade, Some(refusal), &mut bytes, now);
    }

    /// Lets it in, or says why not.
    fn conclude(
        &mut self,
        engine: &mut Engine,
        slot: Slot,
        upgrade: Upgrade,
        refusal: Option<Refusal>,
        bytes: &mut [u8],
        now: Instant,
    ) {
        if let Some(refusal) = refusal {
            self.refusals.handshake(refusal.reason, upgrade.client);
        }
        if let Some(guest) = self.guests.get_mut(slot) {
            let error = refusal.map_or("", |refusal| refusal.reason);
            self.recorder.note(What::Handshake, || now.saturating_duration_since(guest.since), error);
        }
        if let Some(refusal) = refusal
            && !upgrade.refuse_by_close
        {
            let mut answer = Vec::new();
            append_refusal(&mut answer, refusal.status, Some(refusal.retry_after()), &refusal.body());
            let has_said_all = bytes.len() == upgrade.head_len && engine.backlog(slot) == 0;
            return if has_said_all {
                self.answer_and_close(engine, slot, answer);
            } else {
                self.answer_and_wait(slot, &answer);
            };
        }
        // One that is told to come again was turned away, however it is told.
        if let Some(guest) = self.guests.remove(slot).filter(|_| refusal.is_none()) {
            self.times.handshake.note(now.saturating_duration_since(guest.since));
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        // Not with what the shard sends: that may be taken back, and its close frame needs an upgraded socket all the same.
        let response: Arc<[u8]> = upgrade.response().into();
        let len = response.len() as u32;
        // A socket that has ended is told later.
        let _ = engine.send(slot, Segment::Shared(response, 0..len));
        let slot = number(slot);
        let rest = bytes.get_mut(upgrade.head_len..).unwrap_or_default();
        if let Some(refusal) = refusal {
            let retry_ms = refusal.wait.as_millis() as u64;
            self.shard.open(slot, Opening { token: None, ..upgrade.opening });
            return self.shard.close(slot, &Close::try_again(retry_ms));
        }
        self.shard.open(slot, upgrade.opening);
        tracing::debug!(conn = self.name(slot), client = %upgrade.client, "a connection was opened");
        if !rest.is_empty() {
            self.shard.bytes(slot, rest);
        }
    }

    /// Answers a guest for good, and does not wait until it has gone: the cheapest end, for whoever has nothing under way to here.
    fn answer_and_close(&mut self, engine: &mut Engine, slot: Slot, answer: Vec<u8>) {
        self.guests.remove(slot);
        let len = answer.len() as u32;
        // A socket that has ended needs none.
        let _ = engine.send(slot, Segment::Shared(answer.into(), 0..len));
        engine.close(slot);
    }

    /// Answers a guest for good; its deadline closes it if the peer does not.
    fn answer_and_wait(&mut self, slot: Slot, answer: &[u8]) {
        if let Some(guest) = self.guests.get_mut(slot) {
            guest.is_done = true;
        }
        self.shard.outbox().write(number(slot), |out| out.extend_from_slice(answer));
        self.actions.push((number(slot), Action::Socket(SocketAction::Finish)));
    }

    pub(super) fn hand_over(&mut self, slot: Slot, fd: OwnedFd, carried: Option<Carried>) {
        self.guests.remove(slot);
        let Some((peer, read)) = self.detaching.remove(&slot) else { return };
        if let Err(mut refused) = self.http.try_hand_over(HandOver { fd, read, peer, carried }) {
            let wait = retry_after_secs(BUSY_WAIT, self.random());
            let answer = refused.sealed(busy_answer(wait));
            // A fresh socket's buffer takes this much; if not, the client sees the close alone.
            let _ = TcpStream::from(refused.fd).write_all(&answer);
        }
    }

    /// A guest was given up: before its TLS handshake was through, or after.
    pub(super) fn note_failed(
        &mut self,
        engine: &Engine,
        slot: Slot,
        peer: SocketAddr,
        reason: &'static str,
    ) {
        match engine.stage(slot) {
            None | Some(Stage::Open { .. }) => self.refusals.handshake(reason, peer.ip()),
            Some(stage) => self.refusals.tls(stage, reason, peer.ip()),
        }
    }
}
