//! Ways in and out: dialling, upgrading, being refused or sent elsewhere, leaving, being cut off.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::{Context, Result};
use pinwire_engine::Segment;
use pinwire_protocol::close::REDIRECT_PREFIX;
use pinwire_protocol::ws::handshake::{ClientRequest, append_request, request_key};
use pinwire_protocol::ws::{self, Decoder, Role};
use pinwire_tls::client_session;
use socket2::{Domain, Socket, Type};

use crate::results::Measure;
use crate::run::Phase;
use crate::run::address::Endpoint;
use crate::run::client::{Stage, Upgrading};
use crate::run::counts::count;
use crate::run::load::numbered;
use crate::run::redial::wait_ns;
use crate::run::schedule::Planned;
use crate::run::worker::{Timer, Worker};
use crate::scenario::{Dialect, Kind};

/// Dials begun in a turn.
const DIALS_PER_TURN: u32 = 64;
/// Redirects followed in a row.
const REDIRECTS_MAX: u16 = 5;
/// The code of a redirect.
const WRONG_REGION: u16 = 4009;
/// With `redial`, who has not been in yet gives up after this: a target that is not there at all has to be told.
const FIRST_DIALS_MAX_NS: u64 = 60_000_000_000;

impl Worker {
    /// When the next dial of the way in is due.
    pub(crate) fn next_dial_due(&self) -> Option<u64> {
        let allowed = self.dials_allowed();
        if self.next_dial >= allowed || self.dialling >= self.dialling_max() {
            return None;
        }
        Some(match self.given.scenario.clients.rate {
            Some(rate) => (self.next_dial as f64 / (rate * self.given.share) * 1e9) as u64,
            None => self.now(),
        })
    }

    fn dials_allowed(&self) -> usize {
        let percent = self.given.desk.dial_percent.load(std::sync::atomic::Ordering::Acquire) as usize;
        self.home_count() * percent / 100
    }

    /// Clients of the layout: those who check the end are not among them.
    fn home_count(&self) -> usize {
        self.places.iter().map(|place| place.plan.members as usize).sum()
    }

    fn dialling_max(&self) -> u32 {
        (f64::from(self.given.scenario.clients.dialling) * self.given.share).ceil() as u32
    }

