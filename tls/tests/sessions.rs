//! Both roles, talking to each other without a network.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pinwire_engine::{Stage, Transform, TransformError};
use pinwire_tls::{
    Certificates, Trust, client_config, client_session, server_config, server_session, ticketer,
};

/// One end: its session, what it received and could not use yet, what it opened.
struct End {
    session: Box<dyn Transform>,
    carry: Vec<u8>,
    plain: Vec<u8>,
    has_ended: bool,
}

impl End {
    fn new(session: Box<dyn Transform>) -> Self {
        Self { session, carry: Vec::new(), plain: Vec::new(), has_ended: false }
    }

    /// Takes bytes in as the engine does; returns what it answers.
    fn receive(&mut self, bytes: &[u8]) -> (Vec<u8>, Result<(), TransformError>) {
        let mut wire = std::mem::take(&mut self.carry);
        wire.extend_from_slice(bytes);
        let mut reply = Vec::new();
        match self.session.inbound(&mut wire, &mut reply) {
            Ok(step) => {
                assert!(step.plain <= step.consumed && step.consumed <= wire.len());
                self.plain.extend_from_slice(&wire[..step.plain]);
                self.carry = wire.split_off(step.consumed);
                self.has_ended |= step.is_end;
                (reply, Ok(()))
            }
            Err(error) => (reply, Err(error)),
        }
    }

    fn send(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        let pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        // A connection that seals no more has nothing to say.
        let _ = self.session.outbound(&pieces, &mut self.carry, &mut wire);
        wire
    }
}

/// A client and a server of `localhost`, and how the client trusts it.
fn pair(trust: impl FnOnce(String) -> Trust, host: &str) -> (End, End) {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (directory.path().join("crt"), directory.path().join("key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut certificates = Certificates::default();
    certificates.add(&chain, &key).unwrap();
    let server = server_config(&Arc::new(certificates), &ticketer().unwrap(), None).unwrap();
    let client = client_config(&trust(made.cert.pem())).unwrap();
    (End::new(client_session(client, host).unwrap()), End::new(server_session(server).unwrap()))
}

/// Delivers bytes from the client, and every answer, in pieces of `size`, until both are silent.
fn exchange(client: &mut End, server: &mut End, from_client: Vec<u8>, size: usize) {
    let (mut to_server, mut to_client) = (from_client, Vec::new());
    while !to_server.is_empty() || !to_client.is_empty() {
        for piece in std::mem::take(&mut to_server).chunks(size) {
            let (reply, outcome) = server.receive(piece);
            outcome.unwrap();
            to_client.extend(reply);
        }
        for piece in std::mem::take(&mut to_client).chunks(size) {
            let (reply, outcome) = client.receive(piece);
            outcome.unwrap();
            to_server.extend(reply);
        }
    }
}

#[test]
fn what_is_sent_before_the_handshake_arrives_after_it_however_it_is_split() {
    for size in [1, 7, 100, 1 << 20] {
        let (mut client, mut server) = pair(Trust::Roots, "localhost");
        let request = client.send(&[b"GET / ", b"HTTP/1.1\r\n\r\n"]);
        exchange(&mut client, &mut server, request, size);
        assert_eq!(server.plain, b"GET / HTTP/1.1\r\n\r\n");
    }
}

#[test]
fn more_than_a_record_crosses_in_both_directions() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let hello = client.send(&[b"x"]);
    exchange(&mut client, &mut server, hello, usize::MAX);
    let large: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let wire = client.send(&[&large[..10], &large[10..]]);
    exchange(&mut client, &mut server, wire, 5_000);
    assert!(server.plain[1..] == large);
    for piece in server.send(&[&large]).chunks(3_000) {
        client.receive(piece).1.unwrap();
    }
    assert!(client.plain == large);
    assert!(client.carry.is_empty() && server.carry.is_empty());
}

#[test]
fn a_changed_record_is_refused_with_an_alert() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let hello = client.send(&[b"x"]);
    exchange(&mut client, &mut server, hello, usize::MAX);
    let mut wire = client.send(&[b"transfer 1"]);
    wire[8] ^= 1;
    let (alert, outcome) = server.receive(&wire);
    assert_eq!(outcome, Err(TransformError));
    assert!(!alert.is_empty() && server.plain == b"x");
    assert_eq!(server.send(&[b"secret"]), b"", "nothing more leaves");
}

#[test]
fn plain_text_is_refused_with_an_alert() {
    let (_, mut server) = pair(Trust::Roots, "localhost");
    let (alert, outcome) = server.receive(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((outcome, alert.first()), (Err(TransformError), Some(&21)));
}

#[test]
fn only_a_whole_hello_of_a_client_is_much_work() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let hello = client.send(&[b"x"]);
    let is_costly = |server: &End, wire: &[u8]| server.session.is_costly(wire);
    assert!(is_costly(&server, &hello) && !client.session.is_costly(&hello));
    assert!((0..hello.len()).all(|len| !is_costly(&server, &hello[..len])));
    // The same message in two records, and behind a record of another kind.
    let (head, message) = hello.split_at(5);
    let mut cut = vec![20, 3, 3, 0, 1, 1];
    for part in [&message[..100], &message[100..]] {
        cut.extend([head[0], head[1], head[2]]);
        cut.extend((part.len() as u16).to_be_bytes());
        cut.extend(part);
    }
    assert!(is_costly(&server, &cut));
    assert!((0..cut.len()).all(|len| !is_costly(&server, &cut[..len])));
    exchange(&mut client, &mut server, hello.clone(), usize::MAX);
    assert!(!is_costly(&server, &hello), "the handshake is through");
}

