//! Any body parses or is refused; one that parses yields as many entries as it says, and is encoded to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::awareness::{Awareness, Bounds, append_body, body_len};

fuzz_target!(|data: &[u8]| {
    let Ok(body) = Awareness::parse(data, &Bounds::default()) else { return };
    let entries: Vec<_> = body.iter().collect();
    assert_eq!(entries.len(), body.len());
    let mut out = Vec::new();
    append_body(&mut out, &entries);
    assert_eq!(out.len(), body_len(&entries));
    let again = Awareness::parse(&out, &Bounds::default()).expect("was just encoded");
    assert!(again.iter().eq(entries));
});
