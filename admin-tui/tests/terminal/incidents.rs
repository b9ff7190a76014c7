//! What an operator reads in each incident, on a real cluster: a node that is full, a Redis that is gone, a region that is cut off, a node
//! that is killed. One key leads from what is wrong to its cause.

use std::process::Command;

use crate::cluster::{Cluster, Member};
use crate::session::Session;

/// Room for few, and a name that the nodes keep.
const SETTINGS: [&str; 2] = [
    "max_connections = 20\n",
    "[dns]\nprovider = \"embedded\"\nname = \"pin.example.net\"\nservers = [\"ns1.pin.example.net=192.0.2.1\"]\n\
     addresses = [\"192.0.2.10\"]\n",
];

#[test]
fn each_incident_is_told_in_words_and_one_key_leads_to_its_cause() {
    let mut cluster = Cluster::start(SETTINGS);
    let mut session = cluster.session();
    a_node_is_full(&cluster, &mut session);
    a_redis_is_gone(&mut cluster, &session);
    a_region_is_cut_off(&cluster, &session);
    a_node_is_killed(&mut cluster, &mut session);
    session.press("q");
    assert!(session.ended().success());
}

fn a_node_is_full(cluster: &Cluster, session: &mut Session) {
    let members: Vec<Member> = (0..18).map(|_| Member::join(&cluster.nodes[0], &cluster.token)).collect();
    session.see("here-1/here-a is overloaded, connections at");
    session.see("DNS out");
    session.press("\r");
    session.see_view("node of here-1/here-a");
    session.see("no new connections since");
    session.see("DNS pin.example.net: out");
    drop(members);
    session.press("\u{1b}");
    session.see_view("overview");
}

fn a_redis_is_gone(cluster: &mut Cluster, session: &Session) {
    cluster.servers[1].kill();
    session.see("is degraded: the region's sessions are out of reach");
    cluster.servers[1].restart();
    session.see_no_more("out of reach");
}

fn a_region_is_cut_off(cluster: &Cluster, session: &Session) {
    let signal = |name: &str| {
        for node in &cluster.nodes[2..] {
            let pid = node.child.id().to_string();
            assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        }
    };
    signal("STOP");
    session.see("there-1 no node of it is reached by the console");
    signal("CONT");
    session.see_no_more("no node of it is reached");
}

fn a_node_is_killed(cluster: &mut Cluster, session: &mut Session) {
    cluster.nodes[2].child.kill().unwrap();
    session.see("there-1/there-a is not reached for");
    session.see("✖ 1 wrong");
    session.press("g\r");
    session.see_view("node of there-1/there-a");
    session.see("nobody listens there");
    session.press("\u{1b}");
    session.see_view("overview");
}
