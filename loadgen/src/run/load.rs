//! What is sent and when: planned sends of the open model, refills of the closed one.

use pinwire_engine::{Refused, Segment};
use pinwire_protocol::document::{hocuspocus, sync::SyncMessage, ywebsocket};
use pinwire_protocol::ws::{self, Frame, Opcode};

use crate::run::Phase;
use crate::run::content::{self, FIRST_CLIENT, Head};
use crate::run::schedule::{Part, Planned, Schedule};
use crate::run::worker::{Assignment, Place, Unacknowledged, Worker};
use crate::scenario::{Arrivals, Dialect, Kind, Load, StagePlan};

/// Planned sends done in a turn: what came meanwhile is looked at between.
const SENDS_PER_TURN: u32 = 512;
/// A send that is later than this is dropped: the run is beyond what it asked for.
const LAG_MAX: u64 = 1_000_000_000;
/// Bytes that may wait for one connection before sends to it are dropped.
const BACKLOG_MAX: usize = 1 << 20;

/// A thread's part of the load.
pub(crate) struct Pace {
    /// When the load began, nanoseconds of the run.
    pub(crate) start: u64,
    /// When it is over.
    pub(crate) end: u64,
    /// Planned sends, or comings of `connect` and `churn`.
    schedule: Option<Schedule>,
    /// Edits beside the comings of `churn`.
    edits: Option<Schedule>,
    /// Clients that send, in turn.
    senders: Vec<u32>,
    next_sender: usize,
    arrivals: Arrivals,
    /// Stage ends, nanoseconds of the run.
    stage_ends: Vec<u64>,
    warm_up_ends: u64,
}

impl Pace {
    pub(crate) fn new(given: &Assignment, places: &[Place], start: u64) -> Self {
        let scenario = &given.scenario;
        let senders: Vec<u32> = places
            .iter()
            .flat_map(|place| (0..place.plan.writers).map(|writer| place.first_client + writer))
            .collect();
        let warm_up = scenario.warm_up;
        let warm_up_ends = start + warm_up.as_nanos() as u64;
        let mut end = warm_up_ends;
        let stage_ends: Vec<u64> = scenario
            .stage_durations()
            .iter()
            .map(|duration| {
                end += duration.as_nanos() as u64;
                end
            })
            .collect();
        let (mut schedule, mut edits, mut arrivals) = (None, None, Arrivals::Constant);
        if let Load::Open { stages, arrivals: how } = &scenario.load
            && scenario.has_planned_sends()
        {
            arrivals = *how;
            let share = match scenario.kind {
                Kind::Connect | Kind::Churn { .. } => given.share,
                _ => given.send_share,
            };
            schedule = Some(Schedule::new(warm_up, stages, *how, share, given.offset, given.seed));
            if let Kind::Churn { edit_rate, .. } = scenario.kind {
                let stages: Vec<StagePlan> = stages
                    .iter()
                    .map(|stage| StagePlan { from: edit_rate, to: edit_rate, ..stage.clone() })
                    .collect();
                edits = Some(Schedule::new(
                    warm_up,
                    &stages,
                    *how,
                    senders.len() as f64,
                    given.offset,
                    given.seed,
                ));
            }
        }
        Self { start, end, schedule, edits, senders, next_sender: 0, arrivals, stage_ends, warm_up_ends }
    }

    /// Which part of the load a time of the run is in.
    pub(crate) fn part_at(&self, now: u64) -> Part {
        if now < self.warm_up_ends {
            return Part::WarmUp;
        }
        let stage = self.stage_ends.iter().position(|end| now < *end);
        Part::Stage(stage.unwrap_or(self.stage_ends.len().saturating_sub(1)))
    }

    fn sender(&mut self, random: &mut fastrand::Rng) -> Option<u32> {
        if self.senders.is_empty() {
            return None;
        }
        let at = match self.arrivals {
            Arrivals::Constant => self.next_sender % self.senders.len(),
            Arrivals::Poisson => random.usize(..self.senders.len()),
        };
        self.next_sender = at + 1;
        Some(self.senders[at])
    }
}

