//! From what is written to what a node runs with: addresses are parsed, key files read, values checked against each other.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pinwire_protocol::document::name::NameRules;
use pinwire_store::Fsync;
use pinwire_token::{Jwks, Key, KeySet, Policy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::draft::{Store, TraceKeys};
use super::sources::{Problem, Sources, Written, read_file};
use super::tls::tls;
use super::{Advertised, Change, Config, Driver, Region, RegionEntry, Resolved, Traces};
use super::{admin, cluster, dns, shedding, status};
use crate::jwks::{JwksSources, check_url, shown};
use crate::log::{self, LogFormat};
use crate::store::{FileStoreConfig, StoreConfig};

/// Below this a shared secret can be guessed by trying.
const SECRET_BYTES_MIN: usize = 32;
/// Stock clients close after so many seconds without a data frame.
const STOCK_PATIENCE_SECS: u64 = 30;

impl Sources {
    /// Reads everything and checks it.
    ///
    /// # Errors
    /// Everything that keeps a node from starting with this.
    pub fn resolve(&self) -> Result<Resolved, Vec<Problem>> {
        finish(self.read())
    }

    /// Reads everything again for a node that runs: what it can take over, the rest as it is; and all that differs.
    ///
    /// # Errors
    /// Everything that would keep a node from starting with this.
    pub fn resolve_again(&self, running: &Resolved) -> Result<(Resolved, Vec<Change>), Vec<Problem>> {
        let mut written = self.read();
        let changes = finish(written.clone())?.changes(running);
        written.keep_what_needs_a_restart(&running.written);
        Ok((finish(written)?, changes))
    }
}

fn finish(mut written: Written) -> Result<Resolved, Vec<Problem>> {
    if written.is_unreadable {
        return Err(written.problems);
    }
    let config = config(&mut written);
    let log_format = match written.draft.log_format.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Human,
    };
    check_together(&mut written);
    check_addresses(&mut written);
    if !written.problems.is_empty() {
        return Err(written.problems);
    }
    let log = written.draft.log.clone();
    Ok(Resolved { config, log, log_format, warnings: std::mem::take(&mut written.warnings), written })
}

fn config(written: &mut Written) -> Config {
    let admin = admin::resolve(written);
    let cluster = cluster::resolve(written);
    let regions = cluster::regions(written);
    let dns = dns::resolve(written);
    let drain = dns::drain(written, dns.as_ref());
    let draft = written.draft.clone();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Config {
        region: Region {
            name: draft.region.clone(),
            advertised: advertised(written, &regions),
            is_tls: !draft.tls.listen.is_empty(),
        },
        cluster,
        regions,
        listen: listen(written),
        tls: tls(written),
        threads: if draft.threads == 0 { cores() } else { draft.threads as usize },
        driver: match draft.driver.as_str() {
            "uring" => Driver::Uring,
            "epoll" => Driver::Epoll,
            _ => Driver::Auto,
        },
        keys: keys(written),
        jwks: jwks(written),
        end_sessions: draft.tokens.end_sessions,
        policy: Policy {
            audience: Some(draft.tokens.audience).filter(|audience| !audience.is_empty()),
            scope: Some(draft.tokens.scope).filter(|scope| !scope.is_empty()),
            issuers: draft.tokens.issuers,
            leeway_secs: draft.tokens.leeway.as_secs(),
            default_limits: draft.app_limits,
        },
        known_db_codes: draft.license_regions,
        names: NameRules { allow_dot_colon: draft.allow_dot_colon },
        trusted_proxies: trusted_proxies(written),
        address_limits: draft.limit_addresses.then_some(draft.address_limits),
        max_connections: draft.max_connections,
        shedding: shedding::resolve(written),
        rings_per_thread: draft.rings_per_thread,
        websocket: draft.websocket,
        deadlines: draft.deadlines,
        buffers: draft.buffers,
        deflate: draft.compress.then_some(draft.deflate),
        store: store(written),
        dns,
        drain,
        http: draft.http,
        page: None,
        status: status::resolve(written),
        admin,
        traces: traces(written),
    }
}

