//! What users and fate do while a run is busy.

use super::device::{Device, Dialect, Provider};
use super::plan::Plan;
use super::replica::Replica;
use super::socket::SocketId;
use super::token::Token;
use super::wire::Writer;
use super::world::{Event, World};

impl World {
    /// Seats the first devices and sets the run going.
    pub(super) fn populate(&mut self) {
        for _ in 0..self.plan.devices {
            let device = self.random_device();
            self.seat(device);
        }
        self.after(500, Event::Edit);
        let delay = self.plan.fault_every_ms;
        self.after(delay, Event::Fault);
    }

    pub(super) fn document_name(&self, number: usize) -> String {
        format!("document-{number}")
    }

    fn random_name(&mut self) -> String {
        let number = self.rng.usize(0..self.plan.documents);
        self.document_name(number)
    }

    pub(super) fn new_replica(&mut self, is_shown: bool) -> Replica {
        self.next_client += 1;
        let state = is_shown.then(|| format!("{{\"user\":{}}}", self.next_client));
        Replica::new(self.next_client, state, self.now_ms)
    }

    fn random_token(&mut self) -> Token {
        let good =
            if Plan::chance(&mut self.rng, self.plan.read_only) { Token::ReadOnly } else { Token::ReadWrite };
        match self.rng.u8(0..100) {
            chance if chance >= self.plan.bad_tokens => good,
            chance if chance % 2 == 0 => Token::Invalid,
            _ => Token::Forbidden,
        }
    }

    fn random_device(&mut self) -> Device {
        let app = self.rng.usize(0..self.plan.apps);
        let mut device = if Plan::chance(&mut self.rng, self.plan.hocuspocus) {
            self.random_hocuspocus(app)
        } else {
            let (name, token) = (self.random_name(), self.random_token());
            let is_shown = self.rng.u8(0..5) > 0;
            let (replica, echoes) = (self.new_replica(is_shown), self.rng.bool());
            Device::ywebsocket(app, replica, &name, token, echoes)
        };
        device.deflate = Plan::chance(&mut self.rng, self.plan.deflate);
        device
    }

    fn random_hocuspocus(&mut self, app: usize) -> Device {
        let handshake = self.rng.bool().then(|| self.random_token());
        let mut device = Device::hocuspocus(app, handshake);
        let has_sessions = self.rng.bool();
        let mut names: Vec<String> = Vec::new();
        for session in 0..self.rng.usize(1..=3) {
            let name = self.random_name();
            if names.contains(&name) && !has_sessions {
                continue;
            }
            let key = if has_sessions { format!("{name}\0s{session}") } else { name.clone() };
            let in_band = (handshake.is_none() || self.rng.bool()).then(|| self.random_token());
            // Two good tokens that differ are both right, one after the other.
            let in_band = in_band.map(|token| {
                if token.is_good() { handshake.filter(|h| h.is_good()).unwrap_or(token) } else { token }
            });
            // Never near the deadline: whether a token comes just before or after it is not for the model to know.
            let delay = [0, 0, 1_500, 12_500][self.rng.usize(0..4)] + self.rng.u64(0..300);
            let mut provider = Provider::new(key, in_band, delay);
            // Without a token in the handshake nobody is refused before Auth.
            provider.types_early = self.plan.refused_opens == 0 || handshake.is_none();
            provider.version = has_sessions.then_some("4.8.0");
            let is_shown = self.rng.u8(0..5) > 0;
            let (replica, echoes) = (self.new_replica(is_shown), !has_sessions);
            device.add_provider(&name, replica, echoes, provider);
            names.push(name);
        }
        device
    }

    pub(super) fn edit(&mut self) {
        if !self.is_busy {
            return;
        }
        let mean = self.plan.edit_every_ms;
        let delay = self.rng.u64(0..=2 * mean);
        self.after(delay, Event::Edit);
        let Some(seat) = self.random_seat() else { return };
        let largest = self.plan.largest_edit;
        let burst = if self.rng.u8(0..5) == 0 { self.rng.usize(2..12) } else { 1 };
        let member = self.seats[seat].device.pick(&mut self.rng);
        if member.habits.read_only && self.rng.u8(0..10) > 0 {
            return;
        }
        for _ in 0..burst {
            member.edit(&mut self.rng, largest);
        }
        if self.rng.u8(0..10) == 0 {
            let state = (self.rng.u8(0..4) > 0).then(|| format!("{{\"cursor\":{}}}", self.rng.u16(..)));
            self.seats[seat].device.pick(&mut self.rng).set_presence(state, self.now_ms);
        }
        self.send_messages(seat);
    }

