//! The checks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, Host, Outcome};
use crate::capacity::Tables;
use crate::config::{Config, Driver, date, doubts, host_of};

/// What the host is to be good for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Connections.
    pub connections: u64,
    /// Rings that a data thread may have.
    pub rings_per_thread: u64,
    /// Data threads.
    pub threads: u64,
    /// How they are to talk to the kernel.
    pub driver: Driver,
    /// Whether TLS is spoken.
    pub has_tls: bool,
}

/// Connections that the node lets the kernel keep between two accepts.
const BACKLOG: u64 = 4096;
/// Bytes of memory that a connection takes on its host, kernel and node together, beside what its documents take: measured,
/// see `docs/planning.md`, and rounded up.
const BYTES_PER_CONNECTION: u64 = 6 << 10;
/// The same of a session of TLS, measured with TLS 1.3 on idle connections.
const BYTES_PER_TLS_SESSION: u64 = 5 << 10;

const URING_MEND: &str = "sysctl -w kernel.io_uring_disabled=0; in a container a seccomp profile that allows \
    io_uring_setup, io_uring_enter and io_uring_register";

/// Makes every check.
#[must_use]
pub fn examine(host: &Host, wanted: &Wanted) -> Vec<Finding> {
    vec![
        kernel(host),
        uring(host, wanted),
        files(host, wanted),
        accept_queue(host),
        syn_backlog(host),
        tcp_memory(host, wanted),
        conntrack(host, wanted),
        memory(host, wanted),
        cpu(host, wanted),
        clock(host),
        huge_pages(host),
    ]
}

fn finding(code: &'static str, outcome: Outcome, found: impl Into<String>) -> Finding {
    Finding { code, outcome, found: found.into(), mend: None }
}

