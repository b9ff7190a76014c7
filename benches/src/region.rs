//! A region of two servers over one Redis: nodes, or Hocuspocus with its Redis extension. All of it is on the first processor.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use pinwire_loadgen::scenario::Auth;
use pinwire_redis::rig::{Options, ServerRig, command_at};

use crate::node::{NodeArgs, NodeUnderTest};
use crate::peers::{PeerServer, Peers};
use crate::procfs::process_time;
use crate::sides::{Side, node_args, on_first_processor};
use crate::tokens::uuid;

/// Servers of the region.
const SERVERS: usize = 2;

/// A running region.
pub struct Region {
    servers: Vec<Server>,
    secret: Option<String>,
    redis: ServerRig,
}

enum Server {
    Node(NodeUnderTest),
    Peer(PeerServer),
}

/// What a region had used up at a moment.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Processor time of the servers, together.
    pub servers: Duration,
    /// Processor time of Redis.
    pub redis: Duration,
    /// Bytes that Redis received.
    pub bytes_in: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Commands by name, those of scripts included.
    pub commands: BTreeMap<String, u64>,
}

impl Region {
    /// Starts a Redis without persistence, and two servers.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(side: Side, peers: &Peers) -> Result<Self> {
        let redis = on_first_processor(|| Ok(ServerRig::start(&Options::default())))?;
        let secret = side.peer().is_none().then(uuid);
        let mut servers = Vec::new();
        for number in 0..SERVERS {
            let name = format!("{}-{number}", side.name().replace([' ', ','], "-"));
            servers.push(on_first_processor(|| match &secret {
                Some(secret) => {
                    let (redis, name) = (Some(redis.url()), Some(name));
                    let args = NodeArgs { redis, name, ..node_args(secret) };
                    Ok(Server::Node(NodeUnderTest::start(&args)?))
                }
                None => Ok(Server::Peer(peers.start_beside_others(redis.port(), &name)?)),
            })?);
        }
        Ok(Self { servers, secret, redis })
    }

    /// What the load generator dials, in turn.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let address = |server: &Server| match server {
            Server::Node(node) => node.address(),
            Server::Peer(peer) => peer.address(),
        };
        self.servers.iter().map(|server| format!("ws://{}", address(server))).collect()
    }

    /// What it shows.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.secret.clone().map_or(Auth::None, Auth::Secret)
    }

    /// Reads what has been used up.
    ///
    /// # Errors
    /// Redis does not say which process it is.
    pub fn usage(&self) -> Result<impl Fn() -> Result<Usage> + Send + 'static> {
        let port = self.redis.port();
        let pid = |server: &Server| match server {
            Server::Node(node) => node.pid(),
            Server::Peer(peer) => peer.pid(),
        };
        let servers: Vec<u32> = self.servers.iter().map(pid).collect();
        let redis = field(&self.redis.command(&["INFO", "server"]), "process_id").context("process_id")?;
        let redis = u32::try_from(redis)?;
        Ok(move || {
            let info = command_at(port, &["INFO", "everything"]).context("Redis does not answer")?;
            let number = |name| field(&info, name).with_context(|| format!("INFO says no {name}"));
            let mut spent = Duration::ZERO;
            for pid in &servers {
                spent += process_time(*pid)?;
            }
            Ok(Usage {
                servers: spent,
                redis: process_time(redis)?,
                bytes_in: number("total_net_input_bytes")?,
                bytes_out: number("total_net_output_bytes")?,
                commands: commands(&info),
            })
        })
    }

    /// Ends the servers.
    ///
    /// # Errors
    /// A node ended with an error.
    pub fn stop(self) -> Result<()> {
        for server in self.servers {
            if let Server::Node(node) = server {
                node.stop()?;
            }
        }
        Ok(())
    }
}

impl Usage {
    /// What was used since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let commands = self.commands.iter().map(|(name, calls)| {
            (name.clone(), calls.saturating_sub(before.commands.get(name).copied().unwrap_or(0)))
        });
        Self {
            servers: self.servers.saturating_sub(before.servers),
            redis: self.redis.saturating_sub(before.redis),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            commands: commands.filter(|(_, calls)| *calls > 0).collect(),
        }
    }

    /// Calls of a command.
    #[must_use]
    pub fn calls(&self, name: &str) -> u64 {
        self.commands.get(name).copied().unwrap_or(0)
    }
}

/// A number that `INFO` says.
fn field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().parse().ok()
}

/// Lines such as `cmdstat_evalsha:calls=17,usec=..`.
fn commands(info: &str) -> BTreeMap<String, u64> {
    let command = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_info_says_is_read_by_exact_names() {
        let info = "process_id:12\r\ntotal_net_input_bytes:34\r\ncmdstat_evalsha:calls=5,usec=9,usec_per_call=1.8\r\n";
        assert_eq!(field(info, "process_id"), Some(12));
        assert_eq!(field(info, "process"), None);
        assert_eq!(commands(info), BTreeMap::from([("evalsha".to_owned(), 5)]));
    }

    #[test]
    fn usage_is_told_since_a_moment_and_leaves_out_what_was_not_called() {
        let at = |calls| Usage {
            commands: BTreeMap::from([("publish".to_owned(), calls), ("info".to_owned(), 1)]),
            ..Usage::default()
        };
        let since = at(7).since(&at(3));
        assert_eq!((since.calls("publish"), since.calls("info")), (4, 0));
        assert_eq!(since.commands.len(), 1);
    }
}
