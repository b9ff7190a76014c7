//! One server: version, memory, disk, replicas.

use std::time::Duration;

use futures_util::future::join_all;
use pinwire_redis::{Host, Kind, Probe, Prober, cmd, from_redis_value, info_field};

use super::stores::{Found, Purpose};
use super::{Note, Outcome};

/// The oldest version that has all that is needed.
const VERSION_MIN: (u32, u32) = (7, 0);
/// What the tests run against.
const TESTED: &str = "7.0";
/// A replica that is so many seconds behind would be missing as much.
const LAG_MAX: u64 = 10;

/// A server that was reached.
pub(super) struct Seen {
    pub(super) host: Host,
    /// Of a Cluster.
    pub(super) slots: Vec<(u16, u16)>,
    /// All sections of `INFO`.
    pub(super) info: String,
    pub(super) took: Duration,
    pub(super) probe: Probe,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        info_field(&self.info, name)
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }

    pub(super) fn reach(&self) -> Note {
        if self.field("role") == "master" {
            let took = self.took.as_secs_f64() * 1000.0;
            return Note::good(&self.host, format!("answers within {took:.1} ms"));
        }
        let mend = "the master's address, or its sentinels (redis+sentinel://)";
        Note::bad(Outcome::Fail, &self.host, "is a replica, which takes no writes", mend)
    }
}

pub(super) fn version(seen: &Seen) -> Note {
    let text = seen.field("redis_version");
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < VERSION_MIN {
        let mend = format!("Redis {TESTED} or later");
        return Note::bad(Outcome::Fail, &seen.host, format!("is Redis {text}, which is too old"), mend);
    }
    Note::good(&seen.host, format!("is Redis {text} (tested with {TESTED})"))
}

pub(super) fn memory(seen: &Seen, purpose: Purpose) -> Note {
    let (policy, most, used) =
        (seen.field("maxmemory_policy"), seen.number("maxmemory"), seen.number("used_memory"));
    let bound = if most == 0 { "no bound".to_owned() } else { format!("a bound of {} MiB", most >> 20) };
    let found = format!("has {bound}, {} MiB in use, maxmemory-policy {policy}", used >> 20);
    if policy != "noeviction" {
        let what = match purpose {
            Purpose::Registry => "pins and records of apps",
            Purpose::Sessions => "documents",
        };
        // Without a bound nothing is evicted, until somebody sets one.
        let outcome = if most == 0 { Outcome::Warn } else { Outcome::Fail };
        let found = format!("{found}: a server that is full drops {what}");
        return Note::bad(
            outcome,
            &seen.host,
            found,
            "CONFIG SET maxmemory-policy noeviction, and CONFIG REWRITE",
        );
    }
    if most > 0 && used > most / 10 * 8 {
        let mend = "a larger maxmemory: what does not fit is refused";
        return Note::bad(Outcome::Warn, &seen.host, found, mend);
    }
    Note::good(&seen.host, found)
}

