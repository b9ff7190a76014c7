//! What is due: when connections are asked whether they are still there, and given up.

use crate::conn::{Handshake, Phase};
use crate::effect::{ConnRef, Effect, Slot};
use crate::limits::{SILENT_MS, ticks};
use crate::shard::{DOCUMENT_KEY, Shard};
use crate::wheel::Tick;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::ws;

impl Shard {
    /// Everything that is due by the time of the turn.
    pub(crate) fn fire_deadlines(&mut self) {
        let now_ms = self.out.now_ms;
        while let Some((tick, keys)) = self.out.wheel.advance(now_ms) {
            for key in keys {
                if key & DOCUMENT_KEY != 0 {
                    let index = key & !DOCUMENT_KEY;
                    if self.documents.get(index).is_some_and(|document| document.due == tick) {
                        self.document_deadline(index);
                    }
                } else if self.out.conns.get(key).is_some_and(|conn| conn.due == tick) {
                    self.connection_deadline(key);
                }
            }
        }
    }

    fn connection_deadline(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if now >= conn.next_deadline(&self.out.settings) {
            match conn.phase {
                Phase::First => self.first_deadline(slot),
                Phase::Held => {
                    let refusal = conn.cold_mut().refusal.take();
                    self.out.send_close(slot, &refusal.unwrap_or(Close::from(CloseCode::Policy)));
                }
                Phase::Moving => conn.deadline = now + ticks(SILENT_MS),
                Phase::Closing => self.out.enter(slot, Phase::Finishing),
                Phase::Finishing => self.drop_connection(slot),
                Phase::Open => self.open_deadline(slot),
            }
        }
        self.out.schedule(slot);
    }

    fn first_deadline(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get(slot) else { return };
        if now >= conn.deadline {
            return self.silent(slot);
        }
        self.resume(ConnRef { slot, serial: conn.serial });
    }

    /// No first frame came in time, or what it needs did not.
    fn silent(&mut self, slot: Slot) {
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let is_missing_token = matches!(conn.cold_mut().handshake, Handshake::Missing);
        let close = if conn.stalled {
            // It said something, and waits for a verdict or its document.
            Close::try_again(1_000)
        } else if is_missing_token {
            Close::from(CloseCode::MissingToken)
        } else {
            Close::from(CloseCode::Idle)
        };
        self.refuse(slot, close);
    }

    fn open_deadline(&mut self, slot: Slot) {
        if self.end_expired(slot) {
            return;
        }
        let now = self.out.now();
        let settings = &self.out.settings;
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let reference = ConnRef { slot, serial: conn.serial };
        if conn.is_blocked() {
            if now >= conn.deadline {
                conn.deadline = now + settings.slow_reader;
                self.out.effects.push_back(Effect::Backlog(slot, conn.backlog()));
            }
            return;
        }
        if conn.pinged && now >= conn.deadline {
            if !conn.stalled {
                return self.close(slot, &Close::from(CloseCode::Idle));
            }
            // It is not listened to, so its silence means nothing; and that it has gone is heard from the kernel alone, which refuses
            // what is sent.
            conn.pinged = false;
        }
        // Ping and idle frame leave together where the later of them is nearly due: one call for both, and one waking of the
        // peer. An idle frame that comes early costs four bytes.
        let is_silent = |ping: Tick| !conn.pinged && now >= conn.last_received + ping;
        let has_said_nothing = |time: Tick| now >= conn.last_data + time;
        let is_idle = has_said_nothing(settings.idle_frame)
            || is_silent(settings.ping) && has_said_nothing(settings.idle_frame / 4);
        let is_ping_due = is_silent(if is_idle { settings.ping - settings.ping / 4 } else { settings.ping });
        let is_retry_due = conn.cold.as_ref().is_some_and(|cold| cold.retry != 0 && now >= cold.retry);
        if is_ping_due {
            conn.pinged = true;
            // Sent early or not, the answer is due when it always is.
            conn.deadline = match conn.stalled {
                true => now + settings.ping,
                false => now.max(conn.last_received + settings.ping) + settings.pong,
            };
            self.out.control(slot, |out| ws::append_ping(out, &[], None));
        }
        if is_idle {
            self.send_idle_frame(slot);
        }
        self.deny_unauthenticated(slot);
        if is_retry_due {
            self.resume(reference);
        }
    }

    /// The answer to [`Effect::Backlog`]: how many bytes wait for the socket now.
    pub fn backlog(&mut self, slot: Slot, noted: u32, backlog: usize) {
        let Some(conn) = self.out.conns.get_mut(slot).filter(|conn| conn.is_blocked()) else { return };
        let backlog = backlog.clamp(1, u32::MAX as usize) as u32;
        if backlog < noted {
            conn.cold_mut().backlog = backlog;
            return;
        }
        self.end_sessions(slot);
        self.out.send_close(slot, &Close::from(CloseCode::SlowReader));
        // It takes no byte: neither will it take this frame, and waiting for an answer is pointless.
        self.out.enter(slot, Phase::Finishing);
    }
}
