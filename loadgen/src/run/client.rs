//! One client's state. There may be half a million on a thread, so it is small while nothing happens.

use pinwire_engine::Slot;
use pinwire_protocol::ws::Decoder;

/// A client, from before its first dial to after its last.
pub(crate) struct Client {
    /// Where its socket lives, if it has one.
    pub(crate) slot: Option<Slot>,
    /// Its group on this thread.
    pub(crate) group: u32,
    /// Its number in the group: writers come first, slow readers last, whoever checks the end behind them.
    pub(crate) member: u32,
    pub(crate) stage: Stage,
    pub(crate) decoder: Decoder,
    /// Its awareness clock.
    pub(crate) awareness_clock: u32,
    /// Dials since it last was joined.
    pub(crate) attempts: u16,
    /// Redirects followed since it last was joined.
    pub(crate) redirects: u16,
    /// The region of its last dial.
    pub(crate) region: u16,
    /// Whether its edits may leave as they come: after a loss not before it has told the server what that lacks.
    pub(crate) may_send: bool,
    /// When it was planned to be here: the first dial, or the loss of its connection. Nanoseconds.
    pub(crate) since: u64,
    /// When the step it is in began: dialled, connected, upgraded. Nanoseconds.
    pub(crate) step: u64,
}

const _: () = assert!(size_of::<Client>() <= 80);

/// Where a client stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It has no connection, and is not about to have one.
    Away,
    /// It has no connection and dials again when its timer fires.
    Waiting,
    /// Its TCP connection and upgrade are under way.
    Upgrading(Box<Upgrading>),
    /// Upgraded; sync is under way.
    Joining,
    /// Synced, or subscribed.
    Joined,
    /// Its close frame is out.
    Closing,
}

/// What is needed until the upgrade is answered.
#[derive(Debug)]
pub(crate) struct Upgrading {
    pub(crate) key: String,
    pub(crate) head: Vec<u8>,
    pub(crate) is_connected: bool,
    /// How long the TCP connection took, until it is known to stand: a refused one looks alike until its end is told.
    pub(crate) tcp: Option<u64>,
    /// For Hocuspocus's Auth message.
    pub(crate) token: Option<String>,
    /// It is a question to discovery, and no upgrade.
    pub(crate) asks: bool,
}

impl Client {
    pub(crate) fn new(group: u32, member: u32) -> Self {
        Self {
            slot: None,
            group,
            member,
            stage: Stage::Away,
            decoder: Decoder::new(pinwire_protocol::ws::Role::Client, false),
            awareness_clock: 0,
            attempts: 0,
            redirects: 0,
            region: 0,
            may_send: true,
            since: 0,
            step: 0,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        matches!(self.stage, Stage::Joined)
    }

    /// Whether it has a dial under way.
    pub(crate) fn is_dialling(&self) -> bool {
        matches!(self.stage, Stage::Upgrading(_) | Stage::Joining)
    }
}
