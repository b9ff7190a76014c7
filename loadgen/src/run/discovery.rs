//! Asking a node where a document is, before dialling it.

use anyhow::{Context, Result};
use pinwire_protocol::ws::handshake::request_key;
use serde::Deserialize;

use crate::run::address::Endpoint;
use crate::run::client::{Stage, Upgrading};
use crate::run::worker::Worker;

/// Longest answer that is read.
const ANSWER_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;

/// What `/discovery` says, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    url: String,
}

/// What came so far.
enum Read {
    /// Not all.
    Partial,
    /// Where the document is.
    Url(String),
    /// Why there is no answer.
    Refused(String),
}

impl Worker {
    /// Writes the question into `payload`.
    pub(crate) fn question(&mut self, client: u32, endpoint: &Endpoint) -> Result<Upgrading> {
        let token = self.given.tokens.token(&mut self.random)?;
        let name = self.name_of(client);
        let query = match &endpoint.query {
            Some(query) => format!("{query}&documentName={name}"),
            None => format!("documentName={name}"),
        };
        let asked = Endpoint { query: Some(query), ..endpoint.clone() };
        let target = asked.target("discovery", token.as_deref());
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", endpoint.host);
        for header in &self.given.scenario.target.headers {
            let (name, value) = header.split_once(':').context("a header without a colon")?;
            request.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
        }
        request.push_str("Connection: close\r\n\r\n");
        self.payload.clear();
        self.payload.extend_from_slice(request.as_bytes());
        let key = request_key([0; 16]);
        Ok(Upgrading { key, head: Vec::new(), is_connected: false, tcp: None, token, asks: true })
    }

    /// A part of the answer came.
    pub(crate) fn discovered(&mut self, client: u32) {
        let Stage::Upgrading(upgrading) = &self.clients[client as usize].stage else { return };
        match read(&upgrading.head) {
            Read::Partial => {}
            Read::Refused(cause) => self.cut(client, &cause),
            Read::Url(url) => {
                let Some(endpoint) = self.resolve(&url) else {
                    self.cut(client, "discovery names a URL that cannot be dialled");
                    return;
                };
                self.drop_socket(client, false);
                self.dialling -= 1;
                let here = self.clients[client as usize].region;
                if self.counts.regions.number(&endpoint.region) == here {
                    let now = self.now();
                    self.detours.insert(client, endpoint);
                    self.redial_at(client, now);
                } else {
                    self.send_elsewhere(client, endpoint);
                }
            }
        }
    }
}

/// Reads an answer with a length, as nodes give it.
fn read(bytes: &[u8]) -> Read {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let body = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => &bytes[len..],
        Ok(httparse::Status::Partial) if bytes.len() < ANSWER_MAX => return Read::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Read::Refused("discovery: no HTTP answer".into()),
    };
    match head.code {
        Some(200) => {}
        code => return Read::Refused(format!("discovery refused {}", code.unwrap_or(0))),
    }
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    match length {
        Some(length) if length <= ANSWER_MAX && body.len() < length => Read::Partial,
        Some(length) if length <= ANSWER_MAX => match serde_json::from_slice::<Answer>(&body[..length]) {
            Ok(answer) => Read::Url(answer.url),
            Err(_) => Read::Refused("discovery: an answer without a URL".into()),
        },
        _ => Read::Refused("discovery: an answer without a length".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{\"region\":\"us\",\"url\":\"ws://h/d\"}";
        let answer = text.replace("32", &text.split_once("\r\n\r\n").unwrap().1.len().to_string());
        for end in 0..answer.len() {
            assert!(matches!(read(&answer.as_bytes()[..end]), Read::Partial), "{end}");
        }
        assert!(matches!(read(answer.as_bytes()), Read::Url(url) if url == "ws://h/d"));
    }

    #[test]
    fn a_refusal_says_its_status() {
        let refused = read(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n");
        assert!(matches!(refused, Read::Refused(cause) if cause == "discovery refused 503"));
        assert!(matches!(read(b"nonsense\r\n\r\n"), Read::Refused(_)));
        assert!(matches!(read(b"HTTP/1.1 200 OK\r\n\r\n{}"), Read::Refused(_)));
    }
}
