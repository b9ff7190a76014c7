//! The planning page shows what the command says: blocks that begin with `$ pinwire-loadgen plan` are run and compared.

use std::path::Path;

use clap::Parser;
use pinwire_loadgen::cli::{Cli, Command};
use pinwire_loadgen::plan::plan;

/// Set to write the page's blocks anew, after a change of coefficients.
const UPDATE: &str = "PINWIRE_UPDATE_PAGES";
const OPEN: &str = "```console\n$ pinwire-loadgen plan ";

#[test]
fn the_page_shows_what_the_command_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/planning.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut parts = page.split(OPEN);
    let mut anew = parts.next().unwrap().to_owned();
    let mut blocks = 0;
    for part in parts {
        let (flags, rest) = part.split_once('\n').unwrap();
        let (_, after) = rest.split_once("```").expect("the block ends");
        anew.push_str(OPEN);
        anew.push_str(&format!("{flags}\n{}```{after}", said(flags)));
        blocks += 1;
    }
    assert!(blocks >= 2, "the page shows idle connections, and connections with traffic");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, anew).unwrap();
    } else {
        assert!(
            page == anew,
            "docs/planning.md is old; {UPDATE}=1 cargo nextest run -p pinwire-loadgen writes it anew"
        );
    }
}

fn said(flags: &str) -> String {
    let command = format!("pinwire-loadgen plan {flags}");
    match Cli::parse_from(command.split_whitespace()).command {
        Some(Command::Plan(args)) => plan(&args).unwrap(),
        _ => panic!("{command} is no plan"),
    }
}
