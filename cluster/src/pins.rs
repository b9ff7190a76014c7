//! The core: its state, what is put in, what comes out.

use crate::apps::Apps;
use crate::assertions::Assertions;
use crate::claims::{Claiming, Entry};
use crate::life::Life;
use crate::releases::Releases;
use crate::{AskId, Effect, Lease};
use fastrand::Rng;
use pinwire_registry::{Answer, AppName, AppUse, Claim, DocumentName, Hold, Node, NodeView, Request};
use std::collections::{BTreeMap, VecDeque};

/// What a core is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node. Its life is drawn anew.
    pub me: NodeView,
    /// How long the registry keeps the node without hearing of it.
    pub lease_us: u64,
    /// Time between two renewals.
    pub renew_us: u64,
    /// How long documents wait for their clients.
    pub grace_us: u64,
}

/// What one node holds of one license region's documents. Deterministic: time and seed are passed in.
///
/// Call [`Self::begin`] with the time, put something in, do what [`Self::next_effect`] says until there is nothing more, and come
/// again at [`Self::next_deadline_us`] at the latest.
#[derive(Debug)]
pub struct Pins {
    pub(crate) settings: Settings,
    /// The node as it is registered, or about to be.
    pub(crate) me: NodeView,
    pub(crate) rng: Rng,
    pub(crate) now_us: u64,
    pub(crate) life: Life,
    pub(crate) documents: BTreeMap<DocumentName, Entry>,
    pub(crate) claiming: Claiming,
    pub(crate) assertions: Assertions,
    pub(crate) releases: Releases,
    pub(crate) apps: Apps,
    pub(crate) asked: BTreeMap<AskId, Asked>,
    asks: u64,
    pub(crate) holds: Hold,
    pub(crate) effects: VecDeque<Effect>,
}

/// What is on its way to the registry. What was asked in an earlier life of the node does not count any more.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) life: u64,
    pub(crate) sent_us: u64,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Renewal { apps: Vec<AppUse> },
    Claim { document: DocumentName, hold: Hold },
    Assert { pins: Vec<(DocumentName, Hold)> },
    Release { hold: Hold },
    Retire,
}

impl Pins {
    /// A node that holds nothing and is about to register.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut me = settings.me.clone();
        me.node.life = rng.u64(1..);
        Self {
            life: Life::default(),
            me,
            settings,
            rng,
            now_us: 0,
            documents: BTreeMap::new(),
            claiming: Claiming::default(),
            assertions: Assertions::default(),
            releases: Releases::default(),
            apps: Apps::default(),
            asked: BTreeMap::new(),
            asks: 0,
            holds: 0,
            effects: VecDeque::new(),
        }
    }

    /// The node, as the registry knows it or is about to.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.me.node
    }

    /// Time passes: does what is due. `now_us` is the node's monotonic clock.
    pub fn begin(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
        self.look_at_lease();
        self.renew_if_due();
        self.pump();
    }

    /// The registry answered.
    pub fn answered(&mut self, ask: AskId, answer: Answer) {
        let Some(asked) = self.asked.remove(&ask) else { return };
        let is_current = asked.life == self.me.node.life;
        match (asked.what, answer) {
            (What::Renewal { apps }, answer) if is_current => {
                self.renewal_answered(ask, asked.sent_us, &apps, answer);
            }
            (What::Claim { document, hold }, answer) => {
                self.claim_answered(&document, hold, is_current, answer);
            }
            (What::Assert { pins }, answer) if is_current => self.assert_answered(&pins, answer),
            (What::Release { hold }, _) if is_current => self.release_answered(hold),
            (What::Retire, _) => self.retired(),
            _ => {}
        }
        self.pump();
    }

    /// The registry did not answer in time, or could not be reached. What was asked may have been done all the same, or be
    /// done later.
    pub fn failed(&mut self, ask: AskId) {
        let Some(asked) = self.asked.remove(&ask) else { return };
        let is_current = asked.life == self.me.node.life;
        match asked.what {
            What::Renewal { .. } if is_current => self.renewal_failed(ask),
            What::Claim { document, hold } => self.claim_failed(&document, hold, is_current),
            What::Assert { pins } if is_current => self.assert_failed(pins),
            What::Release { hold } if is_current => self.release_failed(hold),
            What::Retire => self.retire_failed(),
            _ => {}
        }
        self.pump();
    }

    /// What an app uses of its limits on this node now; the registry is told with the next renewal.
    pub fn use_app(&mut self, usage: AppUse) {
        self.apps.set(usage);
    }

    /// Which version of an app's record the node goes by, so that it learns of newer ones.
    pub fn know_app(&mut self, app: AppName, version: u64) {
        self.apps.know(app, version);
    }

    /// The app's record is of no interest any more.
    pub fn forget_app(&mut self, app: &AppName) {
        self.apps.forget(app);
    }

    /// What to do next.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::begin`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline_us(&self) -> u64 {
        let of_holds = self.leaving_deadline_us().min(self.release_deadline_us());
        self.life_deadline_us().min(of_holds).min(self.assert_deadline_us())
    }

    /// As it was published last.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.life.published
    }

    /// Documents that it holds, those that were left a moment ago included, with their claims.
    pub fn held(&self) -> impl Iterator<Item = (&DocumentName, Claim)> {
        self.documents.iter().filter_map(|(document, entry)| Some((document, entry.claim()?)))
    }

    /// Documents held or being claimed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Nothing is held or being claimed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Sends what was waiting for its turn: assertions first, since others wait for them.
    fn pump(&mut self) {
        self.send_asserts();
        self.publish_lease();
        self.send_claims();
        self.release_left();
        self.send_releases();
    }

    pub(crate) fn ask(&mut self, what: What, request: Request) -> AskId {
        self.asks += 1;
        let id = AskId(self.asks);
        let asked = Asked { life: self.me.node.life, sent_us: self.now_us, what };
        self.asked.insert(id, asked);
        self.effects.push_back(Effect::Ask(id, request));
        id
    }

    /// A time between half of `time_us` and all of it: nodes that failed together do not come back together.
    pub(crate) fn jittered(&mut self, time_us: u64) -> u64 {
        self.rng.u64(time_us / 2..=time_us.max(1))
    }
}
