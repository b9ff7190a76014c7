//! How links come to be: TCP, TLS where certificates are configured, proofs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pinwire_peer::{Handshake, HandshakeError, HomeEnd, OwnerEnd};
use pinwire_registry::NodeView;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::hub::{End, Hub};
use super::link;
use crate::config::Peer;

/// How long a link may take to stand.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The first wait after a node could not be reached; each next is twice as long, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Connections of others that have not proved themselves yet; more wait in the kernel.
const STRANGERS_MAX: usize = 64;
/// How long after `accept` failed it is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Nodes that are remembered: of more, those that nothing is known of any more are forgotten.
const KNOWN_MAX: usize = 1_024;

/// What is known of a node that was dialled.
#[derive(Debug)]
pub(super) enum Known {
    /// A link to it, which may have ended.
    Linked(u16),
    /// It is being dialled.
    Dialling(Rc<Notify>),
    /// It could not be reached: not before this it is tried again, and the wait after that.
    Away(Instant, Duration),
}

/// Why a node is not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("it could not be reached a moment ago")]
    Away,
    #[error("it took longer than {PATIENCE:?}")]
    Late,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Denied(#[from] HandshakeError),
    #[error("`{0}` is no name that a certificate could be for")]
    Name(String),
}

/// What links are sealed with; nothing without certificates.
pub(super) struct Tls(Option<(TlsAcceptor, TlsConnector)>);

impl Tls {
    pub(super) fn new(config: &Peer) -> io::Result<Self> {
        let Some(certificates) = &config.certificates else { return Ok(Self(None)) };
        let ticketer = pinwire_tls::ticketer().map_err(io::Error::other)?;
        let server: Arc<ServerConfig> =
            pinwire_tls::server_config(certificates, &ticketer, None).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        // With authorities of their own, nodes believe no other.
        if config.authorities.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for authority in &config.authorities {
            roots.add(authority.clone()).map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = client;
        // The server asks for what WebSocket clients ask for.
        client.alpn_protocols.clone_from(&server.alpn_protocols);
        Ok(Self(Some((TlsAcceptor::from(server), TlsConnector::from(Arc::new(client))))))
    }

    /// What a dialler seals with.
    pub(super) fn connector(&self) -> Option<&TlsConnector> {
        self.0.as_ref().map(|(_, connector)| connector)
    }
}

/// The link to a node: the one that stands, or a new one.
///
/// To be awaited to its end: others may wait for the same dial.
pub(super) async fn link_to(hub: &Rc<Hub>, node: &NodeView) -> Result<u16, Unreachable> {
    let name = format!("{}/{}", node.node.region, node.node.name);
    loop {
        let wait = match hub.peers.borrow().get(&name) {
            Some(&Known::Linked(number)) if hub.has(number) => return Ok(number),
            Some(Known::Away(until, _)) if Instant::now() < *until => return Err(Unreachable::Away),
            Some(Known::Dialling(done)) => Some(Rc::clone(done)),
            _ => None,
        };
        match wait {
            // Whoever dials tells all who wait; what came of it is then known.
            Some(done) => done.notified().await,
            None => break,
        }
    }
    let done = Rc::new(Notify::new());
    let before = {
        let mut peers = hub.peers.borrow_mut();
        if peers.len() >= KNOWN_MAX {
            peers.retain(|_, known| match known {
                Known::Linked(number) => hub.has(*number),
                Known::Dialling(_) => true,
                Known::Away(until, _) => Instant::now() < *until,
            });
        }
        peers.insert(name.clone(), Known::Dialling(Rc::clone(&done)))
    };
    let outcome = timeout(PATIENCE, dial(hub, &name, &node.peer_address)).await;
    let outcome = outcome.unwrap_or(Err(Unreachable::Late));
    let known = match (&outcome, before) {
        (Ok(number), _) => {
            hub.stats().dialled.one();
            Known::Linked(*number)
        }
        (Err(error), before) => {
            hub.stats().undialled.one();
            tracing::warn!(peer = %name, address = %node.peer_address, %error, "a node of another region is not reached");
            let wait = match before {
                Some(Known::Away(_, wait)) => (wait * 2).min(BACKOFF_MAX),
                _ => BACKOFF_MIN,
            };
            Known::Away(Instant::now() + jittered(wait), wait)
        }
    };
    hub.peers.borrow_mut().insert(name, known);
    done.notify_waiters();
    outcome
}

/// Between half of it and all, so that nodes that lost the same peer do not come back together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers nothing is spread, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait.mul_f64(f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX) / 2.0)
}

