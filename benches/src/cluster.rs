//! The cluster of real processes that `cargo xtask cluster --json -- COMMAND` starts and tells its command of: nodes are
//! asked, counted, killed and started again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pinwire_engine::allowed_cores;
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Auth, Dialect, Kind, Load, Scenario, StagePlan};
use serde_json::Value;

use crate::cgroup::Group;

/// Where `cargo xtask cluster` says what there is.
const VARIABLE: &str = "PINWIRE_CLUSTER";
/// The longest wait for an answer, or for a node that was started.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Names.
    pub regions: Vec<String>,
    /// Those of all regions, one region after the other.
    pub nodes: Vec<Node>,
    /// Signs tokens.
    pub secret: String,
    admin_token: String,
}

/// A node of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The place of its region's name.
    pub region: usize,
    /// Its name.
    pub name: String,
    /// Host and port of its clients.
    pub address: String,
    admin: String,
    pid: u32,
    command: Vec<String>,
}

/// See [`Cluster::scenario`].
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    /// Documents.
    pub documents: u32,
    /// Members of each.
    pub members: u32,
    /// Those of them that write.
    pub writers: u32,
    /// Edits a second, in all.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
}

impl Cluster {
    /// What this process was told.
    ///
    /// # Errors
    /// Nothing, or something else: `usage` is how the command is run.
    pub fn told(usage: &str) -> Result<Self> {
        let line =
            std::env::var(VARIABLE).with_context(|| format!("{VARIABLE} is missing: run `{usage}`"))?;
        let told: Value = serde_json::from_str(&line).context(VARIABLE)?;
        let (mut regions, mut nodes) = (Vec::new(), Vec::new());
        for region in told["regions"].as_array().into_iter().flatten() {
            for node in region["nodes"].as_array().into_iter().flatten() {
                nodes.push(Node::told(node, regions.len())?);
            }
            regions.push(text(region, "region")?);
        }
        let (secret, admin_token) = (text(&told, "secret")?, text(&told, "admin_token")?);
        Ok(Self { regions, nodes, secret, admin_token })
    }

    /// A target of the load generator for each node: `REGION=URL`.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("{}=ws://{}", self.regions[node.region], node.address)).collect()
    }

    /// Documents of so many members, `writers` of whom write `rate` edits a second in all, on all nodes in turn. Whoever is lost
    /// dials again; a dial, and what is under way at the end, has `patience`.
    ///
    /// # Errors
    /// This process may use no processor.
    pub fn scenario(&self, dialect: Dialect, writing: &Writing, patience: Duration) -> Result<Scenario> {
        let mut scenario: Scenario = preset("document").context("the scenario `document`")?;
        let Writing { documents, members, writers, rate, duration } = *writing;
        let (edit_bytes, awareness_rate, awareness_bytes) = (1, 0.0, 0);
        scenario.kind =
            Kind::Document { documents, members, writers, edit_bytes, awareness_rate, awareness_bytes };
        let stages = vec![StagePlan { name: None, from: rate, to: rate, duration }];
        scenario.load = Load::Open { stages, arrivals: Arrivals::Constant };
        scenario.target.urls = self.targets();
        scenario.target.auth = Auth::Secret(self.secret.clone());
        scenario.target.dialect = dialect;
        scenario.clients.redial = true;
        scenario.clients.timeout = patience;
        scenario.drain = patience;
        // Documents are named by it: each run has its own.
        scenario.generator.seed = fastrand::u64(..u64::from(u32::MAX));
        scenario.generator.threads = 1;
        scenario.generator.cores = vec![*allowed_cores()?.last().context("no processor")?];
        Ok(scenario)
    }

    /// The answer of a node's admin API.
    ///
    /// # Errors
    /// There is none, or it says that nothing came of it.
    pub fn ask(&self, node: &Node, method: &str, path: &str, body: &str) -> Result<Value> {
        let head =
            format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.admin_token);
        let answer = request(&node.admin, method, path, &head, body)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Node {
    fn told(told: &Value, region: usize) -> Result<Self> {
        let authority = |key: &str| -> Result<String> {
            let url = text(told, key)?;
            let (_, authority) = url.split_once("://").with_context(|| format!("{key} is no URL: {url}"))?;
            Ok(authority.to_owned())
        };
        let words = told["command"].as_array().context("a node without a command")?;
        let command: Vec<String> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        ensure!(!command.is_empty(), "a node's command is empty");
        Ok(Self {
            region,
            name: text(told, "node")?,
            address: authority("ws_url")?,
            admin: authority("admin_url")?,
            pid: u32::try_from(told["pid"].as_u64().context("a node without a process")?)?,
            command,
        })
    }

    /// The sum of a metric over all its labels; 0 if there is no such metric.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let page = request(&self.address, "GET", "/metrics", "", "")?;
        let value = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(['{', ' ']);
            is_it.then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
        };
        Ok(page.lines().filter_map(value).sum())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Another process has taken over from it, which nobody else will end.
    pub fn is_now(&mut self, pid: u32) -> Taken {
        self.pid = pid;
        Taken(pid)
    }

    /// Ends its process, which is told nothing (SIGKILL).
    ///
    /// # Errors
    /// It is not there.
    pub fn kill(&self) -> Result<()> {
        self.signal("KILL")
    }

    /// Sends its process a signal by name.
    ///
    /// # Errors
    /// It is not there.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status()?;
        ensure!(status.success(), "{} cannot be sent {name}", self.name);
        Ok(())
    }

    /// Starts it as it was started, and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> Result<Started> {
        self.start_as(&self.command.clone())
    }

    /// The same with settings of its own (`KEY=VALUE`), in a control group.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_in(&mut self, group: &Group, settings: &[String]) -> Result<Started> {
        let more = settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        let command: Vec<String> = self.command.iter().cloned().chain(more).collect();
        self.start_as(&group.wrap(&command))
    }

    fn start_as(&mut self, words: &[String]) -> Result<Started> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("{} does not start again", self.name))?;
        self.pid = child.id();
        let asked = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{} does not start again: {status}", self.name);
            }
            ensure!(asked.elapsed() < PATIENCE, "{} does not listen again", self.name);
            pause(Duration::from_millis(20));
        }
        Ok(Started(child))
    }
}

/// A node that this process has started; it ends with its handle.
#[derive(Debug)]
pub struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that took over from a node; it ends with its handle.
#[derive(Debug)]
pub struct Taken(u32);

impl Drop for Taken {
    fn drop(&mut self) {
        // It may have been succeeded itself, and be gone.
        let _ = Command::new("kill").args(["-s", "KILL", &self.0.to_string()]).stderr(Stdio::null()).status();
    }
}

/// Waits: what is measured is what happens at set times.
#[expect(clippy::disallowed_methods, reason = "a measuring command keeps a schedule")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn text(told: &Value, key: &str) -> Result<String> {
    told[key].as_str().map(str::to_owned).with_context(|| format!("{VARIABLE} has no {key}"))
}

/// The body of an answer that says that it was done, or begun (202).
fn request(address: &str, method: &str, path: &str, head: &str, body: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {body}");
    Ok(body.to_owned())
}
