//! Connections before their upgrade: request heads under a deadline, and what becomes of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pinwire_engine::Slot;
use pinwire_protocol::document::target::parse_target;
use pinwire_protocol::ws::WindowBits;
use pinwire_protocol::ws::handshake::{
    BadRequest, DeflateParams, Parsed, Request, append_response, negotiate_deflate, parse_request,
};
use pinwire_shard::{Opening, Slab};
use pinwire_shed::Turn;

use crate::limits::client_address;

/// A connection that is not a WebSocket yet.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) peer: SocketAddr,
    /// When it was accepted.
    pub(crate) since: Instant,
    /// What came of the request so far, if that took more than one read.
    pub(crate) head: Vec<u8>,
    /// It was answered for good, or is being handed over: whatever else comes is ignored.
    pub(crate) is_done: bool,
    /// It has asked for an upgrade, and waits for its turn.
    in_line: Option<Box<InLine>>,
    /// Tells it from others that had the slot, in the queues of deadlines and turns.
    serial: u64,
}

impl Guest {
    /// What it waits in line for.
    pub(crate) fn into_line(self) -> Option<Box<InLine>> {
        self.in_line
    }
}

/// A request that is answered when its turn comes.
pub(crate) struct InLine {
    pub(crate) upgrade: Upgrade,
    /// The request's head, and what came after it.
    pub(crate) bytes: Vec<u8>,
}

impl std::fmt::Debug for InLine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("InLine").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// How long one is in line at most: y-websocket dials again after 2.5 s at the latest, and all who were refused together come together.
const LINE: Duration = Duration::from_secs(3);
/// When the line is looked at again at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes that a client may send before it is answered.
const IN_LINE_MAX: usize = 16 << 10;

/// The guests of a thread, with their deadlines.
#[derive(Debug)]
pub(crate) struct Guests {
    guests: Slab<Box<Guest>>,
    /// Guests in line.
    waiting: usize,
    /// One deadline for all: the queue is in order by itself.
    deadlines: VecDeque<(Instant, Slot, u64)>,
    /// Turns of those in line, one after the other, and when to look whether the first has come.
    turns: VecDeque<(Turn, Slot, u64)>,
    look_at: Instant,
    patience: Duration,
    next_serial: u64,
}

impl Guests {
    pub(crate) fn new(patience: Duration) -> Self {
        let (deadlines, turns) = (VecDeque::new(), VecDeque::new());
        let (guests, look_at) = (Slab::default(), Instant::now());
        Self { guests, waiting: 0, deadlines, turns, look_at, patience, next_serial: 0 }
    }

    pub(crate) fn welcome(&mut self, slot: Slot, peer: SocketAddr, now: Instant) {
        self.next_serial += 1;
        let serial = self.next_serial;
        let guest = Guest { peer, since: now, head: Vec::new(), is_done: false, in_line: None, serial };
        self.guests.put(slot.index() as u32, Box::new(guest));
        self.deadlines.push_back((now + self.patience, slot, serial));
    }

    /// It gets in line, and begins its time anew: who sent its request late is not closed before.
    pub(crate) fn line_up(&mut self, slot: Slot, in_line: InLine, turn: Turn, now: Instant) {
        let Some(guest) = self.guests.get_mut(slot.index() as u32) else { return };
        self.next_serial += 1;
        guest.serial = self.next_serial;
        self.waiting += usize::from(guest.in_line.replace(Box::new(in_line)).is_none());
        self.deadlines.push_back((now + self.patience, slot, guest.serial));
        if self.turns.is_empty() {
            self.look_at = now;
        }
        self.turns.push_back((turn, slot, guest.serial));
    }

    /// The next whose turn it is, by what `wait` says of turns.
    pub(crate) fn next_turn(
        &mut self,
        now: Instant,
        wait: impl Fn(Turn) -> Duration,
    ) -> Option<(Slot, Box<InLine>)> {
        if now < self.look_at {
            return None;
        }
        while let Some(&(turn, slot, serial)) = self.turns.front() {
            let guest = self.guests.get_mut(slot.index() as u32).filter(|guest| guest.serial == serial);
            if guest.is_some() {
                let wait = wait(turn);
                if !wait.is_zero() {
                    // A budget that grows is not to find the line asleep.
                    self.look_at = now + wait.min(LOOK_AGAIN);
                    return None;
                }
            }
            self.turns.pop_front();
            if let Some(in_line) = guest.and_then(|guest| guest.in_line.take()) {
                self.waiting -= 1;
                return Some((slot, in_line));
            }
        }
        None
    }

