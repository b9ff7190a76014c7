//! The admin thread: takes connections, finds out who is at their other end, serves each under deadlines, stops when told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use futures_util::future::select_all;
use pinwire_tls::first_name;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::access::{Access, certificate_fingerprint};
use super::listener::{Caller, Listeners};
use super::{Services, routes};
use crate::config::HttpLimits;
use crate::control::{Socket, Stopping, serve_connection};

/// Connections at the same time; one more is closed.
const CONNECTIONS_MAX: usize = 64;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between two tries where the system has no descriptor for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Starts the thread; `services` makes what answers are made from, given how the thread is told to stop.
///
/// # Errors
/// The system gives no thread or no poller.
pub(crate) fn start(listeners: Listeners, services: impl FnOnce(Stopping) -> Services) -> io::Result<Admin> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (stop, stopping) = watch::channel(None);
    let (wish, wished) = watch::channel(Wish::Wait);
    let services = Arc::new(services(stopping.clone()));
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(serve(listeners, services, stopping, wished)) {
            tracing::error!(%error, "the admin listener cannot run");
        }
    })?;
    Ok(Admin { stop, wish, thread: Some(thread) })
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing: another process has the listeners, too, and takes who comes.
    Wait,
    /// To take who comes.
    Serve,
    /// To end.
    End,
}

/// The running thread; dropping it stops the thread without waiting for requests.
#[derive(Debug)]
pub(crate) struct Admin {
    stop: watch::Sender<Option<Duration>>,
    wish: watch::Sender<Wish>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Takes connections from now on.
    pub(crate) fn open(&self) {
        self.stop.send_replace(None);
        self.wish.send_replace(Wish::Serve);
    }

    /// Takes none for now, ends streams, and lets requests that run finish for at most `patience`.
    pub(crate) fn rest(&self, patience: Duration) {
        self.stop.send_replace(Some(patience));
        self.wish.send_replace(Wish::Wait);
    }

    /// Stops listening, ends streams, lets requests that run finish for at most `patience`, and waits for the thread's end.
    pub(crate) fn stop(mut self, patience: Duration) {
        self.finish(patience);
    }

    fn finish(&mut self, patience: Duration) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.send_replace(Some(patience));
        self.wish.send_replace(Wish::End);
        if thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

/// A connection as it was accepted.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

async fn serve(
    listeners: Listeners,
    services: Arc<Services>,
    stopping: Stopping,
    mut wished: watch::Receiver<Wish>,
) -> io::Result<()> {
    let Listeners { tcp, unix, .. } = listeners;
    let tcp = tcp.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    // The file goes with the door.
    let (door, unix) = match unix {
        Some(door) => {
            let listener = UnixListener::from_std(door.listener.try_clone()?)?;
            (Some(door), Some(listener))
        }
        None => (None, None),
    };
    let access = Arc::clone(&services.access);
    let router = routes::router(services);
    let mut connections = JoinSet::new();
    let mut ends_at = None;
    loop {
        let wish = *wished.borrow_and_update();
        match wish {
            Wish::End => break,
            Wish::Serve => ends_at = None,
            Wish::Wait if connections.is_empty() => ends_at = None,
            Wish::Wait if ends_at.is_none() => {
                let patience = (*stopping.borrow()).unwrap_or_default();
                ends_at = Some(tokio::time::Instant::now() + patience);
            }
            Wish::Wait => {}
        }
        tokio::select! {
            _ = wished.changed() => {}
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = tokio::time::sleep_until(ends_at.unwrap_or_else(tokio::time::Instant::now)), if ends_at.is_some() => {
                connections.abort_all();
                ends_at = None;
                while connections.join_next().await.is_some() {}
            }
            // Whoever is accepted is lost if another process has the listeners, too, and this one does not take over.
            accepted = accept(&tcp, unix.as_ref()), if wish == Wish::Serve => match accepted {
                Ok(accepted) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(welcome(accepted, Arc::clone(&access), router.clone(), stopping.clone()));
                }
                Ok(_) => tracing::debug!("a connection to the admin listener was closed: there are too many"),
                Err(error) => {
                    tracing::warn!(%error, "accepting connections to the admin listener failed");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    drop((tcp, unix, door));
    let patience = (*stopping.borrow()).unwrap_or_default();
    let all_done = async { while connections.join_next().await.is_some() {} };
    // What is left after that is dropped with the set.
    let _ = tokio::time::timeout(patience, all_done).await;
    Ok(())
}

async fn accept(tcp: &[TcpListener], unix: Option<&UnixListener>) -> io::Result<Accepted> {
    let any_tcp = async {
        if tcp.is_empty() {
            return std::future::pending().await;
        }
        let (accepted, _, _) = select_all(tcp.iter().map(|listener| Box::pin(listener.accept()))).await;
        accepted.map(|(stream, address)| Accepted::Tcp(stream, address))
    };
    let any_unix = async {
        match unix {
            Some(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        accepted = any_tcp => accepted,
        accepted = any_unix => accepted,
    }
}

async fn welcome(accepted: Accepted, access: Arc<Access>, router: Router, stopping: Stopping) {
    match accepted {
        Accepted::Unix(stream) => match stream.peer_cred() {
            Ok(peer) => serve_one(stream, Caller::Local { uid: peer.uid() }, router, stopping).await,
            Err(error) => tracing::debug!(%error, "the admin socket's peer is unknown"),
        },
        Accepted::Tcp(stream, address) => match access.tls() {
            None => {
                let caller = Caller::Remote { address, certificate: None };
                serve_one(stream, caller, router, stopping).await;
            }
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls).accept(stream);
                match tokio::time::timeout(HANDSHAKE, handshake).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                        let certificate = shown.map(|shown| {
                            let name = first_name(shown).unwrap_or_else(|| "no name".to_owned());
                            format!("{name} {}", certificate_fingerprint(shown))
                        });
                        let caller = Caller::Remote { address, certificate };
                        serve_one(stream, caller, router, stopping).await;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%address, %error, "no TLS with the admin listener");
                    }
                    Err(_) => tracing::debug!(%address, "no TLS with the admin listener in time"),
                }
            }
        },
    }
}

async fn serve_one<S>(stream: S, caller: Caller, router: Router, stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = HttpLimits::default();
    let socket = Socket::new(stream, Vec::new(), limits.answer_deadline);
    serve_connection(socket, caller, router, stopping, limits).await;
}
