//! Whether a Cluster has all its slots.

use std::collections::BTreeMap;

use pinwire_redis::{Host, Probe, Prober, Value, cmd, from_redis_value};

use super::stores::{Found, Store};
use super::{Finding, Outcome, finding};

/// Slots of a Cluster.
const SLOTS: u32 = 16_384;

/// Masters with their slots, and replicas.
type Map = (BTreeMap<Host, Vec<(u16, u16)>>, Vec<Host>);

pub(super) async fn examine(
    store: &Store,
    prober: &Prober,
    hosts: &[Host],
    findings: &mut Vec<Finding>,
) -> Result<Found, String> {
    let mut reasons = Vec::new();
    let mut map = None;
    for host in hosts {
        let asked = match prober.server(host).await {
            Ok(probe) => ask(&probe, host).await,
            Err(reason) => Err(reason),
        };
        match asked {
            Ok(found) if map.is_none() => map = Some(found),
            Ok(_) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    let (masters, replicas) = map.ok_or_else(|| reasons.join("; "))?;
    if !reasons.is_empty() {
        let found =
            format!("{}: not all servers of {} answer: {}", store.name, store.key, reasons.join("; "));
        let mend = "servers that are gone out of the URL: the others tell where everything is".to_owned();
        findings.push(Finding { mend: Some(mend), ..finding("redis-slots", Outcome::Warn, found) });
    }
    let covered: u32 = masters.values().flatten().map(|(first, last)| u32::from(last - first) + 1).sum();
    let found = format!("{}: {} masters have {covered} of {SLOTS} slots", store.name, masters.len());
    findings.push(if covered == SLOTS {
        finding("redis-slots", Outcome::Good, found)
    } else {
        let found = format!("{found}: what lies in the others cannot be opened, and no lease is renewed");
        let mend = "`redis-cli --cluster fix HOST:PORT`, or the servers that have them".to_owned();
        Finding { mend: Some(mend), ..finding("redis-slots", Outcome::Fail, found) }
    });
    Ok(Found { masters: masters.into_iter().collect(), replicas })
}

async fn ask(probe: &Probe, asked: &Host) -> Result<Map, String> {
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let answer = probe.ask(&command).await.map_err(|reason| {
        let mend = if reason.contains("no permissions") { " (ACL SETUSER USER +cluster|slots)" } else { "" };
        format!("{asked}: CLUSTER SLOTS: {reason}{mend}")
    })?;
    let Value::Array(ranges) = answer else { return Err(format!("{asked}: it is no server of a Cluster")) };
    let (mut masters, mut replicas) = (BTreeMap::<Host, Vec<(u16, u16)>>::new(), Vec::new());
    for range in &ranges {
        let Value::Array(parts) = range else { continue };
        let (Some(first), Some(last)) = (number(parts.first()), number(parts.get(1))) else { continue };
        let mut servers = parts.iter().skip(2).filter_map(|part| server(part, asked));
        let Some(master) = servers.next() else { continue };
        masters.entry(master).or_default().push((first, last));
        replicas.extend(servers);
    }
    replicas.sort();
    replicas.dedup();
    if masters.is_empty() {
        return Err(format!("{asked}: nobody has any slot"));
    }
    Ok((masters, replicas))
}

fn number(value: Option<&Value>) -> Option<u16> {
    match value? {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// Without an address it is the one that was asked.
fn server(part: &Value, asked: &Host) -> Option<Host> {
    let Value::Array(parts) = part else { return None };
    let name: Option<String> = from_redis_value(parts.first()?.clone()).ok();
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.name.clone());
    Some(Host { name, port: number(parts.get(1))? })
}