    /// What a guest in line says before it is answered is kept; false if that is too much. Of who is not in line nothing is taken.
    pub(crate) fn keep_for_turn(&mut self, slot: Slot, bytes: &[u8]) -> Option<bool> {
        let in_line = self.get_mut(slot)?.in_line.as_mut()?;
        in_line.bytes.extend_from_slice(bytes);
        Some(in_line.bytes.len() <= IN_LINE_MAX)
    }

    /// How long one may be in line: half the time that a handshake may take, and a little more than stock clients wait at most before
    /// they dial again.
    pub(crate) fn line_patience(&self) -> Duration {
        LINE.min(self.patience / 2)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Guest> {
        self.guests.get_mut(slot.index() as u32).map(|guest| &mut **guest)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Box<Guest>> {
        let guest = self.guests.remove(slot.index() as u32);
        self.waiting -= usize::from(guest.as_ref().is_some_and(|guest| guest.in_line.is_some()));
        guest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.guests.len()
    }

    /// Those of whom it is not known yet what they want.
    pub(crate) fn unheard(&self) -> usize {
        self.guests.len() - self.waiting
    }

    pub(crate) fn slots(&self) -> Vec<u32> {
        self.guests.iter().map(|(slot, _)| slot).collect()
    }

    /// Takes out the next guest whose time is up.
    pub(crate) fn next_late(&mut self, now: Instant) -> Option<(Slot, Box<Guest>)> {
        while let Some(&(deadline, slot, serial)) = self.deadlines.front() {
            let is_gone = self.guests.get(slot.index() as u32).is_none_or(|guest| guest.serial != serial);
            if !is_gone && now < deadline {
                return None;
            }
            self.deadlines.pop_front();
            if !is_gone {
                return self.remove(slot).map(|late| (slot, late));
            }
        }
        None
    }

    /// When [`Self::next_late`] or [`Self::next_turn`] has something to do at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let look_at = self.turns.front().map(|_| self.look_at);
        self.deadlines.front().map(|(at, ..)| *at).into_iter().chain(look_at).min()
    }
}

/// What a head asks for.
pub(crate) enum Wish {
    /// More of it must come.
    Partial,
    /// Plain HTTP.
    Http,
    /// Nothing that can be answered but by this.
    Bad(BadRequest),
    /// A WebSocket.
    Upgrade(Box<Upgrade>),
}

/// A valid upgrade request.
pub(crate) struct Upgrade {
    pub(crate) head_len: usize,
    pub(crate) client: IpAddr,
    pub(crate) opening: Opening,
    /// The client wants a refusal as a close frame, which browser code can read, and not as HTTP.
    pub(crate) refuse_by_close: bool,
    response: Vec<u8>,
}

impl Upgrade {
    /// The 101 answer.
    pub(crate) fn response(&self) -> &[u8] {
        &self.response
    }
}

/// How upgrades are read.
pub(crate) struct Reading<'a> {
    pub(crate) trusted_proxies: &'a [IpNet],
    pub(crate) deflate: bool,
}

/// Reads a request head.
pub(crate) fn read_head(head: &[u8], peer: SocketAddr, reading: &Reading<'_>) -> Wish {
    match parse_request(head) {
        Ok(Parsed::Partial) => Wish::Partial,
        Err(bad) => Wish::Bad(bad),
        Ok(Parsed::Complete { request, .. }) if !request.is_upgrade() => Wish::Http,
        Ok(Parsed::Complete { head_len, request }) => {
            Wish::Upgrade(Box::new(upgrade(head_len, &request, peer, reading)))
        }
    }
}

