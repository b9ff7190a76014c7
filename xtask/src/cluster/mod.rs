//! A cluster of real processes on this machine, for tests and benchmarks: regions of several nodes, a Redis with a replica for
//! each region and for the registry, and three sentinels for all of them.
//!
//! | module | concern |
//! | --- | --- |
//! | `options` | what is asked for |
//! | `process` | a process that ends with this one, whatever happens |
//! | `redis` | servers and sentinels |
//! | `nodes` | configurations and nodes |

mod nodes;
mod options;
mod process;
mod redis;

use crate::shell::{cargo, run as run_command, target_dir};
use anyhow::{Context, Result, bail};
use nodes::Node;
use options::Options;
use redis::{Master, Sentinels};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the registry is called by the sentinels.
const REGISTRY: &str = "registry";
/// The license region that the registry is of.
const LICENSE: &str = "aws-eu-west-1";
/// How the command that runs beside the cluster finds it: the line of JSON.
const VARIABLE: &str = "PINWIRE_CLUSTER";

/// Runs a cluster until a signal comes, or until the command that was given ends.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let program = node_program(&options)?;
    let is_ending = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_ending)).context("signals")?;
    }
    let cluster = Cluster::start(&options, &program)?;
    let line = cluster.describe();
    if options.is_json {
        println!("{line}");
    } else {
        print!("{}", cluster.words());
    }
    if options.command.is_empty() {
        wait(&is_ending, || Ok(false))?;
        return Ok(());
    }
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]).env(VARIABLE, line.to_string());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", options.command[0]))?;
    wait_for(&mut child, &is_ending)
}

/// Nodes stop before what they need.
struct Cluster {
    nodes: Vec<Node>,
    sentinels: Sentinels,
    masters: Vec<Master>,
    folder: Folder,
}

impl Cluster {
    fn start(options: &Options, program: &Path) -> Result<Self> {
        let folder = Folder::new()?;
        let regions = options.region_names();
        let mut masters = Vec::new();
        for name in std::iter::once(REGISTRY).chain(regions.iter().map(String::as_str)) {
            masters.push(Master::start(name, &folder.0)?);
        }
        let sentinels = Sentinels::start(&masters, options.silence, &folder.0)?;
        let nodes = nodes::start(options, program, &sentinels, &folder.0)?;
        Ok(Self { nodes, sentinels, masters, folder })
    }

    fn describe(&self) -> Value {
        let region = |master: &Master| {
            let nodes: Vec<Value> = self.nodes_of(&master.name).map(Node::describe).collect();
            json!({ "region": master.name, "redis": master.describe(), "nodes": nodes })
        };
        let first = self.nodes.first();
        json!({
            "pid": std::process::id(),
            "folder": self.folder.0,
            "secret": first.map(|node| node.shared.secret.clone()),
            "admin_token": first.map(|node| node.shared.admin_token.clone()),
            "regions": self.masters.iter().skip(1).map(region).collect::<Vec<_>>(),
            "registry": { "license": LICENSE, "redis": self.masters[0].describe() },
            "sentinels": self.sentinels.describe(),
        })
    }

    fn nodes_of(&self, region: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.region == region)
    }

    /// For people.
    fn words(&self) -> String {
        let mut words = String::new();
        for master in &self.masters[1..] {
            for node in self.nodes_of(&master.name) {
                words += &format!("{:<18} {}  (process {})\n", node.name, node.url(), node.pid());
            }
            words += &format!("{:<18} {}\n", "  its Redis", master.describe());
        }
        words += &format!("{REGISTRY:<18} {}\n", self.masters[0].describe());
        words += &format!("{:<18} {}\n\nTo see it work:\n", "sentinels", self.sentinels.describe());
        let urls: Vec<String> =
            self.nodes.iter().map(|node| format!("--url {}={}", node.region, node.url())).collect();
        let secret = self.nodes.first().map_or("", |node| &node.shared.secret);
        words + &format!("  pinwire-loadgen document --redial --secret {secret} {}\n", urls.join(" "))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::ask_to_end);
    }
}

/// A temporary folder that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pinwire-cluster-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own tidying.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn node_program(options: &Options) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("PINWIRE_NODE") {
        return Ok(PathBuf::from(program));
    }
    let mut build = cargo(["build", "--quiet", "-p", "pinwire-node", "--bin", "pinwire-node"]);
    if !options.is_debug {
        build.arg("--release");
    }
    run_command(&mut build)?;
    Ok(target_dir().join(if options.is_debug { "debug" } else { "release" }).join("pinwire-node"))
}

/// Until the command has ended, or was ended since a signal came.
fn wait_for(child: &mut Child, is_ending: &AtomicBool) -> Result<()> {
    let mut ended = None;
    wait(is_ending, || {
        ended = child.try_wait()?;
        Ok(ended.is_some())
    })?;
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("the command ended with {status}"),
        None => {
            child.kill()?;
            child.wait()?;
            bail!("a signal came")
        }
    }
}

/// Until `holds`, or a signal comes.
fn wait(is_ending: &AtomicBool, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    while !holds()? && !is_ending.load(Ordering::Acquire) {
        nap();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "neither processes nor servers tell when they are ready")]
fn nap() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
