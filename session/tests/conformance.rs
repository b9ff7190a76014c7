//! The same requests get the same replies and the same notices, from the rules in memory and from Redis.

use fastrand::Rng;
use pinwire_redis::Link;
use pinwire_redis::rig::{ClusterRig, Options, SentinelRig, ServerRig};
use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{
    Batch, Book, Bounds, Head, Heard, Listener, Notice, RedisSessions, Reply, Request, partition,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Scripts go by this time in steps: leases and waits end in between.
const BEGIN_US: u64 = 1_700_000_000_000_000;

fn bounds() -> Bounds {
    Bounds { document_bytes: 2_000, total_bytes: 1 << 30, keep_us: 40_000 }
}

fn node(index: usize) -> Node {
    Node { region: "eu-central-1".into(), name: format!("n/{index}").into(), life: index as u64 + 7 }
}

/// Documents of one partition: each decides for itself which nodes it has forgotten.
fn document(index: usize) -> DocumentName {
    let named = |number: usize| DocumentName {
        app: AppName("acme::no tes".into()),
        name: format!("d:{number}::x").into(),
    };
    let mut alike = (0..).map(named).filter(|document| partition(document) == partition(&named(0)));
    alike.nth(index).expect("there are enough")
}

/// A store and the rules, side by side.
struct Pair {
    random: Rng,
    /// Of one version or several, which take turns.
    stores: Vec<RedisSessions>,
    turn: usize,
    book: Book,
    now_us: u64,
    listeners: Vec<Listener>,
    /// Heads that were heard of, per document.
    heads: BTreeMap<DocumentName, Vec<Head>>,
    /// Appends that were sent, to be sent again.
    sent: Vec<Request>,
}

impl Pair {
    async fn new(stores: Vec<RedisSessions>, seed: u64) -> Self {
        let listen = |index: usize| stores[index % stores.len()].listen(&node(index));
        let mut listeners: Vec<Listener> = (0..3).map(listen).collect();
        for listener in &mut listeners {
            let first =
                tokio::time::timeout(PATIENCE, listener.next()).await.expect("a subscription that stands");
            assert_eq!(first, Heard::Missed);
        }
        let (random, book) = (Rng::with_seed(seed), Book::new(bounds()));
        let (heads, sent) = (BTreeMap::new(), Vec::new());
        let mut pair = Self { random, stores, turn: 0, book, now_us: BEGIN_US, listeners, heads, sent };
        pair.set_time(BEGIN_US);
        pair
    }

    fn set_time(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.stores.iter().for_each(|store| store.set_time(now_us));
    }

    fn claim(&mut self) -> Claim {
        Claim { epoch: 5 + self.random.u64(0..30) / 29, nonce: 3 }
    }

    fn head(&mut self, document: &DocumentName) -> Head {
        let known = self.heads.entry(document.clone()).or_default();
        match self.random.u32(0..10) {
            0 => Head::default(),
            1 => Head { seq: self.random.u64(0..9), chain: self.random.u64(..) },
            2 | 3 => self.random.choice(known.iter()).copied().unwrap_or_default(),
            _ => known.last().copied().unwrap_or_default(),
        }
    }

    fn bytes(&mut self) -> Box<[u8]> {
        // Any bytes, none at all too.
        let length = if self.random.u32(0..20) == 0 { 900 } else { self.random.usize(0..40) };
        std::iter::repeat_with(|| self.random.u8(..)).take(length).collect()
    }

    fn updates(&mut self) -> Vec<Box<[u8]>> {
        (0..self.random.usize(0..4)).map(|_| self.bytes()).collect()
    }

    fn request(&mut self) -> Request {
        let (node, claim) = (node(self.random.usize(0..3)), self.claim());
        let (document, hold) = (document(self.random.usize(0..2)), self.random.u64(1..5));
        // A fence raises it: else whatever follows would be refused.
        let present = self.book.peek(&document).map(|(present, _)| present);
        let claim = present.filter(|_| self.random.bool()).unwrap_or(claim);
        match self.random.u32(0..30) {
            0..3 => Request::Open { document, claim, node, hold },
            3 => Request::Load { document, claim, node, hold },
            4..13 => {
                let (known, nonce) = (self.head(&document), self.random.u64(..));
                Request::Append { document, claim, node, known, nonce, updates: self.updates().into() }
            }
            13 if !self.sent.is_empty() => self.sent[self.random.usize(0..self.sent.len())].clone(),
            13..16 => {
                let (upto, within) = (self.head(&document), self.head(&document));
                let (base, left) = (self.bytes(), self.updates());
                Request::Rebase { document, claim, upto, within, base: base.into(), left: left.into() }
            }
            16..18 => Request::Say { document, claim, node, hold, message: self.bytes().into() },
            18 | 19 => Request::Close { document, claim, node, hold },
            20 if self.random.u32(0..6) == 0 => Request::End { document, claim },
            24 => {
                let (to, for_us) = (self.claim(), self.random.u64(1..40_000));
                Request::Fence { document, claim, to: Claim { nonce: 4, ..to }, for_us }
            }
            25..28 => {
                let (known, claim) = (self.head(&document), Claim { nonce: 4, ..claim });
                Request::Agree { document, claim, node, known }
            }
            28 => Request::Settle { document, claim: Claim { nonce: 4, ..claim } },
            29 => {
                let base = self.random.bool().then(|| self.bytes().into());
                let (updates, nonce) = (self.updates().into(), self.random.u64(..));
                Request::Import { document, claim, base, updates, nonce }
            }
            20 | 21 => Request::Heads { node, documents: vec![(document, claim, hold)] },
            _ => {
                // Leases and waits end, or do not.
                let passed = self.random.u64(1..30_000);
                self.set_time(self.now_us + passed);
                Request::Beat { node, lease_us: 50_000, with_holds: self.random.bool() }
            }
        }
    }

    async fn step(&mut self) {
        let request = self.request();
        self.ask(request).await;
    }

    /// Both do the same; what they reply.
    async fn ask(&mut self, request: Request) -> Reply {
        self.turn += 1;
        let store = &self.stores[self.turn % self.stores.len()];
        let reply = store.ask(&request).await.unwrap_or_else(|error| {
            panic!("{error}: {:?}, {request:?}", store.last_failure());
        });
        let (mut expected, notices) = self.book.apply(self.now_us, &request);
        if let Reply::Nodes { is_forgotten, .. } = &reply {
            // Each partition forgets for itself: one that holds nothing of a node may have done so.
            if let Reply::Nodes { is_forgotten: of_book, .. } = &mut expected {
                assert!(*is_forgotten || !*of_book, "{request:?}");
                *of_book = *is_forgotten;
            }
            assert_eq!(store.bytes(), self.book.bytes(), "{request:?}");
        }
        assert_eq!(reply, expected, "{request:?}");
        if let (Request::Append { document, .. }, Reply::Appended { head, .. }) = (&request, &reply) {
            self.heads.entry(document.clone()).or_default().push(*head);
            self.sent.push(request.clone());
        }
        self.hear(&request, notices).await;
        reply
    }

    /// Notices come on the way that the store has them, and no others.
    async fn hear(&mut self, request: &Request, notices: Vec<(Node, Notice)>) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let own = notices.iter().filter(|(to, _)| *to == node(index));
            let mut expected: Vec<&Notice> = own.map(|(_, notice)| notice).collect();
            while !expected.is_empty() {
                let heard = tokio::time::timeout(PATIENCE, listener.next()).await;
                let heard = heard.unwrap_or_else(|_| panic!("{expected:?} did not come: {request:?}"));
                let Heard::Notice(notice) = heard else { panic!("interrupted: {request:?}") };
                let at = expected.iter().position(|expected| **expected == notice);
                let at = at.unwrap_or_else(|| panic!("{notice:?} is not among {expected:?}: {request:?}"));
                expected.remove(at);
            }
            assert_eq!(listener.try_next(), None, "{request:?}");
        }
    }
}