fn upgrade(head_len: usize, request: &Request<'_>, peer: SocketAddr, reading: &Reading<'_>) -> Upgrade {
    let target = parse_target(request.target);
    let offered = subprotocols(&request.protocols);
    let bearer = request.authorization.and_then(bearer_token);
    let token = offered.token.or(bearer).map(Box::from).or_else(|| target.token.as_deref().map(Box::from));
    // Our compressor shares one window size; a client that bounds it is served uncompressed.
    let is_shared = |params: &DeflateParams| params.window() == WindowBits::MAX;
    let deflate = reading.deflate.then(|| negotiate_deflate(&request.extensions)).flatten().filter(is_shared);
    let client = client_address(peer, request.forwarded_for.iter().copied(), reading.trusted_proxies);
    let mut response = Vec::with_capacity(256);
    append_response(&mut response, request.key.unwrap_or_default(), offered.answer, deflate);
    Upgrade {
        head_len,
        client,
        opening: Opening {
            document: target.document.as_deref().map(Box::from),
            token,
            origin: request.origin.map(Box::from),
            peer: client,
            deflate: deflate.is_some(),
        },
        refuse_by_close: target.refuse_close,
        response,
    }
}

struct Subprotocols<'a> {
    token: Option<&'a str>,
    /// Browsers fail a handshake that offers subprotocols and is answered with none, so one is always chosen.
    answer: Option<&'a str>,
}

/// `access_token, <JWT>` or `Bearer, <JWT>` among the offered subprotocols; the answer is that marker as spelled, else
/// the first that is not a token.
fn subprotocols<'a>(offered: &[&'a str]) -> Subprotocols<'a> {
    let is_marker =
        |name: &str| name.eq_ignore_ascii_case("access_token") || name.eq_ignore_ascii_case("bearer");
    let marker = offered.iter().position(|name| is_marker(name));
    let token = marker.and_then(|at| offered.get(at + 1)).copied().filter(|token| looks_like_token(token));
    let answer = match marker {
        Some(at) => offered.get(at),
        None => offered.iter().find(|name| !looks_like_token(name)).or(offered.first()),
    };
    Subprotocols { token, answer: answer.copied() }
}

/// Three parts with dots between them.
fn looks_like_token(text: &str) -> bool {
    text.split('.').count() == 3
}

fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    use pinwire_shed::Budget;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn read(lines: &str) -> Upgrade {
        let head = format!(
            "GET {lines}\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        let reading = Reading { trusted_proxies: &[], deflate: true };
        match read_head(head.as_bytes(), "127.0.0.1:1".parse().unwrap(), &reading) {
            Wish::Upgrade(upgrade) => *upgrade,
            _ => panic!("not an upgrade: {head}"),
        }
    }

    fn answered(upgrade: &Upgrade) -> Option<String> {
        let response = String::from_utf8(upgrade.response().to_vec()).unwrap();
        let line =
            response.lines().find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-protocol:"))?;
        Some(line.split_once(':').unwrap().1.trim().to_owned())
    }

    #[test]
    fn a_token_may_stand_in_three_places_the_subprotocol_first() {
        let three = "/doc?token=q.q.q HTTP/1.1\r\nAuthorization: Bearer h.h.h\r\nSec-WebSocket-Protocol: access_token, s.s.s";
        assert_eq!(read(three).opening.token.as_deref(), Some("s.s.s"));
        let two = "/doc?token=q.q.q HTTP/1.1\r\nAuthorization: bearer h.h.h";
        assert_eq!(read(two).opening.token.as_deref(), Some("h.h.h"));
        assert_eq!(read("/doc?access_token=q.q.q HTTP/1.1").opening.token.as_deref(), Some("q.q.q"));
        assert_eq!(read("/doc HTTP/1.1").opening.token, None);
    }

    #[test]
    fn offered_subprotocols_are_always_answered_with_one() {
        let offer =
            |offer: &str| answered(&read(&format!("/doc HTTP/1.1\r\nSec-WebSocket-Protocol: {offer}")));
        assert_eq!(offer("access_token, a.b.c").as_deref(), Some("access_token"));
        assert_eq!(offer("Bearer, a.b.c").as_deref(), Some("Bearer"));
        assert_eq!(offer("yjs, other").as_deref(), Some("yjs"));
        assert_eq!(offer("a.b.c, yjs").as_deref(), Some("yjs"));
        assert_eq!(offer("a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(answered(&read("/doc HTTP/1.1")), None);
    }

    #[test]
    fn a_guests_time_is_up_once_and_a_successor_in_its_slot_has_its_own() {
        // Slots come from an engine; two accepted sockets stand for them.
        let mut guests = Guests::new(Duration::from_secs(10));
        let start = Instant::now();
        let slot = Slot::from_index(3);
        let peer = "127.0.0.1:1".parse().unwrap();
        guests.welcome(slot, peer, start);
        guests.remove(slot);
        guests.welcome(slot, peer, start + Duration::from_secs(5));
        assert!(guests.next_late(start + Duration::from_secs(12)).is_none());
        assert_eq!(guests.next_late(start + Duration::from_secs(15)).map(|late| late.0), Some(slot));
        assert!(guests.next_late(start + Duration::from_secs(99)).is_none());
        assert!(guests.is_empty());
    }

    #[test]
    fn who_is_in_line_is_called_when_the_turn_comes_with_what_was_said_meanwhile() {
        let peer = "127.0.0.1:1".parse().unwrap();
        let (mut guests, start) = (Guests::new(Duration::from_secs(10)), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let slots = [1, 2, 3].map(Slot::from_index);
        for slot in slots {
            guests.welcome(slot, peer, start);
            assert_eq!(guests.keep_for_turn(slot, b"x"), None, "it has asked for nothing");
        }
        // One at once, then one in half a second.
        let budget = Budget::new(2.0);
        let next = |guests: &mut Guests, ms: u64| {
            guests.next_turn(at(ms), |turn| Duration::from_micros(budget.wait_us(turn, ms * 1_000)))
        };
        budget.turn(8_500_000, 0).unwrap();
        for slot in slots {
            let turn = budget.turn(8_500_000, 3_000_000).unwrap();
            let in_line = InLine { upgrade: read("/d HTTP/1.1"), bytes: b"GET".to_vec() };
            guests.line_up(slot, in_line, turn, at(8_500));
        }
        assert_eq!((guests.len(), guests.unheard()), (3, 0));
        assert_eq!(guests.next_deadline(), Some(at(8_500)));
        assert!(next(&mut guests, 8_500).is_none());
        assert_eq!(guests.next_deadline(), Some(at(8_600)));
        assert!(next(&mut guests, 8_999).is_none());
        assert_eq!(guests.next_deadline(), Some(at(9_000)));
        assert_eq!(guests.keep_for_turn(slots[0], b" more"), Some(true));
        // One goes before its turn, and another client has its place.
        guests.remove(slots[1]);
        guests.welcome(slots[1], peer, at(8_999));
        assert_eq!((guests.len(), guests.unheard()), (3, 1));
        let (slot, in_line) = next(&mut guests, 9_000).expect("its turn");
        assert_eq!((slot, &in_line.bytes[..]), (slots[0], &b"GET more"[..]));
        assert_eq!((guests.len(), guests.unheard()), (3, 2), "what becomes of it is for others to say");
        assert!(next(&mut guests, 9_550).is_none(), "whoever had the place has gone");
        // Its time began anew when it got in line.
        assert!(guests.next_late(at(10_001)).is_none());
        assert_eq!(next(&mut guests, 10_001).map(|(slot, _)| slot), Some(slots[2]));
        assert_eq!(guests.next_late(at(18_500)).map(|(slot, _)| slot), Some(slots[0]));
    }

    #[test]
    fn who_is_in_line_cannot_say_more_than_a_head_may_be_long() {
        let (mut guests, slot) = (Guests::new(Duration::from_secs(1)), Slot::from_index(1));
        let (peer, now) = ("127.0.0.1:1".parse().unwrap(), Instant::now());
        guests.welcome(slot, peer, now);
        assert_eq!(guests.line_patience(), Duration::from_millis(500), "it is closed after a second");
        let turn = Budget::new(1.0).turn(0, 0).unwrap();
        guests.line_up(slot, InLine { upgrade: read("/d HTTP/1.1"), bytes: Vec::new() }, turn, now);
        assert_eq!(guests.keep_for_turn(slot, &[0; IN_LINE_MAX]), Some(true));
        assert_eq!(guests.keep_for_turn(slot, &[0]), Some(false));
    }
}
