//! The client that nodes ask other servers with, in HTTP or HTTPS: identity providers, collectors of traces, other regions, services of
//! DNS.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// A client whose requests have bodies of this kind.
pub type Client<B> = HttpClient<HttpsConnector<HttpConnector>, B>;

/// Who vouches for servers that are asked in HTTPS.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// These authorities: with none of them, servers are asked in HTTP alone.
    Only(&'a [CertificateDer<'static>]),
    /// Those that the system trusts, and these.
    System(&'a [CertificateDer<'static>]),
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The system has none, and none was given.
    #[error("this host trusts no certificate authority")]
    NoAuthority,
    /// The library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Makes a client. It keeps so many idle connections a host, and looks for no proxy.
///
/// # Errors
/// There is no authority where the system's are asked for.
pub fn client<B>(trust: Trust<'_>, idle_per_host: usize) -> Result<Client<B>, NoClient>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut roots = RootCertStore::empty();
    let (Trust::Only(authorities) | Trust::System(authorities)) = trust;
    let (_, _) = roots.add_parsable_certificates(authorities.iter().cloned());
    if matches!(trust, Trust::System(_)) {
        let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(NoClient::NoAuthority);
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
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

/// An error with all that caused it.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Fault(&'static str, #[source] Option<Box<Fault>>);

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let refused = Fault("connection refused", None);
        let connect = Fault("cannot connect: connection refused", Some(Box::new(refused)));
        let whole = Fault("no answer", Some(Box::new(connect)));
        assert_eq!(chain(&whole), "no answer: cannot connect: connection refused");
    }
}
