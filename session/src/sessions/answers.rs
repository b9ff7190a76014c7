//! What the store answered, or that it did not.

use super::ask::{Asked, Compared, What};
use super::document::{Early, Full, Id, Linked, Phase};
use super::lanes::Gate;
use super::{AskId, Effect, Refused, Sessions, Timer};
use crate::{Head, Loaded, OutOfReach, Reply, Standing};
use pinwire_registry::{Claim, DocumentName};

impl Sessions {
    /// What became of a request.
    pub fn replied(&mut self, ask: AskId, reply: Result<Reply, OutOfReach>) {
        let Some(asked) = self.asked.remove(&ask) else { return };
        self.answered(&asked);
        self.tell_gate(&asked, reply.is_ok());
        self.stats.failures += u64::from(reply.is_err());
        let reply = reply.ok();
        if reply.is_none() && matches!(asked.what, What::Open(..) | What::Load(..)) {
            // It may be carried out later than the close that follows.
            self.beats.check_holds();
        }
        match asked.what {
            What::Open(id, claim) => self.opened(id, claim, reply),
            What::Load(id, claim) => self.loaded(id, claim, reply),
            What::Append(id, claim) => self.appended(id, claim, reply.as_ref()),
            What::Rebase(id) => self.rebased(id, reply.as_ref()),
            What::Say(id) => self.said(id, reply.as_ref()),
            What::Close(id) => self.closed(id, reply.is_some()),
            What::Agree(id) => self.agreed(id, reply.as_ref()),
            What::Heads(about) => self.compared(asked.lane, &about, reply),
            What::Beat(number) => self.beaten(number, reply),
            What::Stray => {}
        }
    }

    /// What was to be asked did not leave: the lease had ended. Says nothing about the store; it is asked once there is a lease.
    pub fn unasked(&mut self, ask: AskId) {
        let Some(asked) = self.asked.remove(&ask) else { return };
        self.answered(&asked);
        if let Some(lane) = asked.lane {
            self.close_gate_again(lane);
        }
        match asked.what {
            What::Open(id, _)
            | What::Load(id, _)
            | What::Append(id, _)
            | What::Close(id)
            | What::Agree(id) => {
                if let Some(held) = self.get(id) {
                    (held.is_asking, held.is_loading) = (false, false);
                }
                self.queue(id);
            }
            // The next compaction makes another one.
            What::Rebase(id) => self.rebased(id, None),
            What::Say(id) => self.said(id, None),
            What::Heads(about) => self.compared(asked.lane, &about, None),
            What::Beat(_) => self.beat_again(),
            What::Stray => {}
        }
    }

    /// If the request that was to try whether the store answers did not leave, another one tries.
    fn close_gate_again(&mut self, index: usize) {
        if self.lanes[index].gate == (Gate::Ajar { is_trying: true }) {
            let until_us = self.timer(0, Timer::Lane(index));
            self.lanes[index].gate = Gate::Shut { until_us };
        }
    }

    fn tell_gate(&mut self, asked: &Asked, is_answered: bool) {
        let Some(lane) = asked.lane else { return };
        if is_answered {
            self.open_gate(lane);
        } else {
            self.shut_gate(lane);
        }
    }

    fn open_gate(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if lane.gate == Gate::Open {
            return;
        }
        (lane.gate, lane.failures) = (Gate::Open, 0);
        let waiting = std::mem::take(&mut lane.waiting);
        self.requeue(waiting);
        // Whatever answers now may not be what answered before.
        for id in self.of_lane(index) {
            self.compare(id);
        }
        self.list(index);
    }

    fn of_lane(&self, index: usize) -> Vec<Id> {
        let lane_of = |id: &Id| self.places.get(id.index as usize)?.document.as_ref().map(|held| held.lane);
        self.ids().into_iter().filter(|id| lane_of(id) == Some(index)).collect()
    }