    fn random_seat(&mut self) -> Option<usize> {
        let present: Vec<usize> = (0..self.seats.len()).filter(|seat| !self.seats[*seat].is_gone).collect();
        self.rng.choice(present)
    }

    pub(super) fn fault(&mut self) {
        if !self.is_busy {
            return;
        }
        let mean = self.plan.fault_every_ms;
        let delay = self.rng.u64(1..=2 * mean);
        self.after(delay, Event::Fault);
        if self.plan.nodes > 1 && self.rng.u8(0..3) == 0 {
            return self.region_fault();
        }
        if self.link.is_some() && self.rng.u8(0..6) == 0 {
            return self.break_link();
        }
        if self.rng.u8(0..8) == 0 {
            self.store_out_until = self.now_ms + self.rng.u64(0..20_000);
            return;
        }
        if self.rng.u8(0..10) == 0 && self.seats.len() < 3 * self.plan.devices {
            let device = self.random_device();
            self.seat(device);
            return;
        }
        let Some(seat) = self.random_seat() else { return };
        let Some(socket) = self.seats[seat].socket else { return };
        match self.rng.u8(0..14) {
            0..=2 => self.reset(socket),
            3..=4 => self.hang_up(socket),
            5..=6 => self.cut(socket),
            7..=9 => self.freeze(socket),
            10 => self.leave_for_good(seat, socket),
            11 => {
                let mut bytes = Vec::new();
                Writer::ping(&mut self.rng, &mut bytes);
                self.send(socket, &bytes);
            }
            _ => self.leave_a_document(seat, socket),
        }
    }

    /// The connection breaks at once, in the middle of whatever is under way.
    pub(super) fn reset(&mut self, socket: SocketId) {
        self.sockets[socket].client_is_there = false;
        self.sockets[socket].client_closing = true;
        let delay = self.rng.u64(0..=self.plan.latency_ms);
        self.after(delay, Event::Reset(socket));
        self.lost(socket);
    }

    /// The network drops the connection and tells nobody; the client finds out first.
    fn cut(&mut self, socket: SocketId) {
        self.sockets[socket].is_cut = true;
        self.sockets[socket].client_is_there = false;
        self.sockets[socket].client_closing = true;
        self.lost(socket);
    }

    /// The client's process stands still: it neither reads nor answers.
    fn freeze(&mut self, socket: SocketId) {
        let longest = [3_000, 30_000, 100_000][self.rng.usize(0..3)];
        let duration = self.rng.u64(100..longest);
        self.sockets[socket].frozen_until_ms = self.now_ms + duration;
        self.sockets[socket].ever_troubled = true;
    }

    fn leave_for_good(&mut self, seat: usize, socket: SocketId) {
        self.seats[seat].is_gone = true;
        if self.rng.bool() {
            self.hang_up(socket);
        } else {
            self.reset(socket);
        }
    }

    fn leave_a_document(&mut self, seat: usize, socket: SocketId) {
        let members = self.seats[seat].device.members.len();
        let until = self.now_ms + self.rng.u64(5_000..25_000);
        let at = self.rng.usize(0..members);
        if let Some(close) = self.seats[seat].device.leave_document(at, until) {
            self.sockets[socket].ever_troubled = true;
            self.send_message(socket, &close);
            self.send_messages(seat);
        }
    }

    /// Ends all faults: everyone reads, everyone comes back.
    pub(super) fn calm_down(&mut self) {
        self.is_busy = false;
        self.store_out_until = 0;
        for socket in 0..self.sockets.len() {
            let found = &mut self.sockets[socket];
            found.frozen_until_ms = 0;
            found.pace.read = 1 << 20;
            found.pace.capacity = 1 << 20;
            found.pace.delay_ms = self.plan.latency_ms;
            found.read_scheduled = false;
            if !found.is_cut {
                found.fill_kernel(self.now_ms);
            }
            self.schedule_client_read(socket);
        }
        self.plan.slow_readers = 0;
        for seat in &mut self.seats {
            if let Dialect::Hocuspocus(providers) = &mut seat.device.dialect {
                for provider in providers.iter_mut().filter(|provider| provider.away_until.is_some()) {
                    provider.away_until = provider.away_until.map(|back| back.min(self.now_ms + 2_000));
                }
            }
        }
        for seat in 0..self.seats.len() {
            self.send_messages(seat);
        }
    }
}
