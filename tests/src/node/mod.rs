//! Nodes as processes of their own, and raw clients over real sockets.
//!
//! A [`TestNode`] is a child process that runs `pinwire_node::Node`, so that its memory and descriptors can be measured and its
//! end observed. A [`TestClient`] says exactly the bytes it is told to say, whether they make sense or not.

mod admin;
mod child;
mod client;
mod http;
mod options;
mod token;
mod yjs;

pub use admin::{ADMIN_TOKEN, AdminClient, AdminStream};
pub use child::{Bystanders, Measure, TestNode, beside_others, run_child};
pub use client::{Received, TestClient};
pub use http::{Answer, get, upgrade_request};
pub use options::{Driver, Fsync, Options, Store};
pub use token::{SECRET, claims, forge, token, token_with};
pub use yjs::{
    Covered, announcement, append, deletion, edit, hocuspocus, step1, update_of, ywebsocket_update,
};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` for both drivers with one and two data threads, side by side; a failure names its variant.
///
/// # Panics
/// `test` panicked for one of them.
pub fn on_every_engine(test: impl Fn(Options) + Sync) {
    on_engines(&[(Driver::Uring, 1), (Driver::Uring, 2), (Driver::Epoll, 1), (Driver::Epoll, 2)], test);
}

/// As [`on_every_engine`], with one data thread: for what does not depend on their number.
///
/// # Panics
/// `test` panicked for one of them.
pub fn on_both_drivers(test: impl Fn(Options) + Sync) {
    on_engines(&[(Driver::Uring, 1), (Driver::Epoll, 1)], test);
}

/// As [`on_every_engine`], with two data threads: for what happens between them.
///
/// # Panics
/// `test` panicked for one of them.
pub fn on_two_threads(test: impl Fn(Options) + Sync) {
    on_engines(&[(Driver::Uring, 2), (Driver::Epoll, 2)], test);
}

fn on_engines(engines: &[(Driver, usize)], test: impl Fn(Options) + Sync) {
    std::thread::scope(|scope| {
        let runs: Vec<_> = engines
            .iter()
            .map(|&(driver, threads)| {
                let test = &test;
                let options = Options { driver, threads, ..Options::default() };
                let run = scope.spawn(move || catch_unwind(AssertUnwindSafe(|| test(options))));
                (driver, threads, run)
            })
            .collect();
        let mut failure = None;
        for (driver, threads, run) in runs {
            if let Err(panic) = run.join().expect("caught inside") {
                eprintln!("failed with {driver:?} and {threads} threads");
                failure = Some(panic);
            }
        }
        if let Some(panic) = failure {
            resume_unwind(panic);
        }
    });
}

/// Waits until `is_so`, looking again and again.
///
/// # Panics
/// It is not within [`PATIENCE`].
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        pause(10);
    }
}

/// Between two looks at something that cannot be awaited, or two drips of a client that is slow on purpose.
#[expect(clippy::disallowed_methods, reason = "the kernel's tables tell nobody of a change")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
