//! A service that the test plays, over HTTP.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path?query`.
    pub line: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }
}

type Answering = Arc<Mutex<dyn FnMut(&Asked) -> (u16, String) + Send>>;

/// Answers requests, one after another, and keeps them. It ends when it is dropped.
pub struct Fake {
    pub endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub async fn start(answer: impl FnMut(&Asked) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Answering) = (Arc::clone(&asked), Arc::new(Mutex::new(answer)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                connections.spawn(async move {
                    let service =
                        service_fn(move |request| respond(request, Arc::clone(&kept), Arc::clone(&answer)));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { endpoint, asked, _tasks: tasks }
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().expect("a lock"))
    }
}

async fn respond(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Asked>>>,
    answer: Answering,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let asked = Asked { line, headers, body: String::from_utf8_lossy(&body).into_owned() };
    let (status, text) = (answer.lock().expect("a lock"))(&asked);
    kept.lock().expect("a lock").push(asked);
    Ok(Response::builder().status(status).body(Full::new(text.into())).expect("an answer"))
}
