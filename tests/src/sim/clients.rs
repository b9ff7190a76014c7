//! The clients' side of the world: they dial, read at their own pace, answer, lose connections and come back.

use super::device::{Device, NO_DATA_MS, TICK_MS};
use super::member::Context;
use super::socket::{Place, Socket, SocketId};
use super::wire::{Received, Writer};
use super::world::{Event, Input, Seat, World};
use pinwire_shard::Opening;
use std::net::{IpAddr, Ipv4Addr};

impl World {
    pub(super) fn seat(&mut self, device: Device) -> usize {
        let seat = self.seats.len();
        self.seats.push(Seat { device, socket: None, attempts: 0, is_gone: false, due_at: None });
        let delay = self.rng.u64(0..=TICK_MS);
        self.after(delay, Event::DeviceTick(seat));
        self.after(0, Event::Connect(seat));
        seat
    }

    pub(super) fn connect(&mut self, seat: usize) {
        if self.seats[seat].is_gone || self.seats[seat].socket.is_some() {
            return;
        }
        let thread = self.rng.usize(0..self.threads.len());
        let pace = self.plan.pace(&mut self.rng);
        let deflate = self.seats[seat].device.deflate;
        let socket = self.sockets.len();
        let place = Place::Travelling;
        self.sockets.push(Socket::new(seat, place, pace, deflate, self.now_ms));
        self.seats[seat].socket = Some(socket);
        self.seats[seat].attempts += 1;
        self.input(thread, Input::Open(socket));
        self.trace(socket, "opens", &self.sockets[socket].pace);
        self.seats[seat].device.opened(self.now_ms);
        self.send_messages(seat);
    }

