//! A document: a log of updates, who reads it, and who is present.

pub(crate) mod activity;
pub mod awareness;
pub mod coverage;
pub mod log;
pub(crate) mod say;
pub(crate) mod shared;
pub mod yjs;

use crate::apps::AppId;
use crate::effect::{ConnRef, DocumentName, Kept};
use crate::limits::{GATHER_BYTES_MAX, GATHER_MEMBERS_MIN, GATHER_US_MAX, THRIFTY_TIMES};
use crate::mail::{Pinned, RemoteSession};
use crate::wheel::Tick;
use crate::{Access, AppLimits, Subject};
use activity::Activity;
pub use activity::Rates;
use awareness::{Awareness, Version};
use coverage::Coverage;
use log::{Log, Position};
use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::update;
use shared::{Doubt, Shared};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The claim and the session store were asked.
    Loading,
    /// Somebody is a member.
    Live,
    /// The last member left; ends at this moment.
    Grace { until_ms: u64 },
}

/// Whether a document takes edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edits {
    Taken,
    /// The session store is behind by more than its bound: dropped until it has everything.
    Behind,
    /// It has no room: dropped until it has, and has everything.
    NoRoom,
}

/// A reader of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) session: u32,
    /// What it was sent of the log.
    pub(crate) cursor: Position,
    /// What it was sent of the awareness.
    pub(crate) awareness: Version,
}

const _: () = assert!(size_of::<Member>() == 12);

/// An edit whose writer waits for the session store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) position: Position,
    pub(crate) session: u32,
    pub(crate) tag: u32,
}

/// A member whose sync step 1 waits for a compaction.
#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) session: u32,
    pub(crate) tag: u32,
    pub(crate) state_vector: Box<[u8]>,
}

/// A remote session that waits for the document to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct RemoteJoin {
    pub(crate) thread: u16,
    pub(crate) session: RemoteSession,
    pub(crate) limits: AppLimits,
    pub(crate) subject: Subject,
    pub(crate) access: Access,
    pub(crate) is_ywebsocket: bool,
    pub(crate) claim: Option<Pinned>,
}

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) app: AppId,
    /// The name in the whole system, and its hash.
    pub(crate) name: DocumentName,
    pub(crate) hash: u64,
    pub(crate) serial: u32,
    /// When it was opened here.
    pub(crate) opened: Tick,
    pub(crate) activity: Activity,
    pub(crate) due: Tick,
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) coverage: Coverage,
    pub(crate) awareness: Awareness,
    pub(crate) members: Vec<Member>,
    /// What every member that keeps up was sent.
    pub(crate) flushed: Position,
    pub(crate) awareness_flushed: Version,
    /// Microseconds, wrapping, at the last fan-out of edits, and whether it carried more than one.
    pub(crate) fanned_out_us: u32,
    /// When presence was fanned out last.
    pub(crate) presence_us: u32,
    pub(crate) is_busy: bool,
    /// What the session store was asked to keep, and what it has.
    pub(crate) submitted: Position,
    pub(crate) stored: Position,
    pub(crate) edits: Edits,
    pub(crate) compacting: bool,
    /// Somebody joined who would rather have had it in one piece.
    pub(crate) is_compaction_wanted: bool,
    pub(crate) dirty: bool,
    /// What few documents have at any moment.
    pub(crate) pending: Option<Box<Pending>>,
    /// There while other nodes hold it, too, or the session store is in doubt.
    pub(crate) shared: Option<Box<Shared>>,
}

const _: () = assert!(size_of::<Document>() <= 328, "a document's share of memory");

#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) acks: VecDeque<Ack>,
    /// Answered by the compaction under way.
    pub(crate) asked: Vec<Joiner>,
    /// To be answered by the next.
    pub(crate) joiners: Vec<Joiner>,
    /// Step 1s of sessions on other threads whose last delivery is still under way.
    pub(crate) deferred: Vec<Joiner>,
    pub(crate) waiting: Vec<ConnRef>,
    pub(crate) remote_waiting: Vec<RemoteJoin>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.acks.is_empty()
            && self.asked.is_empty()
            && self.joiners.is_empty()
            && self.deferred.is_empty()
            && self.waiting.is_empty()
            && self.remote_waiting.is_empty()
    }
}

