//! Links to real servers: what they promise when servers hang, restart, change their parts, or refuse.

#![allow(missing_docs, reason = "a test")]

use pinwire_redis::rig::{ClusterRig, Options, SentinelRig, ServerRig};
use pinwire_redis::{Error, Event, Link, Script, Settings, Subscription, Value, cmd};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn link_with(url: &str, settings: Settings) -> Link {
    Link::new(url.parse().expect("a URL"), settings).expect("a link")
}

fn set(key: &str, value: &str) -> pinwire_redis::Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value);
    command
}

async fn get(link: &Link, key: &str) -> Result<Value, Error> {
    let mut command = cmd("GET");
    command.arg(key);
    link.call(key.as_bytes(), &command).await
}

/// Calls until it works: a server that comes back, or another one that takes over.
async fn set_until_done(link: &Link, key: &str, value: &str) {
    let began = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        match link.call(key.as_bytes(), &set(key, value)).await {
            Ok(_) => return,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        pause.tick().await;
    }
}

async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(PATIENCE, subscription.next()).await.expect("an event")
}

#[tokio::test]
async fn calls_are_pipelined_and_scripts_are_loaded_by_themselves() {
    let server = ServerRig::start(&Options::default());
    let link = server.link();
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let calls = (0..1000).map(|_| link.run(script.on("counter").arg(1)));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.expect("an answer");
    }
    assert_eq!(get(&link, "counter").await, Ok(Value::BulkString(b"1000".to_vec())));
    let loaded = server.command(&["INFO", "memory"]);
    assert!(loaded.contains("number_of_cached_scripts:1"), "{loaded}");
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(link.run(script.on("counter").arg(1)).await, Ok(Value::Int(1001)));
    let failing = Script::new("return redis.call('INCRBY', KEYS[1], 'x')");
    assert!(matches!(link.run(failing.on("counter")).await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_callers_a_deadline_and_gathers_no_calls() {
    let server = ServerRig::start(&Options::default());
    let settings = Settings { deadline: Duration::from_millis(300), calls_max: 50, ..Settings::default() };
    let link = link_with(&server.url(), settings);
    link.call(b"key", &set("key", "1")).await.expect("an answer");
    server.pause();
    let began = Instant::now();
    let outcomes = futures_util::future::join_all((0..200).map(|_| get(&link, "key"))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Error::OutOfReach(_)))));
    let refused = outcomes
        .iter()
        .filter(|outcome| outcome.as_ref().is_err_and(|error| error.to_string().contains("wait already")));
    assert_eq!(refused.count(), 150);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    server.resume();
    set_until_done(&link, "key", "2").await;
}

/// Passes on one connection's bytes to a port and back: how the client's side ended.
async fn pass_on(listener: tokio::net::TcpListener, port: u16) -> std::io::Result<u64> {
    let (client, _) = listener.accept().await.expect("a client");
    let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let outcome = tokio::io::copy(&mut from_client, &mut to_server).await;
    back.abort();
    outcome
}

