//! The admin listener as operators reach it: who is let in, on which sockets, with which certificates; and the log.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use pinwire_admin_api::actions::{Action, AuditPage, AuditRecord, Log, Outcome};
use pinwire_admin_api::apps::{AppRecord, RecordLimits, RecordedApp};
use pinwire_admin_api::cluster::{Nodes, PinPage, Regions, Unpinned};
use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::log::{LogLevel, LogLine, LogPage};
use pinwire_admin_api::node::Node;
use pinwire_admin_api::problem::Problem;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::member::{Member, Told};
use crate::rig::{Home, PATIENCE, Serving, program, run};

const TOKEN: &str = "an admin token of more than 32 bytes";

/// A home with files for the admin listener.
struct Desk(Home);

impl Desk {
    fn new() -> Self {
        let desk = Self(Home::new());
        desk.write("admin.token", &format!("{}\n", TOKEN.replace(' ', "-")));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.config().with_file_name(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn start(&self, settings: &[&str]) -> Serving {
        let path = |setting: &&str| match setting.split_once("=@") {
            Some((key, file)) => format!("{key}={}", self.path(file).display()),
            None => (*setting).to_owned(),
        };
        let settings: Vec<String> = settings.iter().map(path).collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Serving::start_with(&self.0.config(), &[&["listen=127.0.0.1:0"], &*settings].concat())
    }
}

const ON_TCP: [&str; 2] = ["admin.listen=127.0.0.1:0", "admin.token_file=@admin.token"];

pub fn token() -> String {
    TOKEN.replace(' ', "-")
}

fn authority(node: &Serving, scheme: &str) -> String {
    let url = node.ready["regions"][0]["admin_url"].as_str().unwrap();
    url.strip_prefix(scheme).unwrap_or_else(|| panic!("{url}")).to_owned()
}

pub fn tcp(node: &Serving) -> TcpStream {
    let socket = TcpStream::connect(authority(node, "http://")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Status and body. `headers` end their lines.
pub fn ask(
    mut socket: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let json = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{json}\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub fn good<T: DeserializeOwned>((status, body): (u16, String)) -> T {
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

pub fn refused((status, body): (u16, String)) -> Problem {
    let problem: Problem = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
    assert_eq!(problem.status, status);
    problem
}

#[test]
fn only_the_bearer_of_the_token_is_let_in() {
    let desk = Desk::new();
    let node = desk.start(&ON_TCP);
    let get = |headers: &str, path: &str| ask(tcp(&node), "GET", path, headers, "");
    let told: Node = good(get(&bearer(&token()), "/v1/node"));
    assert_eq!(
        (told.region.as_str(), told.config_digest.map(|digest| digest.len())),
        ("eu-central-1", Some(64))
    );
    let nodes: Nodes = good(get(&bearer(&token()), "/v1/nodes"));
    assert_eq!(told.name.as_deref(), Some(nodes.nodes[0].name.as_str()));
    assert_eq!(nodes.nodes[0].admin_url.as_deref(), node.ready["regions"][0]["admin_url"].as_str());
    for path in ["/v1/node", "/v1/openapi.json", "/v1/stream", "/", "/nothing"] {
        assert_eq!(refused(get("", path)).error, "missing_token", "{path}");
        for wrong in ["wrong", &token()[1..], &token().to_uppercase(), "wrong token"] {
            assert_eq!(refused(get(&bearer(wrong), path)).error, "invalid_token", "{path} {wrong}");
        }
    }
    let in_query = format!("/v1/node?token={0}&access_token={0}", token());
    assert_eq!(refused(get("", &in_query)).error, "missing_token", "a token in a URL ends up in logs");
    let events: EventPage = good(get(&bearer(&token()), "/v1/events"));
    let attempts = events.events.iter().filter(|event| matches!(event.what, What::Unauthenticated { .. }));
    assert_eq!(attempts.count(), 1, "told once in a while");
    assert!(!node.ready.to_string().contains(&token()), "what is in a file is not printed");
    assert_eq!(node.end(), 0);
}

#[test]
fn a_reload_takes_another_token_over_and_tells_what_changed() {
    let desk = Desk::new();
    let node = desk.start(&ON_TCP);
    let new = "another-token-of-at-least-32-bytes";
    desk.write("admin.token", new);
    let status = |token: &str| ask(tcp(&node), "GET", "/v1/node", &bearer(token), "").0;
    assert_eq!((status(&token()), status(new)), (200, 401));
    let before: Node = good(ask(tcp(&node), "GET", "/v1/node", &bearer(&token()), ""));
    desk.0.prepend("log = \"debug\"\nthreads = 3");
    node.signal("HUP");
    node.logs(&["configuration reloaded"]);
    assert_eq!((status(&token()), status(new)), (401, 200));
    let after: Node = good(ask(tcp(&node), "GET", "/v1/node", &bearer(new), ""));
    assert_ne!(before.config_digest, after.config_digest);
    desk.0.prepend("colour = 5");
    node.signal("HUP");
    node.logs(&["nothing was reloaded"]);
    let events: EventPage = good(ask(tcp(&node), "GET", "/v1/events", &bearer(new), ""));
    let told: Vec<&What> = events.events.iter().map(|event| &event.what).collect();
    assert!(matches!(told[0], What::Started { .. }), "{told:?}");
    let reloaded = |what: &&What| {
        matches!(what, What::Reloaded { changed, needs_restart }
            if changed.len() == 2 && needs_restart == &["threads".to_owned()])
    };
    assert!(told.iter().any(reloaded), "{told:?}");
    let refused =
        |what: &&What| matches!(what, What::ReloadRefused { problems } if problems[0].contains("colour"));
    assert!(told.iter().any(refused), "{told:?}");
}

#[test]
fn the_unix_socket_is_for_the_nodes_user_and_asks_for_no_token() {
    let desk = Desk::new();
    let settings = ["admin.socket=@admin.sock", "admin.audit_log=@audit.jsonl"];
    let node = desk.start(&settings);
    let path = desk.path("admin.sock");
    assert_eq!(node.ready["regions"][0]["admin_url"], format!("unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let socket = || UnixStream::connect(&path).unwrap();
    let told: Node = good(ask(socket(), "GET", "/v1/node", "", ""));
    assert_eq!(told.region, "eu-central-1");
    let asked = ask(socket(), "POST", "/v1/documents/t/a/d/end", "", "{}");
    assert_eq!(refused(asked).error, "not_found");
    let lines = fs::read_to_string(desk.path("audit.jsonl")).unwrap();
    let record: AuditRecord = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(record.who.uid, Some(fs::metadata(&path).unwrap().uid()));
    // A second node does not take the first one's place.
    let output = program()
        .args([
            "serve",
            "--config",
            desk.0.config().to_str().unwrap(),
            "--set",
            "listen=127.0.0.1:0",
            "--set",
        ])
        .arg(format!("admin.socket={}", path.display()))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("another process listens there"), "{told}");
    assert!(UnixStream::connect(&path).is_ok());
    // Killed, it leaves its socket behind; the next one takes its place.
    let mut node = node;
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    let node = desk.start(&settings);
    let _: Node = good(ask(socket(), "GET", "/v1/node", "", ""));
    assert_eq!(node.end(), 0);
    assert!(!path.exists(), "it is gone with its node");
}

#[test]
fn an_action_that_cannot_be_recorded_is_not_done() {
    let desk = Desk::new();
    fs::create_dir(desk.path("logs")).unwrap();
    let node = desk.start(&[&ON_TCP[..], &["admin.audit_log=@logs/audit.jsonl"]].concat());
    fs::remove_dir(desk.path("logs")).unwrap();
    let set = || ask(tcp(&node), "PUT", "/v1/log", &bearer(&token()), r#"{"filter":"debug"}"#);
    assert!(refused(set()).detail.contains("the audit log cannot be written"));
    let log: Log = good(ask(tcp(&node), "GET", "/v1/log", &bearer(&token()), ""));
    assert_eq!(log.filter, log.configured);
    fs::create_dir(desk.path("logs")).unwrap();
    let log: Log = good(set());
    assert_eq!(log.filter, "debug");
}

#[test]
fn the_last_lines_of_the_log_are_told_and_those_that_came_since() {
    let desk = Desk::new();
    let node = desk.start(&ON_TCP);
    let lines = |query: &str| -> LogPage {
        good(ask(tcp(&node), "GET", &format!("/v1/log/lines{query}"), &bearer(&token()), ""))
    };
    let first = lines("?limit=1000");
    let is_ready = |line: &LogLine| line.text.starts_with("ready ") && line.level == LogLevel::Info;
    assert!(first.lines.iter().any(is_ready), "{first:#?}");
    let numbers: Vec<u64> = first.lines.iter().map(|line| line.sequence).collect();
    assert_eq!(numbers, (1..=first.next).collect::<Vec<u64>>(), "from the first on");
    desk.0.prepend("colour = 5");
    node.signal("HUP");
    node.logs(&["nothing was reloaded"]);
    let since = lines(&format!("?since={}", first.next));
    assert!(since.lines.iter().any(|line| line.text.contains("nothing was reloaded")), "{since:#?}");
    assert_eq!((lines("?limit=1").lines.len(), since.lost), (1, 0));
    assert_eq!(
        refused(ask(tcp(&node), "GET", "/v1/log/lines?limit=0", &bearer(&token()), "")).error,
        "malformed"
    );
}

#[test]
fn what_is_logged_can_be_changed_for_a_while_and_for_good() {
    let desk = Desk::new();
    let node = desk.start(&ON_TCP);
    let put = |body: &str| ask(tcp(&node), "PUT", "/v1/log", &bearer(&token()), body);
    let log = || -> Log { good(ask(tcp(&node), "GET", "/v1/log", &bearer(&token()), "")) };
    assert_eq!((log().filter.as_str(), log().until), ("info", None));
    let for_a_while: Log = good(put(r#"{"filter":"warn,pinwire_node=debug","for_seconds":1}"#));
    assert_eq!(
        (for_a_while.filter.as_str(), for_a_while.configured.as_str()),
        ("warn,pinwire_node=debug", "info")
    );
    assert!(for_a_while.until.is_some());
    while log().until.is_some() {}
    assert_eq!(log().filter, "info");
    let _: Log = good(put(r#"{"filter":"debug","for_seconds":1}"#));
    let for_good: Log = good(put(r#"{"filter":"trace"}"#));
    assert_eq!((for_good.filter.as_str(), for_good.until), ("trace", None));
    let events = || -> EventPage { good(ask(tcp(&node), "GET", "/v1/events", &bearer(&token()), "")) };
    let changes = |events: &EventPage| {
        events.events.iter().filter(|event| matches!(event.what, What::LogChanged { .. })).count()
    };
    assert_eq!(changes(&events()), 4);
    let reset: Log = good(ask(tcp(&node), "DELETE", "/v1/log", &bearer(&token()), ""));
    assert_eq!(reset.filter, "info");
    for (wrong, status) in [
        (r#"{"filter":"eror"}"#, 422),
        (r#"{"filter":"pinwire_node=loud"}"#, 422),
        (r#"{"filter":"info","for_seconds":0}"#, 400),
        (r#"{"filter":"#, 400),
    ] {
        assert_eq!(refused(put(wrong)).status, status, "{wrong}");
    }
}

/// An authority, and certificates that it signed: of the node, and of an operator.
fn certify(desk: &Desk) -> RootCertStore {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    desk.write("ca.crt", &authority.pem());
    for name in ["node.example", "ann.example"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        desk.write(&format!("{name}.crt"), &certificate.pem());
        desk.write(&format!("{name}.key"), &key.serialize_pem());
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(desk.path("ca.crt")).unwrap()).unwrap();
    roots
}

/// What a client connects by, with an operator's certificate or without.
fn client(desk: &Desk, roots: &RootCertStore, name: Option<&str>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots.clone());
    Arc::new(match name {
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(desk.path(&format!("{name}.crt"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(desk.path(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

fn in_tls(node: &Serving, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = TcpStream::connect(authority(node, "https://")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("node.example").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket)
}

/// The status, if an answer comes at all.
fn status_in_tls(node: &Serving, config: &Arc<ClientConfig>, headers: &str) -> Option<u16> {
    let mut stream = in_tls(node, config);
    write!(stream, "GET /v1/node HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

const IN_TLS: [&str; 3] =
    ["admin.listen=127.0.0.1:0", "admin.certificates=@node.example.crt", "admin.keys=@node.example.key"];

#[test]
fn tls_is_spoken_with_a_certificate_and_operators_may_have_to_show_theirs() {
    let desk = Desk::new();
    let roots = certify(&desk);
    let (nobody, ann) = (client(&desk, &roots, None), client(&desk, &roots, Some("ann.example")));
    let by_token = desk.start(&[&IN_TLS[..], &["admin.token_file=@admin.token"]].concat());
    assert_eq!(status_in_tls(&by_token, &nobody, &bearer(&token())), Some(200));
    assert_eq!(status_in_tls(&by_token, &ann, ""), Some(401), "nobody has vouched for it here");

    let by_certificate = desk.start(&[&IN_TLS[..], &["admin.client_ca=@ca.crt"]].concat());
    assert_eq!(status_in_tls(&by_certificate, &ann, ""), Some(200));
    assert_eq!(status_in_tls(&by_certificate, &nobody, &bearer(&token())), None, "no handshake without");
    let _ = ask(in_tls(&by_certificate, &ann), "DELETE", "/v1/log", "", "");
    let audit: Value = good(ask(in_tls(&by_certificate, &ann), "GET", "/v1/audit", "", ""));
    let who = audit["records"][0]["who"]["certificate"].as_str().unwrap();
    assert!(who.starts_with("ann.example "), "{who}");

    let settings = ["admin.client_ca=@ca.crt", "admin.token_file=@admin.token"];
    let by_both = desk.start(&[&IN_TLS[..], &settings].concat());
    assert_eq!(status_in_tls(&by_both, &ann, &bearer(&token())), Some(200));
    assert_eq!(status_in_tls(&by_both, &ann, ""), Some(401));
    assert_eq!(status_in_tls(&by_both, &nobody, &bearer(&token())), None);
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = [
        "listen=127.0.0.1:0".to_owned(),
        format!("admin.listen={}", taken.local_addr().unwrap()),
        format!("admin.token_file={}", desk.path("admin.token").display()),
    ];
    let config = desk.0.config();
    let mut args = vec!["serve", "--config", config.to_str().unwrap()];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let (status, told) = run(&args);
    assert_eq!(status, 1);
    assert!(told.contains("cannot listen for the admin API on 127.0.0.1:"), "{told}");
    assert!(told.contains("something else listens there; `ss -ltnp sport = :"), "{told}");
}

#[test]
fn dev_prints_how_to_reach_its_admin_api() {
    let mut child = program()
        .args(["dev", "--listen", "127.0.0.1:0", "--threads", "1", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let url = ready["regions"][0]["admin_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let token = ready["admin_token"].as_str().unwrap();
    let asked = ask(TcpStream::connect(url).unwrap(), "GET", "/v1/node", &bearer(token), "");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(good::<Node>(asked).region, "local-1");
}

#[test]
fn an_apps_record_is_changed_by_whoever_knows_its_version() {
    let desk = Desk::new();
    let node = desk.start(&ON_TCP);
    let record = |method: &str, version: &str, body: &str| {
        let version = if version.is_empty() { String::new() } else { format!("If-Match: {version}\r\n") };
        let path = "/v1/apps/acme/notes/record";
        ask(tcp(&node), method, path, &(bearer(&token()) + &version), body)
    };
    assert_eq!(refused(record("GET", "", "")).error, "not_found");
    let limits = r#"{"limits":{"maxConnections":7}}"#;
    assert_eq!(refused(record("PUT", "", limits)).error, "version_missing");
    assert_eq!(refused(record("PUT", "7", limits)).status, 422, "no quotation marks");
    let told = refused(record("PUT", "\"0\"", r#"{"limits":{"maxConections":7}}"#));
    assert_eq!((told.status, told.parameter.as_deref()), (422, Some("record")));
    assert!(
        told.detail.contains("limits.maxConections: there is no such limit; there are maxConnections"),
        "{told:?}"
    );
    assert_eq!(refused(record("PUT", "\"5\"", limits)).error, "version_mismatch");

    let written: RecordedApp = good(record("PUT", "\"0\"", limits));
    let said = RecordLimits { max_connections: Some(7), ..RecordLimits::default() };
    assert_eq!(written.record, Some(AppRecord { limits: Some(said), ..AppRecord::default() }));
    assert_eq!(good::<RecordedApp>(record("GET", "", "")), written);
    assert_eq!(refused(record("PUT", "\"0\"", "{}")).status, 412);
    assert_eq!(refused(record("DELETE", "\"0\"", "")).status, 412);
    let tag = format!("\"{}\"", written.version);
    let changed: RecordedApp = good(record("PUT", &tag, r#"{"regions":["eu-central-1"]}"#));
    assert!(changed.version > written.version && changed.record.unwrap().limits.is_none());
    assert_eq!(refused(record("PUT", &tag, "{}")).status, 412);
    let removed: RecordedApp = good(record("DELETE", &format!("\"{}\"", changed.version), ""));
    assert_eq!((removed.record, removed.version > changed.version), (None, true));
    assert_eq!(refused(record("GET", "", "")).status, 404);

    let audit: AuditPage = good(ask(tcp(&node), "GET", "/v1/audit", &bearer(&token()), ""));
    let puts = audit.records.iter().filter(|record| matches!(record.what, Action::PutAppRecord { .. }));
    assert_eq!(puts.filter(|record| record.outcome == Outcome::Done).count(), 2);
    assert!(matches!(audit.records.last().unwrap().what, Action::DeleteAppRecord { .. }));
    let path = "/v1/apps/acme%3A%3Anotes/x/record";
    assert_eq!(refused(ask(tcp(&node), "GET", path, &bearer(&token()), "")).status, 422);
    assert_eq!(node.end(), 0);
}

#[test]
fn operators_see_the_nodes_and_regions_that_there_are_and_what_is_pinned() {
    let desk = Desk::new();
    let regions =
        "regions=name=eu-central-1,url=ws://127.0.0.1:1;name=us-east-1,status=coming-soon,area=Ohio";
    let node = desk.start(&[ON_TCP[0], ON_TCP[1], regions, "cluster.node=eu-1a"]);
    let get = |path: &str| ask(tcp(&node), "GET", path, &bearer(&token()), "");
    let nodes: Nodes = good(get("/v1/nodes"));
    let names: Vec<(&str, &str)> =
        nodes.nodes.iter().map(|node| (node.region.as_str(), node.name.as_str())).collect();
    assert_eq!((names, nodes.unanswered.len()), (vec![("eu-central-1", "eu-1a")], 0));
    let regions: Regions = good(get("/v1/regions"));
    let told: Vec<(&str, &str, Option<&str>)> = regions
        .regions
        .iter()
        .map(|region| (region.name.as_str(), region.status.as_str(), region.health.as_deref()))
        .collect();
    assert_eq!(told, [("eu-central-1", "live", Some("healthy")), ("us-east-1", "coming-soon", None)]);
    let pins: PinPage = good(get("/v1/pins?limit=5"));
    assert_eq!(pins, PinPage { db_code: None, pins: Vec::new(), next: None });
    assert_eq!(refused(get("/v1/pins?db_code=aws-mars-1")).parameter.as_deref(), Some("db_code"));
    assert_eq!(refused(get("/v1/pins?cursor=doc")).status, 422);
    assert_eq!(node.end(), 0);
}

#[test]
fn a_document_of_a_node_that_is_alone_is_unpinned() {
    let desk = Desk::new();
    let node = desk.start(&[&ON_TCP[..], &["cluster.lease=3s", "cluster.renew=1s"]].concat());
    let mut member = Member::join(&node, &desk.0.token());
    member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
    let get = |method: &str, path: &str| ask(tcp(&node), method, path, &bearer(&token()), "");
    let PinPage { pins, .. } = good(get("GET", "/v1/pins"));
    let path = format!("/v1/pins/{}/{}/{}", pins[0].tenant, pins[0].app, pins[0].name);
    let Unpinned { pin, .. } = good(get("DELETE", &path));
    assert_eq!(pin, pins[0]);
    assert_eq!(member.end().0, 1012);
    // It may be opened anew as soon as it was left.
    let deadline = std::time::Instant::now() + PATIENCE;
    while matches!(Member::join(&node, &desk.0.token()).told(), Told::Close(1013, _)) {
        assert!(std::time::Instant::now() < deadline);
    }
    let PinPage { pins: anew, .. } = good(get("GET", "/v1/pins"));
    assert!(anew[0].claim > pins[0].claim, "{anew:?}");
    assert_eq!(refused(get("DELETE", "/v1/pins/t/a/nothing")).detail, "no region has this document");
}
