//! The program against a real cluster: two regions with two nodes each as processes of their own, one of them with TLS of a private
//! authority and one with a Unix socket, their registry and sessions in real servers of Redis.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::Parser as _;
use pinwire_node::cli::{Cli, Command as Program, TokenCommand};
use pinwire_redis::rig::{Options, ServerRig};
use serde_json::Value;
use tempfile::TempDir;

use crate::session::{PATIENCE, Session};

/// The flags of the node that this program is to be, one a line.
const NODE: &str = "PINWIRE_ADMIN_TEST_NODE";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "an-admin-token-of-more-than-32-bytes";

/// Not a test by itself: what the one below starts.
#[test]
fn a_program_that_is_a_node() {
    let Ok(flags) = std::env::var(NODE) else { return };
    let cli = Cli::parse_from(std::iter::once("pinwire-node").chain(flags.lines()));
    let Program::Serve(args) = &cli.command else { panic!("{flags}") };
    args.run(cli.log_format).unwrap();
}

pub(super) struct Node {
    pub(super) child: Child,
    ws_url: String,
    admin_url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member of the document `d`.
pub(super) struct Member(TcpStream);

impl Member {
    pub(super) fn join(node: &Node, token: &str) -> Self {
        let mut stream = TcpStream::connect(node.ws_url.strip_prefix("ws://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /d?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        // Step 1 of y-websocket with an empty state vector, masked with zeros.
        stream.write_all(&[0x82, 0x84, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
        let mut member = Self(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(member.byte().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        assert_eq!(member.byte(), Some(0x82), "it is answered");
        member
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    /// Reads to the end, which the node makes.
    fn until_closed(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
    }
}

pub(super) struct Cluster {
    folder: TempDir,
    pub(super) token: String,
    pub(super) nodes: Vec<Node>,
    /// The registry's, and the regions'.
    pub(super) servers: [ServerRig; 3],
    /// What stands before and behind each node's other settings.
    more: [&'static str; 2],
}

impl Cluster {
    /// `here-a`, `here-b`, `there-a`, and `there-b`, whose admin API speaks TLS. `more` stands before all nodes' tables, and behind.
    pub(super) fn start(more: [&'static str; 2]) -> Self {
        let servers = [(); 3].map(|()| ServerRig::start(&Options::default()));
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("secret", SECRET), ("peer.secret", SECRET), ("admin.token", TOKEN)] {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        authority(folder.path());
        let mut cluster = Self { token: minted(), folder, nodes: Vec::new(), servers, more };
        // The regions' URLs are those of their first nodes, and known before these start.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(free);
        let tls = "certificates = [\"node.pem\"]\nkeys = [\"node.key\"]\n";
        for (region, name, admin) in [
            (0, "here-a", "socket = \"admin.sock\"\n"),
            (0, "here-b", ""),
            (1, "there-a", ""),
            (1, "there-b", tls),
        ] {
            let port = if name.ends_with('a') { ports[region] } else { 0 };
            cluster.add(region, name, port, ports, admin);
        }
        cluster
    }

    fn add(&mut self, region: usize, name: &str, port: u16, ports: [u16; 2], admin: &str) {
        let (regions, [registry, sessions @ ..]) = (["here-1", "there-1"], &self.servers);
        let catalogue = regions.iter().zip(ports).map(|(region, port)| {
            format!("[[regions]]\nname = \"{region}\"\nurl = \"ws://127.0.0.1:{port}\"\n")
        });
        let [before, behind] = self.more;
        let config = format!(
            "{before}region = \"{}\"\nlisten = [\"127.0.0.1:{port}\"]\nthreads = 1\n[tokens]\nsecret_file = \"secret\"\n\
             [shedding]\nresources = []\n[drain]\nwindow = \"0s\"\n\
             [admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = \"admin.token\"\n{admin}\
             [cluster]\nregistry = \"redis\"\nnode = \"{name}\"\nlease = \"5s\"\nrenew = \"1s\"\nsession = \"{}\"\n\
             peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"peer.secret\"\n\
             [cluster.registries]\n\"aws-eu-west-1\" = \"{}\"\n{}{behind}",
            regions[region],
            sessions[region].url(),
            registry.url(),
            catalogue.collect::<String>(),
        );
        let file = self.path(&format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["cluster::a_program_that_is_a_node", "--exact", "--nocapture"])
            .env(NODE, format!("serve\n--json\n--config\n{}", file.display()))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.path(&format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains('{') {
            line.clear();
            let count = stdout.read_line(&mut line).unwrap();
            let log = || fs::read_to_string(self.path(&format!("{name}.log"))).unwrap();
            assert!(count > 0, "{name} does not start: {}", log());
        }
        let ready: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let url = |of: &str| ready["regions"][0][of].as_str().unwrap().to_owned();
        let (ws_url, admin_url) = (url("ws_url"), url("admin_url"));
        self.nodes.push(Node { child, ws_url, admin_url, _stdout: stdout });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the program says once, and how it ends.
    fn once(&self, flags: &[&str]) -> (Value, Option<i32>) {
        let output = Command::new(env!("CARGO_BIN_EXE_pinwire-admin"))
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .args(["--once", "-o", "json"])
            .args(flags)
            .output()
            .unwrap();
        let said = serde_json::from_slice(&output.stdout);
        (said.unwrap_or_else(|_| panic!("{flags:?}: {output:?}")), output.status.code())
    }

    /// A view, from the first node alone: the others are found.
    fn view(&self, view: &str, filter: &str) -> Value {
        let (token, ca) = (self.path("admin.token"), self.path("ca.pem"));
        let (said, code) = self.once(&[
            "--url",
            &self.nodes[0].admin_url,
            "--token-file",
            token.to_str().unwrap(),
            "--ca",
            ca.to_str().unwrap(),
            "--view",
            view,
            "--filter",
            filter,
        ]);
        assert_eq!(code, Some(0), "{said:#}");
        said
    }

    /// Rows of a view, once there are so many.
    fn rows(&self, view: &str, filter: &str, count: usize) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut said = self.view(view, filter);
            let rows = said["rows"].as_array().unwrap();
            if rows.len() == count {
                return std::mem::take(said["rows"].as_array_mut().unwrap());
            }
            assert!(Instant::now() < end, "{view} {filter}: {said:#}");
        }
    }

    pub(super) fn session(&self) -> Session {
        let ca = self.path("ca.pem");
        let more = ["--rw", "--ca", ca.to_str().unwrap()];
        let session = Session::console(&[&self.nodes[0].admin_url], TOKEN, &more);
        session.see("4/4 nodes");
        session
    }
}

fn minted() -> String {
    let flags = ["pinwire-node", "token", "mint", "--secret", SECRET, "--region", "here-1"];
    let Program::Token(token) = Cli::parse_from(flags).command else { panic!("{flags:?}") };
    let TokenCommand::Mint(args) = &token.command else { panic!("{flags:?}") };
    args.mint().unwrap()
}

/// A private authority, and a certificate of it for this host.
fn authority(folder: &std::path::Path) {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    for (name, text) in
        [("ca.pem", authority.pem()), ("node.pem", certificate.pem()), ("node.key", key.serialize_pem())]
    {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Every view is filled from one node's address, and everything that an operator may do is done.
#[test]
fn an_operator_sees_and_acts_on_a_real_cluster() {
    let cluster = Cluster::start(["", ""]);
    let member = Member::join(&cluster.nodes[0], &cluster.token);
    every_view_is_filled(&cluster);
    a_socket_and_tls_lead_in(&cluster);
    let mut session = cluster.session();
    move_and_unpin(&cluster, &mut session, member);
    close(&cluster, &mut session);
    drain_and_undrain(&cluster, &mut session);
    assert_eq!(cluster.rows("audit", "outcome=done", 5).len(), 5);
    session.press("q");
    assert!(session.ended().success());
}

fn every_view_is_filled(cluster: &Cluster) {
    cluster.rows("pins", "", 1);
    for (view, count) in [("regions", 2), ("nodes", 4), ("documents", 1), ("connections", 1), ("cores", 4)] {
        let rows = cluster.rows(view, "", count);
        assert!(rows.iter().all(|row| row["is_stale"] == false), "{rows:#?}");
    }
    for view in ["apps", "events", "logs"] {
        let said = cluster.view(view, "");
        assert!(!said["rows"].as_array().unwrap().is_empty(), "{said:#}");
    }
    let nodes: Vec<Value> = cluster.rows("nodes", "", 4);
    let names: Vec<&str> = nodes.iter().filter_map(|row| row["node"].as_str()).collect();
    assert_eq!(names, ["here-1/here-a", "here-1/here-b", "there-1/there-a", "there-1/there-b"]);
    assert!(nodes.iter().all(|row| row["rung"] == "serving" && row["occupancy"].is_number()), "{nodes:#?}");
    let lines = cluster.view("logs", "node=there-b");
    assert!(
        lines["rows"].as_array().unwrap().iter().any(|row| row["text"].as_str().unwrap().contains("ready")),
        "{lines:#}"
    );
}

fn a_socket_and_tls_lead_in(cluster: &Cluster) {
    let socket = format!("unix:{}", cluster.path("admin.sock").display());
    let (said, code) = cluster.once(&["--url", &socket, "--discover", "off", "--view", "nodes"]);
    assert_eq!((code, said["rows"][0]["node"].as_str()), (Some(0), Some("here-1/here-a")), "{said:#}");
    let (token, ca, tls) = (cluster.path("admin.token"), cluster.path("ca.pem"), &cluster.nodes[3].admin_url);
    assert!(tls.starts_with("https://"), "{tls}");
    let flags =
        ["--url", tls, "--discover", "off", "--token-file", token.to_str().unwrap(), "--view", "nodes"];
    let (said, code) = cluster.once(&[&flags[..], &["--ca", ca.to_str().unwrap()]].concat());
    assert_eq!((code, said["rows"][0]["node"].as_str()), (Some(0), Some("there-1/there-b")), "{said:#}");
    let (said, code) = cluster.once(&[&flags[..], &["--timeout", "3"]].concat());
    assert_eq!(code, Some(3), "nobody vouches for it: {said:#}");
}

fn move_and_unpin(cluster: &Cluster, session: &mut Session, member: Member) {
    let pin = &cluster.rows("pins", "document=d", 1)[0];
    let name = format!("{}::d", pin["app"].as_str().unwrap());
    session.press("4");
    session.see_view("pins");
    session.see("here-1");
    session.press(":move there-1\r");
    session.see("Type its name");
    session.press("d\r");
    session.see(&format!("done: move {name} to there-1"));
    member.until_closed();
    assert_eq!(cluster.rows("pins", "region=there-1", 1)[0]["document"], "d");
    let member = Member::join(&cluster.nodes[2], &cluster.token);
    session.press("X");
    session.see("Type its name");
    session.press("d\r");
    session.see(&format!("done: unpin {name}"));
    member.until_closed();
    cluster.rows("pins", "", 0);
}

fn close(cluster: &Cluster, session: &mut Session) {
    let member = Member::join(&cluster.nodes[0], &cluster.token);
    let id = cluster.rows("connections", "node=here-a", 1)[0]["id"].as_str().unwrap().to_owned();
    session.press(":connections node=here-a\r");
    session.see(&id);
    session.press("C");
    session.see("Type its name");
    session.press(&format!("{id}\r"));
    session.see(&format!("done: close connection {id}"));
    member.until_closed();
}

fn drain_and_undrain(cluster: &Cluster, session: &mut Session) {
    session.press(":nodes there-b\r");
    session.see_view("nodes");
    for (key, what, state) in [("D", "drain", "draining"), ("U", "undrain", "healthy")] {
        session.press(key);
        session.see("Type its name");
        session.press("there-1/there-b\r");
        session.see(&format!("done: {what} there-1/there-b"));
        session.see(state);
        let node = &cluster.rows("nodes", &format!("there-b state={state}"), 1)[0];
        assert_eq!(node["drain"].is_null(), state == "healthy", "{node:#}");
    }
}
