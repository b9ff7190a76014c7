//! Three masters that share the slots, each with a replica where a test wants that.

use super::server::{Options, ServerRig, command_at, link_to};
use super::{free_port, wait_until};
use crate::Link;

const SLOTS: u16 = 16_384;
const MASTERS: u16 = 3;

/// Three masters that share the slots.
pub struct ClusterRig {
    /// The masters as they began, then their replicas.
    servers: Vec<ServerRig>,
}

impl ClusterRig {
    /// Starts it, and waits until every server says that all slots are served.
    pub fn start() -> Self {
        Self::start_of(MASTERS)
    }

    /// With a replica of each master, which takes over when that is silent for a second.
    pub fn start_with_replicas() -> Self {
        let rig = Self::start_of(2 * MASTERS);
        let (masters, replicas) = rig.servers.split_at(usize::from(MASTERS));
        for (master, replica) in masters.iter().zip(replicas) {
            replica.expect("+OK", &["CLUSTER", "REPLICATE", &id_of(master)]);
        }
        wait_until("replicas follow, and everybody knows it", || {
            let is_up = |replica: &ServerRig| {
                replica.command(&["INFO", "replication"]).contains("master_link_status:up")
            };
            let knows = |server: &ServerRig| {
                server.command(&["CLUSTER", "NODES"]).matches("slave ").count() == replicas.len()
            };
            replicas.iter().all(is_up) && rig.servers.iter().all(knows)
        });
        rig
    }

    /// With more servers than masters: the others have no slots.
    fn start_of(servers: u16) -> Self {
        let rig = Self { servers: (0..servers).map(|_| start_server()).collect() };
        for (index, server) in (0..servers).zip(&rig.servers) {
            server.expect("+OK", &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < MASTERS {
                let (first, last) = (index * (SLOTS / MASTERS), (index + 1) * (SLOTS / MASTERS) - 1);
                let last = if index + 1 == MASTERS { SLOTS - 1 } else { last };
                server.expect("+OK", &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            }
        }
        for other in &rig.servers[1..] {
            let (port, bus) = (other.port().to_string(), bus_port(other));
            rig.servers[0].expect("+OK", &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let known = format!("cluster_known_nodes:{servers}");
        wait_until("all slots are served", || {
            rig.servers.iter().all(|server| {
                let info = server.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains(&known)
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

    /// Which server has a slot, of those that are there.
    pub fn owner_of(&self, slot: u16) -> usize {
        self.find_owner(slot).expect("a server has the slot")
    }

    fn find_owner(&self, slot: u16) -> Option<usize> {
        let owns = |server: &ServerRig| {
            let nodes = command_at(server.port(), &["CLUSTER", "NODES"]).unwrap_or_default();
            let own = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
            own.split_whitespace().skip(8).any(|range| contains(range, slot))
        };
        self.servers.iter().position(owns)
    }

    /// Ends the server that has a slot, and waits until its replica has it.
    pub fn fail_over(&mut self, slot: u16) {
        let before = self.owner_of(slot);
        self.servers[before].kill();
        wait_until("the replica has the slot, and all servers know it", || {
            let Some(owner) = self.find_owner(slot) else { return false };
            let port = format!(":{}@", self.servers[owner].port());
            let has_it = |line: &str| {
                let mut words = line.split_whitespace();
                words.nth(1).is_some_and(|address| address.contains(&port))
                    && words.skip(6).any(|range| contains(range, slot))
            };
            let knows = |server: &ServerRig| {
                let nodes = command_at(server.port(), &["CLUSTER", "NODES"]);
                nodes.is_none_or(|nodes| nodes.lines().any(has_it))
            };
            self.servers.iter().all(knows)
        });
    }

    /// Waits until all servers that are there say the same of who has which slots, in which epoch: of two moves right after each other
    /// with epochs that are the same, some may never learn.
    fn settle(&self) {
        let says = |server: &ServerRig| {
            let nodes = command_at(server.port(), &["CLUSTER", "NODES"])?;
            let of_node = |line: &str| {
                let mut words = line.split_whitespace();
                let id = words.next().filter(|word| word.len() == 40)?.to_owned();
                let mut rest = words.skip(5);
                let epoch = rest.next()?.to_owned();
                Some((id, epoch, rest.skip(1).map(str::to_owned).collect::<Vec<_>>()))
            };
            let mut all: Vec<_> = nodes.lines().filter_map(of_node).collect();
            all.sort();
            Some(all)
        };
        wait_until("all servers agree on who has which slots", || {
            let told: Vec<_> = self.servers.iter().filter_map(says).collect();
            told.windows(2).all(|pair| pair[0] == pair[1])
        });
    }

    /// A server.
    pub fn server(&mut self, index: usize) -> &mut ServerRig {
        &mut self.servers[index]
    }

    /// Begins to move a slot: from now on keys that are not on its server (any more) are to be asked for on the other.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let (slot, from) = (slot.to_string(), self.owner_of(slot));
        let (source, target) = (id_of(&self.servers[from]), id_of(&self.servers[to]));
        self.servers[to].expect("+OK", &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.servers[from].expect("+OK", &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves the keys of a slot, and the slot itself. A key that the other server has by now is a failure, as it is to who moves
    /// slots in earnest.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (text, port) = (slot.to_string(), self.servers[to].port().to_string());
        let keys = self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &text, "1000"]);
        for key in keys.lines().filter(|line| !line.starts_with(['*', '$'])) {
            self.servers[from].expect("+", &["MIGRATE", "127.0.0.1", &port, key.trim(), "0", "5000"]);
        }
        let target = id_of(&self.servers[to]);
        for server in [to, from] {
            self.servers[server].expect("+OK", &["CLUSTER", "SETSLOT", &text, "NODE", &target]);
        }
        self.settle();
    }
}

fn id_of(server: &ServerRig) -> String {
    let answer = server.command(&["CLUSTER", "MYID"]);
    answer.lines().nth(1).expect("an identity").trim().to_owned()
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
