//! Clients that break rules, on purpose or by accident, over real sockets: each is dealt with as promised, nobody else
//! notices, and afterwards the node uses no more than before.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pinwire_protocol::document::varint::{write_var_string, write_var_uint};
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::document::{awareness, hocuspocus as wire};
use pinwire_protocol::ws::{Frame, Opcode, Scratch, WindowBits};
use pinwire_tests::node::{
    Bystanders, Covered, Driver, Options, PATIENCE, Received, TestClient, TestNode, announcement, append,
    claims, deletion, edit, eventually, forge, hocuspocus, on_both_drivers, on_every_engine, pause, step1,
    token, token_with, update_of, upgrade_request, ywebsocket_update,
};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

fn beside_others(options: &Options, test: impl FnOnce(&TestNode, &mut Bystanders)) {
    pinwire_tests::node::beside_others(PROGRAM, options, test);
}

/// Memory that the worst of these clients may make a node use for a moment: a message of the greatest length, once to be
/// received and once to be handled, and what a log holds until it is compacted.
const BURST: u64 = 80 << 20;

// Slow readers.

/// Members of one document, of whom one reads nothing while another pushes text that replaces its last.
struct Push {
    writer: TestClient,
    reader: TestClient,
    covered: Covered,
    clock: u32,
    client_left: Option<u64>,
}

const CHUNK: u32 = 64 << 10;

impl Push {
    fn new(node: &TestNode, document: &str) -> Self {
        let (writer, reader) = (TestClient::join(node, document), TestClient::join(node, document));
        Self { writer, reader, covered: Covered::default(), clock: 0, client_left: None }
    }

    /// Pushes two megabytes, and waits until the reader has them.
    fn push(&mut self) {
        let text = "x".repeat(CHUNK as usize);
        for _ in 0..32 {
            self.writer.message(&ywebsocket_update(&append(7, self.clock, &text)));
            self.writer.message(&ywebsocket_update(&deletion(7, self.clock, CHUNK)));
            self.clock += CHUNK;
        }
        while self.covered.next(7) < self.clock {
            self.read();
        }
    }

    fn read(&mut self) {
        let message = self.reader.binary();
        if let Some(update) = update_of(&message) {
            self.covered.add(update);
        } else if let Ok(Message::Awareness(body)) = ywebsocket::decode(&message) {
            let body = awareness::Awareness::parse(body, &awareness::Bounds::default()).expect("well-formed");
            self.client_left =
                body.iter().find(|entry| entry.is_null()).map(|entry| entry.client).or(self.client_left);
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_costs_no_memory() {
    on_both_drivers(|options| {
        beside_others(&options, |node, bystanders| {
            let before = node.measure();
            let mut push = Push::new(node, "pushed");
            let sleeper =
                TestClient::dial_narrow(node).upgraded(&format!("/pushed?token={}", token())).joined();
            for round in 0..250 {
                push.push();
                if round % 50 == 0 {
                    bystanders.check();
                }
            }
            let peak = node.measure().peak;
            eprintln!(
                "{:?}: {} MiB more at the peak of 500 MiB pushed",
                options.driver,
                (peak - before.resident) >> 20
            );
            assert!(peak < before.resident + BURST, "{} MiB at the peak", peak >> 20);
            drop(sleeper);
        });
    });
}

#[test]
fn a_reader_that_takes_nothing_is_closed_with_4010() {
    on_every_engine(|options| {
        let options = Options { slow_reader_ms: 700, ..options };
        beside_others(&options, |node, _| {
            let mut push = Push::new(node, "pushed");
            let mut sleeper =
                TestClient::dial_narrow(node).upgraded(&format!("/pushed?token={}", token())).joined();
            sleeper.announce(99, 1);
            while push.client_left.is_none() {
                push.push();
            }
            assert_eq!(push.client_left, Some(99));
            assert_eq!(sleeper.closed(), Some(4010));
        });
    });
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_kept() {
    on_every_engine(|options| {
        let options = Options { slow_reader_ms: 700, ..options };
        beside_others(&options, |node, _| {
            let mut push = Push::new(node, "pushed");
            let trickler =
                TestClient::dial_narrow(node).upgraded(&format!("/pushed?token={}", token())).joined();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let trickle = scope.spawn(|| {
                    let mut taken = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        taken += trickler.stream().read(&mut [0; 4096]).expect("kept");
                        pause(20);
                    }
                    taken
                });
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(4 * 700) {
                    push.push();
                }
                is_over.store(true, Ordering::Relaxed);
                assert!(trickle.join().expect("kept") > 0);
            });
            assert_eq!(push.client_left, None);
        });
    });
}

#[test]
fn a_flood_of_pings_whose_pongs_are_not_read_is_held_back_and_closed() {
    on_both_drivers(|options| {
        let options = Options { slow_reader_ms: 700, ..options };
        beside_others(&options, |node, bystanders| {
            let before = node.measure();
            let mut flooder = TestClient::join(node, "flooded");
            let mut pings = Vec::new();
            while pings.len() < 64 << 10 {
                pinwire_protocol::ws::append_ping(&mut pings, &[7; 125], Some([1, 2, 3, 4]));
            }
            let start = Instant::now();
            let mut sent = 0u64;
            // Ends with the node's reset, once it gives the client up.
            while flooder.try_send(&pings) {
                sent += pings.len() as u64;
                assert!(start.elapsed() < PATIENCE, "nobody stops it");
            }
            bystanders.check();
            let peak = node.measure().peak;
            eprintln!(
                "{:?}: took {} MiB of pings, peak {} MiB more",
                options.driver,
                sent >> 20,
                (peak - before.resident) >> 20
            );
            assert!(peak < before.resident + BURST, "{} MiB at the peak", peak >> 20);
        });
    });
}

// Messages that are too much.

#[test]
fn a_message_of_endless_empty_fragments_is_closed_with_1008() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let before = node.measure();
            for size in [0, 1] {
                let mut client = TestClient::join(node, "fragments");
                let mut frames = Vec::new();
                let part = vec![0; size];
                let first = Frame::new(Opcode::Binary).masked([0; 4]).unfinished();
                pinwire_protocol::ws::append_frame(&mut frames, first, &part);
                let next = Frame::new(Opcode::Continuation).masked([0; 4]).unfinished();
                for _ in 0..100_000 {
                    pinwire_protocol::ws::append_frame(&mut frames, next, &part);
                }
                client.try_send(&frames);
                assert_eq!(client.closed(), Some(1008));
            }
            assert!(node.measure().peak < before.resident + BURST);
        });
    });
}

