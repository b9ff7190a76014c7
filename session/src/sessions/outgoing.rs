//! A document's updates on their way to the store: one batch under way, the rest gathers meanwhile.

use super::limits::{BATCH_BYTES_MAX, BATCH_UPDATES_MAX};
use crate::{Batch, Head};
use std::collections::VecDeque;

#[derive(Debug)]
struct Waiting {
    update: Box<[u8]>,
    /// The data thread's log up to here holds it.
    end: u32,
    /// Once it is stored, everything up to `end` is.
    is_last: bool,
}

/// A batch that was sent, until the store said what became of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub nonce: u64,
    /// The head that the node knew: the same when it is sent again, so that the store finds it if it is there.
    pub known: Head,
    pub updates: Batch,
    /// The log up to here holds all of it.
    pub end: u32,
    /// What is stored with it.
    pub stored: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Waiting>,
    sent: Option<Sent>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_none() && self.waiting.is_empty()
    }

    /// Everything up to `position` is stored with these updates, and with what came before. Some(position): it is already.
    pub(super) fn add(&mut self, position: u32, updates: Vec<Box<[u8]>>) -> Option<u32> {
        let count = updates.len();
        for (index, update) in updates.into_iter().enumerate() {
            self.waiting.push_back(Waiting { update, end: position, is_last: index + 1 == count });
        }
        if count > 0 {
            return None;
        }
        // Only what others wrote: it is stored, but what was there before may not be.
        if let Some(last) = self.waiting.back_mut() {
            (last.end, last.is_last) = (position, true);
        } else if let Some(sent) = &mut self.sent {
            sent.stored = Some(position);
        } else {
            return Some(position);
        }
        None
    }

    /// These take the place of everything that was on its way.
    pub(super) fn replace(&mut self, position: u32, updates: Vec<Box<[u8]>>) -> Option<u32> {
        *self = Self::default();
        self.add(position, updates)
    }

    /// The batch to be sent: the last one again, or the next. `nonce` is for a new one.
    pub(super) fn next(&mut self, known: Head, nonce: impl FnOnce() -> u64) -> Option<&Sent> {
        if self.sent.is_none() && !self.waiting.is_empty() {
            self.sent = Some(self.gather(known, nonce()));
        }
        self.sent.as_ref()
    }

    fn gather(&mut self, known: Head, nonce: u64) -> Sent {
        let (mut updates, mut bytes, mut end, mut stored) = (Vec::new(), 0, 0, None);
        while let Some(next) = self.waiting.front() {
            // One that is larger goes alone.
            let is_too_much =
                bytes + next.update.len() > BATCH_BYTES_MAX || updates.len() == BATCH_UPDATES_MAX;
            if is_too_much && !updates.is_empty() {
                break;
            }
            bytes += next.update.len();
            let Some(next) = self.waiting.pop_front() else { break };
            end = next.end;
            stored = if next.is_last { Some(next.end) } else { stored };
            updates.push(next.update);
        }
        Sent { nonce, known, updates: updates.into(), end, stored }
    }

    /// The store has it.
    pub(super) fn take_sent(&mut self) -> Option<Sent> {
        self.sent.take()
    }
}
