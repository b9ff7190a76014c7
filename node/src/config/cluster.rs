//! The table `cluster` and the array `regions`: where pins and sessions are kept, who the other nodes and regions are.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pinwire_redis::Endpoint;
use rustls::pki_types::CertificateDer;

use super::draft::{ClusterKeys, RegionKeys};
use super::resolve::{addresses, authorities, authority_of, is_open_to_all, secret_of};
use super::sources::Written;
use super::{Certificates, tls};

/// License regions at most: an app carries the number of its own in a byte.
pub const LICENSES_MAX: usize = 64;
/// Regions of the catalogue at most: each node asks all of them how they are.
const REGIONS_MAX: usize = 256;
/// Characters of a node's name.
const NODE_NAME_MAX: usize = 64;

/// How this node and others are one system.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Where it is kept which region has a document.
    pub registry: RegistryKind,
    /// This node's name among those of its region: the same after a restart.
    pub node: String,
    /// For how long others count on a node that is not heard of.
    pub lease: Duration,
    /// How often it is heard of.
    pub renew: Duration,
    /// What becomes of a client that asks for a document of another region.
    pub wrong_region: WrongRegion,
    /// The region's Redis with the sessions of its documents; there is one where the registry is in Redis.
    pub session: Option<RedisUrl>,
    /// For how long a document waits for a Redis that has no room for it; `None`: for ever.
    pub full_patience: Option<Duration>,
    /// How other nodes reach this one, if they can.
    pub peer: Option<Peer>,
    /// How often each of the other regions is asked how it is.
    pub probe_interval: Duration,
    /// Authorities that vouch for the other regions' URLs, beside those that the system trusts.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Where the registries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryKind {
    /// In this process: one for all license regions.
    Embedded,
    /// One for each license region, in the order of [`Config::known_db_codes`](super::Config::known_db_codes).
    Redis(Vec<License>),
}

/// A license region with its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// `dbCode` of tokens.
    pub code: String,
    /// Its Redis.
    pub url: RedisUrl,
}

/// What becomes of a client that asks for a document which another region has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongRegion {
    /// It is sent there (4009).
    Redirect,
    /// The session is carried there.
    Relay,
}

/// How nodes reach each other.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` under which others reach it.
    pub address: String,
    /// What both ends of a link have to know.
    pub secret: PeerSecret,
    /// With these the links are TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Who vouches for the certificates of other nodes; those that the system trusts if nobody is named.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// A secret that nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecret(Arc<[u8]>);

impl PeerSecret {
    /// Of these bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(..)")
    }
}

/// The address of a Redis, with the password that may stand in it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Arc<str>);

impl RedisUrl {
    /// What it looks like with nothing in it that is secret.
    #[must_use]
    pub fn shown(&self) -> String {
        without_password(&self.0)
    }

    /// All of it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RedisUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A region of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionEntry {
    /// As in `eu-central-1`.
    pub name: String,
    /// Base of its WebSocket URLs, without a trailing slash.
    pub url: String,
    /// Whether it takes clients.
    pub status: RegionStatus,
    /// Where it is, for people.
    pub area: Option<String>,
}

/// Whether a region takes clients, as its operators say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegionStatus {
    /// It does.
    Live,
    /// Not yet.
    ComingSoon,
    /// It serves what it has; clients with new documents are sent elsewhere.
    Maintenance,
}

impl RegionStatus {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::ComingSoon => "coming-soon",
            Self::Maintenance => "maintenance",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Live, Self::ComingSoon, Self::Maintenance].into_iter().find(|status| status.word() == word)
    }
}

