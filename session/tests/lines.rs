//! More documents than may be loaded or compacted at once: the rest waits in line, and whoever is in it gets a turn.

use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{AskId, Book, Bounds, Effect, Reply, Request, Sessions, Settings};
use std::collections::BTreeSet;

const CLAIM: Claim = Claim { epoch: 3, nonce: 1 };
/// Many times what may be under way.
const DOCUMENTS: usize = 60;

/// One node with many documents, and the rules of the store in memory.
struct Bench {
    core: Sessions,
    store: Book,
    now_us: u64,
    /// Not answered yet.
    asked: Vec<(AskId, Request)>,
}

fn document(number: usize) -> DocumentName {
    DocumentName { app: AppName("acme::notes".into()), name: format!("doc-{number}").into() }
}

fn documents() -> impl Iterator<Item = DocumentName> {
    (0..DOCUMENTS).map(document)
}

impl Bench {
    /// With all documents open.
    fn new() -> Self {
        let me = Node { region: "eu".into(), name: "here".into(), life: 7 };
        let core = Sessions::new(me, Settings::default(), 1);
        let mut bench = Self { core, store: Book::new(Bounds::default()), now_us: 0, asked: Vec::new() };
        for document in documents() {
            bench.core.open(document, CLAIM, 0);
        }
        let told = bench.run();
        let is_opened = |effect: &&Effect| matches!(effect, Effect::Opened(_, Ok(_)));
        assert_eq!(told.iter().filter(is_opened).count(), DOCUMENTS);
        bench
    }

    /// What is told, with nothing answered.
    fn turn(&mut self) -> Vec<Effect> {
        self.now_us += 1;
        self.core.begin(self.now_us);
        let mut told = Vec::new();
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Ask(ask, request) => self.asked.push((ask, request)),
                effect => told.push(effect),
            }
        }
        told
    }

    /// What is told once those that are waited for are answered, and what that leads to.
    fn answer(&mut self, is_answered: impl Fn(&Request) -> bool) -> Vec<Effect> {
        let mut told = self.turn();
        while let Some(at) = self.asked.iter().position(|(_, request)| is_answered(request)) {
            let (ask, request) = self.asked.remove(at);
            let reply: Reply = self.store.apply(self.now_us, &request).0;
            self.core.replied(ask, Ok(reply));
            told.extend(self.turn());
        }
        told
    }

    fn run(&mut self) -> Vec<Effect> {
        self.answer(|_| true)
    }

    /// The store has lost everything, and the node has found that out: some sessions are being loaded, the others wait for that.
    fn lose_all(&mut self) {
        self.store.wipe();
        self.core.missed();
        let told = self.answer(|request| !is_load(request));
        assert_eq!(told.len(), DOCUMENTS);
        assert!(told.iter().all(|effect| matches!(effect, Effect::Reloading(_))), "{told:?}");
        assert!(!self.asked.is_empty() && self.asked.len() < DOCUMENTS / 4, "{:?}", self.asked);
    }

    /// Documents that are being asked about.
    fn asked_about(&self) -> BTreeSet<DocumentName> {
        let named = |request: &Request| match request {
            Request::Load { document, .. } | Request::Rebase { document, .. } => Some(document.clone()),
            _ => None,
        };
        self.asked.iter().filter_map(|(_, request)| named(request)).collect()
    }
}

fn is_load(request: &Request) -> bool {
    matches!(request, Request::Load { .. })
}

fn is_rebase(request: &Request) -> bool {
    matches!(request, Request::Rebase { .. })
}

fn reloaded(told: &[Effect]) -> BTreeSet<DocumentName> {
    let named = |effect: &Effect| match effect {
        Effect::Reload(document, ..) => Some(document.clone()),
        _ => None,
    };
    told.iter().filter_map(named).collect()
}