impl Finding {
    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// Checks the certificates of a configuration, which are no matter of the host; `None` where TLS is not spoken.
#[must_use]
pub fn certificates(config: &Config, now: SystemTime) -> Option<Finding> {
    let certificates = &config.tls.as_ref()?.certificates;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let host = config.region.advertised.as_ref().map(|advertised| host_of(&advertised.authority));
    let doubts = doubts(certificates, host, now);
    let Some(worst) = doubts.iter().find(|doubt| doubt.is_refused).or(doubts.first()) else {
        let first_end =
            certificates.iter().map(|certificate| certificate.not_after).min().unwrap_or(i64::MAX);
        return Some(finding("certificates", Outcome::Good, format!("are good until {}", date(first_end))));
    };
    let found: Vec<&str> = doubts.iter().map(|doubt| doubt.what.as_str()).collect();
    let outcome = if worst.is_refused { Outcome::Fail } else { Outcome::Warn };
    let mend =
        "a certificate that is valid for the host in public_url, in tls.certificates, and a reload (SIGHUP)";
    Some(finding("certificates", outcome, found.join("; ")).mend(mend))
}

fn kernel(host: &Host) -> Finding {
    let Some(release) = host.read("proc/sys/kernel/osrelease") else {
        return finding("kernel", Outcome::Skip, "the kernel's release cannot be read");
    };
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let found = format!("Linux {release}");
    if version >= (6, 10) {
        return finding("kernel", Outcome::Good, found);
    }
    finding("kernel", Outcome::Warn, format!("{found}: epoll is used below 6.10"))
        .mend("a kernel of 6.10 or later lets the node use io_uring")
}

fn uring(host: &Host, wanted: &Wanted) -> Finding {
    match &host.no_uring {
        _ if wanted.driver == Driver::Epoll => {
            finding("io-uring", Outcome::Good, "is not to be used: the configuration says epoll")
        }
        Some(why) if wanted.driver == Driver::Uring => finding(
            "io-uring",
            Outcome::Fail,
            format!("the configuration says uring, and there is none: {why}"),
        )
        .mend(format!("driver = \"auto\", or: {URING_MEND}")),
        None => finding("io-uring", Outcome::Good, "works, with all that the node needs of it"),
        Some(why) => finding("io-uring", Outcome::Warn, format!("epoll is used: {why}")).mend(URING_MEND),
    }
}

fn files(host: &Host, wanted: &Wanted) -> Finding {
    let (soft, hard) = host.files;
    // A node raises its soft limit by itself, as far as the hard one allows.
    let files = hard.unwrap_or(u64::MAX).max(soft.unwrap_or(u64::MAX));
    let tables = Tables {
        is_uring: host.no_uring.is_none() && wanted.driver != Driver::Epoll,
        threads: wanted.threads,
        rings_per_thread: wanted.rings_per_thread,
    };
    let found = format!("ulimit -n is {}: room for {} connections", shown(files), tables.room(files));
    if tables.room(files) >= wanted.connections {
        return finding("files", Outcome::Good, found);
    }
    let needed = tables.files_for(wanted.connections);
    let mut mend = tables.mend(wanted.connections, hard);
    if host.number("proc/sys/fs/nr_open").is_some_and(|most| most < needed) {
        mend += &format!("; sysctl -w fs.nr_open={needed} first");
    }
    finding("files", Outcome::Fail, format!("{found}, {} are wanted", wanted.connections)).mend(mend)
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

fn accept_queue(host: &Host) -> Finding {
    at_least(
        host,
        "accept-queue",
        "net.core.somaxconn",
        BACKLOG,
        "new connections are dropped when many come at once",
    )
}

fn syn_backlog(host: &Host) -> Finding {
    at_least(
        host,
        "syn-backlog",
        "net.ipv4.tcp_max_syn_backlog",
        BACKLOG,
        "handshakes fall back to SYN cookies when many come at once",
    )
}

fn at_least(host: &Host, code: &'static str, setting: &str, least: u64, why: &str) -> Finding {
    match host.number(&format!("proc/sys/{}", setting.replace('.', "/"))) {
        None => finding(code, Outcome::Skip, format!("{setting} cannot be read")),
        Some(value) if value >= least => finding(code, Outcome::Good, format!("{setting} is {value}")),
        Some(value) => finding(code, Outcome::Warn, format!("{setting} is {value}, below {least}: {why}"))
            .mend(format!("sysctl -w {setting}={least}")),
    }
}

fn tcp_memory(host: &Host, wanted: &Wanted) -> Finding {
    let pages = host.numbers("proc/sys/net/ipv4/tcp_mem");
    let &[_, pressure, most] = &pages[..] else {
        return finding("tcp-memory", Outcome::Skip, "net.ipv4.tcp_mem cannot be read");
    };
    // An idle connection has no page in its buffers; one in ten at work with a page each way is a busy node.
    let needed = wanted.connections.div_ceil(5);
    let found =
        format!("net.ipv4.tcp_mem lets buffers have {pressure} pages before it presses, {most} at most");
    if pressure >= needed {
        return finding("tcp-memory", Outcome::Good, found);
    }
    finding(
        "tcp-memory",
        Outcome::Warn,
        format!("{found}; {} busy connections want {needed}", wanted.connections / 10),
    )
    .mend(format!("sysctl -w net.ipv4.tcp_mem=\"{} {needed} {}\"", needed / 2, needed * 2))
}

fn conntrack(host: &Host, wanted: &Wanted) -> Finding {
    match host.number("proc/sys/net/netfilter/nf_conntrack_max") {
        None => finding("conntrack", Outcome::Good, "connections are not tracked"),
        Some(most) if most >= wanted.connections + wanted.connections / 4 => {
            finding("conntrack", Outcome::Good, format!("net.netfilter.nf_conntrack_max is {most}"))
        }
        Some(most) => {
            let needed = wanted.connections + wanted.connections / 4;
            finding(
                "conntrack",
                Outcome::Warn,
                format!("net.netfilter.nf_conntrack_max is {most}: beyond it the kernel drops packets of new connections"),
            )
            .mend(format!("sysctl -w net.netfilter.nf_conntrack_max={needed}, or do not track the node's ports (nft: notrack)"))
        }
    }
}

fn memory(host: &Host, wanted: &Wanted) -> Finding {
    let Some((limit, is_group)) = host.memory() else {
        return finding("memory", Outcome::Skip, "the host's memory cannot be read");
    };
    let whose = if is_group { "the cgroup's limit" } else { "the host's memory" };
    let each = BYTES_PER_CONNECTION + if wanted.has_tls { BYTES_PER_TLS_SESSION } else { 0 };
    let needed = wanted.connections * each;
    let found = format!(
        "{whose} is {} MiB; {} idle connections take about {} MiB, kernel and node together",
        limit >> 20,
        wanted.connections,
        needed >> 20
    );
    // At 80 % a node takes no more connections (`shedding.high_water`); documents want room too.
    if needed <= limit / 2 {
        return finding("memory", Outcome::Good, found);
    }
    let outcome = if needed > limit / 10 * 8 { Outcome::Fail } else { Outcome::Warn };
    finding("memory", outcome, found).mend(format!(
        "more memory, or max_connections = {}; `pinwire-loadgen plan` counts documents too",
        limit / 2 / each
    ))
}

fn cpu(host: &Host, wanted: &Wanted) -> Finding {
    let quota = |value: &String| {
        let (quota, period) = value.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    };
    let quotas = host.cgroup("cpu.max");
    let least = quotas.iter().filter_map(quota).fold(f64::INFINITY, f64::min);
    let found = format!("{} cores, {} data threads", host.cores, wanted.threads);
    if least < wanted.threads as f64 {
        return finding(
            "cpu",
            Outcome::Warn,
            format!(
                "{found}, and the cgroup may use {least:.1} cores: it is stopped for the rest of each period"
            ),
        )
        .mend(format!(
            "cpu.max off (CPUQuota= in a systemd unit, limits.cpu in Kubernetes), or threads = {}",
            (least as u64).max(1)
        ));
    }
    if wanted.threads > host.cores as u64 {
        return finding("cpu", Outcome::Warn, format!("{found}: they share cores and wait for each other"))
            .mend(format!("threads = {}", host.cores));
    }
    finding("cpu", Outcome::Good, found)
}

fn clock(host: &Host) -> Finding {
    const SOURCE: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    match host.read(SOURCE).as_deref() {
        None => finding("clock", Outcome::Skip, "the clock source cannot be read"),
        Some(source @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page")) => {
            finding("clock", Outcome::Good, format!("the clock source is {source}"))
        }
        Some(source) => finding(
            "clock",
            Outcome::Warn,
            format!("the clock source is {source}: reading the time is a system call, some for each turn"),
        )
        .mend("clocksource=tsc on the kernel's command line, where the processor's counter is stable"),
    }
}

fn huge_pages(host: &Host) -> Finding {
    let text = host.read("sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    match text.split(['[', ']']).nth(1) {
        None => finding("huge-pages", Outcome::Skip, "transparent huge pages cannot be read"),
        Some("always") => {
            finding("huge-pages", Outcome::Good, "always; the node turns them off for its own memory")
        }
        Some(setting) => finding("huge-pages", Outcome::Good, setting),
    }
}
