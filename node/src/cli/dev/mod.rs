//! `dev`: regions to try things out with, in one process.

mod text;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pinwire_engine::RINGS_MAX;
use pinwire_token::{Jwks, Key, KeySet, SigningKey, mint};

use self::text::{Ready, Secrets, instructions, json_line};
use super::DriverArg;
use super::token::{DefaultClaims, GENEROUS, random_hex, unix_now};
use crate::admin::AdminToken;
use crate::cluster::SharedRegistry;
use crate::config::{Admin, Config, DEFAULT_MAX_CONNECTIONS, RegionEntry, RegionStatus};
use crate::control::Page;
use crate::log::Log;
use crate::{Hung, Node, OtherThreads, Start};

/// Flags of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Loopback address to listen on; port 0 takes any free port. The default is the port stock clients expect.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1234")]
    pub listen: SocketAddr,
    /// Regions in this process, each on a port of its own: the one of --listen, and those behind it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub regions: u16,
    /// Data threads of each region [default: as many as there are cores for it].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Most connections.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_CONNECTIONS, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// io_uring: rings that a data thread may have. Each holds as many connections as `ulimit -n` says.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(RINGS_MAX)))]
    pub rings_per_thread: u32,
    /// A JWKS file whose keys are accepted beside the secret (RS256, ES256, EdDSA, HS256); may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub jwks: Vec<PathBuf>,
    /// When ready, print one line of JSON on stdout and nothing else.
    #[arg(long)]
    pub json: bool,
    /// How to talk to the kernel.
    #[arg(long, value_enum, default_value_t = DriverArg::Auto)]
    pub driver: DriverArg,
}

/// Regions of `dev`, resolved: what to start, and what to tell about it.
#[derive(Debug)]
pub struct Dev {
    /// What to start: a node for each region.
    pub configs: Vec<Config>,
    secret: String,
    token: String,
    admin_token: String,
    json: bool,
}

