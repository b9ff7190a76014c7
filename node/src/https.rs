//! The client that the node asks other servers with, in HTTP or HTTPS: identity providers, collectors of traces, other regions.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// What servers are told who asks.
pub(crate) const USER_AGENT: &str = concat!("pinwire-node/", env!("CARGO_PKG_VERSION"));

/// A client whose requests have bodies of this kind.
pub(crate) type Client<B> = HttpClient<HttpsConnector<HttpConnector>, B>;

/// Makes a client that trusts the authorities that the system trusts, and these. It keeps so many idle connections a host, and
/// looks for no proxy. `needs_trust` says which setting names a server that only an authority can vouch for, if one does.
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
    let mut roots = RootCertStore::empty();
    if needs_trust.is_some() {
        let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let (_, _) = roots.add_parsable_certificates(authorities.iter().cloned());
    if let Some(setting) = needs_trust.filter(|_| roots.is_empty()) {
        return Err(io::Error::other(format!(
            "this host trusts no certificate authority, and {setting} needs one; install ca-certificates, or name one in the \
             configuration"
        )));
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(idle_per_host).build(connector))
}

/// A header that is a text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error with all that caused it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}
