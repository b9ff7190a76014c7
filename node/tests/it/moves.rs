//! A document that is moved to another region while clients write, with real servers of Redis: what was acknowledged is there.

use std::net::TcpStream;

use pinwire_admin_api::actions::DocumentMoved;
use pinwire_admin_api::cluster::{Pin, PinPage};
use serde_json::Value;

use crate::member::Member;
use crate::regions::{System, until};
use crate::rig::{PATIENCE, Serving};
use crate::writers::{Writers, check, url};

fn ask(node: &Serving, method: &str, path: &str, body: &str) -> (u16, String) {
    let url = node.ready["regions"][0]["admin_url"].as_str().unwrap();
    let socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    socket.set_read_timeout(Some(3 * PATIENCE)).unwrap();
    crate::admin::ask(
        socket,
        method,
        path,
        &format!("Authorization: Bearer {}\r\n", crate::admin::token()),
        body,
    )
}

fn pin(node: &Serving) -> Pin {
    let (status, body) = ask(node, "GET", "/v1/pins", "");
    assert_eq!(status, 200, "{body}");
    let page: PinPage = serde_json::from_str(&body).unwrap();
    page.pins.into_iter().next().expect("the document is active")
}

fn move_it(node: &Serving, to: &str) -> (u16, String) {
    let Pin { tenant, app, name, .. } = pin(node);
    ask(node, "POST", &format!("/v1/pins/{tenant}/{app}/{name}/move"), &format!("{{\"region\":\"{to}\"}}"))
}

fn moved(node: &Serving, from: &str, to: &str) {
    let (status, body) = move_it(node, to);
    assert_eq!(status, 200, "{body}");
    let moved: DocumentMoved = serde_json::from_str(&body).unwrap();
    assert_eq!((&*moved.from, &*moved.region), (from, to));
    let pin = pin(node);
    assert_eq!((&*pin.region, pin.claim), (to, moved.claim));
}

const LINKED: &str = "peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"secret\"\n";

#[test]
fn what_was_acknowledged_before_a_move_is_there_after_it_and_clients_follow() {
    let system = System::start();
    let node = |name, region| system.node_with(name, region, LINKED);
    let (here_a, here_b) = (node("here-a", "here-1"), node("here-b", "here-1"));
    let (there_a, there_b) = (node("there-a", "there-1"), node("there-b", "there-1"));
    let (here, there) = ([&here_a, &here_b], [&there_a, &there_b]);
    let mut writers = Writers::at(&[&here_a, &here_b, &here_a, &here_b], &system.token, false);
    writers.until_some_more(&here);
    // There, asked of a node that hands over; back, asked of one that takes.
    moved(&here_a, "here-1", "there-1");
    writers.until_some_more(&there);
    for node in here {
        let (code, reason) = Member::join(node, &system.token).end();
        assert!(code == 4009 && there.iter().any(|there| reason.contains(&url(there))), "{code} {reason}");
    }
    moved(&here_b, "there-1", "here-1");
    writers.until_some_more(&here);
    let (status, body) = move_it(&there_a, "here-1");
    assert_eq!(status, 409, "{body}");
    let acknowledged = writers.end();
    check(&system.token, &here, &acknowledged);
}

#[test]
fn clients_that_cannot_follow_are_carried_to_where_a_document_was_moved() {
    let system = System::start();
    let config = format!("{LINKED}wrong_region = \"relay\"\n");
    let node = |name, region| system.node_with(name, region, &config);
    let (here_a, here_b) = (node("here-a", "here-1"), node("here-b", "here-1"));
    let there = node("there-a", "there-1");
    let mut writers = Writers::at(&[&here_a, &here_b], &system.token, true);
    writers.until_some_more(&[&here_a, &here_b]);
    moved(&there, "here-1", "there-1");
    writers.until_some_more(&[&here_a, &here_b]);
    let acknowledged = writers.end();
    check(&system.token, &[&there], &acknowledged);
    assert_eq!(pin(&here_a).region, "there-1");
}

#[test]
fn a_region_goes_on_with_a_document_that_it_handed_over_in_vain() {
    let system = System::start();
    let node = |name, region| system.node_with(name, region, LINKED);
    let (here, there) = (node("here-a", "here-1"), node("there-a", "there-1"));
    let mut writers = Writers::at(&[&here, &here], &system.token, false);
    writers.until_some_more(&[&here]);
    let before = pin(&here);
    // Where it goes to its sessions do not answer, and who takes it is killed.
    system.there.pause();
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| move_it(&here, "there-1"));
        here.logs(&["a document is handed over"]);
        there.signal("KILL");
        let (status, body) = moving.join().unwrap();
        assert_eq!(status, 503, "{body}");
    });
    system.there.resume();
    writers.until_some_more(&[&here]);
    until(|| pin(&here).claim > before.claim);
    assert_eq!(pin(&here).region, "here-1");
    let acknowledged = writers.end();
    check(&system.token, &[&here], &acknowledged);
}

#[test]
fn what_cannot_be_moved_is_said_with_its_mend() {
    let system = System::start();
    let (linked, alone) = (system.node_with("here-a", "here-1", LINKED), system.node("here-b", "here-1"));
    let there = system.node("there-a", "there-1");
    let ask_of = |node: &Serving, document: &str, region: &str| {
        let path = format!("/v1/pins/acme/notes/{document}/move");
        let (status, body) = ask(node, "POST", &path, &format!("{{\"region\":\"{region}\"}}"));
        let problem: Value = serde_json::from_str(&body).unwrap();
        (status, problem["detail"].as_str().unwrap().to_owned())
    };
    let (status, detail) = ask_of(&alone, "d", "there-1");
    assert!(status == 409 && detail.contains("cluster.peer_listen"), "{status} {detail}");
    let (_, audit) = ask(&alone, "GET", "/v1/audit", "");
    assert!(audit.contains("cluster.peer_listen"), "what was refused is in the record, too: {audit}");
    let (status, detail) = ask_of(&linked, "d", "mars-1");
    assert!(status == 422 && detail.contains("mars-1"), "{status} {detail}");
    let (status, detail) = ask_of(&linked, "d", "there-1");
    assert!(status == 409 && detail.contains("cluster.peer_listen"), "{status} {detail}");
    let (status, detail) = ask_of(&linked, "nobody-has-it", "here-1");
    assert!(status == 404 && detail.contains("idle"), "{status} {detail}");
    let mut ann = system.join(&there);
    let (status, body) = move_it(&linked, "here-1");
    assert_eq!(status, 503, "{body}");
    ann.say(|out| pinwire_protocol::document::ywebsocket::append_sync_step1(out, &[0]));
    ann.until(|payload| payload.starts_with(&[0, 1])).unwrap();
}
