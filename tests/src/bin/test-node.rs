//! A node for integration tests: its options are the first argument, it stops when stdin ends.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pinwire_tests::node::run_child()
}
