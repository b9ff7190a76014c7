//! The program on a real pseudo-terminal, against nodes on real sockets: all views are typed through, actions are done, and the
//! terminal is as it was, also after a panic and a signal.

mod cluster;
mod incidents;
mod rig;
mod session;

use portable_pty::CommandBuilder;
use rig::{FakeNode, TOKEN};
use session::Session;

/// Tells the test's own program, started anew, that it is the one to panic.
const PANICS: &str = "PINWIRE_ADMIN_TEST_PANICS";

/// The program at these nodes.
fn console(nodes: &[&FakeNode], more: &[&str]) -> Session {
    let urls: Vec<&str> = nodes.iter().map(|node| node.url.as_str()).collect();
    Session::console(&urls, TOKEN, more)
}

#[test]
fn an_operator_types_through_all_views_and_leaves_the_terminal_as_it_was() {
    let (one, two) = (FakeNode::start(0), FakeNode::start(1));
    let mut session = console(&[&one, &two], &[]);
    session.see("2/2 nodes");
    session.see("is overloaded");
    for (key, view) in [
        ("2", "regions"),
        ("3", "nodes"),
        ("4", "pins"),
        ("5", "documents"),
        ("6", "connections"),
        ("7", "apps"),
        ("8", "events"),
        ("9", "logs"),
        ("0", "audit"),
        ("t", "cores"),
        ("w", "flow"),
        ("m", "latency"),
    ] {
        session.press(key);
        session.see_view(view);
    }
    session.press("3");
    session.see("eu-central-1");
    session.press("\r");
    session.see_view("node of");
    session.press("5\r");
    session.see_view("document");
    session.press("?");
    session.see("any key leaves it");
    session.press("x4/region=us\r");
    session.see("filter region=us");
    session.press(":nodes state=over\r");
    session.see("filter state=over");
    session.press("D");
    session.see("--rw");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn an_action_is_done_once_its_name_is_typed() {
    let node = FakeNode::start(0);
    let mut session = console(&[&node], &["--rw", "--view", "connections"]);
    session.see("13b-2a");
    session.press("C");
    session.see("Type its name");
    session.see("curl");
    session.press("wrong\r");
    session.see("not its name");
    assert_eq!(node.acts(), [""; 0]);
    session.press("\u{15}13b-2a\r");
    session.see("done: close connection 13b-2a");
    assert_eq!(node.acts(), ["POST /v1/connections/13b-2a/close {}"]);
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn what_is_marked_is_acted_on_one_by_one() {
    let node = FakeNode::start(0);
    let mut session = console(&[&node], &["--rw", "--view", "connections", "--sort", "id"]);
    session.see("13b-2c");
    session.press("  ");
    session.see("2 marked");
    session.press("C");
    session.see("close 2 connections");
    session.see("/v1/connections/13b-2b/close");
    session.press("close 3\r");
    session.see("that is not `close 2`");
    assert_eq!(node.acts(), [""; 0]);
    session.press("\u{15}close 2\r");
    session.see("2 of 2 done");
    let mut acts = node.acts();
    acts.sort();
    assert_eq!(acts, ["13b-2a", "13b-2b"].map(|id| format!("POST /v1/connections/{id}/close {{}}")));
    session.press("x8");
    session.see_view("events");
    session.see("close connection 13b-2b");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_node_that_goes_is_lost_with_its_age_and_the_other_stays() {
    let (one, two) = (FakeNode::start(0), FakeNode::start(3));
    let mut session = console(&[&one, &two], &["--view", "nodes"]);
    session.see("2/2 nodes");
    drop(two);
    session.see("1/2 nodes");
    session.see("lost");
    session.press("1");
    session.see("is not reached for");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_refused_token_is_told_with_what_to_do() {
    let node = FakeNode::start(0);
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_pinwire-admin"));
    command.env("PINWIRE_ADMIN_TOKEN", "another");
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.args(["--url", &node.url, "--view", "nodes"]);
    let mut session = Session::start(command);
    session.see("refused");
    session.press("\r");
    session.see("admin.token_file");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_signal_ends_it_and_gives_the_terminal_back() {
    let node = FakeNode::start(0);
    for signal in ["-TERM", "-HUP", "-INT", "-QUIT", "-USR1", "-USR2"] {
        let session = console(&[&node], &[]);
        session.see("1/1 nodes");
        let pid = session.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert!(session.ended().success(), "{signal}");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told() {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["a_program_that_panics", "--exact", "--nocapture"]);
    command.env(PANICS, "1");
    let session = Session::start(command);
    session.see("something that cannot be");
    assert!(!session.ended().success());
}

/// Not a test by itself: what the one above starts.
#[test]
fn a_program_that_panics() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    let mut taken = pinwire_admin::terminal::Taken::take(true).unwrap();
    taken.terminal.draw(|_| {}).unwrap();
    panic!("something that cannot be");
}

#[test]
fn a_recording_is_replayed_without_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ndjson").display().to_string();
    let node = FakeNode::start(0);
    let mut session = console(&[&node], &["--record", &path]);
    session.see("1/1 nodes");
    session.press("q");
    assert!(session.ended().success());
    drop(node);
    let mut session = console(&[], &["--replay", &path]);
    session.see("REPLAY");
    session.press("p,");
    session.see("PAUSED");
    session.press(".3");
    session.see("eu-central-1");
    session.press("q");
    assert!(session.ended().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(TOKEN), "the token is in the recording");
}

#[test]
fn what_led_to_a_loss_is_saved_afterwards_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (saved, bundle) = (path("a"), path("b"));
    let (one, two) = (FakeNode::start(0), FakeNode::start(3));
    let mut session = console(&[&one, &two], &["--view", "nodes"]);
    session.see("2/2 nodes");
    // There are rates: it has heard of all that there is.
    session.see_no_more(" - ");
    drop(two);
    session.see("KEPT");
    session.press(&format!(":bundle {bundle}\r"));
    session.see("written: ");
    session.press("S");
    session.see(":save pinwire-");
    session.press(&format!("\u{15}save {saved}\r"));
    session.see_no_more("KEPT");
    session.press("q");
    assert!(session.ended().success());
    for path in [&saved, &format!("{bundle}.ndjson")] {
        let mut session = console(&[], &["--replay", path, "--view", "nodes"]);
        session.see("REPLAY");
        session.see("eu1");
        session.press(":seek 3600\r");
        session.see("us2");
        session.see("lost");
        session.press("q");
        assert!(session.ended().success());
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains(TOKEN), "the token is in the recording");
    }
}
