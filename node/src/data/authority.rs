//! Verdicts on tokens, given on the data thread itself: two microseconds for a shared secret, tens for a signature.
//!
//! Signatures are bounded per turn, so that a herd that comes back does not hold up the connections that are there; what is
//! over the bound waits for the next turn, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{Access, AppLimits, ConnRef, Grant, Policy as DocumentPolicy, Verdict};
use pinwire_token::{Claims, Request, Verdicts, authorize, is_costly};

use crate::apps::Apps;
use crate::live::{Live, Trust};
use crate::metrics::{Histogram, Refusals};
use crate::traces::{Recorder, What};

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
    waiting: VecDeque<(Asked, Box<str>)>,
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
            recorder,
        }
    }

    /// Starts a turn: its share of costly checks is new, and so may be what tokens are judged by.
    pub(crate) fn begin_turn(&mut self) {
        self.costly_left = self.costly_per_turn;
        let trust = self.rules.live.trust();
        if !Arc::ptr_eq(&trust, &self.trust) {
            self.trust = Arc::clone(&trust);
            self.verdicts.clear();
        }
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
                self.waiting.push_back((asked, token));
                return None;
            }
            self.costly_left -= 1;
        }
        Some(self.verify(&token, now_unix, refusals))
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
        if self.costly_left == 0 {
            return None;
        }
        while self.waiting.front().is_some_and(|(asked, _)| !is_present(asked.conn)) {
            self.waiting.pop_front();
        }
        let (asked, token) = self.waiting.pop_front()?;
        self.costly_left -= 1;
        Some((asked, self.verify(&token, now_unix, refusals)))
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
        !self.waiting.is_empty()
    }

    fn verify(&mut self, token: &str, now_unix: u64, refusals: &mut Refusals) -> Verdict {
        let start = Instant::now();
        let verdict = self.verdicts.verify(&self.trust.keys, &self.trust.policy, token, now_unix);
        let took = start.elapsed();
        self.times.note(took);
        let error = verdict.as_ref().err().map_or("", |rejection| Refusals::word(rejection));
        self.recorder.note(What::Token, || took, error);
        match verdict {
            Ok(claims) => Ok(Arc::new(self.grant(claims))),
            Err(rejection) => {
                refusals.token(&rejection);
                Err(Close::new(CloseCode::InvalidToken, rejection.reason()))
            }
        }
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
            expires: Some(claims.expires_at),
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
