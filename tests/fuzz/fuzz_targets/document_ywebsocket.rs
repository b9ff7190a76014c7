//! Any bytes decode or are refused, and what decoded is encoded to the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::dialect::classify;
use pinwire_protocol::document::ywebsocket::{self as yws, Message, decode};

fuzz_target!(|data: &[u8]| {
    let _ = classify(data);
    let Ok(message) = decode(data) else { return };
    let mut out = Vec::new();
    let len = match message {
        Message::SyncStep1 { state_vector } => {
            yws::append_sync_step1(&mut out, state_vector);
            yws::sync_len(state_vector.len())
        }
        Message::SyncStep2 { update } => {
            yws::append_sync_step2(&mut out, update);
            yws::sync_len(update.len())
        }
        Message::Update { update } => {
            yws::append_update(&mut out, update);
            yws::sync_len(update.len())
        }
        Message::Awareness(body) => {
            yws::append_awareness(&mut out, body);
            yws::awareness_len(body.len())
        }
        Message::PermissionDenied { reason } => {
            yws::append_permission_denied(&mut out, reason);
            yws::permission_denied_len(reason.len())
        }
        Message::QueryAwareness => {
            yws::append_query_awareness(&mut out);
            1
        }
    };
    assert_eq!(out.len(), len);
    assert_eq!(decode(&out), Ok(message));
});