async fn same_as_the_book(link: Link, seed: u64, steps: usize) {
    same_by(vec![RedisSessions::new(link, bounds())], seed, steps).await;
}

async fn same_by(stores: Vec<RedisSessions>, seed: u64, steps: usize) {
    let mut pair = Pair::new(stores, seed).await;
    for _ in 0..steps {
        pair.step().await;
    }
    assert!(pair.heads.values().any(|heads| heads.len() > 5), "hardly anything was appended");
}

#[tokio::test]
async fn a_single_server_does_as_the_book() {
    for seed in 0..3 {
        let server = ServerRig::start(&Options::default());
        same_as_the_book(server.link(), seed, 1_200).await;
    }
}

#[tokio::test]
async fn a_cluster_does_as_the_book() {
    let rig = ClusterRig::start();
    same_as_the_book(rig.link(), 11, 800).await;
}

#[tokio::test]
async fn a_master_under_sentinel_does_as_the_book() {
    let rig = SentinelRig::start(Duration::from_secs(2));
    same_as_the_book(rig.link(), 12, 800).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_nobody_alive_for_long() {
    const HOUR_US: u64 = 3_600_000_000;
    let lease_us = 50_000;
    let server = ServerRig::start(&Options::default());
    let redis = RedisSessions::new(server.link(), bounds());
    let beat = async |index: usize, at_us: u64| {
        redis.set_time(at_us);
        let asked = redis.ask(&Request::Beat { node: node(index), lease_us, with_holds: false }).await;
        let Ok(Reply::Nodes { nodes, .. }) = asked else { panic!("{asked:?}") };
        nodes
    };
    beat(0, BEGIN_US).await;
    assert_eq!(beat(1, BEGIN_US).await, [node(0), node(1)]);
    let back_us = BEGIN_US - HOUR_US;
    assert_eq!(beat(1, back_us).await, [node(0), node(1)]);
    assert_eq!(beat(1, back_us + 2 * lease_us + 1).await, [node(1)]);
}

/// The scripts of a later version write fields and keys that this one does not know.
#[tokio::test]
async fn stores_of_two_versions_do_as_the_book_together() {
    let server = ServerRig::start(&Options::default());
    let edits = [
        ("'HSET', doc, 'claim', claim, 'seq'", "'HSET', doc, 'later', 1, 'claim', claim, 'seq'"),
        (
            "redis.call('ZADD', nodes, now + tonumber(ARGV[5]), node)",
            "redis.call('ZADD', nodes, now + tonumber(ARGV[5]), node)\nredis.call('SET', prefix .. 'later', 1)",
        ),
    ];
    let found = [const { Cell::new(false) }; 2];
    let later = RedisSessions::of_scripts(server.link(), bounds(), |source| {
        let mut edited = source.to_owned();
        for ((from, to), found) in edits.iter().zip(&found) {
            found.set(found.get() || source.contains(from));
            edited = edited.replace(from, to);
        }
        edited
    });
    assert!(found.iter().all(Cell::get), "{found:?}: the scripts are not what they were");
    same_by(vec![RedisSessions::new(server.link(), bounds()), later], 13, 1_200).await;
}

#[tokio::test]
async fn a_hold_ends_though_its_claim_was_raised_since_and_no_other_hold_does() {
    let server = ServerRig::start(&Options::default());
    let mut pair = Pair::new(vec![RedisSessions::new(server.link(), bounds())], 1).await;
    let claim = |epoch| Claim { epoch, nonce: 1 };
    let close =
        |epoch, hold| Request::Close { document: document(0), claim: claim(epoch), node: node(0), hold };
    pair.ask(Request::Open { document: document(0), claim: claim(5), node: node(0), hold: 2 }).await;
    for (close, is_held) in [(close(4, 1), true), (close(6, 1), true), (close(4, 2), false)] {
        pair.ask(close.clone()).await;
        let (_, session) = pair.book.peek(&document(0)).expect("a session");
        assert_eq!(!session.nodes.is_empty(), is_held, "{close:?}");
    }
    pair.set_time(pair.now_us + 2 * bounds().keep_us);
    pair.ask(Request::Beat { node: node(0), lease_us: 50_000, with_holds: true }).await;
    assert_eq!((pair.stores[0].bytes(), pair.book.sessions()), (0, 0));
}

#[tokio::test]
async fn a_store_with_no_room_left_refuses_new_sessions_and_updates() {
    let server = ServerRig::start(&Options::default());
    let redis = RedisSessions::new(server.link(), Bounds { total_bytes: 600, ..bounds() });
    let claim = Claim { epoch: 1, nonce: 1 };
    let open = |index| Request::Open { document: document(index), claim, node: node(0), hold: 1 };
    let append = |known, nonce| Request::Append {
        document: document(0),
        claim,
        node: node(0),
        known,
        nonce,
        updates: vec![vec![7; 400].into_boxed_slice()].into(),
    };
    assert!(matches!(redis.ask(&open(0)).await, Ok(Reply::Loaded(_))));
    let Ok(Reply::Appended { head, .. }) = redis.ask(&append(Head::default(), 5)).await else {
        panic!("there is room for the first")
    };
    let beat = Request::Beat { node: node(0), lease_us: 1_000_000, with_holds: false };
    assert!(matches!(redis.ask(&beat).await, Ok(Reply::Nodes { .. })));
    assert!(redis.bytes() > 600);
    assert_eq!(redis.ask(&append(head, 6)).await, Ok(Reply::Full));
    assert_eq!(redis.ask(&open(1)).await, Ok(Reply::Full));
    assert!(matches!(redis.ask(&open(0)).await, Ok(Reply::Loaded(_))), "who is there already may be joined");
    assert_eq!(redis.ask(&Request::End { document: document(0), claim }).await, Ok(Reply::Done));
    assert!(matches!(redis.ask(&beat).await, Ok(Reply::Nodes { .. })));
    assert_eq!(redis.bytes(), 0);
    assert!(matches!(redis.ask(&open(1)).await, Ok(Reply::Loaded(_))));
}

#[tokio::test]
async fn a_server_at_its_memory_limit_is_a_full_store() {
    let more = ["--maxmemory", "1500kb", "--maxmemory-policy", "noeviction"].map(str::to_owned).to_vec();
    let server = ServerRig::start(&Options { more, ..Options::default() });
    let redis = RedisSessions::new(server.link(), Bounds { document_bytes: 1 << 30, ..bounds() });
    let claim = Claim { epoch: 1, nonce: 1 };
    let open = Request::Open { document: document(0), claim, node: node(0), hold: 1 };
    assert!(matches!(redis.ask(&open).await, Ok(Reply::Loaded(_))));
    let mut known = Head::default();
    for nonce in 0..100 {
        let updates = vec![vec![7; 100_000].into_boxed_slice()].into();
        let append = Request::Append { document: document(0), claim, node: node(0), known, nonce, updates };
        match redis.ask(&append).await {
            Ok(Reply::Appended { head, .. }) => known = head,
            reply => {
                assert_eq!(reply, Ok(Reply::Full));
                return at_the_limit(&server, &redis, claim).await;
            }
        }
    }
    panic!("10 MB fit into 1.5 MB");
}

/// What there is goes on, and is cleared away; nothing new begins.
async fn at_the_limit(server: &ServerRig, redis: &RedisSessions, claim: Claim) {
    let limit = |bytes| assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", bytes]), "+OK\r\n");
    // Not even small things fit in.
    limit("1");
    let open = |index, by, hold| Request::Open { document: document(index), claim, node: node(by), hold };
    let beat = |by| Request::Beat { node: node(by), lease_us: 1_000_000, with_holds: false };
    assert_eq!(redis.ask(&open(1, 0, 1)).await, Ok(Reply::Full));
    for by in [0, 1] {
        assert!(matches!(redis.ask(&beat(by)).await, Ok(Reply::Nodes { .. })), "it is not out of reach");
        assert!(matches!(redis.ask(&open(0, by, 2)).await, Ok(Reply::Loaded(_))), "it was there before");
    }
    for by in [0, 1] {
        let close = Request::Close { document: document(0), claim, node: node(by), hold: 2 };
        assert_eq!(redis.ask(&close).await, Ok(Reply::Done));
    }
    let begin = tokio::time::Instant::now();
    // The session is over after its wait, 40 ms, and swept.
    while redis.bytes() > 0 {
        assert!(begin.elapsed() < PATIENCE, "{} bytes stay", redis.bytes());
        assert!(matches!(redis.ask(&beat(0)).await, Ok(Reply::Nodes { .. })));
    }
    limit("10mb");
    assert!(matches!(redis.ask(&open(1, 0, 3)).await, Ok(Reply::Loaded(_))), "there is room again");
}

#[tokio::test]
async fn a_damaged_entry_is_one_update_that_nobody_can_read() {
    let server = ServerRig::start(&Options::default());
    let redis = RedisSessions::new(server.link(), bounds());
    let claim = Claim { epoch: 1, nonce: 1 };
    let open = Request::Open { document: document(0), claim, node: node(0), hold: 1 };
    assert!(matches!(redis.ask(&open).await, Ok(Reply::Loaded(_))));
    let mut known = Head::default();
    for nonce in 1..=3 {
        let updates = vec![vec![nonce as u8; 9].into_boxed_slice()].into();
        let append = Request::Append { document: document(0), claim, node: node(0), known, nonce, updates };
        let Ok(Reply::Appended { head, .. }) = redis.ask(&append).await else { panic!("no room") };
        known = head;
    }
    server.command(&["LSET", &RedisSessions::key(&document(0)), "1", "cut short"]);
    let Ok(Reply::Loaded(loaded)) = redis.ask(&open).await else { panic!("it cannot be opened") };
    assert_eq!(loaded.head, known);
    let expected: [&[u8]; 3] = [&[1; 9], &[], &[3; 9]];
    assert_eq!(loaded.tail.iter().map(|update| &**update).collect::<Vec<_>>(), expected);
}

/// Names the rights that are enough.
const ACL: &str = include_str!("../../docs/sessions.md");

/// Makes the documented user on a server, and gives the same URL with it.
fn with_user(server: &ServerRig, url: &str) -> Link {
    let mut lines = ACL.lines().filter(|line| line.starts_with("ACL SETUSER pinwire-sessions "));
    let parts: Vec<&str> = lines.next().expect("a line with the rights").split_whitespace().collect();
    assert_eq!(server.command(&parts), "+OK\r\n", "{parts:?}");
    assert!(lines.next().is_none(), "one line has all of them");
    let url = url.replacen("://", "://pinwire-sessions:PASSWORD@", 1);
    Link::new(url.parse().expect("a URL"), pinwire_redis::Settings::default()).expect("a link")
}

#[tokio::test]
async fn a_user_with_the_documented_rights_does_all_of_it_and_nothing_else() {
    let server = ServerRig::start(&Options { tls: true, ..Options::default() });
    let link = with_user(&server, &server.tls_url(""));
    same_as_the_book(link.clone(), 21, 600).await;
    let mut command = pinwire_redis::cmd("GET");
    command.arg("another:key");
    assert!(link.call(b"another:key", &command).await.is_err());
}

#[tokio::test]
async fn the_documented_rights_are_enough_in_a_cluster_and_under_sentinel() {
    let rig = ClusterRig::start();
    let mut links = rig.servers().iter().map(|server| with_user(server, &rig.url())).collect::<Vec<_>>();
    same_as_the_book(links.remove(0), 22, 400).await;
    let rig = SentinelRig::start(Duration::from_secs(2));
    let mut links = rig.servers().iter().map(|server| with_user(server, &rig.url())).collect::<Vec<_>>();
    same_as_the_book(links.remove(0), 23, 400).await;
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_noticed() {
    let mut server = ServerRig::start(&Options::default());
    let redis = RedisSessions::new(server.link(), bounds());
    let mut listener = redis.listen(&node(0));
    assert_eq!(tokio::time::timeout(PATIENCE, listener.next()).await.expect("it stands"), Heard::Missed);
    let claim = Claim { epoch: 1, nonce: 1 };
    let open = Request::Open { document: document(0), claim, node: node(0), hold: 1 };
    let beat = Request::Beat { node: node(0), lease_us: 60_000_000, with_holds: false };
    assert!(matches!(redis.ask(&beat).await, Ok(Reply::Nodes { is_forgotten: true, .. })));
    assert!(matches!(redis.ask(&beat).await, Ok(Reply::Nodes { is_forgotten: false, .. })));
    assert!(matches!(redis.ask(&open).await, Ok(Reply::Loaded(_))));
    server.restart();
    assert_eq!(
        tokio::time::timeout(PATIENCE, listener.next()).await.expect("an interruption"),
        Heard::Missed
    );
    let heads = Request::Heads { node: node(0), documents: vec![(document(0), claim, 1)] };
    let reply = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(reply) = redis.ask(&heads).await {
                return reply;
            }
        }
    });
    assert_eq!(reply.await.expect("a reply"), Reply::Heads(vec![None]));
    assert!(matches!(redis.ask(&beat).await, Ok(Reply::Nodes { is_forgotten: true, .. })));
}

