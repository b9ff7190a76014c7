//! Sessions that end with their tokens, where an operator wants that.
//!
//! What is left of a token's life is measured on the monotonic clock from the moment at which it was taken. So a clock that is set
//! neither ends the sessions that are there nor keeps one for ever.

use crate::conn::{Conn, Key, KeyState};
use crate::effect::Slot;
use crate::grant::Grant;
use crate::hocuspocus::write_without_key;
use crate::limits::{FRESH_TOKEN_MS, ticks};
use crate::shard::Shard;
use crate::wheel::{TICK_MS, Tick, tick_at};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus as wire;

/// What is left of the token of a Hocuspocus key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// Its end; [`Tick::MAX`] for never.
    pub(crate) end: Tick,
    /// When the client is asked for a fresh one; [`Tick::MAX`] once it was.
    pub(crate) ask_at: Tick,
    /// Its Auth carried a version: older clients fail on being asked.
    pub(crate) can_be_asked: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self { end: Tick::MAX, ask_at: Tick::MAX, can_be_asked: false }
    }
}

impl Life {
    /// A token was taken that ends at `end`.
    ///
    /// A client that answers with the token that it had is not asked again: seconds are counted from different moments, so the
    /// same end may come out a second apart.
    fn renew(&mut self, end: Tick, now: Tick) {
        let is_longer = self.end == Tick::MAX || end > self.end.saturating_add(ticks(2_000));
        self.end = end;
        if is_longer && end != Tick::MAX && self.can_be_asked {
            let lead = ticks(FRESH_TOKEN_MS).min(end.saturating_sub(now) / 4);
            self.ask_at = end - lead;
        }
    }
}

impl Conn {
    fn lives(&self) -> impl Iterator<Item = &Life> {
        let keys = self.cold.as_ref().and_then(|cold| cold.hocuspocus.as_ref()).map(|all| &all.keys[..]);
        let is_in_use = |key: &&Key| !matches!(key.state, KeyState::Out);
        keys.unwrap_or_default().iter().filter(is_in_use).map(|key| &key.life)
    }

    /// When the connection ends with the first of its tokens.
    pub(crate) fn ends_at(&self) -> Tick {
        self.lives().map(|life| life.end).min().unwrap_or(Tick::MAX).min(self.expires)
    }

    /// When the client is asked for a fresh token the next time.
    pub(crate) fn asks_at(&self) -> Tick {
        self.lives().map(|life| life.ask_at).min().unwrap_or(Tick::MAX)
    }
}

impl Shard {
    /// When a session that this token was taken for ends with it.
    pub(crate) fn end_of(&self, grant: &Grant) -> Tick {
        let Some(expires) = grant.expires.filter(|_| self.out.settings.end_on_expiry) else {
            return Tick::MAX;
        };
        let left_ms = expires.saturating_sub(self.out.now_unix).saturating_mul(1_000);
        let end_ms = self.out.now_ms.saturating_add(left_ms);
        // What lies beyond the clock's range is never.
        if end_ms / TICK_MS >= u64::from(Tick::MAX) { Tick::MAX } else { tick_at(end_ms) }
    }

    /// An Auth came for a Hocuspocus key, by a client that told its version or did not.
    pub(crate) fn note_version(&mut self, slot: Slot, index: usize, version: Option<&str>) {
        let key = self.out.conns.get_mut(slot).and_then(Conn::hocuspocus_mut);
        if let Some(key) = key.and_then(|all| all.keys.get_mut(index)) {
            key.life.can_be_asked = version.is_some();
        }
    }

    /// A token was taken for a Hocuspocus key.
    pub(crate) fn note_end(&mut self, slot: Slot, index: usize, grant: &Grant) {
        let (end, now) = (self.end_of(grant), self.out.now());
        let key = self.out.conns.get_mut(slot).and_then(Conn::hocuspocus_mut);
        if let Some(key) = key.and_then(|all| all.keys.get_mut(index)) {
            key.life.renew(end, now);
        }
        self.out.schedule(slot);
    }

    /// Closes the connection if one of its tokens has ended, else asks for fresh ones where that is due.
    ///
    /// The whole socket is closed: a client that is told of one document alone stays, and edits into the void.
    pub(crate) fn end_expired(&mut self, slot: Slot) -> bool {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return true };
        if now >= conn.ends_at() {
            self.close(slot, &Close::new(CloseCode::InvalidToken, "token expired"));
            return true;
        }
        if now >= conn.asks_at() && !conn.is_blocked() {
            self.ask_for_tokens(slot);
        }
        false
    }

    fn ask_for_tokens(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(hocuspocus) = self.out.conns.get_mut(slot).and_then(Conn::hocuspocus_mut) else { return };
        let mut due = Vec::new();
        for (index, key) in hocuspocus.keys.iter_mut().enumerate() {
            if now >= key.life.ask_at {
                key.life.ask_at = Tick::MAX;
                due.push(index as u16);
            }
        }
        for index in due {
            self.out.send_key(slot, index, |out| {
                write_without_key(out, |out| wire::append_token_request(out, ""));
            });
        }
    }
}
