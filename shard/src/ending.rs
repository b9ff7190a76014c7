//! How connections end: closed, refused with a delay, or cut; what they counted for is given back.

use crate::conn::{Cold, NONE, Phase};
use crate::effect::{Slot, SocketAction};
use crate::limits::HELD_REFUSALS_MAX;
use crate::shard::{Flow, Shard};
use pinwire_protocol::close::Close;
use pinwire_protocol::ws;

impl Shard {
    /// The socket reached EOF or failed.
    pub fn ended(&mut self, slot: Slot) {
        self.end_sessions(slot);
        self.drop_connection(slot);
    }

    pub(crate) fn drop_connection(&mut self, slot: Slot) {
        let Some(conn) = self.out.conns.remove(slot) else { return };
        if conn.phase == Phase::Held {
            self.out.held_refusals -= 1;
        }
        self.out.socket(slot, SocketAction::Close);
    }

    /// Closes a connection that has or had a session.
    pub fn close(&mut self, slot: Slot, close: &Close) {
        let Some(conn) = self.out.conns.get(slot) else { return };
        match conn.phase {
            Phase::Closing | Phase::Finishing => return,
            Phase::First | Phase::Held | Phase::Moving | Phase::Open => {}
        }
        self.end_sessions(slot);
        self.out.send_close(slot, close);
    }

    /// Closes a connection from within its own input.
    pub(crate) fn end(&mut self, slot: Slot, close: &Close) -> Flow {
        let is_first = self.out.conns.get(slot).is_some_and(|conn| conn.phase == Phase::First);
        if is_first {
            return self.refuse(slot, close.clone());
        }
        self.close(slot, close);
        // Its close frame is still to come: frames are decoded, messages ignored.
        Flow::Continue
    }

    /// Its peer does not speak the protocol.
    pub(crate) fn close_broken(&mut self, slot: Slot, error: ws::ProtocolError) {
        let is_over = self
            .out
            .conns
            .get(slot)
            .is_none_or(|conn| matches!(conn.phase, Phase::Closing | Phase::Finishing));
        self.end_sessions(slot);
        if !is_over {
            self.out.send_close(slot, &Close::new(error.close_code(), error.reason()));
        }
        // Nothing after this can be understood, the peer's close frame included.
        self.out.enter(slot, Phase::Finishing);
    }

    /// Refuses a y-websocket connection before it has a session, paced.
    pub(crate) fn refuse(&mut self, slot: Slot, close: Close) -> Flow {
        let now_ms = self.out.now_ms;
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let key = conn.cold_mut().refusal_key;
        self.out.stats.count_refusal(close.code);
        self.end_sessions(slot);
        let hold_ms = self.refusals.refuse(key, now_ms);
        if hold_ms == 0 || self.out.held_refusals >= HELD_REFUSALS_MAX {
            self.out.send_close(slot, &close);
            return Flow::Continue;
        }
        self.out.held_refusals += 1;
        let deadline = self.out.after(hold_ms);
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.phase = Phase::Held;
            conn.deadline = deadline;
            let cold = conn.cold_mut();
            // What is behind the message that is refused may be the client's close frame.
            let held_bytes = std::mem::take(&mut cold.held_bytes);
            *cold = Cold { refusal: Some(close), held_bytes, ..Cold::default() };
        }
        self.out.schedule(slot);
        Flow::Continue
    }

    /// Ends a connection's sessions and gives back what it counted for.
    pub(crate) fn end_sessions(&mut self, slot: Slot) {
        self.leave_remote_documents(slot);
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let sessions = conn.local_sessions();
        conn.session = NONE;
        if let Some(hocuspocus) = conn.hocuspocus_mut() {
            hocuspocus.keys.clear();
        }
        let app = std::mem::replace(&mut conn.app, NONE);
        for session in sessions {
            self.leave(session);
        }
        if let Some(counted) = self.apps.get(app) {
            counted.release_connection();
            self.apps.release(app);
        }
    }
}
