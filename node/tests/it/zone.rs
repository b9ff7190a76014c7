//! BIND and Knot with the zone `example.net`, configured as `docs/dns.md` says; and what `dig` sees.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Of the key `pinwire`.
pub const SECRET: &str = "cGlud2lyZSBwaW53aXJlIHBpbndpcmUgcGlud2lyZSE=";
pub const NAME: &str = "eu-central-1.example.net";

const ZONE: &str = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\n";

/// A server that ends with its handle.
pub struct Zone {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Zone {
    pub fn bind() -> Self {
        Self::any_port("named", "all zones loaded", |port, path| {
            let options = format!(
                "options {{ directory \"{path}\"; pid-file \"{path}/pid\"; session-keyfile none; port {port}; \
                 listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no; \
                 recursion no; }};\ncontrols {{ }};\n"
            );
            let zone = documented("bind").replace("/var/lib/bind", path);
            fs::write(format!("{path}/named.conf"), options + &zone).unwrap();
            vec![
                "-g".to_owned(),
                "-n".to_owned(),
                "1".to_owned(),
                "-c".to_owned(),
                format!("{path}/named.conf"),
            ]
        })
    }

    pub fn knot() -> Self {
        Self::any_port("knotd", "server started", |port, path| {
            let server = format!(
                "server:\n    rundir: {path}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
                 \x20   background-workers: 1\n\nlog:\n  - target: stderr\n    any: info\n\ndatabase:\n    storage: {path}\n    \
                 journal-db-max-size: 5M\n    kasp-db-max-size: 5M\n    timer-db-max-size: 5M\n\n"
            );
            let zone = documented("knot").replace("/var/lib/knot/zones", path);
            fs::write(format!("{path}/knot.conf"), server + &zone).unwrap();
            vec!["-c".to_owned(), format!("{path}/knot.conf")]
        })
    }

    /// A port may be taken between the look and the start.
    fn any_port(program: &str, ready: &str, configure: impl Fn(u16, &str) -> Vec<String>) -> Self {
        let path = ["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(program));
        let program = path.iter().find(|path| path.exists());
        let program = program.expect("install Debian's packages bind9 and knot, or run `cargo xtask setup`");
        for _ in 0..5 {
            let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
            fs::write(folder.path().join("example.net.zone"), ZONE).unwrap();
            let arguments = configure(port, &folder.path().display().to_string());
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let log = BufReader::new(child.stderr.take().unwrap());
            let (send, lines) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                log.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
            });
            let zone =
                Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), _folder: folder };
            if std::iter::from_fn(|| lines.recv_timeout(crate::rig::PATIENCE).ok())
                .any(|line| line.contains(ready))
            {
                return zone;
            }
        }
        panic!("the server does not start on any of five ports");
    }
}

/// The addresses of the region's name, as `dig` sees them.
pub fn resolve(server: SocketAddr) -> BTreeSet<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = Command::new("dig")
        .args([&at, "-p", &port, "+time=3", "+tries=2", "+short", NAME, "A"])
        .output()
        .expect("install Debian's package bind9-dnsutils, or run `cargo xtask setup`");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.lines().filter(|line| line.parse::<Ipv4Addr>().is_ok()).map(str::to_owned).collect()
}

/// Waits until the name leads to these addresses.
pub fn leads_to(server: SocketAddr, addresses: &[&str]) {
    let expected: BTreeSet<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        let seen = resolve(server);
        if seen == expected {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{seen:?}, not {expected:?}");
    }
}

/// A block of `docs/dns.md`, so that what operators read is what is tested.
fn documented(mark: &str) -> String {
    let page = include_str!("../../../docs/dns.md");
    let (_, rest) = page.split_once(&format!("<!-- tests: {mark} -->")).unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    rest.split_once("```").unwrap().0.replace("SECRET", SECRET)
}

/// A port that nobody listens on now, with either protocol.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
