//! One connection's state, from the upgrade to the end of its socket.
//!
//! ```text
//!            first frame       document or socket on another thread
//!  First ───────────────► Open ◄──────────── Moving
//!    │ refused               │ ended by us, by the peer's close frame, by an error
//!    ▼                       ▼
//!   Held ── deadline ──► Closing ── peer's close frame ──► Finishing ── EOF or deadline ──► gone
//! ```

use crate::apps::AppId;
use crate::expiry::Life;
use crate::grant::{Access, Grant, Verdict};
use crate::inspect::ConnId;
use crate::limits::{UNDER_WAY_BYTES_MAX, UNDER_WAY_MAX};
use crate::mail::RemoteSession;
use crate::refusals::RefusalKey;
use crate::subject::Subject;
use crate::wheel::Tick;
use crate::{App, AppLimits};
use pinwire_protocol::close::Close;
use pinwire_protocol::ws::{Decoder, Role};
use std::sync::Arc;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;
/// In place of [`Conn::session`]: the document of the y-websocket connection is reached over a link ([`Cold::relayed`]).
pub(crate) const RELAYED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Upgraded; the first data frame decides what it is.
    First,
    /// Refused; the close frame waits for the deadline.
    Held,
    /// On its way to the thread that owns its document.
    Moving,
    /// Its dialect is known.
    Open,
    /// Our close frame is out, the peer's is awaited.
    Closing,
    /// Nothing is said any more; what the peer still sends is discarded until EOF or the deadline.
    Finishing,
}

/// The part that every connection has, idle or not.
pub(crate) struct Conn {
    pub(crate) decoder: Decoder,
    /// The token's `sub`, once admitted.
    pub(crate) subject: Subject,
    /// There while the connection is being admitted, while something is held, and on Hocuspocus sockets.
    pub(crate) cold: Option<Box<Cold>>,
    /// With [`Self::opened`] its [`ConnId`]: kept when it moves, since no two threads give the same.
    pub(crate) serial: u32,
    /// When it was opened, on whichever thread.
    pub(crate) opened: Tick,
    /// The app it counts for, once admitted, else [`NONE`].
    pub(crate) app: AppId,
    /// The one session of a y-websocket connection, [`RELAYED`], or [`NONE`].
    pub(crate) session: u32,
    pub(crate) due: Tick,
    /// End of the phase; while open: of waiting for a pong or for a blocked socket.
    pub(crate) deadline: Tick,
    pub(crate) last_received: Tick,
    /// When a data frame was last sent; clients close after 30 s without one.
    pub(crate) last_data: Tick,
    /// When a y-websocket session ends with its token; [`Tick::MAX`] for never.
    pub(crate) expires: Tick,
    pub(crate) phase: Phase,
    /// What the peer sends is held for later.
    pub(crate) stalled: bool,
    /// A ping of ours is unanswered.
    pub(crate) pinged: bool,
    /// It has had a session: its thread is settled.
    pub(crate) settled: bool,
}

const _: () = assert!(size_of::<Conn>() <= 88, "an idle connection's share of memory");

/// The part that few connections have.
#[derive(Default)]
pub(crate) struct Cold {
    /// Bytes that waited for the socket when last looked at, and what was queued since; 0 when none wait.
    pub(crate) backlog: u32,
    /// The document in the path, unchecked.
    pub(crate) document: Option<Box<str>>,
    pub(crate) origin: Option<Box<str>>,
    pub(crate) handshake: Handshake,
    pub(crate) refusal_key: RefusalKey,
    /// A message to be handled again once what it waits for is there.
    pub(crate) held_message: Option<Box<[u8]>>,
    /// Bytes behind that message, not decoded yet.
    pub(crate) held_bytes: Vec<u8>,
    /// When to try the held message again, or 0.
    pub(crate) retry: Tick,
    /// Until when it waits to be admitted, or 0.
    pub(crate) admission: Tick,
    /// How the admitted y-websocket session may use its document.
    pub(crate) access: Option<Access>,
    /// Why the connection is held.
    pub(crate) refusal: Option<Close>,
    pub(crate) hocuspocus: Option<Hocuspocus>,
    /// The y-websocket session whose document is reached over a link.
    pub(crate) relayed: Option<Relayed>,
    /// How often its document was looked for anew since it last was a member.
    pub(crate) reroutes: u8,
}

/// See [`Cold::relayed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relayed {
    pub(crate) owner: u16,
    /// The owner has it as a member.
    pub(crate) is_joined: bool,
    pub(crate) under_way: UnderWay,
}

/// What the owner of a remote session has still to handle of its frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    frames: u32,
    bytes: u32,
}

