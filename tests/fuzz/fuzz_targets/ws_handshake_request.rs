//! Any request head is read, refused or incomplete, and more bytes never turn a complete or refused one into another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::ws::handshake::{
    BadRequest, Expected, MAX_HEAD, Parsed, ParsedResponse, append_response, negotiate_deflate,
    parse_request, parse_response,
};

fuzz_target!(|data: &[u8]| {
    let parsed = parse_request(data);
    if data.len() >= MAX_HEAD {
        assert_ne!(parsed, Ok(Parsed::Partial));
    }
    match parsed {
        Ok(Parsed::Partial) => {}
        Ok(Parsed::Complete { head_len, ref request }) => {
            assert!(head_len <= data.len() && data[..head_len].ends_with(b"\r\n\r\n"));
            assert_eq!(parse_request(&data[..head_len]), parsed);
            assert_eq!(parse_request(&data[..head_len - 1]), Ok(Parsed::Partial));
            if !request.is_upgrade() {
                return;
            }
            assert!(request.method == "GET" && request.target.starts_with('/') && request.host.is_some());
            let key = request.key.expect("an upgrade has a key");
            let subprotocol = request.protocols.first().copied();
            let deflate = negotiate_deflate(&request.extensions);
            let mut response = Vec::new();
            append_response(&mut response, key, subprotocol, deflate);
            let expected = Expected { key, protocols: &request.protocols, deflate: true };
            let accepted = parse_response(&response, &expected).expect("our own response");
            assert!(matches!(accepted, ParsedResponse::Complete { head_len, accepted }
                if head_len == response.len() && accepted.subprotocol == subprotocol));
        }
        Err(error) => {
            let mut response = Vec::new();
            error.append_response(&mut response);
            assert!(response.starts_with(b"HTTP/1.1 4"));
            // A refusal is final: it does not become a request with more bytes, unless the whole head was read for it.
            if error == BadRequest::Malformed || error == BadRequest::BareLineEnding {
                let more = [data, b"\r\n\r\n"].concat();
                assert!(parse_request(&more).is_err());
            }
        }
    }
});
