//! Certificates and their keys, as files hold them.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::files::{read_chain, read_key};
use crate::provider;

/// The certificates of a node. A client gets the first that is for the name it asks for, else the first of all.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<Certificate>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    /// The file that it stands in.
    pub file: String,
    /// What it is for, as it says: names of hosts and addresses.
    pub names: Vec<String>,
    /// From when on it is good, Unix time.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Certificate {
    /// Whether it is for this name or address.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        let certificate = self.certified.end_entity_cert().ok();
        let parsed = certificate.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        parsed.is_some_and(|parsed| parsed.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// What it is called: the first of its names, else its file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.file)
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file with certificates.
    #[error("{0} {1}")]
    Chain(String, String),
    /// A file with a key.
    #[error("{0} {1}")]
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
        let read = |path| std::fs::read(path).map_err(|error| format!("cannot be read: {error}"));
        let read_chain = read_chain(&read(chain).map_err(of_chain)?, &chain.display()).map_err(of_chain)?;
        let private = read_key(&read(key).map_err(of_key)?, &key.display()).map_err(of_key)?;
        let signing = provider().key_provider.load_private_key(private);
        let signing = signing.map_err(|error| of_key(format!("holds a key that cannot be used: {error}")))?;
        let certified = CertifiedKey::new(read_chain.certificates, signing);
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
        self.0.push(Certificate {
            certified: Arc::new(certified),
            file: chain.display().to_string(),
            names: read_chain.names,
            not_before: read_chain.not_before,
            not_after: read_chain.not_after,
        });
        Ok(())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().filter(|_| self.0.len() > 1);
        let named = asked.and_then(|name| self.0.iter().find(|certificate| certificate.is_for(name)));
        named.or_else(|| self.0.first()).map(|certificate| Arc::clone(&certificate.certified))
    }
}
