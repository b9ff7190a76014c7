//! Many questions to nodes at once: each connection asks again as soon as it is answered.

use super::http::Http;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Runs until [`Flood::end`].
pub(super) struct Flood {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Asked>>,
}

/// What became of questions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// With 200.
    pub(super) answered: u64,
    /// With 503 or 429.
    pub(super) put_off: u64,
    /// With something else, or nothing.
    pub(super) failed: u64,
    pub(super) longest: Duration,
}

impl Flood {
    /// So many connections to each node, `host:port`.
    pub(super) fn start(nodes: &[String], connections: usize, token: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = nodes.iter().flat_map(|node| std::iter::repeat_n(node, connections)).enumerate();
        let threads = threads.map(|(number, node)| {
            let (is_over, node, token) = (Arc::clone(&is_over), node.clone(), token.to_owned());
            thread::spawn(move || ask(&node, &token, number, &is_over))
        });
        Self { threads: threads.collect(), is_over }
    }

    /// Ends it.
    pub(super) fn end(self) -> Asked {
        self.is_over.store(true, Ordering::Release);
        let mut all = Asked::default();
        for thread in self.threads {
            // A thread that panicked answers nothing.
            let asked = thread.join().unwrap_or(Asked { failed: 1, ..Asked::default() });
            all.answered += asked.answered;
            all.put_off += asked.put_off;
            all.failed += asked.failed;
            all.longest = all.longest.max(asked.longest);
        }
        all
    }
}

fn ask(node: &str, token: &str, number: usize, is_over: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    let mut connection = None;
    let mut turn = 0_u64;
    while !is_over.load(Ordering::Acquire) {
        turn += 1;
        let began = Instant::now();
        let answer = match connection.take().map_or_else(|| Http::connect(node, Some(token)), Ok) {
            Ok(mut http) => {
                let answer = http.get(&format!("/discovery?documentName=flood-{number}-{turn}"));
                connection = Some(http);
                answer
            }
            Err(error) => Err(error),
        };
        asked.longest = asked.longest.max(began.elapsed());
        match answer {
            Ok((200, _)) => asked.answered += 1,
            Ok((503 | 429, _)) => asked.put_off += 1,
            Ok(_) => asked.failed += 1,
            Err(_) => {
                asked.failed += 1;
                connection = None;
            }
        }
    }
    asked
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered, {} put off, {} failed, the longest after {:.1} s",
            self.answered,
            self.put_off,
            self.failed,
            self.longest.as_secs_f64()
        )
    }
}
