//! Verdicts on tokens, given on the data thread itself: two microseconds for a shared secret, tens for a signature.
//!
//! Signatures are bounded per turn, so that a herd that comes back does not hold up the connections that are there; what is
//! over the bound waits for the next turn, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{Access, AppLimits, ConnRef, Grant, Policy as DocumentPolicy, Verdict};
use pinwire_token::{Claims, Rejection, Request, Verdicts, authorize, is_costly};

use super::awaiting::{AwaitingKeys, Decision};
use crate::apps::Apps;
use crate::jwks::Waiting;
use crate::live::{Live, Trust};
use crate::metrics::{Histogram, Refusals};
use crate::traces::{Recorder, What};

/// When clients come back at the earliest whose key could not be fetched; at the latest after twice that.
const RETRY_MS: u64 = 5_000;

/// Spread, so that they do not come together. Without random numbers of the system they do.
fn retry_ms() -> u64 {
    RETRY_MS + getrandom::u32().map_or(0, u64::from) % RETRY_MS
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) conn: ConnRef,
    pub(crate) ticket: u64,
}

/// What every token is judged by, on every thread.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) live: Arc<Live>,
    pub(crate) region: String,
    pub(crate) known_db_codes: Vec<String>,
    pub(crate) apps: Arc<Apps>,
}

/// The judge of one data thread.
#[derive(Debug)]
pub(crate) struct Authority {
    rules: Arc<Rules>,
    /// What the remembered verdicts were given by.
    trust: Arc<Trust>,
    verdicts: Verdicts,
    times: Histogram,
    costly_per_turn: u32,
    costly_left: u32,
    /// With what each waits for if its key is unknown, once that was so.
    waiting: VecDeque<(Asked, Box<str>, Option<Waiting>)>,
    awaiting_keys: AwaitingKeys,
    /// A round of requests for keys ended in this turn.
    is_told: bool,
    recorder: Recorder,
}

impl Authority {
    pub(crate) fn new(
        rules: Arc<Rules>,
        capacity: usize,
        seed: [u8; 32],
        costly_per_turn: u32,
        recorder: Recorder,
    ) -> Self {
        Self {
            trust: Arc::clone(&rules.live.trust()),
            rules,
            verdicts: Verdicts::new(capacity, seed),
            times: Histogram::default(),
            costly_per_turn: costly_per_turn.max(1),
            costly_left: costly_per_turn.max(1),
            waiting: VecDeque::new(),
            awaiting_keys: AwaitingKeys::default(),
            is_told: false,
            recorder,
        }
    }

