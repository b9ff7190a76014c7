//! Awareness as stock clients keep it (y-protocols 1.0): clocks, renewal, expiry, and the answer to one's own removal.

use pinwire_protocol::document::awareness::{self, Awareness, Bounds, Entry};
use std::collections::BTreeMap;

/// Clients drop whom they have not heard of for so long, and renew themselves after half of it.
const OUTDATED_MS: u64 = 30_000;

#[derive(Debug)]
pub(super) struct StockAwareness {
    client: u64,
    pub(super) states: BTreeMap<u64, String>,
    meta: BTreeMap<u64, Meta>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    clock: u32,
    updated_ms: u64,
}

impl StockAwareness {
    pub(super) fn new(client: u64, state: Option<String>, now_ms: u64) -> Self {
        let mut new = Self { client, states: BTreeMap::new(), meta: BTreeMap::new() };
        new.set(Some("{}".to_owned()), now_ms);
        new.set(state, now_ms);
        new
    }

    pub(super) fn is_present(&self) -> bool {
        self.states.contains_key(&self.client)
    }

    pub(super) fn own(&self) -> Option<&String> {
        self.states.get(&self.client)
    }

    /// Sets the own state and raises the own clock.
    pub(super) fn set(&mut self, state: Option<String>, now_ms: u64) {
        let clock = self.meta.get(&self.client).map_or(0, |meta| meta.clock + 1);
        self.meta.insert(self.client, Meta { clock, updated_ms: now_ms });
        match state {
            Some(state) => self.states.insert(self.client, state),
            None => self.states.remove(&self.client),
        };
    }

    /// The body that announces these clients.
    pub(super) fn encode(&self, clients: &[u64]) -> Vec<u8> {
        let entries: Vec<Entry<'_>> = clients
            .iter()
            .map(|client| Entry {
                client: *client,
                clock: self.meta.get(client).map_or(0, |meta| meta.clock),
                json: self.states.get(client).map_or(awareness::NULL, String::as_str),
            })
            .collect();
        let mut body = Vec::new();
        awareness::append_body(&mut body, &entries);
        body
    }

    /// The body that announces everyone known.
    pub(super) fn encode_all(&self) -> Vec<u8> {
        self.encode(&self.states.keys().copied().collect::<Vec<_>>())
    }

    /// Takes in what the server sent; the clients that an `update` event would name.
    pub(super) fn apply(&mut self, body: &[u8], now_ms: u64) -> Result<Vec<u64>, String> {
        let body = Awareness::parse(body, &Bounds::default()).map_err(|error| error.to_string())?;
        let mut changed = Vec::new();
        for Entry { client, mut clock, json } in &body {
            let is_null = json == awareness::NULL;
            let known = self.meta.get(&client).copied();
            let current = known.map_or(0, |meta| meta.clock);
            let is_removal = current == clock && is_null && self.states.contains_key(&client);
            if current >= clock && !is_removal {
                continue;
            }
            if !is_null {
                self.states.insert(client, json.to_owned());
            } else if client == self.client && self.is_present() {
                // Nobody else may remove the own state: a higher clock says that it is still there.
                clock += 1;
            } else {
                self.states.remove(&client);
            }
            self.meta.insert(client, Meta { clock, updated_ms: now_ms });
            if known.is_some() || !is_null {
                changed.push(client);
            }
        }
        Ok(changed)
    }

    /// Drops everyone but oneself, as clients do when they lose their connection. The clocks stay.
    pub(super) fn forget_others(&mut self) {
        let own = self.client;
        self.states.retain(|client, _| *client == own);
    }

    /// Renews the own state and drops the outdated; the clients that an `update` event would name.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<u64> {
        let age = |meta: Option<&Meta>| meta.map_or(0, |meta| now_ms - meta.updated_ms);
        let mut changed = Vec::new();
        if self.is_present() && age(self.meta.get(&self.client)) >= OUTDATED_MS / 2 {
            self.set(self.own().cloned(), now_ms);
            changed.push(self.client);
        }
        let is_outdated = |client: &u64| *client != self.client && age(self.meta.get(client)) >= OUTDATED_MS;
        let outdated: Vec<u64> = self.states.keys().copied().filter(is_outdated).collect();
        for client in outdated {
            self.states.remove(&client);
            changed.push(client);
        }
        changed
    }
}
