//! Verdicts on tokens, given on the data thread itself: two microseconds for a shared secret, tens for a signature.
//!
//! Signatures are bounded per turn, so that a herd that comes back does not hold up the connections that are there; what is
//! over the bound waits for the next turn, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_registry::AppName;
use pinwire_shard::{Access, App, AppLimits, ConnRef, Grant, Policy as DocumentPolicy, Verdict};
use pinwire_token::{Claims, Forbidden, Rejection, Request, Verdicts, authorize, is_costly, read_unverified};

use super::awaiting::{AwaitingKeys, AwaitingRecords, Before, Decision};
use crate::apps::{Apps, Elsewhere, Found, Record, Records};
use crate::config::Cluster;
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
    pub(crate) cluster: Cluster,
    pub(crate) apps: Arc<Apps>,
    pub(crate) records: Arc<Records>,
}

/// The judge of one data thread.
#[derive(Debug)]
pub(crate) struct Authority {
    rules: Arc<Rules>,
    /// What the remembered verdicts were given by.
    trust: Arc<Trust>,
    verdicts: Verdicts,
    /// Those given by keys of apps' records, and what these were.
    record_verdicts: Verdicts,
    record_changes: u64,
    times: Histogram,
    costly_per_turn: u32,
    costly_left: u32,
    /// With what each waits for if its key is unknown, once that was so.
    waiting: VecDeque<(Asked, Box<str>, Before)>,
    awaiting_keys: AwaitingKeys,
    awaiting_records: AwaitingRecords,
    /// A round of requests for keys, or a question for a record, ended in this turn.
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
            record_verdicts: Verdicts::new(capacity, seed),
            record_changes: 0,
            times: Histogram::default(),
            costly_per_turn: costly_per_turn.max(1),
            costly_left: costly_per_turn.max(1),
            waiting: VecDeque::new(),
            awaiting_keys: AwaitingKeys::default(),
            awaiting_records: AwaitingRecords::default(),
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
                self.record_verdicts.clear();
            }
            self.trust = Arc::clone(&trust);
        }
        let ready = self.awaiting_keys.take_ready(self.rules.live.refetch(), has_changed, now);
        self.waiting
            .extend(ready.into_iter().map(|(asked, token, waiting)| (asked, token, Before::Keys(waiting))));
        let changes = self.rules.records.changes();
        if changes != self.record_changes {
            self.record_changes = changes;
            self.record_verdicts.clear();
        }
        self.waiting.extend(self.awaiting_records.take_ready(self.rules.records.settled(), now));
    }

    /// Keys were fetched, or could not be, or a record was, perhaps after this turn began: another one follows.
    pub(crate) fn keys_came(&mut self) {
        self.is_told = true;
    }

    /// When a token that waits for its key has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.awaiting_keys.deadline(), self.awaiting_records.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Judges now, or keeps the token for [`Self::next_waiting`].
    pub(crate) fn judge(
        &mut self,
        asked: Asked,
        token: Box<str>,
        now_unix: u64,
        refusals: &mut Refusals,
    ) -> Option<Verdict> {
        if is_costly(&token) && !self.remembers(&token, now_unix) {
            if self.costly_left == 0 {
                self.waiting.push_back((asked, token, Before::Nothing));
                return None;
            }
            self.costly_left -= 1;
        }
        self.verify(asked, &token, Before::Nothing, now_unix, refusals)
    }

    fn remembers(&mut self, token: &str, now_unix: u64) -> bool {
        self.verdicts.get(token, now_unix).is_some() || self.record_verdicts.get(token, now_unix).is_some()
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
        // It is asked whenever the other one refuses, so its moments are others.
        self.record_verdicts.clear();
    }

    /// How long judging took.
    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }

    /// Whether tokens wait for the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.is_told
    }

    /// `None` if the token waits for its key, or for its app's record; it is judged again then, and neither counted nor traced
    /// before.
    fn verify(
        &mut self,
        asked: Asked,
        token: &str,
        before: Before,
        now_unix: u64,
        refusals: &mut Refusals,
    ) -> Option<Verdict> {
        let start = Instant::now();
        let judged = self.judge_with_record(token, now_unix, start);
        let took = start.elapsed();
        self.times.note(took);
        let rejection = match judged {
            Judged::Good(claims, record) => {
                self.recorder.note(What::Token, || took, "");
                return Some(Ok(Arc::new(self.grant(claims, record))));
            }
            Judged::Waits if self.awaiting_records.put_aside(asked, token, before, start) => return None,
            Judged::Waits | Judged::Away => {
                self.recorder.note(What::Token, || took, "registry");
                return Some(Err(Close::try_again(retry_ms())));
            }
            Judged::Bad(rejection) => rejection,
        };
        let mut close = Close::new(CloseCode::InvalidToken, rejection.reason());
        if matches!(rejection, Rejection::UnknownKey { .. }) {
            let refetch = self.rules.live.refetch();
            match self.awaiting_keys.put_aside(refetch, asked, token, before.keys(), start) {
                Decision::Waits => return None,
                Decision::TryAgain => close = Close::try_again(retry_ms()),
                Decision::Refuse => {}
            }
        }
        refusals.token(&rejection);
        self.recorder.note(What::Token, || took, Refusals::word(&rejection));
        Some(Err(close))
    }

    /// By the keys that all know, else by those of its app's record; and what that record says.
    fn judge_with_record(&mut self, token: &str, now_unix: u64, now: Instant) -> Judged {
        let rejection = match self.verdicts.verify(&self.trust.keys, &self.trust.policy, token, now_unix) {
            Ok(claims) => {
                return match self.rules.record(&claims, now) {
                    Found::Known(record) => Judged::Good(claims, record),
                    Found::Asked => Judged::Waits,
                    Found::Away => Judged::Away,
                };
            }
            Err(rejection) => rejection,
        };
        if !may_be_of_a_record(&rejection) {
            return Judged::Bad(rejection);
        }
        // Nothing is granted by this: it names the record whose keys decide.
        let Ok(said) = read_unverified(token, &self.trust.policy) else { return Judged::Bad(rejection) };
        let record = match self.rules.record(&said, now) {
            Found::Known(Some(record)) if !record.keys.is_empty() => record,
            Found::Known(_) => return Judged::Bad(rejection),
            Found::Asked => return Judged::Waits,
            // Whoever makes tokens up is not told to come again while a registry is away.
            Found::Away => return Judged::Bad(rejection),
        };
        match self.record_verdicts.verify(&record.keys, &self.trust.policy, token, now_unix) {
            Ok(claims) => Judged::Good(claims, Some(record)),
            Err(Rejection::UnknownKey { .. }) => Judged::Bad(rejection),
            Err(other) => Judged::Bad(other),
        }
    }

    fn grant(&self, claims: Arc<Claims>, record: Option<Arc<Record>>) -> Grant {
        let defaults = self.trust.policy.default_limits;
        let recorded = record.as_ref().map_or(defaults, |record| record.limits.or(defaults));
        let limits = claims.own_limits.or(recorded);
        let (app, refusal) = self.rules.app(&claims);
        Grant {
            app,
            limits: AppLimits {
                max_connections: limits.max_connections,
                max_documents: limits.max_documents,
                max_users_per_document: limits.max_users_per_doc,
                operations_per_minute: limits.ops_per_minute,
            },
            subject: claims.subject.clone().unwrap_or_default(),
            regions: claims.regions.as_deref().map(Arc::from),
            expires: Some(claims.expires_at.saturating_add(self.trust.policy.leeway_secs)),
            policy: Box::new(TokenPolicy { claims, record, refusal, rules: Arc::clone(&self.rules) }),
        }
    }
}