#[test]
fn whoever_waits_to_be_loaded_is_loaded_though_others_in_line_were_closed() {
    let mut bench = Bench::new();
    bench.lose_all();
    let under_way = bench.asked_about();
    let in_line: Vec<DocumentName> = documents().filter(|document| !under_way.contains(document)).collect();
    // Another region has them, say: more of them than are under way, one behind the other.
    let (closed, left) = in_line.split_at(2 * under_way.len());
    closed.iter().for_each(|document| bench.core.close(document));
    let told = bench.run();
    let expected: BTreeSet<DocumentName> = under_way.iter().chain(left).cloned().collect();
    assert_eq!(reloaded(&told), expected);
}

#[test]
fn whoever_waits_to_be_loaded_is_loaded_though_others_in_line_were_opened_anew() {
    let mut bench = Bench::new();
    bench.lose_all();
    let under_way = bench.asked_about();
    let in_line: Vec<DocumentName> = documents().filter(|document| !under_way.contains(document)).collect();
    let (anew, left) = in_line.split_at(2 * under_way.len());
    anew.iter().for_each(|document| bench.core.open(document.clone(), CLAIM, 0));
    let told = bench.run();
    let expected: BTreeSet<DocumentName> = under_way.iter().chain(left).cloned().collect();
    assert_eq!(reloaded(&told), expected);
}

#[test]
fn whoever_waits_to_be_loaded_is_loaded_though_the_lease_ended_meanwhile() {
    let mut bench = Bench::new();
    bench.lose_all();
    bench.core.lease(1);
    let told = bench.run();
    bench.core.lease(0);
    let told: Vec<Effect> = told.into_iter().chain(bench.run()).collect();
    assert_eq!(reloaded(&told).len(), DOCUMENTS);
}

#[test]
fn who_waits_to_be_loaded_is_closed_at_once() {
    let mut bench = Bench::new();
    bench.lose_all();
    let under_way = bench.asked_about();
    let last = documents().filter(|document| !under_way.contains(document)).last().expect("one in line");
    bench.core.close(&last);
    bench.turn();
    let is_it = |request: &Request| matches!(request, Request::Close { document, .. } if *document == last);
    assert!(bench.asked.iter().any(|(_, request)| is_it(request)), "{:?}", bench.asked);
}

#[test]
fn edits_do_not_wait_for_a_turn_to_be_compacted_and_all_are_compacted() {
    let mut bench = Bench::new();
    for document in documents() {
        bench.core.append(&document, 10, vec![[7; 30].into()]);
    }
    bench.run();
    for document in documents() {
        bench.core.rebase(&document, 10, 0, vec![1; 10].into(), Vec::new());
    }
    bench.turn();
    assert!(bench.asked_about().len() < DOCUMENTS / 4, "the others wait");
    for document in documents() {
        bench.core.append(&document, 20, vec![[7; 30].into()]);
    }
    let told = bench.answer(|request| !is_rebase(request));
    let is_stored = |effect: &&Effect| matches!(effect, Effect::Stored(_, 20));
    assert_eq!(told.iter().filter(is_stored).count(), DOCUMENTS);
    bench.run();
    for document in documents() {
        let (_, session) = bench.store.peek(&document).expect("a session");
        assert_eq!((session.base.is_some(), session.tail.len()), (true, 1));
    }
}

#[test]
fn who_has_edits_to_send_when_its_turn_to_be_compacted_comes_keeps_that_turn() {
    let mut bench = Bench::new();
    for document in documents() {
        bench.core.append(&document, 10, vec![[7; 30].into()]);
    }
    bench.run();
    for document in documents() {
        bench.core.rebase(&document, 10, 0, vec![1; 10].into(), Vec::new());
    }
    bench.turn();
    let under_way = bench.asked_about();
    let next = documents().find(|document| !under_way.contains(document)).expect("one in line");
    let (ask, request) = bench.asked.remove(0);
    let reply = bench.store.apply(bench.now_us, &request).0;
    bench.core.replied(ask, Ok(reply));
    bench.core.append(&next, 20, vec![[7; 30].into()]);
    bench.turn();
    let asked = bench.asked_about();
    assert_eq!(asked.difference(&under_way).collect::<Vec<_>>(), [&next]);
    let is_its = |request: &Request| matches!(request, Request::Append { document, .. } if *document == next);
    assert!(bench.asked.iter().any(|(_, request)| is_its(request)), "and its edits do not wait for that");
}