    pub(super) fn opening(&self, socket: SocketId) -> Opening {
        let seat = self.sockets[socket].device;
        let device = &self.seats[seat].device;
        Opening {
            document: device.document.as_deref().map(Into::into),
            token: device.token.map(|token| token.encode(device.app).into()),
            origin: None,
            peer: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + seat as u32)),
            deflate: device.deflate,
        }
    }

    // Sending.

    /// Sends what the device has to say, and looks again when it will have more.
    pub(super) fn send_messages(&mut self, seat: usize) {
        let messages = self.seats[seat].device.messages(self.now_ms);
        if let Some(socket) = self.seats[seat].socket {
            for message in messages {
                self.send_message(socket, &message);
            }
        }
        let due = self.seats[seat].device.next_ms();
        if let Some(due) = due
            && self.seats[seat].due_at.is_none_or(|at| at > due || at < self.now_ms)
        {
            self.seats[seat].due_at = Some(due);
            self.at(due, Event::DeviceDue(seat));
        }
    }

    pub(super) fn send_message(&mut self, socket: SocketId, message: &[u8]) {
        self.trace(socket, "->", &message);
        let mut bytes = Vec::new();
        self.sockets[socket].writer.message(&mut self.rng, message, &mut bytes);
        self.send(socket, &bytes);
    }

    /// Puts bytes on the wire, in pieces that arrive in order.
    pub(super) fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        if self.sockets[socket].client_closing {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let is_whole = self.rng.u8(0..4) > 0;
            let len = if is_whole { rest.len() } else { self.rng.usize(1..=rest.len()) };
            let (piece, others) = rest.split_at(len);
            let when = self.arrival(socket);
            self.at(when, Event::ToServer(socket, piece.to_vec()));
            rest = others;
        }
    }

    fn arrival(&mut self, socket: SocketId) -> u64 {
        let when = self.now_ms + self.rng.u64(0..=self.plan.latency_ms);
        let last = &mut self.sockets[socket].last_arrival_ms;
        *last = when.max(*last);
        *last
    }

    pub(super) fn arrived(&mut self, socket: SocketId, bytes: &[u8]) {
        let found = &mut self.sockets[socket];
        if found.is_cut || found.end_reported {
            return;
        }
        found.arrived.extend(bytes);
        if let Place::At(thread, _) = found.place {
            self.input(thread, Input::Readable(socket));
        }
    }

    pub(super) fn fin_arrived(&mut self, socket: SocketId) {
        let found = &mut self.sockets[socket];
        if found.is_cut {
            return;
        }
        found.fin_arrived = true;
        if let Place::At(thread, _) = found.place {
            self.input(thread, Input::Readable(socket));
        }
    }

    pub(super) fn reset_arrived(&mut self, socket: SocketId) {
        let found = &mut self.sockets[socket];
        found.arrived.clear();
        found.fin_arrived = true;
        match found.place {
            Place::At(thread, _) => self.input(thread, Input::Ended(socket)),
            Place::Travelling => self.after(1, Event::Reset(socket)),
            Place::Closed => {}
        }
    }

    // Receiving.

    pub(super) fn schedule_client_read(&mut self, socket: SocketId) {
        let found = &mut self.sockets[socket];
        let has_something = !found.kernel.is_empty() || found.is_at_eof();
        if found.read_scheduled || !found.client_is_there || found.is_cut || !has_something {
            return;
        }
        found.read_scheduled = true;
        let delay = self.rng.u64(0..=found.pace.delay_ms);
        let when = (self.now_ms + delay).max(found.frozen_until_ms);
        self.at(when, Event::ClientRead(socket));
    }

    pub(super) fn client_reads(&mut self, socket: SocketId) {
        let found = &mut self.sockets[socket];
        found.read_scheduled = false;
        if !found.client_is_there || found.is_cut {
            return;
        }
        if found.frozen_until_ms > self.now_ms {
            return self.schedule_client_read(socket);
        }
        let bytes = found.take(found.pace.read);
        found.fill_kernel(self.now_ms);
        if found.is_blocked && found.tail.is_empty() {
            found.is_blocked = false;
            if let Place::At(thread, _) = found.place {
                self.input(thread, Input::Drained(socket));
            }
        }
        for received in self.sockets[socket].reader.read(&bytes) {
            self.trace(socket, "<-", &received);
            self.client_receives(socket, received);
        }
        if self.sockets[socket].is_at_eof() && self.sockets[socket].client_is_there {
            return self.client_sees_eof(socket);
        }
        self.schedule_client_read(socket);
    }

    fn client_receives(&mut self, socket: SocketId, received: Received) {
        let seat = self.sockets[socket].device;
        let is_current = self.seats[seat].socket == Some(socket);
        let mut bytes = Vec::new();
        match received {
            Received::Message(payload) if is_current => self.device_receives(seat, socket, &payload),
            Received::Message(_) => {}
            Received::Ping(payload) => {
                Writer::pong(&mut self.rng, &payload, &mut bytes);
                self.send(socket, &bytes);
            }
            Received::Close(code, _) => {
                Writer::close(&mut self.rng, code, &mut bytes);
                self.send(socket, &bytes);
                self.sockets[socket].client_closing = true;
            }
            Received::Broken(error) => self.model.violate(format!("the client reads broken frames: {error}")),
        }
    }

    fn device_receives(&mut self, seat: usize, socket: SocketId, payload: &[u8]) {
        let is_multiplexed =
            self.plan.homes > 0 || self.seats[seat].device.is_hocuspocus() && self.plan.threads > 1;
        let mut context = Context {
            now_ms: self.now_ms,
            rng: &mut self.rng,
            model: &mut self.model,
            // Who moves between nodes is ahead of what they tell each other.
            keeps_up: !self.sockets[socket].was_ever_blocked && !is_multiplexed && self.plan.nodes == 1,
            opened_ms: self.sockets[socket].opened_ms,
        };
        self.seats[seat].device.receive(payload, &mut context);
        if self.seats[seat].device.members.iter().any(|member| member.synced) {
            self.seats[seat].attempts = 0;
        }
        self.send_messages(seat);
    }

    /// The server ended the connection: so does the client, and dials again.
    fn client_sees_eof(&mut self, socket: SocketId) {
        self.sockets[socket].client_is_there = false;
        let when = self.arrival(socket);
        self.at(when, Event::Fin(socket));
        self.lost(socket);
    }

    /// A device is without its connection, and dials again after a pause.
    pub(super) fn lost(&mut self, socket: SocketId) {
        self.trace(socket, "lost", &self.sockets[socket].closed_with);
        let seat = self.sockets[socket].device;
        if self.seats[seat].socket != Some(socket) {
            return;
        }
        self.seats[seat].socket = None;
        self.seats[seat].device.closed();
        if let Some((4002 | 4003, _)) = self.sockets[socket].closed_with {
            self.find_better_token(seat);
        }
        let attempts = self.seats[seat].attempts.min(5);
        let pause = (100u64 << attempts).min(2_500);
        let delay = pause / 2 + self.rng.u64(0..=pause);
        self.after(delay, Event::Connect(seat));
    }

    fn find_better_token(&mut self, seat: usize) {
        let device = &mut self.seats[seat].device;
        let read_only = device.members[0].habits.read_only;
        // Once all is calm the app has a good one at once: refusals are held longer and longer.
        if !self.is_busy || self.rng.bool() {
            device.token = Some(super::token::Token::replacing(device.token, read_only));
        }
    }

    // Time.

    pub(super) fn device_tick(&mut self, seat: usize) {
        if self.seats[seat].is_gone {
            return;
        }
        self.after(TICK_MS, Event::DeviceTick(seat));
        self.seats[seat].device.tick(self.now_ms);
        self.send_messages(seat);
        let Some(socket) = self.seats[seat].socket else { return };
        let device = &self.seats[seat].device;
        if self.now_ms - device.last_data_ms < NO_DATA_MS {
            return;
        }
        let was_in_step = device.members.iter().all(|member| member.synced);
        if was_in_step && !self.sockets[socket].ever_troubled {
            self.model.violate(format!("device {seat} had no data frame for {NO_DATA_MS} ms"));
        }
        self.hang_up(socket);
    }

    pub(super) fn device_due(&mut self, seat: usize) {
        self.seats[seat].due_at = None;
        self.seats[seat].device.pass_time(self.now_ms);
        self.send_messages(seat);
    }

    /// The client closes politely and does not wait for the answer before it dials again.
    pub(super) fn hang_up(&mut self, socket: SocketId) {
        let mut bytes = Vec::new();
        Writer::close(&mut self.rng, None, &mut bytes);
        self.send(socket, &bytes);
        self.sockets[socket].client_closing = true;
        self.lost(socket);
    }
}
