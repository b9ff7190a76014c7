//! What a node makes of a store that refuses, of requests that never left, and of entries that cannot be read.

use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{AskId, Book, Bounds, Effect, Head, Refused, Reply, Request, Sessions, Settings};

const SECOND: u64 = 1_000_000;
/// For how long documents wait for room, in seconds.
const PATIENCE: u64 = 300;
const CLAIM: Claim = Claim { epoch: 3, nonce: 1 };

/// One node, with the rules of the store in memory.
struct Bench {
    core: Sessions,
    book: Book,
    now_us: u64,
}

fn node(name: &str) -> Node {
    Node { region: "eu".into(), name: name.into(), life: 7 }
}

fn document() -> DocumentName {
    DocumentName { app: AppName("acme::notes".into()), name: "doc".into() }
}

fn update(bytes: usize) -> Vec<Box<[u8]>> {
    vec![vec![7; bytes].into()]
}

impl Bench {
    /// With one document open, which may take so many bytes.
    fn new(document_bytes: u64) -> Self {
        let bounds = Bounds { document_bytes, ..Bounds::default() };
        let settings = Settings { full_patience_us: Some(PATIENCE * SECOND), ..Settings::default() };
        let core = Sessions::new(node("here"), settings, 1);
        let mut bench = Self { core, book: Book::new(bounds), now_us: 0 };
        bench.run();
        bench.core.open(document(), CLAIM, 0);
        let effects = bench.run();
        assert!(matches!(effects[..], [Effect::Opened(_, Ok(_))]), "{effects:?}");
        bench
    }

    /// The next effects, with what is asked answered; that is left out, beats apart.
    fn run(&mut self) -> Vec<Effect> {
        self.core.begin(self.now_us);
        let mut effects = Vec::new();
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Ask(ask, request) => {
                    let reply = self.book.apply(self.now_us, &request).0;
                    self.core.replied(ask, Ok(reply));
                }
                effect => effects.push(effect),
            }
        }
        effects
    }

    /// The next request, which is not answered.
    fn asked(&mut self) -> Option<(AskId, Request)> {
        self.core.begin(self.now_us);
        std::iter::from_fn(|| self.core.next_effect()).find_map(|effect| match effect {
            Effect::Ask(ask, request) => Some((ask, request)),
            _ => None,
        })
    }

    /// For so many seconds, step by step.
    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..seconds * 4 {
            self.now_us += SECOND / 4;
            effects.extend(self.run());
        }
        effects
    }

    /// Another node appends.
    fn others_append(&mut self, nonce: u64) {
        let (there, known) = (node("there"), self.book.peek(&document()).expect("a session").1.head);
        let open = Request::Open { document: document(), claim: CLAIM, node: there.clone(), hold: 1 };
        self.tell(&open);
        let updates = update(30).into();
        let append =
            Request::Append { document: document(), claim: CLAIM, node: there, known, nonce, updates };
        self.tell(&append);
    }

    fn tell(&mut self, request: &Request) {
        self.core.begin(self.now_us);
        for (to, notice) in self.book.apply(self.now_us, request).1 {
            if to == node("here") {
                self.core.notice(notice);
            }
        }
    }

    /// What the store has once the node has made one update of everything up to `position`.
    fn entries_after_rebase(&mut self, position: u32, mark: u64) -> usize {
        self.core.rebase(&document(), position, mark, vec![1; 10].into(), Vec::new());
        self.run();
        self.book.peek(&document()).expect("a session").1.tail.len()
    }
}

#[test]
fn a_document_without_room_is_said_to_be_full_once_and_to_have_room_again() {
    let mut bench = Bench::new(2_000);
    bench.core.append(&document(), 10, update(1_400));
    assert_eq!(bench.run(), [Effect::Stored(document(), 10)]);
    bench.core.append(&document(), 20, update(400));
    assert_eq!(bench.run(), [Effect::Full(document())]);
    assert_eq!(bench.pass(30), []);
    assert_eq!(bench.entries_after_rebase(10, 0), 0);
    assert_eq!(bench.pass(2), [Effect::Room(document()), Effect::Stored(document(), 20)]);
    assert_eq!(bench.pass(600), []);
}

