//! Any bytes parse or are refused, and what parsed is encoded to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::state_vector::StateVector;

fuzz_target!(|data: &[u8]| {
    let Ok(state_vector) = StateVector::parse(data, 10_000) else { return };
    let bytes = state_vector.encode();
    assert_eq!(bytes.len(), state_vector.encoded_len());
    assert_eq!(StateVector::parse(&bytes, 10_000), Ok(state_vector));
});
