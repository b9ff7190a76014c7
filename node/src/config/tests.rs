//! Configurations that are wrong, and what is said about them; and those that are right.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A directory with a good secret and a good JWKS file in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self(dir);
        place.write("secret", &"s".repeat(32));
        place.write("short", "hunter2");
        place.write(
            "pem",
            &format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", "A".repeat(64)),
        );
        place.write("not.json", "keys, they said");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Sources of a file with this text.
    fn sources(&self, text: &str) -> Sources {
        self.write("node.toml", text);
        Sources { file: Some(self.path("node.toml")), ..Sources::default() }
    }

    /// What is wrong with a file of this text, its directory left out.
    fn problems(&self, text: &str) -> Vec<String> {
        let dir = format!("{}/", self.0.path().display());
        let problems = self.sources(text).resolve().err().unwrap_or_default();
        problems.iter().map(|problem| problem.to_string().replace(&dir, "")).collect()
    }
}

const GOOD: &str = "region = \"eu-central-1\"\n[tokens]\nsecret_file = \"secret\"\n";

/// Each is laid over [`GOOD`] (in its first line, or in `[tokens]` after its last), and has to be answered by these words.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    // What the file says.
    ("max_conections = 5", "", &["node.toml:1:1: max_conections: ", "is max_connections meant?"]),
    ("colour = 5", "", &["node.toml:1:1: colour: there is no such key", "config schema"]),
    (
        "websockets.max_frame = 5",
        "",
        &["node.toml:1:12: websockets.max_frame: ", "is websocket.max_frame meant?"],
    ),
    ("secret_file = \"secret\"", "", &["node.toml:1:1: secret_file: ", "is tokens.secret_file meant?"]),
    ("websocket = 5", "", &["node.toml:1:1: websocket: is a table: write [websocket]"]),
    ("threads = ", "", &["node.toml:1:11: "]),
    ("threads = 1\nthreads = 2", "", &["node.toml:2:1: duplicate key"]),
    ("threads = \"two\"", "", &["threads: a whole number was expected, not the text \"two\""]),
    ("threads = -1", "", &["threads: has to lie between 0 and 1024"]),
    ("threads = 1.5", "", &["threads: a whole number was expected, not the number 1.5"]),
    ("max_connections = 0", "", &["max_connections: has to lie between 1 and 4294967295"]),
    ("max_connections = 99999999999999", "", &["max_connections: has to lie between 1 and 4294967295"]),
    ("driver = \"kqueue\"", "", &["driver: one of auto, uring, epoll was expected, not `kqueue`"]),
    ("allow_plaintext = \"yes\"", "", &["allow_plaintext: true or false was expected, not the text \"yes\""]),
    ("deadlines.ping = 25", "", &["deadlines.ping: a length of time, as in", "not the number 25"]),
    ("deadlines.ping = \"25 parsecs\"", "", &["deadlines.ping: a length of time, as in"]),
    ("deadlines.ping = \"10ms\"", "", &["deadlines.ping: has to lie between 1s and 1d"]),
    ("websocket.max_frame = \"16MB\"", "", &["websocket.max_frame: a number of bytes, as in"]),
    ("websocket.max_message = \"2GiB\"", "", &["websocket.max_message: has to lie between 1KiB and 1GiB"]),
    ("listen = \"127.0.0.1:1234\"", "", &["listen: a list of texts was expected, not the text"]),
    ("listen = [1234]", "", &["listen: a list of texts was expected; it holds the number 1234"]),
    // What it means.
    ("listen = []", "", &["listen: names no address; write"]),
    ("listen = [\"1234\"]", "", &["listen: `1234` is no address with a port; write 127.0.0.1:1234"]),
    ("listen = [\"localhost:1234\"]", "", &["listen: `localhost:1234` is no address with a port"]),
    ("listen = [\"127.0.0.1:99\", \"127.0.0.1:99\"]", "", &["listen: names 127.0.0.1:99 twice"]),
    (
        "listen = [\"0.0.0.0:1234\"]",
        "",
        &["listen: other hosts reach 0.0.0.0:1234", "allow_plaintext = true"],
    ),
    ("public_url = \"eu.example.net\"", "", &["public_url: `eu.example.net` does not begin with wss://"]),
    (
        "public_url = \"https://eu.example.net\"",
        "",
        &["public_url: `https://eu.example.net` is for WebSockets; write wss://eu.example.net"],
    ),
    ("public_url = \"http://127.0.0.1:1\"", "", &["write ws://127.0.0.1:1"]),
    (
        "public_url = \"wss://eu.example.net/ws\"",
        "",
        &["public_url: ", "write wss://eu-central-1.example.net"],
    ),
    ("trusted_proxies = [\"10.0.0.0/33\"]", "", &["trusted_proxies: `10.0.0.0/33` is no address or network"]),
    ("log = \"eror\"", "", &["log: `eror` is no level; write one of off, error, warn"]),
    ("license_regions = [\"a\", \"a\"]", "", &["license_regions: names one twice"]),
    ("log = \"pinwire_node=loud\"", "", &["log: `pinwire_node=loud` is no filter"]),
    ("websocket.max_frame = \"32MiB\"", "", &["websocket.max_frame: is more than websocket.max_message"]),
    (
        "buffers.outbound_per_connection = \"1MiB\"",
        "",
        &["outbound_per_connection: has no room for one message"],
    ),
    (
        "buffers.outbound_per_thread = \"64MiB\"",
        "",
        &["outbound_per_thread: is less than buffers.outbound_per_connection"],
    ),
    (
        "traces.endpoint = \"localhost:4318\"",
        "",
        &["traces.endpoint: `localhost:4318` is no address of a collector"],
    ),
    (
        "traces = { endpoint = \"http://127.0.0.1:4318\", headers_file = \"short\" }",
        "",
        &["traces.headers_file: short line 1 is no header; write Name: value"],
    ),
    ("tokens.leeway = \"1500ms\"", "", &["tokens.leeway: has to be whole seconds"]),
    (
        "tls.listen = [\"127.0.0.1:1234\"]",
        "",
        &["tls.listen: names 127.0.0.1:1234, which `listen` names too"],
    ),
    ("tls.listen = [\"127.0.0.1:1\"]", "", &["tls.certificates: has to name a file for tls.listen"]),
    (
        "tls = { listen = [\"127.0.0.1:1\"], certificates = [\"secret\"] }",
        "",
        &["tls.keys: names 0 files, tls.certificates 1"],
    ),
    (
        "tls = { listen = [\"127.0.0.1:1\"], certificates = [\"secret\"], keys = [\"secret\"] }",
        "",
        &["tls.certificates: secret holds no certificate"],
    ),
    // The cluster.
    (
        "cluster.registry = \"etcd\"",
        "",
        &["cluster.registry: one of embedded, redis was expected, not `etcd`"],
    ),
    ("cluster.node = \"eu/1a\"", "", &["cluster.node: `eu/1a` has something besides letters"]),
    ("cluster.renew = \"7s\"", "", &["cluster.lease: is less than three times cluster.renew"]),
    (
        "cluster.registry = \"redis\"",
        "",
        &[
            "cluster.registries: names no license region; write [cluster.registries]",
            "cluster.session: has to be set with registry = \"redis\"",
        ],
    ),
    (
        "cluster.registries = { \"aws-eu-west-1\" = \"redis://a\" }",
        "",
        &["cluster.registries: is of no use with registry = \"embedded\"; write registry = \"redis\""],
    ),
    ("cluster.session = \"redis://a\"", "", &["cluster.session: is of no use with registry = \"embedded\""]),
    ("cluster.session = 5", "", &["cluster.session: an address, as in \"redis://HOST:6379\", was expected"]),
    ("cluster.registries = 5", "", &["cluster.registries: a table of addresses, as in"]),
    ("cluster.registries.a = 5", "", &["cluster.registries: a: an address was expected, not the number 5"]),
    (
        "cluster = { registry = \"redis\", session = \"redis://a\", registries.b = \"http://:secret@h\" }",
        "",
        &[
            "cluster.registries: b: `http://:***@h`: `http://` is not a Redis server: write redis:// or rediss://",
        ],
    ),
    (
        "cluster = { registry = \"redis\", session = \"redis+sentinel://a:1,b:2\", registries.b = \"redis://h\" }",
        "",
        &["cluster.session: `redis+sentinel://a:1,b:2`: which master? Write its name behind the sentinels"],
    ),
    (
        "cluster = { registry = \"redis\", session = \"redis://a:1,b:2\", registries.b = \"redis://\" }",
        "",
        &[
            "cluster.session: `redis://a:1,b:2`: several servers: write redis+sentinel://",
            "registries: b: `redis://`: a server without a name",
        ],
    ),
    (
        "cluster = { registry = \"redis\", session = \"redis://u:hun/ter2@a\", registries.b = \"redis://h?password_file=nowhere\" }",
        "",
        &["cluster.session: has a `/` before `@`: in a password it is written %2F", "nowhere`: "],
    ),
    (
        "license_regions = [\"a\", \"b\"]\ncluster = { registry = \"redis\", session = \"redis://a\", registries = { b = \"redis://h\", c = \"redis://h\" } }",
        "",
        &[
            "node.toml:1:1: license_regions: `a` has no registry; give it one in [cluster.registries]",
            "node.toml:2:56: cluster.registries: `c` is not among license_regions (a, b); write it there too",
        ],
    ),
    (
        "store.path = \"d\"\ncluster = { registry = \"redis\", session = \"redis://a\", registries.b = \"redis://h\" }",
        "",
        &["node.toml:1:7: store.path: cannot be used with cluster.registry = \"redis\": sessions are in"],
    ),
    (
        "cluster.wrong_region = \"relay\"",
        "",
        &["cluster.wrong_region: relay needs cluster.peer_listen and cluster.peer_secret_file"],
    ),
    (
        "cluster.peer_listen = \"0.0.0.0:7000\"",
        "",
        &[
            "cluster.peer_address: has to be set, since cluster.peer_listen is 0.0.0.0:7000",
            "cluster.peer_secret_file: has to be set for cluster.peer_listen",
        ],
    ),
    (
        "cluster = { peer_listen = \"127.0.0.1:1\", peer_address = \"here\", peer_secret_file = \"short\" }",
        "",
        &[
            "cluster.peer_address: `here` is no host with a port",
            "cluster.peer_secret_file: short holds a secret",
        ],
    ),
    ("cluster.ca_file = \"secret\"", "", &["cluster.ca_file: secret holds no certificate"]),
    // The catalogue.
    ("regions = \"eu-central-1\"", "", &["regions: a table [[regions]] for each region was expected"]),
    (
        "regions = [\"eu-central-1\"]",
        "",
        &["regions: a table [[regions]] for each region was expected; it holds"],
    ),
    ("regions = [{ nam = \"a\" }]", "", &["regions: a region has name, url, status and area, and no nam"]),
    ("regions = [{ name = 5 }]", "", &["regions: name: a text was expected, not the number 5"]),
    (
        "regions = [{ name = \"eu-1\", url = \"wss://a\" },\n {}, { name = \"eu-1\", url = \"wss://b\" }, { name = \"EU\" }]",
        "",
        &[
            "node.toml:2:2: regions: region 2: has no name; write name = ",
            "node.toml:2:6: regions: names eu-1 twice",
            "regions: region 4: the name `EU` has something besides small letters",
        ],
    ),
    (
        "regions = [{ name = \"a\" }, { name = \"b\", url = \"https://b\" }, { name = \"c\", status = \"up\" }]",
        "",
        &[
            "region 1: a: has no url; write url = \"wss://a.example.net\"",
            "region 2: b: url: `https://b` is for WebSockets; write wss://b",
            "region 3: c: status is one of live, coming-soon, maintenance, not `up`",
        ],
    ),
    // The region's name.
    (
        "dns = { provider = \"rfc2136\" }",
        "",
        &["dns.name: has to be set: the region's name", "dns.server: has to be set: the zone's primary"],
    ),
    (
        "dns = { provider = \"rfc2136\", name = \"eu.example.net\", server = \"a:53\", key_name = \"k\" }",
        "",
        &["dns.key_file: has to be set with dns.key_name"],
    ),
    (
        "dns = { provider = \"embedded\", name = \"eu.example.net\", addresses = [\"here\"] }",
        "",
        &["dns.addresses: `here` is no address", "dns.servers: has to be set: the nodes to which"],
    ),
    (
        "dns = { provider = \"exec\", name = \"eu.example.net\", program = \"dns.sh\" }",
        "",
        &["dns.program: dns.sh is no absolute path; give the whole path"],
    ),
    ("dns.provider = \"dyn\"", "", &["dns.provider: one of none, rfc2136, route53,"]),
    // Documents on disk.
    ("store.retention = \"1d\"", "", &["store.retention: is of no use without store.path"]),
    ("store.fsync = \"always\"", "", &["store.fsync: is of no use without store.path"]),
    ("store = { path = \"d\", fsync = \"often\" }", "", &["store.fsync: one of interval, always, never"]),
    ("store.path = \"secret\"", "", &["store.path: ", "secret is a file; name a folder"]),
    (
        "admin.listen = [\"127.0.0.1:9181\"]",
        "",
        &["node.toml:1:7: admin.listen: without admin.token_file everybody", "openssl rand -hex 32"],
    ),
    ("admin.listen = [\"9180\"]", "", &["admin.listen: `9180` is no address with a port"]),
    (
        "admin = { listen = [\"0.0.0.0:9180\"], token_file = \"secret\" }",
        "",
        &[
            "admin.listen: other hosts reach 0.0.0.0:9180",
            "set admin.certificates",
            "allow_plaintext = true in [admin]",
        ],
    ),
    (
        "admin = { public_url = \"https://eu-1a.internal/admin\", token_file = \"secret\" }",
        "",
        &["admin.public_url: `https://eu-1a.internal/admin` is more or less than a scheme and a host"],
    ),
    ("admin.token_file = \"short\"", "", &["admin.token_file: short holds a secret of 7 bytes"]),
    (
        "admin.token_file = \"pem\"",
        "",
        &["admin.token_file: pem holds something besides letters", "openssl rand"],
    ),
    ("admin.token_file = \"nowhere\"", "", &["admin.token_file: nowhere cannot be read: No such file"]),
    ("admin.client_ca = \"secret\"", "", &["admin.client_ca: needs admin.certificates and admin.keys"]),
    (
        "admin = { certificates = [\"secret\"], token_file = \"secret\" }",
        "",
        &["admin.keys: names 0 files, admin.certificates 1"],
    ),
    (
        "admin = { certificates = [\"secret\"], keys = [\"secret\"], client_ca = \"nowhere\" }",
        "",
        &["admin.certificates: secret holds no certificate", "admin.client_ca: nowhere cannot be read"],
    ),
    (
        "admin = { certificates = [\"secret\"], keys = [\"secret\"], client_ca = \"secret\" }",
        "",
        &["admin.client_ca: secret holds no certificate"],
    ),
    (
        "admin.socket = \"no/such/admin.sock\"",
        "",
        &["admin.socket: ", "is in no directory that there is; make it first"],
    ),
    ("admin.audit_log = \"no/such/audit\"", "", &["admin.audit_log: ", "is in no directory that there is"]),
    // What the key files hold.
    (
        "",
        "jwks_files = [\"nowhere.json\"]",
        &["node.toml:4:1: tokens.jwks_files: nowhere.json cannot be read: No such file"],
    ),
    ("", "jwks_files = [\"not.json\"]", &["tokens.jwks_files: not.json is no usable JWKS"]),
    // Where keys are fetched.
    (
        "",
        "jwks_urls = [\"auth.example.com\"]",
        &["node.toml:4:1: tokens.jwks_urls: `auth.example.com` is no whole URL; write https://"],
    ),
    (
        "",
        "jwks_urls = [\"http://auth.example.com/jwks\"]",
        &["`http://auth.example.com/jwks` is without TLS", "tokens.jwks_allow_http = true"],
    ),
    ("", "jwks_urls = [\"http://127.0.0.1.example.com/\"]", &["is without TLS"]),
    ("", "jwks_urls = [\"file:///etc/keys.json\"]", &["tokens.jwks_urls: `file:///etc/keys.json` "]),
    ("", "jwks_urls = [\"ftp://auth.example.com/\"]", &["begins with ftp; only https:// is fetched"]),
    ("", "jwks_urls = [\"https://me:word@auth.example.com/\"]", &["tokens.jwks_urls: one has a user in it"]),
    ("", "jwks_urls = [\"https://a.example/#keys\"]", &["has a fragment (#)"]),
    ("", "jwks_urls = [\"https://a b\"]", &["`https://a b` is no URL"]),
    (
        "",
        "jwks_urls = [\"https://a.example/\", \"https://a.example\"]",
        &["tokens.jwks_urls: names https://a.example/ twice"],
    ),
    (
        "",
        "jwks_ca_file = \"nowhere.pem\"",
        &["tokens.jwks_ca_file: nowhere.pem cannot be read: No such file"],
    ),
    ("", "jwks_ca_file = \"secret\"", &["tokens.jwks_ca_file: secret holds no certificate"]),
    ("", "jwks_cache = \"nowhere/jwks.json\"", &["tokens.jwks_cache: nowhere is no directory"]),
    ("", "jwks_cache = \".\"", &["is a directory; name a file in it"]),
    ("", "jwks_deadline = \"0s\"", &["tokens.jwks_deadline: has to lie between 1s and 1m"]),
    (
        "",
        "jwks_refresh = \"1m\"\njwks_min_interval = \"2m\"",
        &["tokens.jwks_min_interval: is more than tokens.jwks_refresh"],
    ),
];

