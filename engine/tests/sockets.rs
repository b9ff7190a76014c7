//! What the backends owe the owner of a thread: one suite, run on epoll, on a ring, and on many small rings.
#![allow(missing_docs, reason = "a test")]

#[path = "sockets/placement.rs"]
mod placement;
mod rig;
#[path = "sockets/transforms.rs"]
mod transforms;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pinwire_engine::{Cause, Config, Event, Pressure, ReadBuf, Refused, Segment};
use transforms::{
    a_close_says_the_end_behind_what_is_queued, a_transform_moves_with_its_connection,
    a_transform_sees_every_byte_once_in_both_directions, a_transform_that_refuses_ends_the_connection,
    costly_steps_are_taken_in_order_a_few_a_turn, what_is_queued_in_the_turn_of_the_end_is_sealed_before_it,
    what_waits_for_its_step_can_be_closed,
};

use rig::{DataThread, PATIENCE, Rig, Seen, accepted, config, echo, next, pattern, queue, received};

macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(super::Rig::Epoll); })*
        }
        mod uring {
            $(#[test] fn $name() { super::$name(super::Rig::Uring); })*
        }
        mod rings {
            $(#[test] fn $name() { super::$name(super::Rig::Rings); })*
        }
    };
}

on_every_backend!(
    an_echo_survives_any_split_of_reads_and_writes,
    a_thousand_connections_are_served_side_by_side,
    a_slow_reader_gets_every_byte_in_order_and_then_a_drained_event,
    shared_frames_wait_in_the_tail_by_reference,
    more_pieces_than_one_call_takes_leave_in_order,
    sends_above_the_slots_bound_are_refused_and_lose_nothing,
    a_tail_above_the_threads_bound_is_kept_and_told,
    closing_with_a_tail_pending_frees_the_slot,
    close_sends_fin_and_what_the_turn_queued,
    close_sends_fin_when_nothing_was_queued,
    abort_sends_rst,
    a_peer_that_finished_sending_still_gets_our_output,
    a_reset_by_the_peer_is_told_after_its_data,
    paused_slots_give_no_data_until_resumed,
    a_connection_moves_with_the_bytes_that_wait_in_its_socket,
    a_move_waits_for_the_tail,
    a_move_to_a_full_engine_fails_and_the_slot_stays_usable,
    a_move_to_an_ended_engine_fails_and_the_slot_stays_usable,
    a_detached_descriptor_works_outside,
    a_wake_from_another_thread_ends_the_wait,
    the_wait_ends_at_its_deadline,
    full_tables_take_connections_again_when_slots_are_freed,
    a_reused_slot_never_sees_its_predecessors_bytes,
    a_transform_moves_with_its_connection,
    a_close_says_the_end_behind_what_is_queued,
    costly_steps_are_taken_in_order_a_few_a_turn,
    what_waits_for_its_step_can_be_closed,
    what_is_queued_in_the_turn_of_the_end_is_sealed_before_it,
    a_transform_sees_every_byte_once_in_both_directions,
    a_transform_that_refuses_ends_the_connection,
    nothing_is_read_while_all_buffers_are_out,
    shutdown_write_sends_fin_after_the_tail,
    an_adopted_socket_is_served,
    an_idle_thread_does_not_turn,
    slots_and_their_pages_are_given_back,
    one_frame_reaches_more_connections_than_the_ring_has_entries,
    ending_the_engine_closes_its_connections,
    connections_move_between_backends,
    a_closed_listener_refuses_and_its_connections_live_on,
    other_listeners_take_the_place_of_closed_ones_and_their_numbers,
);

fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the stream ends with FIN");
    all
}