impl Worker {
    /// Sends of this moment, planned a second.
    pub(crate) fn rate_now(&self) -> f64 {
        let Some(pace) = &self.pace else { return 0.0 };
        let since = self.now().saturating_sub(pace.start);
        pace.schedule.as_ref().map_or(0.0, |schedule| schedule.rate_at(since))
    }

    /// When the next planned send is due.
    pub(crate) fn next_planned(&self) -> Option<u64> {
        let pace = self.pace.as_ref().filter(|_| self.phase() == Phase::Load)?;
        let next = [&pace.schedule, &pace.edits].into_iter().flatten().filter_map(Schedule::peek);
        next.map(|planned| pace.start + planned.at).min()
    }

    /// Sends, or lets come, what is due.
    pub(crate) fn send_planned(&mut self) {
        if self.phase() != Phase::Load {
            return;
        }
        let now = self.now();
        let Some(pace) = &self.pace else { return };
        let part = pace.part_at(now);
        self.counts.enter(Some(part));
        let since = now.saturating_sub(pace.start);
        for _ in 0..SENDS_PER_TURN {
            let Some(pace) = &mut self.pace else { return };
            let start = pace.start;
            if let Some(planned) = pace.schedule.as_mut().and_then(|schedule| schedule.take(since)) {
                let planned = Planned { at: start + planned.at, ..planned };
                if matches!(self.given.scenario.kind, Kind::Connect | Kind::Churn { .. }) {
                    self.come(planned);
                } else if let Some(sender) = self.pace.as_mut().and_then(|pace| pace.sender(&mut self.random))
                {
                    self.send_one(sender, planned);
                }
            } else if let Some(planned) = pace.edits.as_mut().and_then(|edits| edits.take(since)) {
                let planned = Planned { at: start + planned.at, ..planned };
                if let Some(sender) = pace.sender(&mut self.random) {
                    self.send_one(sender, planned);
                }
            } else {
                return;
            }
        }
    }

    /// One send of a writer. What cannot leave is counted as dropped.
    pub(crate) fn send_one(&mut self, client: u32, planned: Planned) {
        let now = self.clock();
        let lag = now.saturating_sub(planned.at);
        self.counts.planned(planned.part, lag);
        let sent = if lag > LAG_MAX {
            Err("the generator is too far behind")
        } else {
            self.try_send(client, planned, now)
        };
        match sent {
            Ok(due) => {
                let counts = self.counts.part(planned.part);
                counts.sent += 1;
                counts.expected += u64::from(due);
                self.counts.interval.sent += 1;
            }
            Err(cause) => {
                self.counts.dropped(planned.part, &format!("send dropped: {cause}"));
            }
        }
    }

