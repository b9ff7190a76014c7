//! A keeper over a provider: asks what the keeper says, at the times it says, and logs what it tells.

use crate::keeper::{Effect, Keeper, KeeperSettings, Member, State, Wanted};
use crate::provider::{Held, Provider};
use crate::{AskId, ProviderError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What a node wants, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// In or out.
    pub wanted: Wanted,
    /// In words, with numbers.
    pub cause: Arc<str>,
}

/// What a keeper is told, and what it shows. Only the latest of each counts, so nothing queues.
#[derive(Debug)]
pub struct Inputs {
    /// What the node wants. The keeper ends when its sender does.
    pub wish: watch::Receiver<Wish>,
    /// Who is in the pool; nothing while nobody can tell.
    pub pool: watch::Receiver<Option<Arc<[Member]>>>,
    /// How it stands.
    pub state: watch::Sender<Option<State>>,
}

enum Outcome {
    Read(AskId, Result<Held, ProviderError>),
    Change(AskId, Result<(), ProviderError>),
}

/// Keeps a node in its name, until the sender of its wishes is gone. Times in [`State`] count from now on.
pub async fn keep(settings: KeeperSettings, provider: Arc<dyn Provider>, mut inputs: Inputs, seed: u64) {
    let start = Instant::now();
    let now_us = || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut keeper = Keeper::new(settings, seed, now_us());
    let first = inputs.wish.borrow_and_update().clone();
    keeper.want(first.wanted, &first.cause);
    keeper.see_pool(inputs.pool.borrow_and_update().as_deref());
    let place = provider.place();
    // One at a time: the keeper never asks before it has an answer.
    let mut asking = None;
    let mut is_pool_there = true;
    loop {
        keeper.begin(now_us());
        while let Some(effect) = keeper.next_effect() {
            match effect {
                Effect::Read(ask) => asking = Some(carry_out(Arc::clone(&provider), ask, None)),
                Effect::Change(ask, change) => {
                    asking = Some(carry_out(Arc::clone(&provider), ask, Some(change)));
                }
                Effect::Tell(news) if news.is_warning() => tracing::warn!(place, "{news}"),
                Effect::Tell(news) => tracing::info!(place, "{news}"),
            }
        }
        let state = Some(keeper.state());
        inputs.state.send_if_modified(|shown| {
            let is_news = *shown != state;
            *shown = state;
            is_news
        });
        let deadline_us = keeper.next_deadline_us().min(now_us() + LONGEST_WAIT_US);
        tokio::select! {
            () = sleep_until(start + Duration::from_micros(deadline_us)) => {}
            changed = inputs.wish.changed() => {
                if changed.is_err() {
                    return;
                }
                let wish = inputs.wish.borrow_and_update().clone();
                keeper.begin(now_us());
                keeper.want(wish.wanted, &wish.cause);
            }
            changed = inputs.pool.changed(), if is_pool_there => {
                is_pool_there = changed.is_ok();
                keeper.begin(now_us());
                // Nobody tells any more: nobody can tell.
                let pool = inputs.pool.borrow_and_update().clone().filter(|_| is_pool_there);
                keeper.see_pool(pool.as_deref());
            }
            outcome = under_way(&mut asking) => {
                asking = None;
                keeper.begin(now_us());
                match outcome {
                    Outcome::Read(ask, read) => keeper.has_read(ask, read),
                    Outcome::Change(ask, changed) => keeper.has_changed(ask, changed),
                }
            }
        }
    }
}

/// The keeper forgets old nodes now and then.
const LONGEST_WAIT_US: u64 = 3_600 * 1_000_000;

type Asking = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;

fn carry_out(provider: Arc<dyn Provider>, ask: AskId, change: Option<crate::Change>) -> Asking {
    Box::pin(async move {
        match change {
            None => Outcome::Read(ask, provider.read().await),
            Some(change) => Outcome::Change(ask, provider.change(change).await),
        }
    })
}

/// Never, if nothing is.
async fn under_way(asking: &mut Option<Asking>) -> Outcome {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
