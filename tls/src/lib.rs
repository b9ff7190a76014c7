//! TLS between a socket and its owner: a [`Transform`](pinwire_engine::Transform) of the engine, in both roles.
//!
//! | module | concern |
//! | --- | --- |
//! | `session` | one connection |
//! | `server`, `certificates` | what servers are made by: certificates from files, chosen by the name that clients ask for |
//! | `authorities` | clients that show certificates |
//! | `client` | what clients are made by |

mod authorities;
mod certificates;
mod client;
mod server;
mod session;

pub use authorities::{Authorities, first_name};
pub use certificates::{CertificateError, Certificates};
pub use client::{ClientError, Trust, client_config, client_session};
pub use rustls::server::ProducesTickets;
pub use rustls::{ClientConfig, Error, ServerConfig};
pub use server::{server_config, server_session, ticketer};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