#[test]
fn every_mistake_is_told_with_its_place_and_its_mend() {
    let place = Place::new();
    for (first, last, words) in MISTAKES {
        // Dotted keys of a table that the file opens would be another mistake.
        let base = if first.starts_with("tokens.") {
            GOOD.replace("[tokens]\n", "tokens.")
        } else {
            GOOD.to_owned()
        };
        let problems = place.problems(format!("{first}\n{base}{last}\n").replace("\n\n", "\n").trim_start());
        assert!(!problems.is_empty(), "{first}{last} was taken");
        for word in *words {
            assert!(
                problems.iter().any(|problem| problem.contains(word)),
                "{first}{last}: {word} in {problems:#?}"
            );
        }
    }
}

#[test]
fn a_secret_that_is_none_is_told() {
    let place = Place::new();
    let with = |file: &str| place.problems(&GOOD.replace("\"secret\"", &format!("\"{file}\""))).join("\n");
    assert!(
        with("nowhere").contains("node.toml:3:1: tokens.secret_file: nowhere cannot be read: No such file")
    );
    assert!(with("short").contains("short holds a secret of 7 bytes, which can be guessed"));
    assert!(with("pem").contains("pem: the secret is a PEM file"));
    assert!(with("").contains("no key to check tokens with"));
    let nothing = Sources::default().resolve().unwrap_err();
    let told: Vec<String> = nothing.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.starts_with("region: has to be set; write region =")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("tokens.secret_file: no key")), "{told:?}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let problems =
        Place::new().problems("threads = 5000\ncolour = 1\n[websocket]\nmax_frme = 1\nmax_fragments = 0\n");
    let places: Vec<&str> = problems.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        ["node.toml:1:1", "node.toml:2:1", "node.toml:4:1", "node.toml:5:1", "tokens.secret_file", "region"]
    );
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let sources = Sources { file: Some("/nowhere/node.toml".into()), ..Sources::default() };
    let first = sources.resolve().unwrap_err()[0].to_string();
    assert!(first.starts_with("/nowhere/node.toml:1:1: cannot be read: No such file"), "{first}");
}

