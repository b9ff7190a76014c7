//! The request as a server reads it (RFC 6455 4.2.1).

use std::fmt;

use super::{BadHead, MAX_HEADERS, head_len, is_token, is_valid_key, list_contains, values};

/// What [`parse_request`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The head goes on.
    Partial,
    /// A whole head.
    Complete {
        /// Bytes of the head; what follows it belongs to the connection.
        head_len: usize,
        /// The head.
        request: Request<'a>,
    },
}

/// A request head. If [`Request::is_upgrade`], it has passed every check of RFC 6455 4.2.1. Otherwise it is
/// for an HTTP server: only its framing and the number of hosts are judged, and `origin`, `authorization`,
/// `key`, `protocols` and `extensions` are left empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As sent; `GET` for an upgrade.
    pub method: &'a str,
    /// Path and query as sent, percent-encoded; starts with `/` for an upgrade.
    pub target: &'a str,
    /// `Host`; never `None` for an upgrade.
    pub host: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// `Sec-WebSocket-Key`, valid and never `None` for an upgrade.
    pub key: Option<&'a str>,
    /// The elements of `Sec-WebSocket-Protocol`, in order; tokens.
    pub protocols: Vec<&'a str>,
    /// The values of `Sec-WebSocket-Extensions`, for [`super::negotiate_deflate`].
    pub extensions: Vec<&'a str>,
    /// The elements of `X-Forwarded-For`, in order: the last was added by the nearest proxy. Not to be
    /// trusted unless the peer is.
    pub forwarded_for: Vec<&'a str>,
    upgrade: bool,
}

impl Request<'_> {
    /// Whether the client asks for a WebSocket.
    pub fn is_upgrade(&self) -> bool {
        self.upgrade
    }
}

/// Why a request is refused. Answer with [`super::append_refusal`] and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// A line that does not end in CR LF, or a CR without LF.
    BareLineEnding,
    /// More than [`super::MAX_HEAD`] bytes.
    HeadTooLarge,
    /// More than [`MAX_HEADERS`] header fields.
    TooManyHeaders,
    /// Not HTTP/1.x: bad request line, header name or value, folded line, space before a colon.
    Malformed,
    /// A header value that matters here is not UTF-8.
    NotText,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// Several `Host`.
    SeveralHosts,
    /// An upgrade with another method than GET.
    Method,
    /// An upgrade by HTTP/1.0.
    HttpVersion,
    /// An upgrade of something else than a path.
    Target,
    /// `Upgrade` without `Connection: upgrade`.
    MissingConnection,
    /// An upgrade with `Content-Length` or `Transfer-Encoding`.
    Body,
    /// `Sec-WebSocket-Version` is not 13.
    WebSocketVersion,
    /// No `Sec-WebSocket-Key`.
    MissingKey,
    /// Several `Sec-WebSocket-Key`.
    SeveralKeys,
    /// `Sec-WebSocket-Key` is not the base64 of 16 bytes.
    InvalidKey,
    /// Several `Origin`.
    SeveralOrigins,
    /// Several `Authorization`.
    SeveralAuthorizations,
    /// `Sec-WebSocket-Protocol` is not a list of tokens.
    Protocols,
}

impl BadRequest {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Method => 405,
            // RFC 6455 4.2.2: 426 with the version we speak.
            Self::WebSocketVersion => 426,
            _ => 400,
        }
    }

    /// What is wrong, by the name of the part.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLineEnding => "line endings must be CR LF",
            Self::HeadTooLarge => "request head too large",
            Self::TooManyHeaders => "too many header fields",
            Self::Malformed => "malformed request head",
            Self::NotText => "header value is not UTF-8",
            Self::MissingHost => "Host is missing",
            Self::SeveralHosts => "Host is repeated",
            Self::Method => "the method of an upgrade must be GET",
            Self::HttpVersion => "an upgrade needs HTTP/1.1",
            Self::Target => "the target of an upgrade must be a path",
            Self::MissingConnection => "Connection does not name upgrade",
            Self::Body => "an upgrade must not have Content-Length or Transfer-Encoding",
            Self::WebSocketVersion => "Sec-WebSocket-Version must be 13",
            Self::MissingKey => "Sec-WebSocket-Key is missing",
            Self::SeveralKeys => "Sec-WebSocket-Key is repeated",
            Self::InvalidKey => "Sec-WebSocket-Key must be the base64 of 16 bytes",
            Self::SeveralOrigins => "Origin is repeated",
            Self::SeveralAuthorizations => "Authorization is repeated",
            Self::Protocols => "Sec-WebSocket-Protocol must be a list of tokens",
        }
    }

    /// A JSON body that names the problem.
    pub fn body(self) -> String {
        // The reasons hold nothing that JSON escapes.
        format!(r#"{{"error":"{}"}}"#, self.reason())
    }

    /// Appends the whole HTTP response.
    pub fn append_response(self, out: &mut Vec<u8>) {
        super::append_refusal(out, self.status(), None, &self.body());
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BadRequest {}

impl From<BadHead> for BadRequest {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::BareLineEnding => Self::BareLineEnding,
            BadHead::TooLarge => Self::HeadTooLarge,
            BadHead::TooManyHeaders => Self::TooManyHeaders,
            BadHead::Malformed => Self::Malformed,
        }
    }
}

