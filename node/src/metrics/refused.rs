//! What a data thread turned away, by reason: totals for metrics, and a line of the log for all of a second.
//!
//! A herd that is refused makes one line a second and thread, with counts. What is an operator's business (a full node) is a
//! warning; what is the clients' (tokens, TLS, a limit of an address) is told as `info`.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pinwire_engine::{Cause, Stage};
use pinwire_token::Rejection;

/// Counts by reason, of which there are a few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts<const N: usize> {
    words: &'static [&'static str; N],
    counts: [u64; N],
    total: u64,
}

impl<const N: usize> Counts<N> {
    const fn new(words: &'static [&'static str; N]) -> Self {
        Self { words, counts: [0; N], total: 0 }
    }

    /// Counts one. The last word is for what has none of its own.
    fn note(&mut self, word: &str) {
        let at = self.words.iter().position(|known| *known == word).unwrap_or(N - 1);
        self.counts[at] += 1;
        self.total += 1;
    }

    /// Each word with its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.words.iter().copied().zip(self.counts)
    }

    fn of(&self, word: &str) -> u64 {
        self.each().find(|(known, _)| *known == word).map_or(0, |(_, count)| count)
    }

    /// `3 expired, 1 signature`: what came since `before`, without what is left out.
    fn since(&self, before: &Self, left_out: &str) -> String {
        let mut text = String::new();
        for (at, (word, count)) in self.each().enumerate().filter(|(_, (word, _))| *word != left_out) {
            let new = count - before.counts[at];
            if new > 0 {
                let _ = write!(text, "{}{new} {word}", if text.is_empty() { "" } else { ", " });
            }
        }
        text
    }
}

/// Why a WebSocket handshake came to nothing.
pub(crate) mod handshake {
    /// The node has as many connections as it may.
    pub(crate) const FULL: &str = "full";
    /// New connections are for other nodes.
    pub(crate) const OVERLOADED: &str = "overloaded";
    /// Documents that nobody here has open are for other nodes.
    pub(crate) const NEW_DOCUMENT: &str = "new_document";
    /// As many were let in as may be in a second.
    pub(crate) const BUDGET: &str = "budget";
    /// Its address asks too often.
    pub(crate) const ADDRESS_LIMIT: &str = "address_limit";
    /// It was refused before, and too many such clients are held.
    pub(crate) const PACED: &str = "paced";
    /// The node stops.
    pub(crate) const STOPPING: &str = "stopping";
    /// No request that can be answered.
    pub(crate) const BAD_REQUEST: &str = "bad_request";
    /// No whole request in time.
    pub(crate) const TIMEOUT: &str = "timeout";
}

const HANDSHAKES: [&str; 9] = [
    handshake::FULL,
    handshake::OVERLOADED,
    handshake::NEW_DOCUMENT,
    handshake::BUDGET,
    handshake::ADDRESS_LIMIT,
    handshake::PACED,
    handshake::STOPPING,
    handshake::TIMEOUT,
    handshake::BAD_REQUEST,
];

/// A connection that ends before its TLS handshake is through, as a check of a port does.
pub(crate) const CLOSED: &str = "closed";
const OTHER_TLS: &str = "other";

/// Of the library, then what else ends TLS handshakes.
const TLS: [&str; pinwire_tls::REFUSALS.len() + 5] = {
    let mut words = [OTHER_TLS; pinwire_tls::REFUSALS.len() + 5];
    let mut at = 0;
    while at < pinwire_tls::REFUSALS.len() {
        words[at] = pinwire_tls::REFUSALS[at];
        at += 1;
    }
    words[at] = handshake::TIMEOUT;
    words[at + 1] = "reset";
    words[at + 2] = CLOSED;
    words[at + 3] = handshake::FULL;
    words
};

const TOKENS: [&str; 10] = [
    "too_large",
    "algorithm",
    "unknown_key",
    "signature",
    "expired",
    "not_yet_valid",
    "audience",
    "scope",
    "issuer",
    "malformed",
];

const ACCEPTS: [&str; 4] = ["connections", "descriptors", "memory", "other"];

/// What was turned away since the thread's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// WebSocket handshakes.
    pub(crate) handshakes: Counts<{ HANDSHAKES.len() }>,
    /// TLS handshakes.
    pub(crate) tls: Counts<{ TLS.len() }>,
    /// Tokens.
    pub(crate) tokens: Counts<{ TOKENS.len() }>,
    /// Times at which accepting had to pause.
    pub(crate) accepts: Counts<{ ACCEPTS.len() }>,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            handshakes: Counts::new(&HANDSHAKES),
            tls: Counts::new(&TLS),
            tokens: Counts::new(&TOKENS),
            accepts: Counts::new(&ACCEPTS),
        }
    }
}

impl Refused {
    /// All that is told in the log.
    fn told(&self) -> u64 {
        self.handshakes.total + self.tls.total - self.tls.of(CLOSED) + self.tokens.total
    }
}

/// How long counts are gathered for a line of the log.
const GATHER: Duration = Duration::from_secs(1);

/// Counts what a thread turns away, and tells it.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counted: Refused,
    told: Refused,
    /// Whose handshake was refused last.
    last: Option<IpAddr>,
    tell_at: Option<Instant>,
}

impl Refusals {
    /// The totals.
    pub(crate) fn counted(&self) -> &Refused {
        &self.counted
    }

