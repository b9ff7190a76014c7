//! Every key of the configuration, once: its name, what it takes, what it means, and whether a running node takes it over.
//! The file, the environment, flags, `config dump`, the schema and `docs/configuration.md` all come from this table.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use pinwire_engine::RINGS_MAX;

use super::draft::{Draft, RegionKeys};

/// A key.
pub(super) struct Key {
    /// Its tables and its name, joined by dots.
    pub(super) name: &'static str,
    pub(super) field: Field,
    pub(super) reload: Reload,
    /// What it means: sentences for operators.
    pub(super) about: &'static str,
}

/// Whether a running node takes a change over when it is told to reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reload {
    Live,
    Restart,
}

/// What a key takes, and where it goes.
#[derive(Clone)]
pub(super) enum Field {
    Switch(fn(&mut Draft) -> &mut bool),
    Count(fn(&mut Draft) -> &mut u32, RangeInclusive<u32>),
    /// A count of things that are held in memory.
    Entries(fn(&mut Draft) -> &mut usize, RangeInclusive<usize>),
    Bytes(fn(&mut Draft) -> &mut usize, RangeInclusive<usize>),
    Time(fn(&mut Draft) -> &mut Duration, RangeInclusive<Duration>),
    Text(fn(&mut Draft) -> &mut String),
    Texts(fn(&mut Draft) -> &mut Vec<String>),
    /// A path: one in a file is relative to that file.
    File(fn(&mut Draft) -> &mut String),
    Files(fn(&mut Draft) -> &mut Vec<String>),
    Choice(fn(&mut Draft) -> &mut String, &'static [&'static str]),
    /// The address of a Redis, of which the password is not shown.
    Address(fn(&mut Draft) -> &mut String),
    /// Such addresses by name.
    Addresses(fn(&mut Draft) -> &mut BTreeMap<String, String>),
    /// Tables with a region each.
    Regions(fn(&mut Draft) -> &mut Vec<RegionKeys>),
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn key(name: &'static str, field: Field, reload: Reload, about: &'static str) -> Key {
    Key { name, field, reload, about }
}

use Field::{
    Address, Addresses, Bytes, Choice, Count, Entries, File, Files, Regions, Switch, Text, Texts, Time,
};
use Reload::{Live, Restart};

const ANY: RangeInclusive<u32> = 0..=u32::MAX;

