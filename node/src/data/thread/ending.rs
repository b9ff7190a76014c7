//! How a data thread stops: by and by where the node drains, and at once at its end.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pinwire_engine::{Engine, Slot};
use pinwire_protocol::close::{Close, CloseCode};

use super::{DataThread, xorshift};
use crate::data::leaving::Client;

impl DataThread {
    /// It is about to end, and takes nobody any more.
    pub(super) fn is_ending(&self, now: Instant) -> bool {
        self.stopping_since.is_some() || self.leaving.turns_away(self.us(now))
    }

    /// A drain goes on: who is due is told to come again, which leads elsewhere.
    pub(super) fn leave(&mut self, engine: &mut Engine, now_us: u64) {
        if !self.leaving.is_closing(now_us) {
            return;
        }
        if self.leaving.should_stop_listening(now_us, engine.has_waiting()) {
            engine.stop_listening();
            self.leaving.listens = false;
        }
        self.shard.keep_documents(true);
        self.shard.refuse_carried(true);
        let random = &mut self.random;
        let carried = self.shard.carried_sessions().map(|(link, session)| Client::Carried(link, session));
        let open = self.shard.slots().map(Client::Here).chain(carried);
        let due = self.leaving.due(now_us, open, || xorshift(random));
        let close = Close::new(CloseCode::ServiceRestart, "the node stops");
        for client in due {
            match client {
                Client::Here(slot) => self.shard.close(slot, &close),
                Client::Carried(link, session) => self.shard.end_carried(link, session, &close),
            }
        }
    }

    /// At the end of a turn: who is here besides its clients, for a drain that waits for them.
    pub(super) fn tell_of_others(&mut self) {
        let carried = self.shard.carried();
        if self.carried != carried {
            self.shared.carried.fetch_add(carried.wrapping_sub(self.carried), Ordering::SeqCst);
            self.carried = carried;
        }
        self.told.tell(&self.shared.unanswered, self.guests.len(), self.leaving.listens);
    }

    /// The node does not drain after all, or drains anew: then, too, it takes who comes for a while.
    pub(super) fn stay(&mut self, engine: &mut Engine, number: u64, listeners: Vec<TcpListener>) {
        if self.leaving.cancel(number) {
            self.shard.keep_documents(false);
            self.shard.refuse_carried(false);
        }
        if !self.leaving.listens {
            for listener in listeners {
                if let Err(error) = engine.listen(listener) {
                    tracing::error!(%error, number = self.number, "a data thread cannot listen again");
                }
            }
            self.leaving.listens = true;
        }
    }

    pub(super) fn stop(&mut self, engine: &mut Engine, now: Instant) {
        if self.stopping_since.is_some() {
            return;
        }
        self.stopping_since = Some(now);
        engine.stop_listening();
        for slot in self.guests.slots() {
            self.guests.remove(Slot::from_index(slot));
            engine.close(Slot::from_index(slot));
        }
        let slots: Vec<u32> = self.shard.slots().collect();
        for slot in slots {
            self.shard.close(slot, &Close::new(CloseCode::ServiceRestart, "the node stops"));
        }
    }
}
