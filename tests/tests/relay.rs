//! Sessions that a node carries to another region, for clients that know of none. A failure names its seed;
//! `PINWIRE_SIM_SEED=N` runs that one alone, and `PINWIRE_SIM_SEEDS=N` runs N instead of the usual number.

use pinwire_tests::sim;
use std::time::{Duration, Instant};

/// Seeds of a normal run, and how long it may take before it is content with fewer.
const SEEDS: u64 = 100;
const ENOUGH: Duration = Duration::from_secs(20);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_over_links_what_was_promised() {
    let (first, count) = match (number("PINWIRE_SIM_SEED"), number("PINWIRE_SIM_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let is_bounded = number("PINWIRE_SIM_SEEDS").is_none();
    let start = Instant::now();
    let mut failures = Vec::new();
    for seed in first..first + count {
        if is_bounded && start.elapsed() > ENOUGH {
            break;
        }
        match sim::run_relayed(seed) {
            Ok(report) => eprintln!("seed {seed}: {report:?}"),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_relayed_seed_gives_the_same_run_again() {
    assert_eq!(sim::run_relayed(3), sim::run_relayed(3));
}

/// Two regions in this process, of one registry, whose nodes carry clients to each other.
mod nodes {
    use pinwire_node::cluster::SharedRegistry;
    use pinwire_node::config::{Config, Peer, PeerSecret, WrongRegion};
    use pinwire_node::{Node, Start};
    use pinwire_protocol::document::hocuspocus as wire;
    use pinwire_tests::node::{
        Covered, Options, Received, TestClient, announcement, append, edit, hocuspocus, step1, token,
        update_of, ywebsocket_update,
    };

    const SECRET: &[u8] = b"a secret that all nodes of a test know, of 32 bytes and more";

    struct Region(Node);

    impl Region {
        fn start(name: &str, registry: &SharedRegistry, secret: &[u8]) -> Self {
            let mut config: Config = Options { threads: 2, ..Options::default() }.config();
            config.region.name = name.to_owned();
            config.cluster.wrong_region = WrongRegion::Relay;
            config.cluster.peer = Some(Peer {
                listen: ([127, 0, 0, 1], 0).into(),
                address: "127.0.0.1:0".to_owned(),
                secret: PeerSecret::new(secret),
                certificates: None,
                authorities: Vec::new(),
            });
            let start = Start { registry: Some(registry.clone()), ..Start::default() };
            Self(Node::start_with(config, start).expect("a node"))
        }

        fn open(&self, document: &str) -> TestClient {
            TestClient::dial_at(self.0.address()).upgraded(&format!("/{document}?token={}", token()))
        }
    }

    fn regions() -> (Region, Region) {
        let registry = SharedRegistry::new().expect("random numbers");
        (Region::start("here-1", &registry, SECRET), Region::start("there-1", &registry, SECRET))
    }

    /// Waits until a client has been sent what `writer` wrote before `clock`.
    fn await_edit(client: &mut TestClient, covered: &mut Covered, writer: u64, clock: u32) {
        while covered.next(writer) < clock {
            if let Some(update) = update_of(&client.binary()) {
                covered.add(update);
            }
        }
    }

    #[test]
    fn stock_clients_of_two_regions_share_a_document() {
        let (here, there) = regions();
        let (mut of_first, mut of_second) = (Covered::default(), Covered::default());
        let mut first = here.open("shared").joined();
        first.message(&ywebsocket_update(&edit(1, 0, "from here")));
        let mut second = there.open("shared");
        second.message(&step1());
        await_edit(&mut second, &mut of_second, 1, 9);
        second.message(&ywebsocket_update(&edit(2, 0, "from there")));
        await_edit(&mut first, &mut of_first, 2, 10);
        first.message(&ywebsocket_update(&append(1, 9, "!")));
        await_edit(&mut second, &mut of_second, 1, 10);
        second.message(&announcement(2, 1, "{\"name\":\"far\"}"));
        while !is_present(&first.binary(), "far") {}
        drop(second);
        while !is_gone(&first.binary()) {}
        here.0.stop().expect("all threads end");
        there.0.stop().expect("all threads end");
    }

    fn is_present(message: &[u8], name: &str) -> bool {
        message.first() == Some(&1) && String::from_utf8_lossy(message).contains(name)
    }

    fn is_gone(message: &[u8]) -> bool {
        message.first() == Some(&1) && String::from_utf8_lossy(message).contains("null")
    }

    #[test]
    fn a_hocuspocus_provider_is_acknowledged_over_the_link() {
        let (here, there) = regions();
        let _holder = here.open("shared").joined();
        let mut provider = there.open("shared");
        provider.message(&hocuspocus::auth("shared", &token()));
        provider.message(&hocuspocus::update("shared", &edit(3, 0, "kept")));
        let is_status = |message: &[u8]| {
            matches!(hocuspocus::body(message), Some(("shared", wire::Body::SyncStatus { applied: true })))
        };
        while !is_status(&provider.binary()) {}
        here.0.stop().expect("all threads end");
        there.0.stop().expect("all threads end");
    }

    #[test]
    fn clients_come_back_with_1012_when_the_owner_stops_and_are_served_where_they_are() {
        let (here, there) = regions();
        let first = here.open("shared").joined();
        let mut second = there.open("shared").joined();
        drop(first);
        here.0.stop().expect("all threads end");
        loop {
            match second.receive() {
                Received::Close(code, reason) => {
                    assert_eq!((code, &*reason), (1012, "the document is reached another way now"));
                    break;
                }
                Received::End => panic!("no close frame came"),
                _ => {}
            }
        }
        // The registry may take a moment to know.
        let mut again = there.open("shared");
        again.message(&step1());
        while let Received::Close(code, _) = again.receive() {
            assert_eq!(code, 1013);
            again = there.open("shared");
            again.message(&step1());
        }
        there.0.stop().expect("all threads end");
    }

    #[test]
    fn a_node_with_another_secret_carries_nobody() {
        let registry = SharedRegistry::new().expect("random numbers");
        let here = Region::start("here-1", &registry, SECRET);
        let there =
            Region::start("there-1", &registry, b"another secret, just as long as the one that is right");
        let _holder = here.open("shared").joined();
        let mut stranger = there.open("shared");
        stranger.message(&step1());
        match stranger.receive() {
            Received::Close(1013, reason) => assert!(reason.starts_with("retry_ms="), "{reason}"),
            other => panic!("{other:?}"),
        }
        here.0.stop().expect("all threads end");
        there.0.stop().expect("all threads end");
    }
}

/// The rules of a relay, frame by frame.
mod rules {
    use pinwire_protocol::close::{Close, CloseCode};
    use pinwire_protocol::document::ywebsocket;
    use pinwire_shard::{
        Access, AppLimits, Body, ConnRef, FIRST_LINK, Mail, Pinned, Place, ROUTE_MS, RemoteSession, Route,
        Subject,
    };
    use pinwire_tests::shards::{Got, Node, closed, words};
    use std::sync::Arc;

    const LINK: u16 = FIRST_LINK + 5;
    const CLAIM: Pinned = Pinned { epoch: 9, nonce: 1 };
    const ROUTE: Route = Route { link: LINK, claim: CLAIM };

    fn node(threads: u16) -> Node {
        let mut node = Node::new(threads);
        node.opens_wait = true;
        node
    }

    /// Who wants to join over the link, of what was mailed there.
    fn joins(mail: &[(u16, Mail)]) -> Vec<RemoteSession> {
        let join = |(link, mail): &(u16, Mail)| match mail {
            Mail::Join { session, claim, subject, .. } => {
                assert_eq!((*link, *claim), (LINK, Some(CLAIM)));
                assert_eq!(subject.to_string(), "someone");
                Some(*session)
            }
            _ => None,
        };
        mail.iter().filter_map(join).collect()
    }

    /// A y-websocket client whose document is reached over the link, and its session there.
    fn member(node: &mut Node, slot: u32) -> RemoteSession {
        node.join(slot);
        node.relay_opens(ROUTE);
        let session = joins(&node.take_mail())[0];
        node.link_brings(0, LINK, Mail::Joined(session, Access::ReadWrite));
        session
    }

    fn frames(mail: &[(u16, Mail)]) -> usize {
        mail.iter().filter(|(_, mail)| matches!(mail, Mail::Frame(..))).count()
    }

    #[test]
    fn what_a_client_says_goes_over_the_link_and_what_comes_back_is_credited() {
        let mut node = node(1);
        let session = member(&mut node, 1);
        let mail = node.take_mail();
        assert!(
            matches!(&mail[..], [(LINK, Mail::Frame(of, frame))] if *of == session && **frame == [0, 0, 1, 0])
        );
        let body = Body::from(vec![0, 1, 2, 0, 0]);
        node.link_brings(
            0,
            LINK,
            Mail::Deliver { to: vec![session], bodies: Arc::from([body]), wants_credit: true },
        );
        assert_eq!(node.take(1), [Got::Message(vec![0, 1, 2, 0, 0])]);
        assert!(matches!(&node.take_mail()[..], [(LINK, Mail::Credit(of))] if *of == session));
    }

    #[test]
    fn a_delivery_is_credited_once_the_socket_took_it() {
        let mut node = node(1);
        let session = member(&mut node, 1);
        node.take_mail();
        node.shards[0].blocked(1, 100);
        let bodies = || Arc::from([Body::from(vec![1, 1, 0])]);
        node.link_brings(0, LINK, Mail::Deliver { to: vec![session], bodies: bodies(), wants_credit: true });
        assert!(node.take_mail().is_empty(), "the socket is full");
        node.shards[0].drained(1);
        node.run();
        assert!(matches!(&node.take_mail()[..], [(LINK, Mail::Credit(of))] if *of == session));
    }

    #[test]
    fn who_comes_within_the_time_of_a_route_goes_the_same_way_without_a_question() {
        let mut node = node(1);
        member(&mut node, 1);
        node.take_mail();
        node.pass(ROUTE_MS - 1);
        node.join(2);
        assert_eq!(joins(&node.take_mail()).len(), 1);
        node.pass(ROUTE_MS);
        node.join(3);
        assert_eq!(joins(&node.take_mail()).len(), 0);
        assert_eq!(node.relay_opens(ROUTE), 1, "the registry is asked again");
    }

    #[test]
    fn a_socket_is_not_read_while_its_window_is_full() {
        let mut node = node(1);
        let session = member(&mut node, 1);
        for _ in 0..80 {
            node.say(1, ywebsocket::append_query_awareness);
        }
        assert_eq!(frames(&node.take_mail()), 64);
        assert!(!node.is_heard(1));
        node.link_brings(0, LINK, Mail::Taken(session, 10, 10));
        assert_eq!(frames(&node.take_mail()), 10);
        node.link_brings(0, LINK, Mail::Taken(session, 64, 200));
        assert!(node.is_heard(1));
    }

    #[test]
    fn a_refusal_of_the_owner_is_the_clients_and_one_that_names_no_region_asks_again() {
        let mut node = node(1);
        node.join(1);
        node.relay_opens(ROUTE);
        let session = joins(&node.take_mail())[0];
        node.link_brings(0, LINK, Mail::Refused(session, Close::document_users(3)));
        assert_eq!(node.take(1), closed(CloseCode::DocumentUsers, "Document user limit exceeded: 3"));
        node.pass(ROUTE_MS);
        node.join(2);
        let elsewhere = Close::new(CloseCode::WrongRegion, "another region has the document");
        for _ in 0..4 {
            assert_eq!(node.relay_opens(ROUTE), 1);
            let session = joins(&node.take_mail())[0];
            node.link_brings(0, LINK, Mail::Refused(session, elsewhere.clone()));
        }
        assert_eq!(node.relay_opens(ROUTE), 0);
        // The second refusal of the same client is held for a while.
        node.pass(1_000);
        assert_eq!(node.take(2), closed(CloseCode::TryAgainLater, "retry_ms=1000"));
    }

    #[test]
    fn a_running_session_whose_pin_moves_or_whose_link_breaks_ends_with_1012() {
        let moved = closed(CloseCode::ServiceRestart, "the document is reached another way now");
        let mut first = node(1);
        let session = member(&mut first, 1);
        first.link_brings(0, LINK, Mail::Close(session, Close::redirect("wss://us-east-1.example.net/doc")));
        assert_eq!(first.take(1), moved);
        let mut second = node(1);
        member(&mut second, 1);
        second.shards[0].link_lost(LINK);
        second.run();
        assert_eq!(second.take(1), moved);
        second.join(2);
        assert_eq!(second.relay_opens(ROUTE), 1, "the route went with the link");
    }

    #[test]
    fn a_provider_on_another_thread_learns_the_route_and_is_authenticated_over_the_link() {
        let mut node = node(2);
        let (here, there) = (node.name_on(0), node.name_on(1));
        node.open(1, None, None);
        node.auth(1, &here, "writer");
        node.pin_opens(CLAIM);
        assert_eq!(words(&node.take(1)), [format!("{here} read-write")]);
        node.auth(1, &there, "writer");
        node.relay_opens(ROUTE);
        let session = joins(&node.take_mail())[0];
        node.link_brings(0, LINK, Mail::Joined(session, Access::ReadOnly));
        assert_eq!(words(&node.take(1)), [format!("{there} readonly")]);
        node.shards[0].link_lost(LINK);
        node.run();
        assert_eq!(
            node.take(1),
            closed(CloseCode::ServiceRestart, "the document is reached another way now")
        );
    }

    // The owner's side.

    fn join(node: &Node, number: u32, claim: Pinned) -> Mail {
        Mail::Join {
            session: RemoteSession { conn: ConnRef { slot: number, serial: 0 }, key: 0 },
            document: "doc".into(),
            app: Arc::clone(&node.app),
            limits: AppLimits::UNLIMITED,
            subject: Subject::from("somebody"),
            regions: None,
            access: Access::ReadWrite,
            is_ywebsocket: true,
            claim: Some(claim),
        }
    }

    #[test]
    fn an_owner_knows_whose_sessions_come_over_a_link_and_nothing_of_their_sockets() {
        let mut node = node(1);
        let first = join(&node, 1, CLAIM);
        node.link_brings(0, LINK, first);
        node.pin_opens(CLAIM);
        let facts = node.shards[0].inspect_document(&node.app.document("doc")).unwrap();
        let (members, _) = node.shards[0].inspect_members(facts.index, None, 10);
        assert!(matches!(members[0].place, Place::OverLink(LINK)), "{:?}", members[0].place);
        assert_eq!(members[0].subject().as_deref(), Some("somebody"));
    }

    fn is_refused(mail: &[(u16, Mail)], code: CloseCode) -> bool {
        matches!(mail, [(LINK, Mail::Refused(_, close))] if close.code == code)
    }

    #[test]
    fn an_owner_takes_no_session_that_was_sent_for_another_claim() {
        let mut node = node(1);
        let first = join(&node, 1, CLAIM);
        node.link_brings(0, LINK, first);
        node.pin_opens(CLAIM);
        assert!(matches!(&node.take_mail()[..], [(LINK, Mail::Joined(..)), ..]));
        for epoch in [CLAIM.epoch - 1, CLAIM.epoch + 1] {
            let other = join(&node, 2, Pinned { epoch, ..CLAIM });
            node.link_brings(0, LINK, other);
            assert!(is_refused(&node.take_mail(), CloseCode::WrongRegion), "epoch {epoch}");
        }
    }

    #[test]
    fn an_owner_never_relays_on() {
        let mut node = node(1);
        let first = join(&node, 1, CLAIM);
        node.link_brings(0, LINK, first);
        node.relay_opens(Route { link: LINK + 1, claim: CLAIM });
        assert!(is_refused(&node.take_mail(), CloseCode::WrongRegion));
        let second = join(&node, 2, CLAIM);
        node.link_brings(0, LINK, second);
        assert!(node.take_mail().is_empty(), "nor by a route that it knows");
        assert_eq!(node.relay_opens(ROUTE), 1);
    }

    #[test]
    fn a_node_that_leaves_sends_elsewhere_who_comes_over_a_link_and_ends_the_others_one_by_one() {
        let mut node = node(1);
        for number in 1..=2 {
            let join = join(&node, number, CLAIM);
            node.link_brings(0, LINK, join);
        }
        node.pin_opens(CLAIM);
        assert_eq!(node.shards[0].carried(), 2);
        node.take_mail();
        node.shards[0].refuse_carried(true);
        let third = join(&node, 3, CLAIM);
        node.link_brings(0, LINK, third);
        assert!(is_refused(&node.take_mail(), CloseCode::ServiceRestart));
        let here: Vec<_> = node.shards[0].carried_sessions().collect();
        assert_eq!(
            here.iter().map(|(link, session)| (*link, session.conn.slot)).collect::<Vec<_>>(),
            [(LINK, 1), (LINK, 2)]
        );
        let close = Close::new(CloseCode::ServiceRestart, "the node stops");
        // Once, however often it is said.
        for _ in 0..2 {
            node.shards[0].end_carried(here[0].0, here[0].1, &close);
            node.run();
        }
        let ended =
            |mail: &(u16, Mail)| matches!(mail, (LINK, Mail::Close(session, _)) if *session == here[0].1);
        assert_eq!(node.take_mail().iter().filter(|mail| ended(mail)).count(), 1);
        assert_eq!(node.shards[0].carried(), 1);
        // It stays after all.
        node.shards[0].refuse_carried(false);
        let fourth = join(&node, 4, CLAIM);
        node.link_brings(0, LINK, fourth);
        assert!(matches!(&node.take_mail()[..], [(LINK, Mail::Joined(..)), ..]));
        node.shards[0].link_lost(LINK);
        node.run();
        assert_eq!(node.shards[0].carried(), 0);
    }

    #[test]
    fn who_waits_for_its_document_when_the_node_leaves_is_sent_elsewhere() {
        let mut node = node(1);
        let first = join(&node, 1, CLAIM);
        node.link_brings(0, LINK, first);
        node.shards[0].refuse_carried(true);
        node.pin_opens(CLAIM);
        assert!(is_refused(&node.take_mail(), CloseCode::ServiceRestart));
        assert_eq!(node.shards[0].carried(), 0);
    }

    #[test]
    fn sessions_of_a_lost_link_leave_their_documents() {
        let mut node = node(1);
        for number in 1..=3 {
            let join = join(&node, number, CLAIM);
            node.link_brings(0, LINK, join);
        }
        node.pin_opens(CLAIM);
        let members = |node: &Node| {
            let facts = node.shards[0].inspect_document(&node.app.document("doc"));
            facts.map(|facts| facts.members)
        };
        assert_eq!(members(&node), Some(3));
        node.shards[0].link_lost(LINK);
        node.run();
        assert_eq!(members(&node), Some(0));
        node.pass(10_000);
        assert_eq!(members(&node), None);
        assert_eq!(node.app.documents(), 0);
    }
}
