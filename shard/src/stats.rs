//! Counters of a shard, bumped where things happen and copied out whole.

use pinwire_protocol::close::CloseCode;

/// Totals since the shard's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages queued for one connection or one session.
    pub messages_sent: u64,
    /// Frames queued by fan-out: one per member and broadcast.
    pub frames_fanned_out: u64,
    /// Data messages received.
    pub messages_received: u64,
    /// Updates appended to a log.
    pub updates: u64,
    /// Updates that brought nothing new.
    pub updates_known: u64,
    /// Updates of other nodes appended to a log.
    pub updates_foreign: u64,
    /// Turns in which a document's updates were merged before they were sent.
    pub merged_turns: u64,
    /// Awareness entries that raised no clock or passed a bound.
    pub awareness_dropped: u64,
    /// Users asked to raise their clock.
    pub awareness_challenges: u64,
    /// Connections refused before they had a session.
    pub refusals: u64,
    /// Of those, with the name of another region.
    pub redirect_refusals: u64,
    /// Of those, for a limit of the app.
    pub limit_refusals: u64,
    /// Of those, for a while: they come again.
    pub wait_refusals: u64,
    /// Connections closed by us, over all codes.
    pub closes: u64,
    /// Of those, for taking no byte.
    pub slow_readers: u64,
    /// Of those, for not answering pings.
    pub idle: u64,
    /// Of those, for bytes that break a protocol.
    pub invalid: u64,
    /// Of those, that name another region (4009).
    pub redirect_closes: u64,
    /// Hocuspocus documents that were refused with the name of another region.
    pub redirect_denials: u64,
    /// Log entries that a library failed on.
    pub entries_dropped: u64,
    /// Compactions finished.
    pub compactions: u64,
}

impl Stats {
    pub(crate) fn count_refusal(&mut self, code: CloseCode) {
        self.refusals += 1;
        match code {
            CloseCode::WrongRegion => self.redirect_refusals += 1,
            CloseCode::TryAgainLater => self.wait_refusals += 1,
            CloseCode::ConnectionLimit
            | CloseCode::DocumentLimit
            | CloseCode::RateLimit
            | CloseCode::DocumentUsers => self.limit_refusals += 1,
            _ => {}
        }
    }

    pub(crate) fn count_close(&mut self, code: CloseCode) {
        self.closes += 1;
        match code {
            CloseCode::SlowReader => self.slow_readers += 1,
            CloseCode::Idle => self.idle += 1,
            CloseCode::WrongRegion => self.redirect_closes += 1,
            CloseCode::ProtocolError | CloseCode::InvalidData | CloseCode::UnsupportedData => {
                self.invalid += 1;
            }
            _ => {}
        }
    }
}