#[test]
fn variables_lie_over_the_file_and_flags_over_both() {
    let place = Place::new();
    let mut sources =
        place.sources(&format!("threads = 2\nmax_connections = 20\nrings_per_thread = 2\n{GOOD}"));
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    sources.variables = vec![
        variable("PINWIRE_MAX_CONNECTIONS", "30"),
        variable("PINWIRE_RINGS_PER_THREAD", "3"),
        variable("PINWIRE_LISTEN", "127.0.0.1:1, [::1]:2"),
        variable("PINWIRE_MAX_CONECTIONS", "40"),
        variable("PATH", "/bin"),
    ];
    sources.settings = vec!["rings_per_thread=4".to_owned()];
    let resolved = sources.resolve().unwrap();
    let config = &resolved.config;
    assert_eq!((config.threads, config.max_connections, config.rings_per_thread), (2, 30, 4));
    assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    let warnings: Vec<String> = resolved.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "PINWIRE_MAX_CONECTIONS: no key has this variable, and it is ignored; is PINWIRE_MAX_CONNECTIONS meant?"
        ]
    );
    let dump = resolved.dump();
    let origin =
        |key: &str| dump.lines().find(|line| line.starts_with(key)).unwrap().rsplit_once("# ").unwrap().1;
    assert!(origin("threads").ends_with("node.toml:1:1"), "{dump}");
    assert_eq!((origin("max_connections"), origin("rings_per_thread")), ("PINWIRE_MAX_CONNECTIONS", "--set"));
    assert_eq!(origin("driver"), "default");

    let told = |setting: &str| {
        let sources = Sources { settings: vec![setting.to_owned()], ..place.sources(GOOD) };
        sources.resolve().unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(told("threads").contains("--set: threads: has no value; write --set KEY=VALUE"));
    assert!(told("thread=1").contains("--set: thread: there is no such key; is threads meant?"));
    assert!(told("threads=many").contains("--set: threads: a whole number was expected, not `many`"));
    sources.variables = vec![variable("PINWIRE_THREADS", "many")];
    let problems = sources.resolve().unwrap_err();
    assert_eq!(problems[0].to_string(), "PINWIRE_THREADS: threads: a whole number was expected, not `many`");
}

