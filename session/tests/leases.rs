//! What a node asks of its documents' sessions while it has no lease in the registry of some license regions.

use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{AskId, Book, Bounds, Effect, Request, Sessions, Settings};

const SECOND: u64 = 1_000_000;

struct Member {
    core: Sessions,
    store: Book,
    now_us: u64,
    /// Answered with the next turn.
    asked: Vec<(AskId, Request)>,
}

impl Member {
    fn new() -> Self {
        let me = Node { region: "here".into(), name: "here-1".into(), life: 1 };
        let core = Sessions::new(me, Settings::default(), 7);
        let store = Book::new(Bounds { keep_us: 60 * SECOND, ..Bounds::default() });
        Self { core, store, now_us: SECOND, asked: Vec::new() }
    }

    /// What is told, with everything answered.
    fn run(&mut self) -> Vec<Effect> {
        let mut told = Vec::new();
        loop {
            told.extend(self.turn());
            if self.asked.is_empty() {
                return told;
            }
            for (ask, request) in std::mem::take(&mut self.asked) {
                let (reply, _) = self.store.apply(self.now_us, &request);
                self.core.replied(ask, Ok(reply));
            }
        }
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

    fn append(&mut self, document: &DocumentName, position: u32) {
        self.core.append(document, position, vec![[1, 2, 3].into()]);
    }
}

/// One of an app of license region 0, and one of license region 3.
fn documents() -> [DocumentName; 2] {
    ["t::here", "t::there"].map(|app| DocumentName { app: AppName(app.into()), name: "d".into() })
}

fn with_both_open() -> (Member, [DocumentName; 2]) {
    let (mut member, documents) = (Member::new(), documents());
    for (document, license) in documents.iter().zip([0, 3]) {
        member.core.open(document.clone(), Claim { epoch: 1, nonce: 1 }, license);
    }
    let opened = member.run();
    let is_opened = |effect: &&Effect| matches!(effect, Effect::Opened(_, Ok(_)));
    assert_eq!(opened.iter().filter(is_opened).count(), 2, "{opened:?}");
    (member, documents)
}

fn is_stored(told: &[Effect], document: &DocumentName) -> bool {
    told.iter().any(|effect| matches!(effect, Effect::Stored(stored, _) if stored == document))
}

#[test]
fn documents_of_other_license_regions_are_stored_on() {
    let (mut member, [here, there]) = with_both_open();
    member.core.lease(1 << 3);
    member.append(&here, 3);
    member.append(&there, 3);
    let told = member.run();
    assert!(is_stored(&told, &here) && !is_stored(&told, &there), "{told:?}");
    let fresh = DocumentName { name: "fresh".into(), ..there.clone() };
    member.core.open(fresh, Claim { epoch: 2, nonce: 1 }, 3);
    assert_eq!(member.run(), []);
    member.core.lease(0);
    let told = member.run();
    assert!(is_stored(&told, &there), "{told:?}");
    assert!(told.iter().any(|effect| matches!(effect, Effect::Opened(_, Ok(_)))), "{told:?}");
}

#[test]
fn what_was_asked_under_a_lease_that_ended_meanwhile_is_told_apart() {
    let (mut member, [here, there]) = with_both_open();
    member.append(&here, 3);
    member.append(&there, 3);
    member.turn();
    member.core.lease(1 << 3);
    let of = |request: &Request| match request {
        Request::Append { document, .. } => document.clone(),
        other => panic!("{other:?}"),
    };
    let may_be: Vec<_> =
        member.asked.iter().map(|(ask, request)| (of(request), member.core.may_ask(*ask))).collect();
    assert_eq!(may_be, [(here.clone(), true), (there.clone(), false)]);
    // What the store has is said once there is a lease again.
    for (ask, request) in std::mem::take(&mut member.asked) {
        let (reply, _) = member.store.apply(member.now_us, &request);
        member.core.replied(ask, Ok(reply));
    }
    let told = member.turn();
    assert!(is_stored(&told, &here) && !is_stored(&told, &there), "{told:?}");
    member.core.lease(0);
    assert!(is_stored(&member.turn(), &there));
}

#[test]
fn what_was_about_to_be_said_stored_is_taken_back() {
    let (mut member, [here, there]) = with_both_open();
    member.append(&here, 3);
    member.append(&there, 3);
    member.turn();
    for (ask, request) in std::mem::take(&mut member.asked) {
        let (reply, _) = member.store.apply(member.now_us, &request);
        member.core.replied(ask, Ok(reply));
    }
    member.core.lease(1);
    let told = member.turn();
    assert!(is_stored(&told, &there) && !is_stored(&told, &here), "{told:?}");
    member.core.lease(0);
    assert!(is_stored(&member.turn(), &here));
}