impl Cluster {
    /// One node by itself.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            registry: RegistryKind::Embedded,
            node: host_name(),
            lease: LEASE,
            renew: RENEW,
            wrong_region: WrongRegion::Redirect,
            session: None,
            full_patience: None,
            peer: None,
            probe_interval: PROBE_INTERVAL,
            authorities: Vec::new(),
        }
    }

    /// The number of the registry that a token's license region has; `None` if it names none that is needed, or one that there
    /// is no registry for.
    #[must_use]
    pub fn license(&self, db_code: Option<&str>) -> Option<u8> {
        let place = match (&self.registry, db_code) {
            (RegistryKind::Embedded, _) => Some(0),
            (RegistryKind::Redis(all), Some(code)) => all.iter().position(|license| license.code == code),
            // Where there is one, nobody needs to name it.
            (RegistryKind::Redis(all), None) => (all.len() == 1).then_some(0),
        };
        place.and_then(|place| u8::try_from(place).ok())
    }

    /// The license region with this number; `None` where one registry is for all.
    #[must_use]
    pub fn code(&self, license: u8) -> Option<&str> {
        match &self.registry {
            RegistryKind::Embedded => None,
            RegistryKind::Redis(all) => all.get(usize::from(license)).map(|license| license.code.as_str()),
        }
    }

    /// How many registries there are.
    #[must_use]
    pub fn registries(&self) -> usize {
        match &self.registry {
            RegistryKind::Embedded => 1,
            RegistryKind::Redis(all) => all.len(),
        }
    }
}

pub(super) const LEASE: Duration = Duration::from_secs(20);
pub(super) const RENEW: Duration = Duration::from_secs(5);
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// The name of this host, or the one that everybody has.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_node_name(&name) { name } else { "node".to_owned() }
}

fn is_node_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= NODE_NAME_MAX && name.chars().all(is_fine)
}

pub(crate) fn is_region_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(is_fine)
}

pub(super) fn resolve(written: &mut Written) -> Cluster {
    let keys = written.draft.cluster.clone();
    let is_redis = keys.registry == "redis";
    if !keys.node.is_empty() && !is_node_name(&keys.node) {
        let what = format!(
            "`{}` has something besides letters, digits, `-`, `_` and `.`, or more than {NODE_NAME_MAX} characters",
            keys.node
        );
        written.wrong("cluster.node", what);
    }
    if keys.renew.saturating_mul(3) > keys.lease && !written.is_wrong(&["cluster.lease", "cluster.renew"]) {
        written.wrong(
            "cluster.lease",
            "is less than three times cluster.renew: one renewal that is late would cost the node all it holds",
        );
    }
    let registry = if is_redis {
        RegistryKind::Redis(licenses(written, &keys))
    } else {
        for (name, is_set) in [
            ("cluster.registries", !keys.registries.is_empty()),
            ("cluster.session", !keys.session.is_empty()),
        ] {
            if is_set {
                written.wrong(
                    name,
                    "is of no use with registry = \"embedded\"; write registry = \"redis\" in [cluster]",
                );
            }
        }
        RegistryKind::Embedded
    };
    if is_redis && !written.draft.store.path.is_empty() {
        written.wrong(
            "store.path",
            "cannot be used with cluster.registry = \"redis\": sessions are in the region's Redis then, where every node of the \
             region finds them; leave one of the two out",
        );
    }
    let authorities = authorities(written, "cluster.ca_file", &keys.ca_file);
    Cluster {
        registry,
        node: if keys.node.is_empty() { host_name() } else { keys.node.clone() },
        lease: keys.lease,
        renew: keys.renew,
        wrong_region: match keys.wrong_region.as_str() {
            "relay" => WrongRegion::Relay,
            _ => WrongRegion::Redirect,
        },
        session: is_redis.then(|| session(written, &keys.session)).flatten(),
        full_patience: Some(keys.full_patience).filter(|patience| !patience.is_zero()),
        peer: peer(written, &keys),
        probe_interval: keys.probe_interval,
        authorities,
    }
}

/// The registries, in the order in which their codes are known.
fn licenses(written: &mut Written, keys: &ClusterKeys) -> Vec<License> {
    if keys.registries.is_empty() {
        if !written.is_wrong(&["cluster.registries"]) {
            written.wrong(
                "cluster.registries",
                "names no license region; write [cluster.registries] and below it \"aws-eu-west-1\" = \"redis://HOST:6379\"",
            );
        }
        return Vec::new();
    }
    if keys.registries.len() > LICENSES_MAX {
        written.wrong("cluster.registries", format!("names more than {LICENSES_MAX}"));
    }
    for (code, url) in &keys.registries {
        if let Err(what) = check_redis_url(url) {
            written.wrong("cluster.registries", format!("{code}: {what}"));
        }
    }
    let of =
        |(code, url): (&String, &String)| License { code: code.clone(), url: RedisUrl(url.as_str().into()) };
    // Unset, license_regions says what exists at all, and the registries say what exists here.
    if written.is_default("license_regions") {
        written.draft.license_regions = keys.registries.keys().cloned().collect();
        return keys.registries.iter().map(of).collect();
    }
    let known = written.draft.license_regions.clone();
    for code in keys.registries.keys().filter(|code| !known.contains(code)) {
        let what = format!(
            "`{code}` is not among license_regions ({}); write it there too, or leave license_regions out",
            known.join(", ")
        );
        written.wrong("cluster.registries", what);
    }
    for code in known.iter().filter(|code| !keys.registries.contains_key(*code)) {
        let what =
            format!("`{code}` has no registry; give it one in [cluster.registries], or take it out here");
        written.wrong("license_regions", what);
    }
    known.iter().filter_map(|code| keys.registries.get_key_value(code)).map(of).collect()
}