/// Reads a request head from the start of `buf`. Call it again with more bytes while it is
/// [`Parsed::Partial`]; the head is bounded, so that ends.
///
/// # Errors
/// The head can not become acceptable, whatever follows.
pub fn parse_request(buf: &[u8]) -> Result<Parsed<'_>, BadRequest> {
    let head_len = head_len(buf)?;
    let head = head_len.and_then(|len| buf.get(..len)).unwrap_or(buf);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    // An incomplete head is parsed as well: garbage is refused at once.
    let status = parsed.parse(head).map_err(BadHead::from)?;
    match (status, head_len) {
        (httparse::Status::Complete(len), Some(head_len)) if len == head_len => {
            Ok(Parsed::Complete { head_len, request: read(&parsed)? })
        }
        (httparse::Status::Partial, None) => Ok(Parsed::Partial),
        _ => Err(BadRequest::Malformed),
    }
}

/// Picks what matters from a parsed head and checks it.
fn read<'a>(parsed: &httparse::Request<'_, 'a>) -> Result<Request<'a>, BadRequest> {
    let headers = &*parsed.headers;
    let upgrade = list_contains(headers, "upgrade", "websocket");
    let is_http_1_1 = parsed.version == Some(1);
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    // RFC 9112 3.2: several hosts, or none in HTTP/1.1, is 400 for any request.
    let host = single(headers, "host", BadRequest::SeveralHosts)?;
    if host.is_none() && is_http_1_1 {
        return Err(BadRequest::MissingHost);
    }
    let mut request = Request {
        method,
        target,
        host,
        origin: None,
        authorization: None,
        key: None,
        protocols: Vec::new(),
        extensions: Vec::new(),
        forwarded_for: list(headers, "x-forwarded-for")?,
        upgrade,
    };
    if upgrade {
        check_upgrade(&request, is_http_1_1, headers)?;
        request.origin = single(headers, "origin", BadRequest::SeveralOrigins)?;
        request.authorization = single(headers, "authorization", BadRequest::SeveralAuthorizations)?;
        request.key = Some(read_key(headers)?);
        request.protocols = list(headers, "sec-websocket-protocol")?;
        if !request.protocols.iter().all(|protocol| is_token(protocol)) {
            return Err(BadRequest::Protocols);
        }
        request.extensions =
            values(headers, "sec-websocket-extensions").map(text).collect::<Result<_, _>>()?;
    }
    Ok(request)
}

/// RFC 6455 4.2.1, and what would let a proxy in front disagree with us about where the request ends.
fn check_upgrade(
    request: &Request<'_>,
    is_http_1_1: bool,
    headers: &[httparse::Header<'_>],
) -> Result<(), BadRequest> {
    let has = |name| values(headers, name).next().is_some();
    let mut versions = values(headers, "sec-websocket-version");
    let is_version_13 = versions.next() == Some(b"13") && versions.next().is_none();
    let checks = [
        (request.method == "GET", BadRequest::Method),
        (is_http_1_1, BadRequest::HttpVersion),
        (request.host.is_some_and(|host| !host.is_empty()), BadRequest::MissingHost),
        (request.target.starts_with('/'), BadRequest::Target),
        (list_contains(headers, "connection", "upgrade"), BadRequest::MissingConnection),
        (!has("content-length") && !has("transfer-encoding"), BadRequest::Body),
        (is_version_13, BadRequest::WebSocketVersion),
    ];
    checks.into_iter().find(|(good, _)| !good).map_or(Ok(()), |(_, bad)| Err(bad))
}

fn read_key<'a>(headers: &[httparse::Header<'a>]) -> Result<&'a str, BadRequest> {
    let key = single(headers, "sec-websocket-key", BadRequest::SeveralKeys)?.ok_or(BadRequest::MissingKey)?;
    if is_valid_key(key) { Ok(key) } else { Err(BadRequest::InvalidKey) }
}

