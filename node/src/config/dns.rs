//! The tables `dns` and `drain`: who keeps the region's name, and how a node leaves.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinwire_dns::{
    Addresses, AwsCredentials, CloudflareSettings, ExecSettings, KeeperSettings, NameServer,
    ProviderSettings, RegionName, Rfc2136Settings, Route53Settings, Secret, ServerSettings, SettingError,
    TsigAlgorithm, TsigKey,
};

use super::draft::DnsKeys;
use super::resolve::{addresses as socket_addresses, is_open_to_all};
use super::sources::{Written, read_file};

/// What a node goes on accepting beyond the TTL: resolvers and clients take a moment, too.
const BEYOND_TTL: Duration = Duration::from_secs(5);

/// The region's name in DNS, and who keeps it.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The name.
    pub name: RegionName,
    /// What clients reach this node at.
    pub addresses: Addresses,
    /// Who has the zone.
    pub way: DnsWay,
}

/// Who has the zone that a region's name is in.
#[derive(Debug, Clone)]
pub enum DnsWay {
    /// Somebody whom the node tells of itself.
    Kept {
        /// Who.
        provider: ProviderSettings,
        /// The time between two looks.
        check: Duration,
    },
    /// The nodes answer themselves.
    Embedded {
        /// Where, and within which bounds; `None`: others do, and this node is in their answers.
        server: Option<ServerSettings>,
        /// The nodes that answer.
        servers: Vec<NameServer>,
    },
}

/// How a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainTimes {
    /// How long it goes on accepting once it is out of DNS.
    pub leave: Duration,
    /// Over which its connections are closed.
    pub window: Duration,
}

pub(super) fn drain(written: &Written, dns: Option<&Dns>) -> DrainTimes {
    let keys = &written.draft.drain;
    let of_name = dns.map_or(Duration::ZERO, |dns| Duration::from_secs(dns.name.ttl_s().into()) + BEYOND_TTL);
    DrainTimes { leave: if keys.leave.is_zero() { of_name } else { keys.leave }, window: keys.window }
}

/// `None`: nobody, or somebody whom the nodes do not know.
pub(super) fn resolve(written: &mut Written) -> Option<Dns> {
    let keys = written.draft.dns.clone();
    check_use(written, &keys);
    if keys.provider == "none" {
        return None;
    }
    let name = name(written, &keys);
    let addresses = addresses(written, &keys);
    let way = match keys.provider.as_str() {
        "embedded" => embedded(written, &keys, name.as_ref()),
        _ => kept(written, &keys, name.as_ref()),
    };
    Some(Dns { name: name?, addresses: addresses?, way: way? })
}

/// Which keys say something to which providers.
const OF_PROVIDERS: [(&str, &[&str]); 13] = [
    ("dns.server", &["rfc2136"]),
    ("dns.key_name", &["rfc2136"]),
    ("dns.key_file", &["rfc2136"]),
    ("dns.key_algorithm", &["rfc2136"]),
    ("dns.hosted_zone", &["route53"]),
    ("dns.access_key", &["route53"]),
    ("dns.secret_key_file", &["route53"]),
    ("dns.zone_id", &["cloudflare"]),
    ("dns.token_file", &["cloudflare"]),
    ("dns.api_url", &["route53", "cloudflare"]),
    ("dns.program", &["exec"]),
    ("dns.arguments", &["exec"]),
    ("dns.listen", &["embedded"]),
];

fn check_use(written: &mut Written, keys: &DnsKeys) {
    for (key, providers) in OF_PROVIDERS {
        if !providers.contains(&keys.provider.as_str()) && !written.is_default(key) {
            let what = format!("is of no use without dns.provider = \"{}\"", providers[0]);
            written.doubtful(key, what);
        }
    }
}

/// What is wrong, with the key in place of what the setting is called elsewhere.
fn wrong(written: &mut Written, error: &SettingError) {
    let key = match error.setting {
        "name" => "dns.name",
        "zone" => "dns.zone",
        "ttl" => "dns.ttl",
        "addresses" => "dns.addresses",
        "server" => "dns.server",
        "key.name" | "key_name" => "dns.key_name",
        "key.secret" | "key" | "secret" => "dns.key_file",
        "hosted_zone_id" => "dns.hosted_zone",
        "access_key_id" => "dns.access_key",
        "zone_id" => "dns.zone_id",
        "token" => "dns.token_file",
        "endpoint" => "dns.api_url",
        "program" => "dns.program",
        "listen" => "dns.listen",
        "contact" => "dns.contact",
        _ => "dns.provider",
    };
    if !written.is_wrong(&[key]) {
        written.wrong(key, format!("{}; {}", error.fault, error.mend));
    }
}

