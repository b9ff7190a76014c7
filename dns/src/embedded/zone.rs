//! The view of the pool, and what the zone has by it.

use crate::SettingError;
use crate::keeper::Standing;
use crate::name::{host_name, text};
use crate::provider::Addresses;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{LowerName, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shorter times between looks of servers that copy the zone, which there are none of. Some resolvers check that they are sound.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

/// What a zone has, as its pools say now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneView {
    /// Names of regions.
    pub names: Vec<ZoneName>,
    /// The nodes that answer for the zone, as its parent delegates it to them.
    pub servers: Vec<NameServer>,
}

/// A region's name in the zone, or the zone itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneName {
    /// The whole name.
    pub name: String,
    /// Its pool.
    pub members: Vec<PoolMember>,
}

/// A node that a name may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolMember {
    /// What clients reach it at.
    pub addresses: Addresses,
    /// Those that are out stand in an answer only if none is in; the dead never.
    pub standing: Standing,
    /// From 0 to 1000. Who has more room stands in more answers.
    pub occupancy_permille: u32,
}

/// A node that answers for the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its name, such as `ns1.eu-central-1.example.net`.
    pub name: String,
    /// Its addresses, if the name is in the zone: the parent has them as glue.
    pub addresses: Addresses,
}

/// What stands in every answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) apex: LowerName,
    pub(crate) contact: Name,
    pub(crate) ttl_s: u32,
    pub(crate) negative_ttl_s: u32,
    pub(crate) addresses_max: usize,
}

/// The zone, ready to answer from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) fixed: Fixed,
    pub(crate) names: BTreeMap<LowerName, Vec<PoolMember>>,
    pub(crate) servers: Vec<(Name, Addresses)>,
    /// Where those in the zone stand among them.
    server_names: BTreeMap<LowerName, usize>,
    /// Names that have no records, but names below them that have.
    between: BTreeSet<LowerName>,
    serial: u32,
}

/// What there is of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// The name of a region.
    Region(&'a [PoolMember]),
    /// A name server, which is no region.
    Server(&'a Addresses),
    /// It exists, and has no records of its own beyond those of the zone itself.
    Bare,
    /// There is no such name.
    Nothing,
}

impl Zone {
    /// The zone by this view. What cannot be used of the view is left out, and returned.
    pub(crate) fn new(fixed: Fixed, view: &ZoneView, before: Option<&Self>) -> (Self, Vec<SettingError>) {
        let mut faults = Vec::new();
        let mut zone = Self {
            fixed,
            names: BTreeMap::new(),
            servers: Vec::new(),
            server_names: BTreeMap::new(),
            between: BTreeSet::new(),
            serial: 0,
        };
        for region in &view.names {
            match zone.inside("names", &region.name) {
                Ok(name) => {
                    zone.add_between(&name);
                    zone.names.entry(name).or_default().extend(region.members.iter().cloned());
                }
                Err(fault) => faults.push(fault),
            }
        }
        for server in &view.servers {
            match host_name("servers", &server.name) {
                Ok(name) => {
                    let lower = LowerName::new(&name);
                    if zone.fixed.apex.zone_of(&lower) {
                        zone.add_between(&lower);
                        zone.server_names.insert(lower, zone.servers.len());
                    }
                    zone.servers.push((name, server.addresses.clone()));
                }
                Err(fault) => faults.push(fault),
            }
        }
        zone.serial = zone.serial_after(before);
        (zone, faults)
    }

    fn inside(&self, setting: &'static str, given: &str) -> Result<LowerName, SettingError> {
        let name = LowerName::new(&host_name(setting, given)?);
        if self.fixed.apex.zone_of(&name) {
            return Ok(name);
        }
        let fault = format!("{given} is not in the zone {}", text(&self.fixed.apex));
        Err(SettingError::new(setting, fault, "give names of the zone alone"))
    }

    fn add_between(&mut self, name: &LowerName) {
        let mut above = name.base_name();
        while above != self.fixed.apex && self.fixed.apex.zone_of(&above) {
            self.between.insert(above.clone());
            above = above.base_name();
        }
    }

    /// The serial changes with the pool, but not with how full its nodes are. It is about the time of the change, so that it does
    /// not fall when a node restarts.
    fn serial_after(&self, before: Option<&Self>) -> u32 {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        match before {
            Some(before) if self.is_like(before) => before.serial,
            Some(before) => now_s.max(before.serial.saturating_add(1)),
            None => now_s,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let pools = |zone: &Self| -> BTreeMap<LowerName, BTreeSet<(Addresses, Standing)>> {
            let pool = |members: &Vec<PoolMember>| {
                members.iter().map(|member| (member.addresses.clone(), member.standing)).collect()
            };
            zone.names.iter().map(|(name, members)| (name.clone(), pool(members))).collect()
        };
        self.servers == other.servers && pools(self) == pools(other)
    }

    pub(crate) fn find(&self, name: &LowerName) -> Found<'_> {
        if let Some(members) = self.names.get(name) {
            return Found::Region(members);
        }
        if let Some((_, addresses)) = self.server_names.get(name).and_then(|at| self.servers.get(*at)) {
            return Found::Server(addresses);
        }
        if *name == self.fixed.apex || self.between.contains(name) { Found::Bare } else { Found::Nothing }
    }

    pub(crate) fn soa(&self) -> SOA {
        let first = self.servers.first().map(|(name, _)| name.clone());
        SOA::new(
            first.unwrap_or_else(|| Name::from(&self.fixed.apex)),
            self.fixed.contact.clone(),
            self.serial,
            REFRESH_S,
            RETRY_S,
            EXPIRE_S,
            self.fixed.negative_ttl_s,
        )
    }

    #[cfg(test)]
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }
}
