//! The links that there are, and the mail between them and the data threads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pinwire_peer::{
    Apps as PeerApps, Fragments, HomeEnd, LEAVING_SINCE, Message, OwnerEnd, QUEUED_MAX, Secret, encode,
};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{App, DocumentName, FIRST_LINK, Mail, owner_of};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{spawn_local, yield_now};

use super::dial::Tls;
use super::find::Regions;
use super::moves::{Moves, WantedMove};
use super::{Around, Movable, PeerStats, Serving, Shared, dial};
use crate::apps::Apps;
use crate::cluster::{AnyRegistry, ClusterStats};
use crate::config::RegistryKind;
use crate::data::{Envelope, Mailbox};

/// Mail of one data thread that is passed on before others have their turn.
const MAIL_AT_ONCE: usize = 256;
/// How soon a data thread's full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// How often it is counted how many sessions there are.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// One end's part of a link.
pub(super) enum End {
    /// This node dialled: it has the sockets.
    Home(HomeEnd),
    /// The other dialled: this node has the documents.
    Owner(OwnerEnd),
}

/// A link that stands.
pub(super) struct Link {
    pub(super) number: u16,
    /// The node at its other end.
    pub(super) peer: String,
    /// What both ends speak.
    pub(super) version: u8,
    pub(super) end: RefCell<End>,
    pub(super) out: RefCell<Fragments>,
    /// There is something to send.
    pub(super) wake: Notify,
    /// The other end, which has the documents, takes no more sessions.
    pub(super) leaves: Cell<bool>,
    /// Why it is cut by this node.
    cut: Cell<Option<&'static str>>,
    cutting: Notify,
}

impl Link {
    /// Says something of the link itself.
    pub(super) fn say(&self, message: &Message) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes);
        self.out.borrow_mut().push(0, bytes);
        self.wake.notify_one();
    }

    /// Tells a home whether this node takes no more of its sessions.
    fn tell_leaving(&self, leaves: bool) {
        if !self.is_home() && self.version >= LEAVING_SINCE {
            self.say(&Message::Leaving(leaves));
        }
    }

    pub(super) fn cut(&self, why: &'static str) {
        self.cut.set(Some(why));
        self.cutting.notify_one();
    }

    /// Waits for that.
    pub(super) async fn is_cut(&self) -> &'static str {
        loop {
            if let Some(why) = self.cut.get() {
                return why;
            }
            self.cutting.notified().await;
        }
    }

    pub(super) fn sessions(&self) -> usize {
        match &*self.end.borrow() {
            End::Home(home) => home.len(),
            End::Owner(owner) => owner.len(),
        }
    }

    /// Whether this node dialled it.
    pub(super) fn is_home(&self) -> bool {
        matches!(*self.end.borrow(), End::Home(_))
    }
}

/// See the module's documentation.
pub(super) struct Hub {
    pub(super) name: String,
    pub(super) secret: Secret,
    pub(super) tls: Tls,
    pub(super) regions: Regions,
    pub(super) peers: RefCell<HashMap<String, dial::Known>>,
    pub(super) movable: Movable,
    pub(super) moves: Moves,
    apps: AppsHere,
    threads: u16,
    placement_seed: u64,
    shared: Arc<Shared>,
    mailboxes: Arc<[Mailbox]>,
    links: RefCell<BTreeMap<u16, Rc<Link>>>,
    last_link: Cell<u16>,
    /// What others were told last.
    leaves: Cell<bool>,
    stats: Arc<ClusterStats>,
    /// What data threads had no room for: answers to what they mailed, at most one each.
    kept: RefCell<VecDeque<(u16, Envelope)>>,
}

impl Hub {
    pub(super) fn new(
        around: Around,
        registries: Vec<AnyRegistry>,
        (shared, mailboxes): (Arc<Shared>, Arc<[Mailbox]>),
        movable: Movable,
        secret: Secret,
        tls: Tls,
    ) -> Rc<Self> {
        Rc::new(Self {
            name: around.name,
            secret,
            tls,
            regions: Regions::new(registries),
            peers: RefCell::default(),
            movable,
            moves: Moves::default(),
            apps: AppsHere { apps: around.apps, licenses: around.licenses },
            threads: around.threads.max(1) as u16,
            placement_seed: around.placement_seed,
            shared,
            mailboxes,
            links: RefCell::default(),
            last_link: Cell::new(FIRST_LINK),
            leaves: Cell::new(false),
            stats: around.stats,
            kept: RefCell::default(),
        })
    }

