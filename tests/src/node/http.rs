//! HTTP/1.1 by hand.

use super::client::TestClient;

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// As long as Content-Length says.
    pub body: String,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn parse_head(head: &str) -> Self {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {head}")),
            head: head.to_owned(),
            body: String::new(),
        }
    }
}

/// A plain request.
#[must_use]
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: node\r\n\r\n")
}

/// A good upgrade request for `target`, with `lines` (each ended) among its headers.
#[must_use]
pub fn upgrade_request(target: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

impl TestClient {
    /// Reads one response.
    ///
    /// # Panics
    /// None comes, or what comes is none.
    pub fn answer(&mut self) -> Answer {
        let head_len = loop {
            if let Some(at) = self.unread().windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.fill(),
                "the connection ended before an answer: {:?}",
                String::from_utf8_lossy(self.unread())
            );
        };
        let head = String::from_utf8(self.take(head_len)).expect("text");
        let mut answer = Answer::parse_head(&head);
        let body_len = answer.header("content-length").map_or(0, |len| len.parse().expect("a length"));
        while self.unread().len() < body_len {
            assert!(self.fill(), "the connection ended within a body");
        }
        answer.body = String::from_utf8(self.take(body_len)).expect("text");
        answer
    }
}
