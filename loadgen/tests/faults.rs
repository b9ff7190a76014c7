//! The program as its users run it, against servers that do their work and servers that do not: every fault is found
//! every time, and counted as what it is.

mod rig;

use std::net::SocketAddr;
use std::process::Command;

use pinwire_loadgen::results::{Measure, Results, VerdictLevel};
use rig::Fault;

/// Enough messages for one in ten thousand to be among them: closed, since only their number counts here.
const MANY: [&str; 8] = ["--closed", "16", "-c", "8", "-d", "2s", "--warm-up", "0s"];

fn run(address: SocketAddr, path: &str, args: &[&str]) -> (i32, Option<Results>) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let status = Command::new(env!("CARGO_BIN_EXE_pinwire-loadgen"))
        .args(args)
        .args(["--url", &format!("ws://{address}{path}"), "--threads", "1", "--quiet", "--drain", "1s"])
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    if !json.exists() {
        eprintln!("{}", String::from_utf8_lossy(&status.stderr));
    }
    let results = json.exists().then(|| pinwire_loadgen::report::json::read(&json).unwrap());
    (status.status.code().unwrap(), results)
}

fn echo(fault: Fault, args: &[&str]) -> (i32, Results) {
    let all: Vec<&str> = ["raw"].iter().chain(args).copied().collect();
    let (code, results) = run(rig::start(fault), "/echo", &all);
    (code, results.unwrap())
}

fn documents(fault: Fault, args: &[&str]) -> (i32, Results) {
    let shape = ["document", "--documents", "3", "--members", "4", "--awareness-rate", "0"];
    let all: Vec<&str> = shape.iter().chain(args).copied().collect();
    let (code, results) = run(rig::start(fault), "", &all);
    (code, results.unwrap())
}

const EDITS: [&str; 6] = ["--rate", "600", "-d", "1s", "--warm-up", "0s"];

#[test]
fn a_server_that_does_its_work_passes() {
    let (code, results) = echo(Fault::None, &MANY);
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    assert!(results.total.received > 10_000, "{}", results.total.received);
    let (code, results) = documents(Fault::None, &EDITS);
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    assert_eq!((results.total.sent, results.total.received), (600, 1800));
    // Twelve members, and one that joined each document at the end.
    assert_eq!(results.correctness.converged, 15);
}

#[test]
fn one_lost_message_in_ten_thousand_is_found() {
    let (code, results) = echo(Fault::Drop(10_000), &MANY);
    assert!(results.correctness.lost >= 1, "{:?}", results.correctness);
    assert_eq!(code, 99);
    assert!(results.correctness.examples[0].contains("never got"), "{:?}", results.correctness.examples);
}

#[test]
fn messages_sent_twice_out_of_order_or_changed_are_told_apart() {
    let (code, results) = echo(Fault::Duplicate(5_000), &MANY);
    assert!(
        results.correctness.duplicated >= 1 && results.correctness.lost == 0,
        "{:?}",
        results.correctness
    );
    assert_eq!(code, 99);
    let (code, results) = echo(Fault::Reorder(5_000), &MANY);
    assert!(
        results.correctness.reordered >= 1 && results.correctness.duplicated == 0,
        "{:?}",
        results.correctness
    );
    assert_eq!(code, 99);
    let (code, results) = echo(Fault::Corrupt(5_000), &MANY);
    assert!(results.correctness.corrupted >= 1, "{:?}", results.correctness);
    assert_eq!(code, 99);
}

#[test]
fn text_messages_are_checked_alike() {
    let args: Vec<&str> = MANY.iter().chain(&["--text", "--bytes", "100"]).copied().collect();
    assert_eq!(echo(Fault::None, &args).0, 0);
    let (code, results) = echo(Fault::Corrupt(5_000), &args);
    assert!(code == 99 && results.correctness.corrupted >= 1, "{:?}", results.correctness);
}

#[test]
fn subscribers_get_what_publishers_send_and_a_lost_one_is_found() {
    let args = [
        "raw",
        "--mode",
        "broadcast",
        "--subscribe-path",
        "/t/{n}",
        "--publish-prefix",
        "{n}",
        "--topics",
        "3",
        "--publishers",
        "3",
        "-c",
        "12",
        "--rate",
        "1000",
        "-d",
        "1s",
        "--warm-up",
        "0s",
    ];
    let (code, results) = run(rig::start(Fault::None), "/p", &args);
    let results = results.unwrap();
    assert_eq!((code, results.total.received), (0, 4_000), "{:?}", results.correctness);
    let (code, results) = run(rig::start(Fault::Drop(1_000)), "/p", &args);
    assert_eq!((code, results.unwrap().correctness.lost), (99, 4));
}

