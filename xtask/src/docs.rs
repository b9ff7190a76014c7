//! Pages that are generated from tables in the code.

use crate::shell::root;
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::fs;

/// Makes the text of a page.
type Generate = fn() -> String;

/// Pages, relative to the root.
const PAGES: &[(&str, Generate)] = &[("docs/close-codes.md", pinwire_protocol::close::markdown)];

/// Writes every page, or with `--check` compares them.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let check = args.iter().any(|arg| arg == "--check");
    for (page, generate) in PAGES {
        let path = root().join(page);
        if !check {
            fs::write(&path, generate()).with_context(|| format!("cannot write {page}"))?;
            println!("wrote {page}");
        } else if fs::read_to_string(&path).ok() != Some(generate()) {
            bail!("{page} differs from the code; `cargo xtask docs` writes it");
        }
    }
    Ok(Tally::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_pages_match_the_code() {
        run(&["--check".to_owned()]).unwrap();
    }
}
