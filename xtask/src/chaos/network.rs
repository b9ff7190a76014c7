//! A region with a network of its own (network namespaces), behind a router that can stop forwarding, silently, as a network that fails
//! does. A second way leads to it past that router: for whoever is near, and for operators.
//!
//! ```text
//! world 10.X.0.1 ── 10.X.0.2 router 10.X.1.1 ── 10.X.1.2 region
//!       10.X.2.1 ─────────────────────────────── 10.X.2.2
//! ```

use crate::cluster::Site;
use crate::setup::as_root;
use crate::shell::run;
use anyhow::{Context, Result};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// Goes with its value.
#[derive(Debug)]
pub(super) struct Network {
    /// Tells it from others of this and other processes, in the names of its parts.
    id: String,
    router: String,
    region: String,
    /// The second number of its addresses.
    number: u8,
}

impl Network {
    pub(super) fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, made) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let number = 64 + (process.wrapping_add(made * 64) % 128) as u8;
        let id = format!("{process}.{made}");
        let network = Self { router: format!("pwr{id}"), region: format!("pwa{id}"), id, number };
        network.make().context("a network of its own (it takes root, or `sudo` without a password)")?;
        Ok(network)
    }

    fn make(&self) -> Result<()> {
        let Self { id, router, region, number } = self;
        let (world, near) = (format!("pww{id}"), format!("pwn{id}"));
        for line in [
            format!("netns add {router}"),
            format!("netns add {region}"),
            format!("link add {world} type veth peer name outer netns {router}"),
            format!("link add {near} type veth peer name near netns {region}"),
            format!("-n {router} link add inner type veth peer name outer netns {region}"),
            format!("addr add 10.{number}.0.1/24 dev {world}"),
            format!("addr add 10.{number}.2.1/24 dev {near}"),
            format!("-n {router} addr add 10.{number}.0.2/24 dev outer"),
            format!("-n {router} addr add 10.{number}.1.1/24 dev inner"),
            format!("-n {region} addr add 10.{number}.1.2/24 dev outer"),
            format!("-n {region} addr add 10.{number}.2.2/24 dev near"),
            format!("link set {world} up"),
            format!("link set {near} up"),
            format!("-n {router} link set outer up"),
            format!("-n {router} link set inner up"),
            format!("-n {region} link set lo up"),
            format!("-n {region} link set outer up"),
            format!("-n {region} link set near up"),
            format!("route add 10.{number}.1.0/24 via 10.{number}.0.2"),
            format!("-n {region} route add 10.{number}.0.0/24 via 10.{number}.1.1"),
        ] {
            ip(&line)?;
        }
        let mut forward = as_root("ip")?;
        forward.args(["netns", "exec", router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        run(&mut forward)
    }

    /// Where the region's processes run.
    pub(super) fn region(&self) -> Site {
        let prefix = ["ip", "netns", "exec", &self.region].map(str::to_owned).to_vec();
        let number = self.number;
        Site { prefix, host: format!("10.{number}.2.2"), public: format!("10.{number}.1.2") }
    }

    /// Where the rest of the world is for the region.
    pub(super) fn world(&self) -> Site {
        let host = format!("10.{}.0.1", self.number);
        Site { prefix: Vec::new(), public: host.clone(), host }
    }

    /// From now on nothing passes the router, either way, and nobody is told.
    pub(super) fn cut(&self) -> Result<()> {
        self.routes("add")
    }

    /// Everything passes again.
    pub(super) fn heal(&self) -> Result<()> {
        self.routes("del")
    }

    fn routes(&self, what: &str) -> Result<()> {
        let Self { router, number, .. } = self;
        ip(&format!("-n {router} route {what} blackhole 10.{number}.0.1/32"))?;
        ip(&format!("-n {router} route {what} blackhole 10.{number}.1.2/32"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its links go with it. What is not there was never made.
        for name in [&self.router, &self.region] {
            if let Ok(mut delete) = as_root("ip") {
                let _ = delete.args(["netns", "del", name]).stderr(Stdio::null()).status();
            }
        }
    }
}

fn ip(line: &str) -> Result<()> {
    run(as_root("ip")?.args(line.split(' ')))
}
