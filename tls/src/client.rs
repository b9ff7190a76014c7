//! What a client's connections are made by.

use std::sync::Arc;

use pinwire_engine::Transform;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::provider;
use crate::session::Session;

/// Whom a client believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Servers that these certificates vouch for, PEM.
    Roots(String),
    /// Whoever answers.
    Anybody,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No certificate to believe.
    #[error("holds no certificate in PEM that could vouch for a server")]
    NoRoots,
    /// Not a name or address that a certificate could be for.
    #[error("`{0}` is no name that a certificate could be for")]
    Name(String),
    /// The library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// What connections are made by: each makes a whole handshake, as a client does that was never there.
///
/// # Errors
/// Nobody to believe.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, ClientError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::Roots(pem) => {
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
            let (taken, _) = roots.add_parsable_certificates(certificates);
            if taken == 0 {
                return Err(ClientError::NoRoots);
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Anybody => {
            let algorithms = provider().signature_verification_algorithms;
            let verifier = Arc::new(Credulous(algorithms));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for clients that come back: sessions of so many names are kept, and go on by a ticket.
#[must_use]
pub fn resuming(config: &ClientConfig, names: usize) -> Arc<ClientConfig> {
    /// Tickets that the library counts for each name.
    const TICKETS: usize = 8;
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(names.saturating_mul(TICKETS));
    Arc::new(config)
}

/// The client's side of a connection to a server of this name or address. The handshake begins with the first bytes sent.
///
/// # Errors
/// Not a name that a certificate could be for.
pub fn client_session(config: Arc<ClientConfig>, host: &str) -> Result<Box<dyn Transform>, ClientError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Name(host.to_owned()))?;
    Ok(Box::new(Session::new(UnbufferedClientConnection::new(config, name)?)))
}

/// Believes every certificate, for tests of servers whose certificate is nobody's business. Signatures are checked all the
/// same: they are part of what a handshake costs.
#[derive(Debug)]
struct Credulous(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
