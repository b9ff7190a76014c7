//! What stands between socket and owner, and goes with the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use pinwire_engine::{Carried, Cause, Config, Event, Inbound, Slot, Stage, Transform, TransformError};

use crate::read_to_end;
use crate::rig::{DataThread, PATIENCE, Rig, config, pattern, queue};

/// A toy cipher with records: a length byte, then as many bytes, each XORed with a running key.
struct Records {
    incoming: u8,
    outgoing: u8,
}

impl Records {
    fn new() -> Records {
        Records { incoming: 1, outgoing: 1 }
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        for record in plain.chunks(100) {
            wire.push(record.len() as u8);
            for byte in record {
                wire.push(byte ^ self.outgoing);
                self.outgoing = self.outgoing.wrapping_mul(5).wrapping_add(3);
            }
        }
    }
}

impl Transform for Records {
    fn inbound(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) -> Result<Inbound, TransformError> {
        let (mut consumed, mut plain) = (0, 0);
        while let Some(&len) = wire.get(consumed) {
            if len == 0 || len > 101 {
                self.seal(b"alert", reply);
                return Err(TransformError);
            }
            let len = usize::from(len);
            if wire.len() < consumed + 1 + len {
                break;
            }
            if len == 101 {
                // A record that asks for an answer of the transform's own.
                self.seal(b"pong", reply);
            } else {
                for at in consumed + 1..=consumed + len {
                    wire[plain] = wire[at] ^ self.incoming;
                    self.incoming = self.incoming.wrapping_mul(5).wrapping_add(3);
                    plain += 1;
                }
            }
            consumed += 1 + len;
        }
        Ok(Inbound { consumed, plain, is_end: false })
    }

