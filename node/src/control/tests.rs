//! HTTP over real sockets that came through the door, and deadlines in virtual time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pinwire_protocol::document::name::NameRules;
use pinwire_registry::{Answering, AppName, DocumentName, Embedded, NodeView, Registry, Request};
use pinwire_shed::{State, Verdict};
use pinwire_token::mint::merge;
use pinwire_token::{Key, KeySet, SigningKey, mint};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::socket::Socket;
use super::thread::serve_connection;
use super::*;
use crate::apps::{Apps, start_lookups};
use crate::config::{AddressLimits, Cluster, Config, HttpLimits, RegionEntry, RegionStatus};
use crate::regions::{Catalogue, Own};
use crate::shedding::{Health, Standing};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const LIMITS: HttpLimits = HttpLimits {
    metrics: true,
    queue: 4,
    max_connections: 8,
    head_deadline: Duration::from_secs(10),
    answer_deadline: Duration::from_secs(5),
};

struct Node {
    door: HttpDoor,
    control: Control,
    registry: Embedded,
    catalogue: Arc<Catalogue>,
    apps: Arc<Apps>,
    health: Arc<Health>,
    listener: TcpListener,
}

impl Node {
    fn start() -> Self {
        Self::with(LIMITS, |_| {})
    }

    fn with(limits: HttpLimits, change: impl FnOnce(&mut Services)) -> Self {
        let (mut services, registry) = services();
        change(&mut services);
        let (health, apps) = (Arc::clone(&services.own.health), Arc::clone(&services.apps));
        let catalogue = Arc::clone(&services.catalogue);
        let (door, control) = start(services, limits).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { door, control, registry, catalogue, apps, health, listener }
    }

    /// A client and the node's end of its connection.
    fn connect(&self) -> (Client, OwnedFd, SocketAddr) {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (accepted, peer) = self.listener.accept().unwrap();
        (Client { stream, rest: Vec::new() }, accepted.into(), peer)
    }

    /// A client whose connection was handed over after `read` had arrived.
    fn client(&self, read: &str) -> Client {
        let (client, fd, peer) = self.connect();
        self.door.try_hand_over(HandOver { fd, read: read.into(), peer, carried: None }).unwrap();
        client
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &str) -> Answer {
        self.client(request).answer()
    }

    fn get(&self, target: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"))
    }
}

fn config(keys: KeySet) -> Config {
    Config::dev("127.0.0.1:0".parse().unwrap(), 1, keys)
}

/// A registry that never answers.
#[derive(Debug)]
struct Silent;

impl Registry for Silent {
    fn ask(&self, _: Request) -> Answering {
        Box::pin(std::future::pending())
    }
}

fn lookup(registry: impl Registry + Clone + 'static) -> Arc<Lookup> {
    let open = move || -> Vec<Arc<dyn Registry>> { vec![Arc::new(registry.clone())] };
    Arc::new(Lookup::new(Box::new(open), Arc::default()))
}

fn services() -> (Services, Embedded) {
    let apps = Arc::new(Apps::new());
    let keys = KeySet::from_iter([Key::from_secret(SECRET).unwrap()]);
    let registry = Embedded::new(1);
    let region = |name: &str, status| RegionEntry {
        name: name.to_owned(),
        url: format!("wss://{name}.example.net"),
        status,
        area: Some("Ohio".to_owned()),
    };
    let entries = [region("us-east-2", RegionStatus::Live), region("ap-south-1", RegionStatus::ComingSoon)];
    let catalogue = Arc::new(Catalogue::new("eu-central-1", "wss://eu-central-1.example.net", &entries));
    let own = Own {
        node: "a".into(),
        health: Arc::new(Health::default()),
        connections: Arc::new(AtomicU32::new(25)),
        max_connections: 100,
    };
    let lookup = lookup(registry.clone());
    let services = Services {
        region: "eu-central-1".to_owned(),
        live: Arc::new(Live::new(&config(keys), Instant::now()).unwrap()),
        known_db_codes: vec!["aws-eu-west-1".to_owned()],
        cluster: Cluster::alone(),
        dns: None,
        drains: None,
        apps: Arc::clone(&apps),
        records: Arc::default(),
        pins: Arc::new(RegistryPins::new(lookup, Arc::clone(&catalogue), own.clone())),
        catalogue,
        own,
        stats: Arc::default(),
        names: NameRules::default(),
        trusted_proxies: Vec::new(),
        usage: Arc::new(LocalUsage(apps)),
        max_connections: 100,
        threads: None,
        store: None,
        status: None,
        page: None,
        key_numbers: Arc::default(),
        traces: None,
    };
    (services, registry)
}