#[tokio::test]
async fn what_a_later_version_adds_to_keys_and_notices_loses_nothing() {
    let server = ServerRig::start(&Options::default());
    let redis = RedisSessions::new(server.link(), bounds());
    let mut listener = redis.listen(&node(0));
    let hear = async |listener: &mut Listener| {
        tokio::time::timeout(PATIENCE, listener.next()).await.expect("a notice, or an interruption")
    };
    assert_eq!(hear(&mut listener).await, Heard::Missed);
    let claim = Claim { epoch: 1, nonce: 1 };
    let open = |index| Request::Open { document: document(0), claim, node: node(index), hold: 1 };
    assert!(matches!(redis.ask(&open(0)).await, Ok(Reply::Loaded(_))));
    // A field of the session, and a key beside it.
    let script = "for _, key in ipairs(redis.call('KEYS', '*:doc:*')) do redis.call('HSET', key, 'later', '1') end \
                  for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS')) do \
                  redis.call('PUBLISH', channel, 'Z 3 9\\nabcdef') \
                  redis.call('PUBLISH', channel, 'no words') end return 'done'";
    assert_eq!(server.command(&["EVAL", script, "0"]), "$4\r\ndone\r\n");
    // What it does not understand it takes for something that it missed: heads are compared then.
    for _ in 0..2 {
        assert_eq!(hear(&mut listener).await, Heard::Missed);
    }
    let updates: Batch = vec![Box::from([1, 2, 3])].into();
    let append = Request::Append {
        document: document(0),
        claim,
        node: node(0),
        known: Head::default(),
        nonce: 5,
        updates,
    };
    let Ok(Reply::Appended { head, .. }) = redis.ask(&append).await else { panic!("not appended") };
    let Ok(Reply::Loaded(loaded)) = redis.ask(&open(1)).await else { panic!("not loaded") };
    assert_eq!((loaded.head, loaded.tail), (head, vec![Box::from([1, 2, 3])]));
    assert_eq!(redis.ask(&Request::End { document: document(0), claim }).await, Ok(Reply::Done));
    assert_eq!(server.command(&["KEYS", "*:doc:*"]), "*0\r\n");
}