/// What came of a token.
enum Judged {
    Good(Arc<Claims>, Option<Arc<Record>>),
    Bad(Rejection),
    /// The record of its app has been asked for.
    Waits,
    /// It cannot be had now.
    Away,
}

/// Whether a token that was refused so may have been signed with a key of its app's record.
pub(crate) fn may_be_of_a_record(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::UnknownKey { .. } | Rejection::Signature | Rejection::Algorithm)
}

impl Rules {
    /// The record of a token's app. Where the app has no license region there is none: its documents are refused anyway.
    fn record(&self, claims: &Claims, now: Instant) -> Found {
        match self.cluster.license(claims.db_code.as_deref()) {
            Some(license) => self.records.find(license, &app_name(claims), now),
            None => Found::Known(None),
        }
    }

    /// A token's app, and why none of its documents can be opened, if that is so.
    fn app(&self, claims: &Claims) -> (Arc<App>, Option<Forbidden>) {
        let code = claims.db_code.as_deref();
        let Some(license) = self.cluster.license(code) else {
            // One that is unknown is told with its name, by what is known.
            let refusal = code.is_none().then_some(Forbidden::NoDbCode);
            return (Arc::new(App::new(&claims.tenant, &claims.app)), refusal);
        };
        match self.apps.enter(&claims.tenant, &claims.app, code, license) {
            Ok(app) => (app, None),
            Err(Elsewhere { app, db_code: known }) => {
                let named = code.unwrap_or_default().into();
                (app, Some(Forbidden::OtherDbCode { named, known }))
            }
        }
    }
}

