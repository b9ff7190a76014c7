//! The admin API against a node with real clients: what it tells is so, and what it has done happens.

use std::collections::{BTreeMap, BTreeSet};

use pinwire_admin_api::actions::{Action, AuditPage, DocumentEnded, MessageSent, Outcome};
use pinwire_admin_api::apps::AppPage;
use pinwire_admin_api::connections::{Connection, ConnectionPage, ConnectionState, Dialect};
use pinwire_admin_api::documents::{DocumentDetail, DocumentPage, DocumentState};
use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::node::{Driver, Node, Status, Threads};
use pinwire_admin_api::problem::Problem;
use pinwire_admin_api::stream::{Change, Snapshot};
use pinwire_protocol::document::hocuspocus as wire;
use pinwire_tests::node::{
    AdminClient, Options, TestClient, TestNode, announcement, edit, eventually, hocuspocus, on_both_drivers,
    on_two_threads, token, token_with, update_of, ywebsocket_update,
};
use serde_json::{Value, json};

fn with_admin(options: Options, test: impl FnOnce(&TestNode, AdminClient)) {
    let options = Options { admin: true, ..options };
    let node = TestNode::start(env!("CARGO_BIN_EXE_test-node"), &options);
    let admin = node.admin();
    test(&node, admin);
}

/// A Hocuspocus socket that is a member of these documents.
fn hocuspocus_member(node: &TestNode, documents: &[String]) -> TestClient {
    let mut client = TestClient::dial(node).upgraded("/");
    for document in documents {
        client.message(&hocuspocus::auth(document, &token()));
    }
    for _ in documents {
        until(&mut client, |body| matches!(body, wire::Body::Authenticated { .. }));
    }
    client
}

/// Receives until a body of this kind comes; its key.
fn until(client: &mut TestClient, is_it: impl Fn(&wire::Body<'_>) -> bool) -> String {
    loop {
        let message = client.binary();
        if let Some((key, body)) = hocuspocus::body(&message)
            && is_it(&body)
        {
            return key.to_owned();
        }
    }
}

fn names(count: usize, prefix: &str) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn problem(admin: AdminClient, method: &str, path: &str, body: Option<&Value>) -> Problem {
    let (status, body) = admin.ask(method, path, body);
    let problem: Problem = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {status} {body}"));
    assert_eq!(problem.status, status);
    problem
}

#[test]
fn the_node_and_its_threads_are_told_in_numbers() {
    on_both_drivers(|options| {
        let wanted = match options.driver {
            pinwire_tests::node::Driver::Epoll => Driver::Epoll,
            pinwire_tests::node::Driver::Uring => Driver::IoUring,
        };
        with_admin(options, |node, admin| {
            let _members = join_all(node, &names(3, "counted"));
            eventually("three connections are counted", || {
                let told: Node = admin.get("/v1/node");
                assert_eq!((told.status, told.threads, told.is_partial), (Status::Healthy, 1, false));
                assert!(told.driver == Some(wanted) || wanted == Driver::IoUring);
                assert!(told.process.resident_bytes.is_some_and(|bytes| bytes > 1_000_000));
                (told.totals.connections, told.totals.documents) == (3, 3)
            });
            let told: Threads = admin.get("/v1/threads");
            assert_eq!(told.threads.len(), 1);
            assert!(told.threads[0].turn.is_some_and(|turn| turn.count > 0 && turn.p99_seconds > 0.0));
        });
    });
}

fn join_all(node: &TestNode, documents: &[String]) -> Vec<TestClient> {
    documents.iter().map(|name| TestClient::join(node, name)).collect()
}

#[test]
fn documents_are_told_with_their_members_on_whichever_thread_these_are() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            let documents = names(6, "shared");
            let mut writers = join_all(node, &documents);
            let _everywhere = hocuspocus_member(node, &documents);
            writers[0].announce(7, 1);
            for clock in 0..40 {
                writers[0].message(&ywebsocket_update(&edit(1, clock, "x")));
            }
            let mut threads = BTreeSet::new();
            for name in &documents {
                let told: DocumentDetail = admin.get(&format!("/v1/documents/tenant/app/{name}"));
                assert_eq!((told.document.state, told.document.members), (DocumentState::Live, 2));
                assert_eq!((told.members.len(), told.is_partial, told.next), (2, false, None));
                for member in &told.members {
                    assert_eq!(member.subject.as_deref(), Some("tester"), "{member:?}");
                    let connection = member.connection.as_ref().unwrap();
                    let found: Connection = admin.get(&format!("/v1/connections/{connection}"));
                    assert_eq!((&found.id, found.dialect), (connection, Some(member.dialect)));
                    assert_eq!(Some(found.since), member.since);
                    assert!(found.documents.contains(name), "{:?}", found.documents);
                }
                let dialects: Vec<Dialect> = told.members.iter().map(|member| member.dialect).collect();
                assert!(dialects.contains(&Dialect::Hocuspocus) && dialects.contains(&Dialect::YWebsocket));
                threads.insert(told.document.thread);
            }
            assert_eq!(threads.len(), 2, "the documents lie on both threads");
            eventually("the edits are counted", || {
                let told: DocumentDetail = admin.get("/v1/documents/tenant/app/shared-0");
                told.document.edits_per_second > 1.0 && told.document.present == 1
            });
            let top: DocumentPage = admin.get("/v1/documents?sort=edits&limit=1");
            assert_eq!(top.documents[0].name, "shared-0");
            assert!(top.documents[0].bytes_per_second > 10.0 && top.documents[0].log_bytes > 40);
        });
    });
}

