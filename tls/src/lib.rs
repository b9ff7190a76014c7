//! TLS between a socket and its owner: a [`Transform`](pinwire_engine::Transform) of the engine, in both roles.
//!
//! | module | concern |
//! | --- | --- |
//! | `session` | one connection |
//! | `server`, `certificates` | what servers are made by: certificates from files, chosen by the name that clients ask for |
//! | `authorities` | clients that show certificates |
//! | `files` | what PEM files hold, and what is wrong with them |
//! | `client` | what clients are made by |
//! | `failure` | why peers' bytes are refused, in words for metrics |

mod authorities;
mod certificates;
mod client;
mod failure;
mod files;
mod server;
mod session;

pub use authorities::{Authorities, first_name};
pub use certificates::{Certificate, CertificateError, Certificates};
pub use client::{ClientError, Trust, client_config, client_session, resuming};
pub use failure::REFUSALS;
pub use rustls::server::ProducesTickets;
pub use rustls::{ClientConfig, Error, ServerConfig};
pub use server::{server_config, server_session, ticketer};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