pub(super) async fn disk(seen: &Seen, purpose: Purpose) -> Note {
    let failed =
        [("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "write of the append-only file")]
            .into_iter()
            .find(|(field, _)| !matches!(seen.field(field), "ok" | ""));
    if let Some((_, what)) = failed {
        let found = format!("failed at its last {what}, and refuses writes while that lasts");
        return Note::bad(Outcome::Fail, &seen.host, found, "room on its disk, or what its log says");
    }
    if seen.field("aof_enabled") == "1" {
        return Note::good(&seen.host, "keeps an append-only file");
    }
    // Most users may not ask this.
    let mut get = cmd("CONFIG");
    get.arg("GET").arg("save");
    let answer = seen.probe.ask(&get).await.ok();
    let save = answer.and_then(|answer| pinwire_redis::field(&answer, "save"));
    match (save.as_deref(), purpose) {
        (Some(""), Purpose::Registry) | (None, Purpose::Registry) => {
            let seldom = if save.is_none() {
                "has no append-only file, and may have snapshots or not"
            } else {
                "keeps nothing on disk"
            };
            let found = format!("{seldom}: records of apps are lost with it, and its replicas");
            Note::bad(Outcome::Warn, &seen.host, found, "CONFIG SET appendonly yes, and CONFIG REWRITE")
        }
        (Some(""), Purpose::Sessions) => Note::good(
            &seen.host,
            "keeps nothing on disk: lost with all its replicas at once, sessions are what nodes and clients have",
        ),
        (None, Purpose::Sessions) => Note::good(&seen.host, "has no append-only file; sessions need none"),
        (Some(save), _) => Note::good(&seen.host, format!("takes snapshots (save {save})")),
    }
}

/// A replica as its master knows it.
struct Replica {
    host: Host,
    state: String,
    lag: u64,
}

/// `ip=10.0.0.2,port=6379,state=online,offset=42,lag=0`.
fn replica_of(text: &str) -> Option<Replica> {
    let field = |name: &str| text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let host = Host { name: field("ip")?.to_owned(), port: field("port")?.parse().ok()? };
    Some(Replica { host, state: field("state")?.to_owned(), lag: field("lag")?.parse().ok()? })
}

pub(super) async fn replicas(seen: &Seen, prober: &Prober, found: &Found, kind: &Kind) -> Vec<Note> {
    let count = seen.number("connected_slaves");
    let known: Vec<Replica> =
        (0..count).filter_map(|n| replica_of(seen.field(&format!("slave{n}")))).collect();
    if known.is_empty() {
        let (means, mend) = match kind {
            Kind::Single => (
                "while it is away nothing new can be opened, and what it has not on disk is lost with it",
                "a replica and three sentinels (redis+sentinel://), or a Cluster",
            ),
            _ => (
                "nobody can take its place",
                "a replica: REPLICAOF HOST PORT, or `redis-cli --cluster add-node`",
            ),
        };
        return vec![Note::bad(Outcome::Warn, &seen.host, format!("has no replica: {means}"), mend)];
    }
    let mut notes = join_all(known.iter().map(|replica| look_at(replica, prober))).await;
    for missing in found.replicas.iter().filter(|host| known.iter().all(|replica| replica.host != **host)) {
        if matches!(kind, Kind::Sentinel { .. }) {
            let text = "is a replica that sentinels know and that follows nobody";
            notes.push(Note::bad(
                Outcome::Warn,
                missing,
                text,
                "its log says why; `SENTINEL RESET` forgets one that is gone",
            ));
        }
    }
    notes
}

async fn look_at(replica: &Replica, prober: &Prober) -> Note {
    let Replica { host, state, lag } = replica;
    if state != "online" || *lag > LAG_MAX {
        let found =
            format!("is a replica that is {state}, {lag} s behind: what it lacks is lost if it takes over");
        return Note::bad(Outcome::Warn, host, found, "its log, and the network between it and its master");
    }
    let info = match prober.server(host).await {
        Ok(probe) => probe.ask(&cmd("INFO")).await,
        Err(reason) => Err(reason),
    };
    match info.map(from_redis_value::<String>) {
        Ok(Ok(info)) if info_field(&info, "maxmemory_policy") != "noeviction" => {
            let policy = info_field(&info, "maxmemory_policy");
            let found =
                format!("is a replica with maxmemory-policy {policy}, which counts once it takes over");
            Note::bad(Outcome::Warn, host, found, "CONFIG SET maxmemory-policy noeviction on replicas, too")
        }
        Ok(_) => Note::good(host, "is a replica that keeps up"),
        Err(reason) => {
            let found = format!("is a replica of no use to this node if it takes over: {reason}");
            let mend = "users and certificates have to be the same on all servers, and their addresses reachable from here \
                        (replica-announce-ip)";
            Note::bad(Outcome::Warn, host, found, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_read_as_its_master_tells_it() {
        let replica = replica_of("ip=10.0.0.2,port=6379,state=online,offset=42,lag=3").unwrap();
        assert_eq!(
            (replica.host.to_string(), &*replica.state, replica.lag),
            ("10.0.0.2:6379".to_owned(), "online", 3)
        );
        assert!(replica_of("").is_none() && replica_of("ip=10.0.0.2,port=x,state=online,lag=1").is_none());
    }
}
