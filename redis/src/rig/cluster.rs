//! Three masters that share the slots.

use super::server::{Options, ServerRig, link_to};
use super::{free_port, wait_until};
use crate::Link;

const SLOTS: u16 = 16_384;
const MASTERS: u16 = 3;

/// Three masters that share the slots.
pub struct ClusterRig {
    servers: Vec<ServerRig>,
}

impl ClusterRig {
    /// Starts it, and waits until every server says that all slots are served.
    pub fn start() -> Self {
        let rig = Self { servers: (0..MASTERS).map(|_| start_server()).collect() };
        for (index, server) in (0..MASTERS).zip(&rig.servers) {
            let (first, last) = (index * (SLOTS / MASTERS), (index + 1) * (SLOTS / MASTERS) - 1);
            let last = if index + 1 == MASTERS { SLOTS - 1 } else { last };
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for other in &rig.servers[1..] {
            let (port, bus) = (other.port().to_string(), bus_port(other));
            rig.servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        wait_until("all slots are served", || {
            rig.servers.iter().all(|server| {
                let info = server.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        rig
    }

    /// `redis+cluster://h1:p,h2:p,h3:p`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// A link with bounds as in production.
    pub fn link(&self) -> Link {
        link_to(&self.url())
    }

    /// The servers.
    pub fn servers(&self) -> &[ServerRig] {
        &self.servers
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let answer = self.servers[0].command(&["CLUSTER", "KEYSLOT", key]);
        answer.trim().trim_start_matches(':').parse().expect("a slot")
    }

    /// Which server has a slot.
    pub fn owner_of(&self, slot: u16) -> usize {
        let owns = |server: &ServerRig| {
            let answer = server.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
            let nodes = server.command(&["CLUSTER", "NODES"]);
            let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
            !answer.starts_with('-') && own.split_whitespace().skip(8).any(|range| contains(range, slot))
        };
        self.servers.iter().position(owns).expect("a server has the slot")
    }

    /// Begins to move a slot: from now on keys that are not on its server (any more) are to be asked for on the other.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let (from, slot) = (self.owner_of(slot), slot.to_string());
        let (source, target) = (self.id(from), self.id(to));
        self.servers[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.servers[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves the keys of a slot, and the slot itself.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (text, port) = (slot.to_string(), self.servers[to].port().to_string());
        let keys = self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &text, "1000"]);
        for key in keys.lines().filter(|line| !line.starts_with(['*', '$'])) {
            self.servers[from].command(&["MIGRATE", "127.0.0.1", &port, key.trim(), "0", "5000"]);
        }
        let target = self.id(to);
        for server in [to, from] {
            self.servers[server].command(&["CLUSTER", "SETSLOT", &text, "NODE", &target]);
        }
    }

    fn id(&self, server: usize) -> String {
        let answer = self.servers[server].command(&["CLUSTER", "MYID"]);
        answer.lines().nth(1).expect("an identity").trim().to_owned()
    }
}

fn contains(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= slot && slot <= last)
}

fn start_server() -> ServerRig {
    let bus = free_port().to_string();
    let more = format!(
        "--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout 1000 --cluster-require-full-coverage no"
    );
    ServerRig::start(&Options { more: more.split(' ').map(str::to_owned).collect(), ..Options::default() })
}

/// `address:port@bus` in a server's own line.
fn bus_port(server: &ServerRig) -> String {
    let nodes = server.command(&["CLUSTER", "NODES"]);
    let own = nodes.lines().find(|line| line.contains("myself")).expect("its own line");
    let (_, bus) =
        own.split_whitespace().nth(1).and_then(|address| address.split_once('@')).expect("a bus port");
    bus.split(',').next().expect("a port").to_owned()
}
