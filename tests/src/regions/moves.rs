//! Documents that are moved to another region: a node of that region drives it, one of the other hands over.

use super::node::{ToPins, document_name, region_name};
use super::world::{Ask, Event, MILLI, NodeId, SECOND, World};
use pinwire_cluster::{AskId as RegistryAsk, Came, Decision, Mover, Outcome, Step, Ticket, Unmoved};
use pinwire_registry::{Answer, Claim, DocumentName, Node, Request as RegistryRequest};
use pinwire_session::{AskId as StoreAsk, Loaded, MOVE_PATIENCE_US, Reply, Request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tickets and requests of moves have this bit; the next is set for those of who hands over.
const OF_MOVES: u64 = 1 << 60;
const OF_GIVER: u64 = 1 << 59;
/// When a store is asked for the second time whether all holders have stopped; each next wait is twice as long, up to the longest.
const POLL_US: u64 = 3 * MILLI;
const POLL_MAX_US: u64 = 96 * MILLI;
/// For how long holders are waited for, and who hands over.
const AGREE_US: u64 = 2 * SECOND;
const HANDING_US: u64 = 4 * SECOND;
/// After how long a document is settled once more, if it is not known when the store did what it was asked before.
const SETTLE_AGAIN_US: u64 = SECOND;

/// The number of a move, if it is about one.
pub(super) fn move_of(number: u64) -> Option<u64> {
    (number & OF_MOVES != 0).then_some(number & !OF_MOVES)
}

/// What one node has of moves.
#[derive(Default)]
pub(super) struct Moves {
    /// To its region.
    takes: BTreeMap<u64, Take>,
    /// From its region.
    gives: BTreeMap<u64, Give>,
}

struct Take {
    document: DocumentName,
    mover: Mover,
    /// Who hands over.
    giver: Option<(NodeId, u64)>,
    loaded: Option<Loaded>,
}

/// As the node does it: one request at a time, so that what settles a document is never under way beside what freezes it.
struct Give {
    document: DocumentName,
    claim: Claim,
    fence: Claim,
    to: (NodeId, u64),
    until_us: u64,
    wait_us: u64,
    stage: Stage,
    /// What became of it is decided, or nobody is there any more who would have it decided.
    is_settled: bool,
    /// A request was not answered: the store may do it later.
    is_unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The store was asked to freeze it.
    Freezing,
    /// Holders are given time until this moment.
    Resting(u64),
    /// It is handed over, or not; what becomes of it is waited for until this moment.
    Handed(u64),
    /// The store was asked to let its holders know.
    Settling,
    /// It is asked once more at this moment, and then no more.
    Unsure(u64),
    /// It was asked once more.
    SettlingAgain,
}

/// From node to node.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    from: (NodeId, u64),
    to: (NodeId, u64),
    /// The move's.
    number: u64,
    says: Says,
}

#[derive(Clone, Debug)]
enum Says {
    HandOver(DocumentName, Claim, Claim),
    Handed(Result<Loaded, Unmoved>),
    Settle,
    GiveBack(DocumentName),
}

impl World {
    pub(super) fn begin_move(&mut self, node: NodeId) {
        let document = document_name(self.rng.usize(..self.plan.documents));
        let (number, nonces) = (self.rng.u64(..OF_GIVER), [self.rng.u64(..), self.rng.u64(..)]);
        let taking = &mut self.nodes[node];
        if !taking.is_alive || taking.is_paused {
            return;
        }
        let mut mover = Mover::new(region_name(taking.region), nonces);
        let step = mover.begin();
        self.tracer.say(self.now_us, || format!("node {node} moves {document} here"));
        taking.moves.takes.insert(number, Take { document, mover, giver: None, loaded: None });
        self.step(node, number, step);
    }

    fn came(&mut self, node: NodeId, number: u64, came: Came) {
        if let Some(take) = self.nodes[node].moves.takes.get_mut(&number) {
            let step = take.mover.next(came);
            self.step(node, number, step);
        }
    }

