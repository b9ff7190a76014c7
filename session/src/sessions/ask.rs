//! What is asked next, of all documents in turn.

use super::document::{Document, Id, Phase};
use super::lanes::Gate;
use super::limits::{ASKED_BYTES_MAX, ASKS_MAX, HEADS_ASKS_MAX, HEADS_PER_ASK, LOADS_MAX, REBASES_MAX};
use super::{AskId, Effect, Sessions, next_random};
use crate::{Head, Request};
use pinwire_registry::{Claim, Node};
use std::sync::Arc;

/// A request that waits for its reply.
#[derive(Debug)]
pub(super) struct Asked {
    pub what: What,
    /// None: of all partitions.
    pub lane: Option<usize>,
    /// License regions, a bit for each number, without whose leases it must not be asked.
    pub needs: u64,
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) enum What {
    Open(Id, Claim),
    Load(Id, Claim),
    Append(Id, Claim),
    Rebase(Id),
    Say(Id),
    Close(Id),
    Agree(Id),
    Heads(Vec<Compared>),
    /// Which one.
    Beat(u64),
    /// Of a document that is not held.
    Stray,
}

/// A document that is being compared, with what was known when that was asked.
#[derive(Debug)]
pub(super) struct Compared {
    pub id: Id,
    pub known: Head,
    pub reloads: u32,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub documents: usize,
    pub bytes: usize,
    pub loads: usize,
    pub rebases: usize,
    pub heads: usize,
    pub strays: usize,
}

/// Where a document waited for its turn.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// For room to be compacted: a turn that went to something else would be lost, and come again behind all others.
    Rebases,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Open,
    Load,
    Append,
    Close,
    Agree,
    Rebase,
    Say,
}

impl Document {
    /// What it would ask now.
    fn next_job(&self, now_us: u64) -> Option<Job> {
        if !self.is_asking
            && let Some(job) = self.next_main_job(now_us)
        {
            return Some(job);
        }
        if self.phase != Phase::Live || self.needs_load {
            return None;
        }
        if self.is_rebase_due() && !self.waits_to_rebase {
            return Some(Job::Rebase);
        }
        let has_something_to_say =
            self.sayings.as_ref().is_some_and(|sayings| !sayings.is_under_way && !sayings.waiting.is_empty());
        has_something_to_say.then_some(Job::Say)
    }

    /// What it would ask now that it is its turn in this line, before anything else.
    fn job_in(&self, line: Line, now_us: u64) -> Option<Job> {
        let may_rebase = self.phase == Phase::Live && !self.needs_load && self.is_rebase_due();
        match line {
            Line::Rebases if may_rebase => Some(Job::Rebase),
            Line::Rebases | Line::Any => self.next_job(now_us),
        }
    }

    fn next_main_job(&self, now_us: u64) -> Option<Job> {
        match self.phase {
            Phase::Opening => Some(Job::Open),
            Phase::Closing => Some(Job::Close),
            Phase::Fenced => None,
            Phase::Moving => {
                let is_due = self.is_settled() && self.leaving.is_some_and(|leaving| !leaving.is_said);
                is_due.then_some(Job::Agree)
            }
            Phase::Live if self.awaits_put_back || self.full.is_some_and(|full| full.until_us > now_us) => {
                None
            }
            Phase::Live if self.needs_load => (!self.waits_to_load).then_some(Job::Load),
            Phase::Live if !self.outgoing.is_empty() => Some(Job::Append),
            Phase::Live => None,
        }
    }

    fn request(&mut self, job: Job, me: &Node, random: &mut u64) -> Option<Request> {
        let (document, claim, node, hold) = (self.name.clone(), self.claim, me.clone(), self.hold);
        Some(match job {
            Job::Open => Request::Open { document, claim, node, hold },
            Job::Load => Request::Load { document, claim, node, hold },
            Job::Close => Request::Close { document, claim, node, hold },
            Job::Agree => Request::Agree { document, claim: self.leaving?.fence, node, known: self.known },
            Job::Append => {
                let sent = self.outgoing.next(self.known, || next_random(random))?;
                let (known, nonce, updates) = (sent.known, sent.nonce, Arc::clone(&sent.updates));
                Request::Append { document, claim, node, known, nonce, updates }
            }
            Job::Rebase => {
                let rebase = self.rebase.take()?;
                let (upto, within) = (rebase.upto, self.known);
                Request::Rebase { document, claim, upto, within, base: rebase.base, left: rebase.left }
            }
            Job::Say => {
                let message = self.sayings.as_mut()?.pop()?;
                Request::Say { document, claim, node, hold, message }
            }
        })
    }
}

