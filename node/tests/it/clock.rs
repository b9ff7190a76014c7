//! Sessions and time: tokens that end, and clocks that are set while a node runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::ywebsocket::{self, Message};
use serde_json::json;

use crate::member::Member;
use crate::rig::{Home, Serving, program, run};

/// An update by client 7 that inserts "a" at the start of the text "t".
const EDIT: &[u8] = &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0];
const EXPIRED: &str = "token expired";

fn home() -> Home {
    let home = Home::new();
    let text = fs::read_to_string(home.config()).unwrap();
    let text = text
        .replace("# end_sessions = false", "end_sessions = true")
        .replace("# leeway = \"30s\"", "leeway = \"0s\"");
    assert!(text.contains("\nend_sessions = true") && text.contains("\nleeway = \"0s\""));
    fs::write(home.config(), text).unwrap();
    home
}

fn unix_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A token that ends in so many seconds.
fn token(home: &Home, seconds: u64) -> String {
    let secret = fs::read_to_string(home.secret()).unwrap();
    let claims = json!({ "exp": unix_now() + seconds }).to_string();
    let (status, token) = run(&["token", "mint", "--secret", secret.trim(), "--claims", &claims]);
    assert_eq!(status, 0, "{token}");
    token.trim().to_owned()
}

/// Sees that the member is served: it asks for everything, and gets it.
fn ask(member: &mut Member) -> Vec<u8> {
    member.say(|out| ywebsocket::append_sync_step1(out, &[0]));
    let is_step2 = |payload: &[u8]| matches!(ywebsocket::decode(payload), Ok(Message::SyncStep2 { .. }));
    member.until(is_step2).expect("an answer")
}

/// A member whose first question was answered.
fn joined(node: &Serving, token: &str) -> Member {
    let mut member = Member::open(node, token);
    ask(&mut member);
    member
}

fn is_asked_for_a_token(payload: &[u8]) -> bool {
    matches!(hocuspocus::decode(payload), Ok(Frame::Message { body: Body::TokenRequest, .. }))
}

fn is_authenticated(payload: &[u8]) -> bool {
    matches!(hocuspocus::decode(payload), Ok(Frame::Message { body: Body::Authenticated { .. }, .. }))
}

#[test]
fn sessions_end_with_tokens_of_five_seconds_and_go_on_with_fresh_ones() {
    let home = home();
    let node = Serving::start(&home.config());
    let start = Instant::now();
    let mut ends = Member::join(&node, &token(&home, 5));
    let mut renews = Member::open(&node, &token(&home, 5));
    let auth = |member: &mut Member, token: &str| {
        member.say(|out| hocuspocus::append_auth(out, "d", token, Some("4.1.0")));
        member.until(is_authenticated).unwrap();
    };
    auth(&mut renews, &token(&home, 5));
    let mut ignores = Member::open(&node, &token(&home, 5));
    auth(&mut ignores, &token(&home, 5));
    renews.until(is_asked_for_a_token).expect("a question before the end");
    auth(&mut renews, &token(&home, 3_600));
    assert_eq!(ends.end(), (4002, EXPIRED.to_owned()));
    assert!(start.elapsed() >= Duration::from_secs(3), "an end before its time");
    ignores.until(is_asked_for_a_token).expect("a question before the end");
    assert_eq!(ignores.end(), (4002, EXPIRED.to_owned()), "the whole socket");
    let step1 = SyncMessage::Step1 { state_vector: &[0] };
    renews.say(|out| hocuspocus::append_sync(out, "d", &step1));
    let is_step2 = |payload: &[u8]| {
        let step2 = Body::Sync(SyncMessage::Step2 { update: &[0, 0] });
        matches!(hocuspocus::decode(payload), Ok(Frame::Message { body, .. }) if body == step2)
    };
    renews.until(is_step2).expect("an answer after the first token's end");
}

/// The library that sets the clock of a process: of the Debian package `faketime`.
fn library() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("libfaketime, of the Debian package faketime")
}

#[test]
fn a_clock_that_is_set_by_an_hour_closes_nobody_and_keeps_nobody() {
    for (first, second) in [("+3600", "+7200"), ("-3600", "-7200")] {
        let home = home();
        let clock = home.config().with_file_name("clock");
        let set = |by: &str| {
            // As a whole: the node reads it whenever it looks at the clock.
            let new = clock.with_extension("new");
            fs::write(&new, format!("{by}\n")).unwrap();
            fs::rename(&new, &clock).unwrap();
        };
        set("+0");
        let mut program = program();
        program
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let node = Serving::start_by(program, &home.config(), &["listen=127.0.0.1:0", "threads=2"]);
        let start = Instant::now();
        let mut short = joined(&node, &token(&home, 6));
        let mut long = joined(&node, &token(&home, 6 * 3_600));
        long.say(|out| ywebsocket::append_update(out, EDIT));
        ask(&mut long);
        let probe = if first.starts_with('+') { token(&home, 600) } else { later_token(&home) };
        let is_good = |node: &Serving| node.discovery(&probe) == 200;
        let before = is_good(&node);

        set(first);
        assert_ne!(is_good(&node), before, "the node sees the other time");
        // Deadlines: nobody was silent for an hour.
        let (of_short, of_long) = (ask(&mut short), ask(&mut long));
        assert_eq!(of_short, of_long);
        assert_eq!(short.end(), (4002, EXPIRED.to_owned()), "{first}: no later than it would have");
        assert!(start.elapsed() >= Duration::from_secs(5), "{first}: no sooner either");

        // Grace: the document outlives its last member by seconds of life, not of the calendar.
        drop(long);
        set(second);
        let mut again = Member::open(&node, &token(&home, 6 * 3_600));
        assert_eq!(ask(&mut again), of_long, "{second}");
        assert_eq!(node.end(), 0);
    }
}

/// A token that is good from half an hour ago on: not at all by a clock that is set back by an hour.
fn later_token(home: &Home) -> String {
    let secret = fs::read_to_string(home.secret()).unwrap();
    let claims = json!({ "nbf": unix_now() - 1_800, "exp": unix_now() + 3_600 }).to_string();
    run(&["token", "mint", "--secret", secret.trim(), "--claims", &claims]).1.trim().to_owned()
}