fn an_echo_survives_any_split_of_reads_and_writes(rig: Rig) {
    let server = DataThread::start(config(rig), echo);
    let client = server.connect();
    let sent = pattern(1_000_003);
    let mut writer = client.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        let mut rest = &bytes[..];
        for step in (1..).map(|n: usize| n * n % 9_973 + 1) {
            let (now, later) = rest.split_at(step.min(rest.len()));
            writer.write_all(now).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = vec![0; sent.len()];
    (&client).read_exact(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == sent);
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    assert_eq!(server.call(|engine| engine.late_completions()), 0);
}

fn a_thousand_connections_are_served_side_by_side(rig: Rig) {
    let server = DataThread::start(config(rig), echo);
    let clients: Vec<TcpStream> = (0..1_000).map(|_| server.connect()).collect();
    for round in 0..3u32 {
        for (number, mut client) in clients.iter().enumerate() {
            client.write_all(&(number as u32 ^ round).to_le_bytes()).unwrap();
        }
        for (number, mut client) in clients.iter().enumerate() {
            let mut answer = [0; 4];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_le_bytes(answer), number as u32 ^ round);
        }
    }
    assert_eq!(server.call(|engine| engine.connections()), 1_000);
    assert_eq!(server.call(|engine| engine.late_completions()), 0);
}