#[test]
fn a_document_for_which_there_is_no_room_for_long_is_given_up_once() {
    let mut bench = Bench::new(2_000);
    bench.core.append(&document(), 10, update(1_800));
    assert_eq!(bench.run(), [Effect::Full(document())]);
    assert_eq!(bench.pass(PATIENCE - 2), []);
    assert_eq!(bench.pass(4), [Effect::GivenUp(document())]);
    assert_eq!(bench.pass(2 * PATIENCE), []);
    bench.core.close(&document());
    bench.run();
    assert_eq!((bench.core.stats().documents, bench.core.stats().given_up), (0, 1));
}

#[test]
fn that_a_session_can_be_loaded_does_not_mean_that_there_is_room() {
    let mut bench = Bench::new(2_000);
    bench.core.append(&document(), 10, update(1_800));
    assert_eq!(bench.run(), [Effect::Full(document())]);
    bench.book.wipe();
    bench.core.missed();
    let mut effects = bench.pass(3);
    let Some(Effect::Reload(..)) = effects.pop() else { panic!("{effects:?}") };
    assert_eq!(effects, [Effect::Reloading(document())]);
    bench.core.put_back(&document(), 10, update(1_800));
    assert_eq!(bench.pass(3), [], "it is as full as before");
    bench.core.append(&document(), 20, Vec::new());
    assert_eq!(bench.pass(PATIENCE), [Effect::GivenUp(document())]);
}

#[test]
fn a_request_that_did_not_leave_says_nothing_of_the_store_and_is_asked_once_there_is_a_lease() {
    let mut bench = Bench::new(1 << 20);
    bench.core.append(&document(), 10, update(100));
    let (ask, request) = bench.asked().expect("an append");
    assert!(matches!(request, Request::Append { .. }));
    bench.core.lease(1);
    bench.core.unasked(ask);
    assert_eq!(bench.pass(10), [], "out of reach is something else");
    assert_eq!(bench.core.stats().failures, 0);
    bench.core.lease(0);
    assert_eq!(bench.run(), [Effect::Stored(document(), 10)]);
}

#[test]
fn opens_and_closes_that_did_not_leave_are_asked_again_as_well() {
    let mut bench = Bench::new(1 << 20);
    bench.core.close(&document());
    let (ask, request) = bench.asked().expect("a close");
    assert!(matches!(request, Request::Close { .. }));
    bench.core.lease(1);
    bench.core.unasked(ask);
    bench.core.lease(0);
    bench.run();
    let (_, session) = bench.book.peek(&document()).expect("a session");
    assert_eq!(session.nodes, [], "it was given up");
    bench.core.open(document(), CLAIM, 0);
    let (ask, _) = bench.asked().expect("an open");
    bench.core.lease(1);
    bench.core.unasked(ask);
    assert_eq!(bench.run(), []);
    bench.core.lease(0);
    assert!(matches!(bench.run()[..], [Effect::Opened(_, Ok(_))]));
}

#[test]
fn who_may_not_open_a_document_again_gives_up_what_it_had_of_it() {
    let mut bench = Bench::new(1 << 20);
    bench.core.append(&document(), 10, update(100));
    // While it is under way the document is not closed at the store.
    bench.asked().expect("an append");
    bench.core.close(&document());
    bench.core.open(document(), CLAIM, 0);
    let to = Claim { epoch: CLAIM.epoch + 1, ..CLAIM };
    bench.tell(&Request::Fence { document: document(), claim: CLAIM, to, for_us: SECOND });
    assert_eq!(bench.run(), [Effect::Opened(document(), Err(Refused::Moving))]);
    let (_, session) = bench.book.peek(&document()).expect("a session");
    assert_eq!((session.nodes, bench.core.stats().documents), (Vec::new(), 0));
}

fn fence() -> Request {
    let to = Claim { epoch: CLAIM.epoch + 1, ..CLAIM };
    Request::Fence { document: document(), claim: CLAIM, to, for_us: 100 * SECOND }
}

fn open_with(hold: u64) -> Request {
    Request::Open { document: document(), claim: CLAIM, node: node("here"), hold }
}

