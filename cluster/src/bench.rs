//! A core under test, and a registry played by hand.

use crate::{AskId, Decision, Effect, Pins, Settings, Ticket};
use pinwire_registry::{
    Answer, AppName, Asserted, Claim, Claimed, DocumentName, Node, NodeView, Owner, Renewed, Request,
};
use std::collections::VecDeque;

pub(crate) const SECOND: u64 = 1_000_000;
/// Where clocks begin.
pub(crate) const START: u64 = 1_000 * SECOND;

pub(crate) struct Bench {
    pub(crate) pins: Pins,
    pub(crate) now: u64,
    pub(crate) asks: VecDeque<(AskId, Request)>,
    /// All other effects.
    pub(crate) news: Vec<Effect>,
}

impl Bench {
    /// A node that has just begun.
    pub(crate) fn new() -> Self {
        let node = Node { region: "here".into(), name: "here-1".into(), life: 0 };
        let me = NodeView {
            node,
            ws_url: "wss://here".into(),
            peer_address: "".into(),
            version: "1".into(),
            admin_url: "".into(),
        };
        let settings = Settings { me, lease_us: 20 * SECOND, renew_us: 5 * SECOND, grace_us: 10 * SECOND };
        let mut bench =
            Self { pins: Pins::new(settings, 7), now: START, asks: VecDeque::new(), news: Vec::new() };
        bench.at(START);
        bench
    }

    /// A node that is registered.
    pub(crate) fn living() -> Self {
        let mut bench = Self::new();
        bench.renewed("a");
        bench.news.clear();
        bench
    }

    pub(crate) fn at(&mut self, now: u64) {
        self.now = now;
        self.pins.begin(now);
        self.drain();
    }

    pub(crate) fn after(&mut self, time: u64) {
        self.at(self.now + time);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.pins.next_effect() {
            match effect {
                Effect::Ask(ask, request) => self.asks.push_back((ask, request)),
                news => self.news.push(news),
            }
        }
    }

    pub(crate) fn hold(&mut self, name: &str, ticket: u64) {
        self.pins.hold(&document(name), Ticket(ticket), 10);
        self.drain();
    }

    pub(crate) fn leave(&mut self, name: &str, ticket: u64) {
        self.pins.leave(&document(name), Ticket(ticket));
        self.drain();
    }

    /// The next request, which must be there.
    pub(crate) fn asked(&mut self) -> (AskId, Request) {
        self.asks.pop_front().expect("something asked")
    }

    pub(crate) fn answer(&mut self, ask: AskId, answer: Answer) {
        self.pins.answered(ask, answer);
        self.drain();
    }

    pub(crate) fn fail(&mut self, ask: AskId) {
        self.pins.failed(ask);
        self.drain();
    }

    /// Answers the next request, a renewal or registration.
    pub(crate) fn renewed(&mut self, history: &str) {
        let (ask, request) = self.asked();
        assert!(matches!(request, Request::Register { .. } | Request::Renew { .. }), "{request:?}");
        self.answer(ask, Answer::Renewed(renewal(history)));
    }

    /// Has a document.
    pub(crate) fn has(&mut self, name: &str, ticket: u64, claim: Claim) {
        self.hold(name, ticket);
        let (ask, request) = self.asked();
        assert!(matches!(request, Request::Claim { .. }), "{request:?}");
        self.answer(ask, Answer::Claimed(Claimed::Held { claim, is_new: true }));
        let held = Effect::Decided(document(name), Ticket(ticket), Decision::Held { claim, is_new: true });
        assert_eq!(self.news.pop(), Some(held));
    }

    /// What was decided for a ticket, once.
    pub(crate) fn decided(&mut self, ticket: u64) -> Option<Decision> {
        let at = self
            .news
            .iter()
            .position(|news| matches!(news, Effect::Decided(_, decided, _) if *decided == Ticket(ticket)))?;
        match self.news.remove(at) {
            Effect::Decided(_, _, decision) => Some(decision),
            _ => None,
        }
    }

    /// Answers the next request, an assertion, pin by pin.
    pub(crate) fn asserted(&mut self, verdict: impl Fn(&DocumentName, Claim) -> Asserted) {
        let (ask, request) = self.asked();
        let Request::Assert { pins, .. } = request else { panic!("{request:?}") };
        let verdicts = pins.iter().map(|(document, claim, _)| verdict(document, *claim)).collect();
        self.answer(ask, Answer::Asserted(Some(verdicts)));
    }
}

pub(crate) fn document(name: &str) -> DocumentName {
    DocumentName { app: AppName("t::a".into()), name: name.into() }
}

pub(crate) fn claim(epoch: u64) -> Claim {
    Claim { epoch, nonce: 1 }
}

pub(crate) fn elsewhere(epoch: u64) -> Owner {
    Owner { region: "there".into(), ws_url: "wss://there".into(), claim: claim(epoch) }
}

pub(crate) fn renewal(history: &str) -> Renewed {
    Renewed { now: 1, history: history.into(), lost: Vec::new(), shares: Vec::new(), records: Vec::new() }
}