/// Asks a registry in this process.
fn asked(registry: &Embedded, request: Request) -> pinwire_registry::Answer {
    registry.ask(request).now_or_never().unwrap().unwrap()
}

/// A node of that region opens `t::a::{name}`.
fn open(registry: &Embedded, region: &str, name: &str) {
    let node = pinwire_registry::Node { region: region.into(), name: "n".into(), life: 1 };
    let ws_url = format!("wss://{region}.example.net").into();
    let view = NodeView {
        node: node.clone(),
        ws_url,
        peer_address: "".into(),
        version: "1".into(),
        admin_url: "".into(),
    };
    asked(registry, Request::Register { node: view, lease_us: 20_000_000 });
    let document = DocumentName { app: AppName("t::a".into()), name: name.into() };
    let (nonce, hold, max_documents, grace_us) = (7, 1, 10, 0);
    asked(registry, Request::Claim { document, node, nonce, hold, max_documents, grace_us });
}

fn token(changes: Value) -> String {
    let mut claims = json!({
        "aud": "pinwire", "scope": "pinwire", "tenantid": "t", "appId": "a", "exp": 9_999_999_999u64,
        "limits": { "maxConnections": 4, "maxDocuments": 1000 },
    });
    merge(&mut claims, changes);
    mint(&SigningKey::from_secret(SECRET).unwrap(), &claims).unwrap()
}

fn bearer(changes: Value) -> String {
    format!("Authorization: Bearer {}\r\n", token(changes))
}

struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Client {
    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more() > 0, "closed before a whole head: {:?}", String::from_utf8_lossy(&self.rest));
        };
        let head = String::from_utf8(self.rest.drain(..head_end).collect()).unwrap();
        let mut answer = Answer { head, body: Value::Null };
        let length: usize = answer.header("content-length").map_or(0, |n| n.parse().unwrap());
        while self.rest.len() < length {
            assert!(self.more() > 0, "closed inside a body");
        }
        let body: Vec<u8> = self.rest.drain(..length).collect();
        answer.body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        answer
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer).unwrap();
        self.rest.extend_from_slice(&buffer[..read]);
        read
    }

    fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && self.more() == 0
    }
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: Value,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[test]
fn discovery_tells_where_a_document_is_open_and_whether_it_is_new() {
    let node = Node::start();
    let with_token = bearer(json!({}));
    let answer = node.get("/discovery?documentName=my-doc", &with_token);
    assert_eq!(answer.status(), 200);
    let expected =
        json!({ "region": "eu-central-1", "url": "wss://eu-central-1.example.net/my-doc", "isNew": true });
    assert_eq!(answer.body, expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));

    open(&node.registry, "us-east-1", "my-doc");
    let pinned =
        json!({ "region": "us-east-1", "url": "wss://us-east-1.example.net/my-doc", "isNew": false });
    assert_eq!(node.get("/discovery?documentName=my-doc", &with_token).body, pinned);
    let other = bearer(json!({ "tenantid": "u" }));
    assert_eq!(node.get("/discovery?documentName=my-doc", &other).body["isNew"], true);
}

#[test]
fn a_token_may_stand_in_the_header_or_in_the_query_and_the_header_counts_first() {
    let node = Node::start();
    let good = token(json!({}));
    for target in [format!("token={good}"), format!("access_token={good}")] {
        assert_eq!(node.get(&format!("/discovery?documentName=d&{target}"), "").status(), 200);
    }
    let target = format!("/discovery?documentName=d&token={good}");
    assert_eq!(node.get(&target, "Authorization: Bearer nonsense\r\n").status(), 401);
    assert_eq!(
        node.get("/discovery?documentName=d", &format!("authorization: bearer {good}\r\n")).status(),
        200
    );
}

