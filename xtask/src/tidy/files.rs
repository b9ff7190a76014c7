//! Rules about files as text: machine paths, registry hosts, the file map, and the JavaScript tests.

use super::{Violation, is_rust};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Roots of directories that exist on somebody's machine only. Split, so that this file passes its own check.
const MACHINE_ROOTS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts of package registries. Where packages come from is the reader's configuration, not the project's.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("registry.npm", "js.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("deb.deb", "ian.org"),
    concat!("art", "ifactory"),
];

/// JavaScript that would make a test pass without running, or wait by the clock.
const JAVASCRIPT_BANS: &[(&str, &str)] = &[
    ("test.skip(", "no test is skipped"),
    ("test.todo(", "no test is left to do"),
    ("test.only(", "no test runs alone"),
    ("skip:", "no test is skipped"),
    ("setTimeout(", "tests wait for events; the clock belongs to lib/wait.js"),
];

pub(super) fn check_text(file: &Path, text: &str) -> Vec<Violation> {
    let is_test_script = file.to_string_lossy().ends_with(".test.js");
    let mut violations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut object = |message: String| {
            violations.push(Violation { file: file.to_path_buf(), line: index + 1, message });
        };
        if let Some(root) = MACHINE_ROOTS.iter().find(|root| has_path(line, root)) {
            object(format!("a path of some machine: {root}"));
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)) {
            object(format!("a registry by its host: {host}"));
        }
        if let Some((_, message)) =
            JAVASCRIPT_BANS.iter().find(|(ban, _)| is_test_script && line.contains(ban))
        {
            object((*message).to_owned());
        }
    }
    violations
}

/// True where `root` starts a path: not in the middle of a longer one.
fn has_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        !line[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || "._-/}*".contains(before))
    })
}

/// Every Rust file is named in the section called "File map" of the architecture page, and nothing else is.
pub(super) fn check_file_map(architecture: &str, files: &[PathBuf]) -> Vec<Violation> {
    let Some(map) = section(architecture, "file map") else { return Vec::new() };
    let page = PathBuf::from("ARCHITECTURE.md");
    let object = |message: String| Violation { file: page.clone(), line: 0, message };
    let words: Vec<&str> = map
        .split(|separator: char| !(separator.is_alphanumeric() || "._-/".contains(separator)))
        .filter(|word| !word.is_empty())
        .collect();
    let sources: Vec<&PathBuf> = files.iter().filter(|file| is_rust(file)).collect();

    let unnamed = sources.iter().filter(|file| !words.iter().any(|word| names(word, file)));
    let mut violations: Vec<Violation> =
        unnamed.map(|file| object(format!("the file map does not name {}", file.display()))).collect();
    let stale =
        words.iter().filter(|word| word.ends_with(".rs") && !sources.iter().any(|file| names(word, file)));
    violations.extend(stale.map(|word| object(format!("the file map names {word}, which is gone"))));
    violations
}

/// What shows a promise is named on the page of regions: tests that exist.
pub(super) fn check_promises(page: &str, functions: &BTreeSet<String>) -> Vec<Violation> {
    let Some(promises) = section(page, "what is promised, and what shows it") else {
        let message = "the section `What is promised, and what shows it` is gone".to_owned();
        return vec![Violation { file: PathBuf::from("docs/regions.md"), line: 0, message }];
    };
    // Between backticks; scenarios are single words.
    let names = promises.split('`').skip(1).step_by(2).filter(|name| name.contains('_'));
    let gone = names.filter(|name| !functions.contains(*name));
    gone.map(|name| Violation {
        file: PathBuf::from("docs/regions.md"),
        line: 0,
        message: format!("a promise is shown by {name}, which is no test (any more)"),
    })
    .collect()
}

/// Names of the functions that a Rust file defines.
pub(super) fn functions(text: &str) -> impl Iterator<Item = String> {
    let name = |line: &str| {
        let (_, behind) = line.trim_start().split_once("fn ")?;
        Some(behind.split_once(['(', '<'])?.0.to_owned())
    };
    text.lines().filter_map(name)
}

