//! A certificate of `localhost`, made for the occasion.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

/// What the certificate is signed with, and its server signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA over P-256.
    P256,
    /// RSA, 2048 bits.
    Rsa2048,
}

/// Writes a certificate and its key into a folder; returns where.
///
/// # Errors
/// They cannot be made or written.
pub fn certify(key: Key, folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let pair = match key {
        Key::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        Key::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    };
    let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&pair)?;
    let (chain, private) = (folder.join(format!("{key:?}.crt")), folder.join(format!("{key:?}.key")));
    std::fs::write(&chain, certificate.pem())?;
    std::fs::write(&private, pair.serialize_pem())?;
    Ok((chain, private))
}
