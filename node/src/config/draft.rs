//! A configuration as it is written down: plain values, before they are understood together.

use std::collections::BTreeMap;
use std::time::Duration;

use pinwire_token::{Limits, Policy};

use super::cluster::{LEASE, PROBE_INTERVAL, RENEW};
use super::shedding::SheddingKeys;
use super::sources::Origin;
use super::{
    AddressLimits, Buffers, DEFAULT_MAX_CONNECTIONS, Deadlines, Deflate, DrainTimes, HttpLimits,
    KNOWN_DB_CODES, WebSocketLimits,
};
use crate::jwks::JwksSources;

/// What the keys of [`super::keys::KEYS`] fill.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) region: String,
    pub(super) public_url: String,
    pub(super) listen: Vec<String>,
    pub(super) allow_plaintext: bool,
    pub(super) tls: TlsKeys,
    /// 0: one for each core.
    pub(super) threads: u32,
    pub(super) driver: String,
    pub(super) max_connections: u32,
    pub(super) rings_per_thread: u32,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) license_regions: Vec<String>,
    pub(super) regions: Vec<RegionKeys>,
    pub(super) log: String,
    pub(super) log_format: String,
    pub(super) tokens: Tokens,
    pub(super) app_limits: Limits,
    pub(super) limit_addresses: bool,
    pub(super) address_limits: AddressLimits,
    pub(super) allow_dot_colon: bool,
    pub(super) websocket: WebSocketLimits,
    pub(super) compress: bool,
    pub(super) deflate: Deflate,
    pub(super) deadlines: Deadlines,
    pub(super) buffers: Buffers,
    pub(super) shedding: SheddingKeys,
    pub(super) cluster: ClusterKeys,
    pub(super) store: Store,
    pub(super) drain: DrainTimes,
    pub(super) dns: DnsKeys,
    pub(super) http: HttpLimits,
    pub(super) status: StatusKeys,
    pub(super) admin: AdminFiles,
    pub(super) traces: TraceKeys,
}

/// A table of the array `regions`.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionKeys {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) status: String,
    pub(super) area: String,
    /// Where it stands, if it stands in a file.
    pub(super) place: Option<Origin>,
}

/// The table `cluster`.
#[derive(Clone, Debug)]
pub(super) struct ClusterKeys {
    pub(super) registry: String,
    /// Empty: the host's name.
    pub(super) node: String,
    pub(super) lease: Duration,
    pub(super) renew: Duration,
    pub(super) wrong_region: String,
    pub(super) session: String,
    /// 0: for ever.
    pub(super) full_patience: Duration,
    pub(super) peer_listen: String,
    pub(super) peer_address: String,
    pub(super) peer_secret_file: String,
    pub(super) peer_certificates: Vec<String>,
    pub(super) peer_keys: Vec<String>,
    pub(super) peer_ca_file: String,
    pub(super) probe_interval: Duration,
    pub(super) ca_file: String,
    /// Addresses by license region.
    pub(super) registries: BTreeMap<String, String>,
}

impl Default for ClusterKeys {
    fn default() -> Self {
        Self {
            registry: "embedded".to_owned(),
            node: String::new(),
            lease: LEASE,
            renew: RENEW,
            wrong_region: "redirect".to_owned(),
            session: String::new(),
            full_patience: Duration::ZERO,
            peer_listen: String::new(),
            peer_address: String::new(),
            peer_secret_file: String::new(),
            peer_certificates: Vec::new(),
            peer_keys: Vec::new(),
            peer_ca_file: String::new(),
            probe_interval: PROBE_INTERVAL,
            ca_file: String::new(),
            registries: BTreeMap::new(),
        }
    }
}

/// The table `store`.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) path: String,
    pub(super) fsync: String,
    pub(super) fsync_interval: Duration,
    pub(super) retention: Duration,
    pub(super) unclaimed: Duration,
}

/// The table `dns`.
#[derive(Clone, Debug)]
pub(super) struct DnsKeys {
    pub(super) provider: String,
    /// Empty: the host that clients are sent to.
    pub(super) name: String,
    /// Empty: what the name is in.
    pub(super) zone: String,
    pub(super) ttl: Duration,
    pub(super) addresses: Vec<String>,
    /// 0: as fits the provider.
    pub(super) check: Duration,
    pub(super) timeout: Duration,
    pub(super) server: String,
    pub(super) key_name: String,
    pub(super) key_file: String,
    pub(super) key_algorithm: String,
    pub(super) hosted_zone: String,
    pub(super) access_key: String,
    pub(super) secret_key_file: String,
    pub(super) zone_id: String,
    pub(super) token_file: String,
    pub(super) api_url: String,
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) listen: Vec<String>,
    pub(super) servers: Vec<String>,
}