#[test]
fn an_edit_that_is_lost_doubled_or_changed_is_found() {
    for (fault, is_found) in [
        (
            Fault::Drop(700),
            (|found| found.lost >= 1 && found.diverged >= 1)
                as fn(&pinwire_loadgen::results::Correctness) -> bool,
        ),
        (Fault::Duplicate(700), |found| found.duplicated >= 1 && found.lost == 0),
        (Fault::Reorder(700), |found| found.reordered >= 1 && found.duplicated == 0),
        (Fault::Corrupt(700), |found| found.corrupted >= 1),
    ] {
        // Order is promised for the edits of one writer.
        let args: Vec<&str> = EDITS.iter().chain(&["--writers", "1"]).copied().collect();
        let (code, results) = documents(fault, &args);
        assert_eq!(code, 99, "{fault:?}");
        assert!(is_found(&results.correctness), "{fault:?}: {:?}", results.correctness);
    }
}

#[test]
fn a_server_that_forgets_an_edit_is_found_by_whoever_joins_last() {
    let (code, results) = documents(Fault::ForgetLast, &EDITS);
    assert_eq!((code, results.correctness.diverged, results.correctness.lost), (99, 3, 3));
}

#[test]
fn a_stall_shows_in_the_latency_from_the_planned_time() {
    let args = ["--rate", "200", "-c", "1", "-d", "2s", "--warm-up", "0s", "--late-after", "200ms"];
    let (code, results) = echo(Fault::Stall(100, 700), &args);
    assert_eq!((code, results.correctness.lost), (0, 0));
    // At 200 a second some hundred sends waited for longer than the bound.
    assert!(results.correctness.late > 50, "{:?}", results.correctness);
    assert!(results.total.latency[&Measure::Latency].max() > 600_000_000);
}

#[test]
fn silence_is_loss() {
    let (code, results) =
        echo(Fault::Silence(300), &["--rate", "1000", "-c", "4", "-d", "1s", "--warm-up", "0s"]);
    assert_eq!(code, 99);
    assert_eq!(results.correctness.lost, 1_000 - 299);
}

#[test]
fn a_target_that_is_not_there_refuses_or_cuts_is_lost() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let args = ["raw", "-c", "3", "--rate", "10", "-d", "1s", "--warm-up", "0s", "--timeout", "2s"];
    let (code, results) = run(nobody, "/echo", &args);
    assert_eq!((code, results.unwrap().connections.joined), (97, 0));
    let (code, results) = run(rig::start(Fault::Refuse), "/echo", &args);
    let failed = results.unwrap().connections.failed;
    assert_eq!((code, failed.get("refused 503")), (97, Some(&3)), "{failed:?}");
    let cut = ["raw", "-c", "1", "--rate", "100", "-d", "1s", "--warm-up", "0s"];
    let (code, results) = run(rig::start(Fault::Cut(20)), "/echo", &cut);
    let results = results.unwrap();
    assert_eq!(code, 97, "{:?}", results.connections);
    assert!(results.total.dropped > 0);
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let (code, results) =
        echo(Fault::None, &["--rate", "20000000", "-c", "2", "-d", "1s", "--warm-up", "0s"]);
    assert_eq!(results.verdict.level, VerdictLevel::Invalid, "{:?}", results.verdict);
    // What was late in leaving is late for who waits for it.
    let mean = |measure| results.total.latency[&measure].mean();
    let apart = mean(Measure::Latency) - mean(Measure::LatencyUncorrected);
    assert!(apart > 10e6, "{apart} ns");
    assert!(code == 98 || code == 99, "{code}: {:?}", results.correctness);
}

#[test]
fn a_redirect_is_followed_and_timed() {
    let home = rig::start(Fault::None);
    let wrong = rig::start(Fault::Redirect(home));
    let (code, results) =
        run(wrong, "", &["redirect", "-c", "10", "--home-url", &format!("ws://{home}"), "--warm-up", "0s"]);
    let results = results.unwrap();
    assert_eq!((code, results.connections.redirected), (0, 10), "{:?}", results.connections);
    assert_eq!(results.total.latency[&Measure::Redirect].count(), 10);
    assert_eq!(results.total.received, 10);
}

#[test]
fn regions_are_told_apart_and_so_is_who_was_sent_where() {
    let eu = rig::start(Fault::None);
    let us = rig::start(Fault::Redirect(eu));
    let shape = ["document", "--documents", "3", "--members", "4", "--awareness-rate", "0"];
    let named = format!("eu=ws://{eu}");
    let (code, results) = run(us, "", &[&shape[..], &["--url", &named], &EDITS].concat());
    let results = results.unwrap();
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    let (eu, us) = (&results.regions["eu"], &results.regions[&format!("ws://{us}")]);
    // Every other one of twelve clients.
    assert_eq!((us.joined, us.sent_away, us.failed, results.connections.redirected), (0, 6, 0, 6), "{us:?}");
    assert_eq!((eu.sent_here, eu.redirect.count(), eu.peak), (6, 6, 12), "{eu:?}");
}

#[test]
fn whoever_loses_its_connection_comes_back_with_what_it_wrote_meanwhile() {
    let (code, results) = documents(Fault::Cut(200), &[&EDITS[..], &["--redial"]].concat());
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    assert_eq!((results.total.sent, results.correctness.converged), (600, 15), "{:?}", results.total.errors);
    let region = results.regions.values().next().unwrap();
    assert!(region.lost >= 3 && region.recover.count() == region.lost, "{region:?}");
}