/// The value of a header that may stand once.
fn single<'a>(
    headers: &[httparse::Header<'a>],
    name: &'static str,
    repeated: BadRequest,
) -> Result<Option<&'a str>, BadRequest> {
    let mut values = values(headers, name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(repeated);
    }
    text(value).map(Some)
}

/// The non-empty elements of a list header, over all its fields.
fn list<'a>(headers: &[httparse::Header<'a>], name: &'static str) -> Result<Vec<&'a str>, BadRequest> {
    let mut elements = Vec::new();
    for value in values(headers, name) {
        elements.extend(text(value)?.split(',').map(str::trim_ascii).filter(|element| !element.is_empty()));
    }
    Ok(elements)
}

fn text(value: &[u8]) -> Result<&str, BadRequest> {
    std::str::from_utf8(value).map(str::trim_ascii).map_err(|_| BadRequest::NotText)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientRequest, append_request, extensions};
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// A good upgrade request with `change` applied to its text.
    fn changed(change: impl Fn(&str) -> String) -> Result<(), BadRequest> {
        let good = format!(
            "GET /doc?token=a.b HTTP/1.1\r\nHost: example.net\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let head = change(&good);
        match parse_request(head.as_bytes())? {
            Parsed::Complete { head_len, request } => {
                assert_eq!(head_len, head.len());
                assert!(request.is_upgrade());
                Ok(())
            }
            Parsed::Partial => panic!("incomplete: {head}"),
        }
    }

    fn with(line: &str) -> Result<(), BadRequest> {
        changed(|good| good.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")))
    }

    #[test]
    fn an_upgrade_is_read_with_all_it_says() {
        let mut head = Vec::new();
        let client = ClientRequest {
            host: "example.net:8080",
            target: "/doc?token=x",
            key: KEY,
            protocols: &["access_token", "eyJ.a-b_c"],
            origin: Some("https://app.example.com"),
            headers: &[
                ("Authorization", "Bearer abc"),
                ("X-Forwarded-For", "10.0.0.1 , 10.0.0.2"),
                ("x-forwarded-for", "10.0.0.3"),
            ],
            deflate: true,
        };
        append_request(&mut head, &client).unwrap();
        let len = head.len();
        head.extend_from_slice(b"\x81\x80first");
        let Ok(Parsed::Complete { head_len, request }) = parse_request(&head) else { panic!("not complete") };
        assert_eq!(head_len, len);
        let expected = Request {
            method: "GET",
            target: "/doc?token=x",
            host: Some("example.net:8080"),
            origin: Some("https://app.example.com"),
            authorization: Some("Bearer abc"),
            key: Some(KEY),
            protocols: vec!["access_token", "eyJ.a-b_c"],
            extensions: vec![extensions::OFFER],
            forwarded_for: vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            upgrade: true,
        };
        assert_eq!(request, expected);
        for cut in 0..len {
            assert_eq!(parse_request(&head[..cut]), Ok(Parsed::Partial), "cut at {cut}");
        }
    }

    #[test]
    fn a_good_upgrade_passes_unchanged() {
        assert_eq!(changed(str::to_owned), Ok(()));
        assert_eq!(changed(|good| good.replace("websocket", "h2c, WebSocket")), Ok(()));
    }

    #[test]
    fn what_smuggles_requests_is_refused() {
        assert_eq!(with("Content-Length: 0"), Err(BadRequest::Body));
        assert_eq!(with("Transfer-Encoding: chunked"), Err(BadRequest::Body));
        assert_eq!(with("Host: other.example"), Err(BadRequest::SeveralHosts));
        assert_eq!(with("hOST: example.net"), Err(BadRequest::SeveralHosts));
        assert_eq!(with("A: b\r\n folded"), Err(BadRequest::Malformed));
        assert_eq!(with("A : b"), Err(BadRequest::Malformed));
        assert_eq!(with("A: b\nC: d"), Err(BadRequest::BareLineEnding));
        assert_eq!(with("A: b\rC: d"), Err(BadRequest::BareLineEnding));
        assert_eq!(with("A: b\0c"), Err(BadRequest::Malformed));
    }

    #[test]
    fn an_upgrade_needs_each_part_of_rfc_6455_4_2_1() {
        let without = |line: &'static str| changed(move |good| good.replace(line, ""));
        assert_eq!(without("Host: example.net\r\n"), Err(BadRequest::MissingHost));
        assert_eq!(changed(|good| good.replace("Host: example.net", "Host: ")), Err(BadRequest::MissingHost));
        assert_eq!(without(", Upgrade"), Err(BadRequest::MissingConnection));
        assert_eq!(without("Sec-WebSocket-Version: 13\r\n"), Err(BadRequest::WebSocketVersion));
        assert_eq!(changed(|good| good.replace(": 13", ": 8")), Err(BadRequest::WebSocketVersion));
        assert_eq!(with("Sec-WebSocket-Version: 13"), Err(BadRequest::WebSocketVersion));
        assert_eq!(without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), Err(BadRequest::MissingKey));
        assert_eq!(with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), Err(BadRequest::SeveralKeys));
        assert_eq!(changed(|good| good.replace(KEY, "dGhl")), Err(BadRequest::InvalidKey));
        assert_eq!(changed(|good| good.replace("GET", "POST")), Err(BadRequest::Method));
        assert_eq!(changed(|good| good.replace("HTTP/1.1", "HTTP/1.0")), Err(BadRequest::HttpVersion));
        assert_eq!(changed(|good| good.replace("/doc", "http://example.net/doc")), Err(BadRequest::Target));
    }

    #[test]
    fn repeated_identity_headers_are_refused() {
        assert_eq!(with("Origin: a\r\nOrigin: b"), Err(BadRequest::SeveralOrigins));
        assert_eq!(with("Authorization: a\r\nAuthorization: b"), Err(BadRequest::SeveralAuthorizations));
    }

    #[test]
    fn subprotocols_are_tokens() {
        assert_eq!(with("Sec-WebSocket-Protocol: a, b,,c"), Ok(()));
        assert_eq!(with("Sec-WebSocket-Protocol: a b"), Err(BadRequest::Protocols));
        assert_eq!(
            with("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: \"b\""),
            Err(BadRequest::Protocols)
        );
    }

    #[test]
    fn a_head_has_at_most_so_many_headers() {
        let lines = |count: usize| vec!["A: b"; count].join("\r\n");
        // The good request has five of its own.
        assert_eq!(with(&lines(MAX_HEADERS - 5)), Ok(()));
        assert_eq!(with(&lines(MAX_HEADERS - 4)), Err(BadRequest::TooManyHeaders));
    }

    #[test]
    fn garbage_is_refused_before_the_head_is_complete() {
        assert_eq!(parse_request(b"\x16\x03\x01\x02\x00\x01\x00\x01"), Err(BadRequest::Malformed));
        assert_eq!(parse_request(b"GET / HTTP/2.0\r\n"), Err(BadRequest::Malformed));
    }

    #[test]
    fn a_request_that_is_no_upgrade_is_returned_as_such() {
        for head in [
            "POST /usage HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            "GET /health HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ] {
            let Ok(Parsed::Complete { request, .. }) = parse_request(head.as_bytes()) else {
                panic!("{head}")
            };
            assert!(!request.is_upgrade(), "{head}");
        }
        assert_eq!(parse_request(b"GET / HTTP/1.1\r\n\r\n"), Err(BadRequest::MissingHost));
    }

    #[test]
    fn a_refusal_names_the_problem_and_the_version_we_speak() {
        let mut out = Vec::new();
        BadRequest::WebSocketVersion.append_response(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        assert!(text.ends_with("\r\n\r\n{\"error\":\"Sec-WebSocket-Version must be 13\"}"));
    }
}
