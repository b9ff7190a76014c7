//! Servers and sentinels: a master for each name, with a replica or alone, and three sentinels that know all masters.

use super::nap;
use super::port::free_port;
use super::process::Process;
use super::site::Site;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For servers to answer and to know each other.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const SENTINELS: usize = 3;
/// Sentinels that have to miss a master.
const QUORUM: usize = 2;
/// A port may be taken between the look and the start.
const TRIES: usize = 5;

/// A server, or a sentinel.
#[derive(Debug)]
struct Server {
    process: Process,
    host: String,
    port: u16,
}

/// A server, and its replica if it has one.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) name: String,
    site: Site,
    folder: PathBuf,
    master: Server,
    replica: Option<Server>,
}

impl Master {
    pub(super) fn start(name: &str, site: &Site, has_replica: bool, folder: &Path) -> Result<Self> {
        let master = start_server(&format!("{name}-master"), site, &[], folder)?;
        let mut replica = None;
        if has_replica {
            let of = ["--replicaof".to_owned(), site.host.clone(), master.port.to_string()];
            let server = start_server(&format!("{name}-replica"), site, &of, folder)?;
            wait_until("a replica follows its master", || {
                info(&server, "replication").is_some_and(|info| info.contains("master_link_status:up"))
            })?;
            replica = Some(server);
        }
        Ok(Self { name: name.to_owned(), site: site.clone(), folder: folder.to_owned(), master, replica })
    }

    /// Who was what at the start: a fail-over changes it.
    pub(super) fn describe(&self) -> Value {
        let replica = self.replica.as_ref().map(Server::describe);
        json!({ "master": self.master.describe(), "replica": replica })
    }

    /// Where the first master is.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.master.host, self.master.port)
    }

    /// Kills the server that was the master at the start.
    pub(crate) fn kill_first(&mut self) -> Result<()> {
        self.master.process.kill()
    }

    /// Starts that server again on its port, with nothing in it; whoever is the master by now makes it a replica.
    pub(crate) fn restart_first(&mut self) -> Result<()> {
        let name = format!("{}-master", self.name);
        let port = self.master.port;
        self.master.process = run_server(&name, &self.site, port, &[], &self.folder)?;
        wait_until("a Redis server answers again", || is_answering(&self.master.host, port))
    }

    /// Whether the replica of the start is the master now.
    pub(crate) fn has_failed_over(&self) -> bool {
        let info = self.replica.as_ref().and_then(|replica| info(replica, "replication"));
        info.is_some_and(|info| info.contains("role:master"))
    }

    /// What a script says, of the server that was the master at the start.
    pub(crate) fn eval_first(&self, script: &str) -> Result<String> {
        let answer = ask(&self.master.host, self.master.port, &["EVAL", script, "0"]);
        answer.with_context(|| format!("the server of {} does not answer", self.name))
    }

    /// Keys that the server holds which was the master at the start.
    pub(crate) fn keys_of_first(&self) -> u64 {
        let answer = ask(&self.master.host, self.master.port, &["DBSIZE"]).unwrap_or_default();
        answer.trim().trim_start_matches(':').parse().unwrap_or(0)
    }
}

/// Sentinels that know all masters.
#[derive(Debug)]
pub(super) struct Sentinels(Vec<Server>);