impl UnderWay {
    /// Whether one more may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.frames < UNDER_WAY_MAX && self.bytes < UNDER_WAY_BYTES_MAX
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(bytes as u32);
    }

    pub(crate) fn taken(&mut self, frames: u32, bytes: u32) {
        self.frames = self.frames.saturating_sub(frames);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The token of the handshake.
#[derive(Default)]
pub(crate) enum Handshake {
    #[default]
    Missing,
    Verifying,
    Judged(Verdict),
}

/// A socket that carries any number of documents, each under a key of its own.
#[derive(Default)]
pub(crate) struct Hocuspocus {
    pub(crate) keys: Vec<Key>,
    /// Bytes of frames that wait for a verdict.
    pub(crate) buffered: usize,
    pub(crate) next_id: u16,
    /// The token in-band that was judged last, by hash: a held message finds its verdict here.
    pub(crate) judged: Option<(u64, Option<Verdict>)>,
}

pub(crate) struct Key {
    /// Tells it from others that had its place.
    pub(crate) id: u16,
    /// `name` or `name\0sessionId`, as the client spells it.
    pub(crate) raw: Box<str>,
    pub(crate) state: KeyState,
    /// The end of its token, where sessions end with it.
    pub(crate) life: Life,
}

pub(crate) enum KeyState {
    /// Frames came before Auth.
    Waiting { since: Tick, frames: Vec<Box<[u8]>> },
    /// A member of a document of this thread: its session.
    Joined(u32),
    /// Another thread was asked, for this token; and how often the document was looked for anew.
    Joining { owner: u16, frames: Vec<Box<[u8]>>, access: Access, reroutes: u8, grant: Arc<Grant> },
    /// A member of a document of another thread, which has so much of its frames still to handle.
    Remote { owner: u16, under_way: UnderWay },
    /// Refused or left; Auth may come again.
    Out,
}

impl Conn {
    pub(crate) fn new(serial: u32, deflate: bool, cold: Cold, now: Tick) -> Self {
        Self {
            decoder: Decoder::new(Role::Server, deflate),
            subject: Subject::default(),
            cold: Some(Box::new(cold)),
            serial,
            opened: now,
            app: NONE,
            session: NONE,
            due: 0,
            deadline: 0,
            last_received: now,
            last_data: now,
            expires: Tick::MAX,
            phase: Phase::First,
            stalled: false,
            pinged: false,
            settled: false,
        }
    }

    /// Its name on the whole node.
    pub(crate) fn id(&self) -> ConnId {
        ConnId { opened: self.opened, serial: self.serial }
    }

    /// permessage-deflate was negotiated.
    pub(crate) fn deflate(&self) -> bool {
        self.decoder.deflate()
    }

    /// True while earlier bytes wait for the socket.
    pub(crate) fn is_blocked(&self) -> bool {
        self.backlog() > 0
    }

    /// Bytes that waited for the socket when last looked at, and what was queued since; 0 when none wait.
    pub(crate) fn backlog(&self) -> u32 {
        self.cold.as_ref().map_or(0, |cold| cold.backlog)
    }

    /// A token of the peer was found good.
    pub(crate) fn is_trusted(&self) -> bool {
        let judged = self.cold.as_ref().map(|cold| &cold.handshake);
        self.app != NONE || matches!(judged, Some(Handshake::Judged(Ok(_))))
    }

    pub(crate) fn cold_mut(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn hocuspocus_mut(&mut self) -> Option<&mut Hocuspocus> {
        self.cold.as_mut()?.hocuspocus.as_mut()
    }

    /// Gives the cold part back when nothing in it is needed any more.
    pub(crate) fn cool(&mut self) {
        let is_needed = |cold: &Cold| {
            cold.backlog > 0
                || cold.refusal.is_some()
                || cold.hocuspocus.is_some()
                || cold.relayed.is_some()
                || cold.held_message.is_some()
                || !cold.held_bytes.is_empty()
        };
        if self.settled && !self.stalled && !self.cold.as_deref().is_some_and(is_needed) {
            self.cold = None;
        }
    }
}

/// A connection on its way from one shard to another. `Send`, whatever it has in hand.
pub struct Traveller {
    pub(crate) conn: Conn,
    pub(crate) app: Arc<App>,
    pub(crate) limits: AppLimits,
}

impl Traveller {
    /// The connection was lost on the way: gives back what it counts for.
    pub fn lost(self) {
        self.app.release_connection();
    }
}

const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Traveller>();
};

impl std::fmt::Debug for Traveller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traveller").field("app", &self.app.id()).finish_non_exhaustive()
    }
}

/// A connection and a document: what makes a member.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer: Peer,
    /// Index of the document and of the member in it.
    pub(crate) document: u32,
    pub(crate) member: u32,
    /// Marks its entries in the log and its awareness ids; never used twice on a shard.
    pub(crate) tag: u32,
    pub(crate) read_only: bool,
    /// It sent an awareness message: the first is the client's own announcement, later ones may be echoes.
    pub(crate) announced: bool,
    /// It waits in the list of sessions that have to catch up.
    pub(crate) is_lagging: bool,
    pub(crate) dialect: SessionDialect,
}

const _: () = assert!(size_of::<Option<Session>>() <= 24, "a session's share of memory");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionDialect {
    YWebsocket,
    /// The key is the document's name.
    PlainKey,
    /// The key is the session's own.
    PrivateKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A socket of this thread, and which of its Hocuspocus keys.
    Local { slot: u32, key: u16 },
    /// A socket of another thread: index of what is known of it.
    Remote(u32),
}

/// A socket of another thread that is a member here.
#[derive(Clone, Debug)]
pub(crate) struct RemotePeer {
    pub(crate) thread: u16,
    /// Its name there.
    pub(crate) session: RemoteSession,
    /// The `sub` of its token.
    pub(crate) subject: Subject,
    /// A delivery is under way to it; there is one at a time.
    pub(crate) awaits_credit: bool,
}
