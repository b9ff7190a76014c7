//! Documents that another region has: how they are reached, and y-websocket connections whose session runs over a link. See
//! [`Mail`](crate::Mail).

use crate::conn::{Conn, Handshake, KeyState, Phase, RELAYED, Relayed, UnderWay};
use crate::document::{RemoteJoin, State};
use crate::effect::{ConnRef, DocumentName, DocumentRef, Slot};
use crate::grant::Access;
use crate::limits::{REROUTES_MAX, RETRY_MS, ROUTES_MAX};
use crate::mail::{FIRST_LINK, Mail, Pinned, ROUTE_MS, RemoteSession, Route};
use crate::shard::{Flow, Shard};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::Key as RawKey;

/// Documents that were found in another region a moment ago, and the claims of those that are here.
#[derive(Debug)]
pub(crate) struct Routes {
    known: HashMap<DocumentName, Known, FixedState>,
    /// By index, with the serial that tells a document from others that had it.
    held: HashMap<u32, (u32, Pinned), FixedState>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    route: Route,
    until_ms: u64,
}

impl Routes {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { known: HashMap::with_hasher(hasher.clone()), held: HashMap::with_hasher(hasher) }
    }

    fn find(&mut self, name: &DocumentName, now_ms: u64) -> Option<Route> {
        let known = *self.known.get(name)?;
        if now_ms < known.until_ms {
            return Some(known.route);
        }
        self.known.remove(name);
        None
    }

    fn put(&mut self, name: DocumentName, route: Route, now_ms: u64) {
        if self.known.len() >= ROUTES_MAX {
            self.known.retain(|_, known| now_ms < known.until_ms);
        }
        if self.known.len() >= ROUTES_MAX {
            self.known.clear();
        }
        self.known.insert(name, Known { route, until_ms: now_ms + ROUTE_MS });
    }

    /// An owner took a session: it has the document.
    fn confirm(&mut self, name: &DocumentName, link: u16, now_ms: u64) {
        if let Some(known) = self.known.get_mut(name).filter(|known| known.route.link == link) {
            known.until_ms = now_ms + ROUTE_MS;
        }
    }

    pub(crate) fn forget(&mut self, name: &DocumentName) {
        self.known.remove(name);
    }

    fn forget_link(&mut self, link: u16) {
        self.known.retain(|_, known| known.route.link != link);
    }
}

/// What a session of a document that this node does not have either is told, over a link.
pub(crate) fn not_here() -> Close {
    Close::new(CloseCode::WrongRegion, "another region has the document")
}

/// What a client is told whose document is no longer reached as it was.
fn come_back() -> Close {
    Close::new(CloseCode::ServiceRestart, "the document is reached another way now")
}

/// Whether a refusal means that the document has to be looked for anew.
fn is_lost(close: &Close) -> bool {
    matches!(close.code, CloseCode::WrongRegion | CloseCode::ServiceRestart)
}

impl Shard {
    /// The registry answered [`Effect::Open`](crate::Effect::Open): another region has the document, and one of its nodes is
    /// reached over a link. Takes the place of [`Self::opened`].
    pub fn relayed(&mut self, document: DocumentRef, route: Route) {
        let now_ms = self.out.now_ms;
        let Some(found) = self.document_at(document).filter(|found| found.state == State::Loading) else {
            return;
        };
        let pending = found.pending.take().unwrap_or_default();
        let name = found.name.clone();
        self.remove_document(document.index);
        self.routes.put(name, route, now_ms);
        for conn in pending.waiting {
            self.resume(conn);
        }
        for join in pending.remote_waiting {
            self.tell_elsewhere(join.thread, join.session, route);
        }
    }

    /// Tells a session on another thread that its document is not here. What came over a link is not relayed on.
    pub(crate) fn tell_elsewhere(&mut self, thread: u16, session: RemoteSession, route: Route) {
        let mail = if thread < FIRST_LINK {
            Mail::Elsewhere(session, route)
        } else {
            Mail::Refused(session, not_here())
        };
        self.out.mail(thread, mail);
    }