impl Sentinels {
    /// `silence`: a master that is silent for so long is replaced.
    pub(super) fn start(masters: &[Master], silence: Duration, folder: &Path) -> Result<Self> {
        let mut monitored = String::new();
        for Master { name, master, .. } in masters {
            monitored += &format!(
                "sentinel monitor {name} {host} {port} {QUORUM}\n\
                 sentinel down-after-milliseconds {name} {silence}\n\
                 sentinel failover-timeout {name} 5000\n",
                host = master.host,
                port = master.port,
                silence = silence.as_millis()
            );
        }
        let start = |number: usize| {
            start_on_free_port("127.0.0.1", |port| {
                let own = folder.join(format!("sentinel-{number}"));
                fs::create_dir_all(&own)?;
                let file = own.join("sentinel.conf");
                let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{monitored}", own.display());
                fs::write(&file, text)?;
                let args = [file.display().to_string()];
                Process::start(&[], "redis-sentinel", &args, &own.join("log"), |_| {})
            })
        };
        let sentinels = Self((1..=SENTINELS).map(start).collect::<Result<_>>()?);
        wait_until("the sentinels know of all servers and of each other", || {
            sentinels.0.iter().all(|sentinel| knows_all(sentinel, masters.len()))
        })?;
        Ok(sentinels)
    }

    /// The address of a master.
    pub(super) fn url(&self, name: &str) -> String {
        let hosts: Vec<String> =
            self.0.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{name}", hosts.join(","))
    }

    pub(super) fn describe(&self) -> Value {
        self.0.iter().map(Server::describe).collect()
    }
}

impl Server {
    fn describe(&self) -> Value {
        json!({ "pid": self.process.pid(), "port": self.port })
    }
}

/// Whether a sentinel sees each of so many masters with its replica and with the other sentinels.
fn knows_all(sentinel: &Server, masters: usize) -> bool {
    let complete = format!("slaves=1,sentinels={SENTINELS}");
    info(sentinel, "sentinel").is_some_and(|info| info.matches(complete.as_str()).count() == masters)
}

fn start_server(name: &str, site: &Site, more: &[String], folder: &Path) -> Result<Server> {
    start_on_free_port(&site.host, |port| run_server(name, site, port, more, folder))
}

fn run_server(name: &str, site: &Site, port: u16, more: &[String], folder: &Path) -> Result<Process> {
    let own = folder.join(format!("redis-{name}"));
    fs::create_dir_all(&own)?;
    // Nothing on disk: what a restart without one loses is part of what is tried.
    let text = format!(
        "--port {port} --bind {} --protected-mode no --daemonize no --appendonly no --repl-diskless-sync-delay 0 --dir {}",
        site.host,
        own.display()
    );
    let mut args: Vec<String> = text.split(' ').map(str::to_owned).collect();
    args.extend(["--save".to_owned(), String::new()]);
    args.extend_from_slice(more);
    Process::start(&site.prefix, "redis-server", &args, &own.join("log"), |_| {})
}

/// Starts a server until it answers, on another port where it ends at once.
fn start_on_free_port(host: &str, mut start: impl FnMut(u16) -> Result<Process>) -> Result<Server> {
    for _ in 0..TRIES {
        let port = free_port()?;
        let mut process = start(port)?;
        let mut has_ended = false;
        wait_until("a Redis server answers", || {
            has_ended = process.has_ended().unwrap_or(true);
            has_ended || is_answering(host, port)
        })?;
        if !has_ended {
            return Ok(Server { process, host: host.to_owned(), port });
        }
    }
    bail!("no Redis server starts: are Debian's redis-server and redis-sentinel installed?")
}

fn is_answering(host: &str, port: u16) -> bool {
    ask(host, port, &["PING"]).is_some_and(|answer| answer.starts_with('+'))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        ensure!(began.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        nap();
    }
    Ok(())
}

fn info(server: &Server, section: &str) -> Option<String> {
    ask(&server.host, server.port, &["INFO", section])
}

/// One command over a connection of its own; an answer that is one line or one string.
fn ask(host: &str, port: u16, parts: &[&str]) -> Option<String> {
    let answer = || -> Result<String> {
        let mut stream = TcpStream::connect((host, port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut request = format!("*{}\r\n", parts.len());
        for part in parts {
            request += &format!("${}\r\n{part}\r\n", part.len());
        }
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some(length) = line.strip_prefix('$') else { return Ok(line) };
        let mut text = vec![0; length.trim().parse().context("a length")?];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    };
    answer().ok()
}
