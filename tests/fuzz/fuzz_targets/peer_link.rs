//! Whatever a peer sends after its proof is taken apart without a panic, and what is understood is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_peer::{Assembler, Fragments, decode, encode};

fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::default();
    let (first, second) = data.split_at(data.len() / 2);
    for piece in [first, second] {
        assembler.feed(piece);
        while let Ok(Some(message)) = assembler.next_message() {
            assert!(message.len() <= data.len());
            again(&message);
        }
    }
    again(data);
});

/// A message that is understood comes through a link as it is.
fn again(message: &[u8]) {
    let Ok(read) = decode(message) else { return };
    let mut written = Vec::new();
    encode(&read, &mut written);
    let (mut out, mut bytes, mut assembler) = (Fragments::default(), Vec::new(), Assembler::default());
    out.push(1, written.clone());
    out.fill(&mut bytes, usize::MAX);
    assembler.feed(&bytes);
    let carried = assembler.next_message().expect("within the bounds").expect("whole");
    assert_eq!(carried, written);
    let mut twice = Vec::new();
    encode(&decode(&carried).expect("written by us"), &mut twice);
    assert_eq!(twice, written);
}