/// What a move is made of, on both sides of it: a fence that nothing gets past, all who agree, what is handed over, and where it
/// begins again.
#[tokio::test]
async fn what_was_kept_is_handed_over_once_all_holders_have_stopped() {
    let server = ServerRig::start(&Options::default());
    let mut pair = Pair::new(vec![RedisSessions::new(server.link(), bounds())], 1).await;
    let (document, other) = (document(0), document(1));
    let (claim, fence) = (Claim { epoch: 5, nonce: 1 }, Claim { epoch: 6, nonce: 1 });
    let updates: Batch = Arc::new([Box::from(*b"kept")]);
    for index in 0..2 {
        pair.ask(Request::Open { document: document.clone(), claim, node: node(index), hold: 1 }).await;
    }
    let append = |known| Request::Append {
        document: document.clone(),
        claim,
        node: node(0),
        known,
        nonce: 7,
        updates: updates.clone(),
    };
    let Reply::Appended { head, .. } = pair.ask(append(Head::default())).await else { panic!("not kept") };
    let fenced = Request::Fence { document: document.clone(), claim, to: fence, for_us: 1_000 };
    assert_eq!(pair.ask(fenced.clone()).await, Reply::Waiting);
    let late =
        Request::Append { document: document.clone(), claim, node: node(0), known: head, nonce: 8, updates };
    assert_eq!(pair.ask(late.clone()).await, Reply::Moving(fence));
    let agree =
        |index, known| Request::Agree { document: document.clone(), claim: fence, node: node(index), known };
    let unknown = Head { seq: 9, chain: 9 };
    assert_eq!(pair.ask(agree(1, unknown)).await, Reply::Diverged, "it knows what the store has lost");
    for index in 0..2 {
        assert_eq!(pair.ask(fenced.clone()).await, Reply::Waiting);
        assert_eq!(pair.ask(agree(index, head)).await, Reply::Done);
    }
    let Reply::Loaded(loaded) = pair.ask(fenced.clone()).await else { panic!("not handed over") };
    assert_eq!(loaded.tail, [Box::from(*b"kept")]);
    let import = Request::Import {
        document: other.clone(),
        claim: Claim { epoch: 7, nonce: 1 },
        base: Some(Arc::from(*b"base")),
        updates: loaded.tail.into(),
        nonce: 3,
    };
    for _ in 0..2 {
        assert_eq!(pair.ask(import.clone()).await, Reply::Done);
    }
    assert_eq!(pair.ask(Request::Settle { document: document.clone(), claim: fence }).await, Reply::Done);
    assert_eq!(pair.ask(late).await, Reply::Fenced(fence));
    assert_eq!(pair.ask(fenced).await, Reply::Fenced(fence), "it is settled");
    let open = |document, claim| Request::Load { document, claim, node: node(0), hold: 1 };
    let Reply::Loaded(begun) = pair.ask(open(other, Claim { epoch: 7, nonce: 1 })).await else {
        panic!("not begun")
    };
    assert_eq!((begun.base.as_deref(), &begun.tail[..]), (Some(&b"base"[..]), &[Box::from(*b"kept")][..]));
    let Reply::Loaded(again) = pair.ask(open(document, fence)).await else { panic!("it did not go on") };
    assert_eq!(again.head, head, "the region goes on where it was");
}
