//! `dev`: a node to try things out with.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pinwire_engine::RINGS_MAX;
use pinwire_token::{Jwks, Key, KeySet, SigningKey, mint};
use serde_json::json;

use super::DriverArg;
use super::token::{DefaultClaims, GENEROUS, random_hex, unix_now};
use crate::admin::{AdminAddress, AdminToken};
use crate::config::{Admin, Config, DEFAULT_MAX_CONNECTIONS, Region};
use crate::control::Page;

/// Flags of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Loopback address to listen on; port 0 takes any free port. The default is the port stock clients expect.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1234")]
    pub listen: SocketAddr,
    /// Data threads [default: one for each core].
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

/// A `dev` node, resolved: what to start, and what to tell about it.
#[derive(Debug)]
pub struct Dev {
    /// What to start.
    pub config: Config,
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
        let threads =
            args.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
        let mut config = Config::dev(args.listen, threads, keys);
        config.driver = args.driver.into();
        config.max_connections = args.max_connections;
        config.rings_per_thread = args.rings_per_thread;
        config.policy.default_limits = GENEROUS;
        let claims = DefaultClaims { region: &config.region.name, ..DefaultClaims::lasting(TOKEN_SECONDS) };
        let token = mint(&SigningKey::from_secret(secret.as_bytes())?, &claims.at(unix_now())?)?;
        config.page = Some(Page { token: token.clone() });
        let admin_token = random_secret()?;
        config.admin = Some(Admin {
            listen: vec![SocketAddr::new(args.listen.ip(), 0)],
            socket: None,
            token: Some(AdminToken::new(admin_token.as_bytes())),
            tls: None,
            audit_log: None,
        });
        Ok(Self { config, secret, token, admin_token, json: args.json })
    }

    /// Says on stdout that the node is ready, once it is; `bound` is where it really listens, `admin` where the admin API does.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn announce(&self, bound: SocketAddr, admin: &[AdminAddress]) -> io::Result<()> {
        let admin = admin.first().map(ToString::to_string).unwrap_or_default();
        let mut out = io::stdout().lock();
        let text = if self.json { self.json_line(bound, &admin) } else { self.instructions(bound, &admin) };
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn json_line(&self, bound: SocketAddr, admin: &str) -> String {
        let region: &Region = &self.config.region;
        let line = json!({
            "pid": std::process::id(),
            "regions": [{
                "region": region.name,
                "ws_url": region.ws_url(bound),
                "http_url": region.http_url(bound),
                "admin_url": admin,
            }],
            "token": self.token,
            "secret": self.secret,
            "admin_token": self.admin_token,
        });
        format!("{line}\n")
    }

    fn instructions(&self, bound: SocketAddr, admin: &str) -> String {
        let (ws, http) = (self.config.region.ws_url(bound), self.config.region.http_url(bound));
        let Self { secret, token, admin_token, .. } = self;
        format!(
            "\
Pinwire is ready: one region in memory, reachable from this machine only.

  Page       {http}/   (open it in two windows)
  WebSocket  {ws}
  HTTP       {http}
  Secret     {secret}
  Token      {token}
  Admin API  {admin}
  Its token  {admin_token}

y-websocket:

  import * as Y from 'yjs'
  import {{ WebsocketProvider }} from 'y-websocket'

  const doc = new Y.Doc()
  const token = '{token}'
  const provider = new WebsocketProvider('{ws}', 'my-document', doc, {{ params: {{ token }} }})

Hocuspocus:

  import * as Y from 'yjs'
  import {{ HocuspocusProvider }} from '@hocuspocus/provider'

  const document = new Y.Doc()
  const token = '{token}'
  const provider = new HocuspocusProvider({{ url: '{ws}', name: 'my-document', document, token }})

Where is a document open?

  curl -H 'Authorization: Bearer {token}' '{http}/discovery?documentName=my-document'

What is going on?

  curl -H 'Authorization: Bearer {admin_token}' {admin}/v1/node

Tokens of your own: pinwire-node token mint --secret {secret} --claims '{{\"sub\": \"ann\"}}'

Documents live in this process's memory: an edit is safe as long as it runs, and gone when it ends. Ctrl-C stops it.
"
        )
    }
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
    use serde_json::Value;

    use super::*;

    fn args(listen: &str) -> DevArgs {
        DevArgs {
            listen: listen.parse().unwrap(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            rings_per_thread: 1,
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
        assert!(verify(&dev.config.keys, &dev.config.policy, &token, unix_now()).is_ok());

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

    #[test]
    fn the_json_line_is_one_line_with_what_scripts_rely_on() {
        let dev = Dev::resolve(&args("127.0.0.1:0")).unwrap();
        let line = dev.json_line("127.0.0.1:4321".parse().unwrap(), "http://127.0.0.1:4322");
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["pid"], std::process::id());
        assert_eq!(value["regions"][0]["ws_url"], "ws://127.0.0.1:4321");
        assert_eq!(value["regions"][0]["http_url"], "http://127.0.0.1:4321");
        assert_eq!(value["regions"][0]["region"], dev.config.region.name.as_str());
        assert_eq!(value["token"], dev.token.as_str());
        assert_eq!(value["secret"], dev.secret.as_str());
        assert_eq!(value["regions"][0]["admin_url"], "http://127.0.0.1:4322");
        assert_eq!(value["admin_token"], dev.admin_token.as_str());
    }

    #[test]
    fn the_printed_token_opens_every_document_of_the_node() {
        let dev = Dev::resolve(&args("127.0.0.1:0")).unwrap();
        let config = &dev.config;
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
        let text = dev.instructions("127.0.0.1:4321".parse().unwrap(), "http://127.0.0.1:4322");
        for part in [
            "  Page       http://127.0.0.1:4321/ ",
            "new WebsocketProvider('ws://127.0.0.1:4321', 'my-document'",
            "new HocuspocusProvider({ url: 'ws://127.0.0.1:4321'",
            "'http://127.0.0.1:4321/discovery?documentName=my-document'",
            "memory",
            "http://127.0.0.1:4322/v1/node",
            dev.token.as_str(),
            dev.admin_token.as_str(),
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
