//! Real servers for tests, each with a folder of its own. They end with their handles.
//!
//! Whatever goes wrong here fails the test that asked for it: these functions panic with what there is to say.

mod http;
mod server;

pub use http::{Asked, Fake};
pub use server::{DnsServer, SECRET};

use pinwire_dns::{Addresses, Provider, ProviderError, RegionName};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{interval, timeout};

/// Bound of every wait here.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what tells nobody of a change.
const LOOK: Duration = Duration::from_millis(50);

pub const NAME: &str = "eu-central-1.example.net";

pub fn region() -> RegionName {
    RegionName::new(NAME, "example.net", 30).expect("a name")
}

pub fn addresses(texts: &[&str]) -> Addresses {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// The addresses that a provider reads.
pub async fn read(provider: &dyn Provider) -> Result<Addresses, ProviderError> {
    provider.read().await.map(|held| held.addresses)
}

/// What `dig` prints.
pub async fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new("dig");
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "+time=3", "+tries=2"]);
    let output = command.args(arguments).output().await;
    let output = output.expect("install Debian's package bind9-dnsutils, or run `cargo xtask setup`");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The addresses of a name, both families, as `dig` sees them.
pub async fn resolve(server: SocketAddr, name: &str) -> Addresses {
    let printed = dig(server, &["+short", name, "A", name, "AAAA"]).await;
    printed.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Waits until `look` gives something that holds.
pub async fn wait_until<T: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let mut last = None;
    let looking = async {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let seen = look().await;
            if holds(&seen) {
                return seen;
            }
            last = Some(seen);
        }
    };
    timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}, last {last:?}"))
}

/// A block of `docs/dns.md`, so that what operators read is what is tested.
pub fn documented(mark: &str) -> String {
    let page = include_str!("../../../../docs/dns.md");
    let (_, rest) = page.split_once(&format!("<!-- tests: {mark} -->")).expect("the block's mark");
    let (_, rest) = rest.split_once("```text\n").expect("the block");
    rest.split_once("```").expect("its end").0.to_owned()
}
