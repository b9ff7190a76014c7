//! Real Yjs clients from npm against the release build of the node.

use crate::scripts::Scripts;
use crate::shell::{command, target_dir};
use crate::tally::Tally;
use crate::{setup, unit};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const DRIVERS: &[&str] = &["uring", "epoll"];
const THREADS: &[&str] = &["1", "2"];
/// What is run in TLS too, once: documents of every kind of client, on any thread, whoever comes and goes.
const TLS_FILES: &[&str] = &["sync.test.js", "convergence.test.js", "awareness.test.js"];

/// Test files that run at the same time. Two of them mostly wait.
const CONCURRENCY: u32 = 4;
/// The longest test watches for a minute; a run beyond this hangs.
const RUN_LIMIT: Duration = Duration::from_secs(480);

/// Which node, and which test files (all when empty).
struct Selection {
    drivers: Vec<String>,
    threads: Vec<String>,
    files: Vec<String>,
    is_everything: bool,
}

/// Every driver with every thread count, unless `--driver` or `--threads` narrow it.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let selection = parse(args)?;
    setup::install_client_packages()?;
    unit::build(&[])?;
    let mut tally = Tally::default();
    for driver in &selection.drivers {
        for threads in &selection.threads {
            println!("--> clients on {driver}, {threads} thread(s)");
            tally += run_against(driver, threads, &selection.files, None)?;
            if tally.failed > 0 {
                return Ok(tally);
            }
        }
    }
    if selection.is_everything {
        println!("--> clients in TLS");
        let files: Vec<String> = TLS_FILES.iter().map(|file| (*file).to_owned()).collect();
        tally += run_against("auto", "2", &files, Some(&certificate()?))?;
    }
    Ok(tally)
}

/// A directory with a certificate for this host, and its key.
fn certificate() -> Result<PathBuf> {
    let directory = target_dir().join("tls");
    fs::create_dir_all(&directory)?;
    let mut openssl = command("openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .arg("-keyout")
        .arg(directory.join("node.key"))
        .arg("-out")
        .arg(directory.join("node.crt"))
        .stderr(Stdio::null());
    let status = openssl.status().context("openssl")?;
    if !status.success() {
        bail!("openssl made no certificate: {status}");
    }
    Ok(directory)
}

fn parse(args: &[String]) -> Result<Selection> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let mut selection = Selection {
        drivers: owned(DRIVERS),
        threads: owned(THREADS),
        files: Vec::new(),
        is_everything: args.is_empty(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--driver" => selection.drivers = vec![value()?],
            "--threads" => selection.threads = vec![value()?],
            file => selection.files.push(file.to_owned()),
        }
    }
    Ok(selection)
}

fn run_against(driver: &str, threads: &str, files: &[String], tls: Option<&Path>) -> Result<Tally> {
    let name = if tls.is_some() { "tls" } else { driver };
    let mut scripts = Scripts::new("tests/clients", &format!("clients-{name}-{threads}"), CONCURRENCY);
    scripts.command.args(files).env("PINWIRE_DRIVER", driver).env("PINWIRE_THREADS", threads);
    if let Some(directory) = tls {
        let certificate = directory.join("node.crt");
        scripts.command.env("PINWIRE_TLS_DIR", directory).env("NODE_EXTRA_CA_CERTS", certificate);
    }
    scripts.run(RUN_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_narrow_the_matrix() {
        let args = ["--driver", "epoll", "sync.test.js"].map(str::to_owned);
        let selection = parse(&args).unwrap();
        assert_eq!(selection.drivers, ["epoll"]);
        assert_eq!(selection.threads, ["1", "2"]);
        assert_eq!(selection.files, ["sync.test.js"]);
        assert!(parse(&["--threads".to_owned()]).is_err());
    }
}