fn name(written: &mut Written, keys: &DnsKeys) -> Option<RegionName> {
    let name = if keys.name.is_empty() { own_host(written)? } else { keys.name.clone() };
    let zone = match (keys.zone.as_str(), name.split_once('.')) {
        ("", Some((_, parent))) => parent.to_owned(),
        (zone, _) => zone.to_owned(),
    };
    let ttl_s = u32::try_from(keys.ttl.as_secs()).unwrap_or(u32::MAX);
    RegionName::new(&name, &zone, ttl_s).map_err(|error| wrong(written, &error)).ok()
}

/// The host that clients are sent to.
fn own_host(written: &mut Written) -> Option<String> {
    let draft = &written.draft;
    let own = draft.regions.iter().find(|region| region.name == draft.region);
    let url = if draft.public_url.is_empty() { own.map_or("", |own| &own.url) } else { &draft.public_url };
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned();
    if host.is_empty() || host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        written.wrong("dns.name", "has to be set: the region's name, as in eu-central-1.example.net");
        return None;
    }
    Some(host)
}

fn addresses(written: &mut Written, keys: &DnsKeys) -> Option<Addresses> {
    let mut addresses = Addresses::new();
    for text in &keys.addresses {
        match text.parse::<IpAddr>() {
            Ok(address) => _ = addresses.insert(address),
            Err(_) => {
                let what = format!("`{text}` is no address; write 192.0.2.1 or 2001:db8::1, without a port");
                written.wrong("dns.addresses", what);
                return None;
            }
        }
    }
    if addresses.is_empty() {
        let listening = written.draft.tls.listen.iter().chain(&written.draft.listen);
        let listening = listening.filter_map(|text| text.parse::<SocketAddr>().ok());
        addresses = listening.map(|address| address.ip()).collect::<BTreeSet<_>>();
        if addresses.iter().any(IpAddr::is_unspecified) {
            let what = "has to be set, since the node listens on all addresses of its host: those that clients reach it at";
            written.wrong("dns.addresses", what);
            return None;
        }
    }
    match KeeperSettings::new("node", addresses.clone(), 1) {
        Ok(_) => Some(addresses),
        Err(error) => {
            wrong(written, &error);
            None
        }
    }
}

fn kept(written: &mut Written, keys: &DnsKeys, name: Option<&RegionName>) -> Option<DnsWay> {
    let provider = match keys.provider.as_str() {
        "rfc2136" => rfc2136(written, keys)?,
        "route53" => route53(written, keys)?,
        "cloudflare" => cloudflare(written, keys)?,
        _ => exec(keys),
    };
    if let Some(name) = name
        && let Err(error) = provider.clone().provider(name.clone())
    {
        wrong(written, &error);
        return None;
    }
    let usual = Duration::from_micros(provider.usual_check_us());
    Some(DnsWay::Kept { provider, check: if keys.check.is_zero() { usual } else { keys.check } })
}

fn rfc2136(written: &mut Written, keys: &DnsKeys) -> Option<ProviderSettings> {
    if keys.server.is_empty() {
        written.wrong("dns.server", "has to be set: the zone's primary, as in ns1.example.net:53");
        return None;
    }
    let key = match (keys.key_name.as_str(), keys.key_file.as_str()) {
        ("", "") => None,
        ("", _) => {
            written.wrong("dns.key_name", "has to be set with dns.key_file: the key's name at the server");
            return None;
        }
        (_, "") => {
            written.wrong(
                "dns.key_file",
                "has to be set with dns.key_name: a file with the key's secret in base64",
            );
            return None;
        }
        (name, file) => Some(TsigKey {
            name: name.to_owned(),
            secret: secret(written, "dns.key_file", file)?,
            algorithm: match keys.key_algorithm.as_str() {
                "hmac-sha384" => TsigAlgorithm::HmacSha384,
                "hmac-sha512" => TsigAlgorithm::HmacSha512,
                _ => TsigAlgorithm::HmacSha256,
            },
        }),
    };
    Some(ProviderSettings::Rfc2136(Rfc2136Settings {
        server: keys.server.clone(),
        key,
        timeout: keys.timeout,
    }))
}