#[test]
fn read_only_members_and_apart_apps_are_told_apart() {
    with_admin(Options::default(), |node, admin| {
        let other = token_with(json!({ "appId": "other", "access": "readonly", "sub": "bob" }));
        let _reader = TestClient::dial(node).upgraded(&format!("/quiet?token={other}")).joined();
        let _member = TestClient::join(node, "quiet");
        let told: DocumentDetail = admin.get("/v1/documents/tenant/other/quiet");
        assert!(told.members[0].is_read_only && told.members[0].subject.as_deref() == Some("bob"));
        let of_app: DocumentPage = admin.get("/v1/documents?app=app");
        assert_eq!((of_app.documents.len(), &*of_app.documents[0].app), (1, "app"));
        let both: DocumentPage = admin.get("/v1/documents?tenant=tenant&prefix=qui");
        assert_eq!(both.documents.len(), 2);
        let none: DocumentPage = admin.get("/v1/documents?prefix=loud");
        assert_eq!(none.documents, []);
        let bobs: ConnectionPage = admin.get("/v1/connections?subject=bob&app=other");
        assert_eq!((bobs.connections.len(), &bobs.connections[0].documents), (1, &vec!["quiet".to_owned()]));
    });
}

#[test]
fn going_through_pages_finds_what_stays_exactly_once_while_others_come_and_go() {
    on_two_threads(|options| {
        let options = Options { grace_ms: 1, ..options };
        with_admin(options, |node, admin| {
            let stable = names(60, "stays");
            let _members = join_all(node, &stable);
            let mut passing: Vec<TestClient> = Vec::new();
            for round in 0..3 {
                let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                let (mut cursor, mut pages) = (String::new(), 0);
                loop {
                    let page: DocumentPage = admin.get(&format!("/v1/documents?limit=7{cursor}"));
                    assert!(page.documents.len() <= 7 && !page.is_partial);
                    for document in page.documents {
                        *seen.entry(document.name).or_default() += 1;
                    }
                    passing.push(TestClient::join(node, &format!("passes-{round}-{pages}")));
                    if pages % 2 == 1 {
                        passing.remove(0).close(1000);
                    }
                    pages += 1;
                    match page.next {
                        Some(next) => cursor = format!("&cursor={next}"),
                        None => break,
                    }
                }
                assert!(pages > 8, "{pages} pages");
                for name in &stable {
                    assert_eq!(seen.get(name), Some(&1), "{name} in {seen:?}");
                }
            }
            let everybody = join_all(node, &names(3, "stays-0-again"));
            let mut in_order = Vec::new();
            let mut cursor = String::new();
            loop {
                let page: DocumentPage =
                    admin.get(&format!("/v1/documents?sort=members&prefix=stays&limit=9{cursor}"));
                in_order.extend(page.documents.into_iter().map(|document| document.name));
                match page.next {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(in_order.len(), stable.len() + everybody.len());
            assert_eq!(in_order.iter().collect::<BTreeSet<_>>().len(), in_order.len());
            let mut connections = BTreeSet::new();
            let mut cursor = String::new();
            loop {
                let page: ConnectionPage = admin.get(&format!("/v1/connections?limit=11{cursor}"));
                connections.extend(page.connections.into_iter().map(|connection| connection.id));
                match page.next {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert!(connections.len() >= 63, "{}", connections.len());
        });
    });
}

#[test]
fn the_pages_of_a_documents_members_have_each_once() {
    with_admin(Options::default(), |node, admin| {
        let _members: Vec<TestClient> = (0..25).map(|_| TestClient::join(node, "crowd")).collect();
        let mut seen = BTreeSet::new();
        let mut cursor = String::new();
        loop {
            let page: DocumentDetail = admin.get(&format!("/v1/documents/tenant/app/crowd?limit=10{cursor}"));
            for member in page.members {
                assert!(seen.insert(member.connection.unwrap()), "twice");
            }
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 25);
    });
}

#[test]
fn a_connection_is_closed_as_asked_and_one_that_comes_back_is_another() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            for name in names(4, "closing") {
                let sub = token_with(json!({ "sub": name }));
                let open = || TestClient::dial(node).upgraded(&format!("/{name}?token={sub}")).joined();
                let mut client = open();
                let find = || -> Vec<Connection> {
                    let page: ConnectionPage = admin.get(&format!("/v1/connections?subject={name}"));
                    page.connections
                };
                let before = find().remove(0);
                assert_eq!(before.state, ConnectionState::Open);
                let path = format!("/v1/connections/{}/close", before.id);
                let _: Value = admin.act("POST", &path, &json!({ "code": 1001, "reason": "maintenance" }));
                assert_eq!(client.close_frame(), (1001, "maintenance".to_owned()));
                let mut again = open();
                let after = find();
                assert!(after.iter().any(|found| found.id != before.id), "{after:?}");
                client.close(1001);
                drop(client);
                let of_it = format!("/v1/connections/{}", before.id);
                eventually("the old one is gone", || admin.ask("GET", &of_it, None).0 == 404);
                assert_eq!(problem(admin, "POST", &path, Some(&json!({}))).error, "not_found");
                again.close(1000);
            }
            let audit: AuditPage = admin.get("/v1/audit");
            assert_eq!(audit.records.len(), 8);
            let is_done = |outcome: &Outcome| *outcome == Outcome::Done;
            assert_eq!(audit.records.iter().filter(|record| is_done(&record.outcome)).count(), 4);
            let first = &audit.records[0];
            assert!(
                matches!(&first.what, Action::CloseConnection { code: 1001, reason, .. } if reason == "maintenance")
            );
            assert!(
                first.who.token.as_ref().is_some_and(|token| token.len() == 16)
                    && first.who.address.is_some()
            );
            let events: EventPage = admin.get("/v1/events");
            let closed = |what: &What| matches!(what, What::ConnectionClosed { code: 1001, .. });
            assert_eq!(events.events.iter().filter(|event| closed(&event.what)).count(), 4);
        });
    });
}