fn a_slow_reader_gets_every_byte_in_order_and_then_a_drained_event(rig: Rig) {
    let bytes = pattern(12 << 20);
    let expected = bytes.clone();
    let (drained, drains) = channel();
    let mut sent = 0;
    let server = DataThread::start(config(rig), move |engine, event| match event {
        Event::Data { slot, .. } => {
            while sent < bytes.len() {
                // Far more than a socket takes: most of it becomes the tail.
                let end = sent + (1 << 20);
                queue(engine, slot, &bytes[sent..end]);
                sent = end;
            }
        }
        Event::Drained { slot } => drained.send(engine.backlog(slot)).unwrap(),
        _ => {}
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == expected);
    assert_eq!(drains.recv_timeout(PATIENCE).unwrap(), 0);
    assert_eq!(server.call(|engine| engine.thread_backlog()), 0);
    assert_eq!(server.call(|engine| engine.late_completions()), 0);
}

fn shared_frames_wait_in_the_tail_by_reference(rig: Rig) {
    let expected = pattern(8 << 20);
    let frame: Arc<[u8]> = expected.as_slice().into();
    let kept = Arc::clone(&frame);
    let (held, counts) = channel();
    let server = DataThread::start(config(rig), move |engine, event| match event {
        Event::Data { slot, .. } => {
            queue(engine, slot, b"head");
            engine.send(slot, Segment::Shared(Arc::clone(&frame), 0..8 << 20)).unwrap();
            queue(engine, slot, b"tail");
        }
        Event::Drained { .. } => held.send(Arc::strong_count(&frame)).unwrap(),
        _ => {}
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    let mut head = [0; 4];
    client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"head");
    // The handler's, the test's, and the tail's: the frame itself waits, not a copy.
    assert_eq!(server.call(move |_| Arc::strong_count(&kept)), 3);
    let mut got = vec![0; expected.len() + 4];
    client.read_exact(&mut got).unwrap();
    assert!(got[..expected.len()] == expected[..]);
    assert_eq!(&got[expected.len()..], b"tail");
    assert_eq!(counts.recv_timeout(PATIENCE).unwrap(), 1);
}

fn more_pieces_than_one_call_takes_leave_in_order(rig: Rig) {
    let expected = pattern(3 * 5_000);
    let bytes = expected.clone();
    let server = DataThread::start(config(rig), move |engine, event| {
        if let Event::Data { slot, .. } = event {
            // A gap between the ranges keeps them from becoming one piece.
            for piece in bytes.chunks(3) {
                queue(engine, slot, piece);
                engine.arena().push(0xFF);
            }
            engine.close(slot);
        }
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    assert!(read_to_end(client) == expected);
}

fn sends_above_the_slots_bound_are_refused_and_lose_nothing(rig: Rig) {
    let bounded = Config { slot_out_max: 1 << 20, ..config(rig) };
    let expected = pattern(1 << 20);
    let bytes = expected.clone();
    let (refused, refusals) = channel();
    let server = DataThread::start(bounded, move |engine, event| {
        if let Event::Data { slot, .. } = event {
            queue(engine, slot, &bytes);
            engine.arena().push(0);
            refused.send(engine.send(slot, Segment::Arena(1 << 20..(1 << 20) + 1))).unwrap();
            refused.send(engine.send(slot, Segment::Arena(0..u32::MAX))).unwrap();
            engine.shutdown_write(slot);
            refused.send(engine.send(slot, Segment::Arena(0..1))).unwrap();
        }
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    assert!(read_to_end(client) == expected);
    assert_eq!(refusals.recv_timeout(PATIENCE).unwrap(), Err(Refused::SlotFull));
    assert_eq!(refusals.recv_timeout(PATIENCE).unwrap(), Err(Refused::OutOfRange));
    assert_eq!(refusals.recv_timeout(PATIENCE).unwrap(), Err(Refused::Ended));
}

fn a_tail_above_the_threads_bound_is_kept_and_told(rig: Rig) {
    let bounded = Config { thread_out_max: 1 << 20, ..config(rig) };
    let expected = pattern(32 << 20);
    let bytes = expected.clone();
    let (told, tells) = channel();
    let server = DataThread::start(bounded, move |engine, event| match event {
        Event::Data { slot, .. } => queue(engine, slot, &bytes),
        Event::Overflow { slot } => {
            engine.arena().push(0);
            told.send((engine.thread_backlog() > 1 << 20, engine.send(slot, Segment::Arena(0..1)))).unwrap();
            engine.shutdown_write(slot);
        }
        _ => {}
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), (true, Err(Refused::ThreadFull)));
    assert!(read_to_end(client) == expected);
}

fn closing_with_a_tail_pending_frees_the_slot(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let mut client = server.connect();
    let slot = accepted(&events);
    server.call(move |engine| queue(engine, slot, &pattern(32 << 20)));
    let mut first = [0; 4];
    client.read_exact(&mut first).unwrap();
    server.call(move |engine| {
        assert!(engine.is_blocked(slot));
        assert!(engine.thread_backlog() > 0);
        engine.close(slot);
    });
    while server.call(|engine| engine.connections()) > 0 {}
    assert_eq!(server.call(|engine| engine.thread_backlog()), 0);
    assert!(!server.call(move |engine| engine.is_blocked(slot)));
    let mut rest = Vec::new();
    // What the kernel had taken still arrives; then the stream ends.
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 32 << 20);
}

fn close_sends_fin_and_what_the_turn_queued(rig: Rig) {
    let server = DataThread::start(config(rig), move |engine, event| {
        if let Event::Data { slot, .. } = event {
            queue(engine, slot, b"goodbye");
            engine.close(slot);
        }
    });
    for _ in 0..50 {
        let mut client = server.connect();
        client.write_all(b"go").unwrap();
        assert_eq!(read_to_end(client), b"goodbye");
    }
}

fn close_sends_fin_when_nothing_was_queued(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    for _ in 0..50 {
        let client = server.connect();
        let slot = accepted(&events);
        server.call(move |engine| engine.close(slot));
        assert_eq!(read_to_end(client), b"");
    }
}

fn abort_sends_rst(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let mut client = server.connect();
    let slot = accepted(&events);
    server.call(move |engine| engine.abort(slot));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn a_peer_that_finished_sending_still_gets_our_output(rig: Rig) {
    let bytes = pattern(16 << 20);
    let expected = bytes.clone();
    let server = DataThread::start(config(rig), move |engine, event| match event {
        Event::Ended { slot, cause } => {
            assert_eq!(cause, Cause::Eof);
            queue(engine, slot, &bytes);
            engine.shutdown_write(slot);
        }
        Event::Drained { slot } => assert!(!engine.is_blocked(slot)),
        _ => {}
    });
    let client = server.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(client) == expected);
}

fn a_reset_by_the_peer_is_told_after_its_data(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let mut client = server.connect();
    let slot = accepted(&events);
    // Bytes the client leaves unread make its close a reset.
    server.call(move |engine| queue(engine, slot, b"never read"));
    client.peek(&mut [0]).unwrap();
    client.write_all(b"last words").unwrap();
    assert_eq!(received(&events, slot, 10), b"last words");
    drop(client);
    match next(&events) {
        Seen::Ended(ended, Cause::Reset) => assert_eq!(ended, slot),
        other => panic!("{other:?}"),
    }
    server.call(move |engine| {
        engine.arena().push(0);
        assert_eq!(engine.send(slot, Segment::Arena(0..1)), Err(Refused::Ended));
        engine.close(slot);
    });
}

fn paused_slots_give_no_data_until_resumed(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let mut first = server.connect();
    let slot = accepted(&events);
    server.call(move |engine| engine.pause_read(slot));
    first.write_all(b"held back").unwrap();
    let mut second = server.connect();
    let other = accepted(&events);
    second.write_all(b"not paused").unwrap();
    assert_eq!(received(&events, other, 10), b"not paused");
    server.call(move |engine| engine.resume_read(slot));
    assert_eq!(received(&events, slot, 9), b"held back");
}

fn a_connection_moves_with_the_bytes_that_wait_in_its_socket(rig: Rig) {
    let (target, arrivals) = DataThread::observed(config(rig));
    let (source, events) = DataThread::observed(config(rig));
    let door = target.call(|engine| engine.door());
    for round in 0..50u64 {
        let mut client = source.connect();
        let slot = accepted(&events);
        source.call(move |engine| engine.pause_read(slot));
        client.write_all(b"waiting in the socket").unwrap();
        let door = door.clone();
        source.call(move |engine| {
            queue(engine, slot, b"before the move,");
            engine.send_to(slot, &door, round);
        });
        match next(&events) {
            Seen::Departed(departed, token) => assert_eq!((departed, token), (slot, round)),
            other => panic!("{other:?}"),
        }
        let moved = match next(&arrivals) {
            Seen::Arrived(moved, token) if token == round => moved,
            other => panic!("{other:?}"),
        };
        assert_eq!(received(&arrivals, moved, 21), b"waiting in the socket");
        client.write_all(b"after").unwrap();
        assert_eq!(received(&arrivals, moved, 5), b"after");
        target.call(move |engine| {
            queue(engine, moved, b" after it");
            engine.close(moved);
        });
        assert_eq!(read_to_end(client), b"before the move, after it");
    }
    assert_eq!(source.call(|engine| engine.connections()), 0);
}

fn a_move_waits_for_the_tail(rig: Rig) {
    let (target, arrivals) = DataThread::observed(config(rig));
    let (source, events) = DataThread::observed(config(rig));
    let door = target.call(|engine| engine.door());
    let mut client = source.connect();
    let slot = accepted(&events);
    let bytes = pattern(16 << 20);
    let expected = bytes.clone();
    source.call(move |engine| {
        queue(engine, slot, &bytes);
        engine.send_to(slot, &door, 7);
    });
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == expected);
    assert!(matches!(next(&events), Seen::Drained(drained) if drained == slot));
    assert!(matches!(next(&events), Seen::Departed(_, 7)));
    assert!(matches!(next(&arrivals), Seen::Arrived(_, 7)));
}

fn a_move_to_a_full_engine_fails_and_the_slot_stays_usable(rig: Rig) {
    let (target, arrivals) = DataThread::observed(Config { slots_max: 1, ..config(rig) });
    let (source, events) = DataThread::observed(config(rig));
    let _occupant = target.connect();
    accepted(&arrivals);
    let door = target.call(|engine| engine.door());
    assert_eq!(door.free_slots(), 0);
    let mut client = source.connect();
    let slot = accepted(&events);
    client.write_all(b"one").unwrap();
    assert_eq!(received(&events, slot, 3), b"one");
    source.call(move |engine| engine.send_to(slot, &door, 1));
    match next(&events) {
        Seen::MoveFailed(failed, 1) => assert_eq!(failed, slot),
        other => panic!("{other:?}"),
    }
    client.write_all(b"two").unwrap();
    assert_eq!(received(&events, slot, 3), b"two");
    source.call(move |engine| {
        queue(engine, slot, b"still here");
        engine.close(slot);
    });
    assert_eq!(read_to_end(client), b"still here");
}

fn a_move_to_an_ended_engine_fails_and_the_slot_stays_usable(rig: Rig) {
    let (target, _) = DataThread::observed(config(rig));
    let door = target.call(|engine| engine.door());
    drop(target);
    let (source, events) = DataThread::observed(config(rig));
    let mut client = source.connect();
    let slot = accepted(&events);
    source.call(move |engine| engine.send_to(slot, &door, 3));
    assert!(matches!(next(&events), Seen::MoveFailed(_, 3)));
    client.write_all(b"still read").unwrap();
    assert_eq!(received(&events, slot, 10), b"still read");
}

fn a_detached_descriptor_works_outside(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let mut client = server.connect();
    let slot = accepted(&events);
    client.write_all(b"GET / ").unwrap();
    assert_eq!(received(&events, slot, 6), b"GET / ");
    server.call(move |engine| engine.detach(slot));
    let fd = match next(&events) {
        Seen::Detached(detached, fd) if detached == slot => fd,
        other => panic!("{other:?}"),
    };
    let mut outside = TcpStream::from(fd);
    outside.set_nonblocking(false).unwrap();
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"HTTP/1.1").unwrap();
    let mut rest = [0; 8];
    outside.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"HTTP/1.1");
    outside.write_all(b"200").unwrap();
    drop(outside);
    assert_eq!(read_to_end(client), b"200");
    assert_eq!(server.call(|engine| engine.connections()), 0);
}

fn a_wake_from_another_thread_ends_the_wait(rig: Rig) {
    let (server, _events) = DataThread::observed(config(rig));
    // Each call is one wake of a thread that sleeps, is about to, or is awake.
    for round in 0..2_000 {
        assert_eq!(server.call(move |_| round), round);
    }
}

fn the_wait_ends_at_its_deadline(rig: Rig) {
    let late = pinwire_engine::run(config(rig), async |mut engine| {
        let begun = Instant::now();
        // A later deadline first: the earlier one has to replace it.
        for delay in [40, 5, 20, 1] {
            let deadline = Instant::now() + Duration::from_millis(delay);
            while Instant::now() < deadline {
                engine.wait(Some(deadline)).await;
                engine.poll();
                engine.flush();
            }
        }
        let far = Instant::now() + Duration::from_secs(3_600);
        let waker = engine.waker();
        let waking = std::thread::spawn(move || waker.wake());
        engine.wait(Some(far)).await;
        waking.join().unwrap();
        let near = Instant::now() + Duration::from_millis(10);
        while Instant::now() < near {
            engine.wait(Some(near)).await;
            engine.poll();
        }
        begun.elapsed()
    })
    .unwrap();
    assert!(late < PATIENCE);
}

fn full_tables_take_connections_again_when_slots_are_freed(rig: Rig) {
    let (server, events) = DataThread::observed(Config { slots_max: 2, ..config(rig) });
    let _first = server.connect();
    let slot = accepted(&events);
    let _second = server.connect();
    accepted(&events);
    let mut third = server.connect();
    assert!(matches!(next(&events), Seen::Pressure(Pressure::Slots)));
    third.write_all(b"patient").unwrap();
    server.call(move |engine| engine.close(slot));
    let slot = accepted(&events);
    assert_eq!(received(&events, slot, 7), b"patient");
}

fn a_reused_slot_never_sees_its_predecessors_bytes(rig: Rig) {
    let (told, tells) = channel();
    let mut owners: Vec<Option<u8>> = vec![None; 8];
    let server =
        DataThread::start(Config { slots_max: 8, ..config(rig) }, move |engine, event| match event {
            Event::Accepted { slot, .. } => {
                assert!(owners[slot.index()].is_none(), "a taken slot was given out again");
                owners[slot.index()] = Some(0);
            }
            Event::Data { slot, buf } => {
                let owner = owners[slot.index()].expect("data only for open slots");
                let id = buf[0];
                assert!(buf.iter().all(|byte| *byte == id), "bytes of two connections in one buffer");
                assert!(owner == 0 || owner == id, "bytes of a predecessor");
                owners[slot.index()] = Some(id);
                // Closed with data in flight, most of the time by whoever comes first.
                if id % 3 == 0 {
                    owners[slot.index()] = None;
                    engine.close(slot);
                    told.send(()).unwrap();
                }
            }
            Event::Ended { slot, .. } => {
                assert!(owners[slot.index()].take().is_some(), "an event of a closed slot");
                engine.close(slot);
                told.send(()).unwrap();
            }
            _ => {}
        });
    for round in 0..600u32 {
        let mut client = server.connect();
        let id = (round % 250 + 1) as u8;
        for _ in 0..4 {
            // The other end may be closed already.
            if client.write_all(&[id; 3_000]).is_err() {
                break;
            }
        }
    }
    for _ in 0..600 {
        tells.recv_timeout(PATIENCE).unwrap();
    }
}

fn nothing_is_read_while_all_buffers_are_out(rig: Rig) {
    thread_local! {
        static KEPT: RefCell<Vec<ReadBuf>> = const { RefCell::new(Vec::new()) };
    }
    let (told, tells) = channel();
    let scarce = Config { read_buffers: 2, ..config(rig) };
    let server = DataThread::start(scarce, move |_, event| {
        if let Event::Data { buf, .. } = event {
            told.send(buf.len()).unwrap();
            KEPT.with_borrow_mut(|kept| kept.push(buf));
        }
    });
    let mut clients: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for _ in 0..5 {
        for _ in 0..2 {
            assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), 1);
        }
        assert!(tells.try_recv().is_err());
        assert_eq!(server.call(|_| KEPT.with_borrow_mut(|kept| kept.drain(..).count())), 2);
    }
}

