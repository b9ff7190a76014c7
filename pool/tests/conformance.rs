//! What holds for every pool: in memory, on a Redis server, in a Cluster.

#![allow(missing_docs, reason = "a test")]

use std::net::IpAddr;

use pinwire_pool::{Beat, Book, Heard, Member, RedisPool};
use pinwire_redis::Link;
use pinwire_redis::rig::{ClusterRig, Options, ServerRig};

const SECOND: u64 = 1_000_000;
const LEASE_US: u64 = 10 * SECOND;
const RECALL_US: u64 = 600 * SECOND;

/// One of each, given the same.
struct Both {
    book: Book,
    redis: RedisPool,
    now_us: u64,
}

impl Both {
    fn new(link: Link, region: &str) -> Self {
        Self { book: Book::default(), redis: RedisPool::new(link, region), now_us: 1_700_000_000_000_000 }
    }

    fn pass(&mut self, seconds: u64) {
        self.now_us += seconds * SECOND;
    }

    async fn beat(&mut self, me: &Member, keep: u32) -> Heard {
        let beat = Beat { me: me.clone(), lease_us: LEASE_US, keep, recall_us: RECALL_US };
        self.redis.set_time(self.now_us);
        let heard = self.redis.beat(&beat).await.unwrap();
        assert_eq!(heard, self.book.beat(self.now_us, &beat));
        heard
    }

