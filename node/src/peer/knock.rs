//! A link that is tried, for tools: both ends prove themselves, and then it is closed.

use std::io;

use pinwire_peer::{Handshake, Secret};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::{PATIENCE, Tls, Unreachable, host_of, prove, random_nonce};
use crate::config::Peer;

/// Tries a link to the node of this name. Nobody goes by the name that it is told, so that no link of a node is cut for it.
pub(crate) async fn knock(config: &Peer, name: &str, address: &str) -> Result<(), String> {
    match timeout(PATIENCE, link(config, name, address)).await {
        Err(_) => Err(Unreachable::Late.to_string()),
        Ok(Ok(())) => Ok(()),
        // A listener that is shown a wrong proof says nothing more.
        Ok(Err(Unreachable::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("it closed the connection: another secret, or one end speaks TLS and the other does not"
                .to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
    }
}

async fn link(config: &Peer, name: &str, address: &str) -> Result<(), Unreachable> {
    let secret = Secret::new(config.secret.bytes())
        .ok_or_else(|| io::Error::other("the secret of the links between nodes is too short"))?;
    let tls = Tls::new(config)?;
    let mut stream = TcpStream::connect(address).await?;
    let nonce = random_nonce()?;
    let me = format!("doctor/{:02x}{:02x}{:02x}{:02x}", nonce[0], nonce[1], nonce[2], nonce[3]);
    let (handshake, hello) = Handshake::dial(secret, &me, name, random_nonce()?);
    match tls.connector() {
        None => prove(&mut stream, handshake, &hello).await?,
        Some(connector) => {
            let host = host_of(address);
            let server = ServerName::try_from(host.to_owned());
            let server = server.map_err(|_| Unreachable::Name(host.to_owned()))?;
            let mut stream = connector.connect(server, stream).await?;
            prove(&mut stream, handshake, &hello).await?
        }
    };
    Ok(())
}
