//! HTTP on the WebSocket port, refusals before the upgrade, and the node's end.

use pinwire_tests::node::{
    Options, PATIENCE, Received, TestClient, TestNode, edit, eventually, get, on_every_engine, step1, token,
    update_of, upgrade_request, ywebsocket_update,
};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

fn beside_others(options: &Options, test: impl FnOnce(&TestNode)) {
    pinwire_tests::node::beside_others(PROGRAM, options, |node, _| test(node));
}

fn retry_after(answer: &pinwire_tests::node::Answer) -> u64 {
    let seconds = answer.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {}", answer.head));
    seconds.parse().expect("seconds")
}

#[test]
fn a_request_is_answered_however_it_comes() {
    on_every_engine(|options| {
        beside_others(&options, |node| {
            let mut whole = TestClient::dial(node);
            whole.send(get("/health").as_bytes());
            let answer = whole.answer();
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains(r#""status":"healthy""#), "{}", answer.body);

            let mut pipelined = TestClient::dial(node);
            pipelined.send([get("/health"), get("/nowhere"), get("/health")].concat().as_bytes());
            let statuses = [pipelined.answer().status, pipelined.answer().status, pipelined.answer().status];
            assert_eq!(statuses, [200, 404, 200]);

            let mut in_pieces = TestClient::dial(node);
            for byte in get("/health").bytes() {
                in_pieces.send(&[byte]);
            }
            assert_eq!(in_pieces.answer().status, 200);
            // The connection stays, and half of the next request in the segment of this one is no harm.
            let requests = [get("/health"), get("/health")].concat();
            in_pieces.send(&requests.as_bytes()[..requests.len() - 7]);
            assert_eq!(in_pieces.answer().status, 200);
            in_pieces.send(&requests.as_bytes()[requests.len() - 7..]);
            assert_eq!(in_pieces.answer().status, 200);
        });
    });
}

#[test]
fn preflights_and_errors_can_be_read_by_pages() {
    on_every_engine(|options| {
        beside_others(&options, |node| {
            let mut client = TestClient::dial(node);
            for path in ["/discovery", "/usage", "/health"] {
                client.send(get(path).replace("GET", "OPTIONS").as_bytes());
                let answer = client.answer();
                assert_eq!(answer.status, 204, "{path}");
                assert!(answer.header("access-control-max-age").is_some());
                assert_eq!(answer.header("access-control-allow-headers"), Some("Authorization"));
            }
            client.send(get("/discovery?documentName=d").as_bytes());
            let refused = client.answer();
            assert_eq!(refused.status, 401);
            assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
            assert_eq!(refused.header("access-control-expose-headers"), Some("Retry-After"));
            client.send(get(&format!("/discovery?documentName=d&token={}", token())).as_bytes());
            let found = client.answer();
            assert!(found.body.contains(&format!("ws://{}/d", node.address())), "{}", found.body);
            client.send(get(&format!("/usage?token={}", token())).as_bytes());
            assert_eq!(client.answer().status, 200);
        });
    });
}

#[test]
fn requests_that_find_no_place_are_answered_503_at_once() {
    on_every_engine(|options| {
        let options = Options { http_connections: 3, http_queue: 1, ..options };
        beside_others(&options, |node| {
            // Three keep their connections, each with a request that never ends.
            let mut holders: Vec<TestClient> = (0..3).map(|_| TestClient::dial(node)).collect();
            for holder in &mut holders {
                holder.send(format!("{}GET /hea", get("/health")).as_bytes());
                assert_eq!(holder.answer().status, 200);
            }
            for _ in 0..20 {
                let mut client = TestClient::dial(node);
                client.send(get("/health").as_bytes());
                let answer = client.answer();
                assert_eq!(answer.status, 503);
                assert!(retry_after(&answer) >= 1);
                assert_eq!(client.receive(), Received::End);
            }
            drop(holders);
            eventually("there is room again", || {
                let mut client = TestClient::dial(node);
                client.send(get("/health").as_bytes());
                client.answer().status == 200
            });
        });
    });
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    on_every_engine(|options| {
        let options = Options { per_minute: Some([5, 4, 3]), ..options };
        let node = TestNode::start(PROGRAM, &options);
        let before = node.measure();
        let mut open: Vec<TestClient> =
            (0..5).map(|n| TestClient::join(&node, &format!("limited-{n}"))).collect();
        for _ in 0..3 {
            let mut client = TestClient::dial(&node);
            client.send(upgrade_request(&format!("/limited?token={}", token()), "").as_bytes());
            let answer = client.answer();
            assert_eq!(answer.status, 429);
            assert!((1..=60).contains(&retry_after(&answer)), "{}", answer.head);
            assert_eq!(client.receive(), Received::End);
        }
        // Each kind has its own bucket, over all threads; health has none.
        let mut http = TestClient::dial(&node);
        let mut statuses = |path: &str, count: usize| -> Vec<u16> {
            let ask = |_| {
                http.send(get(&format!("{path}token={}", token())).as_bytes());
                http.answer().status
            };
            (0..count).map(ask).collect()
        };
        assert_eq!(statuses("/discovery?documentName=d&", 5), [200, 200, 200, 200, 429]);
        assert_eq!(statuses("/usage?", 4), [200, 200, 200, 429]);
        assert_eq!(statuses("/health?", 20), [200; 20]);
        // Who is in stays in.
        for client in &mut open {
            client.message(&step1());
            assert!(update_of(&client.binary()).is_some());
        }
        drop((open, http));
        eventually("everything is given back", || node.measure().connections <= before.connections);
    });
}

#[test]
fn a_full_node_refuses_before_the_upgrade_and_takes_the_next_when_one_leaves() {
    on_every_engine(|options| {
        let options = Options { max_connections: 8, ..options };
        let node = TestNode::start(PROGRAM, &options);
        let mut open: Vec<TestClient> =
            (0..8).map(|n| TestClient::join(&node, &format!("full-{n}"))).collect();
        let target = format!("/full?token={}", token());
        // Over two threads there are slots left to answer; within one the kernel keeps whoever comes waiting.
        if options.threads > 1 {
            let mut client = TestClient::dial(&node);
            client.send(upgrade_request(&target, "").as_bytes());
            let answer = client.answer();
            assert_eq!(answer.status, 503);
            assert!(retry_after(&answer) >= 1);

            let mut asks = TestClient::dial(&node).upgraded(&format!("{target}&refuse=close"));
            let (code, reason) = asks.close_frame();
            assert_eq!(code, 1013);
            assert!(reason.strip_prefix("retry_ms=").is_some_and(|ms| ms.parse::<u64>().is_ok()), "{reason}");
        }
        let mut leaver = open.pop().expect("eight");
        leaver.close(1000);
        assert_eq!(leaver.closed(), Some(1000));
        let start = Instant::now();
        let mut next = loop {
            let mut client = TestClient::dial(&node);
            client.send(upgrade_request(&target, "").as_bytes());
            match client.answer().status {
                101 => break client.joined(),
                status => assert!(status == 503 && start.elapsed() < PATIENCE, "{status}"),
            }
        };
        next.message(&ywebsocket_update(&edit(1, 0, "in")));
        for client in &mut open {
            client.message(&step1());
            assert!(update_of(&client.binary()).is_some());
        }
    });
}

#[test]
fn a_node_that_stops_says_goodbye_to_everybody_and_ends() {
    on_every_engine(|options| {
        let mut node = TestNode::start(PROGRAM, &options);
        let mut members: Vec<TestClient> =
            (0..20).map(|n| TestClient::join(&node, &format!("last-{}", n % 7))).collect();
        let mut silent = TestClient::open(&node, "last-0");
        let mut guest = TestClient::dial(&node);
        guest.send(b"GET /half HTTP/1.1\r\n");
        let mut http = TestClient::dial(&node);
        http.send(get("/health").as_bytes());
        assert_eq!(http.answer().status, 200);
        node.tell_to_stop();
        for member in &mut members {
            assert_eq!(member.closed(), Some(1012));
        }
        assert_eq!(silent.close_frame().0, 1012);
        assert_eq!(guest.receive(), Received::End);
        assert_eq!(http.receive(), Received::End);
        assert!(node.wait(), "the process ended badly");
    });
}

#[test]
fn a_node_stops_though_clients_do_not_agree() {
    on_every_engine(|options| {
        let mut node = TestNode::start(PROGRAM, &options);
        let stubborn: Vec<TestClient> =
            (0..20).map(|n| TestClient::join(&node, &format!("last-{n}"))).collect();
        node.tell_to_stop();
        assert!(node.wait(), "the process ended badly");
        drop(stubborn);
    });
}
