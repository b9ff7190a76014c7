//! Configurations that are wrong, and what is said about them.

use super::*;

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
