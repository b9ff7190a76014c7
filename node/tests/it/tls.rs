//! TLS as clients see it: the program itself, with certificates in files.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Limits, Opcode, Role, Scratch};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::rig::{Home, PATIENCE, Serving, run};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A home whose node speaks TLS, with certificates that it made itself.
struct Secure {
    home: Home,
    roots: RootCertStore,
}

impl Secure {
    /// A certificate for each of these names.
    fn new(names: &[&str]) -> Self {
        let mut new = Self { home: Home::new(), roots: RootCertStore::empty() };
        for (number, name) in names.iter().enumerate() {
            new.certify(number, name);
        }
        let files = |kind: &str| {
            let names: Vec<String> = (0..names.len()).map(|number| format!("\"{number}.{kind}\"")).collect();
            names.join(", ")
        };
        let (certificates, keys) = (files("crt"), files("key"));
        let text = fs::read_to_string(new.home.config()).unwrap();
        let text = text
            .replace("# certificates = []", &format!("certificates = [{certificates}]"))
            .replace("# keys = []", &format!("keys = [{keys}]"));
        fs::write(new.home.config(), text).unwrap();
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.config().with_file_name(name)
    }

    /// Writes another certificate for a name.
    fn certify(&mut self, number: usize, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(self.path(&format!("{number}.crt")), made.cert.pem()).unwrap();
        fs::write(self.path(&format!("{number}.key")), made.signing_key.serialize_pem()).unwrap();
        self.roots.add(made.cert.der().clone()).unwrap();
    }

    fn start(&self) -> Serving {
        self.start_with(&["threads=2"])
    }

    fn start_with(&self, settings: &[&str]) -> Serving {
        let settings = [&["listen=", "tls.listen=127.0.0.1:0"], settings].concat();
        Serving::start_with(&self.home.config(), &settings)
    }

    /// What clients connect by; one keeps the tickets that it was given.
    fn client(&self) -> Arc<ClientConfig> {
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(self.roots.clone()).with_no_client_auth())
    }
}

fn authority(node: &Serving) -> String {
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
    url.strip_prefix("wss://").unwrap_or_else(|| panic!("{url}")).to_owned()
}

fn connect(node: &Serving, client: &Arc<ClientConfig>, name: &str) -> Stream {
    let tcp = TcpStream::connect(authority(node)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), tcp);
    tls.conn.complete_io(&mut tls.sock).unwrap();
    tls
}

