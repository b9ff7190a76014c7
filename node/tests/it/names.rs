//! Nodes in their region's name, as `dig` sees them: full ones, dead ones, and the last.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pinwire_admin_api::node::Node;

use crate::admin::{self, ask, bearer, good, tcp};
use crate::member::Member;
use crate::regions::{System, until};
use crate::rig::{Home, Serving};
use crate::zone::{NAME, SECRET, Zone, free_port, leads_to};

/// Connections are all that counts, so that a busy machine does not.
const SHEDDING: &str = "[shedding]\ndwell = \"1s\"\n[drain]\nleave = \"1s\"\n";
/// Of a node with at most ten: 80 %.
const MANY: usize = 8;

fn start(system: &System, name: &str, number: u8, dns: &str) -> Serving {
    let tables = format!(
        "{SHEDDING}[dns]\nname = \"{NAME}\"\naddresses = [\"192.0.2.{number}\"]\ncheck = \"500ms\"\n{dns}"
    );
    let file = system.file_for(name, "here-1", "3s", "", &tables);
    Serving::start_with(&file, &["listen=127.0.0.1:0", "threads=1", "max_connections=10"])
}

fn fill(system: &System, node: &Serving) -> Vec<Member> {
    (0..MANY).map(|_| system.join(node)).collect()
}

fn node(serving: &Serving) -> Node {
    good(ask(tcp(serving), "GET", "/v1/node", &bearer(&admin::token()), ""))
}

/// The keys of `[dns]` for a zone that takes updates.
fn updates(system: &System, zone: &Zone) -> String {
    let key = system.config("dns-key").with_extension("key");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "provider = \"rfc2136\"\nserver = \"{}\"\nkey_name = \"pinwire\"\nkey_file = \"{}\"\n",
        zone.address,
        key.display()
    )
}

#[test]
fn full_dead_and_last_nodes_in_a_zone_of_bind() {
    full_dead_and_last_nodes(&Zone::bind());
}

#[test]
fn full_dead_and_last_nodes_in_a_zone_of_knot() {
    full_dead_and_last_nodes(&Zone::knot());
}

fn full_dead_and_last_nodes(zone: &Zone) {
    let system = System::start();
    let dns = updates(&system, zone);
    let (one, other) = (start(&system, "one", 1, &dns), start(&system, "other", 2, &dns));
    leads_to(zone.address, &["192.0.2.1", "192.0.2.2"]);
    // A full one is out, and its clients stay.
    let mut of_one = fill(&system, &one);
    leads_to(zone.address, &["192.0.2.2"]);
    let shown = node(&one).dns.unwrap();
    assert!(!shown.wants_in && shown.why.contains("connections at 80 %"), "{shown:?}");
    // Both are full: the last one stays.
    let of_other = fill(&system, &other);
    other.logs(&["connections at 80 %, and no other node could take the clients"]);
    leads_to(zone.address, &["192.0.2.2"]);
    assert_eq!([&one, &other].map(|full| node(full).totals.connections), [MANY as u64; 2]);
    // There is room on one again: it comes back, and the other may leave.
    of_one.truncate(2);
    leads_to(zone.address, &["192.0.2.1"]);
    drop(of_other);
    leads_to(zone.address, &["192.0.2.1", "192.0.2.2"]);
    // The record of a node that died is removed by the other.
    drop(other);
    leads_to(zone.address, &["192.0.2.1"]);
    one.logs(&["192.0.2.2 of the dead node other removed from DNS"]);
    // The last one that ends takes the last record along, while its clients are still there.
    one.signal("TERM");
    leads_to(zone.address, &[]);
    assert_eq!(of_one[0].end(), (1012, "the node stops".to_owned()));
    drop(of_one);
    one.logs(&["stopped"]);
}

#[test]
fn nodes_that_answer_for_the_zone_themselves_lose_one() {
    let system = System::start();
    let servers: Vec<SocketAddr> =
        (0..2).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).collect();
    let dns = |listen: &str| {
        format!(
            "provider = \"embedded\"\nzone = \"{NAME}\"\nlisten = [{listen}]\n\
             servers = [\"ns1.{NAME}=127.0.0.1\", \"ns2.{NAME}=127.0.0.1\"]\n"
        )
    };
    let one = start(&system, "one", 1, &dns(&format!("\"{}\"", servers[0])));
    let two = start(&system, "two", 2, &dns(&format!("\"{}\"", servers[1])));
    let three = start(&system, "three", 3, &dns(""));
    for server in &servers {
        leads_to(*server, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }
    drop(two);
    leads_to(servers[0], &["192.0.2.1", "192.0.2.3"]);
    let _there = fill(&system, &three);
    leads_to(servers[0], &["192.0.2.1"]);
    assert!(one.metric("pinwire_dns_answers_total{outcome=\"answered\"}") > 0.0);
}

