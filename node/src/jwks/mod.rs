//! Keys by URL: sets of public keys (JWKS) that identity providers publish, fetched by a thread of its own and cached.
//!
//! | module | concern |
//! | --- | --- |
//! | `address` | which URLs may be fetched |
//! | `client` | one request: TLS, redirects, deadline, size |
//! | `schedule` | when the next round of requests is due |
//! | `sets` | what each URL answered last, and what changed |
//! | `cache` | the same in a file, across restarts |
//! | `refetch` | how tokens with an unknown key ask for a round, and learn how it ended |
//! | `numbers` | what metrics tell |
//! | `once` | one request to each URL, for tools |
//! | `thread` | the thread that joins them |
//!
//! A round asks every URL at once. Data threads never wait for one: a token whose key is unknown is put aside.

mod address;
mod cache;
mod client;
mod numbers;
mod once;
mod refetch;
mod schedule;
mod sets;
mod thread;

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use rustls::pki_types::CertificateDer;

pub use address::{check_url, shown};
pub(crate) use numbers::{Numbers, Snapshot};
pub use once::{Tried, fetch_once};
pub(crate) use refetch::{Outcome, Refetch, Waiting};
pub(crate) use sets::{describe, load_cache, merge};
pub(crate) use thread::{Fetching, Shared, start};

/// Where keys are fetched, and how.
#[derive(Debug, Clone)]
pub struct JwksSources {
    /// None: nothing is fetched.
    pub urls: Vec<Uri>,
    /// Whether hosts other than this one may be asked without TLS.
    pub allow_http: bool,
    /// Certificates of authorities that are trusted beside those of the system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Where the last good sets are kept across restarts.
    pub cache: Option<PathBuf>,
    /// The longest time between two rounds.
    pub refresh: Duration,
    /// The shortest.
    pub min_interval: Duration,
    /// For one request, with all that it is redirected to.
    pub deadline: Duration,
}

impl Default for JwksSources {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            allow_http: false,
            authorities: Vec::new(),
            cache: None,
            refresh: Duration::from_secs(600),
            min_interval: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
        }
    }
}
