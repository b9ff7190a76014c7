//! A master, two replicas and three sentinels.

use super::server::{Options, ServerRig, command_at, link_to};
use super::{free_port, wait_until};
use crate::Link;
use std::fs;
use std::time::Duration;

/// What the sentinels call the master.
const MASTER: &str = "pins";

/// A master, two replicas and three sentinels, who replace a master that is silent for a while.
pub struct SentinelRig {
    servers: Vec<ServerRig>,
    sentinels: Vec<ServerRig>,
}

impl SentinelRig {
    /// Starts it, and waits until everybody knows of everybody. `silence`: a master that is silent for so long is replaced.
    pub fn start(silence: Duration) -> Self {
        let master = ServerRig::start(&Options::default());
        let of_master = ["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.port().to_string()];
        let replica = || ServerRig::start(&Options { more: of_master.to_vec(), ..Options::default() });
        let servers = vec![replica(), replica()];
        let sentinels = (0..3).map(|_| start_sentinel(master.port(), silence)).collect();
        let mut rig = Self { servers, sentinels };
        rig.servers.insert(0, master);
        wait_until("sentinels and replicas know of each other", || rig.is_complete());
        rig
    }

    fn is_complete(&self) -> bool {
        let links_up =
            |server: &ServerRig| server.command(&["INFO", "replication"]).contains("master_link_status:up");
        self.servers[1..].iter().all(links_up)
            && self.sentinels.iter().all(|sentinel| {
                let state = sentinel.command(&["SENTINEL", "MASTER", MASTER]);
                has_field(&state, "num-slaves", "2") && has_field(&state, "num-other-sentinels", "2")
            })
    }

    /// `redis+sentinel://h1:p,h2:p,h3:p/pins`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// A link with bounds as in production.
    pub fn link(&self) -> Link {
        link_to(&self.url())
    }

    /// The servers, the first master among them, without the sentinels.
    pub fn servers(&self) -> &[ServerRig] {
        &self.servers
    }

    /// The server that the sentinels name.
    pub fn master(&mut self) -> &mut ServerRig {
        let port = self.named_port();
        self.servers.iter_mut().find(|server| server.port() == port).expect("a server of the rig")
    }

    fn named_port(&self) -> u16 {
        let answer = self.sentinels[0].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        let port = answer.lines().filter_map(|line| line.trim().parse().ok()).next_back();
        port.expect("the master's port")
    }

    /// Has the sentinels replace the master in good order, and waits until another one serves.
    pub fn fail_over(&mut self) {
        let before = self.named_port();
        let answer = self.sentinels[0].command(&["SENTINEL", "FAILOVER", MASTER]);
        assert!(answer.starts_with("+OK"), "{answer}");
        self.wait_for_other_master(before);
    }

    /// Waits until the sentinels name another master than the one on this port, and it says so itself.
    pub fn wait_for_other_master(&self, before: u16) {
        wait_until("another master", || {
            let port = self.named_port();
            port != before && command_at(port, &["ROLE"]).is_some_and(|role| role.contains("master"))
        });
    }
}

fn has_field(state: &str, name: &str, value: &str) -> bool {
    let mut lines = state.lines().map(str::trim);
    // Behind a name come the length of the value, and the value.
    lines.any(|line| line == name) && lines.nth(1) == Some(value)
}

fn start_sentinel(master: u16, silence: Duration) -> ServerRig {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, path) = (free_port(), folder.path().join("sentinel.conf"));
    let silence = silence.as_millis();
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {dir}\nlogfile {dir}/log\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {MASTER} {silence}\nsentinel failover-timeout {MASTER} 5000\n\
         sentinel parallel-syncs {MASTER} 2\n",
        dir = folder.path().display()
    );
    fs::write(&path, text).expect("a configuration");
    let args = vec![path.display().to_string()];
    ServerRig::run("redis-sentinel", args, port, None, folder).expect("a sentinel that runs")
}