fn store(written: &mut Written) -> StoreConfig {
    let Store { path, fsync, fsync_interval, retention, unclaimed } = written.draft.store.clone();
    if path.is_empty() {
        for (name, is_set) in
            [("store.retention", !retention.is_zero()), ("store.fsync", fsync != "interval")]
        {
            if is_set {
                written.wrong(name, "is of no use without store.path");
            }
        }
        return StoreConfig::Memory;
    }
    let folder = PathBuf::from(path);
    if folder.exists() && !folder.is_dir() {
        written.wrong("store.path", format!("{} is a file; name a folder", folder.display()));
    }
    let fsync = match fsync.as_str() {
        "always" => Fsync::Always,
        "never" => Fsync::Never,
        _ => Fsync::Interval(fsync_interval),
    };
    StoreConfig::File(FileStoreConfig { fsync, retention, unclaimed, ..FileStoreConfig::new(folder) })
}

fn listen(written: &mut Written) -> Vec<SocketAddr> {
    let is_empty = written.draft.listen.is_empty() && written.draft.tls.listen.is_empty();
    if is_empty && !written.is_wrong(&["listen", "tls.listen"]) {
        written.wrong("listen", "names no address; write listen = [\"127.0.0.1:1234\"]");
    }
    let texts = written.draft.listen.clone();
    let addresses = addresses(written, "listen", &texts);
    let open: Vec<String> =
        addresses.iter().filter(|address| !address.ip().is_loopback()).map(ToString::to_string).collect();
    if !open.is_empty() && !written.draft.allow_plaintext && !written.is_wrong(&["allow_plaintext"]) {
        written.wrong(
            "listen",
            format!(
                "other hosts reach {}, and without TLS they send tokens in the clear; write tls.listen instead, listen on \
                 127.0.0.1 behind a proxy that does TLS, or write allow_plaintext = true",
                open.join(", ")
            ),
        );
    }
    addresses
}

pub(super) fn addresses(written: &mut Written, key: &str, texts: &[String]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<SocketAddr>() {
            Ok(address) if addresses.contains(&address) && address.port() != 0 => {
                written.wrong(key, format!("names {address} twice"));
            }
            Ok(address) => addresses.push(address),
            Err(_) => written.wrong(
                key,
                format!(
                    "`{text}` is no address with a port; write 127.0.0.1:1234, or [::]:443 for tls.listen"
                ),
            ),
        }
    }
    addresses
}

fn advertised(written: &mut Written, regions: &[RegionEntry]) -> Option<Advertised> {
    let (own, url) = (&written.draft.region, written.draft.public_url.clone());
    if url.is_empty() {
        let entry = regions.iter().find(|region| region.name == *own)?;
        return authority_of(&entry.url).ok();
    }
    authority_of(&url).map_err(|what| written.wrong("public_url", what)).ok()
}

/// The host in the base of WebSocket URLs, or what is wrong with that.
pub(super) fn authority_of(url: &str) -> Result<Advertised, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.trim_end_matches('/');
    let tls = match scheme {
        "wss" => true,
        "ws" => false,
        "https" | "http" => {
            return Err(format!("`{url}` is for WebSockets; write {}", url.replacen("http", "ws", 1)));
        }
        _ => return Err(format!("`{url}` does not begin with wss:// or ws://")),
    };
    let is_host = !authority.is_empty()
        && authority.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
    if !is_host {
        return Err(format!(
            "`{url}` is more or less than a scheme and a host; write wss://eu-central-1.example.net"
        ));
    }
    Ok(Advertised { authority: authority.to_owned(), tls })
}

fn traces(written: &mut Written) -> Option<Traces> {
    let TraceKeys { endpoint, one_in, timeout, headers_file } = written.draft.traces.clone();
    let mut headers = Vec::new();
    if !headers_file.is_empty() {
        let text =
            read_file(Path::new(&headers_file)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match text.and_then(|text| Traces::parse_headers(&text)) {
            Ok(read) => headers = read,
            Err(what) => written.wrong("traces.headers_file", format!("{headers_file} {what}")),
        }
        if is_open_to_all(Path::new(&headers_file)) {
            let what =
                format!("{headers_file} can be read by every user of this host; chmod 600 {headers_file}");
            written.doubtful("traces.headers_file", what);
        }
        if endpoint.is_empty() && !written.is_wrong(&["traces.endpoint"]) {
            written.doubtful("traces.headers_file", "is of no use without traces.endpoint");
        }
    }
    if endpoint.is_empty() {
        return None;
    }
    match Traces::parse_endpoint(&endpoint) {
        Ok(endpoint) => Some(Traces { endpoint, one_in, timeout, headers }),
        Err(what) => {
            written.wrong("traces.endpoint", what);
            None
        }
    }
}

fn trusted_proxies(written: &mut Written) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in written.draft.trusted_proxies.clone() {
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => written.wrong(
                "trusted_proxies",
                format!("`{text}` is no address or network; write 10.0.0.7 or 10.0.0.0/8"),
            ),
        }
    }
    networks
}