    fn shut_gate(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if matches!(lane.gate, Gate::Shut { .. }) {
            return;
        }
        lane.failures = lane.failures.saturating_add(1);
        let doubled = self.settings.retry_us.saturating_mul(1 << (lane.failures - 1).min(20));
        let pause = self.jittered(doubled.min(self.settings.retry_max_us));
        let until_us = self.timer(pause, Timer::Lane(index));
        self.lanes[index].gate = Gate::Shut { until_us };
        self.away |= 1 << index;
        // Who is about to open a document is told at once.
        let waiting = std::mem::take(&mut self.lanes[index].waiting);
        for id in waiting {
            if self.get(id).is_some_and(|held| held.phase == Phase::Opening) {
                self.refuse(id, Refused::OutOfReach);
            } else {
                self.lanes[index].waiting.push_back(id);
            }
        }
    }

    /// After the pause one request goes.
    pub(super) fn open_gate_a_little(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if matches!(lane.gate, Gate::Shut { until_us } if until_us <= self.now_us) {
            lane.gate = Gate::Ajar { is_trying: false };
            let waiting = std::mem::take(&mut lane.waiting);
            self.requeue(waiting.iter().copied());
            if waiting.is_empty() {
                // Nobody has anything to ask: a comparison tries.
                self.compare_first(index);
            }
            self.list(index);
        }
    }

    fn compare_first(&mut self, index: usize) {
        for id in self.of_lane(index) {
            if !self.lanes[index].compare.is_empty() {
                return;
            }
            self.compare(id);
        }
    }

    /// Says that the store is out of reach, or that it is there again and everything was compared.
    pub(super) fn tell_reach(&mut self) {
        let mut away = self.away;
        while away != 0 {
            let index = away.trailing_zeros() as usize;
            away &= away - 1;
            if self.lanes[index].is_back() {
                self.away &= !(1 << index);
            }
        }
        let is_away = self.away != 0 || self.beats.is_failing();
        if is_away != self.is_away {
            self.is_away = is_away;
            self.effects.push_back(Effect::Reach(!is_away));
        }
    }

    pub(super) fn refuse(&mut self, id: Id, why: Refused) {
        let Some(held) = self.get(id) else { return };
        let name = held.name.clone();
        if held.was_held || why == Refused::OutOfReach && held.is_held {
            // It may have been done all the same, or what was before it was not closed.
            held.phase = Phase::Closing;
            self.requeue([id]);
        } else {
            self.remove(id);
        }
        self.effects.push_back(Effect::Opened(name, Err(why)));
    }

    fn opened(&mut self, id: Id, claim: Claim, reply: Option<Reply>) {
        let Some(held) = self.get(id) else { return };
        held.is_asking = false;
        let early = std::mem::take(&mut held.early);
        held.is_loading = false;
        if held.phase != Phase::Opening {
            // Closed meanwhile.
            self.queue(id);
            return;
        }
        match reply {
            Some(Reply::Loaded(loaded)) => {
                held.phase = Phase::Live;
                held.restart(loaded.head);
                let name = held.name.clone();
                for node in &loaded.nodes {
                    self.meet(id, node);
                }
                self.effects.push_back(Effect::Opened(name.clone(), Ok(loaded)));
                for early in early {
                    self.take_up(id, &name, early);
                }
                self.go_on(id);
                let Some(held) = self.get(id) else { return };
                let (reclaimed, is_raised) = (held.reclaimed.take(), held.claim > claim);
                if is_raised || reclaimed.is_some() {
                    // The session that was loaded is over, or the data thread cannot know that it is not.
                    self.doubt(id);
                }
                if let Some(claim) = reclaimed {
                    self.tell_reclaimed(id, claim);
                }
            }
            // Raised meanwhile, so that it is this node's.
            Some(Reply::Fenced(newer) | Reply::Moving(newer)) if newer <= held.claim => self.queue(id),
            Some(Reply::Moving(_)) => self.refuse(id, Refused::Moving),
            Some(Reply::Fenced(newer)) => self.refuse(id, Refused::Fenced(newer)),
            Some(Reply::Full) => self.refuse(id, Refused::Full),
            _ => self.refuse(id, Refused::OutOfReach),
        }
    }

