//! Any response head is accepted, refused or incomplete; what is accepted was offered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::ws::handshake::{Expected, MAX_HEAD, ParsedResponse, parse_response};

const EXPECTED: Expected<'_> =
    Expected { key: "dGhlIHNhbXBsZSBub25jZQ==", protocols: &["access_token", "b"], deflate: true };

fuzz_target!(|data: &[u8]| {
    let parsed = parse_response(data, &EXPECTED);
    if data.len() >= MAX_HEAD {
        assert_ne!(parsed, Ok(ParsedResponse::Partial));
    }
    if let Ok(ParsedResponse::Complete { head_len, accepted }) = parsed {
        assert!(head_len <= data.len() && data[..head_len].ends_with(b"\r\n\r\n"));
        assert_eq!(parse_response(&data[..head_len], &EXPECTED), parsed);
        assert_eq!(parse_response(&data[..head_len - 1], &EXPECTED), Ok(ParsedResponse::Partial));
        assert!(accepted.subprotocol.is_none_or(|protocol| EXPECTED.protocols.contains(&protocol)));
        let plain = Expected { deflate: false, ..EXPECTED };
        assert_eq!(parse_response(data, &plain).is_ok(), accepted.deflate.is_none());
    }
});
