//! Certificates and their keys, as files hold them.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::provider;

/// The certificates of a node. A client gets the first that is for the name it asks for, else the first of all.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<Arc<CertifiedKey>>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file with certificates.
    #[error("{0}: {1}")]
    Chain(String, String),
    /// A file with a key.
    #[error("{0}: {1}")]
    Key(String, String),
}

impl Certificates {
    /// Reads a chain (the certificate of the node first) and its private key, both PEM, and takes them in.
    ///
    /// # Errors
    /// What is wrong with one of the files, by its name.
    pub fn add(&mut self, chain: &Path, key: &Path) -> Result<(), CertificateError> {
        let of_chain = |what: String| CertificateError::Chain(chain.display().to_string(), what);
        let of_key = |what: String| CertificateError::Key(key.display().to_string(), what);
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|error| of_chain(in_words(&error, "certificate")))?;
        if certificates.is_empty() {
            return Err(of_chain(
                "holds no certificate; a PEM file with BEGIN CERTIFICATE is wanted".to_owned(),
            ));
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| of_key(in_words(&error, "private key")))?;
        let signing = provider().key_provider.load_private_key(private);
        let signing = signing.map_err(|error| of_key(format!("holds a key that cannot be used: {error}")))?;
        let certified = CertifiedKey::new(certificates, signing);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                return Err(of_key(format!(
                    "is not the key of the first certificate in {}",
                    chain.display()
                )));
            }
            Err(rustls::Error::InvalidCertificate(error)) => {
                return Err(of_chain(format!("holds a certificate that cannot be used: {error}")));
            }
            // A key that does not tell its public half is believed.
            Ok(()) | Err(_) => {}
        }
        self.0.push(Arc::new(certified));
        Ok(())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn for_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = ServerName::try_from(name).ok()?;
        self.0.iter().find(|certified| {
            let certificate = certified.end_entity_cert().ok();
            let parsed = certificate.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
            parsed.is_some_and(|parsed| parsed.verify_is_valid_for_subject_name(&name).is_ok())
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named =
            if self.0.len() > 1 { hello.server_name().and_then(|name| self.for_name(name)) } else { None };
        named.or_else(|| self.0.first()).cloned()
    }
}

pub(crate) fn in_words(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("holds no {wanted} in PEM"),
        other => format!("is no good PEM file: {other}"),
    }
}
