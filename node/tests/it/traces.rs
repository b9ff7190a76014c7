//! Traces as a collector gets them, and what a node does without one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use pinwire_protocol::document::ywebsocket;
use pinwire_protocol::ws::{self, Frame, Opcode};
use prost::Message;

use crate::regions::until;
use crate::rig::{Home, PATIENCE, Serving};

/// What stands in a request, its head and its spans.
struct Received {
    head: String,
    spans: Vec<Span>,
    service: String,
}

/// Takes spans as a collector does.
fn collect(listener: TcpListener) -> Receiver<Received> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let sender = sender.clone();
            let socket = socket.unwrap();
            std::thread::spawn(move || {
                while let Some(request) = read(&socket) {
                    if sender.send(request).is_err() {
                        return;
                    }
                }
            });
        }
    });
    received
}

/// A request of a connection that may have more; answered.
fn read(socket: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let of_node = request.resource_spans.into_iter().next().unwrap();
    let attributes = of_node.resource.unwrap().attributes;
    let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    let Some(Value::StringValue(service)) = service.value.clone().unwrap().value else {
        panic!("{service:?}")
    };
    let spans = of_node.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
    (&*socket).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    Some(Received { head, spans, service })
}

fn start(home: &Home, collector: SocketAddr) -> Serving {
    let headers = home.config().with_file_name("headers");
    fs::write(&headers, "Authorization: Bearer collector-secret\n").unwrap();
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = [
        "listen=127.0.0.1:0",
        "threads=1",
        "traces.one_in=1",
        &format!("traces.endpoint=http://{collector}"),
        &format!("traces.headers_file={}", headers.display()),
    ];
    Serving::start_with(&home.config(), &settings)
}

/// Asks for a document.
fn join(node: &Serving, token: &str) -> TcpStream {
    let (mut socket, status) = node.knock(token);
    assert_eq!(status, "101");
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    ywebsocket::append_sync_step1(&mut payload, &[0]);
    ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
    socket.write_all(&bytes).unwrap();
    assert!(socket.read(&mut [0; 64]).unwrap() > 0, "something is answered");
    socket
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

#[test]
fn handshakes_tokens_documents_and_requests_reach_a_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let node = start(&home, listener.local_addr().unwrap());
    let received = collect(listener);
    let token = home.token();
    let _member = join(&node, &token);
    // Answered by a close frame, once its token was judged.
    let _refused = join(&node, "a.b.c");
    let url = node.ready["regions"][0]["http_url"].as_str().unwrap();
    let mut socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        socket,
        "GET /discovery?documentName=secret-name HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    socket.read_to_end(&mut Vec::new()).unwrap();

    let mut spans = Vec::new();
    let wanted = |spans: &[Span], name: &str| spans.iter().filter(|span| span.name == name).count();
    while wanted(&spans, "GET /discovery") < 1
        || wanted(&spans, "websocket handshake") < 2
        || wanted(&spans, "token") < 2
        || wanted(&spans, "document open") < 1
    {
        let request = received.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{spans:#?}"));
        assert!(request.head.starts_with("POST /v1/traces HTTP/1.1"), "{}", request.head);
        assert!(request.head.contains("content-type: application/x-protobuf"), "{}", request.head);
        assert!(request.head.contains("authorization: Bearer collector-secret"), "{}", request.head);
        assert_eq!(request.service, "pinwire-node");
        spans.extend(request.spans);
    }
    for span in &spans {
        assert!(span.trace_id.len() == 16 && span.span_id.len() == 8, "{span:?}");
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano && span.start_time_unix_nano > 0,
            "{span:?}"
        );
        let text = format!("{span:?}");
        assert!(!text.contains("secret-name") && !text.contains(&token), "{text}");
    }
    let http = spans.iter().find(|span| span.name == "GET /discovery").unwrap();
    assert_eq!(http.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(http.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(attribute(http, "http.response.status_code"), Some(Value::IntValue(200)));
    let handshake = spans.iter().find(|span| span.name == "websocket handshake").unwrap();
    assert_eq!(attribute(handshake, "pinwire.thread"), Some(Value::IntValue(0)));
    let malformed = spans.iter().find(|span| span.status.is_some()).unwrap();
    assert_eq!(
        (malformed.name.as_str(), malformed.status.as_ref().unwrap().code),
        ("token", StatusCode::Error.into())
    );
    assert_eq!(attribute(malformed, "error.type"), Some(Value::StringValue("malformed".to_owned())));
    // Counted once the collector has answered.
    until(|| node.metric("pinwire_trace_spans_total{outcome=\"exported\"}") >= 6.0);
    assert_eq!(node.end(), 0);
}

#[test]
fn a_collector_that_is_down_is_told_once_and_harms_nobody() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let home = Home::new();
    let node = start(&home, address);
    let token = home.token();
    let _member = join(&node, &token);
    node.logs(&["WARN", "the collector takes no traces", "Connection refused"]);
    while node.metric("pinwire_trace_spans_total{outcome=\"refused\"}") < 20.0 {
        assert_eq!(node.get("/health", "").0, 200);
    }
    let received = collect(TcpListener::bind(address).unwrap());
    assert_eq!(node.get("/health", "").0, 200);
    assert!(!received.recv_timeout(PATIENCE).unwrap().spans.is_empty());
    // The lines between: nothing was told again.
    let told = node.logs_until(&["the collector takes traces again"]);
    assert!(!told.iter().any(|line| line.contains("the collector takes no traces")), "{told:#?}");
    assert_eq!(node.end(), 0);
}
