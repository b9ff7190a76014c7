//! Other Yjs servers, installed by name from npm into a folder of the build, and started as their documentation says:
//! without persistence, without authentication, in one process.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What `npm ci` works from, and our own start scripts.
const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("../peers/package.json")),
    ("package-lock.json", include_str!("../peers/package-lock.json")),
    (".npmrc", include_str!("../peers/.npmrc")),
    ("hocuspocus.js", include_str!("../peers/hocuspocus.js")),
    ("hocuspocus-redis.js", include_str!("../peers/hocuspocus-redis.js")),
];
/// Longest time until a server listens.
const START_MAX: Duration = Duration::from_secs(20);

/// A server that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// With its default merging: the updates of one turn of its event loop go out as one.
    Hocuspocus,
    /// Each update on its own (`flushDelay: false`).
    HocuspocusUnmerged,
    /// `@y/websocket-server`.
    YWebsocket,
    /// y-sweet, in memory.
    YSweet,
}

impl Peer {
    /// The package, with the version that is installed.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Hocuspocus | Self::HocuspocusUnmerged => "@hocuspocus/server",
            Self::YWebsocket => "@y/websocket-server",
            Self::YSweet => "y-sweet",
        }
    }
}

/// Where the peers are installed.
#[derive(Debug)]
pub struct Peers {
    folder: PathBuf,
    /// y-sweet's program, or why there is none.
    y_sweet: Result<PathBuf, String>,
}

impl Peers {
    /// Installs what the lock file names, unless it is there, into `peers` beside this program's profile.
    ///
    /// # Errors
    /// npm is missing or fails.
    pub fn install() -> Result<Self> {
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).context("this program is in no target folder")?;
        let folder = target.join("peers");
        fs::create_dir_all(&folder)?;
        let mut is_current = folder.join("node_modules/.package-lock.json").exists();
        for (name, text) in FILES {
            let file = folder.join(name);
            if fs::read_to_string(&file).ok().as_deref() != Some(text) {
                fs::write(&file, text)?;
                is_current &= !name.starts_with("package");
            }
        }
        if !is_current {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--silent"]).current_dir(&folder);
            let status = npm.status().context("npm cannot be started")?;
            ensure!(status.success(), "npm ci failed: {status}");
        }
        let y_sweet = find_y_sweet(&folder);
        Ok(Self { folder, y_sweet })
    }

    /// Why a peer cannot be measured here, if it cannot.
    #[must_use]
    pub fn lacks(&self, peer: Peer) -> Option<&str> {
        match peer {
            Peer::YSweet => self.y_sweet.as_ref().err().map(String::as_str),
            _ => None,
        }
    }

    /// `@hocuspocus/server 4.7.0, ... on Node.js v22.0.0`.
    #[must_use]
    pub fn versions(&self) -> String {
        let version = |package: &str| {
            let file = self.folder.join("node_modules").join(package).join("package.json");
            let package_json = fs::read_to_string(file).unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(&package_json).unwrap_or_default();
            format!("{package} {}", value["version"].as_str().unwrap_or("?"))
        };
        let packages =
            ["@hocuspocus/server", "@hocuspocus/extension-redis", "@y/websocket-server", "y-sweet", "yjs"];
        let packages = packages.map(version).join(", ");
        let node = Command::new("node").arg("--version").output();
        let node =
            node.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into());
        format!("{packages}, on Node.js {}", node.trim())
    }

    /// Starts a peer on a free port of loopback and waits until it listens.
    ///
    /// # Errors
    /// It does not start; the error has what it said.
    pub fn start(&self, peer: Peer) -> Result<PeerServer> {
        let port = free_port()?;
        let number = port.to_string();
        let command = match peer {
            Peer::Hocuspocus => node(&["hocuspocus.js", &number]),
            Peer::HocuspocusUnmerged => node(&["hocuspocus.js", &number, "false"]),
            Peer::YWebsocket => {
                let mut command = node(&["node_modules/@y/websocket-server/src/server.js"]);
                command.env("HOST", "127.0.0.1").env("PORT", &number);
                command
            }
            Peer::YSweet => {
                let program = self.y_sweet.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
                let mut command = Command::new(program);
                command.args(["serve", "--host", "127.0.0.1", "--port", &number]);
                command
            }
        };
        self.spawn(command, port, &format!("{peer:?}"))
    }

    /// Starts one Hocuspocus of several that share documents by the Redis at a port of loopback.
    ///
    /// # Errors
    /// It does not start; the error has what it said.
    pub fn start_beside_others(&self, redis: u16, name: &str) -> Result<PeerServer> {
        let port = free_port()?;
        let command = node(&["hocuspocus-redis.js", &port.to_string(), &redis.to_string()]);
        self.spawn(command, port, name)
    }

    fn spawn(&self, mut command: Command, port: u16, name: &str) -> Result<PeerServer> {
        let log = self.folder.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = PeerServer { child, address };
        server.wait(&log).with_context(|| name.to_owned())?;
        Ok(server)
    }
}

/// Free now; nobody else on this machine is in a hurry to take it.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn node(arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.args(arguments).env("NODE_ENV", "production");
    command
}

/// The package's own program, which its install script downloads; or one that was built from the crate.
fn find_y_sweet(folder: &Path) -> Result<PathBuf, String> {
    let places = [folder.join("bin/y-sweet"), folder.join("node_modules/y-sweet/bin/y-sweet")];
    let found = || places.iter().find(|place| place.exists()).cloned();
    if let Some(place) = found() {
        return Ok(place);
    }
    let script = node(&["node_modules/y-sweet/src/install.js"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match (script, found()) {
        (Ok(status), Some(place)) if status.success() => Ok(place),
        _ => Err("its npm package downloads a program, which could not be had here; \
                  `cargo install --locked y-sweet@0.9.1 --root target/peers` builds it"
            .to_owned()),
    }
}

/// A running peer; ends when it is dropped.
#[derive(Debug)]
pub struct PeerServer {
    child: Child,
    address: SocketAddr,
}

impl PeerServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let mut said = String::new();
                fs::File::open(log)?.read_to_string(&mut said)?;
                bail!("it ended with {status} and said: {said}");
            }
            ensure!(Instant::now() < deadline, "it does not listen after {} s", START_MAX.as_secs());
            #[expect(clippy::disallowed_methods, reason = "a foreign process says nothing when it listens")]
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        // They hold nothing that would be lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_pinned_and_names_no_host() {
        let [(_, package), (_, lock), ..] = FILES;
        let package: serde_json::Value = serde_json::from_str(package).unwrap();
        let dependencies = package["dependencies"].as_object().unwrap();
        for (name, version) in dependencies {
            let version = version.as_str().unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} {version}");
        }
        for peer in [Peer::Hocuspocus, Peer::YWebsocket, Peer::YSweet] {
            assert!(dependencies.contains_key(peer.package()));
        }
        assert!(!lock.contains("\"resolved\""));
    }
}
