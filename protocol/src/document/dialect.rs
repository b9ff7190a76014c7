//! Which dialect a connection speaks, told from its first binary frame.

use super::Malformed;
use super::awareness::{self, Awareness};
use super::hocuspocus::{self, Key};
use super::varint::Reader;

/// The two ways Yjs clients talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// One document, named by the path.
    YWebsocket,
    /// Documents named in each frame.
    Hocuspocus,
}

/// Tells the dialect of the first binary frame.
///
/// - `00` and then 00, 01 or 02 is y-websocket. The only Hocuspocus frame that starts so has an empty key, which names
///   no document.
/// - `01` is y-websocket where the varBytes after it fills the frame and parses as awareness, JSON included: no
///   Hocuspocus frame about a document of one letter does both.
/// - Anything else is Hocuspocus if it starts with a key that is not empty and, a bare ping or pong apart, a type.
///
/// The frame may still be malformed in what follows.
pub fn classify(frame: &[u8]) -> Result<Dialect, Malformed> {
    match *frame {
        [0, 0..=2, ..] => return Ok(Dialect::YWebsocket),
        [1, ref rest @ ..] if is_awareness(rest) => return Ok(Dialect::YWebsocket),
        [_] if hocuspocus::decode(frame).is_ok() => return Ok(Dialect::Hocuspocus),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let key = Key::read(&mut reader)?;
    if key.raw.is_empty() {
        return Err(Malformed::UnknownType);
    }
    reader.var_uint()?;
    Ok(Dialect::Hocuspocus)
}

fn is_awareness(rest: &[u8]) -> bool {
    let mut reader = Reader::new(rest);
    let Ok(body) = reader.var_bytes() else { return false };
    reader.is_empty() && Awareness::parse(body, &awareness::Bounds::default()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::{sync::SyncMessage, ywebsocket};
    use super::*;

    fn hocuspocus_frames(key: &str) -> Vec<Vec<u8>> {
        let mut frames = vec![Vec::new(); 6];
        hocuspocus::append_auth(&mut frames[0], key, "eyJh.eyJi.c2ln", Some("4.8.0"));
        hocuspocus::append_auth(&mut frames[1], key, "", None);
        hocuspocus::append_sync(&mut frames[2], key, &SyncMessage::Step1 { state_vector: &[0] });
        hocuspocus::append_awareness(&mut frames[3], key, b"\x01\x07\x01\x02{}");
        hocuspocus::append_query_awareness(&mut frames[4], key);
        hocuspocus::append_close(&mut frames[5], key, None);
        frames
    }

    #[test]
    fn hocuspocus_names_of_every_length_are_told_apart() {
        for len in 1..=300 {
            for letter in ["a", "\u{1}", "0", "{", "\0"] {
                for frame in hocuspocus_frames(&letter.repeat(len)) {
                    if hocuspocus::decode(&frame).is_ok() {
                        assert_eq!(classify(&frame), Ok(Dialect::Hocuspocus), "{frame:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn ywebsocket_may_start_with_sync_an_edit_or_awareness() {
        let mut frames = vec![Vec::new(); 4];
        ywebsocket::append_sync_step1(&mut frames[0], &[0]);
        ywebsocket::append_update(&mut frames[1], &[0, 0]);
        ywebsocket::append_awareness(&mut frames[2], b"\x01\x07\x01\x0d{\"name\":\"Jo\"}");
        ywebsocket::append_awareness(&mut frames[3], &[0]);
        for frame in frames {
            assert_eq!(classify(&frame), Ok(Dialect::YWebsocket), "{frame:?}");
        }
    }

    #[test]
    fn awareness_that_does_not_parse_is_not_ywebsocket() {
        // A body that fills the frame, but whose state is not JSON.
        assert_eq!(classify(b"\x01\x05\x01\x07\x01\x01x"), Ok(Dialect::Hocuspocus));
        // A body that ends before the frame.
        assert_eq!(classify(&[1, 1, 0, 0]), Ok(Dialect::Hocuspocus));
    }

    #[test]
    fn a_bare_pong_is_hocuspocus_and_a_bare_query_is_neither() {
        assert_eq!(classify(&[10]), Ok(Dialect::Hocuspocus));
        assert_eq!(classify(&[3]), Err(Malformed::Truncated));
    }

    #[test]
    fn frames_of_neither_dialect_are_refused() {
        assert_eq!(classify(&[]), Err(Malformed::Truncated));
        assert_eq!(classify(&[0]), Err(Malformed::UnknownType));
        assert_eq!(classify(&[0, 3]), Err(Malformed::UnknownType));
        assert_eq!(classify(&[0xc1, 0x02, 0]), Err(Malformed::TooLarge));
        assert_eq!(classify(&[2, 0xff, 0xff, 0]), Err(Malformed::Utf8));
        assert_eq!(classify(&[2, b'a', b'b']), Err(Malformed::Truncated));
    }
}
