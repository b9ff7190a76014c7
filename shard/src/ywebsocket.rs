//! A y-websocket connection: one document, named in the path, one session.

use crate::Unadmitted;
use crate::conn::{Handshake, NONE, Peer, Phase, RELAYED, SessionDialect};
use crate::edit::Outcome;
use crate::effect::{DocumentName, Effect, Slot};
use crate::grant::{Access, Grant};
use crate::limits::{FULL_RETRY_MS, SHARE_LOOK_MS, SHARE_PATIENCE_MS};
use crate::members::Opened;
use crate::shard::{Flow, Shard};
use crate::subject::Subject;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::dialect::{Dialect, classify};
use pinwire_protocol::document::name::is_valid_name;
use pinwire_protocol::document::ywebsocket::{self, Message};

impl Shard {
    /// The first data frame tells the dialect; nothing about the path's document is decided before it.
    pub(crate) fn first_message(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        match classify(payload) {
            Ok(Dialect::YWebsocket) => self.open_ywebsocket(slot, payload),
            Ok(Dialect::Hocuspocus) => self.open_hocuspocus(slot, payload),
            Err(_) => self.refuse(slot, Close::from(CloseCode::InvalidData)),
        }
    }

    fn open_ywebsocket(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let is_admitted = conn.app != NONE;
        let cold = conn.cold_mut();
        let Some(document) = cold.document.clone() else {
            return self.refuse(slot, Close::new(CloseCode::InvalidName, "no document in the path"));
        };
        if !is_admitted {
            if !is_valid_name(&document, &self.out.settings.names) {
                return self.refuse(slot, Close::new(CloseCode::InvalidName, "invalid document name"));
            }
            let grant = match &cold.handshake {
                Handshake::Missing => return self.refuse(slot, Close::from(CloseCode::MissingToken)),
                Handshake::Verifying => return Flow::Hold,
                Handshake::Judged(Err(close)) => {
                    let close = close.clone();
                    return self.refuse(slot, close);
                }
                Handshake::Judged(Ok(grant)) => grant.clone(),
            };
            match grant.policy.access(&document, cold.origin.as_deref()) {
                Err(close) => return self.refuse(slot, close),
                Ok(access) => cold.access = Some(access),
            }
            if let Err(close) = self.admit(slot, &grant) {
                let may_wait = close.code == CloseCode::TryAgainLater && self.awaits_share(slot, &grant);
                return if may_wait { Flow::Hold } else { self.refuse(slot, close) };
            }
            let end = self.end_of(&grant);
            if let Some(conn) = self.out.conns.get_mut(slot) {
                conn.expires = end;
            }
        }
        self.join_ywebsocket(slot, &document, payload)
    }