#[test]
fn what_a_writer_writes_first_while_it_is_away_is_sent_too() {
    // So often that many are cut before they have written anything.
    for one_in in [3, 5] {
        let (_, results) = documents(Fault::Cut(one_in), &[&EDITS[..], &["--redial"]].concat());
        let found = &results.correctness;
        assert_eq!((found.faults(), found.converged), (0, 15), "{found:?}");
    }
}

#[test]
fn whoever_comes_back_also_tries_again_where_the_first_dial_was_refused() {
    let (code, results) = documents(Fault::RefuseFirst(12), &EDITS);
    assert_eq!((code, results.connections.absent), (97, 12), "{:?}", results.connections);
    let (code, results) = documents(Fault::RefuseFirst(12), &[&EDITS[..], &["--redial"]].concat());
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    let connections = &results.connections;
    assert_eq!((connections.absent, connections.failed["refused 503"]), (0, 12), "{connections:?}");
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up() {
    let args = [&EDITS[..], &["--redial", "--silence", "200ms..400ms"]].concat();
    let (code, results) = documents(Fault::Stall(300, 800), &args);
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    let connections = &results.connections;
    assert!(connections.lost["nothing came"] >= 6, "{connections:?}");
    assert_eq!((connections.absent, results.correctness.converged), (0, 15), "{connections:?}");
}

#[test]
fn what_was_acknowledged_and_is_not_there_when_its_writer_comes_back_is_forgotten() {
    let hocuspocus: Vec<&str> =
        EDITS.iter().chain(&["--redial", "--dialect", "hocuspocus"]).copied().collect();
    let (code, results) = documents(Fault::Cut(200), &hocuspocus);
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
    let (code, results) = documents(Fault::Restart(900), &hocuspocus);
    let found = &results.correctness;
    // Writers send again what the server has not, so that nobody lacks anything in the end.
    assert_eq!((code, found.lost, found.diverged, found.converged), (99, 0, 0, 15), "{found:?}");
    assert!(found.forgotten > 0, "{found:?}");
    assert!(found.examples[0].contains("were acknowledged"), "{:?}", found.examples);
    // Of y-websocket nothing is acknowledged, so that nothing can be forgotten.
    let (code, results) = documents(Fault::Restart(900), &[&EDITS[..], &["--redial"]].concat());
    assert_eq!((code, results.correctness.faults()), (0, 0), "{:?}", results.correctness);
}

#[test]
fn every_other_scenario_runs_to_its_end_without_a_fault() {
    let runs: [&[&str]; 7] = [
        &["connect", "-c", "50", "--rate", "200", "-d", "1s", "--warm-up", "0s"],
        &["idle", "-c", "40", "--members", "10", "-d", "1s", "--awareness-bytes", "60"],
        &["fanout", "-c", "30", "--rate", "50", "-d", "1s"],
        &["hot", "-c", "60", "--documents", "10", "--rate", "200", "-d", "1s"],
        &["churn", "-c", "40", "--members", "8", "--rate", "50", "--stay", "300ms", "-d", "2s"],
        &["reconnect-storm", "-c", "30", "--members", "5", "--storms", "2"],
        &["slow-reader", "--documents", "2", "--members", "5", "--slow", "1", "--rate", "100", "-d", "1s"],
    ];
    for args in runs {
        let (code, results) = run(rig::start(Fault::None), "", args);
        let results = results.unwrap();
        // A machine that is busy otherwise may make the generator late: it says so, and that is no fault.
        let is_late = code == 98 && results.verdict.level == VerdictLevel::Invalid;
        assert!(
            code == 0 || is_late,
            "{args:?}: {code} {:?} {:?} {:?}",
            results.correctness,
            results.connections,
            results.total.errors
        );
        assert_eq!(results.correctness.faults(), 0, "{args:?}");
        let timed = match results.scenario.as_str() {
            "reconnect-storm" => results.total.latency[&Measure::Recover].count() == 60,
            "connect" => results.total.received == 200,
            // Who leaves while an edit is on its way need not get it.
            "churn" => results.total.received > 0,
            _ => results.total.received > 0 && results.total.received == results.total.expected,
        };
        assert!(timed, "{args:?}: {:?}", results.total);
    }
}

#[test]
fn an_assertion_that_fails_and_a_wrong_command_line_have_codes_of_their_own() {
    let args = ["raw", "-c", "2", "--rate", "50", "-d", "1s", "--warm-up", "0s", "--assert", "p99<1us"];
    let (code, results) = run(rig::start(Fault::None), "/echo", &args);
    assert_eq!((code, results.unwrap().assertions[0].held), (99, false));
    assert_eq!(run(rig::start(Fault::None), "/echo", &["raw", "--storms", "2"]).0, 2);
    assert_eq!(run(rig::start(Fault::None), "/echo", &["raw", "--assert", "p98<1us"]).0, 2);
}
