//! Keys by URL for tools: one request each, beside what the cache has.

use std::io;
use std::time::Duration;

use pinwire_token::Key;
use tokio::task::JoinSet;

use super::client::{Answer, Client};
use super::{JwksSources, load_cache, shown};

/// What a URL gave.
#[derive(Debug)]
pub struct Tried {
    /// The URL, without what may be a secret.
    pub url: String,
    /// Its keys and what was left out of them, or why there are none.
    pub fetched: Result<(Vec<Key>, Vec<String>), String>,
    /// What the cache has, and how old that is.
    pub cached: Option<(Vec<Key>, Duration)>,
}

/// Asks every URL once, all at the same time.
///
/// # Errors
/// The system gives no poller.
pub fn fetch_once(sources: &JwksSources, now_unix: u64) -> io::Result<Vec<Tried>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tried = runtime.block_on(fetch_all(sources, now_unix));
    // A name that is being looked up would be waited for.
    runtime.shutdown_background();
    Ok(tried)
}

async fn fetch_all(sources: &JwksSources, now_unix: u64) -> Vec<Tried> {
    let client = Client::new(sources).map(std::sync::Arc::new).map_err(|error| error.to_string());
    let mut requests = JoinSet::new();
    for (at, url) in sources.urls.iter().cloned().enumerate() {
        let client = client.clone();
        requests.spawn(async move {
            let answer = match client {
                Ok(client) => client.fetch(&url, None).await,
                Err(why) => Err(why),
            };
            (at, url, answer)
        });
    }
    let mut tried = Vec::new();
    while let Some(joined) = requests.join_next().await {
        let Ok((at, url, answer)) = joined else { continue };
        let fetched = match answer {
            Ok(Answer::Set(set)) => {
                Ok((set.jwks.keys, set.jwks.skipped.iter().map(ToString::to_string).collect()))
            }
            Ok(Answer::Unchanged { .. }) => Err("answered 304 to a request without a tag".to_owned()),
            Err(why) => Err(why),
        };
        let cached = sources.cache.as_ref().and_then(|file| load_cache(file, &url, now_unix));
        tried.push((at, Tried { url: shown(&url), fetched, cached }));
    }
    tried.sort_by_key(|(at, _)| *at);
    tried.into_iter().map(|(_, tried)| tried).collect()
}