    async fn retire(&mut self, me: &Member) {
        self.redis.set_time(self.now_us);
        self.redis.retire(&me.name, me.life).await.unwrap();
        self.book.retire(self.now_us, &me.name, me.life);
    }
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn node(number: u8) -> Member {
    let name = format!("node {number}").into();
    Member { name, life: number.into(), addresses: vec![address(number)], is_able: true, ..Member::default() }
}

fn full(member: &Member) -> Member {
    Member { wants_out: true, occupancy: 850, ..member.clone() }
}

fn who_is_in(heard: &Heard) -> Vec<&str> {
    heard.members.iter().filter(|seen| seen.is_in).map(|seen| &*seen.member.name).collect()
}

async fn rules(link: Link) {
    let (a, b, c) = (node(1), node(2), node(3));

    // Of two that are full at the same moment one stays.
    let mut both = Both::new(link.clone(), "two");
    both.beat(&a, 0).await;
    both.beat(&b, 0).await;
    assert!(both.beat(&full(&a), 0).await.may_leave);
    let heard = both.beat(&full(&b), 0).await;
    assert_eq!((heard.may_leave, who_is_in(&heard)), (false, vec!["node 2"]));
    assert!(both.beat(&full(&a), 0).await.may_leave, "it stays out");
    // The one that stayed dies: the other has to come back, full or not.
    for _ in 0..2 {
        both.pass(4);
        both.beat(&full(&a), 0).await;
    }
    both.pass(3);
    let heard = both.beat(&full(&a), 0).await;
    assert_eq!((heard.may_leave, who_is_in(&heard)), (false, vec!["node 1"]));
    assert_eq!(heard.gone.iter().map(|gone| gone.address).collect::<Vec<_>>(), [address(2)]);
    // It lives again, with its address.
    assert_eq!(both.beat(&Member { life: 9, ..b.clone() }, 0).await.gone, []);
    assert!(both.beat(&full(&a), 0).await.may_leave);

    // A share of those who live stays.
    let mut both = Both::new(link.clone(), "share");
    for node in [&a, &b, &c] {
        both.beat(node, 600).await;
    }
    assert!(both.beat(&full(&a), 600).await.may_leave);
    assert!(!both.beat(&full(&b), 600).await.may_leave);
    both.beat(&a, 600).await;
    assert!(both.beat(&full(&b), 600).await.may_leave);

    // Who cannot serve is out, and holds nobody back.
    let mut both = Both::new(link.clone(), "unable");
    both.beat(&Member { is_able: false, ..a.clone() }, 0).await;
    both.beat(&b, 0).await;
    let heard = both.beat(&full(&b), 0).await;
    assert_eq!((heard.may_leave, who_is_in(&heard)), (false, vec!["node 2"]));

    // A node that moved or ended leaves its address behind; one that is forgotten is told no more.
    let mut both = Both::new(link.clone(), "moved");
    both.beat(&a, 0).await;
    let moved = Member { addresses: vec![address(7)], life: 8, ..a.clone() };
    let heard = both.beat(&moved, 0).await;
    assert_eq!((heard.is_doubled, heard.gone.len(), heard.gone[0].address), (true, 1, address(1)));
    both.beat(&b, 0).await;
    both.retire(&a).await;
    assert_eq!(both.beat(&b, 0).await.members.len(), 2, "the one of before is not the one of now");
    both.pass(1);
    both.retire(&moved).await;
    let heard = both.beat(&b, 0).await;
    assert_eq!((heard.members.len(), heard.gone.len()), (1, 2));
    both.pass(599);
    assert_eq!(both.beat(&b, 0).await.gone.len(), 1);
}

/// The Redis was away from all of them, or another one with another clock took over: that nobody told anything is nobody's death.
async fn outages(link: Link) {
    let (a, b, c) = (node(1), node(2), node(3));
    for (region, away_s) in [("outage", 30), ("half a lease", 6)] {
        let mut both = Both::new(link.clone(), region);
        for node in [&a, &b, &c] {
            both.beat(node, 0).await;
        }
        // Two had told something a while before.
        both.pass(5);
        both.beat(&a, 0).await;
        both.pass(away_s);
        let heard = both.beat(&a, 0).await;
        assert_eq!((heard.members.len(), heard.gone), (3, vec![]), "{region}");
        assert!(both.beat(&full(&a), 0).await.may_leave, "the others are as they were");
        both.pass(4);
        assert_eq!(both.beat(&b, 0).await.gone, []);
        // Who does not come back is dead after a lease.
        both.pass(5);
        assert_eq!(both.beat(&b, 0).await.gone, []);
        both.pass(1);
        let heard = both.beat(&b, 0).await;
        assert_eq!(heard.gone.iter().map(|gone| gone.address).collect::<Vec<_>>(), [address(1), address(3)]);
    }

    // A clock that is set back makes nobody live for longer than a lease.
    let mut both = Both::new(link, "back");
    both.beat(&a, 0).await;
    both.beat(&b, 0).await;
    both.now_us -= 3_600 * SECOND;
    for _ in 0..2 {
        assert_eq!(both.beat(&a, 0).await.gone, []);
        both.pass(5);
    }
    assert_eq!(both.beat(&a, 0).await.gone.len(), 1);
}

/// Whatever nodes say in whatever order, the two are of one mind, and somebody is in who could be.
async fn anything(link: Link, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut both = Both::new(link, &format!("seed {seed}"));
    for _ in 0..150 {
        let me = Member {
            life: rng.u64(0..2),
            addresses: (0..rng.u8(0..3)).map(|_| address(rng.u8(0..6))).collect(),
            is_able: rng.u8(0..8) > 0,
            wants_out: rng.bool(),
            ..node(rng.u8(0..4))
        };
        both.pass(if rng.u8(0..20) == 0 { rng.u64(4..30) } else { rng.u64(0..4) });
        if rng.u8(0..10) == 0 {
            both.retire(&me).await;
            continue;
        }
        let heard = both.beat(&me, rng.u32(0..2) * 500).await;
        assert!(!heard.may_leave || !who_is_in(&heard).is_empty(), "seed {seed}: nobody is left");
    }
}

/// However many addresses nobody has any more, so many are told; and more again once some are forgotten.
async fn bounds(link: Link) {
    let mut pool = Both::new(link, "bounds");
    let many = |third: u8| -> Vec<IpAddr> {
        (0..700_u16).map(|at| [10, third, (at / 250) as u8, (at % 250) as u8].into()).collect()
    };
    let two = Member { addresses: many(2), ..node(2) };
    let three = Member { addresses: many(3), ..node(3) };
    for dies in [&two, &three] {
        pool.beat(dies, 0).await;
        pool.pass(4);
    }
    for _ in 0..4 {
        pool.beat(&node(1), 0).await;
        pool.pass(4);
    }
    assert_eq!(pool.beat(&node(1), 0).await.gone.len(), 1024);
    // Those of one that lives again are its own.
    let heard = pool.beat(&three, 0).await;
    assert_eq!(heard.gone.len(), 700);
    pool.retire(&three).await;
    assert_eq!(pool.beat(&node(1), 0).await.gone.len(), 1024);
    for _ in 0..RECALL_US / SECOND / 4 {
        pool.pass(4);
        pool.beat(&node(1), 0).await;
    }
    assert!(pool.beat(&node(1), 0).await.gone.is_empty());
}

async fn all(link: Link) {
    rules(link.clone()).await;
    outages(link.clone()).await;
    bounds(link.clone()).await;
    for seed in 0..8 {
        anything(link.clone(), seed).await;
    }
}

#[tokio::test]
async fn a_pool_on_a_server_keeps_the_rules() {
    let server = ServerRig::start(&Options::default());
    all(server.link()).await;
}

#[tokio::test]
async fn a_pool_in_a_cluster_keeps_the_rules() {
    let cluster = ClusterRig::start();
    all(cluster.link()).await;
}

#[tokio::test]
async fn a_user_needs_these_rights_and_no_others() {
    let rule = "~pinwire:1:{pool}:* -@all +@connection +eval +evalsha +time +info +role +hgetall +hset +hsetnx +hdel";
    let server = ServerRig::start(&Options::default());
    let mut command = vec!["ACL", "SETUSER", "pool", "on", ">secret", "resetkeys", "resetchannels"];
    command.extend(rule.split(' '));
    assert_eq!(server.command(&command).trim(), "+OK");
    let url = server.url().replace("redis://", "redis://pool:secret@");
    let link = Link::new(url.parse().unwrap(), pinwire_redis::Settings::default()).unwrap();
    all(link).await;
}

#[tokio::test]
async fn real_time_passes_by_the_servers_clock() {
    let server = ServerRig::start(&Options::default());
    let pool = RedisPool::new(server.link(), "now");
    let beat = Beat { me: node(1), lease_us: LEASE_US, keep: 0, recall_us: RECALL_US };
    let (first, second) = (pool.beat(&beat).await.unwrap(), pool.beat(&beat).await.unwrap());
    assert!(second.now_us > first.now_us && first.now_us > 1_700_000_000_000_000);
    assert_eq!(second.members[0].member, beat.me);
}