/// A token's app, as registries name it.
pub(crate) fn app_name(claims: &Claims) -> AppName {
    AppName(format!("{}::{}", claims.tenant, claims.app).into())
}

#[derive(Debug)]
struct TokenPolicy {
    claims: Arc<Claims>,
    record: Option<Arc<Record>>,
    /// Why no document can be opened.
    refusal: Option<Forbidden>,
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
        let is_allowed = self.record.as_ref().is_none_or(|record| record.allows(&self.rules.region));
        let judged = match (authorize(&self.claims, &request), &self.refusal) {
            (Ok(_), Some(refusal)) => Err(refusal.clone()),
            (Ok(_), None) if !is_allowed => Err(Forbidden::AppRegion),
            (judged, _) => judged,
        };
        match judged {
            Ok(pinwire_token::Access::ReadWrite) => Ok(Access::ReadWrite),
            Ok(pinwire_token::Access::ReadOnly) => Ok(Access::ReadOnly),
            Err(forbidden) => Err(Close::with_reason(CloseCode::Forbidden, forbidden.reason())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use futures_util::FutureExt;
    use pinwire_registry::{Embedded, Registry, Request as Asking};
    use pinwire_token::mint::merge;
    use pinwire_token::{Key, KeySet, SigningKey, mint};
    use serde_json::{Value, json};

    use super::*;
    use crate::apps::{Lookups, start_lookups};
    use crate::config::{Config, License, RegistryKind};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const PUBLIC: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"of-the-app","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// RFC 8037, appendix A.1, as PKCS #8.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    const ASKED: Asked = Asked { conn: ConnRef { slot: 1, serial: 1 }, ticket: 1 };

    struct Court {
        authority: Authority,
        registry: Embedded,
        _lookups: Lookups,
    }

    /// A judge of `eu-central-1` whose license regions these are, the last of them with the registry.
    fn court(cluster: Cluster, codes: &[&str]) -> Court {
        let registry = Embedded::new(1);
        let (kept, count) = (registry.clone(), cluster.registries());
        let open = move || (0..count).map(|_| Arc::new(kept.clone()) as Arc<dyn Registry>).collect();
        let (records, lookups) = start_lookups(open).unwrap();
        let keys = KeySet::from_iter([Key::from_secret(SECRET).unwrap()]);
        let config = Config::dev("127.0.0.1:0".parse().unwrap(), 1, keys);
        let rules = Rules {
            live: Arc::new(Live::new(&config, Instant::now()).unwrap()),
            region: "eu-central-1".to_owned(),
            known_db_codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            cluster,
            apps: Arc::default(),
            records,
        };
        let authority = Authority::new(Arc::new(rules), 64, [7; 32], 8, Recorder::new(None, None));
        Court { authority, registry, _lookups: lookups }
    }

    impl Court {
        fn record(&self, version: u64, text: &str) -> u64 {
            let app = AppName("t::a".into());
            let put = Asking::PutApp { app, version, record: Some(text.into()) };
            match self.registry.ask(put).now_or_never().unwrap().unwrap() {
                pinwire_registry::Answer::App(now) => now.version,
                other => panic!("{other:?}"),
            }
        }

        /// What becomes of a token, and whether it waited for that.
        fn judge(&mut self, token: &str) -> (Verdict, bool) {
            let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let mut refusals = Refusals::default();
            self.authority.begin_turn(Instant::now());
            if let Some(verdict) = self.authority.judge(ASKED, token.into(), now_unix, &mut refusals) {
                return (verdict, false);
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                self.authority.begin_turn(Instant::now());
                if let Some((_, verdict)) = self.authority.next_waiting(now_unix, &mut refusals, |_| true) {
                    return (verdict, true);
                }
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
        }
    }

    fn claims(changes: Value) -> Value {
        let mut claims = json!({
            "aud": "pinwire", "scope": "pinwire", "tenantid": "t", "appId": "a", "exp": 9_999_999_999u64,
        });
        merge(&mut claims, changes);
        claims
    }

    fn token(changes: Value) -> String {
        mint(&SigningKey::from_secret(SECRET).unwrap(), &claims(changes)).unwrap()
    }

    #[test]
    fn the_first_token_of_an_app_waits_for_its_record_and_the_next_does_not() {
        let mut court = court(Cluster::alone(), &[]);
        court.record(0, r#"{"limits":{"maxConnections":7,"maxDocuments":8},"regions":["us-east-1"]}"#);
        let (verdict, waited) = court.judge(&token(json!({ "limits": { "maxDocuments": 3 } })));
        let grant = verdict.unwrap();
        assert!(waited);
        let limits = grant.limits;
        assert_eq!((limits.max_connections, limits.max_documents, limits.max_users_per_document), (7, 3, 50));
        let close = grant.policy.access("doc", None).unwrap_err();
        assert_eq!((close.code, close.reason()), (CloseCode::Forbidden, "region not allowed for the app"));
        let (verdict, waited) = court.judge(&token(json!({ "sub": "another" })));
        assert!(verdict.is_ok() && !waited);
        let (verdict, waited) = court.judge(&token(json!({ "appId": "b" })));
        let grant = verdict.unwrap();
        assert!(waited && grant.policy.access("doc", None).is_ok());
        assert_eq!(grant.limits.max_connections, 100, "by the configuration");
    }

    #[test]
    fn a_token_may_be_signed_with_a_key_of_its_apps_record_while_that_has_it() {
        let mut court = court(Cluster::alone(), &[]);
        let version = court.record(0, &format!(r#"{{"keys":[{PUBLIC}]}}"#));
        let key = SigningKey::from_private_pem(PRIVATE).unwrap().with_id("of-the-app");
        let sign = |changes: Value| mint(&key, &claims(changes)).unwrap();
        assert!(court.judge(&sign(json!({}))).0.is_ok());
        let refused = court.judge(&sign(json!({ "appId": "b" }))).0.unwrap_err();
        assert_eq!(refused.code, CloseCode::InvalidToken);
        let expired = court.judge(&sign(json!({ "exp": 1 }))).0.unwrap_err();
        assert_eq!(expired.reason(), "token expired");
        // As a renewal tells it.
        let version = court.record(version, "{}");
        let app = AppName("t::a".into());
        let said = pinwire_registry::AppRecord { version, record: Some("{}".into()) };
        court.authority.rules.records.learn(&app, &said, Instant::now());
        assert!(court.judge(&sign(json!({}))).0.is_err(), "withdrawn, and not remembered");
    }

    #[test]
    fn an_app_is_of_one_license_region_and_says_so_where_there_are_several() {
        let license = |code: &str| License { code: code.to_owned(), url: "redis://a".into() };
        let codes = ["aws-eu-west-1", "aws-us-east-1"];
        let registry = RegistryKind::Redis(codes.map(license).to_vec());
        let mut court = court(Cluster { registry, ..Cluster::alone() }, &codes);
        let mut judge = |code: Value| {
            let grant = court.judge(&token(json!({ "dbCode": code }))).0.unwrap();
            let access = grant.policy.access("doc", None);
            (grant.app.license(), access.map_err(|close| (close.code, close.reason().to_owned())))
        };
        let forbidden = |reason: &str| Err((CloseCode::Forbidden, reason.to_owned()));
        assert_eq!(judge(Value::Null).1, forbidden("the token names no license region (dbCode)"));
        assert_eq!(judge(json!("aws-mars-1")).1, forbidden("unknown dbCode: aws-mars-1"));
        assert_eq!(judge(json!("aws-us-east-1")), (1, Ok(Access::ReadWrite)));
        let told = "dbCode aws-eu-west-1: the app is of license region aws-us-east-1";
        assert_eq!(judge(json!("aws-eu-west-1")), (1, forbidden(told)));
    }
}