async fn dial(hub: &Rc<Hub>, name: &str, address: &str) -> Result<u16, Unreachable> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (handshake, hello) = Handshake::dial(hub.secret.clone(), &hub.name, name, random_nonce()?);
    match &hub.tls.0 {
        None => begin(hub, stream, handshake, hello).await,
        Some((_, connector)) => {
            let host = host_of(address);
            let server = ServerName::try_from(host.to_owned());
            let server = server.map_err(|_| Unreachable::Name(host.to_owned()))?;
            let stream = connector.connect(server, stream).await?;
            begin(hub, stream, handshake, hello).await
        }
    }
}

/// `host` of `host:port`, of an IPv6 address without its brackets.
pub(super) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Proves who this node is and has the other prove itself; then the link stands, and runs by itself.
async fn begin<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    hub: &Rc<Hub>,
    mut stream: S,
    handshake: Handshake,
    hello: Vec<u8>,
) -> Result<u16, Unreachable> {
    let is_dialler = !hello.is_empty();
    let (peer, version, behind) = prove(&mut stream, handshake, &hello).await?;
    let seed = random_u64()?;
    let region = peer.split_once('/').map_or("", |(region, _)| region);
    let end = match is_dialler {
        true => End::Home(HomeEnd::new(seed, version, region)),
        false => End::Owner(OwnerEnd::new(seed)),
    };
    let link = hub.enter(&peer, version, end);
    let number = link.number;
    spawn_local(link::run(Rc::clone(hub), link, stream, behind));
    Ok(number)
}

pub(super) async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut handshake: Handshake,
    hello: &[u8],
) -> Result<(String, u8, Vec<u8>), Unreachable> {
    stream.write_all(hello).await?;
    stream.flush().await?;
    let mut chunk = [0; 512];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let step = handshake.feed(&chunk[..read])?;
        stream.write_all(&step.send).await?;
        stream.flush().await?;
        if let Some(established) = step.established {
            return Ok(established);
        }
    }
}

/// Takes other nodes in, as long as it is polled.
pub(super) async fn accept(hub: Rc<Hub>, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no other node can be listened for"),
    };
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let hub = Rc::clone(&hub);
                spawn_local(async move {
                    let outcome = timeout(PATIENCE, welcome(&hub, stream)).await;
                    if let Err(error) = outcome.unwrap_or(Err(Unreachable::Late)) {
                        note_stranger(&hub, from, &error);
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting links of other nodes failed");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn note_stranger(hub: &Hub, from: SocketAddr, error: &Unreachable) {
    let from: IpAddr = from.ip();
    match error {
        // Something that an operator has to mend, or somebody who tries.
        Unreachable::Denied(error) => {
            hub.stats().strangers.one();
            tracing::warn!(%from, %error, "a node was not let in");
        }
        error => tracing::debug!(%from, %error, "a link did not come to be"),
    }
}

async fn welcome(hub: &Rc<Hub>, stream: TcpStream) -> Result<(), Unreachable> {
    stream.set_nodelay(true)?;
    let handshake = Handshake::listen(hub.secret.clone(), &hub.name, random_nonce()?);
    match &hub.tls.0 {
        None => begin(hub, stream, handshake, Vec::new()).await?,
        Some((acceptor, _)) => {
            let stream = acceptor.accept(stream).await?;
            begin(hub, stream, handshake, Vec::new()).await?
        }
    };
    Ok(())
}

pub(super) fn random_nonce() -> io::Result<[u8; 32]> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_ne_bytes(bytes))
}