#[test]
fn a_move_does_not_wait_for_a_hold_that_the_store_had_forgotten_the_end_of() {
    let mut bench = Bench::new(1 << 20);
    bench.core.close(&document());
    bench.run();
    // It failed over to one that was behind.
    bench.tell(&open_with(1));
    bench.core.open(document(), CLAIM, 0);
    let (ask, open) = bench.asked().expect("an open");
    bench.tell(&fence());
    let reply = bench.book.apply(bench.now_us, &open).0;
    bench.core.replied(ask, Ok(reply));
    assert_eq!(bench.run(), [Effect::Opened(document(), Err(Refused::Moving))]);
    let handed = bench.book.apply(bench.now_us, &fence()).0;
    assert!(matches!(&handed, Reply::Loaded(loaded) if loaded.nodes.is_empty()), "{handed:?}");
}

#[test]
fn a_document_is_moved_though_the_store_knows_an_earlier_hold_of_who_has_it() {
    let mut bench = Bench::new(1 << 20);
    bench.core.close(&document());
    bench.run();
    bench.core.open(document(), CLAIM, 0);
    bench.run();
    let (node, hold) = (node("here"), 2);
    bench.tell(&Request::Close { document: document(), claim: CLAIM, node, hold });
    bench.tell(&open_with(1));
    bench.tell(&fence());
    assert_eq!(bench.run(), []);
    assert!(bench.core.is_frozen(&document()));
    let handed = bench.book.apply(bench.now_us, &fence()).0;
    assert!(matches!(&handed, Reply::Loaded(loaded) if loaded.nodes.len() == 1), "{handed:?}");
}

#[test]
fn the_one_that_is_to_find_out_whether_the_store_is_back_may_not_leave_either() {
    let mut bench = Bench::new(1 << 20);
    bench.core.append(&document(), 10, update(100));
    let (ask, _) = bench.asked().expect("an append");
    bench.core.replied(ask, Err(pinwire_session::OutOfReach));
    assert_eq!(bench.core.next_effect(), Some(Effect::Reach(false)));
    bench.now_us += SECOND / 2;
    let (ask, request) = bench.asked().expect("one that tries");
    assert!(matches!(request, Request::Append { .. }));
    bench.core.lease(1);
    bench.core.unasked(ask);
    bench.core.lease(0);
    let effects = bench.pass(1);
    let expected = [Effect::Stored(document(), 10), Effect::Reach(true)];
    assert!(effects.len() == 2 && expected.iter().all(|one| effects.contains(one)), "{effects:?}");
}

#[test]
fn nothing_from_what_could_not_be_read_on_is_compacted() {
    let mut bench = Bench::new(1 << 20);
    bench.core.append(&document(), 10, update(30));
    bench.run();
    bench.others_append(1);
    bench.others_append(2);
    bench.core.append(&document(), 40, update(30));
    bench.run();
    // 10 own, 20 and 30 of others under marks 1 and 2, 40 own: the second of them makes no sense here.
    let bad: Head = bench.core.unreadable(&document(), 2).expect("news");
    assert_eq!(bad.seq, 3);
    assert_eq!(bench.core.unreadable(&document(), 2), None, "it is told once");
    assert_eq!(bench.entries_after_rebase(40, 2), 2, "what came before is compacted");
    assert_eq!(bench.entries_after_rebase(40, 2), 2);
}

#[test]
fn a_session_that_holds_something_unreadable_is_not_compacted_until_it_was_loaded_without() {
    let mut bench = Bench::new(1 << 20);
    bench.others_append(1);
    bench.core.close(&document());
    bench.run();
    bench.core.open(document(), CLAIM, 0);
    bench.run();
    assert_eq!(bench.core.unreadable(&document(), 0).map(|head| head.seq), Some(1));
    bench.core.append(&document(), 10, update(30));
    bench.run();
    assert_eq!(bench.entries_after_rebase(10, 0), 2);
    bench.book.wipe();
    bench.core.missed();
    let effects = bench.run();
    let Some(Effect::Reload(_, mark, _)) = effects.last() else { panic!("{effects:?}") };
    let mark = *mark;
    bench.core.put_back(&document(), 10, update(30));
    bench.run();
    assert_eq!(bench.entries_after_rebase(10, mark), 0);
}

#[test]
fn a_refused_rebase_is_no_want_of_room() {
    // A base that takes more than what it stands for, and more than there may be.
    let mut bench = Bench::new(600);
    bench.core.append(&document(), 10, update(30));
    bench.run();
    bench.core.rebase(&document(), 10, 0, vec![1; 900].into(), Vec::new());
    assert_eq!(bench.run(), []);
    assert!(matches!(bench.book.peek(&document()), Some((_, session)) if session.tail.len() == 1));
}
