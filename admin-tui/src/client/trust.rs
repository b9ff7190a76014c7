//! Certificates: whom to believe, and one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Authorities to believe instead of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate of one's own, for mutual TLS, and those above it.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct Trust(pub(crate) Arc<ClientConfig>);

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read or has not what it should have; the text names it.
    pub fn read(files: &TrustFiles) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        match &files.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .with_context(|| format!("{}: no certificate of an authority", path.display()))?;
                }
            }
            // Those that cannot be used are none that anybody needs; without any, connections say so.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("{}: no private key in PEM", key.display()))?;
                config.with_client_auth_cert(certificates(certificate)?, private).with_context(|| {
                    format!("{} and {} do not belong together", certificate.display(), key.display())
                })?
            }
            (None, None) => config.with_no_client_auth(),
            _ => anyhow::bail!("a client certificate needs both `certificate` and `key`"),
        };
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found =
        read().with_context(|| format!("{}: cannot be read as certificates in PEM", path.display()))?;
    ensure!(!found.is_empty(), "{}: there is no certificate in it", path.display());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_what_it_should_have_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let error = Trust::read(&TrustFiles { ca: Some(path), ..TrustFiles::default() }).unwrap_err();
        assert!(format!("{error:#}").contains("ca.pem"), "{error:#}");
        let half = TrustFiles { key: Some("a.key".into()), ..TrustFiles::default() };
        assert!(Trust::read(&half).unwrap_err().to_string().contains("both"));
    }
}
