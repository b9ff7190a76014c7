//! The end of a turn: its bytes go to the engine, and then what is to be done to sockets after them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pinwire_engine::{Engine, Refused, Segment as Sent, Slot};
use pinwire_shard::{Segment, SocketAction};

use super::{Action, DataThread};

/// Sends for which a turn's list keeps room: one turn that speaks to every connection is not paid for ever.
const SENDS_KEPT: usize = 4096;

impl DataThread {
    /// Hands the turn's bytes to the engine, then what is to be done to sockets after them.
    pub(super) fn send(&mut self, engine: &mut Engine) {
        let outbox = self.shard.outbox();
        std::mem::swap(engine.arena(), &mut outbox.arena);
        let mut sends = std::mem::take(&mut outbox.sends);
        let mut cut = Vec::new();
        for (slot, segment) in &sends {
            let segment = match segment {
                Segment::Arena(range) => Sent::Arena(range.clone()),
                Segment::Shared(bytes) => Sent::Shared(Arc::clone(bytes), 0..bytes.len() as u32),
            };
            match engine.send(Slot::from_index(*slot), segment) {
                // Who is gone misses nothing.
                Ok(()) | Err(Refused::Ended) => {}
                Err(refused) => {
                    tracing::debug!(conn = self.name(*slot), %refused, "output refused");
                    cut.push(*slot);
                }
            }
        }
        for (slot, action) in std::mem::take(&mut self.actions) {
            self.act(engine, slot, action);
        }
        engine.flush();
        let mut last = None;
        for (slot, _) in sends.drain(..) {
            if last != Some(slot) && engine.is_blocked(Slot::from_index(slot)) {
                self.shard.blocked(slot, engine.backlog(Slot::from_index(slot)));
            }
            last = Some(slot);
        }
        sends.shrink_to(SENDS_KEPT);
        self.shard.outbox().sends = sends;
        for slot in cut {
            self.give_up(slot, "what may wait for it");
        }
    }

    fn act(&mut self, engine: &mut Engine, slot: u32, action: Action) {
        let engine_slot = Slot::from_index(slot);
        match action {
            Action::Socket(SocketAction::PauseRead) => engine.pause_read(engine_slot),
            Action::Socket(SocketAction::ResumeRead) => engine.resume_read(engine_slot),
            Action::Socket(SocketAction::Finish) => engine.shutdown_write(engine_slot),
            Action::Socket(SocketAction::Close) => {
                self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                engine.close(engine_slot);
            }
            Action::Move(target) => self.send_off(engine, engine_slot, target),
        }
    }
}
