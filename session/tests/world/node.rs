//! A node: the session core with its data thread, and two queues between them.

use crate::region::Event;
use crate::shard::{Document, decode};
use pinwire_registry::{Claim, DocumentName, Node};
use pinwire_session::{Effect, Loaded, Request, Sessions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a data thread tells the core.
#[derive(Debug)]
pub enum Command {
    Open(DocumentName, Claim),
    Append(DocumentName, u32, Vec<Box<[u8]>>),
    PutBack(DocumentName, u32, Vec<Box<[u8]>>),
    Rebase(DocumentName, u32, u64, Arc<[u8]>, Vec<Box<[u8]>>),
    Say(DocumentName, u64),
    Close(DocumentName),
}

#[derive(Debug)]
pub struct Member {
    pub me: Node,
    pub core: Sessions,
    pub may_write: bool,
    /// Nothing is done before then.
    pub paused_until: u64,
    /// What waits until it goes on.
    pub held: VecDeque<Event>,
    /// Notices are dropped before then.
    pub deaf_until: u64,
    pub documents: BTreeMap<DocumentName, Document>,
    pub to_core: VecDeque<Command>,
    pub to_shard: VecDeque<Effect>,
    pub reaches_store: bool,
    /// When the core is called next for its deadline.
    pub armed: Option<u64>,
}

impl Member {
    pub fn new(me: Node, core: Sessions) -> Self {
        Self {
            me,
            core,
            may_write: true,
            paused_until: 0,
            held: VecDeque::new(),
            deaf_until: 0,
            documents: BTreeMap::new(),
            to_core: VecDeque::new(),
            to_shard: VecDeque::new(),
            reaches_store: true,
            armed: None,
        }
    }

    /// The core takes what the data thread said.
    pub fn core_turn(&mut self, now_us: u64) {
        self.core.begin(now_us);
        for command in std::mem::take(&mut self.to_core) {
            match command {
                Command::Open(document, claim) => self.core.open(document, claim, 0),
                Command::Append(document, position, updates) => {
                    self.core.append(&document, position, updates);
                }
                Command::PutBack(document, position, updates) => {
                    self.core.put_back(&document, position, updates);
                }
                Command::Rebase(document, upto, mark, base, left) => {
                    self.core.rebase(&document, upto, mark, base, left);
                }
                Command::Say(document, presence) => {
                    self.core.say(&document, Arc::new(presence.to_be_bytes()));
                }
                Command::Close(document) => self.core.close(&document),
            }
        }
    }

    /// Effects of the core: requests are returned, the rest goes to the data thread.
    pub fn requests(&mut self) -> Vec<(pinwire_session::AskId, Request)> {
        let mut requests = Vec::new();
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Ask(ask, request) => {
                    let needs_no_lease = matches!(request, Request::Beat { .. } | Request::Heads { .. });
                    assert!(self.may_write || needs_no_lease, "asked without a lease: {request:?}");
                    requests.push((ask, request));
                }
                Effect::Stored(..) => {
                    assert!(self.may_write, "said to be stored without a lease");
                    self.to_shard.push_back(effect);
                }
                Effect::Reach(reaches) => self.reaches_store = reaches,
                effect => self.to_shard.push_back(effect),
            }
        }
        requests
    }

    /// The data thread takes what the core said; returns what it takes for stored.
    pub fn shard_turn(&mut self) -> Vec<u64> {
        let mut stored = Vec::new();
        for effect in std::mem::take(&mut self.to_shard) {
            let Some(name) = document_of(&effect) else { continue };
            let Some(document) = self.documents.get_mut(&name) else { continue };
            if !document.is_open && !matches!(effect, Effect::Opened(..)) {
                // Of the hold before.
                continue;
            }
            match effect {
                Effect::Opened(_, Ok(loaded)) => self.opened(&name, &loaded),
                Effect::Opened(_, Err(_)) => {
                    self.documents.remove(&name);
                }
                Effect::Stored(_, position) => stored.extend(document.stored(position)),
                Effect::Foreign(_, mark, updates) => document.foreign(mark, &updates),
                Effect::Reloading(_) => document.is_reloading = true,
                Effect::Reload(_, mark, loaded) => {
                    let (position, lacking) = document.reload(mark, &loaded);
                    self.to_core.push_back(Command::PutBack(name, position, lacking));
                }
                Effect::Said(_, node, message) => {
                    // Of two the newer counts, as with clocks of awareness.
                    let seen = document.seen.entry(node).or_default();
                    *seen = decode(&message)[0].max(*seen);
                }
                Effect::Left(_, node) => {
                    document.seen.remove(&node);
                }
                Effect::Joined(..) => {
                    let presence = document.presence;
                    self.to_core.push_back(Command::Say(name, presence));
                }
                Effect::Ask(..)
                | Effect::Fenced(..)
                | Effect::Reclaimed(..)
                | Effect::Full(_)
                | Effect::Room(_)
                | Effect::GivenUp(_)
                | Effect::Reach(_) => {}
            }
        }
        self.submit();
        stored
    }

    fn opened(&mut self, name: &DocumentName, loaded: &Loaded) {
        let Some(document) = self.documents.get_mut(name) else { return };
        document.opened(loaded);
        self.to_core.push_back(Command::Say(name.clone(), document.presence));
    }

    pub fn submit(&mut self) {
        for (name, document) in &mut self.documents {
            if let Some((position, updates)) = document.submit() {
                self.to_core.push_back(Command::Append(name.clone(), position, updates));
            }
        }
    }

    pub fn open_documents(&self) -> BTreeSet<DocumentName> {
        let open = self.documents.iter().filter(|(_, document)| document.is_open);
        open.map(|(name, _)| name.clone()).collect()
    }
}

fn document_of(effect: &Effect) -> Option<DocumentName> {
    match effect {
        Effect::Opened(name, _)
        | Effect::Stored(name, _)
        | Effect::Foreign(name, ..)
        | Effect::Reloading(name)
        | Effect::Reload(name, ..)
        | Effect::Said(name, ..)
        | Effect::Joined(name, _)
        | Effect::Left(name, _) => Some(name.clone()),
        Effect::Ask(..)
        | Effect::Fenced(..)
        | Effect::Reclaimed(..)
        | Effect::Full(_)
        | Effect::Room(_)
        | Effect::GivenUp(_)
        | Effect::Reach(_) => None,
    }
}
