//! `wait` returns at its deadline, however near that is, and when there is something to do, however late that came.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pinwire_engine::{Config, Driver, Engine, Event};

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

/// A connection stands before the wait begins, and arming the wait's timer is what brings its readiness in.
fn a_late_connection_is_accepted(driver: Driver) {
    const ROUNDS: u64 = 50;
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let config = Config { driver, ..Config::default() };
        let accepted = pinwire_engine::run(config, async |mut engine: Engine| {
            let listener = pinwire_engine::listener("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            engine.listen(listener).unwrap();
            let mut clients = Vec::new();
            let far = Instant::now() + 10 * PATIENCE;
            let mut accepted = 0;
            for round in 0..ROUNDS {
                engine.poll();
                engine.flush();
                clients.push(TcpStream::connect(address).unwrap());
                // Earlier each time, so that a timer is submitted.
                let deadline = far - Duration::from_millis(round);
                while accepted <= round {
                    engine.wait(Some(deadline)).await;
                    engine.poll();
                    while let Some(event) = engine.next_event() {
                        accepted += u64::from(matches!(event, Event::Accepted { .. }));
                    }
                }
            }
            accepted
        });
        let _ = done.send(accepted.ok());
    });
    assert_eq!(is_done.recv_timeout(PATIENCE), Ok(Some(ROUNDS)), "a wait slept over a connection");
}

#[test]
fn a_connection_that_comes_before_the_sleep_ends_it_on_io_uring() {
    a_late_connection_is_accepted(Driver::Uring);
}

#[test]
fn a_connection_that_comes_before_the_sleep_ends_it_on_epoll() {
    a_late_connection_is_accepted(Driver::Epoll);
}
