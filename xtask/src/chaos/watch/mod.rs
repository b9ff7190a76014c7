//! Every node is asked some times a second, for as long as a scenario lasts, for all pins and for the documents that it serves. What has
//! to hold of the answers is in `seen`.

mod seen;

use super::http::Http;
use crate::cluster::{Cluster, Node, nap};
use anyhow::Result;
use seen::Seen;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How often each node is asked.
    pub(super) every: Duration,
    /// For so long a claim may be another than the highest that was seen, if the registry may forget.
    pub(super) heals_within: Option<Duration>,
}

/// Threads that ask, two a node: one that is stopped, or has no answer of its registry, answers late and holds up no other.
pub(super) struct Watch {
    rules: Rules,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    has_ended: AtomicBool,
    seen: Mutex<Seen>,
}

impl Shared {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Begins to ask all nodes of a cluster.
    pub(super) fn start(cluster: &Cluster, rules: Rules) -> Result<Self> {
        let mut watch = Self { rules, shared: Arc::default(), threads: Vec::new() };
        for node in &cluster.nodes {
            watch.follow(node, "pins", move |seen, pins, asked| seen.note_pins(pins, asked, rules))?;
            let (name, region) = (node.name.clone(), node.region.clone());
            watch.follow(node, "documents", move |seen, documents, asked| {
                seen.note_documents(&name, &region, documents, asked, rules);
            })?;
        }
        Ok(watch)
    }

    /// Asks a node for a list again and again, and notes each with when it was asked for.
    fn follow(
        &mut self,
        node: &Node,
        list: &'static str,
        note: impl Fn(&mut Seen, &[Value], Instant) + Send + 'static,
    ) -> Result<()> {
        let (host, token) = (node.admin(), node.shared.admin_token.clone());
        let (shared, every) = (Arc::clone(&self.shared), self.rules.every);
        let ask = move || {
            while !shared.has_ended() {
                let asked = Instant::now();
                // A node that is killed, stopped or cut off, or whose registry is away, has no answer.
                if let Ok(items) = all(&host, &token, list) {
                    note(&mut shared.seen.lock().unwrap_or_else(PoisonError::into_inner), &items, asked);
                }
                while asked.elapsed() < every && !shared.has_ended() {
                    nap();
                }
            }
        };
        self.threads.push(std::thread::Builder::new().name("watch".to_owned()).spawn(ask)?);
        Ok(())
    }

    /// Ends it; what was seen.
    pub(super) fn end(self) -> Seen {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // One that panicked has told why.
            let _ = thread.join();
        }
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All pins, as a node tells them.
pub(super) fn pins(host: &str, token: &str) -> Result<Vec<Value>> {
    all(host, token, "pins")
}

/// All pages of a list.
fn all(host: &str, token: &str, list: &str) -> Result<Vec<Value>> {
    let mut http = Http::connect(host, Some(token))?;
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http.json(&format!("/v1/{list}?limit=500{cursor}"))?;
        items.extend(page[list].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(items),
        }
    }
}
