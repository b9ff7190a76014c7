//! The HTTP thread: takes sockets over, serves each under deadlines, stops when told.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::caller::Peer;
use super::door::{HandOver, HttpDoor, busy_answer};
use super::problem::{self, Problem};
use super::sealed::Sealed;
use super::socket::Socket;
use super::{Services, retry_after_secs, routes};
use crate::config::HttpLimits;

/// Starts the thread.
///
/// # Errors
/// The system gives no thread or no poller.
pub fn start(services: Services, limits: HttpLimits) -> io::Result<(HttpDoor, Control)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (sender, receiver) = mpsc::channel(limits.queue.max(1));
    let (stop, stopping) = watch::channel(None);
    let router = routes::router(Arc::new(services));
    let thread = std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || runtime.block_on(serve(receiver, stopping, router, limits)))?;
    Ok((HttpDoor::new(sender), Control { stop, thread: Some(thread) }))
}

/// The running thread; dropping it stops the thread without waiting for requests.
#[derive(Debug)]
pub struct Control {
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Stops taking connections, lets requests that run finish for at most `patience`, and waits for the thread's
    /// end.
    pub fn stop(mut self, patience: Duration) {
        self.finish(patience);
    }

    fn finish(&mut self, patience: Duration) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.send_replace(Some(patience));
        if thread.join().is_err() {
            tracing::error!("the http thread panicked");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

/// Something is in there once the thread is to stop: for how long requests that run may go on.
pub(crate) type Stopping = watch::Receiver<Option<Duration>>;

/// Waits for that. A thread that is gone has stopped.
pub(crate) async fn is_stopping(stopping: &mut Stopping) {
    let _ = stopping.wait_for(Option::is_some).await;
}

async fn serve(
    mut door: mpsc::Receiver<HandOver>,
    mut stopping: Stopping,
    router: Router,
    limits: HttpLimits,
) {
    let mut connections = JoinSet::new();
    let stop_signal = stopping.clone();
    loop {
        tokio::select! {
            _ = stopping.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            handed = door.recv() => match handed {
                Some(handed) => take_over(handed, &mut connections, &router, &stop_signal, &limits),
                None => break,
            },
        }
    }
    door.close();
    while let Ok(waiting) = door.try_recv() {
        refuse(waiting);
    }
    let patience = (*stopping.borrow()).unwrap_or_default();
    let all_done = async { while connections.join_next().await.is_some() {} };
    // What is left after that is dropped with the set.
    let _ = tokio::time::timeout(patience, all_done).await;
}

fn take_over(
    handed: HandOver,
    connections: &mut JoinSet<()>,
    router: &Router,
    stopping: &Stopping,
    limits: &HttpLimits,
) {
    if connections.len() >= limits.max_connections {
        return refuse(handed);
    }
    let HandOver { fd, read, peer, carried } = handed;
    let stream = StdTcpStream::from(fd);
    match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
        Ok(stream) => {
            let (router, stopping, patience) = (router.clone(), stopping.clone(), limits.answer_deadline);
            match carried {
                None => {
                    let socket = Socket::new(stream, read, patience);
                    connections.spawn(serve_connection(socket, Peer(peer), router, stopping, *limits));
                }
                Some(carried) => {
                    let socket = Socket::new(Sealed::new(stream, carried), read, patience);
                    connections.spawn(serve_connection(socket, Peer(peer), router, stopping, *limits));
                }
            }
        }
        Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
    }
}

/// One write that must not wait; whoever does not get it sees a closed connection.
fn refuse(mut handed: HandOver) {
    let answer = handed.sealed(busy_answer(retry_after_secs(RETRY_WHEN_BUSY, problem::random())));
    let stream = StdTcpStream::from(handed.fd);
    if stream.set_nonblocking(true).is_ok() {
        let _ = io::Write::write(&mut &stream, &answer);
    }
}

const RETRY_WHEN_BUSY: Duration = Duration::from_secs(2);

/// Serves one connection until its end, its deadline, or the thread's stop. Each request carries `peer` among its extensions.
pub(crate) async fn serve_connection<S, P>(
    socket: Socket<S>,
    peer: P,
    router: Router,
    mut stopping: Stopping,
    limits: HttpLimits,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer = router.call(request.map(Body::new));
        async move { bounded(limits.answer_deadline, answer).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_deadline)
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = is_stopping(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn bounded<E>(
    deadline: Duration,
    answer: impl Future<Output = Result<Response, E>>,
) -> Result<Response, E> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Ok(Problem::Unavailable.into_response()),
    }
}
