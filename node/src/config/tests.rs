//! Configurations that are right, what is doubtful about some, and how they are shown.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

mod mistakes;

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
        variable("PINWIRE_ADMIN_TOKEN", "of the console"),
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