    fn step(&mut self, node: NodeId, number: u64, step: Step) {
        let Some(take) = self.nodes[node].moves.takes.get_mut(&number) else { return };
        let (document, ask) = (take.document.clone(), OF_MOVES | number);
        let giver = take.giver;
        match step {
            Step::Locate => {
                let request = RegistryRequest::Locate { document };
                self.send(node, super::server::REGISTRY, Ask::Registry(RegistryAsk(ask), request));
            }
            Step::HandOver { from, holders, claim, fence } => {
                self.model.moves(claim, fence);
                let Some(giver) = self.giver(&from, &holders) else {
                    return self.came(node, number, Came::Handed(Err(Unmoved::Unreached)));
                };
                let giver = (giver, self.nodes[giver].run);
                if let Some(take) = self.nodes[node].moves.takes.get_mut(&number) {
                    take.giver = Some(giver);
                }
                self.write(node, giver, number, Says::HandOver(document, claim, fence));
                let run = self.nodes[node].run;
                self.after(HANDING_US, Event::MoveLate(node, run, number));
            }
            Step::Wait(wait_ms) => {
                let run = self.nodes[node].run;
                self.after(wait_ms * MILLI, Event::MoveRested(node, run, number));
            }
            Step::Press(nodes, wait_ms) => {
                for holder in nodes {
                    let there = (0..self.nodes.len())
                        .find(|there| *self.nodes[*there].pins.node() == holder)
                        .map(|there| (there, self.nodes[there].run));
                    if let Some(there) = there {
                        self.write(node, there, number, Says::GiveBack(document.clone()));
                    }
                }
                let run = self.nodes[node].run;
                self.after(wait_ms * MILLI, Event::MoveRested(node, run, number));
            }
            Step::Import(claim) => {
                let Some(loaded) = take.loaded.take() else { return };
                self.check_handed_over(&document, claim, &loaded);
                let Loaded { base, tail, .. } = loaded;
                let request = Request::Import { document, claim, base, updates: tail.into(), nonce: number };
                self.send(node, 1 + self.nodes[node].region, Ask::Store(StoreAsk(ask), request));
            }
            Step::Move { claim, to } => {
                self.model.moves(claim, to);
                let ticket = Ticket(OF_MOVES | number);
                self.tell_pins(node, ToPins::Move(document, ticket, claim, to));
            }
            Step::Remove(claim) => {
                let request = Request::End { document, claim };
                self.send(node, 1 + self.nodes[node].region, Ask::Store(StoreAsk(ask), request));
            }
            Step::Settle => {
                if let Some(giver) = giver {
                    self.write(node, giver, number, Says::Settle);
                }
                self.came(node, number, Came::Through);
            }
            Step::Done(outcome) => {
                self.tracer.say(self.now_us, || format!("node {node}, {document}: {outcome:?}"));
                self.nodes[node].moves.takes.remove(&number);
                if matches!(outcome, Outcome::Moved { .. }) {
                    self.model.moved();
                }
            }
        }
    }