    /// Dials what is due of the way in.
    pub(crate) fn dial_some(&mut self) -> Result<()> {
        if self.phase() != Phase::Connecting {
            return Ok(());
        }
        for _ in 0..DIALS_PER_TURN {
            match self.next_dial_due() {
                Some(at) if at <= self.now() => {
                    let client = self.next_dial as u32;
                    self.next_dial += 1;
                    // A traveller dials when its document has been opened at home.
                    if self.home.is_none() || self.clients[client as usize].member == 0 {
                        self.dial(client)?;
                    }
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// True when every client that may dial has joined or failed.
    pub(crate) fn has_joined(&self) -> bool {
        self.next_dial >= self.home_count() && self.dialling == 0 && self.redials == 0
    }

    /// A planned coming of `connect` or `churn`.
    pub(crate) fn come(&mut self, planned: Planned) {
        let now = self.clock();
        self.counts.planned(planned.part, now.saturating_sub(planned.at));
        let Some(client) = self.away.pop() else {
            self.counts.dropped(planned.part, "dial dropped: every client is busy");
            return;
        };
        self.clients[client as usize].since = planned.at;
        self.arriving.insert(client, planned);
        if let Err(error) = self.dial(client) {
            self.failed(client, &error.root_cause().to_string());
        } else {
            let counts = self.counts.part(planned.part);
            counts.sent += 1;
            counts.expected += 1;
            self.counts.interval.sent += 1;
        }
    }

    /// Connects a client and queues its upgrade request; the socket takes it when the connection stands.
    ///
    /// # Errors
    /// No socket is to be had: the run cannot go on as asked.
    pub(crate) fn dial(&mut self, client: u32) -> Result<()> {
        let now = self.clock();
        let endpoint = self.endpoint_of(client);
        let state = &mut self.clients[client as usize];
        if state.attempts == 0 && state.redirects == 0 && state.since == 0 {
            state.since = now;
        }
        state.step = now;
        let region = self.counts.regions.number(&endpoint.region);
        self.clients[client as usize].region = region;
        self.counts.connections.dialled += 1;
        self.counts.regions.count(region, |region| region.dialled += 1);
        let socket = match self.connect(endpoint.address) {
            Ok(socket) => socket,
            Err(error)
                if error.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE].contains(&code)) =>
            {
                return Err(error)
                    .context("no descriptors left: raise `ulimit -n`, use several processes, or io_uring");
            }
            Err(error) => {
                self.failed(client, &format!("dialling: {}", error.kind()));
                return Ok(());
            }
        };
        let slot =
            self.engine.adopt(OwnedFd::from(socket), endpoint.address).context("no room for a connection")?;
        if endpoint.is_secure {
            let Some(config) = self.given.tls.clone() else {
                self.cut(client, "sent to wss:// from ws://: give a wss:// URL too");
                return Ok(());
            };
            self.engine.set_transform(slot, client_session(config, endpoint.name())?);
        }
        self.remember_slot(slot, client);
        let asks = self.given.scenario.target.discover && !self.detours.contains_key(&client);
        let upgrading =
            if asks { self.question(client, &endpoint)? } else { self.upgrade(client, &endpoint)? };
        let state = &mut self.clients[client as usize];
        state.slot = Some(slot);
        state.stage = Stage::Upgrading(Box::new(upgrading));
        self.dialling += 1;
        let arena = self.engine.arena();
        let start = arena.len();
        let request = std::mem::take(&mut self.payload);
        arena.extend_from_slice(&request);
        let end = arena.len();
        self.payload = request;
        if self.engine.send(slot, Segment::Arena(start as u32..end as u32)).is_err() {
            self.cut(client, "the socket is dead");
            return Ok(());
        }
        self.fresh.push(client);
        let timeout = now + self.given.scenario.clients.timeout.as_nanos() as u64;
        self.timers.push(Reverse((timeout, Timer::Timeout(client, now))));
        Ok(())
    }

    fn endpoint_of(&self, client: u32) -> Rc<Endpoint> {
        if let Some(detour) = self.detours.get(&client) {
            return Rc::clone(detour);
        }
        if let Some(home) = self.home.as_ref().filter(|_| self.clients[client as usize].member == 0) {
            return Rc::clone(home);
        }
        // Where one cannot be reached, the next one may.
        let turn = client as usize + usize::from(self.clients[client as usize].attempts);
        Rc::clone(&self.endpoints[turn % self.endpoints.len()])
    }

    fn connect(&mut self, address: SocketAddr) -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), None)?;
        if let Some(source) = self.given.sources.get(self.next_source % self.given.sources.len().max(1)) {
            self.next_source += 1;
            socket.bind(&SocketAddr::from((*source, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => Ok(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    /// Writes the upgrade request into `payload`.
    fn upgrade(&mut self, client: u32, endpoint: &Endpoint) -> Result<Upgrading> {
        let scenario = std::sync::Arc::clone(&self.given.scenario);
        let token = self.given.tokens.token(&mut self.random)?;
        let state = &self.clients[client as usize];
        let place = &self.places[state.group as usize];
        let is_hocuspocus = scenario.target.dialect == Dialect::Hocuspocus;
        let (below, shown) = match &scenario.kind {
            Kind::Raw { subscribe_path, .. } => {
                let reads = place.plan.writers_read || state.member >= place.plan.writers;
                let path = subscribe_path.as_deref().filter(|_| reads);
                let path = path.map(|path| numbered(path.trim_start_matches('/'), place.plan.number));
                (path.unwrap_or_default(), token.as_deref())
            }
            _ if is_hocuspocus => (String::new(), None),
            _ => (place.name.to_string(), token.as_deref()),
        };
        // A subscriber's path stands alone; everything else is below the URL's.
        let target = match &scenario.kind {
            Kind::Raw { subscribe_path: Some(_), .. } if !below.is_empty() => {
                Endpoint { path: String::new(), ..endpoint.clone() }.target(&below, shown)
            }
            _ => endpoint.target(&below, shown),
        };
        let key = request_key(self.random.u128(..).to_ne_bytes());
        let headers: Vec<(&str, &str)> = scenario
            .target
            .headers
            .iter()
            .filter_map(|header| header.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let protocols: Vec<&str> = scenario.target.protocols.iter().map(String::as_str).collect();
        let request = ClientRequest {
            host: &endpoint.host,
            target: &target,
            key: &key,
            protocols: &protocols,
            origin: None,
            headers: &headers,
            deflate: scenario.target.deflate,
        };
        self.payload.clear();
        append_request(&mut self.payload, &request).context("the upgrade request")?;
        Ok(Upgrading { key, head: Vec::new(), is_connected: false, tcp: None, token, asks: false })
    }

    /// The TCP connections of this turn's dials, where they stand already.
    pub(crate) fn note_connected(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for client in fresh.drain(..) {
            let slot = self.clients[client as usize].slot;
            if slot.is_some_and(|slot| !self.engine.is_blocked(slot)) {
                self.connected(client);
            }
        }
        self.fresh = fresh;
    }

    /// A client's TCP connection stands.
    pub(crate) fn connected(&mut self, client: u32) {
        let now = self.clock();
        let state = &mut self.clients[client as usize];
        let Stage::Upgrading(upgrading) = &mut state.stage else { return };
        if !std::mem::replace(&mut upgrading.is_connected, true) {
            let took = now - state.step;
            upgrading.tcp = Some(took);
            state.step = now;
        }
    }

    /// A client is synced, or subscribed.
    pub(crate) fn joined(&mut self, client: u32) {
        let now = self.now();
        let state = &mut self.clients[client as usize];
        if !matches!(state.stage, Stage::Joining) {
            return;
        }
        state.stage = Stage::Joined;
        self.dialling -= 1;
        let (join, whole) = (now.saturating_sub(state.step), now.saturating_sub(state.since));
        let (group, member) = (state.group as usize, state.member);
        let region = state.region;
        let was_redirected = std::mem::take(&mut state.redirects) > 0;
        state.attempts = 0;
        state.since = 0;
        let lost_in = self.lost.remove(&client);
        let place = &mut self.places[group];
        if place.plan.writers_read || member >= place.plan.writers {
            place.ledger.stand(member);
        }
        self.counts.connections.joined += 1;
        self.counts.interval.joined += 1;
        if !matches!(self.given.scenario.kind, Kind::Raw { .. }) {
            self.time(Measure::Join, join);
        }
        self.time(Measure::Connect, whole);
        self.counts.regions.count(region, |region| region.joined += 1);
        if was_redirected && !self.is_auditor(client) {
            self.time(Measure::Redirect, whole);
            self.counts.regions.count(region, |region| {
                region.sent_here += 1;
                region.redirect.record(whole);
            });
        }
        if let Some(lost_in) = lost_in {
            self.time(Measure::Recover, whole);
            self.counts.regions.count(lost_in, |region| region.recover.record(whole));
        }
        self.has_come(client, now);
        self.behave_joined(client);
    }

    /// Counts a planned coming that has come.
    fn has_come(&mut self, client: u32, now: u64) {
        let Some(planned) = self.arriving.remove(&client) else { return };
        let dialled = self.clients[client as usize].step;
        let counts = self.counts.part(planned.part);
        counts.received += 1;
        counts.latency.record(now.saturating_sub(planned.at));
        let uncorrected = now.saturating_sub(dialled.min(now));
        counts.uncorrected.record(uncorrected);
        self.counts.detail.uncorrected.record(uncorrected);
        self.counts.interval.received += 1;
        self.counts.interval.latency.record(now.saturating_sub(planned.at));
    }

    /// A dial came to nothing: again later, or never.
    pub(crate) fn failed(&mut self, client: u32, cause: &str) {
        count(&mut self.counts.connections.failed, cause);
        self.counts.error(cause);
        self.arriving.remove(&client);
        let now = self.clock();
        let goes_on = if self.given.scenario.clients.redial { self.comes_back() } else { !self.is_draining };
        let attempts = usize::from(self.clients[client as usize].attempts) + 1;
        let is_trying =
            self.is_auditor(client) && attempts < self.endpoints.len() && self.phase() < Phase::Closing;
        // One that comes by plan comes once.
        let is_coming = self.given.scenario.clients.redial
            && now.saturating_sub(self.clients[client as usize].since) < FIRST_DIALS_MAX_NS
            && !self.is_auditor(client)
            && !self.is_visitor(client);
        // Where it was sent nobody may be any more.
        self.detours.remove(&client);
        let state = &mut self.clients[client as usize];
        state.attempts = state.attempts.saturating_add(1);
        state.redirects = 0;
        self.counts.regions.count(state.region, |region| region.failed += 1);
        if is_trying || goes_on && (is_coming || self.lost.contains_key(&client)) {
            let failures = state.attempts;
            self.redial_after(client, failures, now);
        } else {
            self.lost.remove(&client);
            state.stage = Stage::Away;
            state.since = 0;
            if self.is_visitor(client) {
                self.away.push(client);
            }
        }
    }

    pub(crate) fn time_out(&mut self, client: u32, dialled: u64) {
        let state = &self.clients[client as usize];
        // The timer of an earlier dial.
        let is_this = match &state.stage {
            Stage::Upgrading(upgrading) => upgrading.is_connected || state.step == dialled,
            Stage::Joining => true,
            _ => false,
        };
        let timeout = self.given.scenario.clients.timeout.as_nanos() as u64;
        if is_this && self.now().saturating_sub(dialled) >= timeout && state.step >= dialled {
            let what = match state.stage {
                Stage::Joining => "timed out joining",
                _ => "timed out dialling",
            };
            self.cut(client, what);
        }
    }

    /// The server ended a connection, or the network did.
    pub(crate) fn ended(&mut self, client: u32, cause: &str) {
        self.drop_socket(client, false);
        self.after_end(client, cause);
    }

    /// We end a connection that is of no use any more.
    pub(crate) fn cut(&mut self, client: u32, cause: &str) {
        self.drop_socket(client, true);
        self.after_end(client, cause);
    }

    fn after_end(&mut self, client: u32, cause: &str) {
        let stage = std::mem::replace(&mut self.clients[client as usize].stage, Stage::Away);
        match stage {
            Stage::Upgrading(_) | Stage::Joining => {
                self.dialling -= 1;
                self.leave_ledger(client);
                self.failed(client, cause);
            }
            Stage::Joined => {
                self.leave_ledger(client);
                count(&mut self.counts.connections.lost, cause);
                self.counts.error(&format!("lost: {cause}"));
                let now = self.now();
                let state = &mut self.clients[client as usize];
                self.counts.regions.count(state.region, |region| region.lost += 1);
                if self.comes_back() {
                    let state = &mut self.clients[client as usize];
                    state.since = now;
                    self.lost.insert(client, state.region);
                    self.redial_after(client, 0, now);
                } else if self.is_visitor(client) {
                    self.away.push(client);
                }
            }
            Stage::Closing => {
                if self.is_visitor(client) && self.phase() != Phase::Closing {
                    self.away.push(client);
                }
            }
            Stage::Away | Stage::Waiting => {}
        }
    }

    /// Members who should stand and do not.
    pub(crate) fn absent(&self) -> u64 {
        let is_absent = |client: &u32| {
            !self.is_auditor(*client)
                && !self.is_visitor(*client)
                && !self.clients[*client as usize].is_joined()
        };
        (0..self.clients.len() as u32).filter(is_absent).count() as u64
    }

    /// Whether it only checks the end, and is not one whose ways are counted.
    fn is_auditor(&self, client: u32) -> bool {
        let state = &self.clients[client as usize];
        state.member >= self.places[state.group as usize].plan.members
    }

    /// Whether clients that are lost now come back.
    fn comes_back(&self) -> bool {
        self.given.scenario.clients.redial && self.phase() < Phase::Closing
    }

    pub(crate) fn leave_ledger(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        let (group, member) = (state.group as usize, state.member);
        let place = &mut self.places[group];
        place.ledger.leave(member);
        place.unacknowledged.remove(&member);
        let is_edit = self.given.scenario.edit_bytes().is_some();
        state.may_send = !is_edit || member >= place.plan.writers;
    }

    pub(crate) fn drop_socket(&mut self, client: u32, with_reset: bool) {
        let state = &mut self.clients[client as usize];
        let was_open = matches!(state.stage, Stage::Joining | Stage::Joined | Stage::Closing);
        state.decoder = Decoder::new(Role::Client, false);
        let region = state.region;
        let Some(slot) = state.slot.take() else { return };
        if was_open {
            self.counts.open -= 1;
            self.counts.regions.closed(region);
        }
        self.forget_slot(slot);
        if with_reset {
            self.engine.abort(slot);
        } else {
            self.engine.close(slot);
        }
    }

    /// The server closed with a code: perhaps it says where to go instead.
    pub(crate) fn closed_by_server(&mut self, client: u32, code: Option<u16>, reason: &str) {
        if code == Some(WRONG_REGION)
            && let Some(url) = reason.strip_prefix(REDIRECT_PREFIX)
            && self.follow(client, url)
        {
            return;
        }
        let cause = match code {
            Some(code) if reason.is_empty() => format!("closed {code}"),
            Some(code) => format!("closed {code} {reason}"),
            None => "closed without a code".into(),
        };
        self.ended(client, &cause);
    }

    /// Dials where a redirect leads; false where it is not followed.
    pub(crate) fn follow(&mut self, client: u32, url: &str) -> bool {
        if self.clients[client as usize].redirects >= REDIRECTS_MAX || self.phase() >= Phase::Closing {
            return false;
        }
        let Some(endpoint) = self.resolve(url) else { return false };
        let now = self.now();
        self.counts.connections.redirected += u64::from(!self.is_auditor(client));
        let state = &mut self.clients[client as usize];
        let (region, was_dialling) = (state.region, state.is_dialling());
        if state.is_joined() {
            // Its document went elsewhere while it was there.
            state.since = now;
            self.lost.insert(client, region);
        }
        self.drop_socket(client, false);
        self.leave_ledger(client);
        self.dialling -= u32::from(was_dialling);
        self.send_elsewhere(client, endpoint);
        true
    }

    /// A client dials `endpoint` instead of where it was, or would have dialled.
    pub(crate) fn send_elsewhere(&mut self, client: u32, endpoint: Rc<Endpoint>) {
        let now = self.now();
        let away = u64::from(!self.is_auditor(client));
        let state = &mut self.clients[client as usize];
        state.redirects += 1;
        self.counts.regions.count(state.region, |region| region.sent_away += away);
        self.detours.insert(client, endpoint);
        self.redial_at(client, now);
    }

    /// A client dials again when the stock client would: after a connection was lost, or after so many dials that failed. Who
    /// checks the end is nobody's client, and does not wait long.
    pub(crate) fn redial_after(&mut self, client: u32, failures: u16, now: u64) {
        let dialect = match self.given.scenario.target.dialect {
            dialect if !self.is_auditor(client) => dialect,
            _ => Dialect::YWebsocket,
        };
        let wait = wait_ns(dialect, failures, &mut self.random);
        self.redial_at(client, now + wait);
    }

    /// A client dials again at a time.
    pub(crate) fn redial_at(&mut self, client: u32, at: u64) {
        self.clients[client as usize].stage = Stage::Waiting;
        self.redials += 1;
        self.timers.push(Reverse((at, Timer::Redial(client))));
    }

    /// A redirect's URL names the document, or the host alone; the document keeps its name either way.
    pub(crate) fn resolve(&mut self, url: &str) -> Option<Rc<Endpoint>> {
        let after = url.find("://").map_or(0, |at| at + 3);
        let origin = &url[..url[after..].find(['/', '?']).map_or(url.len(), |at| after + at)];
        if let Some(known) = self.resolved.get(origin) {
            return Some(Rc::clone(known));
        }
        let mut endpoint = Endpoint::resolve(origin).ok()?;
        // Another name of a host that is known.
        if let Some(known) = self.resolved.values().find(|known| known.address == endpoint.address) {
            endpoint.region = std::sync::Arc::clone(&known.region);
        }
        let endpoint = Rc::new(endpoint);
        self.resolved.insert(origin.to_owned(), Rc::clone(&endpoint));
        Some(endpoint)
    }

    /// A client leaves as clients do: with a close frame; its end follows.
    pub(crate) fn say_goodbye(&mut self, client: u32) {
        let state = &self.clients[client as usize];
        match (&state.stage, state.slot) {
            (Stage::Joined | Stage::Joining, Some(slot)) => {
                let was_dialling = state.is_dialling();
                self.dialling -= u32::from(was_dialling);
                self.clients[client as usize].stage = Stage::Closing;
                let mask = self.random.u32(..).to_ne_bytes();
                let arena = self.engine.arena();
                let start = arena.len();
                ws::append_close(arena, 1000_u16, "", Some(mask));
                let end = arena.len();
                if self.engine.send(slot, Segment::Arena(start as u32..end as u32)).is_err() {
                    self.cut(client, "the socket is dead");
                }
            }
            (Stage::Upgrading(_), Some(_)) => {
                self.dialling -= 1;
                self.drop_socket(client, true);
                self.clients[client as usize].stage = Stage::Away;
            }
            (Stage::Waiting, _) => self.clients[client as usize].stage = Stage::Away,
            _ => {}
        }
    }
}
