//! The check of keys by URL: each is asked once.

use std::time::Duration;

use super::{Finding, Outcome};
use crate::jwks::{JwksSources, Tried, fetch_once};

const CODE: &str = "jwks";

/// A finding for each URL.
#[must_use]
pub fn examine_jwks(sources: &JwksSources, now_unix: u64) -> Vec<Finding> {
    match fetch_once(sources, now_unix) {
        Ok(tried) => tried.iter().map(finding).collect(),
        Err(error) => vec![Finding {
            code: CODE,
            outcome: Outcome::Skip,
            found: format!("no URL can be asked: {error}"),
            mend: None,
        }],
    }
}

fn finding(tried: &Tried) -> Finding {
    let url = &tried.url;
    let (outcome, found, mend) = match (&tried.fetched, &tried.cached) {
        (Ok((keys, skipped)), _) if skipped.is_empty() => {
            (Outcome::Good, format!("{url} gives {} keys", keys.len()), None)
        }
        (Ok((keys, skipped)), _) => (
            Outcome::Warn,
            format!("{url} gives {} keys, and others that are not used: {}", keys.len(), skipped.join("; ")),
            Some(
                "tokens signed with those are refused; have them signed with RS256, ES256 or EdDSA"
                    .to_owned(),
            ),
        ),
        (Err(why), Some((keys, age))) => (
            Outcome::Warn,
            format!(
                "{url} cannot be fetched: {why}; the cache has {} keys, {} old",
                keys.len(),
                in_words(*age)
            ),
            Some("a node starts with these, and notices neither new keys nor withdrawn ones".to_owned()),
        ),
        (Err(why), None) => (
            Outcome::Fail,
            format!("{url} cannot be fetched: {why}"),
            Some(
                "`curl -v` from this host says more; a node starts, and takes no token with a key from there"
                    .to_owned(),
            ),
        ),
    };
    Finding { code: CODE, outcome, found, mend }
}

fn in_words(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