#[test]
fn a_connection_keeps_its_id_when_it_moves_to_another_thread() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            let mut known = BTreeSet::new();
            let mut clients = Vec::new();
            let mut moved = 0;
            for name in names(12, "moving") {
                let client = TestClient::open(node, &name);
                let page: ConnectionPage = admin.get("/v1/connections");
                let is_new = |connection: &Connection| !known.contains(&connection.id);
                let before = page.connections.into_iter().find(is_new).unwrap();
                assert_eq!((before.state, before.dialect), (ConnectionState::Waiting, None));
                // Its first message tells on which thread its document is.
                clients.push(client.joined());
                let after: Connection = admin.get(&format!("/v1/connections/{}", before.id));
                assert_eq!((after.state, &after.documents), (ConnectionState::Open, &vec![name]));
                assert_eq!((&after.id, &after.since), (&before.id, &before.since));
                moved += usize::from(after.thread != before.thread);
                known.insert(before.id);
            }
            assert!(moved > 0, "none moved");
        });
    });
}

#[test]
fn an_ended_document_loses_its_members_on_every_thread_and_what_it_held() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            let documents = names(6, "ending");
            let mut writers = join_all(node, &documents);
            for (writer, document) in writers.iter_mut().zip(&documents) {
                writer.message(&ywebsocket_update(&edit(1, 0, document)));
                // Heard by somebody else: it is in.
                let mut witness = TestClient::join(node, document);
                witness.message(&pinwire_tests::node::step1());
                while update_of(&witness.binary()).is_none_or(|update| update.len() < 5) {}
                witness.close(1000);
                assert_eq!(witness.closed(), Some(1000));
            }
            let mut everywhere = hocuspocus_member(node, &documents);
            let path = |name: &str| format!("/v1/documents/tenant/app/{name}/end");
            let ended: DocumentEnded = admin.act("POST", &path("ending-0"), &json!({ "code": 1001 }));
            assert_eq!(ended.members, 2);
            assert_eq!(writers[0].close_frame().0, 1001);
            assert_eq!(everywhere.close_frame().0, 1001, "its whole socket, on whichever thread it is");
            assert_eq!(problem(admin, "GET", "/v1/documents/tenant/app/ending-0", None).error, "not_found");
            let mut late = TestClient::open(node, "ending-0");
            late.message(&pinwire_tests::node::step1());
            let first = late.binary();
            assert!(update_of(&first).is_some_and(|update| update.len() == 2), "nothing was left of it");
            for (writer, name) in writers.iter_mut().zip(&documents).skip(1) {
                let ended: DocumentEnded = admin.act("POST", &path(name), &json!({}));
                assert!((1..=2).contains(&ended.members));
                assert_eq!(writer.close_frame().0, 1000);
            }
            assert_eq!(problem(admin, "POST", &path("ending-1"), Some(&json!({}))).error, "not_found");
            let app: AppPage = admin.get("/v1/apps?tenant=tenant");
            assert_eq!(app.apps[0].documents.used, 1, "the late one's");
        });
    });
}

