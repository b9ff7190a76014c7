//! Which server of a Cluster has a key.

use crate::dial::Dialer;
use crate::endpoint::Host;
use crate::error::Error;
use crate::server::Server;
use arc_swap::ArcSwap;
use redis::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Slots of a Cluster.
const SLOTS: u16 = 16_384;
/// A server that does not tell the map in this time is passed over.
const MAP_TIMEOUT: Duration = Duration::from_millis(800);
/// The map is asked for once in this time at most, however many calls fail.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// Slots `first..=last` of one server.
#[derive(Clone)]
struct Range {
    first: u16,
    last: u16,
    server: Arc<Server>,
}

/// The servers of a Cluster, and who has which slots.
pub(crate) struct Slots {
    seeds: Vec<Host>,
    dialer: Arc<Dialer>,
    servers: Mutex<HashMap<Host, Arc<Server>>>,
    ranges: ArcSwap<Vec<Range>>,
    looked: tokio::sync::Mutex<Looked>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    reason: Arc<str>,
}

impl Slots {
    pub(crate) fn new(seeds: &[Host], dialer: Arc<Dialer>, changes: watch::Sender<u64>) -> Self {
        let (servers, ranges, looked) = (Mutex::default(), ArcSwap::default(), tokio::sync::Mutex::default());
        Self { seeds: seeds.to_vec(), dialer, servers, ranges, looked, changes }
    }

    /// Who has the slot of `key`.
    pub(crate) async fn owner(&self, key: &[u8]) -> Result<Arc<Server>, Error> {
        let slot = slot_of(key);
        if let Some(server) = self.known_owner(slot) {
            return Ok(server);
        }
        Box::pin(self.look()).await?;
        self.known_owner(slot)
            .ok_or_else(|| Error::out_of_reach(format!("no server of the Cluster has slot {slot}")))
    }

    fn known_owner(&self, slot: u16) -> Option<Arc<Server>> {
        let ranges = self.ranges.load();
        let range = ranges.iter().find(|range| range.first <= slot && slot <= range.last)?;
        Some(range.server.clone())
    }

    /// The server at `host`, known or not.
    pub(crate) fn server(&self, host: &Host) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Server::new(host.clone(), self.dialer.clone(), false));
        servers.entry(host.clone()).or_insert_with(new).clone()
    }

    /// Asks for the map again: servers that have slots first, then those of the URL.
    pub(crate) async fn look(&self) -> Result<(), Error> {
        let mut looked = self.looked.lock().await;
        if looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY_MIN) {
            let is_known = !self.ranges.load().is_empty();
            return if is_known { Ok(()) } else { Err(Error::OutOfReach(looked.reason.clone())) };
        }
        looked.at = Some(Instant::now());
        let mut reasons = Vec::new();
        for host in self.informants() {
            match self.ask(&self.server(&host)).await {
                Ok(ranges) => {
                    self.adopt(&ranges);
                    return Ok(());
                }
                Err(reason) => reasons.push(format!("{host}: {reason}")),
            }
        }
        looked.reason = reasons.join("; ").into();
        Err(Error::OutOfReach(looked.reason.clone()))
    }

    fn informants(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.ranges.load().iter().map(|range| range.server.host.clone()).collect();
        fastrand::shuffle(&mut hosts);
        hosts.extend(self.seeds.iter().cloned());
        let mut seen = Vec::new();
        hosts.retain(|host| {
            let is_new = !seen.contains(host);
            seen.push(host.clone());
            is_new
        });
        hosts
    }

    async fn ask(&self, server: &Server) -> Result<Vec<Range>, String> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = server.call(&command, Instant::now() + MAP_TIMEOUT).await;
        let answer = answer.map_err(|verdict| format!("no map of the Cluster ({verdict:?})"))?;
        let Value::Array(entries) = answer else {
            return Err("its map of the Cluster makes no sense".to_owned());
        };
        let mut ranges: Vec<Range> =
            entries.into_iter().filter_map(|entry| self.range_of(entry, &server.host)).collect();
        ranges.sort_by_key(|range| range.first);
        if ranges.is_empty() { Err("its map of the Cluster is empty".to_owned()) } else { Ok(ranges) }
    }

    /// `[first, last, [address, port, ...], replicas...]`. Without an address it is the one that was asked.
    fn range_of(&self, entry: Value, asked: &Host) -> Option<Range> {
        let Value::Array(parts) = entry else { return None };
        let number = |value: &Value| match value {
            Value::Int(number) => u16::try_from(*number).ok(),
            _ => None,
        };
        let (first, last) = (number(parts.first()?)?, number(parts.get(1)?)?);
        let Value::Array(node) = parts.get(2)? else { return None };
        let name: Option<String> = redis::from_redis_value(node.first()?.clone()).ok();
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.name.clone());
        let server = self.server(&Host { name, port: number(node.get(1)?)? });
        Some(Range { first, last, server })
    }

    fn adopt(&self, ranges: &[Range]) {
        let signature = |ranges: &[Range]| -> Vec<(u16, u16, Host)> {
            ranges.iter().map(|range| (range.first, range.last, range.server.host.clone())).collect()
        };
        let before = self.ranges.swap(Arc::new(ranges.to_vec()));
        if signature(&before) != signature(ranges) {
            self.changes.send_modify(|changes| *changes += 1);
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.retain(|host, _| {
                ranges.iter().any(|range| range.server.host == *host) || self.seeds.contains(host)
            });
        }
    }
}

/// The slot of a key in a Cluster: CRC-16/XMODEM of the key, or of what stands between its first braces.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    let crc = tagged.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), slot_of(b"foo{}{bar}"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
    }
}
