//! What is allowed where.

use super::Violation;
use super::source::{Use, What};
use std::path::Path;

/// Crates that turn input into output and nothing else: no I/O, no clock, no globals.
pub(super) const PURE_CRATES: &[&str] = &["protocol", "token", "shard", "peer", "cluster", "shed"];

/// The only files with unsafe code.
const UNSAFE_FILES: &[&str] = &[
    "engine/src/uring.rs",
    "engine/src/uring/ring.rs",
    "engine/src/sys.rs",
    "node/src/memory.rs",
    "benches/src/floor/uring.rs",
];

/// Paths a pure crate does not use, and what they are.
const IMPURE_PATHS: &[(&str, &str)] = &[
    ("std::net", "sockets"),
    ("std::fs", "files"),
    ("std::io", "I/O"),
    ("std::os", "the operating system"),
    ("std::process", "processes"),
    ("std::env", "the environment"),
    ("std::thread", "threads"),
    ("std::time::Instant::now", "a clock"),
    ("std::time::SystemTime", "a clock"),
    ("tokio", "a runtime"),
    ("monoio", "a runtime"),
    ("mio", "a runtime"),
    ("libc", "system calls"),
];

/// Values that happen to live beside sockets.
const PURE_PATHS: &[&str] =
    &["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

/// Types that make a static a global that changes.
const INTERIOR: &[&str] =
    &["OnceLock", "OnceCell", "LazyLock", "LazyCell", "Mutex", "RwLock", "Atomic", "Cell", "Lazy"];

/// Macros that make one.
const GLOBAL_MACROS: &[&str] = &["thread_local", "lazy_static"];

pub(super) fn check(file: &Path, uses: &[Use]) -> Vec<Violation> {
    let place = Place::of(file);
    uses.iter()
        .filter_map(|used| {
            let message = place.objection(used)?;
            Some(Violation { file: file.to_path_buf(), line: used.line, message })
        })
        .collect()
}

/// The one place that waits by the clock: between two looks at tables of the kernel, which tell nobody of a change.
const PAUSE_FILE: &str = "tests/src/node/mod.rs";

/// Which rules hold for a file.
struct Place {
    pure: bool,
    /// Nothing in it ships.
    test: bool,
    may_be_unsafe: bool,
    may_pause: bool,
}

impl Place {
    fn of(file: &Path) -> Self {
        let name = file.to_string_lossy();
        let is_test_file =
            name.ends_with("/tests.rs") || name.contains("/tests/") || name.starts_with("tests/");
        let in_pure_crate = PURE_CRATES.iter().any(|pure| name.starts_with(&format!("{pure}/src/")));
        Self {
            pure: in_pure_crate && !is_test_file,
            test: is_test_file,
            may_be_unsafe: UNSAFE_FILES.contains(&name.as_ref()),
            may_pause: name == PAUSE_FILE,
        }
    }

    fn objection(&self, used: &Use) -> Option<String> {
        let in_test = self.test || used.in_test;
        let everywhere = match &used.what {
            What::Unsafe if !self.may_be_unsafe => {
                Some(format!("unsafe code outside {}", UNSAFE_FILES.join(", ")))
            }
            What::Attribute(path) if path == "ignore" => Some("no test is ignored".to_owned()),
            What::Path(path) if in_test && !self.may_pause && !used.on_virtual_clock && is_sleep(path) => {
                Some("a test sleeps: wait for the event instead".to_owned())
            }
            _ => None,
        };
        everywhere.or_else(|| if self.pure && !in_test { impurity(&used.what) } else { None })
    }
}

fn is_sleep(path: &str) -> bool {
    ["thread::sleep", "time::sleep", "sleep"]
        .iter()
        .any(|sleep| path == *sleep || path.ends_with(&format!("::{sleep}")))
}

/// Why a pure crate cannot have this.
fn impurity(what: &What) -> Option<String> {
    match what {
        What::Path(path) => impure_path(path).map(|kind| format!("{kind} in a pure crate: {path}")),
        What::Static { mutable: true, .. } => Some("a mutable static in a pure crate".to_owned()),
        What::Static { ty, .. } if INTERIOR.iter().any(|interior| ty.contains(interior)) => {
            Some(format!("a global that changes in a pure crate: {ty}"))
        }
        What::Macro(name) if GLOBAL_MACROS.contains(&name.as_str()) => {
            Some(format!("a global in a pure crate: {name}!"))
        }
        _ => None,
    }
}

fn impure_path(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("crate::").map_or(path, |_| "");
    let below = |banned: &str| path == banned || path.starts_with(&format!("{banned}::"));
    if PURE_PATHS.iter().any(|pure| below(pure)) {
        return None;
    }
    let listed = IMPURE_PATHS.iter().find(|(banned, _)| below(banned)).map(|(_, kind)| *kind);
    // An import may have shortened them.
    let clock = path.ends_with("Instant::now") || path.split("::").any(|segment| segment == "SystemTime");
    listed.or(if clock { Some("a clock") } else { None })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn objections(file: &str, text: &str) -> Vec<String> {
        check(Path::new(file), &source::read(text).unwrap())
            .into_iter()
            .map(|violation| violation.message)
            .collect()
    }

    #[test]
    fn pure_crates_do_no_io_and_read_no_clock() {
        for text in [
            "use std::net::TcpStream;",
            "use std::{fmt, fs::File};",
            "use std::io::{Read, Write};",
            "use std::io as streams;",
            "use std::*; fn f() { std::env::var(\"A\"); }",
            "fn f() -> std::process::ExitCode { todo!() }",
            "fn f() { std::thread::spawn(|| ()); }",
            "use std::time::Instant; fn f() { Instant::now(); }",
            "use std::time::SystemTime;",
            "fn f(at: std::time::SystemTime) {}",
            "fn f() { assert!(std::fs::exists(\"a\").is_ok()); }",
            "fn f() { tokio::spawn(async {}); }",
            "use libc::write;",
        ] {
            for pure in PURE_CRATES {
                assert!(!objections(&format!("{pure}/src/a.rs"), text).is_empty(), "{pure}: {text}");
            }
            assert_eq!(objections("node/src/a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn pure_crates_hold_no_globals() {
        for text in [
            "static mut COUNT: u32 = 0;",
            "static KEYS: std::sync::OnceLock<u32> = std::sync::OnceLock::new();",
            "static COUNT: AtomicU64 = AtomicU64::new(0);",
            "static TABLE: LazyLock<u32> = LazyLock::new(|| 1);",
            "thread_local! { static POOL: u32 = 1; }",
            "fn f() { static SEEN: Mutex<u32> = Mutex::new(0); }",
        ] {
            assert!(!objections("shard/src/a.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn pure_crates_may_have_constants_time_spans_and_tests_that_use_files() {
        for text in [
            "static NAMES: [&str; 2] = [\"a\", \"b\"]; const LIMIT: usize = 4;",
            "use std::time::Duration; fn f(now: std::time::Instant) -> Duration { Duration::ZERO }",
            "#[cfg(test)] mod tests { use std::fs; #[test] fn t() { fs::read(\"a\").unwrap(); } }",
            "mod io {} use crate::io; use self::io as own;",
            "use std::net::{IpAddr, Ipv6Addr};",
            "/// std::net in a comment\nconst TEXT: &str = \"std::fs\";",
        ] {
            assert_eq!(objections("protocol/src/a.rs", text), [""; 0], "{text}");
        }
        assert_eq!(objections("protocol/tests/corpus.rs", "use std::fs;"), [""; 0]);
    }

    #[test]
    fn unsafe_code_stays_in_its_files() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl Send for A {}",
            "unsafe trait A {}",
            "#![allow(unsafe_code)]",
            "#[expect(unsafe_code)] fn f() {}",
            "trait A { unsafe fn f(); }",
            "m! { unsafe { g() } }",
        ] {
            assert!(!objections("engine/src/slab.rs", text).is_empty(), "{text}");
            assert!(!objections("node/src/engine/src/uring.rs", text).is_empty(), "{text}");
            assert!(!objections("benches/src/floor/epoll.rs", text).is_empty(), "{text}");
            assert_eq!(objections("engine/src/uring.rs", text), [""; 0], "{text}");
        }
        assert_eq!(objections("engine/src/slab.rs", "#![deny(unsafe_code)]"), [""; 0]);
    }

    #[test]
    fn tests_are_neither_ignored_nor_asleep() {
        for text in [
            "#[test] #[ignore] fn t() {}",
            "#[test] #[ignore = \"slow\"] fn t() {}",
            "#[test] #[cfg_attr(unix, ignore)] fn t() {}",
            "#[test] fn t() { std::thread::sleep(d); }",
            "#[cfg(test)] mod tests { use std::thread; fn f() { thread::sleep(d); } }",
            "#[cfg(all(test, unix))] mod tests { fn f() { tokio::time::sleep(d).await_it(); } }",
        ] {
            assert!(!objections("node/src/a.rs", text).is_empty(), "{text}");
        }
        assert!(!objections("tests/src/a.rs", "use std::thread::sleep;").is_empty());
        assert_eq!(objections("node/src/a.rs", "fn f() { std::thread::sleep(d); }"), [""; 0]);
        assert_eq!(objections(PAUSE_FILE, "fn f() { std::thread::sleep(d); }"), [""; 0]);

        let paused = "#[tokio::test(start_paused = true)] async fn t() { tokio::time::sleep(d).await; }";
        assert_eq!(objections("node/src/a.rs", paused), [""; 0]);
        let waiting = paused.replace("start_paused = true", "flavor = \"current_thread\"");
        assert_eq!(objections("node/src/a.rs", &waiting).len(), 1);
    }
}
