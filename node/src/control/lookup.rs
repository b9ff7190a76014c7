//! Looking things up in registries, for HTTP and for operators: over links of their own, so many at once and each for so long,
//! so that no flood of questions comes between a node and its lease.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pinwire_registry::{Answer, Registry, Request};
use tokio::sync::Semaphore;

use super::OutOfReach;
use crate::cluster::ClusterStats;

/// How long an answer may take, with the wait for a place.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way.
const AT_ONCE: usize = 128;

/// Opens links, one for each license region, in the order of their numbers. Called on the runtime that uses them.
pub type Open = Box<dyn Fn() -> Vec<Arc<dyn Registry>> + Send + Sync>;

/// See the module's documentation. For one thread: links are opened by its first question.
pub struct Lookup {
    open: Open,
    links: OnceLock<Vec<Arc<dyn Registry>>>,
    places: Semaphore,
    patience: Duration,
    stats: Arc<ClusterStats>,
}

impl Lookup {
    /// Over links that `open` makes.
    pub fn new(open: Open, stats: Arc<ClusterStats>) -> Self {
        Self { open, links: OnceLock::new(), places: Semaphore::new(AT_ONCE), patience: PATIENCE, stats }
    }

    /// Asks a license region's registry.
    ///
    /// # Errors
    /// It does not answer in time, too many questions wait, or there is no such license region.
    pub async fn ask(&self, license: u8, request: Request) -> Result<Answer, OutOfReach> {
        let links = self.links.get_or_init(&self.open);
        let link = links.get(usize::from(license)).ok_or(OutOfReach)?;
        let began = Instant::now();
        let asked = async {
            // The semaphore is never closed.
            let _place = self.places.acquire().await;
            link.ask(request).await
        };
        let answer = tokio::time::timeout(self.patience, asked).await;
        let answer = answer.ok().and_then(Result::ok);
        self.stats.looked_up(began.elapsed(), answer.is_some());
        answer.ok_or(OutOfReach)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("is_open", &self.links.get().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use pinwire_registry::{Answering, AppName, Embedded};

    use super::*;

    /// Answers the first questions, and no other.
    #[derive(Debug)]
    struct Slow(Semaphore, Embedded);

    impl Registry for Slow {
        fn ask(&self, request: Request) -> Answering {
            match self.0.try_acquire() {
                Ok(place) => {
                    place.forget();
                    self.1.ask(request)
                }
                Err(_) => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_does_not_answer_is_waited_for_so_long_however_many_ask() {
        let open = || -> Vec<Arc<dyn Registry>> { vec![Arc::new(Slow(Semaphore::new(1), Embedded::new(1)))] };
        let stats = Arc::new(ClusterStats::default());
        let lookup = Arc::new(Lookup::new(Box::new(open), Arc::clone(&stats)));
        let usage = || Request::Usage { app: AppName("t::a".into()) };
        assert!(lookup.ask(0, usage()).await.is_ok());
        assert_eq!(lookup.ask(1, usage()).await, Err(OutOfReach), "there is no such license region");
        let began = tokio::time::Instant::now();
        let asked: Vec<_> = (0..1000)
            .map(|_| {
                let lookup = Arc::clone(&lookup);
                tokio::spawn(async move { lookup.ask(0, Request::Nodes).await })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Err(OutOfReach));
        }
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
        assert_eq!(stats.lookups(), (1, 1000));
    }
}