fn get(stream: &mut Stream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn certificate(stream: &Stream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A y-websocket client, by hand.
struct Member {
    stream: Stream,
    decoder: Decoder,
    received: Vec<u8>,
}

impl Member {
    fn open(mut stream: Stream, document: &str, token: &str) -> Self {
        write!(
            stream,
            "GET /{document}?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Self { stream, decoder: Decoder::new(Role::Client, false), received: Vec::new() }
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        write(&mut payload);
        ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next update that says something, in an answer or by itself.
    fn update(&mut self) -> Vec<u8> {
        let mut scratch = Scratch::new();
        loop {
            while !self.received.is_empty() {
                let mut received = std::mem::take(&mut self.received);
                let decoded = self.decoder.decode(&mut received, &Limits::DEFAULT, &mut scratch).unwrap();
                let found = match decoded.event {
                    Some(Event::Message { payload, .. }) => match ywebsocket::decode(payload).unwrap() {
                        Message::SyncStep2 { update } | Message::Update { update } if update != [0, 0] => {
                            Some(update.to_vec())
                        }
                        _ => None,
                    },
                    _ => None,
                };
                let consumed = decoded.consumed;
                self.received = received.split_off(consumed);
                if let Some(found) = found {
                    return found;
                }
            }
            let mut bytes = [0; 16 << 10];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the connection ended");
            self.received.extend_from_slice(&bytes[..count]);
        }
    }
}

/// An update by client 7 that inserts a text of so many bytes.
fn insertion(len: usize) -> Vec<u8> {
    let mut update = vec![1, 1, 7, 0, 4, 1, 1, b't'];
    pinwire_protocol::document::varint::write_var_uint(&mut update, len as u64);
    update.resize(update.len() + len, b'x');
    update.push(0);
    update
}

#[test]
fn documents_of_every_thread_and_http_are_served_in_tls() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let (client, token) = (secure.client(), secure.home.token());
    assert!(get(&mut connect(&node, &client, "localhost"), "/health").contains("\"healthy\""));
    for number in 0..16 {
        // Some of these documents are the other thread's: the connection moves there with its session.
        let name = format!("document-{number}");
        let join = || {
            let mut member = Member::open(connect(&node, &client, "localhost"), &name, &token);
            member.say(|out| ywebsocket::append_sync_step1(out, &[0]));
            member
        };
        // Larger than a record of TLS, and than a read.
        let update = insertion(if number == 0 { 1 << 20 } else { 100 });
        let (mut writer, mut reader) = (join(), join());
        writer.say(|out| ywebsocket::append_update(out, &update));
        assert!(reader.update() == update);
        assert!(join().update() == update);
    }
    let metrics = get(&mut connect(&node, &client, "localhost"), "/metrics");
    assert!(metrics.contains("pinwire_thread_up{thread=\"1\"} 1"), "{metrics}");
    assert_eq!(node.end(), 0);
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let secure = Secure::new(&["one.example", "two.example"]);
    let node = secure.start();
    let (one, two) = (
        certificate(&connect(&node, &secure.client(), "one.example")),
        certificate(&connect(&node, &secure.client(), "two.example")),
    );
    assert!(one != two);
}

#[test]
fn a_reload_takes_certificates_over_and_connections_live_on() {
    let mut secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let mut before = connect(&node, &secure.client(), "localhost");
    secure.certify(0, "localhost");
    node.signal("HUP");
    node.logs(&["configuration reloaded"]);
    let after = connect(&node, &secure.client(), "localhost");
    assert!(certificate(&before) != certificate(&after));
    assert!(get(&mut before, "/health").contains("\"healthy\""));

    // One that does not fit its key changes nothing.
    fs::copy(secure.path("0.crt"), secure.path("old.crt")).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(secure.path("0.crt"), other.cert.pem()).unwrap();
    node.signal("HUP");
    node.logs(&["tls.keys", "is not the key of the first certificate in"]);
    let still = connect(&node, &secure.client(), "localhost");
    assert!(certificate(&still) == certificate(&after));
}

#[test]
fn who_comes_back_resumes_by_a_ticket() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let client = secure.client();
    let mut first = connect(&node, &client, "localhost");
    // The ticket comes with the first answer.
    get(&mut first, "/health");
    let again = connect(&node, &client, "localhost");
    assert_eq!(first.conn.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn plain_text_on_a_port_with_tls_is_refused_and_disturbs_nobody() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let mut plain = TcpStream::connect(authority(&node)).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // An alert, or a reset where some of the request was not read.
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.first().is_none_or(|first| *first == 21), "{answer:?}");
    assert!(get(&mut connect(&node, &secure.client(), "localhost"), "/health").contains("\"healthy\""));
}

#[test]
fn refusals_and_ends_are_told_in_tls() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let client = secure.client();
    // Answered and ended in one turn of the data thread.
    let mut refused = connect(&node, &client, "localhost");
    refused.write_all(b"GET /d HTTP/1.1\r\nBad Header: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).expect("an answer, and close_notify behind it");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    let token = secure.home.token();
    let mut member = Member::open(connect(&node, &client, "localhost"), "document", &token);
    let mut bytes = Vec::new();
    ws::append_close(&mut bytes, 1000_u16, "", Some([1, 2, 3, 4]));
    member.stream.write_all(&bytes).unwrap();
    let mut rest = Vec::new();
    member.stream.read_to_end(&mut rest).expect("a close frame, and close_notify behind it");
    assert_eq!(rest, [0x88, 2, 3, 0xe8]);
}

#[test]
fn what_follows_an_end_is_ignored_and_kept_nowhere() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start();
    let mut stream = connect(&node, &secure.client(), "localhost");
    write!(stream, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer, and close_notify behind it");
    assert!(answer.contains("\"healthy\""), "{answer}");
    // The node has ended its side, and takes no more.
    let zeros = vec![0; 1 << 20];
    let is_refused = (0..256).any(|_| stream.sock.write_all(&zeros).is_err());
    assert!(is_refused, "256 MiB were taken");
}

/// Reads to the end, which has to be said.
fn rest(stream: &mut Stream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("close_notify before the end");
    rest
}

#[test]
fn a_herd_of_handshakes_waits_in_turn_and_nobody_is_lost() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start_with(&["threads=1", "tls.handshakes_per_turn=1"]);
    let client = secure.client();
    let mut there = connect(&node, &client, "localhost");
    let mut herd: Vec<Stream> = (0..200)
        .map(|_| {
            let tcp = TcpStream::connect(authority(&node)).unwrap();
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(&client), name).unwrap(), tcp);
            tls.conn.write_tls(&mut tls.sock).unwrap();
            tls
        })
        .collect();
    assert!(get(&mut there, "/health").contains("\"healthy\""));
    for stream in &mut herd {
        assert!(get(stream, "/health").contains("\"healthy\""));
    }
}

#[test]
fn deadlines_end_connections_as_tls_wants_it() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start_with(&[
        "threads=1",
        "deadlines.handshake=1s",
        "http.head_deadline=1s",
        "deadlines.close=1s",
    ]);
    let client = secure.client();
    let mut silent = connect(&node, &client, "localhost");
    assert_eq!(rest(&mut silent), b"", "no request came");
    let mut idle = connect(&node, &client, "localhost");
    write!(idle, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = String::from_utf8(rest(&mut idle)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"healthy\""), "no second request came");
    // Its close frame is not answered.
    let mut refused = Member::open(connect(&node, &client, "localhost"), "document", "a.b.c");
    refused.say(|out| ywebsocket::append_sync_step1(out, &[0]));
    assert_eq!(rest(&mut refused.stream).first(), Some(&0x88));
}

