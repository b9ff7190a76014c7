//! A registry, or the region's sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pinwire_redis::{Endpoint, Host, Kind, Prober, cmd};
use pinwire_registry::{Answer, NodeView, REVISION, RedisRegistry, Registry, Request};

use super::server::Seen;
use super::{Finding, Note, Outcome, finding, rights, sentinels, server, slots, summed};
use crate::cluster::link;
use crate::config::{License, RedisUrl};

/// The longest that one server is waited for, to connect and for each answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where the registry keeps what all nodes that live know of its data.
const REVISION_KEY: &str = "pinwire:1:{apps-00}:revision";

/// What a Redis is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Registry,
    Sessions,
}

/// Servers that belong together, as the configuration has them.
#[derive(Debug)]
pub(super) struct Store {
    /// As it is called here.
    pub(super) name: String,
    /// The key of the configuration.
    pub(super) key: String,
    pub(super) purpose: Purpose,
    url: RedisUrl,
    /// What a fail-over has to be short against; `None` where no lease depends on it.
    pub(super) lease: Option<Duration>,
}

/// Servers of a store, as they were found.
pub(super) struct Found {
    /// With the slots that each has, of a Cluster.
    pub(super) masters: Vec<(Host, Vec<(u16, u16)>)>,
    pub(super) replicas: Vec<Host>,
}

impl Store {
    pub(super) fn registry(license: &License, lease: Duration) -> Self {
        Self {
            name: format!("registry {}", license.code),
            key: format!("cluster.registries.{}", license.code),
            purpose: Purpose::Registry,
            url: license.url.clone(),
            lease: Some(lease),
        }
    }

    pub(super) fn sessions(url: &RedisUrl) -> Self {
        let (name, key) = ("sessions".to_owned(), "cluster.session".to_owned());
        Self { name, key, purpose: Purpose::Sessions, url: url.clone(), lease: None }
    }

