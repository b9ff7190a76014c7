//! Whatever the scanner accepts, yrs decodes, merges, subtracts and applies without an error or a panic. The input is
//! tried as an update, and as choices from which a well-formed one is built.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::document::update::{Bounds, scan};

#[path = "../../../protocol/tests/document_support/grammar.rs"]
mod grammar;
#[path = "../../../protocol/tests/document_support/yrs_use.rs"]
mod yrs_use;

fuzz_target!(|data: &[u8]| {
    let built = grammar::update_from(data);
    for update in [data, &built] {
        if scan(update, &Bounds::default(), &mut ()).is_ok() {
            yrs_use::use_as_a_node_does(update, &[0, 0]);
        }
    }
});