    fn loaded(&mut self, id: Id, claim: Claim, reply: Option<Reply>) {
        let Some(held) = self.get(id) else { return };
        held.is_asking = false;
        let early = std::mem::take(&mut held.early);
        held.is_loading = false;
        if held.claim == claim && held.is_followed() {
            match reply {
                Some(Reply::Loaded(loaded)) => self.reload(id, loaded, early),
                Some(Reply::Moving(fence)) => self.moves(id, fence),
                Some(Reply::Fenced(claim)) => self.fence(id, claim),
                Some(Reply::Full) => self.is_full(id),
                _ => {}
            }
        }
        self.queue(id);
    }

    fn reload(&mut self, id: Id, loaded: Loaded, early: Vec<Early>) {
        self.stats.reloads += 1;
        let now_us = self.now_us;
        let Some(held) = self.get(id) else { return };
        if let Some(full) = &mut held.full {
            // Whether there is room is found out with what has to be put back.
            full.until_us = now_us;
        }
        held.needs_load = false;
        held.unread = None;
        held.awaits_put_back = true;
        (held.rebase, held.unsaid, held.stored) = (None, None, None);
        held.reloads = held.reloads.wrapping_add(1);
        held.mark += 1;
        held.restart(loaded.head);
        let (name, mark) = (held.name.clone(), held.mark);
        self.meet_only(id, &loaded.nodes, early);
        self.effects.push_back(Effect::Reload(name, mark, loaded));
        self.go_on(id);
        self.say_anew(id);
    }

    /// What came while the document was being opened.
    fn take_up(&mut self, id: Id, name: &DocumentName, early: Early) {
        match early {
            Early::Joined(node) => {
                self.meet(id, &node);
                self.effects.push_back(Effect::Joined(name.clone(), node));
            }
            Early::Left(node) => self.part(id, &node),
            Early::Said(node, message) => self.another_said(id, node, message),
            Early::Moving(fence) => self.moves(id, fence),
        }
    }

    /// Follows what came while the store was asked how the session stands.
    fn go_on(&mut self, id: Id) {
        self.follow(id);
        let Some(held) = self.get(id) else { return };
        let is_missed = std::mem::take(&mut held.is_missed);
        if std::mem::take(&mut held.is_overrun) {
            self.doubt(id);
        } else if is_missed {
            self.compare(id);
        }
    }

    fn appended(&mut self, id: Id, claim: Claim, reply: Option<&Reply>) {
        let Some(held) = self.get(id) else { return };
        held.is_asking = false;
        // Under an older claim: that session is over, and what was kept with it.
        if held.claim == claim && held.is_followed() {
            match reply {
                Some(Reply::Moving(fence)) => self.moves(id, *fence),
                Some(Reply::Appended { prev, head }) => self.kept(id, *prev, *head),
                Some(Reply::Diverged) => {
                    self.stats.diverged += 1;
                    self.doubt(id);
                }
                Some(Reply::Fenced(claim)) => self.fence(id, *claim),
                Some(Reply::Full) => self.is_full(id),
                _ => {}
            }
        }
        self.queue(id);
    }

    fn kept(&mut self, id: Id, prev: Head, head: Head) {
        self.has_room(id);
        let Some(held) = self.get(id) else { return };
        let Some(sent) = held.outgoing.take_sent() else { return };
        let known = held.known;
        if head.seq <= known.seq && !held.trail.contains(head) {
            // It was kept in a history that is over: the store went back, and others went on.
            self.doubt(id);
            return;
        }
        if head.seq > known.seq && !held.link(prev, head, Linked::Own(sent.end)) {
            self.doubt(id);
        }
        self.stats.appends += 1;
        self.stats.appended_updates += sent.updates.len() as u64;
        if let Some(position) = sent.stored {
            self.stored(id, position);
        }
        self.follow(id);
    }

    /// A head that should lie behind what the node knows.
    pub(super) fn is_known(&mut self, id: Id, head: Head) {
        if self.get(id).is_some_and(|held| !held.trail.contains(head)) {
            self.compare(id);
        }
    }