    pub(super) async fn examine(&self) -> Vec<Finding> {
        let endpoint: Endpoint = match self.url.secret().parse() {
            Ok(endpoint) => endpoint,
            Err(error) => return vec![self.unreached(&error.to_string())],
        };
        let prober = match Prober::new(&endpoint, PATIENCE) {
            Ok(prober) => prober,
            Err(error) => return vec![self.unreached(&error.to_string())],
        };
        let mut findings = Vec::new();
        let found = match endpoint.kind() {
            Kind::Single => Ok(Found { masters: of(endpoint.hosts()), replicas: Vec::new() }),
            Kind::Sentinel { master } => {
                sentinels::examine(self, &prober, endpoint.hosts(), master, &mut findings).await
            }
            Kind::Cluster => slots::examine(self, &prober, endpoint.hosts(), &mut findings).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                findings.push(self.unreached(&reason));
                return findings;
            }
        };
        let seen = join_all(found.masters.iter().map(|(host, slots)| see(&prober, host, slots))).await;
        let (seen, unreached): (Vec<_>, Vec<_>) = seen.into_iter().partition(Result::is_ok);
        let seen: Vec<Seen> = seen.into_iter().flatten().collect();
        findings.extend(unreached.into_iter().filter_map(Result::err).map(|reason| self.unreached(&reason)));
        if seen.is_empty() {
            return findings;
        }
        findings.extend(summed("redis", &self.name, &seen.iter().map(Seen::reach).collect::<Vec<_>>()));
        let notes: Vec<Note> = seen.iter().map(server::version).collect();
        findings.extend(summed("redis-version", &self.name, &notes));
        let mut granted = Vec::new();
        for one in &seen {
            granted.extend(rights::examine(self.purpose, &endpoint, &prober, one).await);
        }
        findings.extend(summed("redis-rights", &self.name, &granted));
        let notes: Vec<Note> = seen.iter().map(|one| server::memory(one, self.purpose)).collect();
        findings.extend(summed("redis-memory", &self.name, &notes));
        let notes = join_all(seen.iter().map(|one| server::disk(one, self.purpose))).await;
        findings.extend(summed("redis-disk", &self.name, &notes));
        let notes =
            join_all(seen.iter().map(|one| server::replicas(one, &prober, &found, endpoint.kind()))).await;
        findings.extend(summed("redis-replicas", &self.name, &notes.concat()));
        if self.purpose == Purpose::Registry {
            findings.push(self.schema(&seen[0]).await);
        }
        findings
    }

    /// Whether this version may write, and who does already.
    async fn schema(&self, seen: &Seen) -> Finding {
        let mut get = cmd("GET");
        get.arg(REVISION_KEY);
        let revision = seen.probe.text(&get).await.ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if revision > REVISION {
            let found = format!(
                "{}: nodes of a later version write it (revision {revision}); this one knows revision {REVISION}",
                self.name
            );
            return Finding {
                mend: Some("a node of the version that the others have".to_owned()),
                ..finding("redis-schema", Outcome::Fail, found)
            };
        }
        let found = match self.nodes().await {
            Ok(nodes) => format!(
                "{}: revision {}, of which this node knows {REVISION}; {}",
                self.name,
                revision.max(1),
                versions(&nodes)
            ),
            Err(reason) => {
                let found = format!("{}: its nodes cannot be listed: {reason}", self.name);
                return Finding {
                    mend: Some("what the other findings say about this Redis".to_owned()),
                    ..finding("redis-schema", Outcome::Fail, found)
                };
            }
        };
        finding("redis-schema", Outcome::Good, found)
    }

    /// The nodes that live, as the registry knows them: asked the way a node asks.
    pub(super) async fn nodes(&self) -> Result<Vec<NodeView>, String> {
        let link = link(&self.url).map_err(|error| error.to_string())?;
        match RedisRegistry::new(link).ask(Request::Nodes).await {
            Ok(Answer::Nodes(nodes)) => Ok(nodes),
            Ok(_) => Err("its answer makes no sense".to_owned()),
            Err(error) => Err(error.reason.to_string()),
        }
    }

    fn unreached(&self, reason: &str) -> Finding {
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        let mend = if has(&["WRONGPASS", "NOAUTH", "AuthenticationFailed", "invalid username"]) {
            format!("the user and the password in {}; `ACL LIST` on the server shows who there is", self.key)
        } else if has(&["TLS", "certificate"]) {
            format!(
                "?ca=FILE in {} with the authority of the server's certificate, which has to name this host",
                self.key
            )
        } else {
            format!("the address in {}; `redis-cli -h HOST -p PORT PING` from this host says more", self.key)
        };
        let found = format!("{} ({}) is not reached: {reason}", self.name, self.url);
        Finding { mend: Some(mend), ..finding("redis", Outcome::Fail, found) }
    }
}

fn of(hosts: &[Host]) -> Vec<(Host, Vec<(u16, u16)>)> {
    hosts.iter().map(|host| (host.clone(), Vec::new())).collect()
}

async fn see(prober: &Prober, host: &Host, slots: &[(u16, u16)]) -> Result<Seen, String> {
    let probe = prober.server(host).await?;
    let began = Instant::now();
    let info = probe.text(&cmd("INFO")).await.map_err(|reason| format!("{host}: INFO: {reason}"))?;
    Ok(Seen { host: host.clone(), slots: slots.to_vec(), info, took: began.elapsed(), probe })
}

/// How many nodes of which version. After a fail-over a node may have two lives for a while.
fn versions(nodes: &[NodeView]) -> String {
    let by_name: BTreeMap<_, _> =
        nodes.iter().map(|view| ((&view.node.region, &view.node.name), &*view.version)).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    for version in by_name.into_values() {
        *counts.entry(version).or_default() += 1;
    }
    match counts.len() {
        0 => "no node lives".to_owned(),
        _ => {
            let each: Vec<String> =
                counts.iter().map(|(version, count)| format!("{count} of version {version}")).collect();
            format!("nodes that live: {}", each.join(", "))
        }
    }
}
