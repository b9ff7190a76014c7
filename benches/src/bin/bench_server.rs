//! `pinwire-bench-server`: the node's engine and protocol code as a server of its own.
#![allow(clippy::print_stdout, reason = "scripts read the address from stdout")]

use clap::Parser;
use pinwire_benches::bench_server::{self, Args};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Echo and topics over WebSocket, for measurements and conformance tests
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> anyhow::Result<()> {
    bench_server::serve(&Command::parse().args, |addr| {
        println!("listening on {addr}");
        Ok(())
    })
}
