//! Whom clients believe that speak TLS.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use pinwire_tls::{ClientConfig, client_config};

use crate::scenario::{Auth, Trust};

/// Where hosts keep the certificates that they believe.
const OF_THE_HOST: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What connections are made by.
///
/// # Errors
/// No certificates to believe.
pub(crate) fn client(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let trust = match trust {
        Trust::Anybody => pinwire_tls::Trust::Anybody,
        Trust::Roots(file) => pinwire_tls::Trust::Roots(read_roots(file)?),
        Trust::Host => {
            let Some(pem) = OF_THE_HOST.iter().find_map(|file| std::fs::read_to_string(file).ok()) else {
                bail!(
                    "this host has no certificates that could vouch for a server; give --ca FILE or --insecure"
                );
            };
            pinwire_tls::Trust::Roots(pem)
        }
    };
    client_config(&trust).context("the certificates that vouch for servers (--ca)")
}

/// The text of a PEM file, or what is PEM itself.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_roots(file: &str) -> Result<String> {
    if Auth::is_pem(file) {
        return Ok(file.to_owned());
    }
    std::fs::read_to_string(file).with_context(|| format!("the certificates in {file}"))
}