impl Default for DnsKeys {
    fn default() -> Self {
        Self {
            provider: "none".to_owned(),
            name: String::new(),
            zone: String::new(),
            ttl: Duration::from_secs(30),
            addresses: Vec::new(),
            check: Duration::ZERO,
            timeout: Duration::from_secs(5),
            server: String::new(),
            key_name: String::new(),
            key_file: String::new(),
            key_algorithm: "hmac-sha256".to_owned(),
            hosted_zone: String::new(),
            access_key: String::new(),
            secret_key_file: String::new(),
            zone_id: String::new(),
            token_file: String::new(),
            api_url: String::new(),
            program: String::new(),
            arguments: Vec::new(),
            listen: Vec::new(),
            servers: Vec::new(),
        }
    }
}

/// The table `status`.
#[derive(Clone, Debug)]
pub(super) struct StatusKeys {
    pub(super) enabled: bool,
    pub(super) title: String,
    pub(super) contact: String,
    pub(super) url: String,
    pub(super) settle: Duration,
}

impl Default for StatusKeys {
    fn default() -> Self {
        Self {
            enabled: true,
            title: "Status".to_owned(),
            contact: String::new(),
            url: String::new(),
            settle: Duration::from_secs(60),
        }
    }
}

/// The table `traces`.
#[derive(Clone, Debug)]
pub(super) struct TraceKeys {
    pub(super) endpoint: String,
    pub(super) one_in: u32,
    pub(super) timeout: Duration,
    pub(super) headers_file: String,
}

impl Default for TraceKeys {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            one_in: 100,
            timeout: Duration::from_secs(5),
            headers_file: String::new(),
        }
    }
}

/// The table `tls`.
#[derive(Clone, Debug)]
pub(super) struct TlsKeys {
    pub(super) listen: Vec<String>,
    pub(super) certificates: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) handshakes_per_turn: u32,
}

impl Default for TlsKeys {
    fn default() -> Self {
        Self { listen: Vec::new(), certificates: Vec::new(), keys: Vec::new(), handshakes_per_turn: 8 }
    }
}

/// The table `admin`.
#[derive(Clone, Debug, Default)]
pub(super) struct AdminFiles {
    pub(super) listen: Vec<String>,
    pub(super) allow_plaintext: bool,
    pub(super) socket: String,
    pub(super) public_url: String,
    pub(super) token_file: String,
    pub(super) certificates: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) client_ca: String,
    pub(super) audit_log: String,
}

/// The table `tokens`.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) secret_file: String,
    pub(super) jwks_files: Vec<String>,
    pub(super) jwks: Jwks,
    pub(super) audience: String,
    pub(super) scope: String,
    pub(super) issuers: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) end_sessions: bool,
}

/// The keys `tokens.jwks_…` of keys by URL.
#[derive(Clone, Debug)]
pub(super) struct Jwks {
    pub(super) urls: Vec<String>,
    pub(super) allow_http: bool,
    pub(super) ca_file: String,
    pub(super) cache: String,
    pub(super) refresh: Duration,
    pub(super) min_interval: Duration,
    pub(super) deadline: Duration,
}

impl Default for Jwks {
    fn default() -> Self {
        let JwksSources { refresh, min_interval, deadline, .. } = JwksSources::default();
        Self {
            urls: Vec::new(),
            allow_http: false,
            ca_file: String::new(),
            cache: String::new(),
            refresh,
            min_interval,
            deadline,
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        let Policy { audience, scope, issuers, leeway_secs, default_limits } = Policy::default();
        Self {
            region: String::new(),
            public_url: String::new(),
            listen: vec!["127.0.0.1:1234".to_owned()],
            allow_plaintext: false,
            tls: TlsKeys::default(),
            threads: 0,
            driver: "auto".to_owned(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            rings_per_thread: 1,
            trusted_proxies: Vec::new(),
            license_regions: KNOWN_DB_CODES.map(str::to_owned).to_vec(),
            regions: Vec::new(),
            log: "info".to_owned(),
            log_format: "human".to_owned(),
            tokens: Tokens {
                secret_file: String::new(),
                jwks_files: Vec::new(),
                jwks: Jwks::default(),
                audience: audience.unwrap_or_default(),
                scope: scope.unwrap_or_default(),
                issuers,
                leeway: Duration::from_secs(leeway_secs),
                end_sessions: false,
            },
            app_limits: default_limits,
            limit_addresses: true,
            address_limits: AddressLimits::default(),
            allow_dot_colon: false,
            websocket: WebSocketLimits::default(),
            compress: true,
            deflate: Deflate::default(),
            deadlines: Deadlines::default(),
            buffers: Buffers::default(),
            shedding: SheddingKeys::default(),
            cluster: ClusterKeys::default(),
            store: Store {
                path: String::new(),
                fsync: "interval".to_owned(),
                fsync_interval: Duration::from_secs(1),
                retention: Duration::ZERO,
                unclaimed: Duration::from_secs(3600),
            },
            drain: DrainTimes { leave: Duration::ZERO, window: Duration::from_secs(30) },
            dns: DnsKeys::default(),
            http: HttpLimits::default(),
            status: StatusKeys::default(),
            admin: AdminFiles { listen: vec!["127.0.0.1:9180".to_owned()], ..AdminFiles::default() },
            traces: TraceKeys::default(),
        }
    }
}
