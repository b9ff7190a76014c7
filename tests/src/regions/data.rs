//! A node's data thread, with a stand-in for the shard that keeps its rules: nothing is acknowledged before it is stored, nothing
//! is submitted or acknowledged while adrift, nothing is written while the lease is unchecked, and what the store lacks is put
//! back.

use super::check::EDITS;
use super::clients::{ConnId, Down, Up, Why};
use super::node::{Actor, ToPins, ToSession, document_name};
use super::set::{Set, Update};
use super::world::{NodeId, World};
use pinwire_cluster::{Decision, Standing, Ticket};
use pinwire_registry::{Claim, DocumentName, Node, Owner};
use pinwire_session::{Batch, Loaded, Marks, Refused};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What other threads tell it.
#[derive(Debug)]
pub(super) enum ToData {
    Decided(DocumentName, Ticket, Decision),
    Lost(DocumentName, Ticket, Owner),
    Reclaimed(DocumentName, Ticket, Claim),
    Opened(DocumentName, Result<Loaded, Refused>),
    Stored(DocumentName, u32),
    Foreign(DocumentName, u64, Batch),
    Reloading(DocumentName),
    Reload(DocumentName, u64, Loaded),
    Said(DocumentName, Node, Arc<[u8]>),
    Joined(DocumentName),
    Left(DocumentName, Node),
    Fenced(DocumentName, Claim),
    /// The sessions' thread knows of the claim.
    Raised(DocumentName, Claim),
    /// The sessions' thread has closed it: whatever it says from here on belongs to the next open.
    Closed(DocumentName),
    /// Whether the session store answers.
    Store(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Claiming,
    Opening,
    Open,
}

pub(super) struct Document {
    pub(super) ticket: Ticket,
    pub(super) claim: Option<Claim>,
    pub(super) phase: Phase,
    pub(super) members: BTreeSet<ConnId>,
    /// Updates as they came; whether they came from members.
    log: Vec<(Update, bool)>,
    /// Where the log ended when it was opened: a compaction stands for that much at least.
    loaded: usize,
    pub(super) has: Set,
    /// What it has acknowledged since it was opened here.
    pub(super) acknowledged: Set,
    submitted: usize,
    stored: usize,
    is_reloading: bool,
    /// It is held under this claim, which the sessions' thread does not know yet.
    reclaimed: Option<Claim>,
    /// What is to be acknowledged once the store has the log up to there.
    acks: Vec<(usize, ConnId, Update)>,
    marks: Marks,
    /// What was acknowledged under its claim before it was opened here.
    must_have: Set,
    /// Members as told to other nodes, and as they told.
    told: Option<u8>,
    others: BTreeMap<Node, Said>,
}

impl Document {
    fn is_stored(&self) -> bool {
        self.stored >= self.log.len() && !self.is_reloading
    }

    fn position(&self) -> u32 {
        self.log.len() as u32
    }

    /// Members on all nodes, as far as this one knows.
    pub(super) fn users(&self) -> usize {
        self.members.len() + self.others.values().map(|said| usize::from(said.members)).sum::<usize>()
    }
}

/// What a node says of its members. Numbered, since what was said on a connection that was given up may come late.
#[derive(Clone, Copy)]
struct Said {
    number: u32,
    members: u8,
}

impl Said {
    fn to_bytes(self) -> Arc<[u8]> {
        let [a, b, c, d] = self.number.to_le_bytes();
        Arc::new([self.members, a, b, c, d])
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (members, number) = bytes.split_first()?;
        Some(Self { members: *members, number: u32::from_le_bytes(number.try_into().ok()?) })
    }
}

#[derive(Default)]
pub(super) struct Data {
    pub(super) documents: BTreeMap<DocumentName, Document>,
    /// Documents that were closed, until the sessions' thread has closed them, too.
    closing: BTreeMap<DocumentName, u32>,
    pub(super) sockets: VecDeque<(ConnId, Up)>,
    outbox: Vec<(ConnId, Down)>,
    tickets: u64,
    /// Numbers what it says.
    said: u32,
    is_store_away: bool,
    /// Connections as told to the registry.
    told: u32,
}

impl World {
    pub(super) fn turn_of_data(&mut self, node: NodeId) {
        let clock_us = self.nodes[node].clock(self.now_us);
        // Before the mailbox is read: what was lost is told before the lease is published.
        let standing = self.nodes[node].gate.check(clock_us);
        while let Some(news) = self.nodes[node].to_data.pop_front() {
            self.data_is_told(node, news);
        }
        if standing == Standing::Unchecked {
            return;
        }
        for (conn, message) in std::mem::take(&mut self.nodes[node].data.sockets) {
            self.serve(node, standing, conn, message);
        }
        if standing == Standing::Valid {
            self.settle_documents(node);
        }
        for (conn, message) in std::mem::take(&mut self.nodes[node].data.outbox) {
            self.send_down(conn, message);
        }
        let connections = self.nodes[node].data.documents.values().map(|document| document.members.len());
        let connections = connections.sum::<usize>() as u32;
        if self.nodes[node].data.told != connections {
            self.nodes[node].data.told = connections;
            self.tell_pins(node, ToPins::Use(connections));
        }
    }