/// All keys, tables together, in the order in which they are shown.
#[rustfmt::skip]
pub(super) static KEYS: &[Key] = &[
    key("region", Text(|d| &mut d.region), Restart,
        "The WebSocket region that this node serves, as in `eu-central-1`. Has to be set."),
    key("public_url", Text(|d| &mut d.public_url), Restart,
        "Where clients reach this region, as in `wss://eu-central-1.example.net`. Empty: as `regions` says, else the address listened on, in plain text."),
    key("listen", Texts(|d| &mut d.listen), Restart,
        "Addresses and ports to listen on for WebSockets and HTTP in plain text. Port 0 takes any free one."),
    key("allow_plaintext", Switch(|d| &mut d.allow_plaintext), Restart,
        "Listen on addresses that other hosts can reach, without TLS. Tokens and documents then cross the network in the clear unless something in front of the node encrypts."),
    key("threads", Count(|d| &mut d.threads, 0..=1024), Restart,
        "Data threads. 0: one for each core."),
    key("driver", Choice(|d| &mut d.driver, &["auto", "uring", "epoll"]), Restart,
        "How data threads talk to the kernel. `auto` is io_uring where the kernel allows it, else epoll with a line in the log that says why."),
    key("max_connections", Count(|d| &mut d.max_connections, 1..=u32::MAX), Restart,
        "Most connections of the node."),
    key("rings_per_thread", Count(|d| &mut d.rings_per_thread, 1..=RINGS_MAX), Restart,
        "io_uring: rings that a data thread may have. Each holds as many connections as `ulimit -n` says; a thread makes as many as `max_connections` needs."),
    key("trusted_proxies", Texts(|d| &mut d.trusted_proxies), Restart,
        "Addresses and networks whose `X-Forwarded-For` is believed."),
    key("license_regions", Texts(|d| &mut d.license_regions), Restart,
        "License regions (`dbCode`) that exist; a token that names another is refused. Unset with `cluster.registry` `redis`: those in `cluster.registries`."),
    key("regions", Regions(|d| &mut d.regions), Restart,
        "All regions, this node's own among them, a table `[[regions]]` for each at the end of the file: `name`; `url`, where clients reach it; `status` (`live`, `coming-soon` or `maintenance`); `area`, a label for people. The same on all nodes. See docs/regions.md."),
    key("log", Text(|d| &mut d.log), Live,
        "What is logged: a level, or levels by module as in `info,pinwire_node=debug`."),
    key("log_format", Choice(|d| &mut d.log_format, &["human", "json"]), Restart,
        "How log lines look."),
    key("tls.listen", Texts(|d| &mut d.tls.listen), Restart,
        "Addresses and ports on which WebSockets and HTTP are spoken in TLS, as in `[::]:443`."),
    key("tls.certificates", Files(|d| &mut d.tls.certificates), Live,
        "PEM files with a certificate each, those that vouch for it behind it. A client gets the first that is for the name it asks for, else the first of all. They are read again at each reload."),
    key("tls.keys", Files(|d| &mut d.tls.keys), Live,
        "PEM files with the private keys of these certificates, in the same order."),
    key("tls.handshakes_per_turn", Count(|d| &mut d.tls.handshakes_per_turn, 1..=10_000), Restart,
        "TLS handshakes that a thread answers in one turn of its loop: each costs a signature, or a key exchange at least. Those that wait are answered in the order in which they came."),
    key("tokens.secret_file", File(|d| &mut d.tokens.secret_file), Live,
        "A file with the secret that tokens are signed with (HS256): all of it but line ends at its end, at least 32 bytes. It is read again at each reload."),
    key("tokens.jwks_files", Files(|d| &mut d.tokens.jwks_files), Live,
        "JWKS files with keys that tokens are signed with (RS256, ES256, EdDSA, HS256). They are read again at each reload."),
    key("tokens.jwks_urls", Texts(|d| &mut d.tokens.jwks.urls), Live,
        "URLs of JWKS with public keys that tokens are signed with (RS256, ES256, EdDSA), as identity providers publish them: `https://`, or `http://` on this host. See docs/keys.md."),
    key("tokens.jwks_cache", File(|d| &mut d.tokens.jwks.cache), Live,
        "A file in which the last good answers of these URLs are kept, as in `/var/lib/pinwire/jwks.json`: with it a node starts while they are down. Empty: they are kept in memory only."),
    key("tokens.jwks_ca_file", File(|d| &mut d.tokens.jwks.ca_file), Live,
        "A PEM file with certificates of authorities that vouch for these URLs, beside those that the system trusts. It is read again at each reload."),
    key("tokens.jwks_refresh", Time(|d| &mut d.tokens.jwks.refresh, seconds(60, 86_400)), Live,
        "The URLs are asked again after so long, or sooner (not below one minute) if `max-age` of their answers is less: how long a key that was withdrawn may still be accepted."),
    key("tokens.jwks_min_interval", Time(|d| &mut d.tokens.jwks.min_interval, seconds(1, 3600)), Live,
        "A token with an unknown key has them asked again, but not before so long after the last time, however many come. Such a token waits for the answer if that can be there within 8 s, else it is refused."),
    key("tokens.jwks_deadline", Time(|d| &mut d.tokens.jwks.deadline, seconds(1, 60)), Live,
        "How long a request may take, with all that it is redirected to."),
    key("tokens.jwks_allow_http", Switch(|d| &mut d.tokens.jwks.allow_http), Live,
        "Fetch keys without TLS from other hosts too. Whoever is on the way can then put keys of their own in."),
    key("tokens.audience", Text(|d| &mut d.tokens.audience), Live,
        "What `aud` of a token has to be or contain. Empty: anything."),
    key("tokens.scope", Text(|d| &mut d.tokens.scope), Live,
        "A word that `scope` of a token has to contain. Empty: anything."),
    key("tokens.issuers", Texts(|d| &mut d.tokens.issuers), Live,
        "What `iss` of a token may be. Empty: anything."),
    key("tokens.leeway", Time(|d| &mut d.tokens.leeway, seconds(0, 3600)), Live,
        "By how much clocks may differ. Whole seconds."),
    key("tokens.end_sessions", Switch(|d| &mut d.tokens.end_sessions), Restart,
        "End a session with its token: when `exp` and `tokens.leeway` are over its connection is closed with 4002. Hocuspocus clients from 4 on are asked for a fresh token before, and stay with it. Off: a token is judged when a session begins."),
    key("app_limits.max_connections", Count(|d| &mut d.app_limits.max_connections, ANY), Live,
        "Connections of an app whose tokens do not say."),
    key("app_limits.max_documents", Count(|d| &mut d.app_limits.max_documents, ANY), Live,
        "Active documents of such an app."),
    key("app_limits.max_users_per_document", Count(|d| &mut d.app_limits.max_users_per_doc, ANY), Live,
        "Sessions on one document of such an app."),
    key("app_limits.operations_per_minute", Count(|d| &mut d.app_limits.ops_per_minute, ANY), Live,
        "Edits and stateless messages of such an app in a minute."),
    key("address_limits.enabled", Switch(|d| &mut d.limit_addresses), Live,
        "Limit what one client address may ask for in a minute. An IPv6 address counts as its /64."),
    key("address_limits.connects_per_minute", Count(|d| &mut d.address_limits.connects_per_minute, ANY), Live,
        "WebSocket handshakes of an address in a minute."),
    key("address_limits.discoveries_per_minute", Count(|d| &mut d.address_limits.discoveries_per_minute, ANY), Live,
        "Requests for `/discovery` of an address in a minute."),
    key("address_limits.usages_per_minute", Count(|d| &mut d.address_limits.usages_per_minute, ANY), Live,
        "Requests for `/usage` of an address in a minute."),
    key("address_limits.max_addresses", Entries(|d| &mut d.address_limits.max_addresses, 16..=16 << 20), Live,
        "Addresses remembered; beyond it the oldest are forgotten, which lets their next request through."),
    key("documents.allow_dot_colon", Switch(|d| &mut d.allow_dot_colon), Restart,
        "Let document names contain `.` and `:` besides letters, digits, `-` and `_`."),
    key("websocket.max_frame", Bytes(|d| &mut d.websocket.max_frame_bytes, KIB..=GIB), Restart,
        "Payload of one frame."),
    key("websocket.max_message", Bytes(|d| &mut d.websocket.max_message_bytes, KIB..=GIB), Restart,
        "Payload of one message, all its fragments together, after inflating."),
    key("websocket.max_fragments", Count(|d| &mut d.websocket.max_fragments, 1..=u32::MAX), Restart,
        "Fragments of one message."),
    key("compression.enabled", Switch(|d| &mut d.compress), Restart,
        "Negotiate permessage-deflate, without context takeover, with clients that offer it."),
    key("compression.min_message", Bytes(|d| &mut d.deflate.min_bytes, 0..=GIB), Restart,
        "Messages below this leave uncompressed."),
    key("deadlines.handshake", Time(|d| &mut d.deadlines.handshake, seconds(1, 3600)), Restart,
        "From accepting a connection to its whole request head."),
    key("deadlines.first_frame", Time(|d| &mut d.deadlines.first_frame, seconds(1, 3600)), Restart,
        "From the upgrade to the first message, and from there to a verdict on the token."),
    key("deadlines.ping", Time(|d| &mut d.deadlines.ping, seconds(1, 86_400)), Restart,
        "Silence of a peer after which it is pinged."),
    key("deadlines.pong", Time(|d| &mut d.deadlines.pong, seconds(1, 3600)), Restart,
        "From a ping to anything from the peer; then the connection is closed with 4011."),
    key("deadlines.idle_frame", Time(|d| &mut d.deadlines.idle_frame, seconds(1, 3600)), Restart,
        "An idle session is sent a data frame this often. Stock clients close after 30 s without one."),
    key("deadlines.slow_reader", Time(|d| &mut d.deadlines.slow_reader, seconds(1, 3600)), Restart,
        "Bytes wait so long for a peer that takes none; then the connection is closed with 4010."),
    key("deadlines.close", Time(|d| &mut d.deadlines.close, seconds(1, 3600)), Restart,
        "From our close frame to the peer's."),
    key("deadlines.grace", Time(|d| &mut d.deadlines.grace, seconds(0, 86_400)), Restart,
        "How long a document outlives its last connection."),
    key("buffers.outbound_per_connection", Bytes(|d| &mut d.buffers.outbound_per_connection, MIB..=1024 * GIB), Restart,
        "Bytes that wait for one connection's socket; beyond it the connection is cut. Updates wait in the document's log and do not count."),
    key("buffers.outbound_per_thread", Bytes(|d| &mut d.buffers.outbound_per_thread, MIB..=1024 * GIB), Restart,
        "The same, all connections of a thread together."),
    key("buffers.verdicts_per_thread", Entries(|d| &mut d.buffers.verdicts_per_thread, 8..=16 << 20), Restart,
        "Good tokens that a thread remembers, so that a client that comes back costs no signature."),
    key("buffers.costly_checks_per_turn", Count(|d| &mut d.buffers.costly_checks_per_turn, 1..=10_000), Restart,
        "Signatures with public keys that a thread checks in one turn of its loop."),
    key("shedding.high_water", Count(|d| &mut d.shedding.high_water, 10..=100), Live,
        "Percent of occupancy from which on a node leaves DNS and new clients are for other nodes; at seven eighths of it presence is gathered for longer, at fifteen sixteenths documents that nobody here has open are for others. Sessions are never ended for it. See docs/shedding.md."),
    key("shedding.low_water", Count(|d| &mut d.shedding.low_water, 5..=99), Live,
        "Percent of occupancy below which it takes new clients again."),
    key("shedding.dwell", Time(|d| &mut d.shedding.dwell, seconds(1, 3600)), Live,
        "For how long it has to be below that."),
    key("shedding.keep", Count(|d| &mut d.shedding.keep, 0..=100), Restart,
        "Percent of the region's nodes that stay in DNS however full they are. One always does. The same on all nodes of a region."),
    key("shedding.resources", Texts(|d| &mut d.shedding.resources), Live,
        "What counts as occupancy besides connections: `memory`, `cpu`, the fullest of them. Leave `cpu` out on a host that is busy with other things."),
    key("shedding.max_memory", Bytes(|d| &mut d.shedding.max_memory, 0..=1024 * GIB), Live,
        "Memory that the process may use, with what the kernel holds for its sockets; 0: what its cgroup may, or the host has. Those limits count in any case."),
    key("shedding.max_cpu", Count(|d| &mut d.shedding.max_cpu, 0..=102_400), Live,
        "Processor time that the process may use, in percent of one core, as in 150 for one and a half; 0: what its cgroup may, or the host has."),
    key("shedding.budget", Count(|d| &mut d.shedding.budget, 0..=10_000_000), Live,
        "WebSocket handshakes that the node lets in a second, so that clients of a node that was lost come in by and by. 0: 6000 for each data thread."),
    key("shedding.region_budget", Count(|d| &mut d.shedding.region_budget, 0..=100_000_000), Live,
        "The same of all nodes of the region together, shared out through the region's Redis by what each is asked for. 0: no such limit."),
    key("shedding.host_root", File(|d| &mut d.shedding.host_root), Restart,
        "The folder below which `proc` and `sys` of the host are, for a node that is to see those of another namespace than its own."),
    key("cluster.registry", Choice(|d| &mut d.cluster.registry, &["embedded", "redis"]), Restart,
        "Where it is kept which region has a document. `embedded`: in the process, for a node by itself. `redis`: in the Redis of each license region, for several nodes or regions. See docs/regions.md."),
    key("cluster.node", Text(|d| &mut d.cluster.node), Restart,
        "This node's name, as in `eu-1a`: another one for each node of a region, the same after a restart. Empty: the host's name."),
    key("cluster.lease", Time(|d| &mut d.cluster.lease, seconds(1, 600)), Restart,
        "What a node held counts as left when nothing was heard of it for so long. At least three times what the registry's fail-over takes, and three times `cluster.renew`."),
    key("cluster.renew", Time(|d| &mut d.cluster.renew, millis(100)..=Duration::from_secs(200)), Restart,
        "How often a node is heard of."),
    key("cluster.wrong_region", Choice(|d| &mut d.cluster.wrong_region, &["redirect", "relay"]), Restart,
        "What becomes of a client that asks for a document of another region. `redirect`: it is sent there with close code 4009. `relay`: its session is carried there by the node, for clients that cannot follow a redirect."),
    key("cluster.session", Address(|d| &mut d.cluster.session), Restart,
        "The region's Redis, in which its nodes keep the sessions of documents; written as those of `cluster.registries`. Has to be set with `cluster.registry` `redis`."),
    key("cluster.full_patience", Time(|d| &mut d.cluster.full_patience, seconds(0, 86_400)), Restart,
        "For how long a document for which `cluster.session` has no room is kept, read-only, before its clients are sent away with what is not stored. 0: until there is room."),
    key("cluster.peer_listen", Text(|d| &mut d.cluster.peer_listen), Restart,
        "An address and port to listen on for other nodes, as in `10.0.0.7:7000`. Needed for `cluster.wrong_region` `relay`."),
    key("cluster.peer_address", Text(|d| &mut d.cluster.peer_address), Restart,
        "The host and port where other nodes reach it. Empty: `cluster.peer_listen`."),
    key("cluster.peer_secret_file", File(|d| &mut d.cluster.peer_secret_file), Restart,
        "A file with the secret by which nodes know each other, the same on all of them: all of it but line ends at its end, at least 32 bytes."),
    key("cluster.peer_certificates", Files(|d| &mut d.cluster.peer_certificates), Restart,
        "PEM files with certificates of this node: its links to other nodes are TLS then. All nodes have some, or none has."),
    key("cluster.peer_keys", Files(|d| &mut d.cluster.peer_keys), Restart,
        "PEM files with the private keys of these certificates, in the same order."),
    key("cluster.peer_ca_file", File(|d| &mut d.cluster.peer_ca_file), Restart,
        "A PEM file with certificates of authorities that vouch for other nodes: no others are believed then. Empty: those that the system trusts."),
    key("cluster.probe_interval", Time(|d| &mut d.cluster.probe_interval, seconds(1, 3600)), Restart,
        "How often each of the other live regions is asked for its `/health`: discovery goes by the answers."),
    key("cluster.ca_file", File(|d| &mut d.cluster.ca_file), Restart,
        "A PEM file with certificates of authorities that vouch for the URLs of other regions, beside those that the system trusts."),
    key("cluster.registries", Addresses(|d| &mut d.cluster.registries), Restart,
        "The Redis of each license region, by its code, as in `aws-eu-west-1=\"redis://HOST:6379\"`. `redis+sentinel://HOST:PORT,HOST:PORT/NAME` asks sentinels for the master, `redis+cluster://` is for a cluster, `rediss` instead of `redis` is TLS; `USER:PASSWORD@` may stand before the hosts, `?ca=FILE` at the end. In a variable: `CODE=URL;CODE=URL`."),
    key("store.path", File(|d| &mut d.store.path), Restart,
        "A folder in which documents are kept on disk, so that an acknowledged update survives the process. It is made if it is not there, and belongs to one node at a time. Empty: updates last as long as the process."),
    key("store.fsync", Choice(|d| &mut d.store.fsync, &["interval", "always", "never"]), Restart,
        "When what was written is on the disk and survives the power. `interval`: every `store.fsync_interval`. `always`: before an update is acknowledged. `never`: when the system likes. All three survive the process, however it ends."),
    key("store.fsync_interval", Time(|d| &mut d.store.fsync_interval, millis(10)..=Duration::from_secs(3600)), Restart,
        "What a power failure costs at most, where `store.fsync` is `interval`."),
    key("store.retention", Time(|d| &mut d.store.retention, seconds(0, 3650 * 86_400)), Restart,
        "How long a document is kept after its session ended, 10 s after its last member left. 0: it ends with its session."),
    key("store.unclaimed", Time(|d| &mut d.store.unclaimed, seconds(10, 3650 * 86_400)), Restart,
        "How long documents that were open when a node ended are kept for their clients to come back to; `store.retention` if that is longer."),
    key("drain.leave", Time(|d| &mut d.drain.leave, seconds(0, 3600)), Restart,
        "How long a node that drains goes on accepting connections once it is out of DNS: resolvers and load balancers still send some. 0: `dns.ttl` and 5 s, or no time at all with `dns.provider` `none`. Behind a load balancer: what that takes to notice that `/health` says 503."),
    key("drain.window", Time(|d| &mut d.drain.window, seconds(0, 3600)), Restart,
        "Over this its connections are then closed (1012), evenly. The process ends when all are gone, or at the end of it."),
    key("dns.provider", Choice(|d| &mut d.dns.provider, &["none", "rfc2136", "route53", "cloudflare", "exec", "embedded"]), Restart,
        "Who keeps the region's name: `none`, or as in docs/dns.md."),
    key("dns.name", Text(|d| &mut d.dns.name), Restart,
        "The region's name, as in `eu-central-1.example.net`. Empty: the host in `public_url`, or that of the region in `regions`."),
    key("dns.zone", Text(|d| &mut d.dns.zone), Restart,
        "The zone that it is in. Empty: all of the name but its first label."),
    key("dns.ttl", Time(|d| &mut d.dns.ttl, seconds(1, 86_400)), Restart,
        "How long resolvers may keep an address: new clients may come to a node that left for so long. Whole seconds."),
    key("dns.addresses", Texts(|d| &mut d.dns.addresses), Restart,
        "The addresses that clients reach this node at. Empty: those that it listens on, if these are some of its own."),
    key("dns.check", Time(|d| &mut d.dns.check, millis(0)..=Duration::from_secs(3600)), Restart,
        "How often the zone is looked at. 0: as the provider bears it: 10 s, 30 s or 60 s."),
    key("dns.timeout", Time(|d| &mut d.dns.timeout, seconds(1, 60)), Restart,
        "How long the provider may take for one request."),
    key("dns.server", Text(|d| &mut d.dns.server), Restart,
        "`rfc2136`: the zone's primary, as in `ns1.example.net:53`."),
    key("dns.key_name", Text(|d| &mut d.dns.key_name), Restart,
        "`rfc2136`: the name of the key that updates are signed with (TSIG). Empty: they are not signed."),
    key("dns.key_file", File(|d| &mut d.dns.key_file), Restart,
        "`rfc2136`: a file with its secret, in base64."),
    key("dns.key_algorithm", Choice(|d| &mut d.dns.key_algorithm, &["hmac-sha256", "hmac-sha384", "hmac-sha512"]), Restart,
        "`rfc2136`: its algorithm."),
    key("dns.hosted_zone", Text(|d| &mut d.dns.hosted_zone), Restart,
        "`route53`: the identity of the hosted zone, `Z...`."),
    key("dns.access_key", Text(|d| &mut d.dns.access_key), Restart,
        "`route53`: the access key that asks. Empty: the role of the container or instance."),
    key("dns.secret_key_file", File(|d| &mut d.dns.secret_key_file), Restart,
        "`route53`: a file with its secret."),
    key("dns.zone_id", Text(|d| &mut d.dns.zone_id), Restart,
        "`cloudflare`: the identity of the zone. Empty: it is looked for by name."),
    key("dns.token_file", File(|d| &mut d.dns.token_file), Restart,
        "`cloudflare`: a file with an API token that may edit the zone."),
    key("dns.api_url", Text(|d| &mut d.dns.api_url), Restart,
        "`route53`, `cloudflare`: another API than the usual one."),
    key("dns.program", Text(|d| &mut d.dns.program), Restart,
        "`exec`: the absolute path of the program."),
    key("dns.arguments", Texts(|d| &mut d.dns.arguments), Restart,
        "`exec`: its first arguments."),
    key("dns.listen", Texts(|d| &mut d.dns.listen), Restart,
        "`embedded`: addresses and ports on which this node answers for the zone, as in `192.0.2.1:53`. Empty: others do."),
    key("dns.servers", Texts(|d| &mut d.dns.servers), Restart,
        "`embedded`: the name servers to which the parent zone delegates, with their addresses, as in `ns1.eu-central-1.example.net=192.0.2.1`; one with several is named several times."),
    key("http.metrics", Switch(|d| &mut d.http.metrics), Restart,
        "Answer `/metrics` to whoever asks. It says how much is going on, not who does what."),
    key("http.queue", Entries(|d| &mut d.http.queue, 1..=65_536), Restart,
        "Plain HTTP connections that wait to be served; beyond it they are answered 503."),
    key("http.max_connections", Entries(|d| &mut d.http.max_connections, 1..=65_536), Restart,
        "Plain HTTP connections served at once."),
    key("http.head_deadline", Time(|d| &mut d.http.head_deadline, seconds(1, 3600)), Restart,
        "From the last answer to the next whole request head."),
    key("http.answer_deadline", Time(|d| &mut d.http.answer_deadline, seconds(1, 3600)), Restart,
        "From a whole request head to the end of its answer."),
    key("status.enabled", Switch(|d| &mut d.status.enabled), Restart,
        "Answer `/status`, `/status.json` and `/status.atom` to whoever asks: how the regions are, incidents, maintenance. See docs/status.md."),
    key("status.title", Text(|d| &mut d.status.title), Restart,
        "What the page and the feed are called, as in `Acme documents`."),
    key("status.contact", Text(|d| &mut d.status.contact), Restart,
        "Where whoever has a question turns to: a URL, or `mailto:ADDRESS`. Empty: no link."),
    key("status.url", Text(|d| &mut d.status.url), Restart,
        "Where it is published, as in `https://status.example.net`: the feed names it. The same on all nodes. Empty: this region's own URL."),
    key("status.settle", Time(|d| &mut d.status.settle, seconds(1, 3600)), Restart,
        "For how long a region has to be well until its incident is over."),
    key("admin.listen", Texts(|d| &mut d.admin.listen), Restart,
        "Addresses and ports on which the admin API is listened for, once there is `admin.token_file` or `admin.client_ca`; without one nobody listens there."),
    key("admin.allow_plaintext", Switch(|d| &mut d.admin.allow_plaintext), Restart,
        "Listen there on addresses that other hosts can reach, without TLS. The token then crosses the network in the clear unless something in front of the node encrypts."),
    key("admin.socket", File(|d| &mut d.admin.socket), Restart,
        "A Unix socket on which the admin API is listened for. Only the node's user (and root) can open it, and need no token."),
    key("admin.public_url", Text(|d| &mut d.admin.public_url), Restart,
        "Where other hosts reach the admin API, as in `https://eu-1a.internal:9180`: consoles find this node there. Empty: the first of `admin.listen`, unless that is every address that the host has."),
    key("admin.token_file", File(|d| &mut d.admin.token_file), Live,
        "A file with the bearer token that callers of the admin API send: all of it but line ends at its end, at least 32 bytes. It is read again at each reload."),
    key("admin.certificates", Files(|d| &mut d.admin.certificates), Live,
        "PEM files with a certificate each for the admin API, which then speaks TLS. They are read again at each reload."),
    key("admin.keys", Files(|d| &mut d.admin.keys), Live,
        "PEM files with the private keys of these certificates, in the same order."),
    key("admin.client_ca", File(|d| &mut d.admin.client_ca), Live,
        "A PEM file with certificates that vouch for operators: who has none that one of them signed does not get through the handshake. With `admin.token_file` both are asked for."),
    key("admin.audit_log", File(|d| &mut d.admin.audit_log), Live,
        "A file to which a line of JSON is appended for each action of an operator. What cannot be recorded there is not done."),
    key("traces.endpoint", Text(|d| &mut d.traces.endpoint), Restart,
        "A collector of OpenTelemetry to which traces are sent (OTLP over HTTP), as in `http://127.0.0.1:4318`. Empty: no traces."),
    key("traces.one_in", Count(|d| &mut d.traces.one_in, 1..=1_000_000_000), Restart,
        "Of so many handshakes, tokens, documents opened and HTTP requests one is traced. An HTTP request whose `traceparent` says that it is traced always is."),
    key("traces.timeout", Time(|d| &mut d.traces.timeout, seconds(1, 60)), Restart,
        "How long the collector may take for a request; then its traces are dropped."),
    key("traces.headers_file", File(|d| &mut d.traces.headers_file), Restart,
        "A file with headers for the collector, one `Name: value` a line, as a secret of its."),
];