const CLUSTER: &str = r#"
[cluster]
registry = "redis"
session = "redis+sentinel://node:hunter2@10.0.0.1:26379,10.0.0.2:26379/eu"
wrong_region = "relay"
peer_listen = "127.0.0.1:7000"
peer_secret_file = "secret"
[cluster.registries]
"aws-us-east-1" = "rediss://10.1.0.1?ca=redis.pem"
"aws-eu-west-1" = "redis://:hunter2@10.0.0.3"
[[regions]]
name = "eu-central-1"
url = "wss://eu-central-1.example.net"
area = "Frankfurt"
[[regions]]
name = "us-east-1"
url = "wss://us-east-1.example.net/"
status = "maintenance"
[[regions]]
name = "ap-south-1"
status = "coming-soon"
"#;

#[test]
fn a_cluster_is_understood() {
    let place = Place::new();
    let resolved = place.sources(&format!("{GOOD}{CLUSTER}")).resolve().unwrap();
    assert_eq!(resolved.warnings, []);
    let Config { cluster, regions, region, known_db_codes, .. } = &resolved.config;
    assert_eq!(known_db_codes, &["aws-eu-west-1", "aws-us-east-1"]);
    let RegistryKind::Redis(licenses) = &cluster.registry else { panic!("{:?}", cluster.registry) };
    let codes: Vec<&str> = licenses.iter().map(|license| license.code.as_str()).collect();
    assert_eq!(codes, ["aws-eu-west-1", "aws-us-east-1"]);
    assert_eq!(
        licenses[1].url.secret(),
        format!("rediss://10.1.0.1?ca={}", place.path("redis.pem").display())
    );
    assert_eq!(cluster.license(Some("aws-us-east-1")), Some(1));
    assert_eq!((cluster.license(Some("aws-ap-south-1")), cluster.license(None)), (None, None));
    assert_eq!(cluster.wrong_region, WrongRegion::Relay);
    assert_eq!(cluster.peer.as_ref().unwrap().address, "127.0.0.1:7000");
    assert_eq!(cluster.lease, Duration::from_secs(20));
    assert!(!cluster.node.is_empty());
    let names: Vec<(&str, &str, RegionStatus)> =
        regions.iter().map(|region| (region.name.as_str(), region.url.as_str(), region.status)).collect();
    assert_eq!(
        names,
        [
            ("eu-central-1", "wss://eu-central-1.example.net", RegionStatus::Live),
            ("us-east-1", "wss://us-east-1.example.net", RegionStatus::Maintenance),
            ("ap-south-1", "", RegionStatus::ComingSoon),
        ]
    );
    let advertised = region.advertised.as_ref().map(|advertised| advertised.authority.as_str());
    assert_eq!(advertised, Some("eu-central-1.example.net"), "from the catalogue");
}

