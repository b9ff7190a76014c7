//! Connections that move to the thread of their document: a socket by its door, its state by mail, whichever comes first.

use std::sync::atomic::Ordering;

use pinwire_engine::{Carried, Engine, Slot};
use pinwire_shard::Traveller;

use super::{DataThread, number};
use crate::data::mailbox::Envelope;

/// A move's token: where to, from where, which. Below 2^60, as the engine asks.
const TARGET_SHIFT: u32 = 48;
const SOURCE_SHIFT: u32 = 36;
const NUMBER_MASK: u64 = (1 << SOURCE_SHIFT) - 1;

/// A socket whose connection's state is still on its way.
pub(super) struct Arrival {
    pub(super) slot: Slot,
    /// Its end was told already, and will not be again.
    pub(super) has_ended: bool,
}

impl DataThread {
    /// Sends a socket on its way.
    pub(super) fn send_off(&mut self, engine: &mut Engine, slot: Slot, target: u16) {
        self.next_move += 1;
        let token = u64::from(target) << TARGET_SHIFT
            | u64::from(self.number) << SOURCE_SHIFT
            | self.next_move & NUMBER_MASK;
        match self.outgoing.door(target) {
            Some(door) => engine.send_to(slot, &door.clone(), token),
            None => self.shard.move_failed(number(slot)),
        }
    }

    /// A socket is here; its state may be.
    pub(super) fn socket_came(&mut self, engine: &mut Engine, slot: Slot, token: u64) {
        match self.travellers.remove(&token) {
            Some((traveller, carried)) => self.arrive(engine, slot, *traveller, carried),
            None if self.orphans.remove(&token) => engine.close(slot),
            None => {
                // Nobody is there yet to take what it says.
                engine.pause_read(slot);
                self.arrived.insert(token, Arrival { slot, has_ended: false });
            }
        }
    }

    /// A connection's state is here; its socket may be.
    pub(super) fn traveller_came(
        &mut self,
        engine: &mut Engine,
        token: u64,
        traveller: Box<Traveller>,
        carried: Option<Carried>,
    ) {
        match self.arrived.remove(&token) {
            Some(Arrival { slot, has_ended }) => {
                self.arrive(engine, slot, *traveller, carried);
                if has_ended {
                    self.shard.ended(number(slot));
                }
            }
            None if self.lost.remove(&token) => self.forget(*traveller),
            None => _ = self.travellers.insert(token, (traveller, carried)),
        }
    }

    /// A connection ended before its socket left, which may be here.
    pub(super) fn orphan_came(&mut self, engine: &mut Engine, token: u64) {
        match self.arrived.remove(&token) {
            Some(arrival) => engine.close(arrival.slot),
            None if self.lost.remove(&token) => {}
            None => _ = self.orphans.insert(token),
        }
    }

    pub(super) fn departed(&mut self, slot: Slot, token: u64, carried: Option<Carried>) {
        let target = (token >> TARGET_SHIFT) as u16;
        let was_there = self.shard.has(number(slot));
        let envelope = match self.shard.depart(number(slot)) {
            Some(traveller) => Envelope::Traveller { token, traveller: Box::new(traveller), carried },
            None => Envelope::Orphan { token },
        };
        if was_there && matches!(envelope, Envelope::Orphan { .. }) {
            // It was closed while its socket left: this was its end.
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.outgoing.send(target, envelope);
    }

    /// A connection is here whole: nothing was read of its socket yet.
    fn arrive(&mut self, engine: &mut Engine, slot: Slot, traveller: Traveller, carried: Option<Carried>) {
        if let Some(carried) = carried {
            engine.restore_transform(slot, carried);
        }
        self.shard.arrive(number(slot), traveller);
    }

    /// A socket was lost between threads: what its connection counts for is given back, now or when its state comes.
    pub(super) fn lose(&mut self, token: u64) {
        match self.travellers.remove(&token) {
            Some((traveller, _)) => self.forget(*traveller),
            None if self.orphans.remove(&token) => {}
            None => {
                self.lost.insert(token);
            }
        }
    }

    fn forget(&mut self, traveller: Traveller) {
        traveller.lost();
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