impl Key {
    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its table (empty for none) and its name in there.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }
}

/// What the names of variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "PINWIRE_";

/// The place of a key in [`KEYS`].
pub(super) fn position(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

/// The name that somebody who wrote `wrong` probably meant: one that is spelled nearly so, else one that is in another table.
pub(super) fn meant_by(wrong: &str) -> Option<&'static str> {
    let near = |key: &&Key| (strsim::damerau_levenshtein(wrong, key.name), key.name);
    let (distance, nearest) = KEYS.iter().map(|key| near(&key)).min()?;
    if distance <= (wrong.len() / 4).max(2) {
        return Some(nearest);
    }
    let last = wrong.rsplit('.').next()?;
    KEYS.iter().find(|key| key.split().1 == last).map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_variables_are_unique_and_tables_are_together() {
        let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        let variables: BTreeSet<String> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
        let mut tables: Vec<&str> = KEYS.iter().map(|key| key.split().0).collect();
        tables.dedup();
        let distinct: BTreeSet<&str> = tables.iter().copied().collect();
        assert_eq!(tables.len(), distinct.len(), "{tables:?}");
        assert_eq!(tables[0], "", "TOML wants these before the first table");
    }

    #[test]
    fn each_key_has_a_field_of_its_own() {
        let mut draft = Draft::default();
        let place = |field: &Field, draft: &mut Draft| match field {
            Switch(get) => std::ptr::from_mut(get(draft)) as usize,
            Count(get, _) => std::ptr::from_mut(get(draft)) as usize,
            Entries(get, _) | Bytes(get, _) => std::ptr::from_mut(get(draft)) as usize,
            Time(get, _) => std::ptr::from_mut(get(draft)) as usize,
            Text(get) | File(get) | Choice(get, _) | Address(get) => std::ptr::from_mut(get(draft)) as usize,
            Addresses(get) => std::ptr::from_mut(get(draft)) as usize,
            Regions(get) => std::ptr::from_mut(get(draft)) as usize,
            Texts(get) | Files(get) => std::ptr::from_mut(get(draft)) as usize,
        };
        let places: BTreeSet<usize> = KEYS.iter().map(|key| place(&key.field, &mut draft)).collect();
        assert_eq!(places.len(), KEYS.len());
    }

    #[test]
    fn slips_are_understood() {
        assert_eq!(meant_by("max_conections"), Some("max_connections"));
        assert_eq!(meant_by("websockets.max_message"), Some("websocket.max_message"));
        assert_eq!(meant_by("secret_file"), Some("tokens.secret_file"));
        assert_eq!(meant_by("server.max_frame"), Some("websocket.max_frame"));
        assert_eq!(meant_by("colour"), None);
    }
}
