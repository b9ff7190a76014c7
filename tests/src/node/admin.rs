//! A client of the admin API, on plain sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PATIENCE;

/// The bearer token of every test's node.
pub const ADMIN_TOKEN: &str = "an admin token for tests, of 32 bytes or more";

/// See the module's documentation. Each request has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct AdminClient {
    address: SocketAddr,
}

impl AdminClient {
    /// Of the node that listens there.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Status and body of an answer.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let mut answer = String::new();
        self.request(method, path, body).read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// What is at `path`.
    ///
    /// # Panics
    /// It is refused, or something else.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        read(path, self.ask("GET", path, None))
    }

    /// What becomes of an action.
    ///
    /// # Panics
    /// It is refused, or something else.
    pub fn act<T: DeserializeOwned>(&self, method: &str, path: &str, body: &Value) -> T {
        read(path, self.ask(method, path, Some(body)))
    }

    /// A stream of events.
    ///
    /// # Panics
    /// It is refused.
    #[must_use]
    pub fn stream(&self, path: &str) -> AdminStream {
        let mut lines = BufReader::new(self.request("GET", path, None));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a status line");
        assert!(line.contains(" 200 "), "{line}");
        while line.trim_end() != "" {
            line.clear();
            lines.read_line(&mut line).expect("a whole head");
        }
        AdminStream { lines }
    }

    /// HTTP/1.0, so that an answer ends with its connection and a stream is not in chunks.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).expect("the node listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: node\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all((head + &body).as_bytes()).expect("the node reads");
        socket
    }
}

fn read<T: DeserializeOwned>(path: &str, (status, body): (u16, String)) -> T {
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Server-sent events as they come.
#[derive(Debug)]
pub struct AdminStream {
    lines: BufReader<TcpStream>,
}

impl AdminStream {
    /// The next event: its name and what it says. None at the end.
    ///
    /// # Panics
    /// Nothing comes in time, or it says no JSON.
    pub fn event(&mut self) -> Option<(String, Value)> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("an event in time") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut name),
                Some(("data", more)) => data.push_str(more),
                Some(_) => {}
                None => return Some((name, serde_json::from_str(&data).expect("JSON"))),
            }
        }
    }
}