#[test]
fn passwords_of_a_redis_are_not_shown_and_changes_of_them_are_told() {
    let place = Place::new();
    let first = place.sources(&format!("{GOOD}{CLUSTER}")).resolve().unwrap();
    let shown = [first.dump(), first.dump_json().to_string(), format!("{:?}", first.config), first.summary()];
    for shown in shown {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(&"s".repeat(32)), "{shown}");
    }
    let dump = first.dump();
    assert!(
        dump.contains("session = \"redis+sentinel://node:***@10.0.0.1:26379,10.0.0.2:26379/eu\""),
        "{dump}"
    );
    let other = format!("{GOOD}{}", CLUSTER.replacen("hunter2", "hunter3", 1));
    let (_, changes) = place.sources(&other).resolve_again(&first).unwrap();
    let told: Vec<&str> = changes.iter().map(|change| change.key).collect();
    assert_eq!(told, ["cluster.session"]);
    let again = place.sources(&dump.replace("***", "hunter2")).resolve().unwrap();
    assert_eq!(again.changes(&first), []);
}

#[test]
fn registries_and_regions_can_stand_in_variables() {
    let place = Place::new();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = vec![
        variable("PINWIRE_CLUSTER_REGISTRY", "redis"),
        variable("PINWIRE_CLUSTER_SESSION", "redis://a"),
        variable("PINWIRE_CLUSTER_REGISTRIES", "b=redis+sentinel://h:1,i:2/m; c=rediss://h?ca=d"),
        variable("PINWIRE_REGIONS", "name=eu-central-1, url=wss://a; name=us-1,url=wss://b,status=live"),
    ];
    let config = Sources { variables, ..place.sources(GOOD) }.resolve().unwrap().config;
    assert_eq!((config.cluster.registries(), config.regions.len()), (2, 2));
    assert_eq!(config.known_db_codes, ["b", "c"]);
    let settings = vec!["regions=eu-central-1".to_owned()];
    let told = Sources { settings, ..place.sources(GOOD) }.resolve().unwrap_err();
    assert_eq!(told[0].to_string(), "--set: regions: has a part without `=`; write NAME=VALUE");
}

