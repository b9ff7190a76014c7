//! Hosts made up of files.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::Driver;

const WANTED: Wanted =
    Wanted { connections: 100_000, rings_per_thread: 1, threads: 4, driver: Driver::Auto, has_tls: false };

/// A host on which everything is good, changed by the files given.
fn host(directory: &tempfile::TempDir, changes: &[(&str, &str)]) -> Host {
    let good = [
        ("proc/sys/kernel/osrelease", "6.12.1-amd64"),
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
        ("proc/sys/net/ipv4/tcp_mem", "190000\t253000\t380000"),
        ("proc/meminfo", "MemTotal:       24684092 kB\nMemFree: 1 kB"),
        ("proc/self/cgroup", "0::/system.slice/pinwire.service"),
        ("sys/fs/cgroup/system.slice/pinwire.service/memory.max", "max"),
        ("sys/fs/cgroup/system.slice/pinwire.service/cpu.max", "max 100000"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ];
    for (path, text) in good.iter().chain(changes) {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    Host::made_up(directory.path().to_owned())
}

fn of<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.code == code).unwrap()
}

#[test]
fn a_good_host_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let findings = examine(&host(&directory, &[]), &WANTED);
    assert!(findings.iter().all(|finding| finding.outcome == Outcome::Good), "{findings:#?}");
    assert_eq!(exit_status(&findings), 0);
}

#[test]
fn what_is_wrong_is_told_with_its_mend() {
    type Case<'a> = (&'a str, &'a str, &'a str, Outcome, &'a str, &'a str);
    let group = "sys/fs/cgroup/system.slice";
    let cases: [Case<'_>; 9] = [
        ("proc/sys/kernel/osrelease", "6.1.0-18", "kernel", Outcome::Warn, "Linux 6.1.0-18", "6.10"),
        (
            "proc/sys/net/core/somaxconn",
            "128",
            "accept-queue",
            Outcome::Warn,
            "is 128",
            "sysctl -w net.core.somaxconn=4096",
        ),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "256", "syn-backlog", Outcome::Warn, "is 256", "=4096"),
        (
            "proc/sys/net/ipv4/tcp_mem",
            "10 20 30",
            "tcp-memory",
            Outcome::Warn,
            "20 pages",
            "net.ipv4.tcp_mem=\"10000 20000 40000\"",
        ),
        ("proc/sys/net/netfilter/nf_conntrack_max", "65536", "conntrack", Outcome::Warn, "65536", "=125000"),
        (
            "proc/meminfo",
            "MemTotal: 500000 kB",
            "memory",
            Outcome::Fail,
            "488 MiB",
            "max_connections = 41666",
        ),
        (
            &format!("{group}/memory.max"),
            "1073741824",
            "memory",
            Outcome::Warn,
            "the cgroup's limit is 1024 MiB",
            "max_connections",
        ),
        (&format!("{group}/cpu.max"), "150000 100000", "cpu", Outcome::Warn, "1.5 cores", "threads = 1"),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock",
            Outcome::Warn,
            "hpet",
            "tsc",
        ),
    ];
    for (path, text, code, outcome, found, mend) in cases {
        let directory = tempfile::tempdir().unwrap();
        let findings = examine(&host(&directory, &[(path, text)]), &WANTED);
        let finding = of(&findings, code);
        assert_eq!(finding.outcome, outcome, "{finding}");
        assert!(finding.found.contains(found), "{finding}");
        assert!(finding.mend.as_ref().unwrap().contains(mend), "{finding}");
        assert_eq!(exit_status(&findings), if outcome == Outcome::Fail { 2 } else { 1 });
    }
}

#[test]
fn descriptors_are_counted_by_ring_or_by_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory, &[("proc/sys/fs/nr_open", "20000")]);
    host.files = (Some(20_000), Some(20_000));
    let wanted = Wanted { connections: 75_000, ..WANTED };
    assert_eq!(of(&examine(&host, &wanted), "files").outcome, Outcome::Good, "four rings of 20,000");
    let by_choice = Wanted { driver: Driver::Epoll, ..wanted };
    assert_eq!(of(&examine(&host, &by_choice), "files").outcome, Outcome::Fail, "a process of 20,000");
    host.no_uring = Some("sysctl kernel.io_uring_disabled is 2".to_owned());
    let findings = examine(&host, &wanted);
    assert_eq!(of(&findings, "io-uring").found, "epoll is used: sysctl kernel.io_uring_disabled is 2");
    let insists = Wanted { driver: Driver::Uring, ..wanted };
    assert_eq!(of(&examine(&host, &insists), "io-uring").outcome, Outcome::Fail);
    let files = of(&findings, "files");
    assert_eq!(files.outcome, Outcome::Fail);
    let mend = files.mend.as_ref().unwrap();
    assert!(mend.contains("LimitNOFILE=76124") && mend.contains("fs.nr_open=76124"), "{mend}");
}

#[test]
fn what_cannot_be_read_is_skipped() {
    let findings = examine(&Host::made_up(PathBuf::from("/nowhere")), &WANTED);
    for code in ["kernel", "accept-queue", "syn-backlog", "tcp-memory", "memory", "clock", "huge-pages"] {
        assert_eq!(of(&findings, code).outcome, Outcome::Skip, "{code}");
    }
    assert_eq!(exit_status(&findings), 0);
}

#[test]
fn every_check_is_explained() {
    let page = include_str!("../../../docs/doctor.md");
    for finding in examine(&Host::here(), &WANTED) {
        assert!(page.contains(&format!("\n## {}\n", finding.code)), "{}", finding.code);
    }
}
