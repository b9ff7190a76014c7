//! What clients of one kind do beside sending: presence, leaving, being cut off, reading slowly.

use std::cmp::Reverse;

use pinwire_protocol::document::awareness::{self, Entry};
use pinwire_protocol::document::{hocuspocus, ywebsocket};
use pinwire_protocol::ws::Opcode;

use pinwire_engine::Slot;

use crate::run::Phase;
use crate::run::client::Stage;
use crate::run::schedule::{Part, Planned};
use crate::run::worker::{Timer, Worker};
use crate::scenario::{Dialect, Kind};

/// Clients renew their awareness state this often.
const RENEW_EVERY: u64 = 15_000_000_000;
/// From everybody's return to the next storm.
const STORM_PAUSE: u64 = 1_000_000_000;
/// Awareness ids begin here, so that none is a writer's.
const FIRST_AWARENESS_ID: u64 = 0x4000_0000;

impl Worker {
    /// Whether a client comes and goes by plan.
    pub(crate) fn is_visitor(&self, client: u32) -> bool {
        match self.given.scenario.kind {
            Kind::Connect => true,
            Kind::Churn { .. } => self.clients[client as usize].member > 0,
            _ => false,
        }
    }

    /// The load begins.
    pub(crate) fn begin_behaviour(&mut self, start: u64) {
        match self.given.scenario.kind {
            Kind::Churn { stay, .. } => {
                let stay = stay.as_nanos() as u64;
                for client in 0..self.clients.len() as u32 {
                    if self.is_visitor(client) && self.clients[client as usize].is_joined() {
                        // As if they had come at any time before.
                        let left = self.random.u64(..=stay);
                        self.timers.push(Reverse((start + left, Timer::Leave(client))));
                    }
                }
            }
            Kind::ReconnectStorm { storms, .. } => {
                self.storms_left = storms;
                self.is_storm_due = true;
                self.timers.push(Reverse((start, Timer::Storm)));
            }
            _ => {}
        }
    }

    /// Whether there is nothing more to do but to wait for what is under way.
    pub(crate) fn is_load_over(&mut self) -> bool {
        let now = self.now();
        let Some(pace) = &self.pace else { return true };
        let (start, end) = (pace.start, pace.end);
        if matches!(self.given.scenario.kind, Kind::ReconnectStorm { .. }) && now < end {
            if self.is_storm_due || !self.lost.is_empty() || now < start {
                return false;
            }
            if self.storms_left > 0 {
                self.is_storm_due = true;
                self.timers.push(Reverse((now + STORM_PAUSE, Timer::Storm)));
                return false;
            }
            return true;
        }
        now >= end && self.next_planned().is_none_or(|at| at > now)
    }

    /// A client has joined: its kind's own business begins.
    pub(crate) fn behave_joined(&mut self, client: u32) {
        let state = &self.clients[client as usize];
        let (group, member) = (state.group as usize, state.member);
        let members = self.places[group].plan.members;
        match self.given.scenario.kind {
            Kind::Connect => self.say_goodbye(client),
            Kind::Churn { stay, .. } if self.is_visitor(client) && self.phase() == Phase::Load => {
                let at = self.now() + stay.as_nanos() as u64;
                self.timers.push(Reverse((at, Timer::Leave(client))));
            }
            Kind::Idle { awareness_bytes, .. } if awareness_bytes > 0 && member < members => {
                self.announce(client);
            }
            Kind::Document { awareness_rate, .. } if awareness_rate > 0.0 && member < members => {
                // Members speak at times of their own.
                let first = self.now() + (self.random.f64() / awareness_rate * 1e9) as u64;
                self.timers.push(Reverse((first, Timer::Announce(client))));
            }
            Kind::SlowReader { slow, slow_bytes_per_second: 0, .. }
                if member < members && member >= members - slow && !self.is_draining =>
            {
                if let Some(slot) = self.clients[client as usize].slot {
                    self.engine.pause_read(slot);
                }
            }
            Kind::Redirect { .. } if member == 0 => {
                // The document is pinned where it was opened; now its traveller dials the wrong region.
                let now = self.now();
                if matches!(self.clients[client as usize + 1].stage, Stage::Away) {
                    self.redial_at(client + 1, now);
                }
            }
            _ => {}
        }
    }