#[test]
fn a_node_goes_on_accepting_for_the_ttl_and_a_little_unless_it_is_told_otherwise() {
    let place = Place::new();
    let dns = "dns = { provider = \"exec\", program = \"/bin/true\", addresses = [\"192.0.2.1\"], ttl = \"20s\" }\n\
               public_url = \"wss://eu-central-1.example.net:443\"\n";
    let leave = |text: String| place.sources(&text).resolve().unwrap().config.drain.leave.as_secs();
    assert_eq!(leave(GOOD.to_owned()), 0);
    assert_eq!(leave(format!("{dns}{GOOD}")), 25);
    assert_eq!(leave(format!("drain.leave = \"7s\"\n{dns}{GOOD}")), 7);
    let name = place.sources(&format!("{dns}{GOOD}")).resolve().unwrap().config.dns.unwrap().name;
    assert_eq!(
        (name.name_text().as_str(), name.zone_text().as_str()),
        ("eu-central-1.example.net", "example.net")
    );
}

#[test]
fn a_catalogue_without_the_own_region_or_with_another_url_is_doubtful() {
    let place = Place::new();
    let warnings = |text: &str| {
        let resolved = place.sources(&format!("{text}\n{GOOD}")).resolve().unwrap();
        resolved.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let told = warnings("regions = [{ name = \"us-1\", url = \"wss://a\" }]");
    assert!(told.contains("regions: does not have eu-central-1, which this node serves"), "{told}");
    let told =
        warnings("public_url = \"wss://b\"\nregions = [{ name = \"eu-central-1\", url = \"wss://a\" }]");
    assert!(
        told.contains("node.toml:2:1: regions: has wss://a for eu-central-1, and public_url is wss://b"),
        "{told}"
    );
}

#[test]
fn a_dump_is_a_configuration_that_gives_the_same() {
    let place = Place::new();
    let first =
        place.sources(&format!("deadlines.ping = \"90s\"\nlog = \"debug\"\n{GOOD}")).resolve().unwrap();
    let again = place.sources(&first.dump()).resolve().unwrap();
    assert_eq!(again.changes(&first), []);
    assert_eq!(again.config.deadlines.ping, Duration::from_secs(90));
}

#[test]
fn the_template_is_good_and_its_comments_are_the_defaults() {
    let place = Place::new();
    let template = template("eu-central-1", "secret", &[]).unwrap();
    let plain = place.sources(&template).resolve().unwrap();
    assert_eq!(plain.warnings, []);
    let is_setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
    let uncommented: Vec<&str> =
        template.lines().map(|line| if is_setting(&line) { &line[2..] } else { line }).collect();
    let all = place.sources(&uncommented.join("\n")).resolve().unwrap();
    assert_eq!(all.changes(&plain), []);
    let set = all.dump().lines().filter(|line| line.ends_with("# default")).count();
    assert_eq!(set, 0, "each key stands in the template");
}

#[test]
fn a_template_has_what_it_is_told_to_set_and_refuses_what_no_key_takes() {
    let settings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let text = template("", "secret", &settings(&["tls.listen=[::]:443", "deadlines.ping=90s"])).unwrap();
    for line in
        ["region = \"\"", "listen = [\"[::]:443\"]", "ping = \"90s\"", "# listen = [\"127.0.0.1:1234\"]"]
    {
        assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
    }
    let problems = template("", "secret", &settings(&["tls.listn=[::]:443", "threads=many"])).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn what_a_running_node_takes_over_is_told_from_what_needs_a_restart() {
    let place = Place::new();
    let running = place.sources(GOOD).resolve().unwrap();
    let changed = format!("threads = 3\naddress_limits.enabled = false\n{GOOD}");
    let sources = place.sources(&changed);
    let (now, changes) = sources.resolve_again(&running).unwrap();
    let told =
        |changes: Vec<Change>| changes.iter().map(|change| (change.key, change.is_live)).collect::<Vec<_>>();
    assert_eq!(told(changes), [("threads", false), ("address_limits.enabled", true)]);
    assert_eq!(now.config.threads, running.config.threads);
    assert_eq!(now.config.address_limits, None);
    let (_, left) = sources.resolve_again(&now).unwrap();
    let left: Vec<&str> = left.iter().map(|change| change.key).collect();
    assert_eq!(left, ["threads"], "it is told again until there is a restart");
}

#[test]
fn a_secret_that_everybody_can_read_and_idle_frames_that_come_too_late_are_doubtful() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::set_permissions(place.path("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let resolved = place.sources(&format!("deadlines.idle_frame = \"40s\"\n{GOOD}")).resolve().unwrap();
    let warnings: Vec<String> = resolved.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("can be read by every user") && warnings[0].contains("chmod 600"));
    assert!(warnings[1].contains("deadlines.idle_frame: is 30 s or more"));
}

#[test]
fn keys_by_url_need_no_other_keys_and_hosts_without_tls_only_if_that_is_said() {
    let place = Place::new();
    let of = |more: &str| place.sources(&format!("region = \"eu-central-1\"\n[tokens]\n{more}\n")).resolve();
    for url in [
        "https://auth.example.com/jwks?tenant=1",
        "http://localhost:8080/",
        "http://[::1]/jwks",
        "http://127.8.0.1/",
    ] {
        let resolved = of(&format!("jwks_urls = [\"{url}\"]")).unwrap();
        assert_eq!((resolved.config.jwks.urls.len(), resolved.config.keys.is_empty()), (1, true));
    }
    let open = "jwks_urls = [\"http://auth.internal/\"]\njwks_allow_http = true";
    assert!(of(open).is_ok());
    let idle = place.sources(&format!("{GOOD}jwks_cache = \"jwks.json\"\n")).resolve().unwrap();
    assert!(
        idle.warnings[0].to_string().contains("tokens.jwks_cache: is of no use without tokens.jwks_urls")
    );
}

