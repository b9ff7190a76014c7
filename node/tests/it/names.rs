//! Nodes in their region's name, as `dig` sees them: full ones, dead ones, and the last.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use pinwire_admin_api::node::Node;

use crate::admin::{self, ask, bearer, good, tcp};
use crate::member::Member;
use crate::regions::{System, until};
use crate::rig::Serving;
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
    let (system, zone) = (System::start(), Zone::bind());
    let dns = updates(&system, &zone);
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
fn a_dead_node_is_removed_from_a_zone_of_knot_by_the_other() {
    let (system, zone) = (System::start(), Zone::knot());
    let dns = updates(&system, &zone);
    let (one, other) = (start(&system, "one", 1, &dns), start(&system, "other", 2, &dns));
    leads_to(zone.address, &["192.0.2.1", "192.0.2.2"]);
    drop(other);
    leads_to(zone.address, &["192.0.2.1"]);
    one.logs(&["192.0.2.2 of the dead node other removed from DNS"]);
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