#[tokio::test]
async fn a_connection_that_is_given_up_is_reset_so_that_nothing_is_sent_any_more() {
    let server = ServerRig::start(&Options::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    let passing = tokio::spawn(pass_on(listener, server.port()));
    let settings = Settings { deadline: Duration::from_millis(300), ..Settings::default() };
    let link = link_with(&url, settings);
    link.call(b"key", &set("key", "1")).await.expect("an answer");
    server.pause();
    link.call(b"key", &set("key", "2")).await.expect_err("no answer in time");
    let outcome = tokio::time::timeout(PATIENCE, passing).await.expect("an end").expect("no panic");
    server.resume();
    assert_eq!(outcome.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_restart_is_survived_and_shows_in_the_history() {
    let mut server = ServerRig::start(&Options::default());
    let link = server.link();
    let before = link.history(b"key").await.expect("a history");
    assert_eq!(link.history(b"key").await.expect("a history"), before);
    server.restart();
    set_until_done(&link, "key", "1").await;
    assert_ne!(link.history(b"key").await.expect("a history"), before);
}

#[tokio::test]
async fn memory_at_its_bound_is_told_from_other_refusals() {
    let server = ServerRig::start(&Options::default());
    let link = server.link();
    link.call(b"key", &set("key", "1")).await.expect("an answer");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(matches!(link.call(b"key", &set("key", "2")).await, Err(Error::Full(_))));
    let script = Script::new("return redis.call('SET', KEYS[1], '3')");
    assert!(matches!(link.run(script.on("key")).await, Err(Error::Full(_))));
}

#[tokio::test]
async fn tls_with_a_private_authority_and_a_user_of_its_own() {
    let server = ServerRig::start(&Options { tls: true, ..Options::default() });
    server.command(&[
        "ACL",
        "SETUSER",
        "pinwire",
        "on",
        ">pass word",
        "~allowed:*",
        "+set",
        "+hello",
        "+ping",
    ]);
    let link = link_with(&server.tls_url("pinwire:pass%20word@"), Settings::default());
    link.call(b"allowed:1", &set("allowed:1", "1")).await.expect("an answer");
    assert!(matches!(link.call(b"other", &set("other", "1")).await, Err(Error::Refused(_))));

    let wrong = link_with(&server.tls_url("pinwire:nonsense@"), Settings::default());
    let error = wrong.call(b"allowed:1", &set("allowed:1", "1")).await.expect_err("no right");
    assert!(
        error.to_string().contains("WRONGPASS") || error.to_string().contains("uthentication"),
        "{error}"
    );
    assert!(!error.to_string().contains("nonsense"));
    let untrusting =
        server.tls_url("pinwire:pass%20word@").split('?').next().map(str::to_owned).expect("a URL");
    // A machine may have no trusted certificates at all; that is an error of its own.
    if let Ok(link) = Link::new(untrusting.parse().expect("a URL"), Settings::default()) {
        let error = link.call(b"allowed:1", &set("allowed:1", "1")).await.expect_err("no trust");
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}

#[tokio::test]
async fn messages_come_in_order_and_an_interruption_shows() {
    let mut server = ServerRig::start(&Options::default());
    let link = server.link();
    let mut subscription = link.subscribe(vec![b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    for index in 0..100 {
        let channel = if index % 2 == 0 { "one" } else { "two" };
        link.publish(channel.as_bytes(), index.to_string().as_bytes()).await.expect("published");
    }
    for index in 0..100 {
        let channel = if index % 2 == 0 { b"one".to_vec() } else { b"two".to_vec() };
        let payload = index.to_string().into_bytes();
        assert_eq!(next(&mut subscription).await, Event::Message { channel, payload });
    }
    server.restart();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    set_until_done(&link, "key", "1").await;
    link.publish(b"two", b"again").await.expect("published");
    assert_eq!(
        next(&mut subscription).await,
        Event::Message { channel: b"two".to_vec(), payload: b"again".to_vec() }
    );
}

#[tokio::test]
async fn a_queue_that_nobody_empties_becomes_an_interruption() {
    let server = ServerRig::start(&Options::default());
    let link = link_with(&server.url(), Settings { messages_max: 10, ..Settings::default() });
    let mut subscription = link.subscribe(vec![b"one".to_vec()]);
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    for index in 0..25 {
        link.publish(b"one", index.to_string().as_bytes()).await.expect("published");
    }
    let last = Event::Message { channel: b"one".to_vec(), payload: b"24".to_vec() };
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(next(&mut subscription).await);
    }
    // However the messages arrived while they were taken: whoever lacks some was told before those that follow.
    let first_message = seen.iter().position(|event| *event != Event::Interrupted).expect("a message");
    assert!(seen.len() == 25 || first_message > 0, "{seen:?}");
}

#[tokio::test]
async fn a_switch_of_sentinel_is_followed() {
    let mut rig = SentinelRig::start(Duration::from_millis(300));
    let link = rig.link();
    link.call(b"key", &set("key", "1")).await.expect("an answer");
    let mut subscription = link.subscribe(vec![b"one".to_vec()]);
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    let history = link.history(b"key").await.expect("a history");

    // In good order: the old master lives on as a replica.
    rig.fail_over();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    set_until_done(&link, "key", "2").await;
    assert_ne!(link.history(b"key").await.expect("a history"), history);

    // By death.
    let port = rig.master().port();
    rig.master().kill();
    rig.wait_for_other_master(port);
    set_until_done(&link, "key", "3").await;
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    link.publish(b"one", b"hello").await.expect("published");
    assert_eq!(
        next(&mut subscription).await,
        Event::Message { channel: b"one".to_vec(), payload: b"hello".to_vec() }
    );
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let rig = ClusterRig::start();
    let link = rig.link();
    for index in 0..50 {
        let key = format!("key-{index}");
        link.call(key.as_bytes(), &set(&key, "1")).await.expect("an answer");
    }
    let key = "{moving}:key";
    let slot = rig.slot_of(key);
    let from = rig.owner_of(slot);
    let to = (from + 1) % 3;
    let mut subscription = link.subscribe(vec![b"{moving}:channel".to_vec(), b"{other}:channel".to_vec()]);
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    link.publish(b"{other}:channel", b"1").await.expect("published");
    assert!(matches!(next(&mut subscription).await, Event::Message { .. }));

    // Half way, keys that are not there yet belong to the new server: ASK.
    rig.begin_move(slot, to);
    link.call(key.as_bytes(), &set(key, "asked")).await.expect("an answer");
    let script = Script::new("return redis.call('GET', KEYS[1])");
    assert_eq!(link.run(script.on(key)).await, Ok(Value::BulkString(b"asked".to_vec())));
    // Done: MOVED.
    rig.end_move(slot, from, to);
    link.call(key.as_bytes(), &set(key, "moved")).await.expect("an answer");
    assert_eq!(link.run(script.on(key)).await, Ok(Value::BulkString(b"moved".to_vec())));
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    link.publish(b"{moving}:channel", b"2").await.expect("published");
    assert_eq!(
        next(&mut subscription).await,
        Event::Message { channel: b"{moving}:channel".to_vec(), payload: b"2".to_vec() }
    );
}

#[tokio::test]
async fn a_server_of_a_cluster_that_is_gone_takes_the_messages_of_its_own_channels_alone() {
    let mut rig = ClusterRig::start();
    let link = rig.link();
    // A channel on each server.
    let on = |rig: &ClusterRig, server: usize| {
        let mut channels = (0..).map(|number| format!("{{{number}}}:channel"));
        channels.find(|channel| rig.owner_of(rig.slot_of(channel)) == server).expect("one of many")
    };
    let channels = [0, 1, 2].map(|server| on(&rig, server).into_bytes());
    let mut subscription = link.subscribe(channels.to_vec());
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    rig.server(0).kill();
    let message = |channel: &[u8], payload: &[u8]| Event::Message {
        channel: channel.to_vec(),
        payload: payload.to_vec(),
    };
    // However often the one that is gone is tried again.
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    for number in 0..40_u32 {
        let (channel, payload) = (&channels[1 + number as usize % 2], number.to_string().into_bytes());
        link.publish(channel, &payload).await.expect("a server that is there");
        assert_eq!(next(&mut subscription).await, message(channel, &payload));
        pause.tick().await;
    }
    rig.server(0).restart();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    let began = Instant::now();
    while let Err(error) = link.publish(&channels[0], b"again").await {
        assert!(began.elapsed() < PATIENCE, "{error}");
        pause.tick().await;
    }
    let mut event = next(&mut subscription).await;
    while event == Event::Interrupted {
        event = next(&mut subscription).await;
    }
    assert_eq!(event, message(&channels[0], b"again"));
}