#[test]
fn a_stage_tells_how_far_a_handshake_has_come_and_why_it_failed() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    assert_eq!(server.session.stage(), Stage::Opening);
    let hello = client.send(&[b"x"]);
    exchange(&mut client, &mut server, hello, usize::MAX);
    assert_eq!(server.session.stage(), Stage::Open { is_resumed: false });
    let (_, mut server) = pair(Trust::Roots, "localhost");
    let _ = server.receive(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(server.session.stage(), Stage::Refused("not_tls"));
    let (mut client, mut server) = pair(Trust::Roots, "other.example");
    let hello = client.send(&[b"x"]);
    let (answer, _) = server.receive(&hello);
    let (alert, _) = client.receive(&answer);
    let _ = server.receive(&alert);
    assert_eq!(server.session.stage(), Stage::Refused("certificate_refused"));
}

#[test]
fn a_server_that_is_still_asked_says_no_end() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let mut hello = client.send(&[b"x"]);
    let mut wire = Vec::new();
    server.session.finish(&mut hello, &mut wire);
    assert_eq!(wire, b"");
}

/// Whether the handshake comes through.
fn is_believed(trust: impl FnOnce(String) -> Trust, host: &str) -> bool {
    let (mut client, mut server) = pair(trust, host);
    let hello = client.send(&[b"x"]);
    let (answer, outcome) = server.receive(&hello);
    outcome.unwrap();
    client.receive(&answer).1.is_ok()
}

#[test]
fn clients_believe_whom_they_are_told_to() {
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    assert!(is_believed(Trust::Roots, "localhost"));
    assert!(!is_believed(Trust::Roots, "another.example"));
    assert!(!is_believed(|_| Trust::Roots(other), "localhost"));
    assert!(is_believed(|_| Trust::Anybody, "another.example"));
    assert!(client_config(&Trust::Roots("no certificate".to_owned())).is_err());
}

#[test]
fn an_end_is_told_before_it_comes() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let hello = client.send(&[b"x"]);
    exchange(&mut client, &mut server, hello, usize::MAX);
    let mut last = Vec::new();
    server.session.finish(&mut server.carry, &mut last);
    assert!(!last.is_empty());
    assert!(!client.has_ended);
    client.receive(&last).1.unwrap();
    assert!(client.has_ended);
    assert_eq!(server.send(&[b"more"]), b"", "nothing more leaves");
    // Whatever follows is ignored, and kept nowhere.
    client.receive(&[0; 100_000]).1.unwrap();
    assert!(client.carry.is_empty() && client.plain.is_empty());
}

/// What is sent when, and which bytes of it were changed, is left to chance. Half of a message waits now and then while the server
/// sends or ends.
#[test]
fn nothing_that_a_peer_sends_makes_the_library_panic() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|info| {
        // A check of its debug builds: it minds an alert after its own close_notify.
        if !info.to_string().contains("!self.sent_fatal_alert") {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
    }));
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut client, mut server) = pair(|_| Trust::Anybody, "localhost");
        let mut from_client = client.send(&[b"request"]);
        'connection: for _ in 0..6 {
            if rng.u8(0..3) == 0 && !from_client.is_empty() {
                let at = rng.usize(0..from_client.len());
                match rng.u8(0..4) {
                    0 => from_client[at] ^= 1 << rng.u8(0..8),
                    1 => from_client.truncate(at),
                    2 => from_client.extend_from_within(at..),
                    _ => from_client = std::iter::repeat_with(|| rng.u8(..)).take(100).collect(),
                }
            }
            let mut from_server = Vec::new();
            let mut rest = &from_client[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rng.usize(1..=rest.len()));
                rest = later;
                let (reply, outcome) = server.receive(piece);
                from_server.extend(reply);
                match rng.u8(0..20) {
                    0 => from_server.extend(server.send(&[b"hello", b"there"])),
                    1 => server.session.finish(&mut server.carry, &mut from_server),
                    _ => {}
                }
                if outcome.is_err() {
                    server.send(&[b"more"]);
                    assert!(server.receive(piece).1.is_err(), "it stays refused");
                    break 'connection;
                }
            }
            let (reply, outcome) = client.receive(&from_server);
            if outcome.is_err() {
                break;
            }
            from_client = reply;
            from_client.extend(client.send(&[b"and more"]));
        }
    }
    drop(std::panic::take_hook());
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn what_came_before_a_mistake_is_delivered() {
    let (mut client, mut server) = pair(Trust::Roots, "localhost");
    let hello = client.send(&[b"x"]);
    exchange(&mut client, &mut server, hello, usize::MAX);
    let mut wire = client.send(&[b" and y"]);
    let mut bad = client.send(&[b" and z"]);
    bad[8] ^= 1;
    wire.extend(bad);
    let (alert, outcome) = server.receive(&wire);
    assert_eq!((outcome, alert.is_empty(), &server.plain[..]), (Ok(()), false, &b"x and y"[..]));
    assert!(server.receive(b"?").1.is_err());
}
