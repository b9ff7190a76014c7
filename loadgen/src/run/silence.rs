//! Connections on which nothing comes: whoever waits for a server that was stopped, or that the network cut off, is never told.

use crate::run::Phase;
use crate::run::worker::Worker;

impl Worker {
    /// Something came for a client.
    pub(crate) fn heard_of(&mut self, client: u32) {
        if self.given.scenario.clients.silence.is_none() {
            return;
        }
        let now = self.now();
        if self.heard.len() <= client as usize {
            self.heard.resize(self.clients.len().max(client as usize + 1), now);
        }
        self.heard[client as usize] = now;
    }

    /// Gives up connections that were silent for too long.
    pub(crate) fn cut_silent(&mut self) {
        let Some(silence) = self.given.scenario.clients.silence else { return };
        if self.phase() >= Phase::Closing {
            return;
        }
        let now = self.now();
        for client in 0..self.heard.len() as u32 {
            let limit = silence.of(self.given.client_base.wrapping_add(client)).as_nanos() as u64;
            let quiet = now.saturating_sub(self.heard[client as usize]);
            if self.clients[client as usize].is_joined() && quiet > limit {
                self.cut(client, "nothing came");
            }
        }
    }
}