    /// A holder, or any node of the region.
    fn giver(&mut self, region: &str, holders: &[Node]) -> Option<NodeId> {
        let there: Vec<NodeId> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_alive && *region_name(self.nodes[*node].region) == *region)
            .collect();
        let holding: Vec<NodeId> =
            there.iter().copied().filter(|node| holders.contains(self.nodes[*node].pins.node())).collect();
        let among = if holding.is_empty() { there } else { holding };
        (!among.is_empty()).then(|| among[self.rng.usize(..among.len())])
    }

    fn write(&mut self, node: NodeId, to: (NodeId, u64), number: u64, says: Says) {
        let from = (node, self.nodes[node].run);
        let delay = self.rng.u64(MILLI..=60 * MILLI);
        self.after(delay, Event::Peer(Letter { from, to, number, says }));
    }

    pub(super) fn peer_told(&mut self, letter: Letter) {
        let (node, run) = letter.to;
        if !self.nodes[node].is_alive || self.nodes[node].run != run {
            if matches!(letter.says, Says::HandOver(..)) {
                self.write_back(&letter, Says::Handed(Err(Unmoved::Unreached)));
            }
            return;
        }
        if self.stall(node, || Event::Peer(letter.clone())) {
            return;
        }
        let number = letter.number;
        match letter.says {
            Says::HandOver(document, claim, fence) => {
                let (until_us, stage) = (self.now_us + AGREE_US, Stage::Freezing);
                let (is_settled, is_unsure, to) = (false, false, letter.from);
                let wait_us = POLL_US;
                let give =
                    Give { document, claim, fence, to, until_us, wait_us, stage, is_settled, is_unsure };
                self.nodes[node].moves.gives.insert(number, give);
                self.ask_to_freeze(node, number);
            }
            Says::Handed(handed) => self.handed(node, number, handed),
            Says::Settle => self.settled(node, number),
            Says::GiveBack(document) => self.tell_pins(node, ToPins::GiveBackLeft(document)),
        }
    }

    fn write_back(&mut self, letter: &Letter, says: Says) {
        let back = Letter { from: letter.to, to: letter.from, number: letter.number, says };
        self.after(20 * MILLI, Event::Peer(back));
    }

    fn handed(&mut self, node: NodeId, number: u64, handed: Result<Loaded, Unmoved>) {
        let Some(take) = self.nodes[node].moves.takes.get_mut(&number) else { return };
        let handed = handed.map(|loaded| {
            let stopped = loaded.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
            take.loaded = Some(loaded);
            stopped
        });
        self.came(node, number, Came::Handed(handed));
    }

    pub(super) fn move_late(&mut self, node: NodeId, run: u64, number: u64) {
        if !self.nodes[node].is_alive || self.nodes[node].run != run {
            return;
        }
        if self.stall(node, || Event::MoveLate(node, run, number)) {
            return;
        }
        let take = self.nodes[node].moves.takes.get(&number);
        if take.is_some_and(|take| take.mover.is_handing()) {
            self.came(node, number, Came::Handed(Err(Unmoved::Unreached)));
        }
    }

    pub(super) fn move_rested(&mut self, node: NodeId, run: u64, number: u64) {
        let is_there = self.nodes[node].is_alive && self.nodes[node].run == run;
        if is_there && !self.stall(node, || Event::MoveRested(node, run, number)) {
            self.came(node, number, Came::Through);
        }
    }

    /// A time that a document waited for may have come.
    pub(super) fn poll(&mut self, node: NodeId, run: u64, number: u64) {
        let giving = &self.nodes[node];
        if !giving.is_alive || giving.run != run || self.stall(node, || Event::Poll(node, run, number)) {
            return;
        }
        let Some(give) = self.nodes[node].moves.gives.get(&number) else { return };
        match give.stage {
            Stage::Resting(due_us) if self.now_us >= due_us => self.ask_to_freeze(node, number),
            Stage::Handed(due_us) if self.now_us >= due_us => self.settle(node, number, Stage::Settling),
            Stage::Unsure(due_us) if self.now_us >= due_us => self.settle(node, number, Stage::SettlingAgain),
            _ => {}
        }
    }

    fn poll_after(&mut self, node: NodeId, number: u64, wait_us: u64, stage: fn(u64) -> Stage) {
        let (due_us, run) = (self.now_us + wait_us, self.nodes[node].run);
        if let Some(give) = self.nodes[node].moves.gives.get_mut(&number) {
            give.stage = stage(due_us);
            self.at(due_us, Event::Poll(node, run, number));
        }
    }

    fn ask_to_freeze(&mut self, node: NodeId, number: u64) {
        let Some(give) = self.nodes[node].moves.gives.get_mut(&number) else { return };
        give.stage = Stage::Freezing;
        let (document, claim, to) = (give.document.clone(), give.claim, give.fence);
        let request = Request::Fence { document, claim, to, for_us: MOVE_PATIENCE_US };
        let ask = StoreAsk(OF_MOVES | OF_GIVER | number);
        self.send(node, 1 + self.nodes[node].region, Ask::Store(ask, request));
    }

    /// The store answered who hands over, or did not.
    fn giver_is_told(&mut self, node: NodeId, number: u64, reply: Option<Reply>) {
        let Some(give) = self.nodes[node].moves.gives.get(&number) else { return };
        match give.stage {
            Stage::Freezing => self.frozen(node, number, reply),
            Stage::Settling if reply.is_none() || give.is_unsure => {
                self.poll_after(node, number, SETTLE_AGAIN_US, Stage::Unsure);
            }
            Stage::Settling | Stage::SettlingAgain => _ = self.nodes[node].moves.gives.remove(&number),
            stage => unreachable!("nothing was asked: {stage:?}"),
        }
    }

    fn frozen(&mut self, node: NodeId, number: u64, reply: Option<Reply>) {
        let now_us = self.now_us;
        let Some(give) = self.nodes[node].moves.gives.get_mut(&number) else { return };
        let handed = match reply {
            Some(Reply::Waiting) if give.is_settled => Err(Unmoved::Unreached),
            Some(Reply::Waiting) if now_us < give.until_us => {
                let wait_us = give.wait_us;
                give.wait_us = POLL_MAX_US.min(wait_us * 2);
                return self.poll_after(node, number, wait_us, Stage::Resting);
            }
            Some(Reply::Loaded(loaded)) => Ok(loaded),
            Some(Reply::Waiting) => Err(Unmoved::NotReady),
            Some(Reply::Fenced(_)) => Err(Unmoved::Stale),
            Some(_) => Err(Unmoved::NoSession),
            None => {
                give.is_unsure = true;
                Err(Unmoved::NoSession)
            }
        };
        self.hand_over(node, number, handed);
    }

    fn hand_over(&mut self, node: NodeId, number: u64, handed: Result<Loaded, Unmoved>) {
        let Some(give) = self.nodes[node].moves.gives.get(&number) else { return };
        let (to, is_settled) = (give.to, give.is_settled);
        self.write(node, to, number, Says::Handed(handed));
        if is_settled {
            self.settle(node, number, Stage::Settling);
        } else {
            self.poll_after(node, number, MOVE_PATIENCE_US, Stage::Handed);
        }
    }

    /// It is decided. What is under way is waited for.
    fn settled(&mut self, node: NodeId, number: u64) {
        let Some(give) = self.nodes[node].moves.gives.get_mut(&number) else { return };
        give.is_settled = true;
        match give.stage {
            Stage::Resting(_) => self.hand_over(node, number, Err(Unmoved::Unreached)),
            Stage::Handed(_) => self.settle(node, number, Stage::Settling),
            Stage::Freezing | Stage::Settling | Stage::Unsure(_) | Stage::SettlingAgain => {}
        }
    }

    fn settle(&mut self, node: NodeId, number: u64, stage: Stage) {
        let Some(give) = self.nodes[node].moves.gives.get_mut(&number) else { return };
        give.stage = stage;
        let request = Request::Settle { document: give.document.clone(), claim: give.fence };
        let ask = StoreAsk(OF_MOVES | OF_GIVER | number);
        self.send(node, 1 + self.nodes[node].region, Ask::Store(ask, request));
    }

    /// Who drives it is gone, or who hands over: the other end of the link notices.
    pub(super) fn links_of_moves_break(&mut self, gone: NodeId) {
        let run = self.nodes[gone].run;
        for node in 0..self.nodes.len() {
            let (to, me) = ((node, self.nodes[node].run), (gone, run));
            let of_taker = self.nodes[node].moves.gives.iter().filter(|(_, give)| give.to == me);
            let settled = of_taker.map(|(number, _)| (*number, Says::Settle));
            let of_giver = self.nodes[node].moves.takes.iter();
            let of_giver = of_giver.filter(|(_, take)| take.giver == Some(me) && take.mover.is_handing());
            let failed = of_giver.map(|(number, _)| (*number, Says::Handed(Err(Unmoved::Unreached))));
            let told: Vec<(u64, Says)> = settled.chain(failed).collect();
            for (number, says) in told {
                let delay = self.rng.u64(MILLI..=SECOND);
                self.after(delay, Event::Peer(Letter { from: me, to, number, says }));
            }
        }
    }

    pub(super) fn move_located(&mut self, node: NodeId, ask: u64, answer: Option<Answer>) {
        let found = answer.map(|answer| match answer {
            Answer::Located(pin) => pin,
            other => unreachable!("{other:?}"),
        });
        self.came(node, ask & !OF_MOVES, Came::Located(found));
    }

    pub(super) fn move_stored(&mut self, node: NodeId, ask: u64, reply: Option<Reply>) {
        let number = ask & !OF_MOVES;
        if number & OF_GIVER != 0 {
            return self.giver_is_told(node, number & !OF_GIVER, reply);
        }
        let Some(take) = self.nodes[node].moves.takes.get(&number) else { return };
        if !take.mover.is_importing() {
            return self.came(node, number, Came::Through);
        }
        self.came(
            node,
            number,
            Came::Imported(match reply {
                Some(Reply::Done) => Ok(()),
                Some(Reply::Full) => Err(Unmoved::Full),
                Some(_) => Err(Unmoved::Stale),
                None => Err(Unmoved::StoreAway),
            }),
        );
    }

    pub(super) fn move_decided(&mut self, node: NodeId, number: u64, ticket: Ticket, decision: Decision) {
        let Some(take) = self.nodes[node].moves.takes.get(&number) else { return };
        if matches!(decision, Decision::Held { .. }) {
            // It waits for its clients as in any grace.
            let document = take.document.clone();
            self.tell_pins(node, ToPins::Leave(document, ticket));
        }
        self.came(node, number, Came::Decided(decision));
    }
}