#[test]
fn the_schema_names_every_key() {
    let schema = schema();
    for key in keys::KEYS {
        let pointer = match key.split() {
            ("", name) => format!("/properties/{name}"),
            (table, name) => format!("/properties/{table}/properties/{name}"),
        };
        assert!(schema.pointer(&pointer).is_some(), "{pointer}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

/// `PINWIRE_UPDATE_PAGES=1` writes the page anew.
#[test]
fn the_page_of_the_documentation_has_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let page = fs::read_to_string(path).unwrap();
    let start = page.find("\n## Before the first table").unwrap_or(page.len());
    if std::env::var_os("PINWIRE_UPDATE_PAGES").is_some() {
        fs::write(path, format!("{}{}", &page[..start], markdown())).unwrap();
    } else {
        assert_eq!(page[start..], markdown(), "PINWIRE_UPDATE_PAGES=1 writes it anew");
    }
}

#[test]
fn defaults_fit_together() {
    let (deadlines, buffers, ws) = (Deadlines::default(), Buffers::default(), WebSocketLimits::default());
    assert!(deadlines.idle_frame < Duration::from_secs(30), "stock clients close after 30 s without data");
    assert!(
        buffers.outbound_per_connection > ws.max_message_bytes + 14,
        "a whole message beside its frame head"
    );
    assert!(buffers.outbound_per_thread >= buffers.outbound_per_connection);
    assert!(ws.max_frame_bytes <= ws.max_message_bytes);
}

#[test]
fn urls_follow_the_bound_address_until_one_is_advertised() {
    let bound = SocketAddr::from(([127, 0, 0, 1], 4321));
    let mut region = Region { name: "eu-central-1".into(), advertised: None, is_tls: false };
    assert_eq!(region.ws_url(bound), "ws://127.0.0.1:4321");
    assert_eq!(region.http_url(bound), "http://127.0.0.1:4321");
    region.is_tls = true;
    assert_eq!(region.ws_url(bound), "wss://127.0.0.1:4321");
    region.advertised = Some(Advertised { authority: "eu-central-1.example.net".into(), tls: true });
    assert_eq!(region.ws_url(bound), "wss://eu-central-1.example.net");
    assert_eq!(region.http_url(bound), "https://eu-central-1.example.net");
}

#[test]
fn what_is_no_small_regular_file_is_not_read() {
    let place = Place::new();
    for (file, word) in [("/dev/zero", "no regular file"), ("/", "no regular file")] {
        let told = place.problems(&GOOD.replace("\"secret\"", &format!("\"{file}\""))).join("\n");
        assert!(told.contains(word), "{told}");
    }
    place.write("large", &"x".repeat(5 << 20));
    assert!(place.problems(&GOOD.replace("\"secret\"", "\"large\"")).join("\n").contains("more than 4 MiB"));
    // Whatever else is missing stands in what cannot be read.
    let unreadable = Sources { file: Some("/nowhere.toml".into()), ..Sources::default() };
    assert_eq!(unreadable.resolve().unwrap_err().len(), 1);
    assert_eq!(place.problems("threads = [\nregion = \"eu\"").len(), 1, "one mistake, one problem");
}

#[test]
fn the_admin_api_is_listened_for_once_somebody_can_be_let_in() {
    let place = Place::new();
    let admin = |text: &str| place.sources(&format!("{text}\n{GOOD}")).resolve().unwrap().config.admin;
    assert!(admin("").is_none());
    let by_token = admin("admin.token_file = \"secret\"").unwrap();
    assert_eq!(by_token.listen, ["127.0.0.1:9180".parse().unwrap()]);
    assert!(by_token.token.is_some() && by_token.socket.is_none() && by_token.tls.is_none());
    let by_socket = admin("admin.socket = \"admin.sock\"").unwrap();
    assert_eq!((by_socket.listen.len(), by_socket.socket), (0, Some(place.path("admin.sock"))));
    let open = "admin = { listen = [\"0.0.0.0:9180\"], token_file = \"secret\", allow_plaintext = true }";
    assert!(admin(open).is_some());
    let secret = fs::read_to_string(place.path("secret")).unwrap();
    assert!(!format!("{:?}", admin(open)).contains(&secret));
    let public = "admin = { public_url = \"https://eu-1a.internal:9180/\", token_file = \"secret\" }";
    assert_eq!(admin(public).unwrap().public_url.as_deref(), Some("https://eu-1a.internal:9180"));
    let long = format!("admin.socket = \"{}\"", "x".repeat(100));
    assert!(place.problems(&format!("{long}\n{GOOD}")).join("").contains("more than 90 bytes"));
}

#[test]
fn nodes_that_are_configured_alike_have_the_same_digest() {
    let place = Place::new();
    let digest = |text: &str| place.sources(text).resolve().unwrap().digest();
    let first = digest(GOOD);
    assert_eq!(first.len(), 64);
    assert_eq!(digest(&format!("# a remark\nlog = \"info\"\n{GOOD}")), first);
    assert_ne!(digest(&format!("log = \"debug\"\n{GOOD}")), first);
}

#[test]
fn what_could_not_be_taken_is_told_once_and_not_again_by_its_default() {
    let place = Place::new();
    let cases = [
        ("websocket.max_message = \"2GiB\"\nwebsocket.max_frame = \"64MiB\"", "websocket.max_message"),
        (
            "buffers.outbound_per_connection = 5\nbuffers.outbound_per_thread = \"1MiB\"",
            "buffers.outbound_per_connection",
        ),
        ("listen = 5\npublic_url = 5", "listen"),
        ("allow_plaintext = 1\nlisten = [\"0.0.0.0:1\"]", "allow_plaintext"),
        (
            "tls = { listen = [\"127.0.0.1:1\"], certificates = \"a.pem\", keys = [\"secret\"] }",
            "tls.certificates",
        ),
    ];
    for (text, key) in cases {
        let problems = place.problems(&format!("{text}\n{GOOD}"));
        let about: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": ").nth(1)).collect();
        let wanted = if key == "listen" { vec!["listen", "public_url"] } else { vec![key] };
        assert_eq!(about, wanted, "{problems:#?}");
    }
    let told = place.problems("region = 5\n[tokens]\nsecret_file = 5\n");
    assert_eq!(told.len(), 2, "{told:#?}");
}

