//! Keepers over a real zone: what operators see with `dig`.

use crate::rfc2136::provider;
use crate::rig::{DnsServer, NAME, addresses, region, resolve, wait_until};
use pinwire_dns::{Change, Inputs, KeeperSettings, Member, Reason, Standing, State, Wanted, Wish, keep};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

const CHECK_US: u64 = 400_000;

/// A node, as its keeper sees it.
struct Node {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<Option<State>>,
    _task: JoinSet<()>,
}

type Pool = watch::Receiver<Option<Arc<[Member]>>>;

fn wish(wanted: Wanted) -> Wish {
    Wish { wanted, cause: "as the test says".into() }
}

fn member(number: u8, standing: Standing) -> Member {
    Member { node: format!("n{number}"), addresses: addresses(&[&format!("192.0.2.{number}")]), standing }
}

fn pool(members: &[Member]) -> Option<Arc<[Member]>> {
    Some(members.into())
}

impl Node {
    fn start(number: u8, server: &DnsServer, pool: &Pool) -> Self {
        Self::start_at(number, &format!("192.0.2.{number}"), server, pool)
    }

    fn start_at(number: u8, at: &str, server: &DnsServer, pool: &Pool) -> Self {
        let own = addresses(&[at]);
        let mut settings = KeeperSettings::new(format!("n{number}"), own, CHECK_US).unwrap();
        settings.settle_us = 100_000;
        let (wish, wishes) = watch::channel(wish(Wanted::Out(Reason::Starting)));
        let (shown, state) = watch::channel(None);
        let inputs = Inputs { wish: wishes, pool: pool.clone(), state: shown };
        let mut task = JoinSet::new();
        task.spawn(keep(settings, provider(server).into(), inputs, u64::from(number)));
        Self { wish, state, _task: task }
    }

    fn want(&self, wanted: Wanted) {
        self.wish.send(wish(wanted)).expect("a keeper");
    }

    async fn shows(&mut self, holds: impl FnMut(&State) -> bool) -> State {
        let mut holds = holds;
        let waiting = self.state.wait_for(|state| state.as_ref().is_some_and(&mut holds));
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(30), waiting);
        let seen = waiting.await.expect("a state in time").expect("a keeper");
        seen.clone().expect("a state")
    }
}

async fn has(server: &DnsServer, texts: &[&str]) {
    let expected = addresses(texts);
    wait_until("the name", async || resolve(server.address(), NAME).await, |seen| *seen == expected).await;
}

#[tokio::test]
async fn a_name_has_the_nodes_that_want_clients_whatever_others_do() {
    let server = DnsServer::bind().await;
    let (tell, told) = watch::channel(pool(&[member(1, Standing::Out), member(2, Standing::Out)]));
    let (mut one, mut two) = (Node::start(1, &server, &told), Node::start(2, &server, &told));
    one.want(Wanted::In);
    two.want(Wanted::In);
    has(&server, &["203.0.113.9", "192.0.2.1", "192.0.2.2"]).await;
    tell.send(pool(&[member(1, Standing::In), member(2, Standing::In)])).unwrap();
    // Somebody removes one.
    let remove = addresses(&["192.0.2.1"]);
    provider(&server).change(Change { remove, ..Change::default() }).await.unwrap();
    has(&server, &["203.0.113.9", "192.0.2.1", "192.0.2.2"]).await;
    // One is full, and then the other.
    one.want(Wanted::Out(Reason::HighWater));
    tell.send(pool(&[member(1, Standing::Out), member(2, Standing::In)])).unwrap();
    has(&server, &["203.0.113.9", "192.0.2.2"]).await;
    two.want(Wanted::Out(Reason::HighWater));
    assert_eq!(two.shows(|state| state.is_kept).await.is_in, Some(true));
    // The other one dies.
    drop(two);
    tell.send(pool(&[member(1, Standing::Out), member(2, Standing::Dead)])).unwrap();
    has(&server, &["203.0.113.9", "192.0.2.1"]).await;
    one.want(Wanted::Out(Reason::Draining));
    one.shows(|state| state.is_out == Some(true)).await;
    assert_eq!(resolve(server.address(), NAME).await, addresses(&["203.0.113.9"]));
    assert_eq!(region().ttl_s(), 30);
}

#[tokio::test]
async fn nodes_that_have_ipv6_alone_come_leave_and_are_kept() {
    let server = DnsServer::bind().await;
    let six = |number: u8, standing| Member {
        addresses: addresses(&[&format!("2001:db8::{number}")]),
        ..member(number, standing)
    };
    let (_tell, told) = watch::channel(pool(&[six(1, Standing::In), six(2, Standing::In)]));
    let mut one = Node::start_at(1, "2001:db8::1", &server, &told);
    let two = Node::start_at(2, "2001:db8::2", &server, &told);
    one.want(Wanted::In);
    two.want(Wanted::In);
    has(&server, &["203.0.113.9", "2001:db8::1", "2001:db8::2"]).await;
    two.want(Wanted::Out(Reason::HighWater));
    has(&server, &["203.0.113.9", "2001:db8::1"]).await;
    // A stranger's address of the other family is nobody who could stand in for it.
    one.want(Wanted::Out(Reason::HighWater));
    assert_eq!(one.shows(|state| state.is_kept).await.is_in, Some(true));
    one.want(Wanted::Out(Reason::Draining));
    has(&server, &["203.0.113.9"]).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_seen_and_the_record_is_there_when_it_is_back() {
    let mut server = DnsServer::knot().await;
    let (_tell, told) = watch::channel(pool(&[]));
    let mut node = Node::start(1, &server, &told);
    node.shows(|state| state.looked_us.is_some()).await;
    server.stop().await;
    node.want(Wanted::In);
    let trouble =
        node.shows(|state| state.trouble.as_ref().is_some_and(|trouble| trouble.attempts > 1)).await.trouble;
    assert!(trouble.expect("trouble").last.contains("cannot connect"));
    server.restart().await;
    let state = node.shows(|state| state.is_in == Some(true)).await;
    assert_eq!(state.trouble, None);
    has(&server, &["203.0.113.9", "192.0.2.1"]).await;
}
