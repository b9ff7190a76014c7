//! Steps of transforms that are much work: a few a turn, first come, first served.
//!
//! A handshake of TLS is answered in one step that costs a signature. Taken as they come, those of a herd of newcomers would keep
//! every other connection of the thread waiting.

use super::Core;
use crate::slot::{Flags, Handle, Slot};
use crate::transform::Stage;

impl Core {
    /// Whether the step that these bytes make due is to be taken at once. What waits goes first.
    pub(super) fn may_step_now(&mut self, handle: Handle, wire: &[u8]) -> bool {
        let cold = self.slab.get(handle).and_then(|hot| hot.cold.as_ref());
        let is_costly =
            cold.and_then(|cold| cold.transform.as_ref()).is_some_and(|step| step.is_costly(wire));
        !is_costly || (self.steps.is_empty() && self.budget.costly_step())
    }

    /// Keeps received bytes for a turn that has room for their step.
    pub(super) fn let_step_wait(&mut self, handle: Handle, wire: Vec<u8>) {
        let Some(hot) = self.slab.get(handle) else { return };
        hot.cold().carry = wire;
        hot.flags.set(Flags::STEP_WAITS);
        self.steps.push_back(handle);
    }

    /// Takes steps that wait, while the turn has room for them.
    pub(crate) fn take_steps(&mut self) {
        while let Some(&handle) = self.steps.front() {
            let is_waiting = |flags: Flags| flags.has(Flags::STEP_WAITS) && !flags.has(Flags::CLOSING);
            if self.slab.get(handle).is_none_or(|hot| !is_waiting(hot.flags)) {
                self.steps.pop_front();
                continue;
            }
            if self.pool.is_empty() || !self.budget.costly_step() {
                return;
            }
            self.steps.pop_front();
            self.take_step(handle);
        }
    }

    /// Takes the step of a slot if one waits, whatever the turn has room for.
    pub(super) fn take_step(&mut self, handle: Handle) {
        let Some(hot) = self.slab.get(handle) else { return };
        if !hot.flags.has(Flags::STEP_WAITS) {
            return;
        }
        let Some(mut buf) = self.pool.rent() else { return };
        hot.flags.clear(Flags::STEP_WAITS);
        let wire = std::mem::take(&mut hot.cold().carry);
        buf.space()[..wire.len()].copy_from_slice(&wire);
        self.transform(handle, buf, wire.len());
        self.wake_reader(handle);
    }

    pub(crate) fn steps_waiting(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn stage(&self, slot: Slot) -> Option<Stage> {
        let cold = self.slab.peek(slot)?.cold.as_ref()?;
        cold.transform.as_ref().map(|transform| transform.stage())
    }
}