fn session(written: &mut Written, url: &str) -> Option<RedisUrl> {
    if url.is_empty() {
        if !written.is_wrong(&["cluster.session"]) {
            written.wrong(
                "cluster.session",
                "has to be set with registry = \"redis\": the region's Redis, where its nodes keep sessions; write \
                 session = \"redis://HOST:6379\"",
            );
        }
        return None;
    }
    match check_redis_url(url) {
        Ok(()) => Some(RedisUrl(url.into())),
        Err(what) => {
            written.wrong("cluster.session", what);
            None
        }
    }
}

fn peer(written: &mut Written, keys: &ClusterKeys) -> Option<Peer> {
    const KEYS: [&str; 3] = ["cluster.peer_listen", "cluster.peer_address", "cluster.peer_secret_file"];
    let is_said = written.is_wrong(&KEYS);
    if keys.peer_listen.is_empty() {
        let is_relay = keys.wrong_region == "relay";
        if is_relay && !is_said {
            written.wrong(
                "cluster.wrong_region",
                "relay needs cluster.peer_listen and cluster.peer_secret_file: nodes carry sessions to each other over links of \
                 their own",
            );
        }
        for (name, value) in [KEYS[1], KEYS[2]].into_iter().zip([&keys.peer_address, &keys.peer_secret_file])
        {
            if !value.is_empty() && !is_relay {
                written.doubtful(name, "is of no use without cluster.peer_listen");
            }
        }
        return None;
    }
    let listen = addresses(written, "cluster.peer_listen", std::slice::from_ref(&keys.peer_listen)).pop();
    let address = peer_address(written, keys, listen);
    let secret = peer_secret(written, &keys.peer_secret_file);
    let names = ["cluster.peer_certificates", "cluster.peer_keys"];
    let certificates = if keys.peer_certificates.is_empty() && keys.peer_keys.is_empty() {
        None
    } else {
        let host = address.as_deref().map(tls::host_of);
        tls::certificates(written, names, &keys.peer_certificates, &keys.peer_keys, host).map(Arc::new)
    };
    let authorities = authorities(written, "cluster.peer_ca_file", &keys.peer_ca_file);
    Some(Peer { listen: listen?, address: address?, secret: secret?, certificates, authorities })
}

fn peer_address(written: &mut Written, keys: &ClusterKeys, listen: Option<SocketAddr>) -> Option<String> {
    if keys.peer_address.is_empty() {
        let listen = listen?;
        if listen.ip().is_unspecified() && !written.is_wrong(&["cluster.peer_address"]) {
            let what = format!(
                "has to be set, since cluster.peer_listen is {listen}: the host and port where others reach it"
            );
            written.wrong("cluster.peer_address", what);
            return None;
        }
        return Some(listen.to_string());
    }
    let is_whole = keys
        .peer_address
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_authority(host) && port.parse::<u16>().is_ok_and(|port| port != 0));
    if !is_whole {
        let what =
            format!("`{}` is no host with a port; write node-1.eu.example.net:7000", keys.peer_address);
        written.wrong("cluster.peer_address", what);
        return None;
    }
    Some(keys.peer_address.clone())
}

