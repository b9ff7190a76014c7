//! One server: its process, commands to it, its end and its return.

use super::{free_port, wait_until};
use crate::{Endpoint, Link, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const INSTALL: &str =
    "install Debian's packages redis-server, redis-sentinel and redis-tools, or run `cargo xtask setup`";

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Listens with TLS as well, with a certificate of an own authority.
    pub tls: bool,
    /// Keeps everything on disk at once (`appendonly`, `appendfsync always`); else a restart comes back empty.
    pub durable: bool,
    /// Further arguments, as in `["--maxmemory", "10mb"]`.
    pub more: Vec<String>,
}

/// One server.
pub struct ServerRig {
    program: &'static str,
    child: Child,
    port: u16,
    tls_port: Option<u16>,
    args: Vec<String>,
    folder: TempDir,
}

impl Drop for ServerRig {
    fn drop(&mut self) {
        self.kill();
    }
}

impl ServerRig {
    /// A server, ready to answer.
    pub fn start(options: &Options) -> Self {
        // A port may be taken between the look and the start.
        for _ in 0..5 {
            if let Some(server) = Self::try_start(options) {
                return server;
            }
        }
        panic!("redis-server does not start on any of five ports");
    }

    fn try_start(options: &Options) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, tls_port) = (free_port(), options.tls.then(free_port));
        let mut args = arguments(port, folder.path());
        let durability =
            if options.durable { "--appendonly yes --appendfsync always" } else { "--appendonly no" };
        args.extend(durability.split(' ').map(str::to_owned));
        if let Some(tls_port) = tls_port {
            make_certificates(folder.path());
            let path = |name: &str| folder.path().join(name).display().to_string();
            args.extend(["--tls-port".to_owned(), tls_port.to_string()]);
            args.extend([
                "--tls-cert-file".to_owned(),
                path("server.crt"),
                "--tls-key-file".to_owned(),
                path("server.key"),
            ]);
            args.extend(["--tls-ca-cert-file".to_owned(), path("ca.crt")]);
            args.extend(["--tls-auth-clients".to_owned(), "no".to_owned()]);
        }
        args.extend(options.more.iter().cloned());
        Self::run("redis-server", args, port, tls_port, folder)
    }

    /// `None`: it ended at once.
    pub(super) fn run(
        program: &'static str,
        args: Vec<String>,
        port: u16,
        tls_port: Option<u16>,
        folder: TempDir,
    ) -> Option<Self> {
        let child = spawn(program, &args);
        let mut server = Self { program, child, port, tls_port, args, folder };
        server.wait_ready().then_some(server)
    }

    fn wait_ready(&mut self) -> bool {
        let mut has_ended = false;
        let (port, child) = (self.port, &mut self.child);
        wait_until("a server answers", || {
            has_ended = child.try_wait().expect("the state of a child").is_some();
            has_ended || command_at(port, &["PING"]).is_some_and(|answer| !answer.starts_with("-LOADING"))
        });
        !has_ended
    }

    /// Where it listens, without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `rediss://{login}127.0.0.1:PORT?ca=FILE`, of a server with [`Options::tls`]. `login` ends in `@`, or is empty.
    pub fn tls_url(&self, login: &str) -> String {
        let port = self.tls_port.expect("a server with TLS");
        format!("rediss://{login}127.0.0.1:{port}?ca={}", self.ca().display())
    }

    /// The authority of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A link with bounds as in production.
    pub fn link(&self) -> Link {
        link_to(&self.url())
    }

    /// Sends a command as the default user, and returns the raw answer (RESP2), as much as comes at once.
    pub fn command(&self, parts: &[&str]) -> String {
        command_at(self.port, parts).unwrap_or_else(|| panic!("no answer to {parts:?}"))
    }

    /// The same, with an answer that has to begin so.
    pub fn expect(&self, beginning: &str, parts: &[&str]) {
        let answer = self.command(parts);
        assert!(answer.starts_with(beginning), "{parts:?}: {answer}");
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops its process: connections stay, nothing answers.
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("a process to stop");
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a process to go on");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Starts it again after [`Self::kill`], on the same port and with its folder.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.program, &self.args);
        assert!(self.wait_ready(), "it does not start again");
    }
}

/// A link to a URL with bounds as in production.
pub(super) fn link_to(url: &str) -> Link {
    let endpoint: Endpoint = url.parse().expect("a URL");
    Link::new(endpoint, Settings::default()).expect("a link")
}

/// Arguments of a server without persistence, quiet and quick.
pub(super) fn arguments(port: u16, folder: &Path) -> Vec<String> {
    let folder = folder.display();
    let text = format!(
        "--port {port} --bind 127.0.0.1 --daemonize no --dir {folder} --logfile {folder}/log \
         --repl-diskless-sync-delay 0 --enable-debug-command yes"
    );
    let mut args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    args.extend(["--save".to_owned(), String::new()]);
    args
}

fn spawn(program: &str, args: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; {INSTALL}"))
}

/// One command to the server at a port of loopback, over a connection of its own: the raw answer (RESP2). `None`: there is none.
pub fn command_at(port: u16, parts: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut request = format!("*{}\r\n", parts.len());
    for part in parts {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    read_answer(&mut BufReader::new(stream), &mut answer)?;
    Some(answer)
}

/// Appends one answer as it came: a line, and what it announces.
fn read_answer(from: &mut impl BufRead, answer: &mut String) -> Option<()> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|length| *length > 0)?;
    answer.push_str(&line);
    let announced: Option<usize> = line.get(1..)?.trim_end().parse().ok();
    match (line.as_bytes()[0], announced) {
        (b'$', Some(length)) => {
            let mut text = vec![0; length + 2];
            from.read_exact(&mut text).ok()?;
            answer.push_str(&String::from_utf8_lossy(&text));
        }
        (b'*', Some(count)) => (0..count).try_for_each(|_| read_answer(from, answer))?,
        _ => {}
    }
    Some(())
}

fn make_certificates(folder: &Path) {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names)
        .expect("parameters")
        .signed_by(&key, &authority)
        .expect("a certificate");
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a file");
    write("ca.crt", authority.pem());
    write("server.crt", certificate.pem());
    write("server.key", key.serialize_pem());
}
