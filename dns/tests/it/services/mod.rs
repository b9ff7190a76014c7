//! Route 53 and Cloudflare, played by the test: requests are checked, and the records are kept by the services' rules.

mod cloudflare;
mod route53;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Values by type; with it, what somebody else does right before the next change.
#[derive(Default)]
struct Zone {
    sets: BTreeMap<String, Vec<String>>,
    meanwhile: Option<(String, Vec<String>)>,
    /// Values that somebody gave a TTL of a day; at Route 53 that is one of their whole set.
    slow: BTreeSet<String>,
    refusal: Option<(u16, String)>,
    more: String,
}

type Shared = Arc<Mutex<Zone>>;