#[test]
fn a_compression_bomb_is_stopped_while_it_inflates() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let before = node.measure();
            let mut client = TestClient::dial(node);
            let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n";
            client.send(upgrade_request(&format!("/bomb?token={}", token()), offer).as_bytes());
            let answer = client.answer();
            assert!(
                answer.header("sec-websocket-extensions").is_some_and(|it| it.contains("permessage-deflate"))
            );
            client.message(&step1());
            client.binary();
            // Blocks of a stream, each ended by a sync flush: 512 MiB of zeros.
            let mut block = Vec::new();
            assert!(Scratch::new().deflate(&vec![0; 1 << 20], WindowBits::MAX, &mut block));
            block.extend_from_slice(&[0, 0, 0xff, 0xff]);
            let bomb = block.repeat(512);
            assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
            client.frame(Frame::new(Opcode::Binary).compressed(), &bomb);
            assert_eq!(client.closed(), Some(1009));
            let peak = node.measure().peak;
            assert!(peak < before.resident + BURST, "{} MiB at the peak", peak >> 20);
        });
    });
}

#[test]
fn a_message_over_the_limit_is_closed_with_1009_before_it_is_received() {
    on_every_engine(|options| {
        let options = Options { max_message_bytes: 1 << 20, ..options };
        beside_others(&options, |node, _| {
            let mut client = TestClient::join(node, "large");
            // The header alone: a payload of a megabyte and a byte would follow.
            client.send(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0]);
            assert_eq!(client.closed(), Some(1009));
        });
    });
}

// Handshakes.

#[test]
fn a_handshake_that_drips_is_closed_at_an_absolute_deadline() {
    on_every_engine(|options| {
        let options = Options { handshake_ms: 800, ..options };
        beside_others(&options, |node, bystanders| {
            let mut silent = TestClient::dial(node);
            let mut answered = TestClient::dial(node);
            answered.send(b"GET / HTTP/1.1\r\n Folded: yes\r\n\r\n");
            let mut dripping = TestClient::dial(node);
            dripping.send(b"GET /doc HTTP/1.1\r\nHost: node\r\n");
            let start = Instant::now();
            let mut drips = 0;
            while dripping.try_send(format!("X-{drips}: y\r\n").as_bytes()) {
                drips += 1;
                assert!(drips < 60, "still open after {:?}", start.elapsed());
                pause(100);
            }
            assert!(drips > 2);
            assert_eq!(silent.receive(), Received::End);
            // Answered for good, and still not gone: it is closed all the same.
            assert_eq!(answered.answer().status, 400);
            assert_eq!(answered.receive(), Received::End);
            bystanders.check();
        });
    });
}

