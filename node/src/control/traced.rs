//! HTTP requests that are traced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::traces::{Parent, Queue, Record, Recorder, What};

/// Routes that are told apart: what else clients ask for is theirs to choose, and no part of a trace.
const ROUTES: [&str; 6] = ["/", "/discovery", "/usage", "/regions", "/health", "/metrics"];

/// Chooses requests to trace.
#[derive(Debug)]
pub(crate) struct Tracing {
    queue: Arc<Queue>,
    /// One thread uses it.
    recorder: Mutex<Recorder>,
}

impl Tracing {
    pub(crate) fn new(queue: Arc<Queue>) -> Arc<Self> {
        let recorder = Mutex::new(Recorder::new(Some(Arc::clone(&queue)), None));
        Arc::new(Self { queue, recorder })
    }

    fn is_chosen(&self) -> bool {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner).is_chosen()
    }
}

/// Records a request if it is one of those that are traced, or its client says that it traces it.
pub(crate) async fn traced(State(tracing): State<Arc<Tracing>>, request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let parent = header.and_then(Parent::parse);
    if parent.is_none() && !tracing.is_chosen() {
        return next.run(request).await;
    }
    let (method, route) = (method(request.method()), route(request.uri().path()));
    let start = Instant::now();
    let response = next.run(request).await;
    let status = response.status();
    tracing.queue.push(Record {
        what: What::Http(method, route, status.as_u16()),
        thread: None,
        ended: SystemTime::now(),
        took: start.elapsed(),
        error: if status.is_server_error() { "server_error" } else { "" },
        parent,
    });
    response
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        // As the semantic conventions have it.
        _ => "_OTHER",
    }
}

fn route(path: &str) -> &'static str {
    ROUTES.into_iter().find(|route| *route == path).unwrap_or("other")
}