    fn try_send(&mut self, client: u32, planned: Planned, now: u64) -> Result<u32, &'static str> {
        let state = &self.clients[client as usize];
        let (group, writer) = (state.group as usize, state.member);
        let is_edit = self.given.scenario.edit_bytes().is_some();
        let is_away = is_edit && (self.lost.contains_key(&client) || state.is_joined() && !state.may_send);
        if is_away {
            // It edits on, and sends what it wrote when it is back.
            let noted = self.places[group].ledger.send(writer, planned.at, now, planned.part);
            return noted.map(|(_, due)| due).ok_or("too many are under way");
        }
        let Some(slot) = state.slot.filter(|_| state.is_joined()) else { return Err("not connected") };
        if self.engine.backlog(slot) > BACKLOG_MAX {
            return Err("the server does not read");
        }
        let place = &mut self.places[group];
        let Some((number, due)) = place.ledger.send(writer, planned.at, now, planned.part) else {
            return Err("too many are under way");
        };
        let sender = place.first_sender + writer;
        if self.send_content(client, sender, number).is_err() {
            self.places[group].ledger.unsend(writer);
            return Err("the connection takes no more");
        }
        if self.given.scenario.target.dialect == Dialect::Hocuspocus && is_edit {
            let waiting = self.places[group].unacknowledged.entry(writer).or_default();
            waiting.push_back(Unacknowledged { end: number + 1, sent: now, part: Some(planned.part) });
        }
        Ok(due)
    }

    fn send_content(&mut self, client: u32, sender: u32, number: u32) -> Result<(), Refused> {
        let scenario = std::sync::Arc::clone(&self.given.scenario);
        let head = Head { sender, number };
        match &scenario.kind {
            Kind::Raw { text, bytes, publish_prefix, .. } => {
                let topic = self.places[self.clients[client as usize].group as usize].plan.number;
                let prefix = numbered(publish_prefix, topic);
                let opcode = if *text { Opcode::Text } else { Opcode::Binary };
                self.queue(client, opcode, |out| {
                    out.extend_from_slice(prefix.as_bytes());
                    content::append_raw(out, head, *bytes as usize, *text);
                })
            }
            _ => {
                let bytes = scenario.edit_bytes().unwrap_or(1);
                let mut update = Vec::with_capacity(64 + bytes as usize);
                let author = FIRST_CLIENT + u64::from(sender);
                content::append_edits(&mut update, author, number..number + 1, bytes);
                self.sync(client, &SyncMessage::Update { update: &update })
            }
        }
    }

    /// Queues a sync message in the client's dialect.
    pub(crate) fn sync(&mut self, client: u32, message: &SyncMessage<'_>) -> Result<(), Refused> {
        match self.given.scenario.target.dialect {
            Dialect::YWebsocket => self.queue(client, Opcode::Binary, |out| match message {
                SyncMessage::Step1 { state_vector } => ywebsocket::append_sync_step1(out, state_vector),
                SyncMessage::Step2 { update } => ywebsocket::append_sync_step2(out, update),
                SyncMessage::Update { update } => ywebsocket::append_update(out, update),
            }),
            Dialect::Hocuspocus => {
                let name = self.name_of(client);
                self.queue(client, Opcode::Binary, |out| hocuspocus::append_sync(out, &name, message))
            }
        }
    }

    pub(crate) fn name_of(&self, client: u32) -> std::rc::Rc<str> {
        std::rc::Rc::clone(&self.places[self.clients[client as usize].group as usize].name)
    }

    /// Queues one message of a client, masked with a fresh key (RFC 6455 5.3).
    pub(crate) fn queue(
        &mut self,
        client: u32,
        opcode: Opcode,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        let Some(slot) = self.clients[client as usize].slot else { return Err(Refused::Ended) };
        self.payload.clear();
        write(&mut self.payload);
        let arena = self.engine.arena();
        let start = arena.len();
        ws::append_frame(arena, Frame::new(opcode).masked(self.random.u32(..).to_ne_bytes()), &self.payload);
        let end = arena.len();
        self.counts.now().bytes_out += (end - start) as u64;
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
            return Err(Refused::ThreadFull);
        };
        self.engine.send(slot, Segment::Arena(start..end))
    }

    /// Fills every sender's window at the start of a closed load.
    pub(crate) fn start_closed(&mut self) {
        if matches!(self.given.scenario.load, Load::Closed { .. }) {
            for group in 0..self.places.len() as u32 {
                self.refill(group);
            }
        }
    }

    /// Groups that got deliveries may send again.
    pub(crate) fn refill_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for group in touched.drain(..) {
            self.places[group as usize].is_touched = false;
            if self.phase() == Phase::Load {
                self.refill(group);
            }
        }
        self.touched = touched;
    }

    fn refill(&mut self, group: u32) {
        let Load::Closed { in_flight, .. } = self.given.scenario.load else { return };
        if self.given.scenario.has_planned_sends() {
            let place = &self.places[group as usize];
            let (first, writers) = (place.first_client, place.plan.writers);
            for writer in 0..writers {
                while self.places[group as usize].ledger.in_flight(writer) < in_flight as usize {
                    let now = self.clock();
                    let Some(part) = self.pace.as_ref().map(|pace| pace.part_at(now)) else { return };
                    let before = self.places[group as usize].ledger.in_flight(writer);
                    self.send_one(first + writer, Planned { at: now, part });
                    if self.places[group as usize].ledger.in_flight(writer) == before {
                        // It could not leave, or there is nobody to wait for.
                        break;
                    }
                }
            }
        }
    }
}

/// `{n}` becomes the number, in four digits.
pub(crate) fn numbered(pattern: &str, number: u32) -> String {
    if pattern.contains("{n}") { pattern.replace("{n}", &format!("{number:04}")) } else { pattern.to_owned() }
}
