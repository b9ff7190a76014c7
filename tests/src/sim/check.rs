//! What must hold once everything has calmed down, and once everyone has left.

use super::device::Device;
use super::member::Member;
use super::model::DocumentId;
use super::ranges::{Clocks, Run};
use super::replica::Replica;
use super::token::Token;
use super::world::World;
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// A newcomer on every document that anybody uses: the seats, by document.
    pub(super) fn seat_joiners(&mut self) -> BTreeMap<DocumentId, usize> {
        let used: BTreeSet<DocumentId> = self.present().map(|member| member.document.clone()).collect();
        let mut joiners = BTreeMap::new();
        for id in used {
            let replica = self.new_replica(true);
            let device = Device::ywebsocket(id.0, replica, &id.1, Token::ReadWrite, false);
            joiners.insert(id, self.seat(device));
        }
        joiners
    }

    fn present(&self) -> impl Iterator<Item = &Member> {
        let seats = self.seats.iter().filter(|seat| !seat.is_gone);
        seats.flat_map(|seat| seat.device.members.iter())
    }

    pub(super) fn check_agreement(&mut self, joiners: &BTreeMap<DocumentId, usize>) {
        let mut found = Vec::new();
        for (number, seat) in self.seats.iter().enumerate().filter(|(_, seat)| !seat.is_gone) {
            if seat.socket.is_none() {
                found.push(format!("device {number} is not connected"));
            } else if !seat.device.is_settled() {
                found.push(format!("device {number} is not in step: {}", describe(&seat.device)));
            }
        }
        for (id, joiner) in joiners {
            let joiner = &self.seats[*joiner].device.members[0];
            let members: Vec<&Member> = self.present().filter(|member| member.document == *id).collect();
            for member in &members {
                self.compare(member, joiner, &mut found);
            }
            compare_presence(id, &members, &mut found);
        }
        for what in found {
            self.model.violate(what);
        }
        for (id, joiner) in joiners {
            let joiner = &self.seats[*joiner].device.members[0];
            let gets = joiner.known();
            self.model.check_promises(id, &gets);
            self.model.check_kept(id, &joiner.received, &gets, joiner.is_current());
        }
    }

    /// What was sent is compared in any case. What the library shows of it depends on the order in which it came where something
    /// was missing for a while, so that is compared where the library shows all that it was sent, and as it shows it to somebody
    /// new.
    fn compare(&self, member: &Member, joiner: &Member, found: &mut Vec<String>) {
        let (id, client) = (&member.document, member.replica.client);
        let (has, gets) = (member.known(), joiner.known());
        let (mut states, mut expected) = (has.states(), gets.states());
        if member.habits.read_only {
            if joiner.replica.clock_of(client) > 0 {
                found.push(format!("{id:?}: read-only client {client} has edited"));
            }
            states.remove(&client);
            let clock = |known| states.get(known).copied().unwrap_or_default();
            if expected.iter().any(|(known, end)| clock(known) < *end) {
                found.push(format!("{id:?}: read-only client {client} lacks something"));
            }
            if member.has_edited || !self.plan.store_keeps {
                return;
            }
        }
        // What stands behind a gap the library shows, and hands on to nobody.
        let keeps_more = member.habits.read_only || member.replica.has_gaps();
        let has_more = keeps_more && self.has_what_went_with_a_node(id, &has.less(&gets));
        let is_made_up = self.without_made_up(&mut states) | self.without_made_up(&mut expected);
        if states != expected && !(has_more && member.habits.read_only) {
            found.push(format!("{id:?}: client {client} has {states:?}, joiners get {expected:?}"));
        }
        let is_current = member.is_current() && joiner.is_current();
        let is_due = |run: &Run| !self.is_made_up(run) && (is_current || !run.is_deletion);
        if let Some(lacking) = joiner.received.runs().find(|run| !has.contains(run) && is_due(run)) {
            found.push(format!("{id:?}: client {client} was never sent {lacking:?}, joiners were"));
        }
        let is_whole = !joiner.replica.has_gaps() && !has_more && !is_made_up && !self.model.is_garbled(id);
        let differs = |content: fn(&Replica) -> String| content(&member.replica) != content(&joiner.replica);
        if is_whole && is_current && differs(Replica::content) && differs(Replica::content_anew) {
            let (shows, expected) = (member.replica.content(), joiner.replica.content());
            found.push(format!("{id:?}: client {client} shows {shows:?}, joiners {expected:?}"));
        }
    }

    /// It is all that is left of edits that never came to the store: a node passed them on and lost the document before it could
    /// store them, and whoever may write and had them left. Who may only read cannot give them back.
    fn has_what_went_with_a_node(&self, id: &DocumentId, more: &Clocks) -> bool {
        self.region.was_bereft(id) && *more != Clocks::default() && self.model.never_stored(id, more)
    }

    /// Its writer never wrote it: where something is lost or late that others build on, the library's clients hand on structs of
    /// their own making with what waits for it.
    fn is_made_up(&self, run: &Run) -> bool {
        !run.is_deletion && self.written(run.client).is_some_and(|written| written < run.end)
    }

    /// Leaves of a state vector what its writers wrote; true if there was more.
    fn without_made_up(&self, states: &mut BTreeMap<u64, u32>) -> bool {
        let mut had_more = false;
        for (client, clock) in states {
            if let Some(written) = self.written(*client).filter(|written| *written < *clock) {
                (*clock, had_more) = (written, true);
            }
        }
        had_more
    }

    /// Up to which clock a client wrote.
    fn written(&self, client: u64) -> Option<u32> {
        let members = self.seats.iter().flat_map(|seat| seat.device.members.iter());
        let mut replicas = members.map(|member| &member.replica);
        replicas.find(|replica| replica.client == client).map(|writer| writer.written)
    }

    /// The newcomers' connections break.
    pub(super) fn joiners_leave(&mut self, joiners: &BTreeMap<DocumentId, usize>) {
        for seat in joiners.values() {
            self.seats[*seat].is_gone = true;
            if let Some(socket) = self.seats[*seat].socket {
                self.reset(socket);
            }
        }
    }

    /// They dial again, with the clocks that they had.
    pub(super) fn joiners_return(&mut self, joiners: &BTreeMap<DocumentId, usize>) {
        for seat in joiners.values() {
            self.seats[*seat].is_gone = false;
            self.connect(*seat);
        }
    }

    /// Those who stayed see the newcomer of their document, or no longer do.
    pub(super) fn check_sight(&mut self, joiners: &BTreeMap<DocumentId, usize>, is_expected: bool) {
        let mut found = Vec::new();
        for (id, seat) in joiners {
            let newcomer = self.seats[*seat].device.members[0].replica.client;
            for member in self.present().filter(|member| member.document == *id) {
                let client = member.replica.client;
                let sees = member.replica.awareness.states.contains_key(&newcomer);
                if sees != is_expected && client != newcomer {
                    found.push(format!("{id:?}: client {client} sees {newcomer}: {sees}"));
                }
            }
        }
        for what in found {
            self.model.violate(what);
        }
    }

    /// Everyone leaves, and all clocks run out.
    pub(super) fn everyone_leaves(&mut self) {
        for seat in 0..self.seats.len() {
            self.seats[seat].is_gone = true;
            let Some(socket) = self.seats[seat].socket else { continue };
            if self.rng.bool() {
                self.hang_up(socket);
            } else {
                self.reset(socket);
            }
        }
    }

    pub(super) fn check_emptiness(&mut self) {
        self.check_link();
        let mut found = Vec::new();
        for (number, thread) in self.threads.iter_mut().enumerate() {
            let population = thread.shard.population();
            if population != (0, 0) {
                found.push(format!("thread {number} still has {population:?} connections and documents"));
            }
            if thread.shard.has_work() || thread.shard.next_effect().is_some() {
                found.push(format!("thread {number} has work left"));
            }
            if let Some(deadline) = thread.shard.next_deadline_us() {
                found.push(format!("thread {number} still waits for {deadline} us"));
            }
            if !thread.shard.outbox().sends.is_empty() || !thread.shard.outbox().arena.is_empty() {
                found.push(format!("thread {number} has bytes left to send"));
            }
        }
        for app in &self.apps {
            let counts = (app.connections(), app.documents());
            if counts != (0, 0) {
                found.push(format!("{} still counts {counts:?} connections and documents", app.id()));
            }
        }
        for what in found {
            self.model.violate(what);
        }
    }
}

/// Everyone sees exactly those who are there and want to be seen.
fn compare_presence(id: &DocumentId, members: &[&Member], found: &mut Vec<String>) {
    let shown = |member: &&Member| Some((member.replica.client, member.replica.awareness.own()?.clone()));
    let expected: BTreeMap<u64, String> = members.iter().filter_map(shown).collect();
    for member in members {
        if member.replica.awareness.states != expected {
            let (client, seen) = (member.replica.client, &member.replica.awareness.states);
            found.push(format!("{id:?}: client {client} sees {seen:?}, there are {expected:?}"));
        }
    }
}

fn describe(device: &Device) -> String {
    let members = device.members.iter();
    let each = members.map(|m| format!("{:?} synced {} awaiting {}", m.document, m.synced, m.unsynced()));
    each.collect::<Vec<_>>().join(", ")
}
