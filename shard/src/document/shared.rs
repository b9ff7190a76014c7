//! What a document has besides while other nodes hold it, too, or while its session store is in doubt.

use super::log::Position;
use super::{awareness, awareness::Version};
use crate::effect::NodeTag;
use crate::limits::NODES_MAX;
use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    nodes: Vec<Elsewhere>,
    /// Runs of the log that came from the store and that stand behind something that it does not have yet, in order, parted by
    /// what is to be stored.
    foreign: VecDeque<Run>,
    /// Bytes of these.
    foreign_bytes: u32,
    /// What the store has is in doubt, or being put back: nothing is acknowledged.
    pub(crate) doubt: Doubt,
    /// What other nodes were told: of the awareness, and how many members there are.
    pub(crate) said: Version,
    pub(crate) said_members: u32,
    /// They are to be told of everyone, and asked to do the same.
    pub(crate) says_all: bool,
    pub(crate) asks: bool,
    /// When they are told of everyone the next time.
    pub(crate) all_due_ms: u64,
    /// Ids, with clocks, that other nodes show and that are gone here.
    pub(crate) buried: Vec<(u64, u32)>,
}

/// Whether the session store has what it said it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doubt {
    #[default]
    None,
    /// It is being asked.
    Reloading,
    /// What it lacks is on its way there; this position confirms it.
    PutBack(Position),
}

/// Another node that holds the document.
#[derive(Clone, Copy, Debug)]
struct Elsewhere {
    node: NodeTag,
    /// Members there, as it said last, and the number of that message.
    members: u32,
    heard: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end: Position,
    len: u32,
}

/// The owner of another node's users.
pub(crate) fn owner(node: NodeTag) -> u32 {
    awareness::FOREIGN | node.0
}

impl Shared {
    /// True if there is nothing to be remembered.
    pub(crate) fn is_idle(&self) -> bool {
        self.nodes.is_empty() && self.foreign.is_empty() && self.doubt == Doubt::None
    }

    /// Other nodes hold the document.
    pub(crate) fn has_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// This node holds it.
    pub(crate) fn knows(&self, node: NodeTag) -> bool {
        self.nodes.iter().any(|known| known.node == node)
    }

    /// Other nodes that hold it, and members there.
    pub(crate) fn elsewhere(&self) -> (usize, u64) {
        (self.nodes.len(), self.nodes.iter().map(|node| u64::from(node.members)).sum())
    }

    /// A node holds the document. If that is news, it is told of everyone.
    pub(crate) fn enter(&mut self, node: NodeTag) {
        if self.nodes.len() < NODES_MAX && self.nodes.iter().all(|known| known.node != node) {
            self.nodes.push(Elsewhere { node, members: 0, heard: 0 });
            self.says_all = true;
        }
    }

    /// A node has so many members, it says in a message of this number. False if it has said something since: a message may be
    /// overtaken.
    pub(crate) fn hear(&mut self, node: NodeTag, number: u64, members: u32) -> bool {
        let Some(known) = self.nodes.iter_mut().find(|known| known.node == node) else { return false };
        let is_newest = number >= known.heard;
        if is_newest {
            (known.heard, known.members) = (number, members);
        }
        is_newest
    }

    /// A node holds the document no more.
    pub(crate) fn leave(&mut self, node: NodeTag) {
        self.nodes.retain(|known| known.node != node);
    }

    /// The nodes that are not among `present`.
    pub(crate) fn missing(&self, present: &[NodeTag]) -> Vec<NodeTag> {
        self.nodes.iter().map(|known| known.node).filter(|node| !present.contains(node)).collect()
    }

    /// Something from the store stands in the log before `end`, behind something that it does not have yet.
    pub(crate) fn note_foreign(&mut self, end: Position, len: u32) {
        self.foreign_bytes += len;
        match self.foreign.back_mut() {
            Some(last) if last.end == end.wrapping_sub(len) => *last = Run { end, len: last.len + len },
            _ => self.foreign.push_back(Run { end, len }),
        }
    }

    /// The store has everything before `stored`; with what came from it, it has everything before the position returned.
    pub(crate) fn pass_foreign(&mut self, mut stored: Position) -> Position {
        while let Some(run) = self.foreign.front().copied() {
            let begins = run.end.wrapping_sub(run.len);
            if (stored.wrapping_sub(begins) as i32) < 0 {
                break;
            }
            if (run.end.wrapping_sub(stored) as i32) > 0 {
                stored = run.end;
            }
            self.foreign.pop_front();
            self.foreign_bytes -= run.len;
        }
        stored
    }

    /// Bytes of the log behind what is stored that came from the store.
    pub(crate) fn foreign_bytes(&self) -> u32 {
        self.foreign_bytes
    }
}
