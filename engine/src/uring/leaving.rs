//! Sockets that go to another engine, out of this one, or away.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::{DestinationSlot, Fd};

use super::{Uring, outcome};
use crate::backend::Backend;
use crate::core::Core;
use crate::door::Parcel;
use crate::event::Event;
use crate::slot::{Flags, Handle, Leaving};
use crate::tag::{Kind, Tag};
use crate::transform::Carried;

impl Uring {
    /// Prepares the step that takes the socket elsewhere; nothing of the slot is in flight.
    pub(super) fn depart(&mut self, core: &mut Core, handle: Handle, how: &Leaving) -> io::Result<()> {
        if let Leaving::Move { door, token, .. } = how {
            if door.same_engine(&core.door) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let table = door.reserve_for_move()?;
            if let Some(hot) = core.slab.get(handle) {
                hot.cold().leaving = Some(Leaving::Move { door: door.clone(), token: *token, table });
            }
            if let Some(ring) = door.ring(table) {
                let there = Tag::arrived(*token);
                let entry = opcode::MsgRingSendFd::new(
                    Fd(ring.as_raw_fd()),
                    self.fixed(handle),
                    DestinationSlot::auto_target(),
                    there.0,
                );
                // The door, and with it the target's descriptor, is kept in the slot until the completion.
                self.push_for(core, handle, Kind::Move, entry.build());
                return Ok(());
            }
        }
        let entry = opcode::FixedFdInstall::new(self.fixed(handle), 0).build();
        self.push_for(core, handle, Kind::Install, entry);
        Ok(())
    }

    /// The other ring has the socket.
    pub(super) fn moved(&mut self, core: &mut Core, handle: Handle, result: i32) {
        let how = leaving(core, handle);
        match (outcome(result), how) {
            (Ok(_), Some(Leaving::Move { token, .. })) => {
                let carried = carried(core, handle);
                self.departed(core, handle, Some(Event::Departed { slot: handle.slot(), token, carried }));
            }
            (Err(error), Some(Leaving::Move { door, table, .. })) => {
                door.release(table);
                self.stays(core, handle, error);
            }
            _ => self.departed(core, handle, None),
        }
    }

    /// The socket has a plain descriptor as well.
    pub(super) fn installed(&mut self, core: &mut Core, handle: Handle, result: io::Result<OwnedFd>) {
        let how = leaving(core, handle);
        let slot = handle.slot();
        match (result, how) {
            (Ok(fd), Some(Leaving::Detach)) => {
                let carried = carried(core, handle);
                self.departed(core, handle, Some(Event::Detached { slot, fd, carried }));
            }
            (Ok(fd), Some(Leaving::Move { door, token, table })) => {
                door.push(Parcel { fd, token, table });
                let carried = carried(core, handle);
                self.departed(core, handle, Some(Event::Departed { slot, token, carried }));
            }
            (Err(error), how) => {
                if let Some(Leaving::Move { door, table, .. }) = how {
                    door.release(table);
                }
                self.stays(core, handle, error);
            }
            (Ok(_), None) => self.departed(core, handle, None),
        }
    }

    /// Gives our descriptor of the socket up.
    fn departed(&mut self, core: &mut Core, handle: Handle, event: Option<Event>) {
        let Some(hot) = core.slab.get(handle) else { return };
        hot.flags.all_operations_ended();
        // An owner that closed meanwhile hears nothing more.
        let told = !hot.flags.has(Flags::CLOSING);
        hot.flags.set(Flags::CLOSING);
        if let (true, Some(event)) = (told, event) {
            core.tell_all(event);
        }
        self.close_descriptor(core, handle);
    }

    fn stays(&mut self, core: &mut Core, handle: Handle, error: io::Error) {
        let Some(hot) = core.slab.get(handle) else { return };
        if hot.flags.has(Flags::CLOSING) {
            return self.completed_one(core, handle);
        }
        hot.flags.operation_ended();
        self.stay(core, handle);
        core.stayed(handle, error);
    }

    pub(super) fn close_descriptor(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        if hot.flags.raise(Flags::CLOSE_SENT) {
            let entry = opcode::Close::new(self.fixed(handle)).build();
            self.push_for(core, handle, Kind::Close, entry);
        }
    }
}

/// The transform of a socket that is elsewhere now.
fn carried(core: &mut Core, handle: Handle) -> Option<Carried> {
    core.slab.get(handle)?.take_transform()
}

fn leaving(core: &mut Core, handle: Handle) -> Option<Leaving> {
    core.slab.get(handle)?.cold.as_ref()?.leaving.clone()
}