impl Dev {
    /// Makes a secret and a token of its own.
    ///
    /// # Errors
    /// An address that others can reach, or a system without random numbers.
    pub fn resolve(args: &DevArgs) -> anyhow::Result<Self> {
        if !args.listen.ip().is_loopback() {
            bail!(
                "dev listens on loopback only, {} can be reached by others; use 127.0.0.1:{1} or [::1]:{1}",
                args.listen.ip(),
                args.listen.port()
            );
        }
        let secret = random_secret()?;
        let mut keys = KeySet::from_iter([Key::from_secret(secret.as_bytes())?]);
        for file in &args.jwks {
            read_jwks(file)?.into_iter().for_each(|key| keys.add(key));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or(cores / usize::from(args.regions), usize::from);
        let listen = addresses(args.listen, args.regions)?;
        let token = mint(
            &SigningKey::from_secret(secret.as_bytes())?,
            &DefaultClaims::lasting(TOKEN_SECONDS).at(unix_now())?,
        )?;
        let admin_token = random_secret()?;
        let admin = Admin {
            listen: vec![SocketAddr::new(args.listen.ip(), 0)],
            socket: None,
            token: Some(AdminToken::new(admin_token.as_bytes())),
            tls: None,
            audit_log: None,
            public_url: None,
        };
        let regions = catalogue(&listen);
        let config = |(place, listen): (usize, &SocketAddr)| {
            let mut config = Config::dev(*listen, threads, keys.clone());
            config.region.name = region_name(place);
            config.driver = args.driver.into();
            config.max_connections = args.max_connections;
            config.rings_per_thread = args.rings_per_thread;
            config.policy.default_limits = GENEROUS;
            config.page = Some(Page { token: token.clone() });
            config.admin = Some(admin.clone());
            if regions.len() > 1 {
                config.regions.clone_from(&regions);
            }
            config
        };
        let configs = listen.iter().enumerate().map(config).collect();
        Ok(Self { configs, secret, token, admin_token, json: args.json })
    }

    /// Starts all regions; several share one registry.
    ///
    /// # Errors
    /// One cannot start; none runs then.
    pub fn start(&self, log: &Log) -> anyhow::Result<Running> {
        // A node that is alone admits all of an app's limit; one that shares a registry begins with a part.
        let registry = (self.configs.len() > 1)
            .then(SharedRegistry::new)
            .transpose()
            .context("the system gives no random numbers")?;
        let mut running = Running(Vec::new());
        let threads = |configs: &[Config]| configs.iter().map(|config| config.threads.max(1)).sum::<usize>();
        for (place, config) in self.configs.iter().enumerate() {
            let (before, all) = (threads(&self.configs[..place]), threads(&self.configs));
            let start = Start {
                log: Some(log.clone()),
                digest: None,
                registry: registry.clone(),
                other_threads: OtherThreads { before, all: all - config.threads.max(1) },
                ..Start::default()
            };
            match Node::start_with(config.clone(), start) {
                Ok(node) => running.0.push(node),
                Err(error) => {
                    // What hangs of them is in the log.
                    let _ = running.stop();
                    return Err(error).with_context(|| format!("{} cannot start", config.region.name));
                }
            }
        }
        Ok(running)
    }

    /// Says on stdout that the regions are ready, once they are.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn announce(&self, running: &Running) -> io::Result<()> {
        let ready = self.configs.iter().zip(&running.0).map(|(Config { region, .. }, node)| Ready {
            region: region.name.clone(),
            ws_url: region.ws_url(node.address()),
            http_url: region.http_url(node.address()),
            admin_url: node.admin_addresses().first().map(ToString::to_string).unwrap_or_default(),
        });
        let ready: Vec<Ready> = ready.collect();
        let text =
            if self.json { json_line(&ready, self.secrets()) } else { instructions(&ready, self.secrets()) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn secrets(&self) -> Secrets<'_> {
        Secrets { secret: &self.secret, token: &self.token, admin_token: &self.admin_token }
    }
}

/// The regions, running.
#[derive(Debug)]
pub struct Running(Vec<Node>);

impl Running {
    /// Stops all at the same time.
    ///
    /// # Errors
    /// Threads hang.
    pub fn stop(self) -> Result<(), Hung> {
        std::thread::scope(|scope| {
            let stopping: Vec<_> = self.0.into_iter().map(|node| scope.spawn(move || node.stop())).collect();
            let hung = stopping.into_iter().filter_map(|node| node.join().ok()?.err());
            let hung: Vec<String> = hung.flat_map(|Hung(threads)| threads).collect();
            if hung.is_empty() { Ok(()) } else { Err(Hung(hung)) }
        })
    }
}

fn region_name(place: usize) -> String {
    format!("local-{}", place + 1)
}

/// Where each region listens. Several know each other's addresses before they start, so they need ports with numbers.
fn addresses(first: SocketAddr, regions: u16) -> anyhow::Result<Vec<SocketAddr>> {
    if regions == 1 {
        return Ok(vec![first]);
    }
    if first.port() == 0 {
        let free: io::Result<Vec<TcpListener>> = (0..regions).map(|_| TcpListener::bind(first)).collect();
        let free = free.with_context(|| format!("no free ports on {}", first.ip()))?;
        let ports: io::Result<Vec<SocketAddr>> = free.iter().map(TcpListener::local_addr).collect();
        return ports.context("no free ports");
    }
    let address = |place| {
        let port = first.port().checked_add(place).with_context(|| {
            format!("{regions} regions need as many ports, and there are not so many behind {first}")
        })?;
        Ok(SocketAddr::new(first.ip(), port))
    };
    (0..regions).map(address).collect()
}

fn catalogue(listen: &[SocketAddr]) -> Vec<RegionEntry> {
    let entry = |(place, address): (usize, &SocketAddr)| RegionEntry {
        name: region_name(place),
        url: format!("ws://{address}"),
        status: RegionStatus::Live,
        area: None,
    };
    listen.iter().enumerate().map(entry).collect()
}

/// How long the printed token is good: a session of trying things out.
const TOKEN_SECONDS: u64 = 30 * 24 * 3600;

/// The keys of a JWKS file; those that cannot be used are named in the log.
fn read_jwks(file: &Path) -> anyhow::Result<Vec<Key>> {
    let name = file.display();
    let json = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let jwks = Jwks::parse(&json).with_context(|| format!("{name} is no usable JWKS"))?;
    for skipped in &jwks.skipped {
        tracing::warn!(file = %name, index = skipped.index, id = ?skipped.id, why = skipped.why, "a key is not used");
    }
    Ok(jwks.keys)
}

fn random_secret() -> anyhow::Result<String> {
    random_hex::<32>().context("the system gives no random numbers for a secret")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use pinwire_token::{Access, Request, authorize, verify};
    use serde_json::{Value, json};

    use super::*;

    fn args(listen: &str) -> DevArgs {
        DevArgs {
            listen: listen.parse().unwrap(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            rings_per_thread: 1,
            regions: 1,
            threads: NonZeroUsize::new(1),
            jwks: Vec::new(),
            json: true,
            driver: DriverArg::Auto,
        }
    }

    #[test]
    fn keys_of_a_jwks_file_are_accepted_beside_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        let key = json!({ "kty": "oct", "alg": "HS256", "kid": "k1", "k": secret });
        std::fs::write(&file, json!({ "keys": [key] }).to_string()).unwrap();
        let dev = Dev::resolve(&DevArgs { jwks: vec![file], ..args("127.0.0.1:0") }).unwrap();
        let signing = SigningKey::from_secret(&[7; 32]).unwrap().with_id("k1");
        let claims = DefaultClaims::lasting(60).at(unix_now()).unwrap();
        let token = mint(&signing, &claims).unwrap();
        let config = &dev.configs[0];
        assert!(verify(&config.keys, &config.policy, &token, unix_now()).is_ok());

        let missing = DevArgs { jwks: vec![dir.path().join("none.json")], ..args("127.0.0.1:0") };
        assert!(Dev::resolve(&missing).unwrap_err().to_string().contains("none.json"));
    }

    #[test]
    fn addresses_that_others_can_reach_are_refused_with_the_mend() {
        for open in ["0.0.0.0:1234", "192.0.2.1:1234", "[::]:1234"] {
            let refused = Dev::resolve(&args(open)).unwrap_err().to_string();
            assert!(refused.contains("127.0.0.1:1234"), "{refused}");
        }
        assert!(Dev::resolve(&args("127.0.0.1:0")).is_ok());
        assert!(Dev::resolve(&args("[::1]:0")).is_ok());
    }

    fn ready(dev: &Dev) -> Vec<Ready> {
        let one = |(place, config): (usize, &Config)| Ready {
            region: config.region.name.clone(),
            ws_url: format!("ws://127.0.0.1:{}", 4321 + place),
            http_url: format!("http://127.0.0.1:{}", 4321 + place),
            admin_url: format!("http://127.0.0.1:{}", 5321 + place),
        };
        dev.configs.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_json_line_is_one_line_with_what_scripts_rely_on() {
        let dev = Dev::resolve(&DevArgs { regions: 2, ..args("127.0.0.1:0") }).unwrap();
        let line = json_line(&ready(&dev), dev.secrets());
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["pid"], std::process::id());
        assert_eq!(value["regions"][0]["ws_url"], "ws://127.0.0.1:4321");
        assert_eq!(value["regions"][0]["http_url"], "http://127.0.0.1:4321");
        assert_eq!(value["regions"][0]["region"], dev.configs[0].region.name.as_str());
        assert_eq!(value["regions"][1]["region"], "local-2");
        assert_eq!(value["regions"].as_array().unwrap().len(), 2);
        assert_eq!(value["token"], dev.token.as_str());
        assert_eq!(value["secret"], dev.secret.as_str());
        assert_eq!(value["regions"][0]["admin_url"], "http://127.0.0.1:5321");
        assert_eq!(value["admin_token"], dev.admin_token.as_str());
    }

    #[test]
    fn regions_have_ports_of_their_own_and_know_each_other() {
        let dev = Dev::resolve(&DevArgs { regions: 3, ..args("127.0.0.1:7001") }).unwrap();
        let ports: Vec<u16> = dev.configs.iter().map(|config| config.listen[0].port()).collect();
        assert_eq!(ports, [7001, 7002, 7003]);
        for config in &dev.configs {
            let urls: Vec<&str> = config.regions.iter().map(|region| region.url.as_str()).collect();
            assert_eq!(urls, ["ws://127.0.0.1:7001", "ws://127.0.0.1:7002", "ws://127.0.0.1:7003"]);
        }
        let any = Dev::resolve(&DevArgs { regions: 9, ..args("127.0.0.1:0") }).unwrap();
        let ports: std::collections::HashSet<u16> =
            any.configs.iter().map(|config| config.listen[0].port()).collect();
        assert!(ports.len() == 9 && !ports.contains(&0), "{ports:?}");
        let last = DevArgs { regions: 3, ..args("127.0.0.1:65534") };
        assert!(Dev::resolve(&last).unwrap_err().to_string().contains("127.0.0.1:65534"));
    }

    #[test]
    fn the_printed_token_opens_every_document_of_the_node() {
        let dev = Dev::resolve(&args("127.0.0.1:0")).unwrap();
        let config = &dev.configs[0];
        let claims = verify(&config.keys, &config.policy, &dev.token, unix_now()).unwrap();
        let asked = Request {
            origin: Some("http://localhost:5173"),
            document: Some("any"),
            region: Some(&config.region.name),
            known_db_codes: &config.known_db_codes,
        };
        assert_eq!(authorize(&claims, &asked), Ok(Access::ReadWrite));
        assert_eq!(claims.limits, GENEROUS);
        assert!(claims.expires_at > unix_now() + 24 * 3600);
    }

    #[test]
    fn every_start_has_a_secret_of_its_own() {
        let secret = || Dev::resolve(&args("127.0.0.1:0")).unwrap().secret;
        assert_ne!(secret(), secret());
    }

    #[test]
    fn the_instructions_name_the_page_both_clients_discovery_and_where_state_lives() {
        let dev = Dev::resolve(&args("127.0.0.1:0")).unwrap();
        let text = instructions(&ready(&dev), dev.secrets());
        for part in [
            "  Page       http://127.0.0.1:4321/ ",
            "new WebsocketProvider('ws://127.0.0.1:4321', 'my-document'",
            "new HocuspocusProvider({ url: 'ws://127.0.0.1:4321'",
            "'http://127.0.0.1:4321/discovery?documentName=my-document'",
            "memory",
            "http://127.0.0.1:5321/v1/node",
            dev.token.as_str(),
            dev.admin_token.as_str(),
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("REDIRECT"), "there is nowhere to be sent to");
    }

    #[test]
    fn the_instructions_of_several_regions_show_how_to_see_a_redirect() {
        let dev = Dev::resolve(&DevArgs { regions: 2, ..args("127.0.0.1:0") }).unwrap();
        let text = instructions(&ready(&dev), dev.secrets());
        for part in [
            "2 regions",
            "local-2    page http://127.0.0.1:4322/ ",
            "'http://127.0.0.1:4322/discovery?documentName=my-document'",
            "new WebsocketProvider('ws://127.0.0.1:4322', 'my-document'",
            "REDIRECT:",
            "provider.serverUrl = to[1]",
            "http://127.0.0.1:4322/regions",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