/// What a host of its own is made of; of what is sent to 198.51.100.53 nothing is ever heard.
const HOST: &str = "set -e; ip link set lo up; ip addr add 192.0.2.250/32 dev lo; ip addr add 2001:db8::250/128 dev lo nodad; \
                    ip link add mute type veth peer name far; ip link set mute up; ip link set far up; \
                    ip addr add 198.51.100.1/24 dev mute; ip neigh add 198.51.100.53 lladdr 02:00:00:00:00:01 dev mute; \
                    mount --bind \"$RESOLVERS\" /etc/resolv.conf; exec \"$0\" \"$@\"";

/// A node on a host of its own (user, network and mount namespaces), whose resolver is told this.
fn on_a_host(home: &Home, resolv_conf: &str) -> Serving {
    let resolvers = home.config().with_file_name("resolv.conf");
    fs::write(&resolvers, resolv_conf).unwrap();
    let mut host = Command::new("unshare");
    host.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("RESOLVERS", &resolvers);
    host.args(["--map-root-user", "--net", "--mount", "sh", "-c", HOST, env!("CARGO_BIN_EXE_pinwire-node")]);
    Serving::start_by(host, &home.config(), &["listen=127.0.0.1:0", "threads=1"])
}

#[test]
fn a_name_that_is_being_looked_up_for_ever_holds_up_no_end() {
    let home = Home::new();
    let key = home.config().with_file_name("dns.key");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let dns = format!(
        "\n[dns]\nprovider = \"rfc2136\"\nname = \"{NAME}\"\naddresses = [\"192.0.2.1\"]\n\
         server = \"ns1.example.net:53\"\nkey_name = \"pinwire\"\nkey_file = \"{}\"\n",
        key.display()
    );
    home.replace("\n[dns]\n", &dns);
    home.replace("\n[drain]\n", "\n[drain]\nleave = \"1s\"\nwindow = \"1s\"\n");
    let node = on_a_host(&home, "nameserver 198.51.100.53\noptions timeout:30 attempts:5\n");
    // Its resolver has a socket towards port 53, 35 in hexadecimal.
    let sockets = format!("/proc/{}/net/udp", node.child.id());
    until(|| fs::read_to_string(&sockets).unwrap().contains(":0035 "));
    assert_eq!(node.end(), 0);
}

#[test]
fn the_resolver_of_a_host_finds_a_node_that_answers_for_the_zone() {
    let home = Home::new();
    let dns = format!(
        "\n[dns]\nprovider = \"embedded\"\nname = \"{NAME}\"\nzone = \"{NAME}\"\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\n\
         listen = [\"127.0.0.1:53\"]\nservers = [\"ns1.{NAME}=127.0.0.1\"]\n"
    );
    home.replace("\n[dns]\n", &dns);
    let node = on_a_host(&home, "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n");
    let getent = |database: &str, name: &str, options: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &node.child.id().to_string(), "--user", "--net", "--mount"]);
        command.args(["--preserve-credentials", "getent", database, name]).env("RES_OPTIONS", options);
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let addresses = printed.lines().filter_map(|line| line.split_whitespace().next());
        (output.status.code(), addresses.map(str::to_owned).collect::<BTreeSet<String>>())
    };
    let found = |address: &str| (Some(0), BTreeSet::from([address.to_owned()]));
    until(|| getent("ahostsv4", NAME, "") == found("192.0.2.1"));
    for options in ["", "edns0", "use-vc", "edns0 use-vc"] {
        assert_eq!(getent("ahostsv4", NAME, options), found("192.0.2.1"), "{options}");
        assert_eq!(getent("ahostsv6", NAME, options), found("2001:db8::1"), "{options}");
        assert_eq!(getent("ahostsv4", &format!("ns1.{NAME}"), options), found("127.0.0.1"), "{options}");
        // Where there is none of a family, the library maps what there is of the other one.
        assert_eq!(
            getent("ahostsv6", &format!("ns1.{NAME}"), options),
            found("::ffff:127.0.0.1"),
            "{options}"
        );
        let nothing = (Some(2), BTreeSet::new());
        assert_eq!(getent("ahostsv4", &format!("nothing.{NAME}"), options), nothing, "{options}");
    }
}

#[test]
fn a_provider_that_is_away_is_seen_and_holds_nothing_up() {
    let system = System::start();
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let one = start(&system, "one", 1, &format!("provider = \"rfc2136\"\nserver = \"{nobody}\"\n"));
    let _there = system.join(&one);
    until(|| node(&one).dns.unwrap().failing.is_some_and(|failing| failing.error.contains("cannot connect")));
    assert!(one.metric("pinwire_dns_failed_attempts") > 0.0);
    assert_eq!(one.get("/health", "").0, 200);
}