fn keys(written: &mut Written) -> KeySet {
    let mut keys = KeySet::new();
    let (secret_file, jwks_files) =
        (written.draft.tokens.secret_file.clone(), written.draft.tokens.jwks_files.clone());
    let has_none =
        secret_file.is_empty() && jwks_files.is_empty() && written.draft.tokens.jwks.urls.is_empty();
    if has_none && !written.is_wrong(&["tokens.secret_file", "tokens.jwks_files", "tokens.jwks_urls"]) {
        written.wrong(
            "tokens.secret_file",
            "no key to check tokens with; set this, tokens.jwks_files or tokens.jwks_urls (`pinwire-node config init` makes a \
             secret)",
        );
    }
    if !secret_file.is_empty() {
        match secret_of(Path::new(&secret_file)) {
            Ok(secret) => match Key::from_secret(&secret) {
                Ok(key) => keys.add(key),
                Err(error) => written.wrong("tokens.secret_file", format!("{secret_file}: {error}")),
            },
            Err(what) => written.wrong("tokens.secret_file", format!("{secret_file} {what}")),
        }
        if is_open_to_all(Path::new(&secret_file)) {
            let what =
                format!("{secret_file} can be read by every user of this host; chmod 600 {secret_file}");
            written.doubtful("tokens.secret_file", what);
        }
    }
    for file in jwks_files {
        let jwks = read_file(Path::new(&file));
        match jwks.and_then(|json| Jwks::parse(&json).map_err(|error| format!("is no usable JWKS: {error}")))
        {
            Ok(jwks) => {
                for skipped in &jwks.skipped {
                    let what = format!("{file}: key {} is not used: {}", skipped.index, skipped.why);
                    written.doubtful("tokens.jwks_files", what);
                }
                jwks.keys.into_iter().for_each(|key| keys.add(key));
            }
            Err(what) => written.wrong("tokens.jwks_files", format!("{file} {what}")),
        }
    }
    keys
}

fn jwks(written: &mut Written) -> JwksSources {
    let draft = written.draft.tokens.jwks.clone();
    let mut urls = Vec::new();
    for text in &draft.urls {
        match check_url(text, draft.allow_http) {
            Ok(url) if urls.contains(&url) => {
                written.wrong("tokens.jwks_urls", format!("names {} twice", shown(&url)));
            }
            Ok(url) => urls.push(url),
            // What may be a password in it is not repeated.
            Err(what) if text.contains('@') => written.wrong("tokens.jwks_urls", format!("one {what}")),
            Err(what) => written.wrong("tokens.jwks_urls", format!("`{text}` {what}")),
        }
    }
    if draft.urls.is_empty() {
        for (key, is_set) in [
            ("tokens.jwks_cache", !draft.cache.is_empty()),
            ("tokens.jwks_ca_file", !draft.ca_file.is_empty()),
        ] {
            if is_set {
                written.doubtful(key, "is of no use without tokens.jwks_urls");
            }
        }
    }
    if draft.min_interval > draft.refresh {
        written.wrong("tokens.jwks_min_interval", "is more than tokens.jwks_refresh");
    }
    let cache = Some(draft.cache).filter(|file| !file.is_empty()).map(PathBuf::from);
    if let Some(file) = &cache {
        let directory =
            file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.is_dir() {
            written
                .wrong("tokens.jwks_cache", format!("{} is a directory; name a file in it", file.display()));
        } else if !directory.is_dir() {
            let what = format!(
                "{} is no directory; make it, and let it belong to the node's user",
                directory.display()
            );
            written.wrong("tokens.jwks_cache", what);
        }
    }
    JwksSources {
        urls,
        allow_http: draft.allow_http,
        authorities: authorities(written, "tokens.jwks_ca_file", &draft.ca_file),
        cache,
        refresh: draft.refresh,
        min_interval: draft.min_interval,
        deadline: draft.deadline,
    }
}