    /// Runs until it is dropped; other nodes are let in as `serving` says.
    pub(super) async fn run(
        self: Rc<Self>,
        listener: TcpListener,
        mut wanted: mpsc::Receiver<WantedMove>,
        serving: watch::Receiver<Serving>,
    ) {
        spawn_local(Rc::clone(&self).accept(listener, serving));
        let hub = Rc::clone(&self);
        spawn_local(async move {
            while let Some(wanted) = wanted.recv().await {
                spawn_local(super::moves::answer(Rc::clone(&hub), wanted));
            }
        });
        let hub = Rc::clone(&self);
        spawn_local(async move {
            loop {
                hub.count();
                tokio::time::sleep(COUNT_EVERY).await;
            }
        });
        loop {
            self.tell_leaving();
            let has_more = self.carry_mail();
            let finds = {
                let mut finds = self.shared.finds.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *finds)
            };
            for find in finds {
                spawn_local(super::find::answer(Rc::clone(&self), find));
            }
            let is_left = self.post_kept();
            if has_more {
                yield_now().await;
            } else if is_left {
                let _ = tokio::time::timeout(RETRY, self.shared.wake.notified()).await;
            } else {
                self.shared.wake.notified().await;
            }
        }
    }

    /// Lets other nodes in as long as that is wanted, and sends them away at the end.
    async fn accept(self: Rc<Self>, listener: TcpListener, mut serving: watch::Receiver<Serving>) {
        let mut accepting = Some(Box::pin(dial::accept(Rc::clone(&self), listener)));
        loop {
            let now = *serving.borrow_and_update();
            match now {
                Serving::Over => break,
                Serving::Closed => accepting = None,
                Serving::Accepts | Serving::Rests => {}
            }
            let accepts = accepting.as_mut().filter(|_| now == Serving::Accepts);
            tokio::select! {
                () = maybe(accepts) => break,
                changed = serving.changed() => if changed.is_err() { break },
            }
        }
        for link in self.links_where(|link| !link.is_home()) {
            link.cut("this node stops");
        }
    }

    /// Tells homes whether this node takes no more of their sessions, if that is news.
    fn tell_leaving(&self) {
        let leaves = self.shared.leaves.load(Ordering::Relaxed);
        if self.leaves.replace(leaves) != leaves {
            self.links_where(|_| true).iter().for_each(|link| link.tell_leaving(leaves));
        }
    }

    /// The node is known to take no more sessions.
    pub(super) fn is_left_alone(&self, name: &str) -> bool {
        let known = self.peers.borrow();
        let Some(dial::Known::Linked(number)) = known.get(name) else { return false };
        self.links.borrow().get(number).is_some_and(|link| link.leaves.get())
    }

    pub(super) fn stats(&self) -> &PeerStats {
        &self.stats.peer
    }

    /// Links and sessions, by their sides.
    fn count(&self) {
        let (mut links, mut sessions) = ([0; 2], [0; 2]);
        for link in self.links.borrow().values() {
            let side = usize::from(!link.is_home());
            links[side] += 1;
            sessions[side] += link.sessions() as u64;
        }
        let stats = self.stats();
        let levels = [&stats.home_links, &stats.owner_links, &stats.home_sessions, &stats.owner_sessions];
        for (level, now) in levels.into_iter().zip(links.into_iter().chain(sessions)) {
            level.set(now);
        }
    }

    /// Passes on what data threads mailed, a share of each; true if there may be more.
    fn carry_mail(&self) -> bool {
        let mut has_more = false;
        for (thread, queue) in self.shared.mail.iter().enumerate() {
            for _ in 0..MAIL_AT_ONCE {
                let Some((link, mail)) = queue.pop() else { break };
                self.carry(thread as u16, link, mail);
            }
            has_more |= !queue.is_empty();
        }
        has_more
    }

    fn carry(&self, thread: u16, number: u16, mail: Mail) {
        let link = self.links.borrow().get(&number).filter(|link| link.cut.get().is_none()).cloned();
        let Some(link) = link else { return self.return_mail(thread, number, &mail) };
        let mut answers = Vec::new();
        let mut answer =
            |thread: u16, mail: Mail| answers.push((thread, Envelope::Mail { from: number, mail }));
        {
            let mut out = link.out.borrow_mut();
            match &mut *link.end.borrow_mut() {
                End::Home(home) => home.mail(thread, mail, &self.apps, &mut out, &mut answer),
                End::Owner(owner) => owner.mail(mail, &mut out, &mut answer),
            }
            if out.len() > QUEUED_MAX {
                link.cut("more waits for it than is kept");
            }
        }
        self.kept.borrow_mut().extend(answers);
        link.wake.notify_one();
    }

    /// The link is gone. Who wants to join is told; all else was of sessions that are gone with it.
    fn return_mail(&self, thread: u16, number: u16, mail: &Mail) {
        if let Mail::Join { session, .. } = mail {
            let close = Close::new(CloseCode::ServiceRestart, "the link is gone");
            let mail = Mail::Refused(*session, close);
            self.kept.borrow_mut().push_back((thread, Envelope::Mail { from: number, mail }));
        }
    }

    /// True if something is left.
    fn post_kept(&self) -> bool {
        let mut kept = self.kept.borrow_mut();
        let mut full = Vec::new();
        for (thread, envelope) in std::mem::take(&mut *kept) {
            // In order for each thread.
            let is_full = full.contains(&thread);
            let Some(mailbox) = self.mailboxes.get(usize::from(thread)) else { continue };
            let back = if is_full { Err(envelope) } else { mailbox.push(envelope) };
            if let Err(envelope) = back {
                full.push(thread);
                kept.push_back((thread, envelope));
            }
        }
        !kept.is_empty()
    }

    /// Gives something to a data thread, however long it takes to have room.
    pub(super) async fn post(&self, thread: u16, mut envelope: Envelope) {
        let Some(mailbox) = self.mailboxes.get(usize::from(thread)) else { return };
        while let Err(back) = mailbox.push(envelope) {
            envelope = back;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// A message of the other end: mail for data threads.
    pub(super) fn receive(
        &self,
        link: &Link,
        message: Message,
    ) -> Result<Vec<(u16, Mail)>, pinwire_peer::LinkError> {
        let mut mail = Vec::new();
        let mut deliver = |thread, what| mail.push((thread, what));
        let owner = |name: &DocumentName| owner_of(name, self.placement_seed, self.threads);
        match &mut *link.end.borrow_mut() {
            End::Home(home) => {
                if matches!(message, Message::Refused(..)) {
                    self.stats().refused.one();
                }
                home.receive(message, &mut deliver)?;
            }
            End::Owner(end) => {
                let mut out = link.out.borrow_mut();
                end.receive(message, &self.apps, &owner, &mut out, &mut deliver)?;
            }
        }
        Ok(mail)
    }

    /// Enters a link that stands. One that the same node dialled before is cut: it dials again only once it has given that up.
    pub(super) fn enter(&self, peer: &str, version: u8, end: End) -> Rc<Link> {
        let number = self.next_number();
        let link = Rc::new(Link {
            number,
            peer: peer.to_owned(),
            version,
            end: RefCell::new(end),
            out: RefCell::default(),
            wake: Notify::new(),
            leaves: Cell::new(false),
            cut: Cell::new(None),
            cutting: Notify::new(),
        });
        let before = |found: &Link| found.peer == peer && found.is_home() == link.is_home();
        for before in self.links_where(before) {
            before.cut("the same node has come again");
        }
        self.links.borrow_mut().insert(number, Rc::clone(&link));
        if self.leaves.get() {
            link.tell_leaving(true);
        }
        link
    }

    /// No number is used again while its sessions may be remembered: there are far more than links.
    fn next_number(&self) -> u16 {
        let links = self.links.borrow();
        loop {
            let next = self.last_link.get().checked_add(1).unwrap_or(FIRST_LINK);
            self.last_link.set(next);
            if !links.contains_key(&next) {
                return next;
            }
        }
    }

    /// The license region of a registry, as nodes call it; empty where there is one registry for all.
    pub(super) fn license_code(&self, registry: u8) -> &str {
        match &self.apps.licenses {
            RegistryKind::Embedded => "",
            RegistryKind::Redis(all) => all.get(usize::from(registry)).map_or("", |known| &known.code),
        }
    }

    /// The registry of a license region, if this node serves it.
    pub(super) fn registry_of(&self, code: &str) -> Option<u8> {
        let at = match &self.apps.licenses {
            RegistryKind::Embedded => 0,
            RegistryKind::Redis(all) => all.iter().position(|known| known.code == code)?,
        };
        u8::try_from(at).ok()
    }

    /// This node's region.
    pub(super) fn region(&self) -> &str {
        self.name.split_once('/').map_or(&*self.name, |(region, _)| region)
    }

    /// A link that stands.
    pub(super) fn link(&self, number: u16) -> Option<Rc<Link>> {
        self.links.borrow().get(&number).filter(|link| link.cut.get().is_none()).cloned()
    }

    pub(super) fn has(&self, number: u16) -> bool {
        self.links.borrow().get(&number).is_some_and(|link| link.cut.get().is_none())
    }

    fn links_where(&self, is_meant: impl Fn(&Link) -> bool) -> Vec<Rc<Link>> {
        self.links.borrow().values().filter(|link| is_meant(link)).cloned().collect()
    }

    /// A link is gone: every data thread learns it, after everything that came over it.
    pub(super) async fn lose(&self, number: u16) {
        self.links.borrow_mut().remove(&number);
        self.moves.link_lost(number);
        for thread in 0..self.mailboxes.len() {
            self.post(thread as u16, Envelope::LinkLost(number)).await;
        }
    }
}

/// Never, if there is nothing to wait for.
async fn maybe(future: Option<impl Future<Output = ()>>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The apps of this node, and the license regions that it knows.
struct AppsHere {
    apps: Arc<Apps>,
    licenses: RegistryKind,
}

impl PeerApps for AppsHere {
    fn license(&self, app: &App) -> Arc<str> {
        match &self.licenses {
            RegistryKind::Embedded => "".into(),
            RegistryKind::Redis(all) => {
                let license = all.get(usize::from(app.license()));
                license.map_or("", |license| license.code.as_str()).into()
            }
        }
    }

    fn enter(&self, tenant: &str, app: &str, license: &str) -> Option<Arc<App>> {
        let (code, number) = match &self.licenses {
            RegistryKind::Embedded => (None, 0),
            RegistryKind::Redis(all) => (Some(license), all.iter().position(|known| known.code == license)?),
        };
        // One that is of another license region by its tokens here has no business with this document.
        self.apps.enter(tenant, app, code, u8::try_from(number).ok()?).ok()
    }
}