/// Runs openssl in the place.
fn openssl(place: &Place, args: &str) {
    let mut command = std::process::Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(place.0.path()).output().expect("openssl");
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_of_certificates_that_cannot_be_used_are_told_with_the_mend() {
    let place = Place::new();
    let new = |name: &str, key: &str| {
        let subject = "-subj /CN=a -addext subjectAltName=DNS:eu.example.net";
        openssl(
            &place,
            &format!("req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.crt -days 90 {subject}"),
        );
    };
    new("good", "ec -pkeyopt ec_paramgen_curve:P-256");
    new("other", "ec -pkeyopt ec_paramgen_curve:P-256");
    new("short", "rsa:1024");
    openssl(&place, "pkey -in good.key -aes256 -passout pass:x -out locked.key");
    openssl(&place, "pkey -in good.key -traditional -aes256 -passout pass:x -out locked-too.key");
    openssl(&place, "x509 -in good.crt -outform der -out good.der");
    openssl(&place, "pkey -in good.key -outform der -out key.der");
    let good = fs::read_to_string(place.path("good.crt")).unwrap();
    place.write("cut.crt", &good[..good.len() / 2]);
    place.write("cut.key", &fs::read_to_string(place.path("good.key")).unwrap()[..100]);
    place.write("empty", "\n");
    place.write("damaged.crt", &good.replace("MI", "?!"));
    place.write("other-text", "certificates, they said");
    fs::create_dir(place.path("directory")).unwrap();
    let cases = [
        ("good.crt", "locked.key", "tls.keys: locked.key holds a key that is encrypted", "openssl pkey -in"),
        (
            "good.crt",
            "locked-too.key",
            "tls.keys: locked-too.key holds a key that is encrypted",
            "openssl pkey -in",
        ),
        ("cut.crt", "good.key", "tls.certificates: cut.crt is cut off: its line", "END CERTIFICATE"),
        ("good.crt", "cut.key", "tls.keys: cut.key is cut off: its line", "END PRIVATE KEY"),
        ("good.der", "good.key", "tls.certificates: good.der is DER", "openssl x509 -inform der"),
        ("good.crt", "key.der", "tls.keys: key.der is DER", "openssl pkey -inform der"),
        (
            "good.crt",
            "other.key",
            "tls.keys: other.key is not the key of the first certificate in",
            "good.crt",
        ),
        (
            "short.crt",
            "short.key",
            "tls.certificates: short.crt holds a certificate for an RSA key of 1024 bits",
            "2048",
        ),
        ("empty", "good.key", "tls.certificates: empty is empty", "in PEM is wanted"),
        ("good.crt", "empty", "tls.keys: empty is empty", "in PEM is wanted"),
        ("damaged.crt", "good.key", "tls.certificates: damaged.crt is damaged", "no base64"),
        ("directory", "good.key", "tls.certificates: directory cannot be read: it is no regular file", ""),
        ("good.crt", "nowhere.key", "tls.keys: nowhere.key cannot be read: No such file", ""),
        (
            "good.key",
            "good.crt",
            "tls.certificates: good.key holds a private key and no certificate",
            "swapped?",
        ),
        ("good.crt", "good.crt", "tls.keys: good.crt holds a certificate and no private key", "swapped?"),
        ("other-text", "good.key", "tls.certificates: other-text holds no certificate", "BEGIN CERTIFICATE"),
        ("good.crt", "other-text", "tls.keys: other-text holds no private key", "BEGIN PRIVATE KEY"),
    ];
    let with = |chain: &str, key: &str, before: &str| {
        format!(
            "{before}\ntls = {{ listen = [\"127.0.0.1:1\"], certificates = [\"{chain}\"], keys = [\"{key}\"] }}\n{GOOD}"
        )
    };
    for (chain, key, words, mend) in cases {
        let told = place.problems(&with(chain, key, "")).join("\n");
        assert!(told.contains(words) && told.contains(mend), "{chain} and {key}: {words} in {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let warnings = |before: &str| {
        let resolved = place.sources(&with("good.crt", "good.key", before)).resolve().unwrap();
        resolved.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(warnings("public_url = \"wss://eu.example.net:8443\""), "");
    let told = warnings("public_url = \"wss://us.example.net\"");
    assert!(
        told.contains("tls.certificates: none is for us.example.net, where public_url sends clients"),
        "{told}"
    );
}
