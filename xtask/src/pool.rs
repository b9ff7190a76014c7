//! Work that is done a few pieces at a time.

use crate::tally::Tally;
use anyhow::{Result, anyhow};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Does `work` on every job in this order, at most `workers` at a time, and sums what came out. After an error no job begins.
pub(crate) fn in_parallel<Job: Send>(
    jobs: impl IntoIterator<Item = Job>,
    workers: usize,
    work: impl Fn(Job) -> Result<Tally> + Sync,
) -> Result<Tally> {
    let waiting: Mutex<VecDeque<Job>> = Mutex::new(jobs.into_iter().collect());
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || lock().pop_front();
    let take_turns = || -> Result<Tally> {
        let mut tally = Tally::default();
        while let Some(job) = next() {
            tally += work(job).inspect_err(|_| lock().clear())?;
        }
        Ok(tally)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(take_turns)).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let mut tally = Tally::default();
        for outcome in ended {
            tally += outcome.map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(tally)
    })
}

/// One worker a core.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn jobs_are_done_side_by_side_and_summed() {
        let both = Barrier::new(2);
        let tally = in_parallel(0..4, 2, |job| {
            both.wait();
            Ok(Tally { passed: job, failed: 1 })
        });
        assert_eq!(tally.unwrap(), Tally { passed: 6, failed: 4 });
    }

    #[test]
    fn after_an_error_nothing_begins() {
        let begun = Mutex::new(0);
        let outcome = in_parallel(0..4, 1, |job| {
            *begun.lock().unwrap() += 1;
            if job == 1 { Err(anyhow!("no")) } else { Ok(Tally::default()) }
        });
        assert!(outcome.is_err());
        assert_eq!(*begun.lock().unwrap(), 2);
    }
}
