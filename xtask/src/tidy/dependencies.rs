//! The layers as cargo sees them: what pure crates may not depend on, directly or through others.

use super::Violation;
use super::rules::PURE_CRATES;
use crate::shell::{cargo, stdout};
use anyhow::Result;
use std::path::Path;

/// Nowhere below a pure crate: they open sockets or run loops.
const BANNED_IN_TREE: &[&str] =
    &["tokio", "monoio", "mio", "io-uring", "socket2", "hyper", "async-std", "smol", "polling", "reqwest"];

/// Not asked for by a pure crate itself: system calls, randomness, globals, clocks.
const BANNED_DIRECT: &[&str] = &[
    "libc",
    "nix",
    "rustix",
    "rand",
    "getrandom",
    "once_cell",
    "lazy_static",
    "parking_lot",
    "tracing",
    "log",
    "chrono",
];

pub(super) fn check() -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for pure in PURE_CRATES {
        let package = format!("pinwire-{pure}");
        let tree =
            stdout(&mut cargo(["tree", "--prefix=depth", "--edges=normal", "--format={p}", "-p", &package]))?;
        let manifest = Path::new(pure).join("Cargo.toml");
        violations.extend(objections(&tree).map(|message| Violation {
            file: manifest.clone(),
            line: 0,
            message,
        }));
    }
    Ok(violations)
}

/// Reads `cargo tree --prefix=depth`: lines such as `1libc v0.2.1`, the crate itself at depth 0.
fn objections(tree: &str) -> impl Iterator<Item = String> {
    tree.lines().filter_map(|line| {
        let name_at = line.find(|character: char| !character.is_ascii_digit())?;
        let depth: u32 = line[..name_at].parse().ok()?;
        let name = line[name_at..].split_whitespace().next()?;
        let banned = BANNED_IN_TREE.contains(&name) || (depth == 1 && BANNED_DIRECT.contains(&name));
        banned.then(|| format!("a pure crate depends on {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_banned_at_any_depth_and_system_calls_directly() {
        let tree = "0pinwire-shard v0.1.0\n1libc v0.2.1\n1yrs v0.28.1\n2libc v0.2.1 (*)\n3tokio v1.0.0 (proc-macro)\n";
        let found: Vec<String> = objections(tree).collect();
        assert_eq!(found, ["a pure crate depends on libc", "a pure crate depends on tokio"]);
    }
}