    fn document(&mut self, node: NodeId, name: &DocumentName) -> Option<&mut Document> {
        self.nodes[node].data.documents.get_mut(name)
    }

    /// The document, if what the sessions' thread says is about it and not about the one of before.
    fn open_document(&mut self, node: NodeId, name: &DocumentName) -> Option<&mut Document> {
        let data = &mut self.nodes[node].data;
        let is_closing = data.closing.contains_key(name);
        data.documents.get_mut(name).filter(|document| !is_closing && document.phase == Phase::Open)
    }

    fn data_is_told(&mut self, node: NodeId, news: ToData) {
        match news {
            ToData::Decided(name, ticket, decision) => self.decided(node, &name, ticket, decision),
            ToData::Lost(name, ticket, owner) => {
                if self.document(node, &name).is_some_and(|document| document.ticket == ticket) {
                    self.tracer.say(self.now_us, || format!("node {node} loses {name} to {owner:?}"));
                    self.drop_document(node, &name, Why::Redirect(region_of(&owner)));
                }
            }
            ToData::Reclaimed(name, ticket, claim) => {
                let must_have = self.model.acknowledged_under(&name, claim);
                let Some(document) = self.document(node, &name) else { return };
                if document.ticket == ticket && document.phase != Phase::Claiming {
                    document.claim = Some(claim);
                    document.must_have = must_have;
                    (document.is_reloading, document.reclaimed) = (true, Some(claim));
                    self.tell_session(node, ToSession::Reclaimed(name, claim));
                }
            }
            ToData::Opened(name, loaded) => self.opened(node, &name, loaded),
            ToData::Stored(name, position) => {
                let Some(document) = self.open_document(node, &name) else { return };
                if !document.is_reloading && document.reclaimed.is_none() {
                    document.stored = document.stored.max(position as usize);
                }
                self.compact_perhaps(node, &name);
            }
            ToData::Foreign(name, mark, batch) => {
                if self.open_document(node, &name).is_some() {
                    let updates = batch.iter().map(|update| &**update);
                    self.absorb(node, &name, mark, Set::from_bytes(updates));
                }
            }
            ToData::Reloading(name) => {
                if let Some(document) = self.open_document(node, &name) {
                    document.is_reloading = true;
                }
            }
            ToData::Reload(name, mark, loaded) => self.reload(node, &name, mark, &loaded),
            ToData::Said(name, from, message) => {
                if let Some(document) = self.open_document(node, &name) {
                    let said = Said::from_bytes(&message).filter(|said| {
                        document.others.get(&from).is_none_or(|before| before.number < said.number)
                    });
                    document.others.extend(said.map(|said| (from, said)));
                }
            }
            ToData::Joined(name) => {
                if let Some(document) = self.open_document(node, &name) {
                    document.told = None;
                }
            }
            ToData::Left(name, who) => {
                if let Some(document) = self.open_document(node, &name) {
                    document.others.remove(&who);
                }
            }
            ToData::Raised(name, claim) => {
                let document = self.open_document(node, &name);
                if let Some(document) = document.filter(|document| document.reclaimed == Some(claim)) {
                    document.reclaimed = None;
                }
            }
            // The registry says whose it is.
            ToData::Fenced(name, claim) => {
                if self.open_document(node, &name).is_some() {
                    self.tell_pins(node, ToPins::Fenced(name, claim));
                }
            }
            ToData::Closed(name) => {
                let closing = &mut self.nodes[node].data.closing;
                if let Some(count) = closing.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        closing.remove(&name);
                    }
                }
            }
            ToData::Store(is_reached) => self.nodes[node].data.is_store_away = !is_reached,
        }
    }

    fn decided(&mut self, node: NodeId, name: &DocumentName, ticket: Ticket, decision: Decision) {
        let Some(document) = self.document(node, name) else { return };
        if document.ticket != ticket || document.phase != Phase::Claiming {
            return;
        }
        self.tracer.say(self.now_us, || format!("node {node}, {name}: {decision:?}"));
        match decision {
            Decision::Held { claim, .. } => {
                let must_have = self.model.acknowledged_under(name, claim);
                let Some(document) = self.document(node, name) else { return };
                document.claim = Some(claim);
                document.phase = Phase::Opening;
                document.must_have = must_have;
                let region = self.nodes[node].region;
                self.model.granted(name, claim, region, self.now_us);
                self.tell_session(node, ToSession::Open(name.clone(), claim));
            }
            Decision::Elsewhere(owner) => self.refuse(node, name, Why::Redirect(region_of(&owner))),
            Decision::Limit { .. } => self.refuse(node, name, Why::Limit),
            Decision::TryAgain | Decision::Stale => self.refuse(node, name, Why::TryAgain),
        }
    }

    /// It was never held.
    fn refuse(&mut self, node: NodeId, name: &DocumentName, why: Why) {
        let Some(document) = self.nodes[node].data.documents.remove(name) else { return };
        let close = document.members.into_iter().map(|conn| (conn, Down::Close(why)));
        self.nodes[node].data.outbox.extend(close);
    }

    /// Its members are closed, and what is not stored goes with it.
    fn drop_document(&mut self, node: NodeId, name: &DocumentName, why: Why) {
        self.drop_and_leave(node, name, why, ToPins::Leave);
    }

    fn drop_and_leave(
        &mut self,
        node: NodeId,
        name: &DocumentName,
        why: Why,
        leave: impl FnOnce(DocumentName, Ticket) -> ToPins,
    ) {
        let Some(document) = self.document(node, name) else { return };
        let (ticket, phase) = (document.ticket, document.phase);
        self.refuse(node, name, why);
        if phase != Phase::Claiming {
            *self.nodes[node].data.closing.entry(name.clone()).or_default() += 1;
            self.tell_session(node, ToSession::Close(name.clone()));
        }
        self.tell_pins(node, leave(name.clone(), ticket));
    }

    fn opened(&mut self, node: NodeId, name: &DocumentName, loaded: Result<Loaded, Refused>) {
        let is_closing = self.nodes[node].data.closing.contains_key(name);
        let Some(document) = self.document(node, name).filter(|document| document.phase == Phase::Opening)
        else {
            return;
        };
        if is_closing {
            return;
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(refused) => {
                if let Refused::Fenced(claim) = refused {
                    self.tell_pins(node, ToPins::Fenced(name.clone(), claim));
                }
                if refused == Refused::Moving {
                    return self.drop_and_leave(node, name, Why::TryAgain, ToPins::GiveBack);
                }
                return self.drop_document(node, name, Why::TryAgain);
            }
        };
        let has = set_of(&loaded);
        document.phase = Phase::Open;
        document.log = has.iter().map(|update| (update, false)).collect();
        document.has = has;
        document.loaded = document.log.len();
        (document.submitted, document.stored) = (document.log.len(), document.log.len());
        let (members, lost) = (document.members.clone(), document.must_have.without(has));
        let claim = document.claim;
        self.tracer.say(self.now_us, || format!("node {node} opens {name} with {has:?}"));
        self.model.loaded(self.now_us, name, claim, lost);
        for conn in members {
            self.welcome(node, name, conn);
        }
    }

    fn welcome(&mut self, node: NodeId, name: &DocumentName, conn: ConnId) {
        let Some(has) = self.document(node, name).map(|document| document.has) else { return };
        self.nodes[node].data.outbox.push((conn, Down::Welcome(has)));
    }

    /// Others' updates: into the log, and to all members.
    fn absorb(&mut self, node: NodeId, name: &DocumentName, mark: u64, updates: Set) {
        let data = &mut self.nodes[node].data;
        let Some(document) = data.documents.get_mut(name) else { return };
        for update in updates.without(document.has).iter() {
            document.has.insert(update);
            document.log.push((update, false));
            data.outbox.extend(document.members.iter().map(|conn| (*conn, Down::Update(update))));
        }
        document.marks.note(mark, document.position());
    }

    fn reload(&mut self, node: NodeId, name: &DocumentName, mark: u64, loaded: &Loaded) {
        if self.open_document(node, name).is_none() {
            return;
        }
        let there = set_of(loaded);
        self.absorb(node, name, mark, there);
        let Some(document) = self.document(node, name) else { return };
        document.is_reloading = document.reclaimed.is_some();
        // Whatever was said to be stored is proved anew.
        document.stored = 0;
        document.submitted = document.log.len();
        let lacking = document.has.without(there).iter().map(|update| vec![update].into_boxed_slice());
        let news = ToSession::PutBack(name.clone(), document.position(), lacking.collect());
        self.tell_session(node, news);
    }

    fn compact_perhaps(&mut self, node: NodeId, name: &DocumentName) {
        if self.rng.u8(..8) != 0 {
            return;
        }
        let upto = self.rng.f64();
        let Some(document) = self.open_document(node, name) else { return };
        let since = document.submitted - document.loaded;
        let upto = document.loaded + (since as f64 * upto) as usize;
        let base = document.log[..upto].iter().map(|(update, _)| *update).collect();
        let mark = document.marks.before(upto as u32);
        self.tell_session(node, ToSession::Rebase(name.clone(), upto as u32, mark, base));
    }

    fn serve(&mut self, node: NodeId, standing: Standing, conn: ConnId, message: Up) {
        let name = document_name(self.clients[self.conns[conn].client].document);
        match message {
            Up::Join => self.join(node, standing, conn, name),
            Up::Update(update) => self.update(node, standing, conn, &name, update),
            Up::Bye => {
                if let Some(document) = self.document(node, &name) {
                    document.members.remove(&conn);
                    document.acks.retain(|(_, to, _)| *to != conn);
                }
            }
        }
    }

    fn join(&mut self, node: NodeId, standing: Standing, conn: ConnId, name: DocumentName) {
        if let Some(document) = self.document(node, &name) {
            document.members.insert(conn);
            if document.phase == Phase::Open {
                self.welcome(node, &name, conn);
            }
            return;
        }
        let data = &mut self.nodes[node].data;
        if standing != Standing::Valid {
            data.outbox.push((conn, Down::Close(Why::TryAgain)));
            return;
        }
        data.tickets += 1;
        let ticket = Ticket(data.tickets);
        data.documents.insert(
            name.clone(),
            Document {
                ticket,
                claim: None,
                phase: Phase::Claiming,
                members: BTreeSet::from([conn]),
                log: Vec::new(),
                loaded: 0,
                has: Set::default(),
                acknowledged: Set::default(),
                submitted: 0,
                stored: 0,
                is_reloading: false,
                reclaimed: None,
                acks: Vec::new(),
                marks: Marks::default(),
                must_have: Set::default(),
                told: None,
                others: BTreeMap::new(),
            },
        );
        self.tell_pins(node, ToPins::Hold(name, ticket));
    }

    fn update(
        &mut self,
        node: NodeId,
        standing: Standing,
        conn: ConnId,
        name: &DocumentName,
        update: Update,
    ) {
        let Some(document) = self.open_any(node, name).filter(|document| document.members.contains(&conn))
        else {
            return;
        };
        if document.has.insert(update) {
            document.log.push((update, true));
            let others: Vec<ConnId> = document.members.iter().copied().filter(|to| *to != conn).collect();
            let data = &mut self.nodes[node].data;
            data.outbox.extend(others.into_iter().map(|to| (to, Down::Update(update))));
            if standing == Standing::Valid {
                self.serves(node, name, EDITS);
            }
        }
        let Some(document) = self.document(node, name) else { return };
        let at = document.log.iter().position(|(known, _)| *known == update);
        document.acks.extend(at.map(|at| (at + 1, conn, update)));
    }

    fn open_any(&mut self, node: NodeId, name: &DocumentName) -> Option<&mut Document> {
        self.document(node, name).filter(|document| document.phase == Phase::Open)
    }

    /// What only a valid lease allows: submits, acknowledges, closes.
    fn settle_documents(&mut self, node: NodeId) {
        let names: Vec<DocumentName> = self.nodes[node].data.documents.keys().cloned().collect();
        for name in names {
            self.submit(node, &name);
            self.acknowledge(node, &name);
            self.close_if_idle(node, &name);
        }
    }

    fn submit(&mut self, node: NodeId, name: &DocumentName) {
        let Some(document) = self.open_any(node, name) else { return };
        let position = document.position();
        if document.submitted < document.log.len() {
            let own = document.log[document.submitted..].iter().filter(|(_, is_own)| *is_own);
            let updates = own.map(|(update, _)| vec![*update].into_boxed_slice()).collect();
            document.submitted = document.log.len();
            self.tell_session(node, ToSession::Append(name.clone(), position, updates));
        }
        let Some(document) = self.document(node, name) else { return };
        let members = document.members.len() as u8;
        if document.told != Some(members) {
            document.told = Some(members);
            self.nodes[node].data.said += 1;
            let said = Said { members, number: self.nodes[node].data.said };
            self.tell_session(node, ToSession::Say(name.clone(), said.to_bytes()));
        }
    }

    fn acknowledge(&mut self, node: NodeId, name: &DocumentName) {
        let Some(document) = self.open_any(node, name) else { return };
        if document.is_reloading {
            return;
        }
        let stored = document.stored;
        let (due, later): (Vec<_>, Vec<_>) = document.acks.drain(..).partition(|(at, ..)| *at <= stored);
        document.acks = later;
        let Some(claim) = document.claim else { return };
        for (_, conn, update) in due {
            self.serves(node, name, "acknowledges");
            self.model.acknowledged(self.now_us, name, claim, update);
            if let Some(document) = self.document(node, name) {
                document.acknowledged.insert(update);
            }
            self.nodes[node].data.outbox.push((conn, Down::Ack(update)));
        }
    }

    fn close_if_idle(&mut self, node: NodeId, name: &DocumentName) {
        let data = &self.nodes[node].data;
        let Some(document) = data.documents.get(name).filter(|document| document.members.is_empty()) else {
            return;
        };
        let is_over = match document.phase {
            Phase::Claiming | Phase::Opening => true,
            Phase::Open => document.is_stored() && !data.is_store_away,
        };
        if is_over {
            self.tracer.say(self.now_us, || format!("node {node} closes {name}"));
            self.drop_document(node, name, Why::TryAgain);
        }
    }

    /// A process has ended: its sockets break.
    pub(super) fn node_is_gone(&mut self, node: NodeId) {
        self.links_of_moves_break(node);
        let run = self.nodes[node].run;
        for conn in 0..self.conns.len() {
            if self.conns[conn].node == node && self.conns[conn].run == run {
                let delay = self.rng.u64(0..=3_000_000);
                self.after(delay, super::world::Event::ToClient(conn, Down::Close(Why::Gone)));
            }
        }
    }

    pub(super) fn wake_data(&mut self, node: NodeId) {
        self.wake(node, Actor::Data);
    }
}

pub(super) fn set_of(loaded: &Loaded) -> Set {
    let base = loaded.base.iter().map(|base| &**base);
    Set::from_bytes(base.chain(loaded.tail.iter().map(|update| &**update)))
}

fn region_of(owner: &Owner) -> usize {
    owner.region.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
