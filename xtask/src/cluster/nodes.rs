//! Configurations and nodes.

use super::options::Options;
use super::process::Process;
use super::redis::Sentinels;
use super::{LICENSE, REGISTRY, free_port};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

/// What all nodes have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Signs tokens.
    pub(super) secret: String,
    /// For the admin API.
    pub(super) admin_token: String,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) region: String,
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    process: Process,
    /// How it was started.
    command: Vec<String>,
    /// What it said when it was ready.
    ready: Value,
}

/// Where a node is to be.
struct Place {
    region: String,
    name: String,
    port: u16,
    peer_port: u16,
    admin_port: u16,
}

/// Starts all nodes, each when the one before it is ready.
pub(super) fn start(
    options: &Options,
    program: &Path,
    sentinels: &Sentinels,
    folder: &Path,
) -> Result<Vec<Node>> {
    let shared = Arc::new(write_secrets(folder)?);
    let places = places(options)?;
    let mut nodes = Vec::new();
    for place in &places {
        let config = folder.join(format!("{}.toml", place.name));
        fs::write(&config, configuration(place, &places, options, sentinels))?;
        nodes.push(start_one(place, program, &config, options, Arc::clone(&shared), folder)?);
    }
    Ok(nodes)
}

/// A node is called by its region and a letter.
fn places(options: &Options) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for region in options.region_names() {
        for letter in ('a'..='z').take(options.nodes) {
            places.push(Place {
                name: format!("{region}{letter}"),
                region: region.clone(),
                port: free_port()?,
                peer_port: free_port()?,
                admin_port: free_port()?,
            });
        }
    }
    Ok(places)
}

/// Secrets of this cluster, in files that only this user can read.
fn write_secrets(folder: &Path) -> Result<Shared> {
    let secret = || -> Result<String> {
        let mut bytes = [0; 32];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    let shared = Shared { secret: secret()?, admin_token: secret()? };
    for (name, text) in
        [("secret", &shared.secret), ("admin.token", &shared.admin_token), ("peer.secret", &secret()?)]
    {
        let file = folder.join(name);
        fs::write(&file, text)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(shared)
}

fn configuration(place: &Place, places: &[Place], options: &Options, sentinels: &Sentinels) -> String {
    let Place { region, name, port, peer_port, admin_port } = place;
    let wrong_region = if options.is_relay { "relay" } else { "redirect" };
    let (session, registry) = (sentinels.url(region), sentinels.url(REGISTRY));
    let mut text = format!(
        "region = \"{region}\"\n\
         listen = [\"127.0.0.1:{port}\"]\n\
         public_url = \"ws://127.0.0.1:{port}\"\n\
         [tokens]\n\
         secret_file = \"secret\"\n\
         [address_limits]\n\
         enabled = false\n\
         [admin]\n\
         listen = [\"127.0.0.1:{admin_port}\"]\n\
         token_file = \"admin.token\"\n\
         [cluster]\n\
         registry = \"redis\"\n\
         node = \"{name}\"\n\
         session = \"{session}\"\n\
         wrong_region = \"{wrong_region}\"\n\
         peer_listen = \"127.0.0.1:{peer_port}\"\n\
         peer_secret_file = \"peer.secret\"\n\
         [cluster.registries]\n\
         {LICENSE} = \"{registry}\"\n"
    );
    for region in options.region_names() {
        // There is nothing that spreads clients over the nodes of a region: its URL is that of its first node.
        let first = places.iter().find(|place| place.region == region);
        let port = first.map_or(0, |place| place.port);
        text += &format!("[[regions]]\nname = \"{region}\"\nurl = \"ws://127.0.0.1:{port}\"\n");
    }
    text
}

fn start_one(
    place: &Place,
    program: &Path,
    config: &Path,
    options: &Options,
    shared: Arc<Shared>,
    folder: &Path,
) -> Result<Node> {
    let mut args = vec!["serve".to_owned(), "--json".to_owned(), "--config".to_owned()];
    args.push(config.display().to_string());
    for setting in &options.settings {
        args.extend(["--set".to_owned(), setting.clone()]);
    }
    let log = folder.join(format!("{}.log", place.name));
    let mut process = Process::start(program, &args, &log, |command| {
        command.stdout(Stdio::piped());
    })?;
    let mut line = String::new();
    if let Some(stdout) = process.child().stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!("{} ended before it was ready:\n{said}", place.name);
    }
    let ready = serde_json::from_str(&line).with_context(|| format!("{} said {line}", place.name))?;
    let command = std::iter::once(program.display().to_string()).chain(args).collect();
    Ok(Node { region: place.region.clone(), name: place.name.clone(), shared, process, command, ready })
}

impl Node {
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where clients reach it.
    pub(super) fn url(&self) -> &str {
        self.ready["regions"][0]["ws_url"].as_str().unwrap_or_default()
    }

    /// All are asked before one is awaited.
    pub(super) fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// What it said, who it is, and how it is started again.
    pub(super) fn describe(&self) -> Value {
        let mut described = self.ready["regions"][0].clone();
        described["node"] = json!(self.name);
        described["pid"] = json!(self.pid());
        described["command"] = json!(self.command);
        described
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.ask_to_end();
        self.process.wait_for_end();
    }
}
