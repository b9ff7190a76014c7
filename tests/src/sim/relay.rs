//! A second node, whose region does not have the documents: its threads reach them over a link, with the delays, the cuts and the
//! breaks of one. What passes it are the real bytes of the real ends.

use super::plan::Plan;
use super::world::{Event, Input, World};
use pinwire_peer::{Apps, Assembler, Fragments, HomeEnd, OwnerEnd, VERSION, decode};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{App, DocumentName, DocumentRef, FIRST_LINK, Mail, Pinned, Route, owner_of};
use std::sync::Arc;

/// The claim under which the other node has every document.
pub(super) const CLAIM: Pinned = Pinned { epoch: 7, nonce: 7 };
/// The longest that a link stays away.
const AWAY_MS: u64 = 3_000;

/// A link from the first node to the second.
pub(super) struct Link {
    /// What both nodes call it.
    pub(super) number: u16,
    home: HomeEnd,
    owner: OwnerEnd,
    to_owner: Way,
    to_home: Way,
}

/// One direction.
#[derive(Default)]
struct Way {
    out: Fragments,
    input: Assembler,
    /// When the last bytes arrive.
    clock: u64,
    is_scheduled: bool,
}

/// Both nodes know all apps.
struct AllApps<'a>(&'a [Arc<App>]);

impl Apps for AllApps<'_> {
    fn license(&self, _app: &App) -> Arc<str> {
        "here".into()
    }

    fn enter(&self, tenant: &str, app: &str, license: &str) -> Option<Arc<App>> {
        let found = self.0.iter().find(|found| found.tenant() == tenant && found.id() == app);
        found.filter(|_| license == "here").cloned()
    }
}

impl Link {
    fn new(number: u16) -> Self {
        Self {
            number,
            home: HomeEnd::new(1, VERSION, "there"),
            owner: OwnerEnd::new(1),
            to_owner: Way::default(),
            to_home: Way::default(),
        }
    }

    fn way(&mut self, to_owner: bool) -> &mut Way {
        if to_owner { &mut self.to_owner } else { &mut self.to_home }
    }
}

impl World {
    /// Whether a thread is of the node whose region has no document.
    pub(super) fn is_home(&self, thread: usize) -> bool {
        thread < self.plan.homes
    }

    /// The first thread of a thread's node.
    pub(super) fn first_of_node(&self, thread: usize) -> usize {
        match self.plan.nodes {
            1 if self.is_home(thread) => 0,
            1 => self.plan.homes,
            _ => self.thread_of(self.node_of(thread), 0),
        }
    }

    /// The nodes find each other.
    pub(super) fn link_up(&mut self) {
        self.links += 1;
        self.link = Some(Link::new(FIRST_LINK + self.links));
    }

    /// The link breaks with everything that is under way; each thread learns it when it does.
    pub(super) fn break_link(&mut self) {
        let Some(link) = self.link.take() else { return };
        for thread in 0..self.threads.len() {
            let delay = self.rng.u64(0..=self.plan.mail_ms);
            self.after(delay, Event::Input(thread, Input::LinkLost(link.number)));
        }
        let delay = self.rng.u64(0..AWAY_MS);
        self.after(delay, Event::LinkUp);
    }

    /// The registry says where a document is that a thread of the first node opens: `None` if it is reached.
    pub(super) fn find_route(&mut self, document: DocumentRef) -> Input {
        let refused = self.is_busy && Plan::chance(&mut self.rng, self.plan.refused_opens);
        match &self.link {
            Some(link) if !refused => Input::Relayed(document, Route { link: link.number, claim: CLAIM }),
            _ => Input::Opened(document, Err(Close::try_again(500))),
        }
    }

    /// Mail of a thread for the other node.
    pub(super) fn mail_over(&mut self, thread: usize, number: u16, mail: Mail) {
        let is_home = self.is_home(thread);
        let first = self.first_of_node(thread);
        let Some(link) = self.link.as_mut().filter(|link| link.number == number) else {
            if let Mail::Join { session, .. } = mail {
                let close = Close::new(CloseCode::ServiceRestart, "the link is gone");
                self.input(thread, Input::Mail(number, Mail::Refused(session, close)));
            }
            return;
        };
        let mut answers = Vec::new();
        let mut answer = |thread: u16, mail: Mail| answers.push((thread, mail));
        if is_home {
            let apps = AllApps(&self.apps);
            link.home.mail(thread as u16, mail, &apps, &mut link.to_owner.out, &mut answer);
        } else {
            link.owner.mail(mail, &mut link.to_home.out, &mut answer);
        }
        for (thread, mail) in answers {
            self.input(first + usize::from(thread), Input::Mail(number, mail));
        }
        self.pump_soon(is_home);
    }

    fn pump_soon(&mut self, to_owner: bool) {
        let delay = self.rng.u64(0..=self.plan.mail_ms);
        let Some(link) = &mut self.link else { return };
        let number = link.number;
        let way = link.way(to_owner);
        if !way.out.is_empty() && !std::mem::replace(&mut way.is_scheduled, true) {
            self.after(delay, Event::LinkSends(number, to_owner));
        }
    }

    /// The link takes some of what waits for it.
    pub(super) fn link_sends(&mut self, number: u16, to_owner: bool) {
        let room = [10, 1_000, 70_000][self.rng.usize(0..3)];
        let delay = self.rng.u64(0..=self.plan.mail_ms);
        let now_ms = self.now_ms;
        let Some(link) = self.link.as_mut().filter(|link| link.number == number) else { return };
        let way = link.way(to_owner);
        way.is_scheduled = false;
        let mut bytes = Vec::new();
        way.out.fill(&mut bytes, room);
        way.clock = way.clock.max(now_ms + delay);
        let when = way.clock;
        self.at(when, Event::LinkBrings(number, to_owner, bytes));
        self.pump_soon(to_owner);
    }

    /// Bytes arrive, in two pieces.
    pub(super) fn link_brings(&mut self, number: u16, to_owner: bool, bytes: &[u8]) {
        let cut = self.rng.usize(0..=bytes.len());
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if let Some(link) = self.link.as_mut().filter(|link| link.number == number) {
                link.way(to_owner).input.feed(piece);
                self.read_link(number, to_owner);
            }
        }
    }

    fn read_link(&mut self, number: u16, to_owner: bool) {
        let first = if to_owner { self.plan.homes } else { 0 };
        let owners = (self.threads.len() - self.plan.homes) as u16;
        let placement_seed = self.placement_seed;
        let Some(link) = &mut self.link else { return };
        let mut mail = Vec::new();
        let mut deliver = |thread: u16, what: Mail| mail.push((thread, what));
        let apps = AllApps(&self.apps);
        let owner = |name: &DocumentName| owner_of(name, placement_seed, owners);
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let next = link.way(to_owner).input.next_message();
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            outcome = decode(&message).and_then(|message| {
                if to_owner {
                    link.owner.receive(message, &apps, &owner, &mut link.to_home.out, &mut deliver)
                } else {
                    link.home.receive(message, &mut deliver)
                }
            });
        }
        for (thread, mail) in mail {
            self.input(first + usize::from(thread), Input::Mail(number, mail));
        }
        if let Err(error) = outcome {
            self.model.violate(format!("a link's end does not understand the other: {error}"));
        }
        self.pump_soon(!to_owner);
    }

    /// At the end nobody is on the link.
    pub(super) fn check_link(&mut self) {
        let Some(link) = &self.link else { return };
        let counts = (link.home.len(), link.owner.len());
        if counts != (0, 0) {
            self.model.violate(format!("the ends of the link still have {counts:?} sessions"));
        }
    }
}