fn route53(written: &mut Written, keys: &DnsKeys) -> Option<ProviderSettings> {
    let credentials = if !keys.access_key.is_empty() || !keys.secret_key_file.is_empty() {
        AwsCredentials::Keys {
            access_key_id: keys.access_key.clone(),
            secret_access_key: secret(written, "dns.secret_key_file", &keys.secret_key_file)?,
            session_token: None,
        }
    } else {
        of_container().unwrap_or(AwsCredentials::Instance { endpoint: None })
    };
    Some(ProviderSettings::Route53(Route53Settings {
        credentials,
        hosted_zone_id: keys.hosted_zone.clone(),
        region: None,
        endpoint: Some(keys.api_url.clone()).filter(|url| !url.is_empty()),
        timeout: keys.timeout,
    }))
}

/// As ECS and EKS tell a container.
fn of_container() -> Option<AwsCredentials> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let whole = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let part = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let uri = whole.or_else(|| part.map(|part| format!("http://169.254.170.2{part}")))?;
    let token_file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
    Some(AwsCredentials::Container { uri, token_file })
}

fn cloudflare(written: &mut Written, keys: &DnsKeys) -> Option<ProviderSettings> {
    Some(ProviderSettings::Cloudflare(CloudflareSettings {
        token: secret(written, "dns.token_file", &keys.token_file)?,
        zone_id: Some(keys.zone_id.clone()).filter(|id| !id.is_empty()),
        endpoint: Some(keys.api_url.clone()).filter(|url| !url.is_empty()),
        timeout: keys.timeout,
    }))
}

fn exec(keys: &DnsKeys) -> ProviderSettings {
    ProviderSettings::Exec(ExecSettings {
        program: PathBuf::from(&keys.program),
        arguments: keys.arguments.clone(),
        environment: Vec::new(),
        timeout: keys.timeout,
    })
}

/// What a file holds, without the line end that editors leave.
fn secret(written: &mut Written, key: &str, file: &str) -> Option<Secret> {
    if file.is_empty() {
        written.wrong(key, "has to be set: a file with the secret");
        return None;
    }
    if is_open_to_all(Path::new(file)) {
        written.doubtful(key, format!("{file} can be read by every user of this host; chmod 600 {file}"));
    }
    match read_file(Path::new(file)) {
        Ok(bytes) => Some(Secret::new(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(what) => {
            written.wrong(key, format!("{file} {what}"));
            None
        }
    }
}

fn embedded(written: &mut Written, keys: &DnsKeys, name: Option<&RegionName>) -> Option<DnsWay> {
    let mut servers: Vec<NameServer> = Vec::new();
    for text in &keys.servers {
        let (name, address) = text.split_once('=').unwrap_or((text, ""));
        let address = Some(address).filter(|address| !address.is_empty()).map(str::parse::<IpAddr>);
        let address = match address.transpose() {
            Ok(address) => address,
            Err(_) => {
                let what =
                    format!("`{text}` is no name server; write ns1.eu-central-1.example.net=192.0.2.1");
                written.wrong("dns.servers", what);
                return None;
            }
        };
        match servers.iter_mut().find(|server| server.name == name) {
            Some(server) => server.addresses.extend(address),
            None => {
                servers.push(NameServer { name: name.to_owned(), addresses: address.into_iter().collect() });
            }
        }
    }
    if servers.is_empty() {
        let what = "has to be set: the nodes to which the parent zone delegates, as in ns1.eu-central-1.example.net=192.0.2.1";
        written.wrong("dns.servers", what);
        return None;
    }
    let listen = socket_addresses(written, "dns.listen", &keys.listen);
    let settings = ServerSettings {
        ttl_s: u32::try_from(keys.ttl.as_secs()).unwrap_or(u32::MAX),
        ..ServerSettings::new(name?.zone_text(), listen.clone())
    };
    Some(DnsWay::Embedded { server: (!listen.is_empty()).then_some(settings), servers })
}
