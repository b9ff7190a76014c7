//! Who names the master, and how long a fail-over takes.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use pinwire_redis::{Host, Prober, Value, cmd, field};

use super::stores::{Found, Store};
use super::{Finding, Note, Outcome, finding, summed};

/// What a fail-over takes once the master is known to be gone: sentinels agree, a replica is promoted, nodes find it.
const FOLLOWS: Duration = Duration::from_secs(2);
/// A lease has to be so many fail-overs long: one, and two renewals that come late.
const LEASE_FACTOR: u32 = 3;
/// Sentinels at least: a majority of two is both.
const SENTINELS_MIN: u64 = 3;

/// What one sentinel says of the master.
#[derive(Debug)]
struct Said {
    master: Host,
    flags: String,
    replicas: u64,
    sentinels: u64,
    quorum: u64,
    down_after: Duration,
}

pub(super) async fn examine(
    store: &Store,
    prober: &Prober,
    hosts: &[Host],
    master: &str,
    findings: &mut Vec<Finding>,
) -> Result<Found, String> {
    let asked = join_all(hosts.iter().map(|host| ask(prober, host, master))).await;
    let mut notes = Vec::new();
    let mut said = Vec::new();
    for (host, outcome) in hosts.iter().zip(asked) {
        match outcome {
            Ok(one) => said.push((host, one)),
            Err(reason) => {
                let mend =
                    format!("its address in {}, its user (sentinel_user), or the sentinel itself", store.key);
                notes.push(Note::bad(
                    Outcome::Warn,
                    host,
                    format!("does not say where the master is: {reason}"),
                    mend,
                ));
            }
        }
    }
    notes.extend(said.iter().map(|(host, one)| look_at(host, one)));
    if said.len() * 2 <= hosts.len() {
        for note in &mut notes {
            note.outcome = if note.outcome == Outcome::Warn { Outcome::Fail } else { note.outcome };
        }
    }
    findings.extend(summed("redis-sentinel", &store.name, &notes));
    let masters: BTreeSet<&Host> = said.iter().map(|(_, one)| &one.master).collect();
    if masters.len() > 1 {
        let named: Vec<String> = masters.iter().map(ToString::to_string).collect();
        let found = format!("{}: sentinels name several masters: {}", store.name, named.join(", "));
        let mend = "wait while a fail-over is under way; else `SENTINEL RESET` on those that were cut off";
        findings
            .push(Finding { mend: Some(mend.to_owned()), ..finding("redis-sentinel", Outcome::Warn, found) });
    }
    findings.extend(lease(store, &said));
    let known = said.into_iter().map(|(_, one)| one.master).next();
    let known = known.ok_or_else(|| format!("no sentinel knows the master `{master}`"))?;
    let replicas = replicas(prober, hosts, master).await;
    Ok(Found { masters: vec![(known, Vec::new())], replicas })
}

async fn ask(prober: &Prober, host: &Host, master: &str) -> Result<Said, String> {
    let probe = prober.sentinel(host).await?;
    let mut command = cmd("SENTINEL");
    command.arg("MASTER").arg(master);
    let state = probe.ask(&command).await?;
    read(&state).ok_or_else(|| "its answer makes no sense".to_owned())
}

fn read(state: &Value) -> Option<Said> {
    let number = |name: &str| field(state, name)?.parse::<u64>().ok();
    Some(Said {
        master: Host { name: field(state, "ip")?, port: field(state, "port")?.parse().ok()? },
        flags: field(state, "flags")?,
        replicas: number("num-slaves")?,
        sentinels: number("num-other-sentinels")? + 1,
        quorum: number("quorum")?,
        down_after: Duration::from_millis(number("down-after-milliseconds")?),
    })
}

/// Replicas that sentinels know; nothing if they do not say, which few users may ask.
async fn replicas(prober: &Prober, hosts: &[Host], master: &str) -> Vec<Host> {
    let mut command = cmd("SENTINEL");
    command.arg("REPLICAS").arg(master);
    for host in hosts {
        let Ok(probe) = prober.sentinel(host).await else { continue };
        let Ok(Value::Array(all)) = probe.ask(&command).await else { continue };
        let host =
            |state| Some(Host { name: field(state, "ip")?, port: field(state, "port")?.parse().ok()? });
        return all.iter().filter_map(host).collect();
    }
    Vec::new()
}

fn look_at(host: &Host, said: &Said) -> Note {
    let Said { master, flags, replicas, sentinels, quorum, .. } = said;
    let found =
        format!("names {master}, with {replicas} replicas, {sentinels} sentinels and a quorum of {quorum}");
    if flags.contains("down") {
        return Note::bad(
            Outcome::Fail,
            host,
            format!("{found}, and says that it is down ({flags})"),
            "the master itself",
        );
    }
    if *quorum > *sentinels {
        let mend = format!("SENTINEL SET NAME quorum {}", sentinels / 2 + 1);
        return Note::bad(Outcome::Fail, host, format!("{found}: they never agree"), mend);
    }
    if *sentinels < SENTINELS_MIN {
        let found =
            format!("{found}: a majority has to agree, so that the loss of one of them ends all fail-overs");
        return Note::bad(Outcome::Warn, host, found, "three sentinels at least, on hosts of their own");
    }
    if *replicas == 0 {
        return Note::bad(
            Outcome::Warn,
            host,
            format!("{found}: nobody can take over"),
            "a replica: REPLICAOF HOST PORT",
        );
    }
    Note::good(host, found)
}

/// Whether leases outlast a fail-over.
fn lease(store: &Store, said: &[(&Host, Said)]) -> Option<Finding> {
    let lease = store.lease?;
    let down_after = said.iter().map(|(_, one)| one.down_after).max()?;
    let fail_over = down_after + FOLLOWS;
    let found = format!(
        "{}: a fail-over takes about {} (down-after-milliseconds {} and what follows), cluster.lease is {}",
        store.name,
        seconds(fail_over),
        down_after.as_millis(),
        seconds(lease)
    );
    if lease >= fail_over * LEASE_FACTOR {
        return Some(finding("redis-lease", Outcome::Good, found));
    }
    let shorter = (lease / LEASE_FACTOR).saturating_sub(FOLLOWS);
    let longer = format!("cluster.lease = \"{}s\"", (fail_over * LEASE_FACTOR).as_secs_f64().ceil());
    let mend = if shorter.is_zero() {
        longer
    } else {
        format!(
            "SENTINEL SET NAME down-after-milliseconds {} on each sentinel, or {longer}",
            shorter.as_millis()
        )
    };
    let found = format!(
        "{found}, less than {LEASE_FACTOR} times that: nodes may lose what they hold with each fail-over"
    );
    Some(Finding { mend: Some(mend), ..finding("redis-lease", Outcome::Warn, found) })
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