/// A file is named by the end of its path (`ws/mask.rs`, `mask.rs`); `mod.rs`, `lib.rs` and `main.rs` by their directory too.
fn names(word: &str, file: &Path) -> bool {
    let word = Path::new(word.trim_start_matches("./"));
    if file.ends_with(word) {
        return true;
    }
    let is_root =
        file.file_name().is_some_and(|name| name == "mod.rs" || name == "lib.rs" || name == "main.rs");
    is_root
        && file.parent().is_some_and(|parent| {
            parent.ends_with(word) || parent.parent().is_some_and(|up| up.ends_with(word))
        })
}

/// The text under the first heading that contains `title` (lower case), up to the next heading of its rank.
fn section<'text>(page: &'text str, title: &str) -> Option<&'text str> {
    let rank = |line: &str| line.bytes().take_while(|byte| *byte == b'#').count();
    let mut start = None;
    let mut offset = 0;
    for line in page.split_inclusive('\n') {
        match start {
            None if rank(line) > 0 && line.to_lowercase().contains(title) => {
                start = Some((offset + line.len(), rank(line)));
            }
            Some((from, level)) if (1..=level).contains(&rank(line)) => return Some(&page[from..offset]),
            _ => {}
        }
        offset += line.len();
    }
    start.map(|(from, _)| &page[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        check_text(Path::new(file), text).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        for root in MACHINE_ROOTS {
            assert_eq!(messages("README.md", &format!("cd {root}x")).len(), 1);
            assert_eq!(messages("README.md", &format!("in target{root}x")).len(), 0, "the middle of a path");
        }
        for host in REGISTRY_HOSTS {
            assert_eq!(
                messages("package-lock.json", &format!("\"resolved\": \"https://{host}/ws\"")).len(),
                1
            );
        }
        assert_eq!(messages("README.md", "a frame/work/item; https://docs.example/home/").len(), 0);
    }

    #[test]
    fn a_promise_whose_test_is_gone_is_found() {
        let page = "## What is promised, and what shows it\n| a | `is_there`, `gone_again`; chaos `kill` |\n## Next\n`or_this`";
        let functions = functions("#[test]\nfn is_there() {}\n    pub async fn other<T>(it: T) {}");
        let functions: BTreeSet<String> = functions.collect();
        assert!(functions.contains("other"));
        let messages: Vec<String> =
            check_promises(page, &functions).into_iter().map(|violation| violation.message).collect();
        assert_eq!(messages, ["a promise is shown by gone_again, which is no test (any more)"]);
        assert_eq!(check_promises("# Regions", &functions).len(), 1);
    }

    #[test]
    fn client_tests_are_neither_skipped_nor_asleep() {
        for text in [
            "test.skip('a', () => {})",
            "test('a', { skip: true })",
            "await new Promise(r => setTimeout(r, 9))",
        ] {
            assert_eq!(messages("tests/clients/a.test.js", text).len(), 1, "{text}");
        }
        assert_eq!(messages("tests/clients/lib/wait.js", "setTimeout(resolve, 9)").len(), 0);
    }

    #[test]
    fn the_file_map_names_every_file_and_no_other() {
        let files = ["a/src/lib.rs", "a/src/ws/mod.rs", "a/src/ws/mask.rs", "README.md"].map(PathBuf::from);
        let page = |map: &str| format!("# Page\n\nother.rs\n\n## File map\n\n{map}\n\n## Next\n\nmore.rs\n");
        assert_eq!(check_file_map(&page("a/: lib.rs, ws/ (`mask.rs`)"), &files), []);
        assert_eq!(check_file_map("# No such section", &files), []);

        let missing = check_file_map(&page("a/: lib.rs, ws/"), &files);
        assert_eq!(missing.len(), 1);
        assert!(missing[0].message.contains("a/src/ws/mask.rs"));

        let stale = check_file_map(&page("a/: lib.rs, ws/ mask.rs utf8.rs"), &files);
        assert_eq!(stale.len(), 1);
        assert!(stale[0].message.contains("utf8.rs"));
    }
}