    /// The claim under which this region has a document that is being opened or open.
    pub fn pinned(&mut self, document: DocumentRef, claim: Pinned) {
        if self.document_at(document).is_some() {
            self.routes.held.insert(document.index, (document.serial, claim));
        }
    }

    /// The claim of a document that is open here, as far as it was told.
    pub(crate) fn claim_of(&self, name: &DocumentName) -> Option<Pinned> {
        self.claim_at(self.index_of(name)?)
    }

    /// The claim of the document at this index, once it is open.
    pub(crate) fn claim_at(&self, index: u32) -> Option<Pinned> {
        let found = self.documents.get(index).filter(|found| found.state != State::Loading)?;
        let (serial, claim) = *self.routes.held.get(&index)?;
        (serial == found.serial).then_some(claim)
    }

    /// How a document is reached that this thread does not have and that was found elsewhere a moment ago.
    pub(crate) fn route_of(&mut self, name: &DocumentName) -> Option<Route> {
        if self.index_of(name).is_some() {
            return None;
        }
        self.routes.find(name, self.out.now_ms)
    }

    // A y-websocket connection at home.

    /// Asks the owner for the session; what the client says waits for the answer.
    pub(crate) fn join_over_link(
        &mut self,
        slot: Slot,
        document: &str,
        access: Access,
        route: Route,
    ) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let session = RemoteSession { conn: ConnRef { slot, serial: conn.serial }, key: 0 };
        conn.settled = true;
        let (app, subject) = (conn.app, conn.subject.clone());
        let cold = conn.cold_mut();
        // It was admitted by this token.
        let Handshake::Judged(Ok(grant)) = &cold.handshake else { return Flow::Stop };
        let regions = grant.regions.clone();
        cold.relayed = Some(Relayed { owner: route.link, is_joined: false, under_way: UnderWay::default() });
        let limits = self.apps.limits(app);
        let Some(app) = self.apps.get(app).cloned() else { return Flow::Stop };
        let mail = Mail::Join {
            session,
            document: document.into(),
            app,
            limits,
            subject,
            regions,
            access,
            is_ywebsocket: true,
            claim: Some(route.claim),
        };
        self.out.mail(route.link, mail);
        Flow::Hold
    }

    pub(crate) fn relay_frame(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let session = RemoteSession { conn: ConnRef { slot, serial: conn.serial }, key: 0 };
        let Some(relayed) = conn.cold_mut().relayed.as_mut() else { return Flow::Stop };
        if !relayed.under_way.has_room() {
            // Goes on when the owner has handled some.
            return Flow::Hold;
        }
        relayed.under_way.sent(payload.len());
        let owner = relayed.owner;
        self.out.mail(owner, Mail::Frame(session, payload.into()));
        Flow::Continue
    }

    /// The session of a y-websocket connection at this owner, if that is what `session` names.
    pub(crate) fn relayed_mut(&mut self, owner: u16, session: RemoteSession) -> Option<&mut Relayed> {
        let relayed = self.out.conn_at(session.conn)?.cold.as_mut()?.relayed.as_mut();
        relayed.filter(|relayed| session.key == 0 && relayed.owner == owner)
    }

    /// The owner took the session of a y-websocket connection.
    pub(crate) fn relay_begins(&mut self, session: RemoteSession) {
        let Some(conn) = self.out.conn_at(session.conn).filter(|conn| conn.phase == Phase::First) else {
            return;
        };
        conn.session = RELAYED;
        conn.phase = Phase::Open;
        let cold = conn.cold_mut();
        cold.reroutes = 0;
        if let Some(relayed) = &mut cold.relayed {
            relayed.is_joined = true;
        }
        self.out.schedule(session.conn.slot);
        self.resume(session.conn);
    }

    /// The owner of a y-websocket connection's document refused the session, or ended it.
    pub(crate) fn relay_refused(&mut self, conn: ConnRef, close: &Close) {
        let Some(cold) = self.out.conn_at(conn).and_then(|conn| conn.cold.as_mut()) else { return };
        let Some(relayed) = cold.relayed.take() else { return };
        if relayed.is_joined {
            let close = if is_lost(close) { come_back() } else { close.clone() };
            return self.close(conn.slot, &close);
        }
        if !is_lost(close) {
            self.refuse(conn.slot, close.clone());
        } else if cold.reroutes >= REROUTES_MAX {
            self.refuse(conn.slot, Close::try_again(RETRY_MS));
        } else {
            cold.reroutes += 1;
        }
        // What is still in its first phase asks again.
        self.resume(conn);
    }

    // Both dialects at home.

    /// The name of the document of a session that is or was remote.
    pub(crate) fn remote_name(&mut self, session: RemoteSession) -> Option<DocumentName> {
        let conn = self.out.conn_at(session.conn)?;
        let (app, cold) = (conn.app, conn.cold.as_ref()?);
        let name = match &cold.hocuspocus {
            None => cold.document.clone()?,
            Some(hocuspocus) => {
                let key = hocuspocus.keys.iter().find(|key| key.id == session.key)?;
                RawKey::parse(&key.raw).ok()?.name.into()
            }
        };
        self.document_name(app, &name)
    }

    pub(crate) fn confirm_route(&mut self, owner: u16, session: RemoteSession) {
        if owner < FIRST_LINK {
            return;
        }
        if let Some(name) = self.remote_name(session) {
            self.routes.confirm(&name, owner, self.out.now_ms);
        }
    }

    /// Notes what a refusal or an end says of the way to the document.
    pub(crate) fn note_refusal(&mut self, owner: u16, session: RemoteSession, close: &Close) {
        if owner >= FIRST_LINK
            && is_lost(close)
            && let Some(name) = self.remote_name(session)
        {
            self.routes.forget(&name);
        }
    }

    /// The owner ended a session that ran: the whole socket is closed.
    pub(crate) fn end_remotely(&mut self, owner: u16, session: RemoteSession, close: &Close) {
        let is_there = self.relayed_mut(owner, session).is_some()
            || matches!(
                self.remote_key(session).map(|key| &key.state),
                Some(KeyState::Remote { owner: of, .. } | KeyState::Joining { owner: of, .. }) if *of == owner
            );
        if !is_there {
            return;
        }
        self.note_refusal(owner, session, close);
        if is_lost(close) {
            self.withhold(vec![session.conn.slot]);
        }
        let close = if owner >= FIRST_LINK && is_lost(close) { come_back() } else { close.clone() };
        self.close(session.conn.slot, &close);
    }

    /// Within this node: the thread that was asked found the document in another region.
    pub(crate) fn found_elsewhere(&mut self, asked: u16, session: RemoteSession, route: Route) {
        let Some(name) = self.remote_name(session) else { return };
        let Some(key) = self.remote_key(session) else { return };
        let KeyState::Joining { owner, .. } = &mut key.state else { return };
        if *owner != asked {
            return;
        }
        *owner = route.link;
        let now_ms = self.out.now_ms;
        self.routes.put(name, route, now_ms);
        self.ask_owner(session, Some(route.claim));
    }

    /// Has a Hocuspocus key's document looked for anew, by the thread of this node that owns it: at once a few times, then after a
    /// while.
    pub(crate) fn reroute(&mut self, session: RemoteSession) {
        let Some(name) = self.remote_name(session) else { return };
        let thread = self.owner(&name);
        let Some(key) = self.remote_key(session) else { return };
        let KeyState::Joining { owner, reroutes, access, .. } = &mut key.state else { return };
        *owner = thread;
        let access = *access;
        if *reroutes < REROUTES_MAX {
            *reroutes += 1;
            return self.ask_owner(session, None);
        }
        *reroutes = 0;
        let Some(conn) = self.out.conn_at(session.conn) else { return };
        let (app, subject) = (conn.app, conn.subject.clone());
        let (thread, limits) = (self.out.settings.thread, self.apps.limits(app));
        let Some(app) = self.apps.get(app).cloned() else { return };
        let join = RemoteJoin { thread, session, limits, subject, access, is_ywebsocket: false, claim: None };
        self.postpone(join, &name.name, &app);
    }

    /// The while is over, and the session may be, too.
    pub(crate) fn ask_again(&mut self, session: RemoteSession) {
        let key = self.remote_key(session).map(|key| &key.state);
        if matches!(key, Some(KeyState::Joining { owner, .. }) if *owner < FIRST_LINK) {
            self.ask_owner(session, None);
        }
    }

    /// Mails the Join of a Hocuspocus key to whom it waits for.
    pub(crate) fn ask_owner(&mut self, session: RemoteSession, claim: Option<Pinned>) {
        let Some(key) = self.remote_key(session) else { return };
        let KeyState::Joining { owner, access, grant, .. } = &key.state else { return };
        let (owner, access, regions) = (*owner, *access, grant.regions.clone());
        let Ok(document) = RawKey::parse(&key.raw).map(|key| key.name.into()) else { return };
        let Some(conn) = self.out.conn_at(session.conn) else { return };
        let (app, subject) = (conn.app, conn.subject.clone());
        let limits = self.apps.limits(app);
        let Some(app) = self.apps.get(app).cloned() else { return };
        let is_ywebsocket = false;
        let mail =
            Mail::Join { session, document, app, limits, subject, regions, access, is_ywebsocket, claim };
        self.out.mail(owner, mail);
    }

    // Links.

    /// A link is gone, and with it what was under way on it: sessions that came over it leave, those that went over it are
    /// closed, so that their clients come back.
    pub fn link_lost(&mut self, link: u16) {
        self.routes.forget_link(link);
        self.credits.retain(|(owner, _)| *owner != link);
        self.taken.retain(|(thread, ..)| *thread != link);
        self.postponed.retain(|join| !join.is_of_thread(link));
        self.end_sessions_of_link(link);
        let conns: Vec<ConnRef> = self
            .out
            .conns
            .iter()
            .filter(|(_, conn)| conn.is_relayed_by(link))
            .map(|(slot, conn)| ConnRef { slot, serial: conn.serial })
            .collect();
        for conn in conns {
            self.lose_link(conn, link);
        }
    }

    fn end_sessions_of_link(&mut self, link: u16) {
        let came = self.remote_sessions.iter().filter(|((thread, _), _)| *thread == link);
        let mut came: Vec<u32> = came.map(|(_, session)| *session).collect();
        // In an order that does not depend on the table.
        came.sort_unstable();
        for session in came {
            self.leave(session);
        }
        let loading: Vec<u32> = self
            .documents
            .iter()
            .filter(|(_, found)| found.pending.is_some())
            .map(|(index, _)| index)
            .collect();
        for index in loading {
            let pending = self.documents.get_mut(index).and_then(|found| found.pending.as_mut());
            if let Some(pending) = pending {
                pending.remote_waiting.retain(|join| join.thread != link);
            }
        }
    }

    fn lose_link(&mut self, at: ConnRef, link: u16) {
        let Some(conn) = self.out.conn_at(at) else { return };
        let Some(cold) = conn.cold.as_mut() else { return };
        if cold.relayed.is_some() {
            return self.relay_refused(at, &come_back());
        }
        let Some(hocuspocus) = cold.hocuspocus.as_ref() else { return };
        let runs = |state: &KeyState| matches!(state, KeyState::Remote { owner, .. } if *owner == link);
        if hocuspocus.keys.iter().any(|key| runs(&key.state)) {
            return self.close(at.slot, &come_back());
        }
        let waits = |state: &KeyState| matches!(state, KeyState::Joining { owner, .. } if *owner == link);
        let waiting: Vec<u16> =
            hocuspocus.keys.iter().filter(|key| waits(&key.state)).map(|key| key.id).collect();
        for key in waiting {
            self.refused_remotely(link, RemoteSession { conn: at, key }, &come_back());
        }
    }
}

impl Conn {
    /// Whether one of its sessions runs over the link, or waits to.
    fn is_relayed_by(&self, link: u16) -> bool {
        let Some(cold) = self.cold.as_ref() else { return false };
        let of_key = |state: &KeyState| match state {
            KeyState::Remote { owner, .. } | KeyState::Joining { owner, .. } => *owner == link,
            _ => false,
        };
        cold.relayed.is_some_and(|relayed| relayed.owner == link)
            || cold.hocuspocus.as_ref().is_some_and(|all| all.keys.iter().any(|key| of_key(&key.state)))
    }
}