fn shutdown_write_sends_fin_after_the_tail(rig: Rig) {
    let bytes = pattern(16 << 20);
    let expected = bytes.clone();
    let (told, tells) = channel();
    let server = DataThread::start(config(rig), move |engine, event| match event {
        Event::Data { slot, buf } if &buf[..] == b"go" => {
            queue(engine, slot, &bytes);
            engine.shutdown_write(slot);
        }
        Event::Data { buf, .. } => told.send(buf.to_vec()).unwrap(),
        _ => {}
    });
    let mut client = server.connect();
    client.write_all(b"go").unwrap();
    assert!(read_to_end(client.try_clone().unwrap()) == expected);
    client.write_all(b"and back").unwrap();
    assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), b"and back");
}

fn an_adopted_socket_is_served(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, peer) = listener.accept().unwrap();
    theirs.write_all(b"hello").unwrap();
    let slot = server.call(move |engine| engine.adopt(OwnedFd::from(ours), peer).unwrap());
    assert_eq!(received(&events, slot, 5), b"hello");
    server.call(move |engine| {
        queue(engine, slot, b"welcome");
        engine.close(slot);
    });
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_to_end(theirs), b"welcome");
}

fn an_idle_thread_does_not_turn(rig: Rig) {
    let turns = pinwire_engine::run(config(rig), async |mut engine| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        engine.listen(listener).unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let mut turns = 0;
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            engine.wait(Some(end)).await;
            engine.poll();
            while engine.next_event().is_some() {}
            engine.flush();
            turns += 1;
        }
        turns
    })
    .unwrap();
    // Accepting, arming and the timer take a few; a spinning loop takes hundreds of thousands.
    assert!(turns < 20, "{turns} turns without anything to do");
}

