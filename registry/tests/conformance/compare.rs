//! Any sequence of requests, at any times, has the same answers from the rules in memory and from a Redis.

use crate::ask::{document, view};
use pinwire_registry::{
    Answer, AppName, AppUse, Asserted, Book, Claim, DocumentName, Node, RedisRegistry, Registry, Renewed,
    Request,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const START: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;
const GRACES: [u64; 3] = [0, 3 * SECOND, 10 * SECOND];

/// A request, with claims by number: those that came up so far, the last one first.
#[derive(Clone, Debug)]
enum Step {
    Register(usize),
    Renew(usize, Vec<(usize, u32, u32, u32)>),
    Retire(usize, usize),
    Claim(usize, usize, usize, u32),
    Release(usize, usize, u64, usize),
    Assert(usize, Vec<(usize, usize, u64)>),
    Locate(usize),
    Unpin(usize),
    Move(usize, usize, usize),
    Usage(usize),
    Put(usize, bool),
    Nodes,
    Pins(Option<usize>, u32),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let (node, doc, app) = (0..6_usize, 0..12_usize, 0..3_usize);
    let used = (app.clone(), 0..6_u32, 0..8_u32, 4..12_u32);
    let step = prop_oneof![
        3 => node.clone().prop_map(Step::Register),
        6 => (node.clone(), prop::collection::vec(used, 0..3)).prop_map(|(node, apps)| Step::Renew(node, apps)),
        1 => (node.clone(), 0..3_usize).prop_map(|(node, grace)| Step::Retire(node, grace)),
        8 => (node.clone(), doc.clone(), 0..3_usize, 2..6_u32).prop_map(|(n, d, g, most)| Step::Claim(n, d, g, most)),
        5 => (node.clone(), doc.clone(), 2..5_u64, 0..3_usize).prop_map(|(n, d, c, g)| Step::Release(n, d, c, g)),
        3 => (node.clone(), prop::collection::vec((doc.clone(), 0..4_usize, 0..3_u64), 0..3))
            .prop_map(|(node, pins)| Step::Assert(node, pins)),
        4 => doc.clone().prop_map(Step::Locate),
        2 => doc.clone().prop_map(Step::Unpin),
        2 => (node, doc.clone(), 0..3_usize).prop_map(|(n, d, c)| Step::Move(n, d, c)),
        2 => app.clone().prop_map(Step::Usage),
        1 => (app, any::<bool>()).prop_map(|(app, is_some)| Step::Put(app, is_some)),
        1 => Just(Step::Nodes),
        1 => (prop::option::of(doc), 0..5_u32).prop_map(|(after, limit)| Step::Pins(after, limit)),
    ];
    let passes = prop_oneof![4 => 1..SECOND, 2 => SECOND..6 * SECOND, 1 => 6 * SECOND..40 * SECOND];
    prop::collection::vec((passes, step), 20..60)
}

/// What the steps refer to by number.
struct World {
    run: u64,
    nodes: Vec<Node>,
    /// Claims that came up, of each document.
    claims: Vec<Vec<Claim>>,
    versions: [u64; 3],
    nonce: u64,
}

impl World {
    fn new(run: u64) -> Self {
        let regions = ["eu", "us", "eu", "ap", "us", "eu"];
        let nodes = regions.iter().enumerate();
        let node = |(index, region): (usize, &&str)| Node {
            region: format!("{region}-{run}").into(),
            name: format!("n{index}").into(),
            life: run,
        };
        Self {
            run,
            nodes: nodes.map(node).collect(),
            claims: vec![Vec::new(); 12],
            versions: [0; 3],
            nonce: run << 32,
        }
    }

    fn app(&self, app: usize) -> AppName {
        AppName(format!("t::run-{}-{app}", self.run).into())
    }

    fn document(&self, index: usize) -> DocumentName {
        document(&self.app(index % 3).0, &format!("doc-{index}"))
    }

    fn claim(&self, document: usize, back: usize) -> Claim {
        let claims = &self.claims[document];
        claims.iter().rev().nth(back).or(claims.last()).copied().unwrap_or(Claim { epoch: START, nonce: 1 })
    }

    fn request(&mut self, step: &Step) -> Request {
        self.nonce += 1;
        let nonce = self.nonce;
        match step {
            Step::Register(node) => {
                Request::Register { node: view(&self.nodes[*node]), lease_us: 20 * SECOND }
            }
            Step::Renew(node, apps) => {
                let used = |(app, connections, wanted, max_connections): &(usize, u32, u32, u32)| AppUse {
                    app: self.app(*app),
                    connections: *connections,
                    wanted: *wanted,
                    max_connections: *max_connections,
                };
                let versions = (0..3).map(|app| (self.app(app), self.versions[app])).collect();
                let apps = apps.iter().map(used).collect();
                Request::Renew { node: self.nodes[*node].clone(), lease_us: 20 * SECOND, apps, versions }
            }
            Step::Retire(node, grace) => {
                Request::Retire { node: self.nodes[*node].clone(), grace_us: GRACES[*grace] }
            }
            Step::Claim(node, doc, grace, most) => Request::Claim {
                document: self.document(*doc),
                node: self.nodes[*node].clone(),
                nonce,
                hold: nonce % 4,
                max_documents: *most,
                grace_us: GRACES[*grace],
            },
            Step::Release(node, doc, hold, grace) => Request::Release {
                document: self.document(*doc),
                node: self.nodes[*node].clone(),
                hold: *hold,
                grace_us: GRACES[*grace],
            },
            Step::Assert(node, pins) => {
                let pin = |(doc, back, ahead): &(usize, usize, u64)| {
                    let claim = self.claim(*doc, *back);
                    {
                        let claim = Claim { epoch: claim.epoch + ahead / 2, nonce: claim.nonce + ahead % 2 };
                        (self.document(*doc), claim, nonce % 4)
                    }
                };
                let pins = pins.iter().map(pin).collect();
                Request::Assert { node: self.nodes[*node].clone(), pins, grace_us: GRACES[1] }
            }
            Step::Unpin(doc) => Request::Unpin { document: self.document(*doc) },
            Step::Locate(doc) => Request::Locate { document: self.document(*doc) },
            Step::Move(node, doc, claim) => Request::Move {
                document: self.document(*doc),
                claim: self.claim(*doc, *claim),
                to: Claim { epoch: self.claim(*doc, 0).epoch + nonce % 3, nonce },
                node: self.nodes[*node].clone(),
                hold: nonce % 4,
                grace_us: GRACES[2],
            },
            Step::Usage(app) => Request::Usage { app: self.app(*app) },
            Step::Put(app, is_some) => {
                let record = is_some.then(|| format!("{{\"nonce\":{nonce}}}").into());
                Request::PutApp { app: self.app(*app), version: self.versions[*app], record }
            }
            Step::Nodes => Request::Nodes,
            Step::Pins(after, limit) => {
                let first =
                    DocumentName { app: AppName(format!("t::run-{}-", self.run).into()), name: "".into() };
                let after = after.map_or(first, |after| self.document(after));
                Request::Pins { after: Some(after), limit: *limit }
            }
        }
    }

    /// Keeps claims and versions that an answer brought up.
    fn learn(&mut self, step: &Step, answer: &Answer) {
        use pinwire_registry::Claimed;
        match (step, answer) {
            (
                Step::Claim(_, doc, ..) | Step::Move(_, doc, _),
                Answer::Claimed(Claimed::Held { claim, .. }),
            ) if self.claims[*doc].last() != Some(claim) => self.claims[*doc].push(*claim),
            (Step::Put(app, _), Answer::App(record)) => self.versions[*app] = record.version,
            _ => {}
        }
    }

    /// Runs share a server: what is of other runs is not compared, nor is which server it is.
    fn own(&self, answer: Answer) -> Answer {
        let (region, app) = (format!("-{}", self.run), format!("t::run-{}-", self.run));
        match answer {
            Answer::Nodes(nodes) => {
                Answer::Nodes(nodes.into_iter().filter(|view| view.node.region.ends_with(&region)).collect())
            }
            Answer::Pins(pins) => {
                Answer::Pins(pins.into_iter().filter(|pin| pin.document.app.0.starts_with(&app)).collect())
            }
            Answer::Renewed(renewed) => Answer::Renewed(Renewed { history: "".into(), ..renewed }),
            other => other,
        }
    }
}

/// Apps of which an assertion brings claims anew, since pins ended. Memory removes pins when they end, a server when somebody
/// looks at them: that another document's has ended it may not know before it has swept, which a count has it do.
fn apps_with_fresh_claims(request: &Request, answer: &Answer) -> Vec<AppName> {
    let (Request::Assert { pins, .. }, Answer::Asserted(Some(outcomes))) = (request, answer) else {
        return Vec::new();
    };
    let is_fresh =
        |asserted: &Claim, outcome: &Asserted| matches!(outcome, Asserted::Held(claim) if claim > asserted);
    let fresh = pins.iter().zip(outcomes).filter(|((_, claim, _), outcome)| is_fresh(claim, outcome));
    fresh.map(|((document, ..), _)| document.app.clone()).collect()
}

/// Random sequences, each on apps and nodes of its own. Several registries on one server take turns.
pub fn compare(runtime: &tokio::runtime::Runtime, registries: &[RedisRegistry], cases: u32) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = std::sync::atomic::AtomicU64::new(1);
    let outcome = runner.run(&steps(), |steps| {
        let run = run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (mut book, mut world) = (Book::new(""), World::new(run));
        // Runs follow each other in time, far apart: nothing of the one before lives.
        let mut now = START + run * 100_000 * SECOND;
        for (index, (passes, step)) in steps.iter().enumerate() {
            now += passes;
            let request = world.request(step);
            let registry = &registries[index % registries.len()];
            registry.set_time(now);
            let ask = |request: Request| {
                let answer = runtime.block_on(registry.ask(request));
                answer.map_err(|error| TestCaseError::fail(error.reason.to_string()))
            };
            let expected = book.apply(now, &request);
            for app in apps_with_fresh_claims(&request, &expected) {
                ask(Request::Usage { app })?;
            }
            let answer = ask(request.clone())?;
            world.learn(step, &expected);
            prop_assert_eq!(world.own(answer), world.own(expected), "step {}, {:?}", index, request);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
