//! Clients that show a certificate of their own: who vouches for them, and what they are called.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::files::read_certificates;
use crate::{CertificateError, provider};

/// Whose word is taken for clients. A client without a certificate that one of them signed does not get through the
/// handshake.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// Those whose certificates a PEM file holds.
    ///
    /// # Errors
    /// What is wrong with the file, by its name.
    pub fn read(file: &Path) -> Result<Self, CertificateError> {
        let wrong = |what: String| CertificateError::Chain(file.display().to_string(), what);
        let bytes = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let certificates = read_certificates(&bytes, &file.display()).map_err(wrong)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            let added = roots.add(certificate);
            added.map_err(|error| wrong(format!("holds a certificate that cannot be used: {error}")))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier =
            verifier.map_err(|_| wrong("holds no certificate that could vouch for a client".to_owned()))?;
        Ok(Self(verifier))
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0)
    }
}

/// The first name that a certificate is for, if it is for any (RFC 5280 4.2.1.6).
#[must_use]
pub fn first_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    parsed.valid_dns_names().next().map(str::to_owned)
}
