//! The opening handshake (RFC 6455 4), both sides.
//!
//! Server: [`parse_request`], then [`append_response`] or [`append_refusal`]. Client: [`append_request`],
//! then [`parse_response`]. Heads are parsed by `httparse` and held to RFC 9112 more strictly than most
//! servers do: what two HTTP parsers could read differently is refused.

mod client;
mod extensions;
mod request;
mod response;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use client::{ClientRequest, InvalidRequest, append_request};
pub use extensions::{DeflateParams, negotiate_deflate};
pub use request::{BadRequest, Parsed, Request, parse_request};
pub use response::{
    Accepted, BadResponse, Expected, ParsedResponse, append_refusal, append_response, parse_response,
};

/// Bytes of a head at most, request or response.
pub const MAX_HEAD: usize = 16 << 10;
/// Header fields of a head at most.
pub const MAX_HEADERS: usize = 64;

/// Appended to the key before hashing (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(GUID);
    STANDARD.encode(sha1.digest().bytes())
}

/// `Sec-WebSocket-Key` for a client's nonce, which must be fresh and random (RFC 6455 4.1).
pub fn request_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// The base64 of 16 bytes.
fn is_valid_key(key: &str) -> bool {
    // The buffer is as large as the longest decoding that base64 estimates for 24 characters.
    let mut nonce = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

/// Why no head can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadHead {
    BareLineEnding,
    TooLarge,
    TooManyHeaders,
    Malformed,
}

impl From<httparse::Error> for BadHead {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            _ => Self::Malformed,
        }
    }
}

/// Length of the head at the start of `buf`, with the empty line that ends it; `None` if it is incomplete.
/// `httparse` takes a lone LF as a line ending; we do not, since a proxy in front may not either (RFC 9112
/// 2.2).
fn head_len(buf: &[u8]) -> Result<Option<usize>, BadHead> {
    let mut previous = 0;
    for (at, &byte) in buf.iter().take(MAX_HEAD).enumerate() {
        if (byte == b'\n') != (previous == b'\r') {
            return Err(BadHead::BareLineEnding);
        }
        if byte == b'\n' && at >= 3 && buf[at - 3..at].starts_with(b"\r\n") {
            return Ok(Some(at + 1));
        }
        previous = byte;
    }
    if buf.len() >= MAX_HEAD { Err(BadHead::TooLarge) } else { Ok(None) }
}

/// All values of the header `name`.
fn values<'h, 'b>(
    headers: &'h [httparse::Header<'b>],
    name: &'static str,
) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The elements of a comma-separated list that may stand in several header fields (RFC 9110 5.6.1).
fn list_contains(headers: &[httparse::Header<'_>], name: &'static str, element: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_of_rfc_6455_1_3() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_the_base64_of_16_bytes() {
        assert!(is_valid_key(&request_key([0xa5; 16])));
        for key in
            ["", "dGhl", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZWE=", "dGhlIHNhbXBsZSBub25j!Q=="]
        {
            assert!(!is_valid_key(key), "{key}");
        }
    }

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        assert_eq!(head_len(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"), Ok(Some(24)));
        assert_eq!(head_len(b"GET / HTTP/1.1\r\nA: b\r\n\r"), Ok(None));
        assert_eq!(head_len(b""), Ok(None));
    }

    #[test]
    fn lone_line_feeds_and_carriage_returns_are_refused() {
        assert_eq!(head_len(b"GET / HTTP/1.1\n"), Err(BadHead::BareLineEnding));
        assert_eq!(head_len(b"\n"), Err(BadHead::BareLineEnding));
        assert_eq!(head_len(b"GET / HTTP/1.1\r\nA: b\rc"), Err(BadHead::BareLineEnding));
    }

    #[test]
    fn an_endless_head_is_refused_at_the_bound() {
        assert_eq!(head_len(&[b'a'; MAX_HEAD - 1]), Ok(None));
        assert_eq!(head_len(&[b'a'; MAX_HEAD]), Err(BadHead::TooLarge));
        let mut whole = vec![b'a'; MAX_HEAD - 4];
        whole.extend_from_slice(b"\r\n\r\n");
        assert_eq!(head_len(&whole), Ok(Some(MAX_HEAD)));
    }
}