    /// A WebSocket handshake came to nothing, for a reason of [`handshake`].
    pub(crate) fn handshake(&mut self, reason: &'static str, client: IpAddr) {
        self.counted.handshakes.note(reason);
        self.last = Some(client);
    }

    /// A TLS handshake came to nothing, `reason` being why the connection ended.
    pub(crate) fn tls(&mut self, stage: Stage, reason: &'static str, client: IpAddr) {
        match stage {
            Stage::Open { .. } => return,
            Stage::Opening => self.counted.tls.note(reason),
            Stage::Refused(reason) => self.counted.tls.note(reason),
        }
        self.last = Some(client);
    }

    /// Accepting pauses, for lack of something.
    pub(crate) fn accept(&mut self, of: &'static str) {
        self.counted.accepts.note(of);
    }

    /// A token was refused.
    pub(crate) fn token(&mut self, rejection: &Rejection) {
        self.counted.tokens.note(Self::word(rejection));
    }

    /// What a label says of a token that was refused.
    pub(crate) fn word(rejection: &Rejection) -> &'static str {
        match rejection {
            Rejection::TooLarge => "too_large",
            Rejection::Malformed(_) => "malformed",
            Rejection::Algorithm => "algorithm",
            Rejection::UnknownKey { .. } => "unknown_key",
            Rejection::Signature => "signature",
            Rejection::Expired => "expired",
            Rejection::NotYetValid => "not_yet_valid",
            Rejection::Audience => "audience",
            Rejection::Scope => "scope",
            Rejection::Issuer => "issuer",
        }
    }

    /// When [`Self::tell`] has something to say.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.tell_at
    }

    /// At the end of a turn: tells what a second gathered, once it is over.
    pub(crate) fn tell(&mut self, thread: u16, now: Instant) {
        match self.tell_at {
            None if self.counted.told() > self.told.told() => self.tell_at = Some(now + GATHER),
            Some(at) if now >= at => {
                self.tell_at = None;
                self.write(thread);
                self.told = self.counted;
            }
            _ => {}
        }
    }

    fn write(&self, thread: u16) {
        let last_client = self.last.map(tracing::field::display);
        let handshakes = self.counted.handshakes.since(&self.told.handshakes, "");
        if self.counted.handshakes.of(handshake::FULL) > self.told.handshakes.of(handshake::FULL) {
            tracing::warn!(thread, last_client, "connections refused within a second: {handshakes}");
        } else if !handshakes.is_empty() {
            tracing::info!(thread, last_client, "connections refused within a second: {handshakes}");
        }
        let tls = self.counted.tls.since(&self.told.tls, CLOSED);
        if !tls.is_empty() {
            tracing::info!(thread, last_client, "TLS handshakes that failed within a second: {tls}");
        }
        let tokens = self.counted.tokens.since(&self.told.tokens, "");
        if !tokens.is_empty() {
            tracing::info!(thread, "tokens refused within a second: {tokens}");
        }
    }
}

/// Why a connection ended that was still agreeing on TLS.
pub(crate) fn tls_reason(cause: Cause) -> &'static str {
    match cause {
        Cause::Eof => CLOSED,
        Cause::Reset => "reset",
        Cause::TimedOut => handshake::TIMEOUT,
        Cause::Io(_) => OTHER_TLS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_library_has_a_word_and_words_are_distinct() {
        let distinct: std::collections::BTreeSet<&str> = TLS.into_iter().collect();
        assert_eq!(distinct.len(), TLS.len());
        assert!(pinwire_tls::REFUSALS.iter().all(|word| TLS.contains(word)));
        let refused = Refused::default();
        let is_label = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(refused.tls.each().all(|(word, _)| is_label(word)));
        assert!(refused.handshakes.each().chain(refused.tokens.each()).all(|(word, _)| is_label(word)));
    }

    #[test]
    fn a_second_is_told_at_once_and_a_check_of_the_port_is_not() {
        let (mut refusals, start, client) =
            (Refusals::default(), Instant::now(), IpAddr::from([10, 0, 0, 1]));
        refusals.tls(Stage::Opening, tls_reason(Cause::Eof), client);
        refusals.tls(Stage::Open { is_resumed: false }, tls_reason(Cause::Eof), client);
        refusals.tell(0, start);
        assert_eq!(refusals.next_deadline(), None);
        assert_eq!(refusals.counted().tls.total, 1);
        for _ in 0..3 {
            refusals.token(&Rejection::Expired);
        }
        refusals.token(&Rejection::Signature);
        refusals.tls(Stage::Refused("not_tls"), tls_reason(Cause::Eof), client);
        refusals.tell(0, start);
        assert_eq!(refusals.next_deadline(), Some(start + GATHER));
        let told = refusals.counted.tokens.since(&refusals.told.tokens, "");
        assert_eq!(told, "1 signature, 3 expired");
        assert_eq!(refusals.counted.tls.since(&refusals.told.tls, CLOSED), "1 not_tls");
        refusals.tell(0, start + GATHER);
        assert_eq!(refusals.next_deadline(), None);
        refusals.tell(0, start + GATHER);
        assert_eq!(refusals.next_deadline(), None, "nothing is told twice");
        assert_eq!(refusals.counted.tokens.since(&refusals.told.tokens, ""), "");
    }
}
