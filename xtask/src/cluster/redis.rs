//! Servers and sentinels: a master and a replica for each name, and three sentinels that know all masters.

use super::process::Process;
use super::{free_port, nap};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
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
    port: u16,
}

/// A server with a replica.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) name: String,
    master: Server,
    replica: Server,
}

impl Master {
    pub(super) fn start(name: &str, folder: &Path) -> Result<Self> {
        let master = start_server(&format!("{name}-master"), &[], folder)?;
        let of = ["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.port.to_string()];
        let replica = start_server(&format!("{name}-replica"), &of, folder)?;
        wait_until("a replica follows its master", || {
            info(replica.port, "replication").is_some_and(|info| info.contains("master_link_status:up"))
        })?;
        Ok(Self { name: name.to_owned(), master, replica })
    }

    /// Who was what at the start: a fail-over changes it.
    pub(super) fn describe(&self) -> Value {
        json!({ "master": self.master.describe(), "replica": self.replica.describe() })
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
                "sentinel monitor {name} 127.0.0.1 {port} {QUORUM}\n\
                 sentinel down-after-milliseconds {name} {silence}\n\
                 sentinel failover-timeout {name} 5000\n",
                port = master.port,
                silence = silence.as_millis()
            );
        }
        let start = |number: usize| {
            start_on_free_port(|port| {
                let own = folder.join(format!("sentinel-{number}"));
                fs::create_dir_all(&own)?;
                let file = own.join("sentinel.conf");
                let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{monitored}", own.display());
                fs::write(&file, text)?;
                let args = [file.display().to_string()];
                Process::start("redis-sentinel", &args, &own.join("log"), |_| {})
            })
        };
        let sentinels = Self((1..=SENTINELS).map(start).collect::<Result<_>>()?);
        wait_until("the sentinels know of all servers and of each other", || {
            sentinels.0.iter().all(|sentinel| knows_all(sentinel.port, masters.len()))
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
fn knows_all(port: u16, masters: usize) -> bool {
    let complete = format!("slaves=1,sentinels={SENTINELS}");
    info(port, "sentinel").is_some_and(|info| info.matches(complete.as_str()).count() == masters)
}

fn start_server(name: &str, more: &[String], folder: &Path) -> Result<Server> {
    start_on_free_port(|port| {
        let own = folder.join(format!("redis-{name}"));
        fs::create_dir_all(&own)?;
        // Nothing on disk: what a restart without one loses is part of what is tried.
        let text = format!(
            "--port {port} --bind 127.0.0.1 --daemonize no --appendonly no --repl-diskless-sync-delay 0 --dir {}",
            own.display()
        );
        let mut args: Vec<String> = text.split(' ').map(str::to_owned).collect();
        args.extend(["--save".to_owned(), String::new()]);
        args.extend_from_slice(more);
        Process::start("redis-server", &args, &own.join("log"), |_| {})
    })
}

/// Starts a server until it answers, on another port where it ends at once.
fn start_on_free_port(mut start: impl FnMut(u16) -> Result<Process>) -> Result<Server> {
    for _ in 0..TRIES {
        let port = free_port()?;
        let mut process = start(port)?;
        let mut has_ended = false;
        wait_until("a Redis server answers", || {
            has_ended = process.has_ended().unwrap_or(true);
            has_ended || ask(port, &["PING"]).is_some_and(|answer| answer.starts_with('+'))
        })?;
        if !has_ended {
            return Ok(Server { process, port });
        }
    }
    bail!("no Redis server starts: are Debian's redis-server and redis-sentinel installed?")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        ensure!(began.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        nap();
    }
    Ok(())
}

fn info(port: u16, section: &str) -> Option<String> {
    ask(port, &["INFO", section])
}

/// One command over a connection of its own; an answer that is one line or one string.
fn ask(port: u16, parts: &[&str]) -> Option<String> {
    let answer = || -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
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
