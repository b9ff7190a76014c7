//! Configurations and nodes.

use super::border::{Border, Outer};
use super::options::Options;
use super::port::free_port;
use super::process::Process;
use super::site::Site;
use super::{LICENSE, REGISTRY, Stores};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

/// What all nodes have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Signs tokens.
    pub(crate) secret: String,
    /// For the admin API.
    pub(crate) admin_token: String,
}

/// A node: it runs, or was made to end.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    place: Place,
    process: Process,
    /// How it is started.
    command: Vec<String>,
    log: PathBuf,
    /// What it said when it was ready.
    ready: Value,
}

/// Where a node is to be.
#[derive(Clone, Debug)]
struct Place {
    region: String,
    name: String,
    site: Site,
    port: u16,
    peer_port: u16,
    admin_port: u16,
    /// Where it is known to others, if that is across a border.
    outer: Option<Outer>,
    /// Where it finds the registry.
    registry: String,
}

/// Starts all nodes, each when the one before it is ready; with the borders of their regions, where there are any.
pub(super) fn start(
    options: &Options,
    program: &Path,
    stores: &Stores,
    folder: &Path,
) -> Result<(Vec<Node>, Vec<Border>)> {
    let shared = Arc::new(write_secrets(folder)?);
    let (places, borders) = places(options, stores)?;
    let mut nodes = Vec::new();
    for place in &places {
        let config = folder.join(format!("{}.toml", place.name));
        fs::write(&config, configuration(place, &places, options, stores))?;
        let mut command = vec![program.display().to_string()];
        command.extend(["serve".to_owned(), "--json".to_owned(), "--config".to_owned()]);
        command.push(config.display().to_string());
        for setting in &options.settings {
            command.extend(["--set".to_owned(), setting.clone()]);
        }
        let log = folder.join(format!("{}.log", place.name));
        let (process, ready) = start_one(place, &command, &log)?;
        let (region, name) = (place.region.clone(), place.name.clone());
        let shared = Arc::clone(&shared);
        nodes.push(Node { region, name, shared, place: place.clone(), process, command, log, ready });
    }
    Ok((nodes, borders))
}

/// A node is called by its region and a letter.
fn places(options: &Options, stores: &Stores) -> Result<(Vec<Place>, Vec<Border>)> {
    let (mut places, mut borders) = (Vec::new(), Vec::new());
    for region in options.region_names() {
        let mut border = match options.has_borders {
            true => Some(Border::new(&region, stores.registry())?),
            false => None,
        };
        let registry = match &border {
            Some(border) => format!("redis://{}:{}", stores.registry().0, border.registry_port()),
            None => stores.url(REGISTRY),
        };
        for letter in ('a'..='z').take(options.nodes) {
            let (site, registry) = (options.site(&region), registry.clone());
            let (port, peer_port) = (free_port()?, free_port()?);
            let outer = match &mut border {
                Some(border) => Some(border.lead_to(&site.host, port, peer_port)?),
                None => None,
            };
            let (name, region, admin_port) = (format!("{region}{letter}"), region.clone(), free_port()?);
            places.push(Place { region, name, site, port, peer_port, admin_port, outer, registry });
        }
        borders.extend(border);
    }
    Ok((places, borders))
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

fn configuration(place: &Place, places: &[Place], options: &Options, stores: &Stores) -> String {
    let Place { region, name, site, port, peer_port, admin_port, outer, registry } = place;
    let wrong_region = if options.is_relay { "relay" } else { "redirect" };
    let (session, public_url) = (stores.url(region), place.public_url());
    let peer_address = outer.map_or(*peer_port, |outer| outer.links);
    let (host, public) = (&site.host, &site.public);
    let listen: Vec<String> = site.hosts().iter().map(|host| format!("\"{host}:{port}\"")).collect();
    let listen = listen.join(", ");
    let mut text = format!(
        "region = \"{region}\"\n\
         listen = [{listen}]\n\
         allow_plaintext = true\n\
         public_url = \"{public_url}\"\n\
         [tokens]\n\
         secret_file = \"secret\"\n\
         [address_limits]\n\
         enabled = false\n\
         [drain]\n\
         window = \"1s\"\n\
         [shedding]\n\
         resources = []\n\
         budget = 1000000\n\
         region_budget = 0\n\
         [admin]\n\
         listen = [\"{host}:{admin_port}\"]\n\
         allow_plaintext = true\n\
         token_file = \"admin.token\"\n\
         [cluster]\n\
         registry = \"redis\"\n\
         node = \"{name}\"\n\
         session = \"{session}\"\n\
         wrong_region = \"{wrong_region}\"\n\
         peer_listen = \"{public}:{peer_port}\"\n\
         peer_address = \"{public}:{peer_address}\"\n\
         peer_secret_file = \"peer.secret\"\n\
         [cluster.registries]\n\
         {LICENSE} = \"{registry}\"\n"
    );
    for region in options.region_names() {
        // There is nothing that spreads clients over the nodes of a region: its URL is that of its first node.
        let first = places.iter().find(|place| place.region == region);
        let url = first.map(Place::public_url).unwrap_or_default();
        text += &format!("[[regions]]\nname = \"{region}\"\nurl = \"{url}\"\n");
    }
    text
}

impl Place {
    fn public_url(&self) -> String {
        format!("ws://{}:{}", self.site.public, self.outer.map_or(self.port, |outer| outer.clients))
    }
}

/// The process, and what it says when it is ready.
fn start_one(place: &Place, command: &[String], log: &Path) -> Result<(Process, Value)> {
    let mut process = Process::start(&place.site.prefix, &command[0], &command[1..], log, |command| {
        command.stdout(Stdio::piped());
    })?;
    let mut line = String::new();
    if let Some(stdout) = process.child().stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("{} ended before it was ready:\n{said}", place.name);
    }
    let ready = serde_json::from_str(&line).with_context(|| format!("{} said {line}", place.name))?;
    Ok((process, ready))
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where clients reach it.
    pub(crate) fn url(&self) -> String {
        self.place.public_url()
    }

    /// Where clients reach it that are near: the same, unless its region has a network of its own, or a border.
    pub(crate) fn near_url(&self) -> String {
        format!("ws://{}:{}", self.place.site.host, self.place.port)
    }

    /// Host and port of HTTP, as whoever is near reaches it.
    pub(crate) fn http(&self) -> String {
        format!("{}:{}", self.place.site.host, self.place.port)
    }

    /// Host and port of the admin API.
    pub(crate) fn admin(&self) -> String {
        format!("{}:{}", self.place.site.host, self.place.admin_port)
    }

    /// All are asked before one is awaited.
    pub(crate) fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// It has to end, and well, after [`Self::ask_to_end`].
    pub(crate) fn end(&mut self) -> Result<()> {
        self.process.wait_for_end();
        let status = self.process.outcome()?.with_context(|| format!("{} does not end", self.name))?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again, after it has ended: a new life of the same node.
    pub(crate) fn restart(&mut self) -> Result<()> {
        (self.process, self.ready) = start_one(&self.place, &self.command, &self.log)?;
        Ok(())
    }

    /// What it logged, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it said, who it is, and how it is started again.
    pub(super) fn describe(&self) -> Value {
        let mut described = self.ready["regions"][0].clone();
        described["node"] = json!(self.name);
        described["pid"] = json!(self.pid());
        described["near_url"] = json!(self.near_url());
        described["near_http_url"] = json!(format!("http://{}", self.http()));
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
