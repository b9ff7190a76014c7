//! BIND and Knot, with the configuration that `docs/dns.md` gives.

use super::documented;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Of the key `pinwire`.
pub const SECRET: &str = "cGlud2lyZSBwaW53aXJlIHBpbndpcmUgcGlud2lyZSE=";

const ZONE: &str = "$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 60
@ NS ns1
ns1 A 127.0.0.1
eu-central-1 A 203.0.113.9
eu-central-1 TXT \"somebody else's\"
alias CNAME eu-central-1
";

/// A server with the zone `example.net`. The region's name has 203.0.113.9 already, which is nobody's of the pool.
pub struct DnsServer {
    program: &'static str,
    arguments: Vec<String>,
    /// By how many seconds its clock is another than that of this host.
    ahead_s: i64,
    /// What it says when it answers.
    ready: &'static str,
    running: Option<(Child, Lines<BufReader<ChildStderr>>)>,
    address: SocketAddr,
    folder: TempDir,
}

impl DnsServer {
    /// BIND, as documented.
    pub async fn bind() -> Self {
        Self::any_port(async |port| Self::try_bind(port, "recursion no;", &bind_zone(), ZONE).await).await
    }

    /// Knot with another clock.
    pub async fn knot_ahead(ahead_s: i64) -> Self {
        let mut server = Self::knot().await;
        server.stop().await;
        server.ahead_s = ahead_s;
        server.restart().await;
        server
    }

    /// BIND cannot write what changes any more.
    pub fn spoil_journal(&self) {
        fs::create_dir(self.folder.path().join("example.net.zone.jnl")).expect("no journal yet");
    }

    /// It can again.
    pub fn mend_journal(&self) {
        fs::remove_dir(self.folder.path().join("example.net.zone.jnl")).expect("what was in its way");
    }

    /// BIND that resolves for its clients and has the zone with this in it besides. Other servers are asked at the same port.
    pub async fn resolver(port: u16, more: &str) -> Self {
        let zone = format!("{}{more}", ZONE.replace("eu-central-1", "elsewhere"));
        Self::try_bind(port, "recursion yes; allow-recursion { any; };", &bind_zone(), &zone)
            .await
            .expect("BIND")
    }

    async fn try_bind(port: u16, recursion: &str, config: &str, zone: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        fs::write(folder.path().join("example.net.zone"), zone).expect("a zone");
        let options = format!(
            "options {{ directory \"{path}\"; pid-file \"{path}/pid\"; session-keyfile none; port {port}; \
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no; \
             {recursion} }};\ncontrols {{ }};\n"
        );
        fs::write(folder.path().join("named.conf"), options + &config.replace("/var/lib/bind", &path))
            .expect("a configuration");
        let arguments = ["-g", "-n", "1", "-c", &format!("{path}/named.conf")].map(str::to_owned).to_vec();
        Self::start("named", arguments, "all zones loaded", port, folder).await
    }

    /// Knot, as documented.
    pub async fn knot() -> Self {
        Self::any_port(async |port| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().display().to_string();
            fs::write(folder.path().join("example.net.zone"), ZONE).expect("a zone");
            let server = format!(
                "server:\n    rundir: {path}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
                 \x20   background-workers: 1\n\nlog:\n  - target: stderr\n    any: info\n\ndatabase:\n    storage: {path}\n    \
                 journal-db-max-size: 5M\n    kasp-db-max-size: 5M\n    timer-db-max-size: 5M\n\n"
            );
            let config = server + &documented("knot").replace("SECRET", SECRET);
            fs::write(folder.path().join("knot.conf"), config.replace("/var/lib/knot/zones", &path))
                .expect("a configuration");
            let arguments = vec!["-c".to_owned(), format!("{path}/knot.conf")];
            Self::start("knotd", arguments, "server started", port, folder).await
        })
        .await
    }

    /// A port may be taken between the look and the start.
    async fn any_port(start: impl AsyncFn(u16) -> Option<Self>) -> Self {
        for _ in 0..5 {
            if let Some(server) = start(free_port()).await {
                return server;
            }
        }
        panic!("the server does not start on any of five ports");
    }

    async fn start(
        program: &'static str,
        arguments: Vec<String>,
        ready: &'static str,
        port: u16,
        folder: TempDir,
    ) -> Option<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { program, arguments, ahead_s: 0, ready, running: None, address, folder };
        server.run().await.then_some(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it in good order, and what it has is on disk.
    pub async fn stop(&mut self) {
        let Some((mut child, _log)) = self.running.take() else { return };
        let pid =
            rustix::process::Pid::from_raw(child.id().expect("a process").cast_signed()).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        timeout(super::PATIENCE, child.wait()).await.expect("an end").expect("an end");
    }

    /// Runs it again, on the same port.
    pub async fn restart(&mut self) {
        assert!(self.run().await, "the server does not come back");
    }

    /// `false`: it ended.
    async fn run(&mut self) -> bool {
        let path = ["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(self.program));
        let program = path.iter().find(|path| path.exists());
        let program = program.expect("install Debian's packages bind9 and knot, or run `cargo xtask setup`");
        let mut command = Command::new(program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if self.ahead_s != 0 {
            command.env("LD_PRELOAD", other_clock()).env("FAKETIME", format!("{:+}", self.ahead_s));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut child = command.kill_on_drop(true).spawn().expect("a server");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let until_ready = async {
            while let Some(line) = log.next_line().await.expect("its log") {
                if line.contains(self.ready) {
                    return true;
                }
            }
            false
        };
        let is_ready = timeout(super::PATIENCE, until_ready).await.expect("a server that answers");
        // The rest of its log stays in the pipe: it is short.
        self.running = Some((child, log));
        is_ready
    }
}

/// The library that sets the clock of a process: of the Debian package `faketime`.
fn other_clock() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("libraries").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("install faketime, or run `cargo xtask setup`")
}

fn bind_zone() -> String {
    documented("bind").replace("SECRET", SECRET)
}

/// A port that nobody listens on now, with either protocol.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = tcp.local_addr().expect("an address").port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