#[test]
fn another_library_sees_no_truncation() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start_with(&["threads=1", "deadlines.handshake=1s"]);
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-servername", "localhost", "-connect", &authority(&node)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    // Its input stays open: the node ends the connection.
    let stdin = client.stdin.take();
    let output = client.wait_with_output().unwrap();
    drop(stdin);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("unexpected eof"), "{told}");
}

#[test]
fn a_stop_ends_connections_as_tls_wants_it() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start_with(&["threads=1"]);
    let (client, token) = (secure.client(), secure.home.token());
    let mut guest = connect(&node, &client, "localhost");
    let mut member = Member::open(connect(&node, &client, "localhost"), "document", &token);
    member.say(|out| ywebsocket::append_sync_step1(out, &[0]));
    node.signal("TERM");
    assert_eq!(rest(&mut guest), b"");
    // Its patience is waited for, since this one answers no close frame.
    assert!(rest(&mut member.stream).windows(2).any(|pair| pair == 1012_u16.to_be_bytes()));
    node.logs(&["stopped"]);
}

/// The value of a metric with these labels, over all threads.
fn metric(node: &Serving, client: &Arc<ClientConfig>, name: &str) -> u64 {
    let text = get(&mut connect(node, client, "localhost"), "/metrics");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let values: Vec<u64> = lines.map(|(_, value)| value.parse().unwrap()).collect();
    assert!(!values.is_empty(), "{name} in\n{text}");
    values.iter().sum()
}

#[test]
fn handshakes_are_counted_and_failed_ones_told_by_their_reason() {
    let secure = Secure::new(&["localhost"]);
    let node = secure.start_with(&["threads=1", "deadlines.handshake=2s"]);
    let client = secure.client();
    // Who speaks no TLS, who does not trust the certificate, who says nothing, who leaves.
    let silent = TcpStream::connect(authority(&node)).unwrap();
    let mut plain = TcpStream::connect(authority(&node)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let tcp = TcpStream::connect(authority(&node)).unwrap();
    let name = ServerName::try_from("other.example").unwrap();
    let mut wary = StreamOwned::new(ClientConnection::new(Arc::clone(&client), name).unwrap(), tcp);
    assert!(wary.conn.complete_io(&mut wary.sock).is_err());
    drop(TcpStream::connect(authority(&node)).unwrap());
    let mut first = connect(&node, &client, "localhost");
    get(&mut first, "/health");
    get(&mut connect(&node, &client, "localhost"), "/health");
    let told =
        node.logs(&["TLS handshakes that failed within a second: ", "not_tls", "last_client=127.0.0.1"]);
    assert!(told.contains("INFO"), "{told}");
    node.logs(&["TLS handshakes that failed within a second: 1 timeout"]);
    drop(silent);
    let of = |name: &str| metric(&node, &client, name);
    let failed = |reason: &str| of(&format!("pinwire_tls_failures_total{{reason=\"{reason}\""));
    let reasons = ["not_tls", "certificate_refused", "timeout", "closed", "alert"];
    assert_eq!(reasons.map(failed), [1, 1, 1, 1, 0]);
    // The first of this client, and those that came back with its ticket.
    assert_eq!(of("pinwire_tls_handshakes_total{kind=\"full\""), 1);
    assert!(of("pinwire_tls_handshakes_total{kind=\"resumed\"") > 1);
    assert!(of("pinwire_tls_handshake_seconds_count") > 2);
    assert_eq!(of("pinwire_tls_handshakes_waiting"), 0);
}

#[test]
fn a_certificate_that_expired_is_told_at_the_start_by_doctor_and_as_a_metric() {
    let secure = Secure::new(&["localhost"]);
    let end = time::macros::datetime!(2020-01-02 00:00 UTC);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = end;
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(secure.path("0.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(secure.path("0.key"), key.serialize_pem()).unwrap();
    let node = secure.start_with(&["listen=127.0.0.1:0", "threads=1"]);
    node.logs(&["WARN", "0.crt expired on 2020-01-02: clients refuse it; renew it"]);
    let ready = node.logs(&["ready", "tls=", "plain="]);
    let plain = ready.split("plain=").nth(1).unwrap().split('"').nth(1).unwrap();
    let mut plain = TcpStream::connect(plain).unwrap();
    write!(plain, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    plain.read_to_string(&mut metrics).unwrap();
    let line = format!(
        "pinwire_tls_certificate_not_after_timestamp_seconds{{certificate=\"localhost\"}} {}",
        end.unix_timestamp()
    );
    assert!(metrics.contains(&line), "{line} in\n{metrics}");
    let file = secure.home.config();
    let (status, told) =
        run(&["doctor", "--config", file.to_str().unwrap(), "--set", "tls.listen=127.0.0.1:0"]);
    assert_eq!(status, 2, "{told}");
    assert!(told.contains("certificates") && told.contains("expired on 2020-01-02"), "{told}");
}