fn size_of(request: &Request) -> usize {
    match request {
        Request::Append { updates, .. } => updates.iter().map(|update| update.len()).sum(),
        Request::Rebase { base, left, .. } => {
            base.len() + left.iter().map(|update| update.len()).sum::<usize>()
        }
        Request::Say { message, .. } => message.len(),
        _ => 0,
    }
}

impl Sessions {
    /// Puts a document in line if it has something to ask.
    pub(super) fn queue(&mut self, id: Id) {
        let now_us = self.now_us;
        let Some(held) = self.get(id) else { return };
        if !held.is_queued && held.next_job(now_us).is_some() {
            held.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Puts documents in line whose turn it was before.
    pub(super) fn requeue(&mut self, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            if let Some(held) = self.get(id) {
                held.is_queued = false;
            }
            self.queue(id);
        }
    }

    /// Asks what there is room for, one thing at a time.
    pub(super) fn ask_next(&mut self) {
        if self.ask_heads() {
            return;
        }
        while self.counts.documents < ASKS_MAX && self.counts.bytes < ASKED_BYTES_MAX {
            let Some((id, line)) = self.next_in_line() else { return };
            let now_us = self.now_us;
            let lapsed = self.lapsed;
            let Some(held) = self.get(id) else { continue };
            if held.is_of(lapsed) {
                // Its lease puts it in line again.
                continue;
            }
            let Some(job) = held.job_in(line, now_us) else { continue };
            if self.is_let_through(id, job) && self.ask_about(id, job) {
                self.queue(id);
                return;
            }
        }
    }

    /// Whose turn it is. Who waits to be loaded or rebased comes as soon as there is room; and if it has nothing of that to ask any more
    /// (it was closed, say), the next one does: no room is left while somebody waits for it.
    fn next_in_line(&mut self) -> Option<(Id, Line)> {
        if self.counts.loads < LOADS_MAX
            && let Some(id) = self.loads_waiting.pop_front()
        {
            if let Some(held) = self.get(id) {
                held.waits_to_load = false;
            }
            return Some((id, Line::Any));
        }
        if self.counts.rebases < REBASES_MAX
            && let Some(id) = self.rebases_waiting.pop_front()
        {
            if let Some(held) = self.get(id) {
                held.waits_to_rebase = false;
            }
            return Some((id, Line::Rebases));
        }
        let id = self.ready.pop_front()?;
        if let Some(held) = self.get(id) {
            held.is_queued = false;
        }
        Some((id, Line::Any))
    }

    /// False: the document waits elsewhere, or was refused.
    fn is_let_through(&mut self, id: Id, job: Job) -> bool {
        let Some(held) = self.get(id) else { return false };
        let lane = held.lane;
        let gate = self.lanes[lane].gate;
        if job == Job::Open && matches!(gate, Gate::Shut { .. }) {
            self.refuse(id, super::Refused::OutOfReach);
            return false;
        }
        let is_first_beat_missing = job == Job::Open && !self.beats.is_answered();
        let line = if is_first_beat_missing {
            self.beats.waiting()
        } else if !self.lanes[lane].admits() {
            &mut self.lanes[lane].waiting
        } else if job == Job::Load && self.counts.loads >= LOADS_MAX {
            return self.wait_to_load(id);
        } else if job == Job::Rebase && self.counts.rebases >= REBASES_MAX {
            return self.wait_to_rebase(id);
        } else {
            return true;
        };
        line.push_back(id);
        if let Some(held) = self.get(id) {
            held.is_queued = true;
        }
        false
    }

    fn wait_to_load(&mut self, id: Id) -> bool {
        self.loads_waiting.push_back(id);
        if let Some(held) = self.get(id) {
            held.waits_to_load = true;
        }
        false
    }

    /// What else it has to ask does not wait for that.
    fn wait_to_rebase(&mut self, id: Id) -> bool {
        self.rebases_waiting.push_back(id);
        if let Some(held) = self.get(id) {
            held.waits_to_rebase = true;
        }
        self.queue(id);
        false
    }

    fn ask_about(&mut self, id: Id, job: Job) -> bool {
        let mut random = self.random;
        let me = self.me.clone();
        let Some(held) = self.get(id) else { return false };
        let Some(request) = held.request(job, &me, &mut random) else { return false };
        let (claim, lane) = (held.claim, held.lane);
        match job {
            Job::Open | Job::Load | Job::Append | Job::Close | Job::Agree => {
                held.is_asking = true;
                if matches!(job, Job::Open | Job::Load) {
                    // What was heard before is older than the answer.
                    held.early.clear();
                    (held.is_loading, held.is_missed, held.is_held) = (true, false, true);
                }
            }
            Job::Rebase => held.is_rebasing = true,
            Job::Say => held.sayings.get_or_insert_default().is_under_way = true,
        }
        self.random = random;
        let what = match job {
            Job::Open => What::Open(id, claim),
            Job::Load => What::Load(id, claim),
            Job::Append => What::Append(id, claim),
            Job::Close => What::Close(id),
            Job::Agree => What::Agree(id),
            Job::Rebase => What::Rebase(id),
            Job::Say => What::Say(id),
        };
        self.ask(what, Some(lane), request);
        true
    }

    pub(super) fn ask(&mut self, what: What, lane: Option<usize>, request: Request) {
        self.last_ask += 1;
        let bytes = size_of(&request);
        match &what {
            What::Heads(_) => self.counts.heads += 1,
            What::Beat(_) => {}
            What::Stray => self.counts.strays += 1,
            _ => self.counts.documents += 1,
        }
        self.counts.loads += usize::from(matches!(what, What::Load(..)));
        self.counts.rebases += usize::from(matches!(what, What::Rebase(_)));
        self.counts.bytes += bytes;
        if let Some(lane) = lane {
            self.lanes[lane].asked();
        }
        let ask = AskId(self.last_ask);
        let needs = self.needs(&what);
        self.asked.insert(ask, Asked { what, lane, needs, bytes });
        self.effects.push_back(Effect::Ask(ask, request));
    }

    fn needs(&mut self, what: &What) -> u64 {
        match what {
            What::Heads(_) | What::Beat(_) => 0,
            // Of which license region it is was not said.
            What::Stray => u64::MAX,
            What::Open(id, _) | What::Load(id, _) | What::Append(id, _) => self.bit_of(*id),
            What::Rebase(id) | What::Say(id) | What::Close(id) | What::Agree(id) => self.bit_of(*id),
        }
    }

    fn bit_of(&mut self, id: Id) -> u64 {
        self.get(id).map_or(u64::MAX, |held| 1 << (held.license & 63))
    }

    /// The request was answered, or was not.
    pub(super) fn answered(&mut self, asked: &Asked) {
        match &asked.what {
            What::Heads(_) => self.counts.heads -= 1,
            What::Beat(_) => {}
            What::Stray => self.counts.strays -= 1,
            _ => self.counts.documents -= 1,
        }
        self.counts.loads -= usize::from(matches!(asked.what, What::Load(..)));
        self.counts.rebases -= usize::from(matches!(asked.what, What::Rebase(_)));
        self.counts.bytes -= asked.bytes;
    }

    /// Puts a document in line to be compared with the store.
    pub(super) fn compare(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        if held.is_hearing() {
            held.is_missed = true;
            return;
        }
        let is_due = matches!(held.phase, Phase::Live) && !held.needs_load && !held.is_comparing;
        if !is_due {
            return;
        }
        held.is_comparing = true;
        let lane = held.lane;
        self.lanes[lane].compare.push_back(id);
        self.list(lane);
    }

    pub(super) fn list(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if !lane.is_listed && !lane.compare.is_empty() {
            lane.is_listed = true;
            self.comparing.push_back(index);
        }
    }

    /// Compares some documents of the next lane; false if there is nothing to compare, or no room for it.
    fn ask_heads(&mut self) -> bool {
        while self.counts.heads < HEADS_ASKS_MAX {
            let Some(index) = self.comparing.pop_front() else { return false };
            self.lanes[index].is_listed = false;
            if !self.lanes[index].admits() {
                // Listed again when the gate opens.
                continue;
            }
            let (mut about, mut documents) = (Vec::new(), Vec::new());
            while about.len() < HEADS_PER_ASK {
                let Some(id) = self.lanes[index].compare.pop_front() else { break };
                let Some(held) = self.get(id) else { continue };
                if held.needs_load || held.phase != Phase::Live {
                    held.is_comparing = false;
                    continue;
                }
                held.early.clear();
                (held.is_heads_asked, held.is_missed, held.is_comparing) = (true, false, false);
                about.push(Compared { id, known: held.known, reloads: held.reloads });
                documents.push((held.name.clone(), held.claim, held.hold));
            }
            if about.is_empty() {
                continue;
            }
            self.lanes[index].comparisons += 1;
            let request = Request::Heads { node: self.me.clone(), documents };
            self.ask(What::Heads(about), Some(index), request);
            self.list(index);
            return true;
        }
        false
    }
}