    /// Counts a connection for its app.
    pub(crate) fn admit(&mut self, slot: Slot, grant: &Grant) -> Result<(), Close> {
        let now_ms = self.out.now_ms;
        grant.app.admit_connection(grant.limits.max_connections).map_err(|refused| match refused {
            Unadmitted::Limit => Close::connection_limit(grant.limits.max_connections.into()),
            Unadmitted::Share => self.try_again(),
        })?;
        let app = self.apps.acquire(&grant.app, grant.limits);
        if !self.apps.has_operations(app, now_ms) {
            self.apps.release(app);
            grant.app.release_connection();
            return Err(Close::rate_limit(grant.limits.operations_per_minute.into()));
        }
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.app = app;
            conn.subject = Subject::from(&*grant.subject);
        }
        Ok(())
    }

    /// Whether a connection goes on waiting for what this node may admit of its app, which it has not been told yet.
    fn awaits_share(&mut self, slot: Slot, grant: &Grant) -> bool {
        let (now, until) = (self.out.now(), self.out.after(SHARE_PATIENCE_MS));
        let retry = self.out.after(SHARE_LOOK_MS);
        let Some(conn) = self.out.conns.get_mut(slot).filter(|_| grant.app.share().is_none()) else {
            return false;
        };
        let cold = conn.cold_mut();
        if cold.admission == 0 {
            cold.admission = until;
        }
        if now >= cold.admission {
            return false;
        }
        cold.retry = retry;
        self.out.schedule(slot);
        true
    }

    fn join_ywebsocket(&mut self, slot: Slot, document: &str, payload: &[u8]) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let app = conn.app;
        let is_settled = conn.settled;
        if conn.cold_mut().relayed.is_some() {
            // Its owner was asked.
            return Flow::Hold;
        }
        let access = conn.cold_mut().access.unwrap_or(Access::ReadOnly);
        let Some(name) = self.document_name(app, document) else { return Flow::Stop };
        let owner = self.owner(&name);
        if owner != self.out.settings.thread && !is_settled {
            return self.move_to(slot, owner);
        }
        if let Some(route) = self.route_of(&name) {
            return self.join_over_link(slot, document, access, route);
        }
        let peer = Peer::Local { slot, key: 0 };
        let limits = self.apps.limits(app);
        let session = match self.open_session(app, name, limits, peer, SessionDialect::YWebsocket, access) {
            Ok(Opened::Joined(session)) => session,
            Ok(Opened::Wait(index)) => {
                if let (Some(conn), Some(document)) =
                    (self.out.reference(slot), self.documents.get_mut(index))
                {
                    document.pending_mut().waiting.push(conn);
                }
                return Flow::Hold;
            }
            Err(close) => return self.refuse(slot, close),
        };
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.session = session;
            conn.phase = Phase::Open;
            conn.settled = true;
            conn.cool();
        }
        self.out.schedule(slot);
        self.ywebsocket_message(slot, payload)
    }

    /// Asks for the connection to be moved to the thread that owns its document.
    pub(crate) fn move_to(&mut self, slot: Slot, owner: u16) -> Flow {
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.phase = Phase::Moving;
        }
        self.out.effects.push_back(Effect::Move(slot, owner));
        Flow::Hold
    }

    pub(crate) fn document_name(&self, app: u32, name: &str) -> Option<DocumentName> {
        let app = self.apps.get(app)?;
        Some(app.document(name))
    }

    /// A writer is ahead of the compaction of its document: it is heard again when that is done.
    pub(crate) fn hold_for_compaction(&mut self, slot: Slot, session: u32) -> Flow {
        let index = self.session_document(session);
        if let (Some(conn), Some(document)) =
            (self.out.reference(slot), index.and_then(|index| self.documents.get_mut(index)))
        {
            document.pending_mut().waiting.push(conn);
        }
        Flow::Hold
    }

    pub(crate) fn ywebsocket_message(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        let Some(session) = self.out.conns.get(slot).map(|conn| conn.session) else { return Flow::Stop };
        if session == RELAYED {
            return self.relay_frame(slot, payload);
        }
        match self.ywebsocket_body(session, payload) {
            Outcome::Hold => self.hold_for_compaction(slot, session),
            Outcome::Full => self.end(slot, &Close::try_again(FULL_RETRY_MS)),
            Outcome::Invalid => self.end(slot, &Close::from(CloseCode::InvalidData)),
            Outcome::RateLimited(limit) => self.end(slot, &Close::rate_limit(limit)),
            // This dialect has no acknowledgement.
            Outcome::Done | Outcome::Known(_) | Outcome::Dropped | Outcome::Appended(_) => Flow::Continue,
        }
    }
    /// Handles a member's message, wherever its socket is.
    pub(crate) fn ywebsocket_body(&mut self, session: u32, payload: &[u8]) -> Outcome {
        match ywebsocket::decode(payload) {
            Ok(Message::SyncStep1 { state_vector }) => self.sync_step1(session, state_vector),
            Ok(Message::SyncStep2 { update } | Message::Update { update }) => self.edit(session, update),
            Ok(Message::Awareness(body)) => self.announce(session, body),
            Ok(Message::QueryAwareness) => self.query_awareness(session),
            // A server's message; harmless.
            Ok(Message::PermissionDenied { .. }) => Outcome::Done,
            Err(_) => Outcome::Invalid,
        }
    }
}