    fn outbound(
        &mut self,
        plain: &[std::io::IoSlice<'_>],
        _unread: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), TransformError> {
        plain.iter().for_each(|piece| self.seal(piece, wire));
        Ok(())
    }

    fn finish(&mut self, _unread: &mut [u8], wire: &mut Vec<u8>) {
        self.seal(b"finished", wire);
    }
}

fn open(wire: &[u8]) -> Vec<u8> {
    let mut bytes = wire.to_vec();
    let step = Records::new().inbound(&mut bytes, &mut Vec::new()).unwrap();
    assert_eq!(step.consumed, wire.len(), "whole records");
    bytes.truncate(step.plain);
    bytes
}

pub fn a_transform_sees_every_byte_once_in_both_directions(rig: Rig) {
    let server = DataThread::start(config(rig), |engine, event| match event {
        Event::Accepted { slot, .. } => engine.set_transform(slot, Box::new(Records::new())),
        Event::Data { slot, buf } => {
            let (first, second) = buf.split_at(buf.len() / 2);
            queue(engine, slot, first);
            queue(engine, slot, second);
        }
        Event::Ended { slot, .. } => engine.shutdown_write(slot),
        _ => {}
    });
    let mut client = server.connect();
    let plain = pattern(4_000_000);
    let mut wire = Vec::new();
    Records::new().seal(&plain, &mut wire);
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        // Cuts fall inside records, and the server's sends outrun the reader.
        for piece in wire.chunks(7_919) {
            writer.write_all(piece).unwrap();
        }
    });
    let (mut cipher, mut got, mut pending) = (Records::new(), Vec::new(), Vec::new());
    let mut expected = plain.clone();
    loop {
        let mut buffer = [0; 10_000];
        let count = client.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        pending.extend_from_slice(&buffer[..count]);
        let step = cipher.inbound(&mut pending, &mut Vec::new()).unwrap();
        got.extend_from_slice(&pending[..step.plain]);
        pending.drain(..step.consumed);
        if got.len() == plain.len() {
            // A record the transform answers by itself, then the end.
            client.write_all(&[101; 102]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
    }
    writing.join().unwrap();
    expected.extend_from_slice(b"pongfinished");
    assert!(got == expected);
    assert!(pending.is_empty());
}

pub fn a_transform_that_refuses_ends_the_connection(rig: Rig) {
    let server = DataThread::start(config(rig), |engine, event| match event {
        Event::Accepted { slot, .. } => engine.set_transform(slot, Box::new(Records::new())),
        Event::Ended { slot, cause } => {
            assert_eq!(cause, Cause::Io(ErrorKind::InvalidData));
            engine.close(slot);
        }
        other => panic!("{other:?}"),
    });
    let mut client = server.connect();
    client.write_all(&[0]).unwrap();
    assert_eq!(open(&read_to_end(client)), b"alert");
}

pub fn a_transform_moves_with_its_connection(rig: Rig) {
    let other = if rig == Rig::Epoll { Rig::Uring } else { Rig::Epoll };
    let (carried, carrying) = channel::<Carried>();
    let target = DataThread::start(config(other), move |engine, event| match event {
        // What the source's thread sends may come later: until then nothing is read.
        Event::Arrived { slot, .. } => {
            let carried = carrying.recv_timeout(PATIENCE).unwrap();
            engine.restore_transform(slot, carried);
        }
        Event::Data { slot, buf } => queue(engine, slot, &buf),
        Event::Ended { slot, .. } => engine.close(slot),
        _ => {}
    });
    let door = target.call(|engine| engine.door());
    let source = DataThread::start(config(rig), move |engine, event| match event {
        Event::Accepted { slot, listener, .. } => {
            assert_eq!(listener, 0);
            engine.set_transform(slot, Box::new(Records::new()));
        }
        Event::Data { slot, buf } => {
            queue(engine, slot, &buf);
            engine.send_to(slot, &door, 9);
        }
        Event::Departed { token: 9, carried: Some(moved), .. } => carried.send(moved).unwrap(),
        other => panic!("{other:?}"),
    });
    let (mut client, mut cipher, mut wire) = (source.connect(), Records::new(), Vec::new());
    cipher.seal(b"before", &mut wire);
    let half = wire.len() + 4;
    cipher.seal(b"beyond", &mut wire);
    // The first record, and half of the second, which waits for its rest on the other thread.
    client.write_all(&wire[..half]).unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    while target.call(|engine| engine.connections()) == 0 {}
    client.write_all(&wire[half..]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = answer.to_vec();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(open(&all), b"beforebeyondfinished");
}

pub fn what_is_queued_in_the_turn_of_the_end_is_sealed_before_it(rig: Rig) {
    let server = DataThread::start(config(rig), |engine, event| match event {
        Event::Accepted { slot, .. } => engine.set_transform(slot, Box::new(Records::new())),
        Event::Data { slot, buf } => {
            queue(engine, slot, &buf);
            engine.shutdown_write(slot);
        }
        Event::Ended { slot, .. } => engine.close(slot),
        _ => {}
    });
    let (mut client, mut wire) = (server.connect(), Vec::new());
    Records::new().seal(b"the last answer, ", &mut wire);
    client.write_all(&wire).unwrap();
    assert_eq!(open(&read_to_end(client)), b"the last answer, finished");
}

pub fn a_close_says_the_end_behind_what_is_queued(rig: Rig) {
    let server = DataThread::start(config(rig), |engine, event| match event {
        Event::Accepted { slot, .. } => engine.set_transform(slot, Box::new(Records::new())),
        Event::Data { slot, buf } => {
            queue(engine, slot, &buf);
            engine.close(slot);
        }
        _ => {}
    });
    let (mut client, mut wire) = (server.connect(), Vec::new());
    Records::new().seal(b"the last answer, ", &mut wire);
    client.write_all(&wire).unwrap();
    assert_eq!(open(&read_to_end(client)), b"the last answer, finished");
}

/// Agrees with its peer by one byte, which is much work.
struct Laborious {
    is_open: bool,
    /// Steps taken by all, in this turn.
    steps: Arc<AtomicUsize>,
}

impl Transform for Laborious {
    fn is_costly(&self, wire: &[u8]) -> bool {
        !self.is_open && !wire.is_empty()
    }

    fn stage(&self) -> Stage {
        if self.is_open { Stage::Open { is_resumed: true } } else { Stage::Opening }
    }

    fn inbound(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) -> Result<Inbound, TransformError> {
        if self.is_open {
            return Ok(Inbound { consumed: wire.len(), plain: wire.len(), is_end: false });
        }
        self.is_open = true;
        self.steps.fetch_add(1, Ordering::SeqCst);
        reply.push(b'!');
        wire.copy_within(1.., 0);
        Ok(Inbound { consumed: wire.len(), plain: wire.len() - 1, is_end: false })
    }

    fn outbound(
        &mut self,
        plain: &[std::io::IoSlice<'_>],
        _unread: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), TransformError> {
        assert!(self.is_open);
        plain.iter().for_each(|piece| wire.extend_from_slice(piece));
        Ok(())
    }
}

/// Does something while the thread does not turn.
fn held_up(server: &DataThread, meanwhile: impl FnOnce()) {
    let ((begun, is_held), (go, release)) = (channel(), channel());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            server.call(move |_| {
                begun.send(()).unwrap();
                release.recv_timeout(PATIENCE).unwrap();
            });
        });
        is_held.recv_timeout(PATIENCE).unwrap();
        meanwhile();
        go.send(()).unwrap();
    });
}

