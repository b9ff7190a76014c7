//! `pinwire-admin`.

use std::process::ExitCode;

use clap::Parser as _;
use pinwire_admin::cli::Cli;
use pinwire_admin::once::CRITICAL;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pinwire-admin: {error:#}");
            ExitCode::from(CRITICAL)
        }
    }
}