    /// Starts a turn: its share of costly checks is new, and so may be what tokens are judged by.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.costly_left = self.costly_per_turn;
        self.is_told = false;
        let trust = self.rules.live.trust();
        let has_changed = !Arc::ptr_eq(&trust, &self.trust);
        if has_changed {
            if trust.policy == self.trust.policy {
                self.verdicts.retain(&trust.keys);
            } else {
                self.verdicts.clear();
            }
            self.trust = Arc::clone(&trust);
        }
        let ready = self.awaiting_keys.take_ready(self.rules.live.refetch(), has_changed, now);
        self.waiting.extend(ready.into_iter().map(|(asked, token, waiting)| (asked, token, Some(waiting))));
    }

    /// Keys were fetched, or could not be, perhaps after this turn began: another one follows.
    pub(crate) fn keys_came(&mut self) {
        self.is_told = true;
    }

    /// When a token that waits for its key has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.awaiting_keys.deadline()
    }

    /// Judges now, or keeps the token for [`Self::next_waiting`].
    pub(crate) fn judge(
        &mut self,
        asked: Asked,
        token: Box<str>,
        now_unix: u64,
        refusals: &mut Refusals,
    ) -> Option<Verdict> {
        if is_costly(&token) && self.verdicts.get(&token, now_unix).is_none() {
            if self.costly_left == 0 {
                self.waiting.push_back((asked, token, None));
                return None;
            }
            self.costly_left -= 1;
        }
        self.verify(asked, &token, None, now_unix, refusals)
    }

    /// The next token that waited, judged, while the turn has room.
    ///
    /// What waits is bounded by the connections that are there: those that went meanwhile (`is_present`) are passed over.
    pub(crate) fn next_waiting(
        &mut self,
        now_unix: u64,
        refusals: &mut Refusals,
        is_present: impl Fn(ConnRef) -> bool,
    ) -> Option<(Asked, Verdict)> {
        while self.costly_left > 0 {
            let (asked, token, waiting) = self.waiting.pop_front()?;
            if !is_present(asked.conn) {
                continue;
            }
            self.costly_left -= 1;
            if let Some(verdict) = self.verify(asked, &token, waiting, now_unix, refusals) {
                return Some((asked, verdict));
            }
        }
        None
    }

    /// A number that rises with each token judged, for [`Self::forget_unused_since`].
    pub(crate) fn uses(&self) -> u64 {
        self.verdicts.uses()
    }

    /// Forgets the verdicts that were not asked for since `uses`.
    pub(crate) fn forget_unused_since(&mut self, uses: u64) {
        self.verdicts.forget_unused_since(uses);
    }

    /// How long judging took.
    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }

    /// Whether tokens wait for the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.is_told
    }

    /// `None` if the token waits for its key; it is judged again then, and neither counted nor traced before.
    fn verify(
        &mut self,
        asked: Asked,
        token: &str,
        before: Option<Waiting>,
        now_unix: u64,
        refusals: &mut Refusals,
    ) -> Option<Verdict> {
        let start = Instant::now();
        let verdict = self.verdicts.verify(&self.trust.keys, &self.trust.policy, token, now_unix);
        let took = start.elapsed();
        self.times.note(took);
        let rejection = match verdict {
            Ok(claims) => {
                self.recorder.note(What::Token, || took, "");
                return Some(Ok(Arc::new(self.grant(claims))));
            }
            Err(rejection) => rejection,
        };
        let mut close = Close::new(CloseCode::InvalidToken, rejection.reason());
        if matches!(rejection, Rejection::UnknownKey { .. }) {
            let refetch = self.rules.live.refetch();
            match self.awaiting_keys.put_aside(refetch, asked, token, before, start) {
                Decision::Waits => return None,
                Decision::TryAgain => close = Close::try_again(retry_ms()),
                Decision::Refuse => {}
            }
        }
        refusals.token(&rejection);
        self.recorder.note(What::Token, || took, Refusals::word(&rejection));
        Some(Err(close))
    }

    fn grant(&self, claims: Arc<Claims>) -> Grant {
        let limits = claims.limits;
        Grant {
            app: self.rules.apps.enter(&claims.tenant, &claims.app),
            limits: AppLimits {
                max_connections: limits.max_connections,
                max_documents: limits.max_documents,
                max_users_per_document: limits.max_users_per_doc,
                operations_per_minute: limits.ops_per_minute,
            },
            subject: claims.subject.clone().unwrap_or_default(),
            expires: Some(claims.expires_at.saturating_add(self.trust.policy.leeway_secs)),
            policy: Box::new(TokenPolicy { claims, rules: Arc::clone(&self.rules) }),
        }
    }
}

#[derive(Debug)]
struct TokenPolicy {
    claims: Arc<Claims>,
    rules: Arc<Rules>,
}

impl DocumentPolicy for TokenPolicy {
    fn access(&self, document: &str, origin: Option<&str>) -> Result<Access, Close> {
        let request = Request {
            origin,
            document: Some(document),
            region: Some(&self.rules.region),
            known_db_codes: &self.rules.known_db_codes,
        };
        match authorize(&self.claims, &request) {
            Ok(pinwire_token::Access::ReadWrite) => Ok(Access::ReadWrite),
            Ok(pinwire_token::Access::ReadOnly) => Ok(Access::ReadOnly),
            Err(forbidden) => Err(Close::with_reason(CloseCode::Forbidden, forbidden.reason())),
        }
    }
}