    fn rebased(&mut self, id: Id, reply: Option<&Reply>) {
        let Some(held) = self.get(id) else { return };
        held.is_rebasing = false;
        match reply {
            Some(Reply::Fenced(claim)) => self.fence(id, *claim),
            Some(Reply::Moving(fence)) => self.moves(id, *fence),
            _ => {}
        }
        self.queue(id);
    }

    fn said(&mut self, id: Id, reply: Option<&Reply>) {
        let Some(held) = self.get(id) else { return };
        let Some(sayings) = &mut held.sayings else { return };
        sayings.is_under_way = false;
        if reply.is_none() {
            // Said anew once the documents of the lane were compared.
            sayings.drop_all();
        } else {
            self.say_anew_if_due(id);
        }
        match reply {
            Some(Reply::Fenced(claim)) => self.fence(id, *claim),
            Some(Reply::Moving(fence)) => self.moves(id, *fence),
            _ => {}
        }
        self.queue(id);
    }

    fn closed(&mut self, id: Id, is_answered: bool) {
        if is_answered {
            self.remove(id);
            return;
        }
        if let Some(held) = self.get(id) {
            held.is_asking = false;
        }
        self.queue(id);
    }

    fn compared(&mut self, lane: Option<usize>, about: &[Compared], reply: Option<Reply>) {
        if let Some(lane) = lane {
            self.lanes[lane].comparisons -= 1;
        }
        let standings = match reply {
            Some(Reply::Heads(standings)) if standings.len() == about.len() => standings,
            _ => {
                for compared in about {
                    if let Some(held) = self.get(compared.id) {
                        held.is_heads_asked = false;
                    }
                    self.compare(compared.id);
                }
                return;
            }
        };
        for (compared, standing) in about.iter().zip(standings) {
            self.compared_one(compared, standing);
        }
    }

    fn compared_one(&mut self, compared: &Compared, standing: Option<Standing>) {
        let id = compared.id;
        let Some(held) = self.get(id) else { return };
        held.is_heads_asked = false;
        if held.reloads != compared.reloads {
            self.compare(id);
            return;
        }
        if held.needs_load || held.phase != Phase::Live {
            return;
        }
        let early = std::mem::take(&mut held.early);
        // What was told while the comparison was under way may have overtaken it; what came before may not.
        let Some(standing) = standing.filter(|standing| standing.head.seq >= compared.known.seq) else {
            self.doubt(id);
            return;
        };
        if standing.head.seq > held.known.seq {
            held.behind = Some(standing.head);
        } else if !held.trail.contains(standing.head) {
            self.doubt(id);
            return;
        }
        self.stats.compared += 1;
        self.meet_only(id, &standing.nodes, early);
        self.go_on(id);
        self.say_anew(id);
    }

    pub(super) fn fence(&mut self, id: Id, claim: Claim) {
        let Some(held) = self.get(id) else { return };
        if !held.is_followed() || claim <= held.claim {
            return;
        }
        held.phase = Phase::Fenced;
        held.unsaid = None;
        held.rebase = None;
        let name = held.name.clone();
        self.stats.fenced += 1;
        self.effects.push_back(Effect::Fenced(name, claim));
    }

    fn is_full(&mut self, id: Id) {
        self.stats.full += 1;
        let pause = self.jittered(self.settings.full_retry_us);
        let until_us = self.timer(pause, Timer::Room(id));
        let (now_us, patience_us) = (self.now_us, self.settings.full_patience_us);
        let Some(held) = self.get(id) else { return };
        let name = held.name.clone();
        let Some(full) = &mut held.full else {
            held.full = Some(Full { since_us: now_us, until_us, is_given_up: false });
            return self.effects.push_back(Effect::Full(name));
        };
        full.until_us = until_us;
        let is_over = patience_us.is_some_and(|patience_us| now_us >= full.since_us + patience_us);
        if is_over && !std::mem::replace(&mut full.is_given_up, true) {
            self.stats.given_up += 1;
            self.effects.push_back(Effect::GivenUp(name));
        }
    }

    /// Everything that was on its way, or the next of it, is in the store.
    pub(super) fn has_room(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        if held.full.take().is_some() {
            let name = held.name.clone();
            self.effects.push_back(Effect::Room(name));
        }
    }
}