#[test]
fn endless_headers_are_refused_at_a_bound() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let before = node.measure();
            let line = format!("X-Padding: {}\r\n", "y".repeat(8000));
            let mut client = TestClient::dial(node);
            client.send(b"GET /doc HTTP/1.1\r\nHost: node\r\n");
            client.send(line.as_bytes());
            client.send(line.as_bytes());
            client.send(line.as_bytes());
            assert_eq!(client.answer().status, 431);
            // Five megabytes more: the node reads on without keeping any of it, or has closed.
            for _ in 0..625 {
                if !client.try_send(line.as_bytes()) {
                    break;
                }
            }
            assert!(node.measure().peak < before.resident + (16 << 20));

            let mut many = TestClient::dial(node);
            many.send(b"GET /doc HTTP/1.1\r\nHost: node\r\n");
            many.send("X: y\r\n".repeat(100).as_bytes());
            many.send(b"\r\n");
            assert_eq!(many.answer().status, 431);
            assert_eq!(many.receive(), Received::End);
        });
    });
}

#[test]
fn heads_that_two_servers_could_read_differently_are_refused() {
    let good = upgrade_request(&format!("/doc?token={}", token()), "");
    let with = |line: &str| good.replace("Connection:", &format!("{line}\r\nConnection:"));
    let cases = [
        ("content-length", with("Content-Length: 0"), 400),
        ("content-length with a body", with("Content-Length: 5") + "hello", 400),
        ("transfer-encoding", with("Transfer-Encoding: chunked") + "0\r\n\r\n", 400),
        ("both", with("Content-Length: 4\r\nTransfer-Encoding: chunked"), 400),
        ("two hosts", with("Host: other"), 400),
        ("no host", good.replace("Host: node\r\n", ""), 400),
        ("a bare line feed", good.replace("Host: node\r\n", "Host: node\n"), 400),
        ("a bare carriage return", with("X: a\rb"), 400),
        ("two keys", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        ("a short key", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        ("a folded line", with("X: a\r\n b"), 400),
        ("a space before a colon", with("X : a"), 400),
        ("a name that is no token", with("X(y): a"), 400),
        ("POST", good.replace("GET ", "POST "), 405),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("an absolute target", good.replace("GET /", "GET http://node/"), 400),
        ("no connection", good.replace("Connection: Upgrade\r\n", ""), 400),
        ("version 12", good.replace("Version: 13", "Version: 12"), 426),
        ("two versions", with("Sec-WebSocket-Version: 13"), 426),
        ("two origins", with("Origin: http://a\r\nOrigin: http://b"), 400),
        ("two authorizations", with("Authorization: Bearer a\r\nAuthorization: Bearer b"), 400),
        ("a NUL", with("X: a\0b"), 400),
        ("no HTTP at all", "\u{16}\u{3}\u{1}hello\r\n\r\n".to_owned(), 400),
    ];
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            for (name, head, status) in &cases {
                let mut client = TestClient::dial(node);
                // What follows is a good request: it must not be answered.
                client.send(format!("{head}{good}").as_bytes());
                let answer = client.answer();
                assert_eq!(answer.status, *status, "{name}: {}", answer.head);
                assert!(!answer.body.is_empty(), "{name}");
                assert_eq!(client.receive(), Received::End, "{name}");
            }
        });
    });
}

// Connections that do not end as they should.

