//! `wait` returns at its deadline, however near that is.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pinwire_engine::{Config, Driver, Engine};

/// Generous: the waits add up to half a second.
const PATIENCE: Duration = Duration::from_secs(30);

fn waits_return(driver: Driver) {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let config = Config { driver, ..Config::default() };
        let waits = pinwire_engine::run(config, async |mut engine: Engine| {
            // Such that the timer fires while it is being submitted, now and then.
            for round in 0..20_000_u64 {
                let deadline = Instant::now() + Duration::from_nanos(round % 500 * 100);
                while Instant::now() < deadline {
                    engine.wait(Some(deadline)).await;
                    engine.poll();
                }
            }
        });
        let _ = done.send(waits.is_ok());
    });
    assert_eq!(is_done.recv_timeout(PATIENCE), Ok(true), "a wait did not return at its deadline");
}

#[test]
fn a_deadline_that_comes_while_its_timer_is_armed_ends_the_wait_on_io_uring() {
    waits_return(Driver::Uring);
}

#[test]
fn a_deadline_that_comes_while_its_timer_is_armed_ends_the_wait_on_epoll() {
    waits_return(Driver::Epoll);
}
