//! Real servers for tests, on free ports of this machine, each with a folder of its own. They end with their handles.
//!
//! | module | concern |
//! | --- | --- |
//! | `server` | one server: its process, commands to it, its end and its return |
//! | `sentinel` | a master, two replicas and three sentinels |
//! | `cluster` | three masters that share the slots |
//!
//! Whatever goes wrong here fails the test that asked for it: these functions panic with what there is to say.

mod cluster;
mod sentinel;
mod server;

pub use cluster::ClusterRig;
pub use sentinel::SentinelRig;
pub use server::{Options, ServerRig, command_at};

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Bound of every wait here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Waits until something holds that no server announces.
#[expect(clippy::disallowed_methods, reason = "servers tell nobody when they are ready")]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