#[test]
fn who_does_not_answer_pings_is_closed_with_4011_and_who_does_is_kept() {
    on_every_engine(|options| {
        let options = Options { ping_ms: 400, pong_ms: 400, ..options };
        let node = TestNode::start(PROGRAM, &options);
        let mut dead = TestClient::join(&node, "pinged");
        let mut alive = TestClient::join(&node, "pinged");
        let port = alive.address().port();
        let (mut pings, mut departed) = (0, false);
        dead.announce(5, 1);
        alive.announce(6, 1);
        // The dead one answers nothing: it only looks on.
        while pings < 6 || !departed {
            match alive.receive() {
                Received::Ping(payload) => {
                    pings += 1;
                    alive.frame(Frame::new(Opcode::Pong), &payload);
                }
                Received::Message(message) => departed |= message == announcement(5, 1, "null"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(dead.closed(), Some(4011));
        // The kernel watches it as well.
        eventually("keep-alive runs", || node.connections().contains(&(port, 1, 2)));
    });
}

#[test]
fn a_close_that_is_never_answered_ends_all_the_same() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let mut client = TestClient::join(node, "hanging");
            client.frame(Frame::new(Opcode::Text), b"text");
            let start = Instant::now();
            assert_eq!(client.close_frame().0, 1003);
            // No close frame, no FIN: the node ends it, and keeps nothing of it meanwhile.
            client.try_send(&[0x82, 0x80, 0, 0, 0, 0]);
            assert_eq!(client.receive(), Received::End);
            assert!(start.elapsed() > Duration::from_secs(1), "the client has time to answer");
            let port = client.address().port();
            eventually("the socket is gone", || node.connections().iter().all(|(peer, ..)| *peer != port));
        });
    });
}

#[test]
fn a_half_closed_connection_is_closed_after_what_it_said() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let mut witness = TestClient::join(node, "halves");
            let mut client = TestClient::join(node, "halves");
            let update = edit(3, 0, "last words");
            client.announce(3, 1);
            while witness.binary() != announcement(3, 1, "{}") {}
            client.message(&ywebsocket_update(&update));
            client.finish();
            assert_eq!(client.closed(), None);
            let (mut is_told, mut is_gone) = (false, false);
            while !is_told || !is_gone {
                let message = witness.binary();
                is_told |= update_of(&message) == Some(&update);
                is_gone |= message == announcement(3, 1, "null");
            }
        });
    });
}

#[test]
fn what_follows_a_close_frame_is_ignored() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let mut witness = TestClient::join(node, "over");
            let mut client = TestClient::join(node, "over");
            let mut bytes = Vec::new();
            pinwire_protocol::ws::append_close(&mut bytes, 1000u16, "", Some([9; 4]));
            TestClient::write_message(&mut bytes, &ywebsocket_update(&edit(3, 0, "too late")));
            client.send(&bytes);
            assert_eq!(client.closed(), Some(1000));
            expect_next_update(node, "over", &mut witness);
        });
    });
}

#[test]
fn a_peer_killed_within_a_frame_leaves_nothing_behind() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let mut witness = TestClient::join(node, "cut");
            for reset in [false, true] {
                let mut client = TestClient::join(node, "cut");
                let mut bytes = Vec::new();
                TestClient::write_message(&mut bytes, &ywebsocket_update(&edit(3, 0, &"a".repeat(100_000))));
                client.send(&bytes[..bytes.len() - 1]);
                if reset {
                    let socket = socket2::SockRef::from(client.stream());
                    socket.set_linger(Some(Duration::ZERO)).expect("a reset at the end");
                }
            }
            expect_next_update(node, "cut", &mut witness);
        });
    });
}

/// The next update that `witness` is told is one that a newcomer writes now.
fn expect_next_update(node: &TestNode, document: &str, witness: &mut TestClient) {
    let mut writer = TestClient::join(node, document);
    let update = edit(1_000, 0, "good");
    writer.message(&ywebsocket_update(&update));
    loop {
        let message = witness.binary();
        if let Some(told) = update_of(&message) {
            assert_eq!(told, update);
            return;
        }
    }
}

#[test]
fn thousands_of_connections_that_come_and_go_leave_nothing_behind() {
    on_every_engine(|options| {
        beside_others(&options, |node, bystanders| {
            for round in 0..500 {
                let document = format!("churn-{}", round % 50);
                // A guest that leaves, a handshake without a word, a member that says goodbye, and one that does not.
                drop(TestClient::dial(node));
                let silent = TestClient::open(node, &document);
                let mut polite = TestClient::join(node, &document);
                let mut rude = TestClient::join(node, &document);
                rude.announce(round, 1);
                polite.close(1000);
                drop((silent, rude));
                if round % 100 == 0 {
                    bystanders.check();
                }
            }
        });
    });
}

// Bytes that mean nothing.