    /// A visitor's stay is over.
    pub(crate) fn leave(&mut self, client: u32) {
        if self.clients[client as usize].is_joined() {
            self.leave_ledger(client);
            self.say_goodbye(client);
        }
    }

    /// Every connection of this thread is cut, as a network that fails does.
    pub(crate) fn storm(&mut self) {
        self.is_storm_due = false;
        self.storms_left = self.storms_left.saturating_sub(1);
        let now = self.now();
        for client in 0..self.clients.len() as u32 {
            if !self.clients[client as usize].is_joined() {
                continue;
            }
            self.drop_socket(client, true);
            self.leave_ledger(client);
            let region = self.clients[client as usize].region;
            self.lost.insert(client, region);
            self.clients[client as usize].since = now;
            self.redial_after(client, 0, now);
        }
    }

    /// A client says who it is, and will again.
    pub(crate) fn announce(&mut self, client: u32) {
        if !self.clients[client as usize].is_joined() || self.phase() > Phase::Load {
            return;
        }
        let (bytes, every, changes) = match self.given.scenario.kind {
            Kind::Idle { awareness_bytes, .. } => (awareness_bytes, RENEW_EVERY, false),
            Kind::Document { awareness_bytes, awareness_rate, .. } => {
                (awareness_bytes, (1e9 / awareness_rate) as u64, true)
            }
            _ => return,
        };
        let state = &mut self.clients[client as usize];
        state.awareness_clock += 1;
        let clock = state.awareness_clock;
        let json = presence(bytes as usize, if changes { clock } else { 0 });
        let id = FIRST_AWARENESS_ID + u64::from(self.given.client_base) + u64::from(client);
        let mut body = Vec::with_capacity(json.len() + 16);
        awareness::append_body(&mut body, &[Entry { client: id, clock, json: &json }]);
        let name = self.name_of(client);
        let dialect = self.given.scenario.target.dialect;
        let _ = self.queue(client, Opcode::Binary, |out| match dialect {
            Dialect::YWebsocket => ywebsocket::append_awareness(out, &body),
            Dialect::Hocuspocus => hocuspocus::append_awareness(out, &name, &body),
        });
        self.timers.push(Reverse((self.now() + every, Timer::Announce(client))));
    }

    /// Lets a slow reader rest for as long as its bytes take it.
    pub(crate) fn read_slowly(&mut self, client: u32, slot: Slot, bytes: usize) {
        let Kind::SlowReader { slow, slow_bytes_per_second, .. } = self.given.scenario.kind else { return };
        let state = &self.clients[client as usize];
        let members = self.places[state.group as usize].plan.members;
        let is_slow = state.member < members && state.member >= members - slow;
        if is_slow && state.is_joined() && slow_bytes_per_second > 0 && !self.is_draining {
            let rest = bytes as u64 * 1_000_000_000 / slow_bytes_per_second;
            self.engine.pause_read(slot);
            self.timers.push(Reverse((self.now() + rest, Timer::Resume(client))));
        }
    }

    /// In the end everybody reads.
    pub(crate) fn resume_slow_readers(&mut self) {
        if matches!(self.given.scenario.kind, Kind::SlowReader { .. }) {
            for client in &self.clients {
                if let Some(slot) = client.slot {
                    self.engine.resume_read(slot);
                }
            }
        }
    }

    /// One edit in every document, where the kind ends so.
    pub(crate) fn final_edits(&mut self) {
        if !self.given.scenario.has_final_edit() {
            return;
        }
        let planned = Planned { at: self.clock(), part: Part::Stage(0) };
        for group in 0..self.places.len() {
            let place = &self.places[group];
            if place.plan.writers > 0 {
                self.send_one(place.first_client, planned);
            }
        }
    }
}

/// An awareness state of about so many bytes.
fn presence(bytes: usize, change: u32) -> String {
    let mut json = format!("{{\"cursor\":{change},\"name\":\"");
    while json.len() + 2 < bytes {
        json.push('n');
    }
    json.push_str("\"}");
    json
}