pub fn costly_steps_are_taken_in_order_a_few_a_turn(rig: Rig) {
    const HERD: usize = 50;
    const PER_TURN: usize = 3;
    let steps = Arc::new(AtomicUsize::new(0));
    let (opened, openings) = channel();
    let mut opened_before = 0;
    let in_turn = Arc::clone(&steps);
    let limited = Config { costly_steps_per_turn: PER_TURN as u32, ..config(rig) };
    let server = DataThread::start(limited, move |engine, event| match event {
        Event::Accepted { slot, .. } => {
            let steps = Arc::clone(&in_turn);
            engine.set_transform(slot, Box::new(Laborious { is_open: false, steps }));
        }
        Event::Opened { slot, is_resumed } => {
            assert!(is_resumed);
            // Events of a turn are handed out before the next turn: the first sees all of its steps.
            let taken = in_turn.load(Ordering::SeqCst) - opened_before;
            assert!((1..=PER_TURN).contains(&taken), "{taken} steps in a turn");
            opened_before += 1;
            opened.send(slot).unwrap();
        }
        Event::Data { slot, buf } => {
            opened.send(slot).unwrap();
            queue(engine, slot, &buf);
        }
        Event::Ended { slot, .. } => engine.close(slot),
        _ => {}
    });
    // One that is there already, with bytes to send.
    let mut old = server.connect();
    old.write_all(b"x").unwrap();
    old.read_exact(&mut [0]).unwrap();
    let old_slot = openings.recv_timeout(PATIENCE).unwrap();
    let mut herd: Vec<TcpStream> = (0..HERD).map(|_| server.connect()).collect();
    while server.call(|engine| engine.connections()) <= HERD {}
    // All speak while the thread is held up, so that they are due in one turn; the old one is the last.
    held_up(&server, || {
        herd.iter_mut().for_each(|client| client.write_all(b"xhello").unwrap());
        old.write_all(b"old").unwrap();
    });
    for client in &mut herd {
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"!hello", "none is lost");
    }
    old.read_exact(&mut [0; 3]).unwrap();
    let told: Vec<Slot> = openings.try_iter().collect();
    let at = told.iter().position(|slot| *slot == old_slot).unwrap();
    // Each newcomer is told twice, when it is open and when it speaks.
    assert!(at <= 2 * PER_TURN, "who was there waited for {at} others");
    assert_eq!(steps.load(Ordering::SeqCst), HERD + 1);
    assert_eq!(server.call(|engine| engine.steps_waiting()), 0);
}

pub fn what_waits_for_its_step_can_be_closed(rig: Rig) {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let limited = Config { costly_steps_per_turn: 1, ..config(rig) };
    let server = DataThread::start(limited, move |engine, event| match event {
        Event::Accepted { slot, .. } => {
            let steps = Arc::clone(&counted);
            engine.set_transform(slot, Box::new(Laborious { is_open: false, steps }));
        }
        // The first that is served has all others closed.
        Event::Opened { slot, .. } => {
            (0..8192).map(Slot::from_index).filter(|other| *other != slot).for_each(|other| {
                engine.close(other);
            });
        }
        _ => {}
    });
    let mut herd: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    while server.call(|engine| engine.connections()) < 20 {}
    held_up(&server, || herd.iter_mut().for_each(|client| client.write_all(b"x").unwrap()));
    while server.call(|engine| engine.connections()) > 1 {}
    assert_eq!(steps.load(Ordering::SeqCst), 1);
    while server.call(|engine| engine.steps_waiting()) > 0 {}
}