fn slots_and_their_pages_are_given_back(rig: Rig) {
    let server = DataThread::start(config(rig), echo);
    let clients: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for mut client in &clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert!(server.call(|engine| engine.slot_bytes()) > 0);
    drop(clients);
    while server.call(|engine| engine.connections()) > 0 {}
    assert_eq!(server.call(|engine| engine.slot_bytes()), 0);
    assert_eq!(server.call(|engine| engine.door().free_slots()), 4_096);
}

fn one_frame_reaches_more_connections_than_the_ring_has_entries(rig: Rig) {
    const MEMBERS: usize = 2_500;
    let (joined, joins) = channel();
    let mut members = Vec::new();
    let server = DataThread::start(config(rig), move |engine, event| match event {
        Event::Accepted { slot, .. } => {
            members.push(slot);
            joined.send(()).unwrap();
        }
        Event::Data { buf, .. } => {
            engine.arena().extend_from_slice(&buf);
            let end = engine.arena().len() as u32;
            for member in &members {
                engine.send(*member, Segment::Arena(end - buf.len() as u32..end)).unwrap();
            }
        }
        _ => {}
    });
    let clients: Vec<TcpStream> = (0..MEMBERS).map(|_| server.connect()).collect();
    for _ in 0..MEMBERS {
        joins.recv_timeout(PATIENCE).unwrap();
    }
    for round in 0..3u8 {
        (&clients[usize::from(round)]).write_all(&[round; 8]).unwrap();
        for mut client in &clients {
            let mut got = [0; 8];
            client.read_exact(&mut got).unwrap();
            assert_eq!(got, [round; 8]);
        }
    }
    assert_eq!(server.call(|engine| engine.late_completions()), 0);
}