#[test]
fn frames_that_break_the_protocol_end_their_sender_with_the_right_code() {
    let long = [0x89, 0xfe, 0, 126, 0, 0, 0, 0];
    let cases: [(&str, &[u8], u16); 18] = [
        ("unmasked", &[0x82, 1, 0], 1002),
        ("RSV1 without an extension", &[0xc2, 0x80, 0, 0, 0, 0], 1002),
        ("RSV2", &[0xa2, 0x80, 0, 0, 0, 0], 1002),
        ("RSV3", &[0x92, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved data opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved control opcode", &[0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("a ping of 126 bytes", &long, 1002),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("a message within a message", &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], 1002),
        ("a length that is not minimal", &[0x82, 0xfe, 0, 5], 1002),
        ("a long length that is not minimal", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
        ("a length of 2^63", &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("a length of 2^62", &[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("text that is not UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
        ("text", &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'], 1003),
        ("a close frame of one byte", &[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        ("a close code that must not be sent", &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 1002),
    ];
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let before = node.measure();
            for (name, bytes, code) in cases {
                let mut client = TestClient::join(node, "edges");
                client.send(bytes);
                assert_eq!(client.close_frame().0, code, "{name}");
            }
            assert!(node.measure().peak < before.resident + BURST);
        });
    });
}

#[test]
fn a_message_may_come_in_any_pieces() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let mut witness = TestClient::join(node, "pieces");
            let mut client = TestClient::open(node, "pieces");
            let mut bytes = Vec::new();
            TestClient::write_message(&mut bytes, &step1());
            let update = edit(3, 0, "in pieces");
            TestClient::write_message(&mut bytes, &ywebsocket_update(&update));
            for byte in bytes {
                client.send(&[byte]);
            }
            while update_of(&witness.binary()) != Some(&update) {}
        });
    });
}

/// Updates that no library may see.
fn bad_updates() -> Vec<(&'static str, Vec<u8>)> {
    let good = edit(3, 0, "good");
    let mut nested = vec![1, 1, 3, 0, 8, 1];
    write_var_string(&mut nested, "t");
    // One value: an array in an array, twenty thousand times.
    nested.push(1);
    for _ in 0..20_000 {
        nested.extend_from_slice(&[117, 1]);
    }
    nested.extend_from_slice(&[126, 0]);
    let mut many = vec![];
    write_var_uint(&mut many, (1 << 53) - 1);
    vec![
        ("nothing", vec![]),
        ("cut short", good[..good.len() - 3].to_vec()),
        ("bytes left over", [good.clone(), vec![0]].concat()),
        ("values nested twenty thousand deep", nested),
        ("a count of all there is", many),
        ("an unknown content", vec![1, 1, 3, 0, 30, 1, 1, b't', 0]),
        ("text that is not UTF-8", vec![1, 1, 3, 0, 4, 1, 1, b't', 2, 0xc3, 0x28, 0]),
        ("noise", vec![0xff; 64]),
    ]
}

#[test]
fn an_update_that_is_none_ends_its_sender_alone_and_reaches_nobody() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            for (at, (name, update)) in bad_updates().into_iter().enumerate() {
                let document = format!("bad-{at}");
                let mut witness = TestClient::join(node, &document);
                let mut client = TestClient::join(node, &document);
                client.message(&ywebsocket_update(&update));
                assert_eq!(client.closed(), Some(1007), "{name}");

                let mut client = TestClient::open(node, "");
                client.message(&hocuspocus::auth(&document, &token()));
                client.message(&hocuspocus::update(&document, &update));
                let mut was_told = false;
                let code = loop {
                    match client.receive() {
                        Received::Message(message) => {
                            let Some((_, body)) = hocuspocus::body(&message) else { continue };
                            was_told |= matches!(body, wire::Body::SyncStatus { applied: false });
                        }
                        Received::Close(code, _) => break code,
                        other => panic!("{name}: {other:?}"),
                    }
                };
                assert_eq!(code, 1007, "{name}");
                assert!(was_told, "{name}: its writer must not think it is safe");
                expect_next_update(node, &document, &mut witness);
            }
        });
    });
}

