//! The upgrade: a browser's request read, the answer written.

use std::hint::black_box;

use pinwire_benches::instructions::Case;
use pinwire_protocol::document::target::parse_target;
use pinwire_protocol::ws::handshake::{Parsed, append_response, negotiate_deflate, parse_request};

pub(crate) const CASES: &[Case] = &[
    Case { name: "handshake/request read", rounds: 500, run: read_request },
    Case { name: "handshake/target read", rounds: 2_000, run: read_target },
    Case { name: "handshake/response written", rounds: 500, run: write_response },
];

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const TARGET: &str =
    "/v1/notes%2Fmeeting-2041?token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl&connectionId=7";

/// What a current browser sends.
fn request() -> String {
    format!(
        "GET {TARGET} HTTP/1.1\r\n\
         Host: collab.example.com\r\n\
         Connection: Upgrade\r\n\
         Pragma: no-cache\r\n\
         Cache-Control: no-cache\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
         Upgrade: websocket\r\n\
         Origin: https://app.example.com\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: en-GB,en;q=0.9\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
}

fn read_request(rounds: u32) {
    let request = request();
    for _ in 0..rounds {
        let parsed = parse_request(black_box(request.as_bytes())).expect("a sound request");
        assert!(matches!(black_box(parsed), Parsed::Complete { .. }));
    }
}

fn read_target(rounds: u32) {
    for _ in 0..rounds {
        black_box(parse_target(black_box(TARGET)));
    }
}

fn write_response(rounds: u32) {
    let mut out = Vec::with_capacity(512);
    for _ in 0..rounds {
        out.clear();
        let deflate = negotiate_deflate(black_box(&["permessage-deflate; client_max_window_bits"]));
        append_response(&mut out, black_box(KEY), None, deflate);
        black_box(&out);
    }
}