fn peer_secret(written: &mut Written, file: &str) -> Option<PeerSecret> {
    const KEY: &str = "cluster.peer_secret_file";
    if file.is_empty() {
        if !written.is_wrong(&[KEY]) {
            written.wrong(
                KEY,
                "has to be set for cluster.peer_listen: a file with the same secret on all nodes; make one with `openssl rand -hex 32`",
            );
        }
        return None;
    }
    if is_open_to_all(Path::new(file)) {
        written.doubtful(KEY, format!("{file} can be read by every user of this host; chmod 600 {file}"));
    }
    match secret_of(Path::new(file)) {
        Ok(secret) => Some(PeerSecret::new(&secret)),
        Err(what) => {
            written.wrong(KEY, format!("{file} {what}"));
            None
        }
    }
}

/// The catalogue as it is written, and what is doubtful about it beside the node's own region.
pub(super) fn regions(written: &mut Written) -> Vec<RegionEntry> {
    let mut entries: Vec<RegionEntry> = Vec::new();
    let drafts = written.draft.regions.clone();
    if drafts.len() > REGIONS_MAX {
        written.wrong("regions", format!("has more than {REGIONS_MAX} regions"));
    }
    for (at, draft) in drafts.iter().enumerate() {
        let place = draft.place.clone().unwrap_or_else(|| written.origin("regions"));
        match region(draft) {
            Ok(entry) if entries.iter().any(|other| other.name == entry.name) => {
                written.wrong_at(place, "regions", format!("names {} twice", entry.name));
            }
            Ok(entry) => entries.push(entry),
            Err(what) => written.wrong_at(place, "regions", format!("region {}: {what}", at + 1)),
        }
    }
    check_own(written, &entries);
    entries
}

fn region(draft: &RegionKeys) -> Result<RegionEntry, String> {
    let RegionKeys { name, url, status, area, .. } = draft;
    if name.is_empty() {
        return Err("has no name; write name = \"eu-central-1\"".to_owned());
    }
    if !is_region_name(name) {
        return Err(format!("the name `{name}` has something besides small letters, digits and -"));
    }
    let status = RegionStatus::parse(status)
        .ok_or_else(|| format!("{name}: status is one of live, coming-soon, maintenance, not `{status}`"))?;
    if url.is_empty() && status != RegionStatus::ComingSoon {
        return Err(format!("{name}: has no url; write url = \"wss://{name}.example.net\""));
    }
    if !url.is_empty() {
        authority_of(url).map_err(|what| format!("{name}: url: {what}"))?;
    }
    Ok(RegionEntry {
        name: name.clone(),
        url: url.trim_end_matches('/').to_owned(),
        status,
        area: Some(area.clone()).filter(|area| !area.is_empty()),
    })
}

fn check_own(written: &mut Written, entries: &[RegionEntry]) {
    let (own, url) =
        (written.draft.region.clone(), written.draft.public_url.trim_end_matches('/').to_owned());
    if entries.is_empty() || own.is_empty() || written.is_wrong(&["region", "regions", "public_url"]) {
        return;
    }
    match entries.iter().find(|entry| entry.name == own) {
        None => written.doubtful(
            "regions",
            format!(
                "does not have {own}, which this node serves: others send no clients here; write it there too"
            ),
        ),
        Some(entry) if !url.is_empty() && entry.url != url => written.doubtful(
            "regions",
            format!(
                "has {} for {own}, and public_url is {url}: clients are sent to one or the other",
                entry.url
            ),
        ),
        Some(_) => {}
    }
}

/// Says what is wrong with the address of a Redis, without repeating what may be a password in it.
pub(super) fn check_redis_url(url: &str) -> Result<(), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    if let (Some(slash), Some(at)) = (rest.find('/'), rest.rfind('@'))
        && slash < at
    {
        return Err("has a `/` before `@`: in a password it is written %2F".to_owned());
    }
    let wrong = |error| format!("`{}`: {error}", without_password(url));
    url.parse::<Endpoint>().map(|_| ()).map_err(wrong)
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

/// A URL whose passwords are `***`.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // What it is nobody knows, and it may be one.
        return if url.is_empty() { String::new() } else { "***".to_owned() };
    };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let address = match address.rsplit_once('@') {
        Some((login, hosts)) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or("");
            format!("{user}:***@{hosts}")
        }
        _ => address.to_owned(),
    };
    let shown = |option: &str| match option.split_once('=') {
        Some((name, _)) if name.ends_with("password") => format!("{name}=***"),
        _ => option.to_owned(),
    };
    let query: Vec<String> = query.split('&').filter(|option| !option.is_empty()).map(shown).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{address}{mark}{}", query.join("&"))
}