#[test]
fn messages_that_do_not_parse_end_their_sender_alone() {
    let cases: [(&str, Vec<u8>); 6] = [
        ("awareness with broken JSON", announcement(3, 1, r#"{"user": "#)),
        ("awareness with trailing garbage", [announcement(3, 1, "{}"), vec![1]].concat()),
        ("an unknown kind", vec![9, 9, 9]),
        ("an unknown sync step", vec![0, 7, 0]),
        ("a length beyond the end", vec![0, 2, 200, 1]),
        ("a step 1 that is no state vector", vec![0, 0, 2, 5, 1]),
    ];
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            for (name, message) in &cases {
                let mut witness = TestClient::join(node, "garbage");
                let mut client = TestClient::join(node, "garbage");
                client.message(message);
                assert_eq!(client.closed(), Some(1007), "{name}");
                witness.message(&step1());
                assert!(update_of(&witness.binary()).is_some(), "{name}");
            }
        });
    });
}

#[test]
fn too_much_before_authentication_ends_a_hocuspocus_socket_with_1008() {
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            let bytes = hocuspocus::update("early", &edit(3, 0, &"a".repeat(100_000)));
            let frames = hocuspocus::step1("early");
            for (message, count) in [(bytes, 3), (frames, 65)] {
                let mut client = TestClient::dial(node).upgraded("/");
                for _ in 0..count - 1 {
                    client.message(&message);
                }
                client.message(&hocuspocus::auth("other", &token()));
                assert!(matches!(
                    hocuspocus::body(&client.binary()),
                    Some(("other", wire::Body::Authenticated { .. }))
                ));
                client.message(&message);
                assert_eq!(client.closed(), Some(1008));
            }
        });
    });
}

// Tokens.

#[test]
fn forged_tokens_open_nothing() {
    let secret = pinwire_tests::node::SECRET.as_bytes();
    let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
    let good = token();
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = forge(&json!({ "alg": "none" }), &claims(), secret);
    let other = token_with(json!({ "sub": "mallory" }));
    let cases = [
        ("alg none, unsigned", format!("{}.", unsigned.rsplit_once('.').expect("three parts").0)),
        ("alg none, signed", unsigned),
        ("another secret", forge(&hs256, &claims(), b"another secret, also of thirty-two bytes")),
        ("another algorithm", forge(&json!({ "alg": "RS256" }), &claims(), secret)),
        (
            "a key of its own",
            forge(&json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" } }), &claims(), b"\0\0\0"),
        ),
        ("claims swapped", format!("{}.{}.{}", parts[0], other.split('.').nth(1).expect("claims"), parts[2])),
        ("expired", token_with(json!({ "exp": 1_000_000_000 }))),
        ("not valid yet", token_with(json!({ "nbf": 4_000_000_000u32 }))),
        ("another audience", token_with(json!({ "aud": "elsewhere" }))),
        ("no expiry", token_with(json!({ "exp": null }))),
        ("no JSON", "bm9uZQ.bm9uZQ.bm9uZQ".to_owned()),
    ];
    on_every_engine(|options| {
        beside_others(&options, |node, _| {
            for (name, forged) in &cases {
                let mut client = TestClient::dial(node).upgraded(&format!("/secret?token={forged}"));
                client.message(&step1());
                let (code, reason) = client.close_frame();
                assert_eq!(code, 4002, "{name}: {reason}");

                let mut client = TestClient::dial(node).upgraded("/");
                client.message(&hocuspocus::auth("secret", forged));
                client.message(&hocuspocus::step1("secret"));
                let denied = client.binary();
                let Some((_, wire::Body::PermissionDenied { .. })) = hocuspocus::body(&denied) else {
                    panic!("{name}: {denied:?}");
                };
                // The socket stays, for another token.
                client.message(&hocuspocus::auth("secret", &token()));
                let allowed = client.binary();
                assert!(
                    matches!(hocuspocus::body(&allowed), Some((_, wire::Body::Authenticated { .. }))),
                    "{name}"
                );
            }
            let mut client = TestClient::dial(node).upgraded("/secret");
            client.message(&step1());
            assert_eq!(client.close_frame().0, 4001);
        });
    });
}

#[test]
fn a_public_key_is_no_shared_secret() {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key pair");
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
    let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let node = TestNode::start(
        PROGRAM,
        &Options { driver: Driver::Epoll, public_key: Some(pem.clone()), ..Options::default() },
    );
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), der.as_ref(), pair.public_key().as_ref()] {
        for alg in ["HS256", "ES256"] {
            let forged = forge(&json!({ "alg": alg }), &claims(), secret);
            let mut client = TestClient::dial(&node).upgraded(&format!("/secret?token={forged}"));
            client.message(&step1());
            assert_eq!(client.close_frame().0, 4002, "{alg}");
        }
    }
}
