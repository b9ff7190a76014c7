//! A node of made-up answers on a real socket, for tests of the client and the program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pinwire_admin::model::example;
use pinwire_admin::run::now;
use serde_json::{Value, json};

/// The token that it wants.
pub const TOKEN: &str = "made-up";

/// See the module's documentation. Dropped, it cuts all connections.
pub struct FakeNode {
    /// Where it is.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    number: usize,
    is_over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    /// Requests that change something: method and path with body.
    acts: Mutex<Vec<String>>,
}

impl FakeNode {
    /// Starts one on a free port.
    pub fn start(number: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            number,
            is_over: AtomicBool::new(false),
            open: Mutex::default(),
            acts: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.is_over.load(Ordering::Acquire) {
                    return;
                }
                for_thread.open.lock().unwrap().extend(stream.try_clone());
                let shared = Arc::clone(&for_thread);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { url: format!("http://{address}"), shared }
    }

    /// What it was asked to do.
    pub fn acts(&self) -> Vec<String> {
        self.shared.acts.lock().unwrap().clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // So that the listener looks.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut out = stream;
        while let Some(()) = self.one(&mut reader, &mut out) {}
    }

    fn one(&self, reader: &mut BufReader<TcpStream>, out: &mut TcpStream) -> Option<()> {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        let (mut length, mut has_token) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => has_token = value.trim() == format!("Bearer {TOKEN}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        if !has_token {
            let problem = json!({ "type": "about:blank", "title": "Unauthorized", "status": 401, "error": "invalid_token", "detail": "not the node's token" });
            return answer(out, "401 Unauthorized", &problem);
        }
        if method != "GET" {
            self.acts.lock().unwrap().push(format!("{method} {path} {}", String::from_utf8_lossy(&body)));
            return answer(out, "200 OK", &json!({}));
        }
        match path.split('?').next()? {
            "/v1/stream" => self.stream(out),
            "/v1/regions" => answer(out, "200 OK", &json!(example::regions(self.number % 2, 3))),
            "/v1/nodes" => answer(out, "200 OK", &json!({ "nodes": [], "unanswered": [] })),
            "/v1/pins" => answer(out, "200 OK", &json!(example::pins(0, 60, 60, 2, now()))),
            "/v1/connections" => {
                let row = |id: &str| {
                    json!({ "id": id, "thread": 0, "state": "open", "since": "2026-01-01T00:00:00Z", "tenant": "acme",
                    "app": "notes", "subject": "ann", "documents": ["roadmap"], "document_count": 1, "is_compressed": false,
                    "idle_seconds": 1.0, "backlog_bytes": 0 })
                };
                let rows = ["13b-2a", "13b-2b", "13b-2c"].map(row);
                answer(out, "200 OK", &json!({ "connections": rows, "is_partial": false }))
            }
            "/v1/apps" => answer(out, "200 OK", &json!({ "apps": [] })),
            "/v1/audit" => answer(out, "200 OK", &json!({ "records": [], "next": 0, "lost": 0 })),
            "/v1/log" => answer(out, "200 OK", &json!({ "filter": "info", "configured": "info" })),
            _ => {
                let problem = json!({ "type": "about:blank", "title": "Not Found", "status": 404, "error": "not_found", "detail": "there is no such thing" });
                answer(out, "404 Not Found", &problem)
            }
        }
    }

    /// Steps come faster than a node's, so that tests need not wait for seconds.
    fn stream(&self, out: &mut TcpStream) -> Option<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").ok()?;
        for second in 500.. {
            if self.is_over.load(Ordering::Acquire) {
                return None;
            }
            let look = example::look(self.number, 2, second, now());
            let event = if second == 500 { "snapshot" } else { "change" };
            write!(out, "event: {event}\ndata: {}\n\n", serde_json::to_string(&look).ok()?).ok()?;
            thread::park_timeout(Duration::from_millis(250));
        }
        None
    }
}

fn answer(out: &mut TcpStream, status: &str, body: &Value) -> Option<()> {
    let body = body.to_string();
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}
