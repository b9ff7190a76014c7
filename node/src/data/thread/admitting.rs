//! Who is let in, and what the others are told.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pinwire_shard::Opening;
use pinwire_shed::{Rung, Turn};

use super::DataThread;
use crate::control::retry_after_secs;
use crate::data::handshake::Upgrade;
use crate::limits::{AddressLimiter, Asking};
use crate::metrics::handshake;
use crate::shedding::{Admission, ChangeId};

/// A handshake that comes to nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// For metrics and traces.
    pub(super) reason: &'static str,
    /// Of HTTP.
    pub(super) status: u16,
    /// When to come again, jittered.
    pub(super) wait: Duration,
    /// What led the node to where it stands.
    change: ChangeId,
}

impl Refusal {
    /// Seconds, rounded up.
    pub(super) fn retry_after(&self) -> u32 {
        u32::try_from(self.wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    pub(super) fn body(&self) -> String {
        match self.status {
            429 => r#"{"error":"too many connections from this address"}"#.to_owned(),
            _ => format!(r#"{{"error":"busy","reason":"{}","change":"{}"}}"#, self.reason, self.change),
        }
    }
}

/// What becomes of a handshake.
#[derive(Debug)]
pub(super) enum Verdict {
    Now,
    /// When its turn comes.
    Later(Turn),
    Never(Refusal),
}

impl DataThread {
    pub(super) fn is_full(&self) -> bool {
        self.shared.connections.load(Ordering::Relaxed) >= self.shared.config.max_connections
    }

    /// Whoever comes now is refused, unless it is plain HTTP.
    pub(super) fn takes_nobody(&self, now: Instant) -> bool {
        let Admission { budget, .. } = &*self.shared.admission;
        self.is_ending(now)
            || self.is_full()
            || self.shared.admission.rung() == Rung::NoNewConnections
            || budget.is_spent(self.us(now), self.line_us())
    }

    /// Refusals that no app needs to read are HTTP, before the upgrade. The budget is asked last, since asking uses it up.
    pub(super) fn judge(&mut self, upgrade: &Upgrade, now: Instant) -> Verdict {
        let admit = |limiter: &AddressLimiter| limiter.admit(upgrade.client, Asking::Connect, now);
        let change = self.shared.admission.change();
        if let Some(Err(too_many)) = self.shared.live.with_limiter(admit) {
            let wait = Duration::from_secs(retry_after_secs(too_many.retry_after, self.random()));
            return Verdict::Never(Refusal { reason: handshake::ADDRESS_LIMIT, status: 429, wait, change });
        }
        if let Some(refusal) = self.refusal(&upgrade.opening, now) {
            return Verdict::Never(refusal);
        }
        if self.leaving.lets_guests_in(self.us(now)) {
            return Verdict::Now;
        }
        let (budget, now_us) = (&self.shared.admission.budget, self.us(now));
        match budget.turn(now_us, self.line_us()) {
            Some(turn) if budget.wait_us(turn, now_us) == 0 => Verdict::Now,
            Some(turn) => Verdict::Later(turn),
            None => Verdict::Never(self.refuse(handshake::BUDGET, now)),
        }
    }

    /// Why a client is not let in, whatever the budget says. Who was in line is asked once more.
    pub(super) fn refusal(&mut self, opening: &Opening, now: Instant) -> Option<Refusal> {
        self.reason(opening, now).map(|reason| self.refuse(reason, now))
    }

    pub(super) fn refuse(&mut self, reason: &'static str, now: Instant) -> Refusal {
        let change = self.shared.admission.change();
        Refusal { reason, status: 503, wait: self.pace(now), change }
    }

    fn line_us(&self) -> u64 {
        self.guests.line_patience().as_micros() as u64
    }

    fn reason(&self, opening: &Opening, now: Instant) -> Option<&'static str> {
        let Admission { names, .. } = &*self.shared.admission;
        let rung = self.shared.admission.rung();
        let is_new = || opening.document.as_deref().is_some_and(|name| !names.may_have(name));
        let is_overrun =
            || self.shard.is_overrun_by(opening.peer, opening.token.as_deref(), opening.document.as_deref());
        if self.is_ending(now) {
            Some(handshake::STOPPING)
        } else if rung == Rung::NoNewConnections {
            Some(handshake::OVERLOADED)
        } else if self.is_full() {
            Some(handshake::FULL)
        } else if self.leaving.lets_guests_in(self.us(now)) {
            // They are the last, and the node that drains has no share of the pool's budget any more.
            None
        } else if rung == Rung::NoNewDocuments && is_new() {
            Some(handshake::NEW_DOCUMENT)
        } else {
            is_overrun().then_some(handshake::PACED)
        }
    }

    /// When one more who is refused is asked to come again: the more there are, the later.
    pub(super) fn pace(&mut self, now: Instant) -> Duration {
        // Those whom all threads refuse come back no faster than the node lets somebody in.
        self.pacing
            .resize(self.shared.admission.budget.per_second() / self.shared.config.threads.max(1) as f64);
        let (now_us, random) = (self.us(now), self.random());
        Duration::from_micros(self.pacing.refuse(now_us, random))
    }
}