/// The certificates of a PEM file.
pub(super) fn authorities(written: &mut Written, key: &str, file: &str) -> Vec<CertificateDer<'static>> {
    if file.is_empty() {
        return Vec::new();
    }
    let read = read_file(Path::new(file)).and_then(|pem| {
        let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        all.map_err(|error| format!("is no PEM file of certificates: {error}"))
    });
    match read {
        Ok(certificates) if certificates.is_empty() => {
            written.wrong(key, format!("{file} holds no certificate (`-----BEGIN CERTIFICATE-----`)"));
            Vec::new()
        }
        Ok(certificates) => certificates,
        Err(what) => {
            written.wrong(key, format!("{file} {what}"));
            Vec::new()
        }
    }
}

/// A shared secret without the line end that editors leave.
/// The secret that a file holds.
///
/// # Errors
/// What is wrong with the file, to be read after its name.
pub fn secret_of(file: &Path) -> Result<Vec<u8>, String> {
    let mut secret = read_file(file)?;
    while secret.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "holds a secret of {} bytes, which can be guessed; make one of {SECRET_BYTES_MIN} or more with `openssl rand -hex 32`",
            secret.len()
        ));
    }
    Ok(secret)
}

pub(super) fn is_open_to_all(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// One address can be listened on once.
fn check_addresses(written: &mut Written) {
    let plain = written.draft.listen.clone();
    let both = written.draft.tls.listen.clone().into_iter().filter(|address| plain.contains(address));
    for address in both.filter(|address| !address.ends_with(":0")).collect::<Vec<_>>() {
        written.wrong("tls.listen", format!("names {address}, which `listen` names too"));
    }
}

/// What values say to each other. One that could not be taken says nothing: its default is not what was meant.
fn check_together(written: &mut Written) {
    let draft = written.draft.clone();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if written.is_wrong(&["region"]) {
        // What is wrong was said.
    } else if draft.region.is_empty() {
        written.wrong("region", "has to be set; write region = \"eu-central-1\"");
    } else if !draft.region.chars().all(is_name) {
        let what = format!("`{}` has something besides small letters, digits and -", draft.region);
        written.wrong("region", what);
    }
    if let Err(what) = log::check(&draft.log) {
        written.wrong("log", what);
    }
    if draft.tokens.leeway.subsec_nanos() != 0 {
        written.wrong("tokens.leeway", "has to be whole seconds");
    }
    let codes: HashSet<&String> = draft.license_regions.iter().collect();
    if codes.len() < draft.license_regions.len() {
        written.wrong("license_regions", "names one twice");
    }
    let (message, frame) = ("websocket.max_message", "websocket.max_frame");
    let (connection, thread) = ("buffers.outbound_per_connection", "buffers.outbound_per_thread");
    if draft.websocket.max_frame_bytes > draft.websocket.max_message_bytes
        && !written.is_wrong(&[message, frame])
    {
        written.wrong(frame, "is more than websocket.max_message, of which a frame is a part");
    }
    // A frame's head is up to 14 bytes.
    if draft.buffers.outbound_per_connection <= draft.websocket.max_message_bytes + 14
        && !written.is_wrong(&[connection, message])
    {
        written.wrong(
            connection,
            "has no room for one message of websocket.max_message; make it larger than that",
        );
    }
    if draft.buffers.outbound_per_thread < draft.buffers.outbound_per_connection
        && !written.is_wrong(&[thread, connection])
    {
        written.wrong(thread, "is less than buffers.outbound_per_connection");
    }
    if draft.deadlines.idle_frame.as_secs() >= STOCK_PATIENCE_SECS {
        written.doubtful(
            "deadlines.idle_frame",
            "is 30 s or more: y-websocket and Hocuspocus clients close idle connections before that",
        );
    }
    let all = draft.tls.listen.iter().chain(&draft.listen);
    let is_said = written.is_wrong(&["public_url", "listen", "tls.listen"]);
    if draft.public_url.is_empty() && !is_said && !all.clone().all(|address| is_loopback(address)) {
        written.doubtful("public_url", "is not set: clients are sent to the address that is listened on");
    }
}

fn is_loopback(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}
