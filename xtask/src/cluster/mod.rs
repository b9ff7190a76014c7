//! A cluster of real processes on this machine, for tests and benchmarks: regions of several nodes, a Redis with a replica for
//! each region and for the registry, and three sentinels for all of them.
//!
//! | module | concern |
//! | --- | --- |
//! | `options` | what is asked for |
//! | `site` | where a region's processes run |
//! | `process` | a process that ends with this one, whatever happens |
//! | `port` | ports to listen on |
//! | `redis` | servers and sentinels |
//! | `lane` | a way to a server that can be made slow, or cut |
//! | `border` | the ways between a region and everything else |
//! | `orders` | what it is told to do while it runs |
//! | `stores` | what keeps sessions and pins |
//! | `nodes` | configurations and nodes |

mod border;
mod lane;
mod nodes;
mod options;
mod orders;
mod port;
mod process;
mod redis;
mod site;
mod stores;

use crate::unit;
use anyhow::{Context, Result, bail};
use border::Border;
pub(crate) use nodes::Node;
pub(crate) use options::{Layout, Options};
pub(crate) use process::Process;
use redis::Master;
use serde_json::{Value, json};
pub(crate) use site::Site;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
pub(crate) use stores::Stores;

/// What the registry is called by the sentinels.
pub(crate) const REGISTRY: &str = "registry";
/// The license region that the registry is of.
pub(crate) const LICENSE: &str = "aws-eu-west-1";
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
    let mut cluster = Cluster::start(&options, &program)?;
    let line = cluster.describe();
    if options.is_json {
        println!("{line}");
    } else {
        print!("{}", cluster.words());
    }
    if options.command.is_empty() {
        let orders = orders::read()?;
        return wait(&is_ending, || {
            for line in orders.try_iter() {
                println!("{}", cluster.follow(&line));
            }
            Ok(false)
        });
    }
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]).env(VARIABLE, line.to_string());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", options.command[0]))?;
    wait_for(&mut child, &is_ending)
}

/// Nodes stop before what they need.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    borders: Vec<Border>,
    pub(crate) stores: Stores,
    folder: Folder,
}

impl Cluster {
    pub(crate) fn start(options: &Options, program: &Path) -> Result<Self> {
        let folder = Folder::new()?;
        let stores = Stores::start(options, &folder.0)?;
        let (nodes, borders) = nodes::start(options, program, &stores, &folder.0)?;
        Ok(Self { nodes, borders, stores, folder })
    }

    /// Where its files are, for as long as it runs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
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
            "regions": self.stores.masters.iter().skip(1).map(region).collect::<Vec<_>>(),
            "registry": { "license": LICENSE, "redis": self.stores.masters[0].describe() },
            "sentinels": self.stores.describe_sentinels(),
        })
    }

    fn nodes_of(&self, region: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.region == region)
    }

    /// For people.
    fn words(&self) -> String {
        let mut words = String::new();
        for master in &self.stores.masters[1..] {
            for node in self.nodes_of(&master.name) {
                words += &format!("{:<18} {}  (process {})\n", node.name, node.url(), node.pid());
            }
            words += &format!("{:<18} {}\n", "  its Redis", master.describe());
        }
        words += &format!("{REGISTRY:<18} {}\n", self.stores.masters[0].describe());
        words += &format!("{:<18} {}\n\nTo see it work:\n", "sentinels", self.stores.describe_sentinels());
        let urls: Vec<String> =
            self.nodes.iter().map(|node| format!("--url {}={}", node.region, node.url())).collect();
        let secret = self.nodes.first().map_or("", |node| &node.shared.secret);
        words + &format!("  pinwire-loadgen document --redial --secret {secret} {}\n", urls.join(" "))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A node that cannot reach its registry takes longer to end.
        for border in &self.borders {
            border.open();
        }
        self.nodes.iter_mut().for_each(Node::ask_to_end);
    }
}

/// A temporary folder that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pinwire-cluster-{}-{number}", std::process::id()));
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

/// The node that clusters run.
pub(crate) fn node_program(options: &Options) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("PINWIRE_NODE") {
        return Ok(PathBuf::from(program));
    }
    unit::build_program("pinwire-node", !options.is_debug)
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
pub(crate) fn nap() {
    std::thread::sleep(Duration::from_millis(20));
}
