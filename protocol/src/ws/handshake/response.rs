//! The server's half of the handshake (RFC 6455 4.1 and 4.2.2), and refusals by plain HTTP.

use super::extensions::{self, DeflateParams};
use super::{BadHead, MAX_HEADERS, accept_key, head_len, is_token, list_contains, values};

/// Appends the response that accepts an upgrade. `key` is the request's, `subprotocol` one of those it
/// offered; a string that is no token is left out.
pub fn append_response(
    out: &mut Vec<u8>,
    key: &str,
    subprotocol: Option<&str>,
    deflate: Option<DeflateParams>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept_key(key).as_bytes());
    if let Some(protocol) = subprotocol.filter(|protocol| is_token(protocol)) {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    if let Some(params) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        params.append_accept(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a whole HTTP response with a JSON body, after which the connection is closed. 405 and 426 get the
/// headers that belong to them.
pub fn append_refusal(out: &mut Vec<u8>, status: u16, retry_after_secs: Option<u32>, body_json: &str) {
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    line(&["HTTP/1.1 ", &status.to_string(), " ", phrase(status)]);
    line(&["Connection: ", if status == 426 { "close, Upgrade" } else { "close" }]);
    line(&["Content-Type: application/json"]);
    line(&["Cache-Control: no-store"]);
    line(&["Content-Length: ", &body_json.len().to_string()]);
    if let Some(seconds) = retry_after_secs {
        line(&["Retry-After: ", &seconds.to_string()]);
    }
    match status {
        405 => line(&["Allow: GET"]),
        426 => {
            line(&["Upgrade: websocket"]);
            line(&["Sec-WebSocket-Version: 13"]);
        }
        _ => {}
    }
    line(&[]);
    out.extend_from_slice(body_json.as_bytes());
}

/// RFC 9110 15. A client ignores it, so one that is not listed is empty.
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// What the client asked for, to hold the response against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's key.
    pub key: &'a str,
    /// The subprotocols offered.
    pub protocols: &'a [&'a str],
    /// Whether permessage-deflate was offered.
    pub deflate: bool,
}

/// What [`parse_response`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedResponse<'a> {
    /// The head goes on.
    Partial,
    /// The server accepted.
    Complete {
        /// Bytes of the head; frames follow.
        head_len: usize,
        /// What was agreed.
        accepted: Accepted<'a>,
    },
}

/// What the server agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// One of the subprotocols offered, or none.
    pub subprotocol: Option<&'a str>,
    /// permessage-deflate, if it was offered and accepted.
    pub deflate: Option<DeflateParams>,
}

/// Why the connection must be failed (RFC 6455 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// Not an HTTP/1.1 head, or one beyond the bounds.
    #[error("malformed response head")]
    Malformed,
    /// An HTTP answer instead of an upgrade.
    #[error("status {status} instead of 101")]
    Status {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, where it is a number of seconds.
        retry_after_secs: Option<u32>,
    },
    /// `Upgrade` does not say websocket.
    #[error("Upgrade is not websocket")]
    Upgrade,
    /// `Connection` does not say upgrade.
    #[error("Connection does not name upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` is missing, repeated, or does not fit the key.
    #[error("wrong Sec-WebSocket-Accept")]
    Accept,
    /// A subprotocol that was not offered, or several.
    #[error("subprotocol was not offered")]
    Subprotocol,
    /// An extension, or a parameter of it, that was not offered.
    #[error("extension was not offered")]
    Extension,
}

impl From<BadHead> for BadResponse {
    fn from(_: BadHead) -> Self {
        Self::Malformed
    }
}

/// Reads a response head from the start of `buf` and checks it against what was asked.
///
/// # Errors
/// The server did not accept, or accepted something else.
pub fn parse_response<'a>(buf: &'a [u8], expected: &Expected<'_>) -> Result<ParsedResponse<'a>, BadResponse> {
    let head_len = head_len(buf)?;
    let head = head_len.and_then(|len| buf.get(..len)).unwrap_or(buf);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = parsed.parse(head).map_err(BadHead::from)?;
    match (status, head_len) {
        (httparse::Status::Complete(len), Some(head_len)) if len == head_len => {
            Ok(ParsedResponse::Complete { head_len, accepted: check(&parsed, expected)? })
        }
        (httparse::Status::Partial, None) => Ok(ParsedResponse::Partial),
        _ => Err(BadResponse::Malformed),
    }
}

/// RFC 6455 4.1, "the client MUST validate the server's response", in its order.
fn check<'a>(
    parsed: &httparse::Response<'_, 'a>,
    expected: &Expected<'_>,
) -> Result<Accepted<'a>, BadResponse> {
    let headers = &*parsed.headers;
    match parsed.code {
        Some(101) => {}
        Some(status) => return Err(BadResponse::Status { status, retry_after_secs: retry_after(headers) }),
        None => return Err(BadResponse::Malformed),
    }
    if parsed.version != Some(1) {
        return Err(BadResponse::Malformed);
    }
    if !single(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(BadResponse::Upgrade);
    }
    if !list_contains(headers, "connection", "upgrade") {
        return Err(BadResponse::Connection);
    }
    if single(headers, "sec-websocket-accept") != Some(accept_key(expected.key).as_bytes()) {
        return Err(BadResponse::Accept);
    }
    let deflate = check_extensions(headers, expected)?;
    let subprotocol = check_subprotocol(headers, expected)?;
    Ok(Accepted { subprotocol, deflate })
}