#[test]
fn usage_is_reported_against_the_tokens_limits() {
    let node = Node::start();
    let app = node.apps.enter("t", "a", None, 0).unwrap();
    (0..3).for_each(|_| assert!(app.admit_connection(9).is_ok()));
    (0..900).for_each(|_| app.admit_document(1000).unwrap());
    let answer = node.get("/usage", &bearer(json!({})));
    assert_eq!(answer.status(), 200);
    let usage = json!({
        "connections": { "current": 3, "limit": 4, "percent": 75, "status": "warning" },
        "documents": { "current": 900, "limit": 1000, "percent": 90, "status": "critical" },
    });
    assert_eq!(answer.body["usage"], usage);
    assert_eq!((&answer.body["tenantId"], &answer.body["appId"]), (&json!("t"), &json!("a")));
    assert_rfc3339_utc(&answer.body["timestamp"]);
    let unseen = node.get("/usage", &bearer(json!({ "appId": "unseen" })));
    assert_eq!(unseen.body["usage"]["connections"]["current"], 0);
}

fn assert_rfc3339_utc(timestamp: &Value) {
    let text = timestamp.as_str().unwrap();
    assert_eq!((&text[4..5], &text[10..11], text.ends_with('Z')), ("-", "T", true), "{text}");
}

#[test]
fn health_is_200_while_clients_may_come_and_503_with_a_retry_otherwise() {
    let node = Node::start();
    for (status, name, code) in [
        (State::Healthy, "healthy", 200),
        (State::Degraded, "degraded", 200),
        (State::Overloaded, "overloaded", 503),
        (State::Draining, "draining", 503),
    ] {
        let verdict = Verdict { state: status, ..Verdict::default() };
        node.health.publish(Standing { verdict, cause: "why".into(), ..Standing::default() });
        for target in ["/health", "/"] {
            let answer = node.get(target, "");
            assert_eq!((answer.status(), &answer.body["status"]), (code, &json!(name)));
            assert_eq!(
                (&answer.body["cause"], &answer.body["change"]),
                (&json!("why"), &json!("00000000-0"))
            );
            assert_rfc3339_utc(&answer.body["timestamp"]);
            assert_eq!(answer.header("retry-after").is_some(), code == 503);
        }
    }
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let node = Node::start();
    let good = bearer(json!({}));
    let long = format!("/discovery?documentName={}", "x".repeat(256));
    for target in [
        "/discovery",
        "/discovery?documentName=",
        "/discovery?documentName=a%20b",
        "/discovery?documentName=%ff",
        "/discovery?documentName=a&documentName=b",
        long.as_str(),
    ] {
        let answer = node.get(target, &good);
        assert_eq!((answer.status(), &answer.body["parameter"]), (400, &json!("documentName")), "{target}");
    }
    let missing = node.get("/usage", "");
    assert_eq!((missing.status(), &missing.body["error"]), (401, &json!("missing_token")));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let expired = node.get("/usage", &bearer(json!({ "exp": 1 })));
    assert_eq!((expired.status(), &expired.body["message"]), (401, &json!("token expired")));
    for changes in [
        json!({ "documents": ["other-*"] }),
        json!({ "regions": ["us-east-1"] }),
        json!({ "dbCode": "aws-mars-1" }),
    ] {
        let answer = node.get("/discovery?documentName=d", &bearer(changes.clone()));
        assert_eq!((answer.status(), &answer.body["error"]), (403, &json!("forbidden")), "{changes}");
    }
    let nowhere = node.get("/my-document", "");
    assert_eq!((nowhere.status(), &nowhere.body["error"]), (404, &json!("not_found")));
    let post = node.ask("POST /usage HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((post.status(), &post.body["error"]), (405, &json!("method_not_allowed")));
    assert!(post.header("allow").unwrap().contains("GET"));
    assert_eq!(node.ask("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 405);
}

#[test]
fn a_preflight_is_answered_without_a_token() {
    let node = Node::start();
    for target in ["/discovery?documentName=d", "/usage", "/health"] {
        let answer = node.ask(&format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: x\r\nOrigin: https://example.com\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        ));
        assert_eq!(answer.status(), 204, "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("Authorization"));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("GET"));
        assert!(answer.header("access-control-max-age").unwrap().parse::<u32>().unwrap() > 0);
    }
}

#[test]
fn pages_may_read_answers_and_errors_of_the_origins_that_the_token_allows() {
    let node = Node::start();
    let allow = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    let open = bearer(json!({}));
    for (target, headers) in [
        ("/usage", open.as_str()),
        ("/usage", ""),
        ("/discovery", &open),
        ("/health", "Origin: https://e.com\r\n"),
    ] {
        let answer = node.get(target, headers);
        assert_eq!(allow(&answer).as_deref(), Some("*"), "{target}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("Retry-After"));
    }
    let post = node.ask("POST /usage HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(allow(&post).as_deref(), Some("*"));

    let scoped = bearer(json!({ "allowed_domain_1": "example.com", "allowed_domain_2": "localhost:3000" }));
    for origin in ["https://example.com", "http://localhost:3000"] {
        let answer = node.get("/usage", &format!("{scoped}Origin: {origin}\r\n"));
        assert_eq!((answer.status(), allow(&answer).as_deref()), (200, Some(origin)));
        assert_eq!(answer.header("vary"), Some("Origin"));
        let error = node.get("/discovery", &format!("{scoped}Origin: {origin}\r\n"));
        assert_eq!((error.status(), allow(&error).as_deref()), (400, Some(origin)));
    }
    let stranger = node.get("/usage", &format!("{scoped}Origin: https://evil.example\r\n"));
    assert_eq!((stranger.status(), allow(&stranger).as_deref()), (403, Some("https://example.com")));
    let no_page = node.get("/usage", &scoped);
    assert_eq!((no_page.status(), allow(&no_page).as_deref()), (200, Some("https://example.com")));
}

fn limited(services: &mut Services) {
    let limits =
        AddressLimits { discoveries_per_minute: 2, usages_per_minute: 1, ..AddressLimits::default() };
    let keys = services.live.trust().keys.clone();
    services.live.update(&Config { address_limits: Some(limits), ..config(keys) });
    services.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let node = Node::with(LIMITS, limited);
    let (ann, ben) = ("X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.2\r\n");
    let ask = |target: &str, client: &str| node.get(target, &format!("{}{client}", bearer(json!({}))));
    assert_eq!(ask("/discovery?documentName=d", ann).status(), 200);
    assert_eq!(ask("/discovery?documentName=d", ann).status(), 200);
    let refused = ask("/discovery?documentName=d", ann);
    assert_eq!((refused.status(), &refused.body["error"]), (429, &json!("rate_limited")));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=45).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    assert_eq!(ask("/usage", ann).status(), 200, "each kind has its own allowance");
    assert_eq!(ask("/usage", ann).status(), 429);
    assert_eq!(ask("/usage", ben).status(), 200, "each client has its own allowance");
    assert_eq!(ask("/health", ann).status(), 200);
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_the_first_read_ended() {
    let node = Node::start();
    let (head, with_token) = ("HTTP/1.1\r\nHost: x\r\n", bearer(json!({})));
    let all = format!(
        "GET /health {head}\r\nGET /discovery?documentName=d {head}{with_token}\r\nGET /nowhere {head}\r\n"
    );
    for split in [0, 1, 20, 60, all.len() - 3, all.len()] {
        let mut client = node.client(&all[..split]);
        client.send(&all[split..]);
        let statuses: Vec<u16> = (0..3).map(|_| client.answer().status()).collect();
        assert_eq!(statuses, [200, 200, 404], "split at {split}");
        client.send("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status(), 200, "kept alive");
        assert!(client.is_closed());
    }
}

#[test]
fn a_request_that_was_read_in_part_is_completed_later_byte_by_byte() {
    let node = Node::start();
    let request = format!("GET /usage HTTP/1.1\r\nHost: x\r\n{}\r\n", bearer(json!({})));
    let (early, late) = request.split_at(7);
    let mut client = node.client(early);
    for byte in late.chars() {
        client.send(&byte.to_string());
    }
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn what_is_no_http_gets_400_and_is_closed() {
    let node = Node::start();
    let mut client = node.client("\x16\x03\x01 hello\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status(), 400);
    assert!(client.is_closed());
    assert_eq!(node.get("/health", "").status(), 200, "others are served");
}

#[test]
fn a_body_that_nobody_reads_does_not_become_the_next_request() {
    let node = Node::start();
    let smuggled = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = smuggled.len();
    let mut client = node
        .client(&format!("POST /usage HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{smuggled}"));
    assert_eq!(client.answer().status(), 405);
    client.send("GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().status(), 404);
    assert!(client.is_closed());
}

#[test]
fn beyond_the_bound_connections_are_told_to_come_back() {
    let node = Node::with(HttpLimits { max_connections: 1, ..LIMITS }, |_| {});
    let mut first = node.client("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(first.answer().status(), 200);
    let mut second = node.client("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let refused = second.answer();
    assert_eq!((refused.status(), &refused.body["error"]), (503, &json!("busy")));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    first.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(first.answer().status(), 200, "whoever is served stays");
}

#[test]
fn a_stopped_thread_gives_connections_back() {
    let node = Node::start();
    let mut idle = node.client("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(idle.answer().status(), 200);
    let (_client, fd, peer) = node.connect();
    let begun = Instant::now();
    node.control.stop(Duration::from_secs(60));
    assert!(begun.elapsed() < Duration::from_secs(30), "an idle connection held the stop up");
    assert!(idle.is_closed());
    let back =
        node.door.try_hand_over(HandOver { fd, read: b"GET".to_vec(), peer, carried: None }).unwrap_err();
    assert_eq!((back.read.as_slice(), back.peer), (&b"GET"[..], peer));
}

#[test]
fn a_full_queue_gives_connections_back() {
    let node = Node::start();
    let (sender, _nobody_takes) = tokio::sync::mpsc::channel(1);
    let door = HttpDoor::new(sender);
    let hand_over = || {
        let (client, fd, peer) = node.connect();
        (client, door.try_hand_over(HandOver { fd, read: Vec::new(), peer, carried: None }))
    };
    let (_first, queued) = hand_over();
    assert!(queued.is_ok());
    let (mut second, refused) = hand_over();
    let stream = TcpStream::from(refused.unwrap_err().fd);
    (&stream).write_all(&busy_answer(3)).unwrap();
    drop(stream);
    let answer = second.answer();
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("3")));
    assert!(second.is_closed());
}

/// A connection in virtual time; `buffer` is how much the client lets wait for it.
fn in_memory(services: Services, buffer: usize) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>) {
    let (client, server) = tokio::io::duplex(buffer);
    let socket = Socket::new(server, b"GET /hea".to_vec(), LIMITS.answer_deadline);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (stop, stopping) = tokio::sync::watch::channel(None);
    let router = routes::router(Arc::new(services));
    let served = tokio::spawn(async move {
        serve_connection(socket, peer, router, stopping, LIMITS).await;
        drop(stop);
    });
    (client, served)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_is_cut_off_at_its_deadline() {
    let begun = tokio::time::Instant::now();
    let (mut client, served) = in_memory(services().0, 4096);
    client.write_all(b"lth HTTP/1.1\r\n").await.unwrap();
    let mut drops = 0;
    while client.write_all(b"x-header: y\r\n").await.is_ok() && !served.is_finished() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drops += 1;
        assert!(drops < 60, "still open after a minute");
    }
    served.await.unwrap();
    let took = begun.elapsed();
    assert!(
        (LIMITS.head_deadline..LIMITS.head_deadline + Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kept_alive_connection_may_be_idle_as_long_as_a_head_may_take() {
    let (mut client, served) = in_memory(services().0, 4096);
    client.write_all(b"lth HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    served.await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(begun.elapsed() >= LIMITS.head_deadline);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let (mut client, served) = in_memory(services().0, 256);
    let begun = tokio::time::Instant::now();
    client.write_all(b"lth HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let more = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let flood = tokio::spawn(async move {
        let refused = client.write_all(&more).await;
        (client, refused)
    });
    served.await.unwrap();
    let took = begun.elapsed();
    assert!((LIMITS.answer_deadline..LIMITS.answer_deadline * 2).contains(&took), "{took:?}");
    assert!(flood.await.unwrap().1.is_err());
}

#[derive(Debug)]
struct SilentRegistry;

impl Pins for SilentRegistry {
    fn locate<'a>(&'a self, _: Wanted<'a>) -> BoxFuture<'a, Result<Located, OutOfReach>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_becomes_a_503_in_time() {
    let (services, ..) = services();
    let (mut client, _served) = in_memory(Services { pins: Arc::new(SilentRegistry), ..services }, 4096);
    let with_token = bearer(json!({}));
    let request = format!(
        "lth HTTP/1.1\r\nHost: x\r\n\r\nGET /discovery?documentName=d HTTP/1.1\r\nHost: x\r\n\
         Connection: close\r\n{with_token}\r\n"
    );
    let begun = tokio::time::Instant::now();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    let took = begun.elapsed();
    assert!((LIMITS.answer_deadline..LIMITS.answer_deadline * 2).contains(&took), "{took:?}");
    assert!(answers.contains("HTTP/1.1 503") && answers.contains("retry-after: "), "{answers}");
}

#[test]
fn regions_are_told_with_what_is_known_of_them() {
    let node = Node::start();
    let preflight = node.ask("OPTIONS /regions HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(preflight.status(), 204);
    let answer = node.get("/regions", "Origin: https://e.com\r\n");
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some("*")));
    assert_rfc3339_utc(&answer.body["timestamp"]);
    let expected = json!([
        {
            "name": "eu-central-1", "url": "wss://eu-central-1.example.net", "status": "live", "area": null,
            "roundTripMs": 0.0, "health": "healthy", "occupancy": 0.25,
        },
        {
            "name": "us-east-2", "url": "wss://us-east-2.example.net", "status": "live", "area": "Ohio",
            "roundTripMs": null, "health": null, "occupancy": null,
        },
        {
            "name": "ap-south-1", "url": "wss://ap-south-1.example.net", "status": "coming-soon", "area": "Ohio",
            "roundTripMs": null, "health": null, "occupancy": null,
        },
    ]);
    assert_eq!((&answer.body["region"], &answer.body["regions"]), (&json!("eu-central-1"), &expected));
    let sight = crate::regions::Sight::answered(
        None,
        Duration::from_micros(12_345),
        crate::regions::Condition::Degraded,
        Some(0.5),
    );
    node.catalogue.get("us-east-2").unwrap().see(sight);
    let seen = &node.get("/regions", "").body["regions"][1];
    assert_eq!(
        (&seen["roundTripMs"], &seen["health"], &seen["occupancy"]),
        (&json!(12.3), &json!("degraded"), &json!(0.5))
    );
    assert_eq!(node.get("/health", "").body["occupancy"], 0.25);
}

#[test]
fn discovery_and_usage_say_try_again_when_the_registry_does_not_answer() {
    let silent = lookup_of_silent();
    let node = Node::with(LIMITS, |services| {
        services.pins = Arc::new(RegistryPins::new(
            Arc::clone(&silent),
            Arc::clone(&services.catalogue),
            services.own.clone(),
        ));
        services.usage = Arc::new(RegistryUsage(silent));
    });
    let with_token = bearer(json!({}));
    for target in ["/discovery?documentName=d", "/usage"] {
        let answer = node.get(target, &with_token);
        assert_eq!((answer.status(), &answer.body["error"]), (503, &json!("unavailable")), "{target}");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(node.get("/health", "").status(), 200);
}

fn lookup_of_silent() -> Arc<Lookup> {
    let open = || -> Vec<Arc<dyn Registry>> { vec![Arc::new(Silent)] };
    Arc::new(Lookup::new(Box::new(open), Arc::default()))
}

#[test]
fn usage_over_all_regions_comes_from_the_registry() {
    let node = Node::with(LIMITS, |services| {
        let registry = Embedded::new(2);
        open(&registry, "us-east-1", "one");
        open(&registry, "us-east-1", "two");
        services.usage = Arc::new(RegistryUsage(lookup(registry)));
    });
    let usage = &node.get("/usage", &bearer(json!({}))).body["usage"];
    assert_eq!((&usage["documents"]["current"], &usage["documents"]["limit"]), (&json!(2), &json!(1000)));
}

const PUBLIC: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"of-the-app","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// RFC 8037, appendix A.1, as PKCS #8.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

#[test]
fn an_apps_record_counts_where_its_token_does_not_say_and_before_the_configuration() {
    let mut thread = None;
    let node = Node::with(LIMITS, |services| {
        let registry = Embedded::new(2);
        let text = format!(
            r#"{{"limits":{{"maxDocuments":7,"maxConnections":9}},"regions":["us-east-2"],"keys":[{PUBLIC}]}}"#
        );
        let app = AppName("t::recorded".into());
        asked(&registry, Request::PutApp { app, version: 0, record: Some(text.as_str().into()) });
        let (records, lookups) =
            start_lookups(move || vec![Arc::new(registry) as Arc<dyn Registry>]).unwrap();
        services.records = records;
        thread = Some(lookups);
    });
    let limits = |answer: &Answer| {
        let usage = &answer.body["usage"];
        (usage["connections"]["limit"].clone(), usage["documents"]["limit"].clone())
    };
    let said = json!({ "appId": "recorded", "limits": { "maxConnections": 3, "maxDocuments": null } });
    let mixed = node.get("/usage", &bearer(said));
    assert_eq!(limits(&mixed), (json!(3), json!(7)));
    let unrecorded = node.get("/usage", &bearer(json!({ "limits": { "maxDocuments": null } })));
    assert_eq!(limits(&unrecorded), (json!(4), json!(500)));

    let chosen = node.get("/discovery?documentName=d", &bearer(json!({ "appId": "recorded" })));
    assert_eq!((chosen.status(), &chosen.body["region"]), (200, &json!("us-east-2")), "{chosen:?}");
    let refused = node.get(
        "/discovery?documentName=d",
        &bearer(json!({ "appId": "recorded", "regions": ["eu-central-1"] })),
    );
    assert_eq!(refused.status(), 403, "{refused:?}");

    let key = SigningKey::from_private_pem(PRIVATE).unwrap().with_id("of-the-app");
    let by_app = |app: &str, tenant: &str| {
        let claims = json!({
            "aud": "pinwire", "scope": "pinwire", "tenantid": tenant, "appId": app, "exp": 9_999_999_999u64,
        });
        let token = mint(&key, &claims).unwrap();
        node.get("/usage", &format!("Authorization: Bearer {token}\r\n"))
    };
    assert_eq!(limits(&by_app("recorded", "t")), (json!(9), json!(7)));
    assert_eq!(by_app("another", "t").status(), 401);
    assert_eq!(by_app("recorded", "u").status(), 401);
    drop(thread);
}

#[test]
fn an_app_that_names_another_license_region_than_before_is_refused() {
    let node = Node::with(LIMITS, |services| services.known_db_codes.push("aws-us-east-1".to_owned()));
    node.apps.enter("t", "a", Some("aws-eu-west-1"), 0).unwrap();
    for target in ["/usage", "/discovery?documentName=d"] {
        let answer = node.get(target, &bearer(json!({ "dbCode": "aws-us-east-1" })));
        assert_eq!(answer.status(), 403);
        assert_eq!(
            answer.body["message"],
            "dbCode aws-us-east-1: the app is of license region aws-eu-west-1"
        );
        assert_eq!(node.get(target, &bearer(json!({ "dbCode": "aws-eu-west-1" }))).status(), 200);
    }
}
