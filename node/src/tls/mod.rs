//! TLS: certificates from files, chosen by the name that clients ask for, and the transform of one connection.
//!
//! Sessions are resumed by tickets alone, so that nothing is kept of a connection that ended, and a herd that comes back pays
//! no signature. Keys of tickets last twelve hours and survive a reload of certificates.

mod certificates;
mod session;

pub use certificates::{CertificateError, Certificates};
pub(crate) use session::Session;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets};

/// WebSockets are upgraded from HTTP/1.1; a client that speaks nothing else is told so in the handshake.
const ALPN: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The keys that tickets are sealed with.
///
/// # Errors
/// The system gives no random numbers.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// What connections are made by.
///
/// # Errors
/// The library does not take its own defaults.
pub(crate) fn server_config(
    certificates: &Arc<Certificates>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Certificates>::clone(certificates));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(ticketer);
    // One is what a client needs to come back.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
