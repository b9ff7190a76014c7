//! The request as a client writes it (RFC 6455 4.1).

use super::{extensions, is_token, is_valid_key};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// `Host`, with the port if it is not the scheme's.
    pub host: &'a str,
    /// Path and query, percent-encoded, starting with `/`.
    pub target: &'a str,
    /// From [`super::request_key`].
    pub key: &'a str,
    /// Subprotocols, in order of preference.
    pub protocols: &'a [&'a str],
    /// `Origin`, as a browser would send it.
    pub origin: Option<&'a str>,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Offer permessage-deflate without context takeover.
    pub deflate: bool,
}

/// A part of a [`ClientRequest`] that can not be sent; nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Empty, or with spaces or control characters.
    #[error("invalid host")]
    Host,
    /// Not starting with `/`, or with spaces or characters beyond ASCII.
    #[error("invalid target")]
    Target,
    /// Not the base64 of 16 bytes.
    #[error("invalid key")]
    Key,
    /// Not a token.
    #[error("invalid subprotocol")]
    Protocol,
    /// A name that is not a token, or a value with control characters.
    #[error("invalid header")]
    Header,
}

/// Appends the head of an upgrade request (RFC 6455 4.1).
///
/// # Errors
/// A part of it would not be valid in a head.
pub fn append_request(out: &mut Vec<u8>, request: &ClientRequest<'_>) -> Result<(), InvalidRequest> {
    check_client_request(request)?;
    let ClientRequest { host, target, key, .. } = request;
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    line(&["GET ", target, " HTTP/1.1"]);
    line(&["Host: ", host]);
    line(&["Upgrade: websocket"]);
    line(&["Connection: Upgrade"]);
    line(&["Sec-WebSocket-Key: ", key]);
    line(&["Sec-WebSocket-Version: 13"]);
    if !request.protocols.is_empty() {
        line(&["Sec-WebSocket-Protocol: ", &request.protocols.join(", ")]);
    }
    if request.deflate {
        line(&["Sec-WebSocket-Extensions: ", extensions::OFFER]);
    }
    if let Some(origin) = request.origin {
        line(&["Origin: ", origin]);
    }
    for (name, value) in request.headers {
        line(&[name, ": ", value]);
    }
    line(&[]);
    Ok(())
}

fn check_client_request(request: &ClientRequest<'_>) -> Result<(), InvalidRequest> {
    let is_graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_value = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
    let headers_are_good = request.headers.iter().all(|(name, value)| is_token(name) && is_value(value));
    let checks = [
        (is_graphic(request.host), InvalidRequest::Host),
        (is_graphic(request.target) && request.target.starts_with('/'), InvalidRequest::Target),
        (is_valid_key(request.key), InvalidRequest::Key),
        (request.protocols.iter().all(|protocol| is_token(protocol)), InvalidRequest::Protocol),
        (headers_are_good && request.origin.is_none_or(is_value), InvalidRequest::Header),
    ];
    checks.into_iter().find(|(good, _)| !good).map_or(Ok(()), |(_, bad)| Err(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn a_client_request_can_not_smuggle_lines() {
        let good = ClientRequest {
            host: "a",
            target: "/",
            key: KEY,
            protocols: &[],
            origin: None,
            headers: &[],
            deflate: false,
        };
        let refused = |request: ClientRequest<'_>| {
            let mut out = Vec::new();
            let error = append_request(&mut out, &request).expect_err("must be refused");
            assert!(out.is_empty());
            error
        };
        assert_eq!(refused(ClientRequest { host: "a\r\nB: c", ..good }), InvalidRequest::Host);
        assert_eq!(refused(ClientRequest { target: "/ HTTP/1.1\r\n", ..good }), InvalidRequest::Target);
        assert_eq!(refused(ClientRequest { target: "doc", ..good }), InvalidRequest::Target);
        assert_eq!(refused(ClientRequest { key: "short", ..good }), InvalidRequest::Key);
        assert_eq!(refused(ClientRequest { protocols: &["a, b"], ..good }), InvalidRequest::Protocol);
        assert_eq!(refused(ClientRequest { origin: Some("a\r\n"), ..good }), InvalidRequest::Header);
        assert_eq!(refused(ClientRequest { headers: &[("A", "b\nC: d")], ..good }), InvalidRequest::Header);
        assert_eq!(refused(ClientRequest { headers: &[("A:", "b")], ..good }), InvalidRequest::Header);
    }
}
