//! A thread with several rings: connections go where there is room, and find each other from anywhere.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Receiver;

use crate::rig::{DataThread, Rig, Seen, accepted, config, echo, next, queue, received};
use pinwire_engine::{Config, DriverInUse, Pressure, Slot};

/// Three rings of two slots.
fn small() -> Config {
    Config { slots_max: 6, rings: 3, ring_slots_max: 2, ..config(Rig::Rings) }
}

/// Epoll, where io_uring is not allowed, has no rings: there is nothing to test then but that it says so.
fn has_rings(server: &DataThread) -> bool {
    server.call(|engine| {
        let rings = engine.rings();
        assert_eq!(rings > 0, engine.driver() == DriverInUse::Uring);
        rings == 3
    })
}

fn arrived(events: &Receiver<Seen>) -> Slot {
    match next(events) {
        Seen::Arrived(slot, _) => slot,
        other => panic!("expected an arrival, got {other:?}"),
    }
}

#[test]
fn rings_are_filled_one_after_the_other_and_holes_are_taken_again() {
    let (server, events) = DataThread::observed(small());
    if !has_rings(&server) {
        return;
    }
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut slots = Vec::new();
    for number in 0..6 {
        clients.push(server.connect());
        slots.push(accepted(&events));
        assert_eq!(slots[number].index() / 2, number / 2, "the first ring with room takes it");
    }
    let mut waiting = server.connect();
    assert!(matches!(next(&events), Seen::Pressure(Pressure::Slots)));
    waiting.write_all(b"patient").unwrap();

    let middle = slots[3];
    server.call(move |engine| engine.close(middle));
    let taken = accepted(&events);
    assert_eq!(taken.index(), middle.index());
    assert_eq!(received(&events, taken, 7), b"patient");
    assert_eq!(server.call(|engine| engine.door().free_slots()), 0);

    let all = slots.clone();
    server.call(move |engine| all.iter().chain([&taken]).for_each(|slot| engine.close(*slot)));
    while server.call(|engine| engine.connections()) > 0 {}
    assert_eq!(server.call(|engine| engine.door().free_slots()), 6);
}

#[test]
fn connections_move_into_whichever_ring_has_room() {
    let (target, arrivals) = DataThread::observed(small());
    let (source, events) = DataThread::observed(small());
    if !has_rings(&target) {
        return;
    }
    let door = target.call(|engine| engine.door());
    let mut clients = Vec::new();
    let mut places = BTreeSet::new();
    for token in 0..6u64 {
        let mut client = source.connect();
        let slot = accepted(&events);
        let door = door.clone();
        source.call(move |engine| engine.send_to(slot, &door, token));
        let moved = arrived(&arrivals);
        assert!(matches!(next(&events), Seen::Departed(_, departed) if departed == token));
        client.write_all(&[token as u8]).unwrap();
        assert_eq!(received(&arrivals, moved, 1), [token as u8]);
        places.insert(moved.index());
        clients.push((client, moved));
    }
    assert_eq!(places, (0..6).collect());

    let _unmoved = source.connect();
    let slot = accepted(&events);
    source.call(move |engine| engine.send_to(slot, &door, 6));
    assert!(matches!(next(&events), Seen::MoveFailed(_, 6)), "the target is full");

    for (mut client, slot) in clients {
        target.call(move |engine| {
            queue(engine, slot, b"bye");
            engine.close(slot);
        });
        let mut said = Vec::new();
        client.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"bye");
    }
}

#[test]
fn a_thread_makes_no_more_rings_than_its_slots_need() {
    let server = DataThread::start(Config { slots_max: 3, ..small() }, echo);
    server.call(|engine| {
        if engine.driver() == DriverInUse::Uring {
            assert_eq!((engine.rings(), engine.slots_max()), (2, 3));
        }
    });
    let few = DataThread::start(Config { rings: 1, ..small() }, echo);
    few.call(|engine| {
        if engine.driver() == DriverInUse::Uring {
            assert_eq!((engine.rings(), engine.slots_max()), (1, 2), "one ring holds two");
        }
    });
}
