//! Any bytes decode or are refused; keys keep their bounds; what a server sends back is decoded to what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::dialect::classify;
use pinwire_protocol::document::hocuspocus::{self as hp, Body, Frame, MAX_KEY_BYTES, decode};

fuzz_target!(|data: &[u8]| {
    let _ = classify(data);
    let Ok(Frame::Message { key, body }) = decode(data) else { return };
    assert!(key.raw.len() <= MAX_KEY_BYTES && key.raw.starts_with(key.name));
    let mut out = Vec::new();
    match body {
        Body::Sync(message) => hp::append_sync(&mut out, key.raw, &message),
        Body::Awareness(bytes) => hp::append_awareness(&mut out, key.raw, bytes),
        Body::Auth { token, version } => hp::append_auth(&mut out, key.raw, token, version),
        Body::TokenRequest => hp::append_token_request(&mut out, key.raw),
        Body::PermissionDenied { reason } => hp::append_permission_denied(&mut out, key.raw, reason),
        Body::QueryAwareness => hp::append_query_awareness(&mut out, key.raw),
        Body::Stateless(payload) => hp::append_stateless(&mut out, key.raw, payload),
        Body::Close { reason } => hp::append_close(&mut out, key.raw, reason),
        Body::SyncStatus { applied } => hp::append_sync_status(&mut out, key.raw, applied),
        Body::SyncReply(_) | Body::BroadcastStateless(_) | Body::Authenticated { .. } => return,
    }
    assert_eq!(decode(&out), Ok(Frame::Message { key, body }));
});