fn check_extensions(
    headers: &[httparse::Header<'_>],
    expected: &Expected<'_>,
) -> Result<Option<DeflateParams>, BadResponse> {
    let accepted: Vec<&str> = values(headers, "sec-websocket-extensions")
        .map(std::str::from_utf8)
        .collect::<Result<_, _>>()
        .map_err(|_| BadResponse::Extension)?;
    if accepted.is_empty() {
        return Ok(None);
    }
    let deflate = if expected.deflate { extensions::check_accepted(&accepted) } else { None };
    deflate.map(Some).ok_or(BadResponse::Extension)
}

fn check_subprotocol<'a>(
    headers: &[httparse::Header<'a>],
    expected: &Expected<'_>,
) -> Result<Option<&'a str>, BadResponse> {
    let mut chosen = values(headers, "sec-websocket-protocol");
    let Some(value) = chosen.next() else { return Ok(None) };
    let protocol = std::str::from_utf8(value).map_err(|_| BadResponse::Subprotocol)?.trim_ascii();
    if chosen.next().is_none() && expected.protocols.contains(&protocol) {
        Ok(Some(protocol))
    } else {
        Err(BadResponse::Subprotocol)
    }
}

fn single<'a>(headers: &[httparse::Header<'a>], name: &'static str) -> Option<&'a [u8]> {
    let mut values = values(headers, name);
    let value = values.next()?;
    values.next().is_none().then_some(value.trim_ascii())
}

fn retry_after(headers: &[httparse::Header<'_>]) -> Option<u32> {
    std::str::from_utf8(single(headers, "retry-after")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::negotiate_deflate;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const EXPECTED: Expected<'_> = Expected { key: KEY, protocols: &["access_token", "b"], deflate: true };

    fn accepting() -> String {
        let mut out = Vec::new();
        append_response(&mut out, KEY, Some("access_token"), negotiate_deflate(&["permessage-deflate"]));
        String::from_utf8(out).unwrap()
    }

    fn changed(change: impl Fn(&str) -> String) -> Result<(), BadResponse> {
        parse_response(change(&accepting()).as_bytes(), &EXPECTED).map(|_| ())
    }

    #[test]
    fn our_response_satisfies_our_client_and_every_prefix_is_partial() {
        let mut head = accepting().into_bytes();
        let len = head.len();
        head.extend_from_slice(&[0x81, 0]);
        let accepted =
            Accepted { subprotocol: Some("access_token"), deflate: Some(DeflateParams::default()) };
        assert_eq!(
            parse_response(&head, &EXPECTED),
            Ok(ParsedResponse::Complete { head_len: len, accepted })
        );
        for cut in 0..len {
            assert_eq!(parse_response(&head[..cut], &EXPECTED), Ok(ParsedResponse::Partial));
        }
    }

    #[test]
    fn each_rule_of_rfc_6455_4_1_is_kept() {
        assert_eq!(changed(str::to_owned), Ok(()));
        assert_eq!(changed(|good| good.replace("websocket", "h2c")), Err(BadResponse::Upgrade));
        assert_eq!(
            changed(|good| good.replace("Connection: Upgrade", "Connection: x")),
            Err(BadResponse::Connection)
        );
        assert_eq!(changed(|good| good.replace("Accept: s", "Accept: S")), Err(BadResponse::Accept));
        assert_eq!(changed(|good| good.replace("access_token", "c")), Err(BadResponse::Subprotocol));
        assert_eq!(
            changed(|good| good.replace("access_token", "access_token, b")),
            Err(BadResponse::Subprotocol)
        );
        assert_eq!(changed(|good| good.replace("permessage-deflate", "foo")), Err(BadResponse::Extension));
        assert_eq!(changed(|good| good.replace("HTTP/1.1", "HTTP/1.0")), Err(BadResponse::Malformed));
        assert_eq!(changed(|good| good.replace("\r\n", "\n")), Err(BadResponse::Malformed));
    }

    #[test]
    fn what_was_not_offered_must_not_be_accepted() {
        let nothing = Expected { protocols: &[], deflate: false, ..EXPECTED };
        let head = |protocol, deflate: Option<DeflateParams>| {
            let mut out = Vec::new();
            append_response(&mut out, KEY, protocol, deflate);
            out
        };
        assert!(parse_response(&head(None, None), &nothing).is_ok());
        assert_eq!(parse_response(&head(Some("b"), None), &nothing), Err(BadResponse::Subprotocol));
        let deflate = Some(DeflateParams::default());
        assert_eq!(parse_response(&head(None, deflate), &nothing), Err(BadResponse::Extension));
    }

    #[test]
    fn a_refusal_is_read_back_with_its_retry_after() {
        let mut out = Vec::new();
        append_refusal(&mut out, 503, Some(7), r#"{"error":"overloaded"}"#);
        let expected = BadResponse::Status { status: 503, retry_after_secs: Some(7) };
        assert_eq!(parse_response(&out, &EXPECTED), Err(expected));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"));
        assert!(text.contains("\r\nContent-Length: 22\r\n"));
        assert!(text.ends_with("\r\n\r\n{\"error\":\"overloaded\"}"));
    }

    #[test]
    fn a_subprotocol_that_is_no_token_is_not_sent() {
        let mut out = Vec::new();
        append_response(&mut out, KEY, Some("a\r\nSet-Cookie: b"), None);
        assert!(!String::from_utf8(out).unwrap().contains("Set-Cookie"));
    }
}