#[test]
fn stateless_messages_go_both_ways() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            let documents = names(6, "told");
            let mut member = hocuspocus_member(node, &documents);
            let mut plain = TestClient::join(node, "told-0");
            for name in &documents {
                let path = format!("/v1/documents/tenant/app/{name}/messages");
                let sent: MessageSent = admin.act("POST", &path, &json!({ "payload": format!("to {name}") }));
                assert_eq!((sent.members, sent.unable), (1, u64::from(name == "told-0")));
                let payload = format!("to {name}");
                let key = until(
                    &mut member,
                    |body| matches!(body, wire::Body::Stateless(told) if *told == payload),
                );
                assert_eq!(key, *name);
            }
            plain.message(&announcement(5, 1, "{}"));
            let long = "x".repeat(5000);
            for payload in ["from a client", &long] {
                let mut message = Vec::new();
                wire::append_stateless(&mut message, "told-3", payload);
                member.message(&message);
            }
            eventually("the clients' messages are events", || {
                let events: EventPage = admin.get("/v1/events");
                let told = |text: Option<&str>, len| {
                    events.events.iter().any(|event| match &event.what {
                        What::Message { name, payload, bytes, .. } => {
                            name == "told-3" && payload.as_deref() == text && *bytes == len
                        }
                        _ => false,
                    })
                };
                told(Some("from a client"), 13) && told(None, 5000)
            });
            let path = "/v1/documents/tenant/app/told-0/messages";
            let too_long = json!({ "payload": "x".repeat((64 << 10) + 1) });
            assert_eq!(problem(admin, "POST", path, Some(&too_long)).parameter.as_deref(), Some("payload"));
            let far_too_long = json!({ "payload": "x".repeat(1 << 20) });
            assert_eq!(problem(admin, "POST", path, Some(&far_too_long)).status, 413);
        });
    });
}

#[test]
fn apps_are_told_with_their_limits() {
    with_admin(Options::default(), |node, admin| {
        let limits =
            json!({ "maxConnections": 5, "maxDocuments": 6, "maxUsersPerDoc": 7, "opsPerMinute": 6400 });
        let limited = token_with(json!({ "appId": "limited", "limits": limits }));
        let mut client = TestClient::dial(node).upgraded(&format!("/d?token={limited}")).joined();
        client.message(&ywebsocket_update(&edit(1, 0, "x")));
        let _other = TestClient::join(node, "d");
        eventually("an operation is counted", || {
            let page: AppPage = admin.get("/v1/apps?limit=1");
            assert_eq!((page.apps.len(), page.next.as_deref()), (1, Some("tenant::app")));
            let page: AppPage = admin.get("/v1/apps?limit=1&cursor=tenant::app");
            let app = &page.apps[0];
            assert_eq!(
                (app.app.as_str(), app.connections.used, app.connections.limit),
                ("limited", 1, Some(5))
            );
            assert_eq!((app.documents.used, app.documents.limit), (1, Some(6)));
            assert_eq!((app.operations.limit, app.max_users_per_document), (Some(6400), Some(7)));
            app.operations.used > 0
        });
    });
}

