//! Nodes that leave: drained, or drained for a moment.

use std::net::TcpStream;

use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::node::{Drain, DrainStage, Node};

use crate::admin::{self, ask, bearer, good, refused, tcp};
use crate::member::Member;
use crate::regions::{System, holds, insertion, until, write};
use crate::rig::{Home, Serving};

const SECRET_OF_ADMIN: &str = "admin.token";

/// A node with an admin API.
fn start(home: &Home, settings: &[&str]) -> Serving {
    use std::os::unix::fs::PermissionsExt;
    let token = home.config().with_file_name(SECRET_OF_ADMIN);
    std::fs::write(&token, admin::token()).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!("admin.token_file={}", token.display());
    let own = ["listen=127.0.0.1:0", "threads=2", "admin.listen=127.0.0.1:0", &file];
    Serving::start_with(&home.config(), &[&own, settings].concat())
}

pub fn node(serving: &Serving) -> Node {
    good(ask(tcp(serving), "GET", "/v1/node", &bearer(&admin::token()), ""))
}

fn address(serving: &Serving) -> String {
    serving.ready["regions"][0]["ws_url"].as_str().unwrap().strip_prefix("ws://").unwrap().to_owned()
}

fn members(serving: &Serving, token: &str, count: usize) -> Vec<Member> {
    let join = |_| {
        let mut member = Member::join(serving, token);
        member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
        member
    };
    (0..count).map(join).collect()
}

#[test]
fn a_node_that_drains_takes_who_still_comes_and_closes_all_by_and_by() {
    let home = Home::new();
    let serving = start(&home, &["drain.leave=3s", "drain.window=1s"]);
    let mut there = members(&serving, &home.token(), 20);
    serving.signal("TERM");
    serving.logs(&["draining", "SIGTERM", "connections=20"]);
    let (status, body) = serving.get("/health", "");
    assert!(status == 503 && body.contains("draining"), "{status} {body}");
    let late = serving.knock(&home.token());
    assert_eq!(late.1, "101", "resolvers still send some");
    let Drain { stage, connections_before, .. } = node(&serving).drain.unwrap();
    assert!(matches!(stage, DrainStage::Leaving | DrainStage::Closing), "{stage:?}");
    assert_eq!(connections_before, 20);
    until(|| TcpStream::connect(address(&serving)).is_err());
    // Who is still there is served until its turn comes.
    let closes: Vec<_> = there.iter_mut().map(Member::end).collect();
    assert!(closes.iter().all(|close| *close == (1012, "the node stops".to_owned())), "{closes:?}");
    drop((there, late));
    let mut serving = serving;
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    serving.logs(&["drained"]);
    serving.logs(&["stopped"]);
}

#[test]
fn a_drain_of_an_operator_can_be_taken_back_even_when_nobody_was_taken_any_more() {
    let home = Home::new();
    let serving = start(&home, &["drain.window=30s"]);
    let ask = |method| ask(tcp(&serving), method, "/v1/node/drain", &bearer(&admin::token()), "");
    assert_eq!(refused(ask("DELETE")).status, 409);
    let mut there = members(&serving, &home.token(), 3);
    let began: Drain = good(ask("POST"));
    assert_eq!(began.connections_before, 3);
    until(|| node(&serving).drain.is_some_and(|drain| drain.stage == DrainStage::Closing));
    until(|| TcpStream::connect(address(&serving)).is_err());
    assert_eq!(ask("DELETE").0, 204);
    assert_eq!(node(&serving).drain, None);
    assert_eq!(serving.knock(&home.token()).1, "101");
    assert_eq!(serving.get("/health", "").0, 200);
    let EventPage { events, .. } =
        good(admin::ask(tcp(&serving), "GET", "/v1/events", &bearer(&admin::token()), ""));
    let drained = |what: &What| matches!(what, What::Draining { connections: 3, .. } | What::DrainCancelled);
    assert_eq!(events.iter().filter(|event| drained(&event.what)).count(), 2);
    // Once its end is asked for there is no way back; another signal ends it at once.
    serving.signal("TERM");
    serving.logs(&["draining", "SIGTERM"]);
    until(|| refused(ask("DELETE")).detail.contains("about to end"));
    serving.signal("TERM");
    let mut serving = serving;
    assert_eq!(serving.child.wait().unwrap().code(), Some(1));
    there.clear();
}

/// A node whose clients are carried to other regions, and that has others' carried to it.
fn linked(system: &System, name: &str, region: &str, settings: &[&str]) -> Serving {
    let more = "wrong_region = \"relay\"\npeer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"secret\"\n";
    let file = system.file_for(name, region, "3s", more, "[address_limits]\nenabled = false\n");
    Serving::start_with(&file, &[&["listen=127.0.0.1:0", "threads=2"], settings].concat())
}

#[test]
fn sessions_that_another_region_carries_here_leave_by_and_by_and_new_ones_go_to_another_node() {
    const MANY: u64 = 12;
    let system = System::start();
    let owner = linked(&system, "here-a", "here-1", &["drain.window=24s"]);
    let _pins = system.join(&owner);
    let other = linked(&system, "here-b", "here-1", &[]);
    let home = linked(&system, "there-a", "there-1", &[]);
    let mut carried: Vec<Member> = (0..MANY).map(|_| system.join(&home)).collect();
    owner.signal("TERM");
    owner.logs(&["draining", "SIGTERM", "connections=1", "carried=12"]);
    let left = || node(&owner).drain.expect("it drains").carried;
    home.logs(&["a node tells whether it leaves", "leaves=true"]);
    let mut late = system.join(&home);
    until(|| other.metric("pinwire_relayed_sessions{side=\"owner\"") == 1.0);
    until(|| left() < MANY);
    assert!(left() > 0, "all at once");
    // Who has not had its turn yet is served.
    write(&mut late, &insertion(1, "late"));
    let outcomes: Vec<_> =
        carried.iter_mut().map(|member| member.until(|payload| holds(payload, "late"))).collect();
    let sent_away = (1012, "the document is reached another way now".to_owned());
    assert!(outcomes.iter().any(Result::is_ok) && outcomes.contains(&Err(sent_away.clone())), "{outcomes:?}");
    assert!(outcomes.into_iter().filter_map(Result::err).all(|close| close == sent_away));
    owner.signal("TERM");
    let mut owner = owner;
    assert_eq!(owner.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_drain_waits_for_sessions_that_another_region_carries_here() {
    let system = System::start();
    let mut owner = linked(&system, "here-a", "here-1", &["drain.window=2s"]);
    let pins = system.join(&owner);
    let home = linked(&system, "there-a", "there-1", &[]);
    let mut carried = system.join(&home);
    drop(pins);
    until(|| node(&owner).totals.connections == 0);
    owner.signal("TERM");
    // Its links are cut once nobody needs them: this is the close of its turn.
    assert_eq!(carried.end(), (1012, "the document is reached another way now".to_owned()));
    owner.logs(&["drained", "connections=0", "carried=0"]);
    assert_eq!(owner.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_node_whose_documents_are_its_own_has_no_successor_and_says_why() {
    let home = Home::new();
    let serving = start(&home, &[]);
    let answer = ask(tcp(&serving), "POST", "/v1/node/upgrade", &bearer(&admin::token()), "");
    let refusal = refused(answer);
    assert!(refusal.status == 409 && refusal.detail.contains("memory"), "{refusal:?}");
    serving.signal("USR2");
    serving.logs(&["goes on as it was", "cluster.session"]);
    assert_eq!(serving.knock(&home.token()).1, "101");
    assert_eq!(serving.end(), 0);
}
