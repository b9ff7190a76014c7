//! What a server's connections are made by.
//!
//! Sessions are resumed by tickets alone, so that nothing is kept of a connection that ended, and a herd that comes back pays
//! no signature.

use std::sync::Arc;

use pinwire_engine::Transform;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets, UnbufferedServerConnection};

use crate::session::Session;
use crate::{Authorities, Certificates, provider};

/// WebSockets are upgraded from HTTP/1.1; a client that speaks nothing else is told so in the handshake.
const ALPN: &[u8] = b"http/1.1";

/// The keys that tickets are sealed with; they last twelve hours.
///
/// # Errors
/// The system gives no random numbers.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// What connections are made by; with `clients`, those who connect show certificates too. With the same `ticketer`, tickets survive a change of certificates.
///
/// # Errors
/// The library does not take its own defaults.
pub fn server_config(
    certificates: &Arc<Certificates>,
    ticketer: &Arc<dyn ProducesTickets>,
    clients: Option<&Authorities>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(authorities) => builder.with_client_cert_verifier(authorities.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::<Certificates>::clone(certificates));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(ticketer);
    // One is what a client needs to come back.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The server's side of a connection of which nothing was read yet.
///
/// # Errors
/// The library refuses the configuration.
pub fn server_session(config: Arc<ServerConfig>) -> Result<Box<dyn Transform>, rustls::Error> {
    Ok(Box::new(Session::new(UnbufferedServerConnection::new(config)?)))
}
