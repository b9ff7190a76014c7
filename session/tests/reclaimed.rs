//! What a node says of a document whose claim is raised, that is put back, or that it does not hold.

use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{AskId, Book, Bounds, Effect, Reply, Request, Sessions, Settings};

const LOW: Claim = Claim { epoch: 3, nonce: 1 };
const HIGH: Claim = Claim { epoch: 4, nonce: 1 };

struct Bench {
    core: Sessions,
    book: Book,
    now_us: u64,
}

fn document() -> DocumentName {
    DocumentName { app: AppName("acme::notes".into()), name: "doc".into() }
}

fn update() -> Vec<Box<[u8]>> {
    vec![[7].into()]
}

impl Bench {
    /// With one document that is about to be opened.
    fn new() -> Self {
        let me = Node { region: "eu".into(), name: "here".into(), life: 7 };
        let core = Sessions::new(me, Settings::default(), 1);
        let mut bench = Self { core, book: Book::new(Bounds::default()), now_us: 0 };
        bench.run();
        bench.core.open(document(), LOW, 0);
        bench
    }

    fn opened() -> Self {
        let mut bench = Self::new();
        let effects = bench.run();
        assert!(matches!(effects[..], [Effect::Opened(_, Ok(_))]), "{effects:?}");
        bench
    }

    /// What is asked, and what is told.
    fn turn(&mut self) -> (Vec<(AskId, Request)>, Vec<Effect>) {
        self.now_us += 1;
        self.core.begin(self.now_us);
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Ask(ask, request) => asked.push((ask, request)),
                effect => told.push(effect),
            }
        }
        (asked, told)
    }

    fn answer(&mut self, asked: Vec<(AskId, Request)>) {
        for (ask, request) in asked {
            let reply = self.book.apply(self.now_us, &request).0;
            self.core.replied(ask, Ok(reply));
        }
    }

    /// What is told, with everything answered.
    fn run(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        loop {
            let (asked, told) = self.turn();
            all.extend(told);
            if asked.is_empty() {
                return all;
            }
            self.answer(asked);
        }
    }
}

#[test]
fn what_was_stored_under_the_claim_of_before_is_said_before_the_raise_is_answered() {
    let mut bench = Bench::opened();
    bench.core.append(&document(), 8, update());
    let (asked, _) = bench.turn();
    bench.answer(asked);
    bench.core.reclaimed(&document(), HIGH);
    let (_, told) = bench.turn();
    let expected =
        [Effect::Stored(document(), 8), Effect::Reloading(document()), Effect::Reclaimed(document(), HIGH)];
    assert_eq!(told, expected);
}

#[test]
fn a_claim_that_is_not_higher_is_answered_too() {
    let mut bench = Bench::opened();
    bench.core.reclaimed(&document(), LOW);
    assert_eq!(bench.turn().1, [Effect::Reclaimed(document(), LOW)]);
}

#[test]
fn a_raise_while_the_document_is_opened_is_answered_once_it_is() {
    for is_asked in [true, false] {
        let mut bench = Bench::new();
        let asked = if is_asked { bench.turn().0 } else { Vec::new() };
        bench.core.reclaimed(&document(), HIGH);
        bench.answer(asked);
        let told = bench.run();
        assert!(matches!(
            &told[..],
            [Effect::Opened(_, Ok(_)), Effect::Reloading(_), Effect::Reclaimed(_, HIGH), Effect::Reload(..)]
        ));
    }
}

#[test]
fn nothing_is_said_to_be_stored_before_what_the_store_lacks_is_told() {
    let mut bench = Bench::opened();
    bench.core.append(&document(), 8, update());
    bench.run();
    bench.book.wipe();
    bench.core.missed();
    let told = bench.run();
    assert!(matches!(told[..], [Effect::Reloading(_), Effect::Reload(..)]), "{told:?}");
    // Sent before the data thread knew: of others alone, behind what is lost.
    bench.core.append(&document(), 8, Vec::new());
    assert_eq!(bench.run(), []);
    bench.core.put_back(&document(), 8, update());
    assert_eq!(bench.run(), [Effect::Stored(document(), 8)]);
}

#[test]
fn a_move_that_waits_for_a_node_that_holds_nothing_is_told_so() {
    let mut bench = Bench::opened();
    // As if it had taken two: the store has a hold of this node that the node does not know of.
    let other = DocumentName { name: "other".into(), ..document() };
    let node = Node { region: "eu".into(), name: "here".into(), life: 7 };
    let open = Request::Open { document: other.clone(), claim: LOW, node: node.clone(), hold: 1 };
    bench.book.apply(bench.now_us, &open);
    let fence = Request::Fence { document: other.clone(), claim: LOW, to: HIGH, for_us: 8_000_000 };
    let (reply, notices) = bench.book.apply(bench.now_us, &fence);
    assert_eq!(reply, Reply::Waiting);
    for (_, notice) in notices {
        bench.core.notice(notice);
    }
    let (asked, _) = bench.turn();
    assert!(matches!(&asked[..], [(_, Request::Close { document, .. })] if *document == other), "{asked:?}");
    bench.answer(asked);
    assert!(matches!(bench.book.apply(bench.now_us, &fence).0, Reply::Loaded(_)));
}
