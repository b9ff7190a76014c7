//! As much of RFC 6455 as a floor needs, for the server's side.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const LENGTH_BITS: u8 = 0x7f;
const MASKED: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;

/// The request breaks the rules, or a frame does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) len: usize,
    pub(super) path: &'a str,
    pub(super) key: &'a str,
}

/// Reads a request head; none if it is not whole yet.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, Broken> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Broken)?;
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.strip_prefix("GET ")?.split(' ').next()).ok_or(Broken)?;
    let key = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
    });
    Ok(Some(Request { len: end + 4, path, key: key.ok_or(Broken)? }))
}

/// Appends the answer to a request with that key.
pub(super) fn append_upgrade(out: &mut Vec<u8>, key: &str) {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(key.as_bytes());
    digest.update(GUID);
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(STANDARD.encode(digest.digest().bytes()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Where the parts of a client's frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// FIN and opcode.
    pub(super) first: u8,
    pub(super) key: [u8; 4],
    /// Of the payload.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Frame {
    pub(super) fn opcode(self) -> u8 {
        self.first & 0xf
    }
}

/// The frame that begins `bytes`; none if it is not whole yet.
#[inline]
pub(super) fn frame(bytes: &[u8], longest: usize) -> Result<Option<Frame>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & RESERVED_BITS != 0 || second & MASKED == 0 {
        return Err(Broken);
    }
    let (len, extra) = match second & LENGTH_BITS {
        126 => match rest.first_chunk() {
            Some(len) => (usize::from(u16::from_be_bytes(*len)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(len) => (usize::try_from(u64::from_be_bytes(*len)).map_err(|_| Broken)?, 8),
            None => return Ok(None),
        },
        len => (usize::from(len), 0),
    };
    let start = 2 + extra + 4;
    if len > longest - start {
        return Err(Broken);
    }
    let Some(key) = rest[extra..].first_chunk() else { return Ok(None) };
    if bytes.len() < start + len {
        return Ok(None);
    }
    Ok(Some(Frame { first: *first, key: *key, start, end: start + len }))
}

/// Appends a server's frame with the payload of a client's, unmasked.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, first: u8, payload: &[u8], key: [u8; 4]) {
    match payload.len() {
        len @ ..=125 => out.extend_from_slice(&[first, len as u8]),
        len @ ..=0xffff => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        len => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let at = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[at..], key);
}

#[inline]
fn unmask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_protocol::ws::{self, Frame as Sent, Opcode};

    fn client_frame(len: usize) -> (Vec<u8>, Vec<u8>) {
        let payload: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let mut bytes = Vec::new();
        ws::append_frame(&mut bytes, Sent::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
        (bytes, payload)
    }

    #[test]
    fn a_request_is_answered_as_the_rfc_shows() {
        let text = b"GET /t/7 HTTP/1.1\r\nHost: a\r\nsec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest";
        let found = request(text).unwrap().unwrap();
        assert_eq!((found.path, found.len), ("/t/7", text.len() - 4));
        let mut answer = Vec::new();
        append_upgrade(&mut answer, found.key);
        assert!(answer.ends_with(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
        assert_eq!(request(&text[..40]), Ok(None));
        assert_eq!(request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Broken));
    }

    #[test]
    fn frames_of_every_length_are_read_when_they_are_whole_and_not_before() {
        for len in [0, 1, 125, 126, 1024, 65_535, 65_536] {
            let (bytes, payload) = client_frame(len);
            let found = frame(&bytes, 1 << 20).unwrap().unwrap();
            assert_eq!((found.end, found.opcode()), (bytes.len(), 2));
            for cut in [0, 1, 3, bytes.len() - 1] {
                assert_eq!(frame(&bytes[..cut], 1 << 20), Ok(None), "{len} bytes, {cut} of them there");
            }
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            append(&mut sent, found.first, &bytes[found.start..found.end], found.key);
            ws::append_frame(&mut expected, Sent::new(Opcode::Binary), &payload);
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn frames_that_no_client_may_send_are_refused() {
        assert_eq!(frame(&[0x82, 0x01, 0], 1024), Err(Broken), "not masked");
        assert_eq!(frame(&[0xc2, 0x81, 0, 0, 0, 0, 0], 1024), Err(Broken), "a reserved bit");
        let (bytes, _) = client_frame(2000);
        assert_eq!(frame(&bytes, 1024), Err(Broken), "too long");
    }
}
