//! Tokens that are put aside: those whose key is unknown, while keys are fetched, and those whose app's record is asked for.
//!
//! A provider that begins to sign with a new key is a moment ahead of everybody who fetched its keys before. Such tokens wait for
//! the round of requests that they ask for. What waits is bounded: beyond it a token is refused with "try again", as one whose
//! key could not be fetched.

use std::time::Instant;

use super::authority::Asked;
use crate::apps::RECORD_PATIENCE;
use crate::jwks::{Outcome, Refetch, Waiting};

/// Tokens of one data thread that wait: at most 8 MiB.
const TOKENS_MAX: usize = 1024;

/// A token that is put aside.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) asked: Asked,
    pub(crate) token: Box<str>,
    waiting: Waiting,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct AwaitingKeys(Vec<Token>);

/// What to do with a token whose key is unknown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It was put aside.
    Waits,
    /// There is no such key.
    Refuse,
    /// There may be one, and it cannot be had now.
    TryAgain,
}

impl AwaitingKeys {
    /// Puts a token aside, if that helps. One that waited before goes on waiting for the same round.
    pub(crate) fn put_aside(
        &mut self,
        refetch: &Refetch,
        asked: Asked,
        token: &str,
        before: Option<Waiting>,
        now: Instant,
    ) -> Decision {
        let waiting = match before {
            Some(waiting) => match refetch.outcome(&waiting, now) {
                Outcome::Waits => waiting,
                Outcome::Complete => return Decision::Refuse,
                Outcome::Unsure => return Decision::TryAgain,
            },
            None => match refetch.ask(now) {
                Some(waiting) => waiting,
                None => return Decision::Refuse,
            },
        };
        if self.0.len() >= TOKENS_MAX {
            return Decision::TryAgain;
        }
        self.0.push(Token { asked, token: token.into(), waiting });
        Decision::Waits
    }

    /// Takes out what is to be judged again: everything once keys have changed, else what need not wait any more.
    pub(crate) fn take_ready(
        &mut self,
        refetch: &Refetch,
        have_keys_changed: bool,
        now: Instant,
    ) -> Vec<(Asked, Box<str>, Waiting)> {
        let is_ready =
            |token: &mut Token| have_keys_changed || refetch.outcome(&token.waiting, now) != Outcome::Waits;
        let ready =
            self.0.extract_if(.., is_ready).map(|token| (token.asked, token.token, token.waiting)).collect();
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        ready
    }

    /// When something is ready at the latest, if no round ends before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|token| token.waiting.until).min()
    }
}

/// What a token that is judged again waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    /// It did not.
    Nothing,
    /// Its key.
    Keys(Waiting),
    /// Its app's record, until then at most.
    Record(Instant),
}

impl Before {
    pub(crate) fn keys(self) -> Option<Waiting> {
        match self {
            Self::Keys(waiting) => Some(waiting),
            Self::Nothing | Self::Record(_) => None,
        }
    }
}

/// Tokens that wait for their app's record: it is asked for once for all of them.
#[derive(Debug, Default)]
pub(crate) struct AwaitingRecords {
    tokens: Vec<(Asked, Box<str>, Instant)>,
    /// How many questions were settled when they were looked at last.
    settled: u64,
}

impl AwaitingRecords {
    /// Puts a token aside; false if there is no room, or it has waited long enough.
    pub(crate) fn put_aside(&mut self, asked: Asked, token: &str, before: Before, now: Instant) -> bool {
        let until = match before {
            Before::Record(until) => until,
            Before::Nothing | Before::Keys(_) => now + RECORD_PATIENCE,
        };
        let has_room = now < until && self.tokens.len() < TOKENS_MAX;
        if has_room {
            self.tokens.push((asked, token.into(), until));
        }
        has_room
    }

    /// Takes out what is to be judged again: everything once a question was settled, else what has waited long enough.
    pub(crate) fn take_ready(&mut self, settled: u64, now: Instant) -> Vec<(Asked, Box<str>, Before)> {
        let has_settled = std::mem::replace(&mut self.settled, settled) != settled;
        if self.tokens.is_empty() {
            return Vec::new();
        }
        let ready = self.tokens.extract_if(.., |(.., until)| has_settled || *until <= now);
        ready.map(|(asked, token, until)| (asked, token, Before::Record(until))).collect()
    }

    /// When something is ready at the latest, if nothing is settled before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.tokens.iter().map(|(.., until)| *until).min()
    }
}