fn ending_the_engine_closes_its_connections(rig: Rig) {
    let (server, events) = DataThread::observed(config(rig));
    let clients: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for _ in &clients {
        accepted(&events);
    }
    // Another thread's handle must not keep them open.
    let door = server.call(|engine| engine.door());
    drop(server);
    for client in clients {
        assert_eq!(read_to_end(client), b"");
    }
    assert_eq!(door.free_slots(), 0);
}

fn connections_move_between_backends(rig: Rig) {
    let other = if rig == Rig::Epoll { Rig::Uring } else { Rig::Epoll };
    let (target, arrivals) = DataThread::observed(config(other));
    let (source, events) = DataThread::observed(config(rig));
    let door = target.call(|engine| engine.door());
    let mut client = source.connect();
    let slot = accepted(&events);
    source.call(move |engine| engine.send_to(slot, &door, 5));
    assert!(matches!(next(&events), Seen::Departed(_, 5)));
    let moved = match next(&arrivals) {
        Seen::Arrived(moved, 5) => moved,
        other => panic!("{other:?}"),
    };
    client.write_all(b"there").unwrap();
    assert_eq!(received(&arrivals, moved, 5), b"there");
    target.call(move |engine| {
        queue(engine, moved, b"and back");
        engine.close(moved);
    });
    assert_eq!(read_to_end(client), b"and back");
    assert_eq!(source.call(|engine| engine.connections()), 0);
}

fn other_listeners_take_the_place_of_closed_ones_and_their_numbers(rig: Rig) {
    let (seen, numbers) = channel();
    let server = DataThread::start(config(rig), move |_, event| {
        if let Event::Accepted { listener, .. } = event {
            seen.send(listener).unwrap();
        }
    });
    let _first = server.connect();
    assert_eq!(numbers.recv_timeout(PATIENCE), Ok(0));
    server.call(|engine| engine.stop_listening());
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    server.call(move |engine| listeners.into_iter().try_for_each(|one| engine.listen(one)).unwrap());
    for (number, address) in addresses.into_iter().enumerate() {
        let _next = TcpStream::connect(address).unwrap();
        assert_eq!(numbers.recv_timeout(PATIENCE), Ok(number as u32));
    }
}

fn a_closed_listener_refuses_and_its_connections_live_on(rig: Rig) {
    let server = DataThread::start(config(rig), echo);
    let mut client = server.connect();
    client.write_all(b"a").unwrap();
    client.read_exact(&mut [0]).unwrap();
    server.call(|engine| engine.stop_listening());
    assert_eq!(TcpStream::connect(server.addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"b").unwrap();
    let mut got = [0];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"b");
}