impl Document {
    pub(crate) fn new(app: AppId, name: DocumentName, hash: u64, serial: u32, opened: Tick) -> Self {
        Self {
            app,
            name,
            hash,
            serial,
            opened,
            activity: Activity::default(),
            due: 0,
            state: State::Loading,
            log: Log::default(),
            coverage: Coverage::new(),
            awareness: Awareness::default(),
            members: Vec::new(),
            flushed: 0,
            awareness_flushed: 0,
            fanned_out_us: 0,
            presence_us: 0,
            is_busy: false,
            submitted: 0,
            stored: 0,
            edits: Edits::Taken,
            compacting: false,
            is_compaction_wanted: false,
            dirty: false,
            pending: None,
            shared: None,
        }
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    pub(crate) fn drop_empty_pending(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| pending.is_empty()) {
            self.pending = None;
        }
    }

    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        self.shared.get_or_insert_default()
    }

    pub(crate) fn drop_idle_shared(&mut self) {
        if self.shared.as_ref().is_some_and(|shared| shared.is_idle()) {
            self.shared = None;
        }
    }

    /// Other nodes hold it, too.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_nodes())
    }

    /// When other nodes are to be told again of everyone, if there are any, and anyone.
    pub(crate) fn says_all_at(&self) -> Option<u64> {
        let shared = self.shared.as_ref().filter(|shared| shared.has_nodes() && !self.members.is_empty())?;
        Some(shared.all_due_ms)
    }

    /// What the session store has is in doubt, or not there again yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.doubt != Doubt::None)
    }

    /// Begins with what the session store kept; returns how many updates of it are none.
    pub(crate) fn restore(&mut self, kept: Kept) -> u64 {
        let mut unreadable = 0;
        if let Some(base) = kept.base {
            match self.absorb(&base, &update::Bounds::of_documents()) {
                Some(has_gap) => {
                    self.log = Log::with_base(Some(base));
                    self.note_gap(has_gap);
                }
                None => unreadable += 1,
            }
        }
        for update in kept.tail {
            // What was put back after a loss was a base, perhaps.
            match self.absorb(&update, &update::Bounds::of_documents()) {
                Some(has_gap) => {
                    self.log.append(log::STORED, &update);
                    self.note_gap(has_gap);
                }
                None => unreadable += 1,
            }
        }
        self.flushed = self.log.head();
        self.submitted = self.flushed;
        self.stored = self.flushed;
        for node in kept.nodes {
            self.shared_mut().enter(node);
        }
        unreadable
    }

    /// Appends an update that came from the session store.
    pub(crate) fn append_stored(&mut self, update: &[u8]) {
        let before = self.log.head();
        self.log.append(log::STORED, update);
        let head = self.log.head();
        if self.submitted == before {
            self.submitted = head;
        }
        if self.stored == before {
            self.stored = head;
        } else {
            self.shared_mut().note_foreign(head, head.wrapping_sub(before));
        }
    }

    /// The session store has everything before `position`; returns how many bytes of what it was to keep that is.
    pub(crate) fn note_stored(&mut self, position: Position) -> u32 {
        if (position.wrapping_sub(self.stored) as i32) <= 0 {
            return 0;
        }
        let before = self.unstored();
        self.stored = match &mut self.shared {
            Some(shared) => shared.pass_foreign(position),
            None => position,
        };
        before - self.unstored()
    }

    /// Notes what an update covers; true if it leaves a gap or has one inside, `None` if it is no update.
    pub(crate) fn absorb(&mut self, update: &[u8], bounds: &update::Bounds) -> Option<bool> {
        update::scan(update, bounds, &mut ()).ok()?;
        let mut absorb = self.coverage.absorb();
        let scanned = update::scan(update, bounds, &mut absorb);
        let leaves_gap = absorb.leaves_gap;
        scanned.ok().map(|summary| leaves_gap || summary.has_skips)
    }

    pub(crate) fn note_gap(&mut self, has_gap: bool) {
        if has_gap {
            self.log.note_gap();
        }
    }

    /// There is something that members that keep up were not sent.
    pub(crate) fn has_news(&self) -> bool {
        self.flushed != self.log.head() || self.awareness_flushed != self.awareness.version()
    }

    /// Microseconds for which news is still gathered, or 0: it is due. The first after a pause always is.
    pub(crate) fn gathers_for(&self, now_us: u64, us_per_member: u32) -> u64 {
        let waiting = self.log.head().wrapping_sub(self.flushed);
        if !self.is_busy || !self.has_news() || waiting > GATHER_BYTES_MAX {
            return 0;
        }
        let apart = self.least_apart(us_per_member);
        apart.saturating_sub((now_us as u32).wrapping_sub(self.fanned_out_us).into())
    }

    /// The same for presence, where a node is to be thrifty with it: several times as long, whether the document is busy or not.
    pub(crate) fn gathers_presence_for(&self, now_us: u64, us_per_member: u32) -> u64 {
        if self.awareness_flushed == self.awareness.version() {
            return 0;
        }
        let apart = THRIFTY_TIMES * self.least_apart(us_per_member);
        apart.saturating_sub((now_us as u32).wrapping_sub(self.presence_us).into())
    }

    /// Least microseconds from one fan-out to the next.
    fn least_apart(&self, us_per_member: u32) -> u64 {
        let members = self.members.len().max(GATHER_MEMBERS_MIN) as u64;
        (members * u64::from(us_per_member)).min(GATHER_US_MAX)
    }

    /// Bytes that the session store does not have yet.
    pub(crate) fn unstored(&self) -> u32 {
        let foreign = self.shared.as_ref().map_or(0, |shared| shared.foreign_bytes());
        self.log.head().wrapping_sub(self.stored) - foreign
    }

    pub(crate) fn state_vector(&self) -> StateVector {
        self.coverage.state_vector()
    }
}
