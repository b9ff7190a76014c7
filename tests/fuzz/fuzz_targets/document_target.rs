//! Any request target is read without a panic, and nothing read is longer than what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::name::{NameRules, is_valid_name};
use pinwire_protocol::document::target::parse_target;

fuzz_target!(|data: &str| {
    let target = parse_target(data);
    for read in [&target.document, &target.token].into_iter().flatten() {
        assert!(read.len() <= data.len());
    }
    if let Some(document) = &target.document {
        let _ = is_valid_name(document, &NameRules { allow_dot_colon: true });
    }
    let _ = target.param("token");
});
