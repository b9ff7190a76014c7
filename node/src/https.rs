//! The client that the node asks other servers with, and which setting is short of an authority.

use std::io;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use pinwire_https::{NoClient, Trust};
use rustls::pki_types::CertificateDer;

pub(crate) use pinwire_https::{Client, chain};

/// What servers are told who asks.
pub(crate) const USER_AGENT: &str = concat!("pinwire-node/", env!("CARGO_PKG_VERSION"));

/// Makes a client that trusts the authorities that the system trusts, and these. It keeps so many idle connections a host.
/// `needs_trust` says which setting names a server that only an authority can vouch for, if one does.
///
/// # Errors
/// There are no authorities, and one is needed.
pub(crate) fn client<B>(
    authorities: &[CertificateDer<'static>],
    needs_trust: Option<&str>,
    idle_per_host: usize,
) -> io::Result<Client<B>>
where
    B: HttpBody + Send,
    B::Data: Send,
{
    let trust = if needs_trust.is_some() { Trust::System(authorities) } else { Trust::Only(authorities) };
    pinwire_https::client(trust, idle_per_host).map_err(|error| match (error, needs_trust) {
        (NoClient::NoAuthority, Some(setting)) => io::Error::other(format!(
            "this host trusts no certificate authority, and {setting} needs one; install ca-certificates, or name one in the \
             configuration"
        )),
        (error, _) => io::Error::other(error),
    })
}

/// A header that is a text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