#[test]
fn a_console_is_sent_how_things_are_and_then_what_changes() {
    on_two_threads(|options| {
        with_admin(options, |node, admin| {
            let _first = TestClient::join(node, "watched-0");
            let mut stream = admin.stream("/v1/stream?sort=members&documents=3");
            let (name, data) = stream.event().unwrap();
            assert_eq!(name, "snapshot");
            let snapshot: Snapshot = serde_json::from_value(data).unwrap();
            assert_eq!((snapshot.threads.len(), snapshot.documents.len()), (2, 1));
            assert!(matches!(snapshot.events[0].what, What::Started { .. }));
            let _second = TestClient::join(node, "watched-1");
            let path = "/v1/documents/tenant/app/watched-0/end";
            let _: DocumentEnded = admin.act("POST", path, &json!({}));
            let mut events = Vec::new();
            loop {
                let (name, data) = stream.event().unwrap();
                assert_eq!(name, "change");
                let change: Change = serde_json::from_value(data).unwrap();
                assert_eq!(change.events_lost, 0);
                events.extend(change.events);
                let order: Vec<&str> = change.order.iter().map(|document| document.name.as_str()).collect();
                if order == ["watched-1"] && !events.is_empty() {
                    break;
                }
            }
            assert!(matches!(&events[0].what, What::DocumentEnded { name, .. } if name == "watched-0"));
            assert_eq!(problem(admin, "GET", "/v1/stream?documents=101", None).error, "malformed");
        });
    });
}

#[test]
fn a_stream_ends_when_the_node_stops() {
    let options = Options { admin: true, ..Options::default() };
    let mut node = TestNode::start(env!("CARGO_BIN_EXE_test-node"), &options);
    let mut stream = node.admin().stream("/v1/stream");
    assert_eq!(stream.event().unwrap().0, "snapshot");
    node.tell_to_stop();
    while stream.event().is_some() {}
    assert!(node.wait());
}

#[test]
fn no_more_consoles_are_served_than_there_are_places() {
    with_admin(Options::default(), |_, admin| {
        let mut streams: Vec<_> = (0..16).map(|_| admin.stream("/v1/stream?documents=0")).collect();
        assert_eq!(problem(admin, "GET", "/v1/stream", None).status, 503);
        streams.pop();
        eventually("a place is free again", || {
            let (status, _) = admin.ask("HEAD", "/v1/stream?documents=0", None);
            status == 200
        });
    });
}

#[test]
fn requests_that_mean_nothing_are_told_why() {
    with_admin(Options::default(), |_, admin| {
        let close = |body: Value| problem(admin, "POST", "/v1/connections/1-1/close", Some(&body));
        assert_eq!(close(json!({ "code": 4999 })).parameter.as_deref(), Some("code"));
        assert_eq!(close(json!({ "reason": "x".repeat(124) })).parameter.as_deref(), Some("reason"));
        for body in [json!({ "cod": 1000 }), json!([null, null]), json!({ "code": 1000.5 }), json!(7)] {
            assert_eq!(close(body.clone()).error, "invalid_body", "{body}");
        }
        assert_eq!(close(json!({})).error, "not_found");
        for path in ["/v1/connections/x", "/v1/documents/a/b/c", "/v2/node", "/"] {
            assert_eq!(problem(admin, "GET", path, None).error, "not_found", "{path}");
        }
        for path in [
            "/v1/documents?limit=0",
            "/v1/documents?limit=501",
            "/v1/documents?cursor=x",
            "/v1/documents?sort=colour",
            "/v1/documents?tenant=a&tenant=b",
            "/v1/connections?colour=red",
            "/v1/events?since=-1",
        ] {
            assert_eq!(problem(admin, "GET", path, None).error, "malformed", "{path}");
        }
        assert_eq!(problem(admin, "PATCH", "/v1/node", None).status, 405);
        // This program's log is not its node's.
        assert_eq!(problem(admin, "GET", "/v1/log", None).error, "conflict");
        let audit: AuditPage = admin.get("/v1/audit");
        assert_eq!(audit.records.len(), 1, "only what could have been done is recorded");
    });
}
