//! The table `admin`: where the admin API is listened for, and who may ask.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinwire_tls::{Authorities, CertificateError, Certificates};

use super::draft::{AdminFiles, Draft};
use super::resolve::{addresses, is_open_to_all, secret_of};
use super::sources::{Written, read_file};
use super::tls::certificates;
use crate::admin::AdminToken;

/// Bytes of a Unix socket's path: the kernel takes 107, and it is made under a longer name first.
const SOCKET_PATH_MAX: usize = 90;

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Addresses to listen on; none without a token or certificates of clients.
    pub listen: Vec<SocketAddr>,
    /// A Unix socket to listen on.
    pub socket: Option<PathBuf>,
    /// The bearer token that callers on TCP have to send.
    pub token: Option<AdminToken>,
    /// TLS, if it is spoken.
    pub tls: Option<AdminTls>,
    /// A file for records of what operators have done.
    pub audit_log: Option<PathBuf>,
    /// Where other hosts reach it, if that is not where it is listened for: without a slash at its end.
    pub public_url: Option<String>,
}

/// The TLS of the admin listener.
#[derive(Debug, Clone)]
pub struct AdminTls {
    /// At least one.
    pub certificates: Arc<Certificates>,
    /// Who vouches for clients, if these have to show certificates.
    pub clients: Option<Authorities>,
}

/// `None`: nobody can reach it.
pub(super) fn resolve(written: &mut Written) -> Option<Admin> {
    let AdminFiles { listen, socket, audit_log, .. } = written.draft.admin.clone();
    let token = token(written);
    let tls = tls(written);
    let addresses = addresses(written, "admin.listen", &listen);
    let is_guarded = token.is_some() || tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    let has_guard = !written.draft.admin.token_file.is_empty() || !written.draft.admin.client_ca.is_empty();
    if has_guard {
        check_openness(written, &addresses, tls.is_some());
    } else if listen != Draft::default().admin.listen && !addresses.is_empty() {
        written.wrong(
            "admin.listen",
            "without admin.token_file everybody who reaches it would be an operator; make a token with \
             `openssl rand -hex 32`",
        );
    }
    if addresses.is_empty() && has_guard {
        written.doubtful(
            "admin.token_file",
            "is of no use without admin.listen: the Unix socket asks for no token",
        );
    }
    let socket = file(written, "admin.socket", &socket, true);
    if socket.as_ref().is_some_and(|socket| socket.as_os_str().len() > SOCKET_PATH_MAX) {
        let what = format!(
            "has more than {SOCKET_PATH_MAX} bytes, and the kernel takes little more; choose a shorter path"
        );
        written.wrong("admin.socket", what);
    }
    let audit_log = file(written, "admin.audit_log", &audit_log, false);
    let public_url = public_url(written);
    let listen = if is_guarded { addresses } else { Vec::new() };
    let is_reachable = !listen.is_empty() || socket.is_some();
    is_reachable.then_some(Admin { listen, socket, token, tls, audit_log, public_url })
}

/// A scheme, a host and a port, if any: consoles are told it.
fn public_url(written: &mut Written) -> Option<String> {
    let url = written.draft.admin.public_url.clone();
    if url.is_empty() {
        return None;
    }
    let base = url.strip_suffix('/').unwrap_or(&url);
    let authority = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if authority.is_some_and(|authority| !authority.is_empty() && authority.chars().all(is_host)) {
        return Some(base.to_owned());
    }
    let what = format!("`{url}` is more or less than a scheme and a host; write https://eu-1a.internal:9180");
    written.wrong("admin.public_url", what);
    None
}

/// Whoever listens to the network between must not learn the token.
fn check_openness(written: &mut Written, addresses: &[SocketAddr], is_tls: bool) {
    let open: Vec<String> =
        addresses.iter().filter(|address| !address.ip().is_loopback()).map(ToString::to_string).collect();
    if !open.is_empty() && !is_tls && !written.draft.admin.allow_plaintext {
        written.wrong(
            "admin.listen",
            format!(
                "other hosts reach {}, and without TLS operators send the token in the clear; set admin.certificates and \
                 admin.keys, listen on 127.0.0.1, or write allow_plaintext = true in [admin]",
                open.join(", ")
            ),
        );
    }
}

fn token(written: &mut Written) -> Option<AdminToken> {
    let file = written.draft.admin.token_file.clone();
    if file.is_empty() {
        return None;
    }
    if is_open_to_all(Path::new(&file)) {
        let what = format!("{file} can be read by every user of this host; chmod 600 {file}");
        written.doubtful("admin.token_file", what);
    }
    match secret_of(Path::new(&file)) {
        Ok(token) if token.iter().all(u8::is_ascii_graphic) => Some(AdminToken::new(&token)),
        Ok(_) => {
            let what = format!(
                "{file} holds something besides letters, digits and signs, which no header can carry; make a token with \
                 `openssl rand -hex 32`"
            );
            written.wrong("admin.token_file", what);
            None
        }
        Err(what) => {
            written.wrong("admin.token_file", format!("{file} {what}"));
            None
        }
    }
}

fn tls(written: &mut Written) -> Option<AdminTls> {
    let AdminFiles { certificates: chains, keys, client_ca, .. } = written.draft.admin.clone();
    if chains.is_empty() && keys.is_empty() {
        if !client_ca.is_empty() {
            let what = "needs admin.certificates and admin.keys: clients show their certificates in TLS";
            written.wrong("admin.client_ca", what);
        }
        return None;
    }
    let certificates = certificates(written, ["admin.certificates", "admin.keys"], &chains, &keys, None)?;
    let clients = authorities(written, &client_ca);
    (!certificates.is_empty()).then(|| AdminTls { certificates: Arc::new(certificates), clients })
}

fn authorities(written: &mut Written, file: &str) -> Option<Authorities> {
    if file.is_empty() {
        return None;
    }
    if let Err(what) = read_file(Path::new(file)) {
        written.wrong("admin.client_ca", format!("{file} {what}"));
        return None;
    }
    match Authorities::read(Path::new(file)) {
        Ok(authorities) => Some(authorities),
        Err(CertificateError::Chain(file, what) | CertificateError::Key(file, what)) => {
            written.wrong("admin.client_ca", format!("{file} {what}"));
            None
        }
    }
}

/// A file that the node makes itself: its directory has to be there, or what that is in where the node makes that as well.
fn file(written: &mut Written, key: &str, path: &str, makes_directory: bool) -> Option<PathBuf> {
    if path.is_empty() {
        return None;
    }
    let path = PathBuf::from(path);
    let is_missing = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.is_dir();
    let missing = path.parent().filter(is_missing);
    let missing = if makes_directory { missing.and_then(Path::parent).filter(is_missing) } else { missing };
    if missing.is_some() {
        let what = format!("{} is in no directory that there is; make it first", path.display());
        written.wrong(key, what);
    }
    Some(path)
}
