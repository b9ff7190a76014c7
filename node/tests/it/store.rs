//! Documents on disk as operators meet them: the commands that look at them, and a node that has them.

use std::fs;
use std::time::Duration;

use pinwire_store::{Files, Options, Updates, recover};

use crate::rig::{Home, Serving, run};

/// A store with a document of each app, left by a node that ended.
fn left_behind(folder: &std::path::Path) {
    let mut recovered = recover(folder, Box::new(Files), Options::default()).unwrap();
    for (app, byte) in [("app", 0x11), ("other", 0x22)] {
        let name = format!("tenant::{app}::doc");
        recovered.store.open(&name, Duration::ZERO);
        let updates = Updates::from_iter([[byte; 300].as_slice()]);
        recovered.store.append(&name, 312, &updates, Duration::ZERO);
    }
    recovered.store.commit(Duration::ZERO).unwrap();
}

#[test]
fn documents_are_listed_checked_and_erased() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    left_behind(folder.path());
    assert_eq!(run(&["store", "check", "--path", path]), (0, "good: 2 documents, 608 bytes\n".to_owned()));
    let (status, list) = run(&["store", "list", "--path", path]);
    assert_eq!((status, list.lines().count()), (0, 2), "{list}");
    assert!(list.contains("tenant::app::doc") && list.contains("tenant::other::doc"), "{list}");
    let (status, told) = run(&["store", "erase", "--path", path, "--app", "tenant::app"]);
    assert_eq!((status, told.as_str()), (0, "removed 1 documents\n"));
    let (_, list) = run(&["store", "list", "--path", path, "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["name"], "tenant::other::doc");
    assert_eq!((list[0]["bytes"].as_u64(), list[1].is_null()), (Some(304), true));
    let holds = |byte: u8| {
        let files = fs::read_dir(folder.path()).unwrap();
        files.into_iter().any(|file| {
            fs::read(file.unwrap().path()).unwrap().windows(100).any(|window| window == [byte; 100])
        })
    };
    assert!(!holds(0x11) && holds(0x22), "it is overwritten, the rest is there");
}

#[test]
fn damage_is_told_and_costs_what_was_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    left_behind(folder.path());
    let is_journal = |file: &fs::DirEntry| file.path().extension().is_some_and(|end| end == "log");
    let journal = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).find(is_journal).unwrap().path();
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(100).position(|window| window == [0x11; 100]).unwrap();
    bytes[at] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let (status, told) = run(&["store", "list", "--path", path]);
    assert!(status == 2 && told.contains("tenant::other::doc"), "{told}");
    assert!(told.contains("damaged: journal-") && told.contains(" damaged bytes at "), "{told}");
    assert_eq!(run(&["store", "check", "--path", path]), (0, "good: 1 documents, 304 bytes\n".to_owned()));
}

#[test]
fn a_folder_that_is_no_store_or_is_in_use_is_told() {
    let home = Home::new();
    let folder = home.config().with_file_name("documents");
    let path = folder.to_str().unwrap();
    let (status, told) = run(&["store", "check", "--path", path]);
    assert!(status == 2 && told.contains("is not there"), "{told}");
    let config = home.config();
    let (status, told) = run(&["store", "list", "--config", config.to_str().unwrap()]);
    assert!(status == 2 && told.contains("store.path is not set"), "{told}");
    let set = format!("store.path={path}");
    let settings = ["listen=127.0.0.1:0", "threads=1", set.as_str()];
    let node = Serving::start_with(&home.config(), &settings);
    let (status, told) = run(&["store", "list", "--path", path]);
    let owner = format!("in use by process {}", node.child.id());
    assert!(status == 2 && told.contains(&owner), "{told}");
    for (which, name, hint) in
        [("--app", "tenant", "TENANT::APP"), ("--document", "doc", "TENANT::APP::NAME")]
    {
        let (status, told) = run(&["store", "erase", "--path", path, which, name]);
        assert!(status == 2 && told.contains(hint), "{told}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let (status, told) = run(&["store", "check", "--path", nothing.path().to_str().unwrap()]);
    assert!(status == 2 && told.contains("is no store"), "{told}");
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "nothing is made");
    let (_, metrics) = node.get("/metrics", "");
    for name in ["pinwire_store_documents 0", "pinwire_store_failing 0", "pinwire_store_commit_seconds_count"]
    {
        assert!(metrics.contains(name), "{name} in\n{metrics}");
    }
    assert_eq!(node.end(), 0);
}
