//! Real Yjs clients from npm against the release build of the node.

use crate::pool;
use crate::scripts::Scripts;
use crate::shell::{command, root, target_dir};
use crate::tally::Tally;
use crate::{setup, unit};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const DIRECTORY: &str = "tests/clients";
const DRIVERS: &[&str] = &["uring", "epoll"];
const THREADS: &[&str] = &["1", "2"];
/// What is run in TLS too, once: documents of every kind of client, on any thread, whoever comes and goes.
const TLS_FILES: &[&str] = &["sync.test.js", "convergence.test.js", "awareness.test.js"];

/// What starts clusters of several nodes by itself, once: they differ from one node in what is between nodes.
const CLUSTER_FILES: &[&str] = &[
    "regions.test.js",
    "relay.test.js",
    "outages.test.js",
    "faults-redirect.test.js",
    "faults-relay.test.js",
];

/// Test files that run at the same time, and nodes with them. They mostly wait: one node's take 10 s of processor time in a
/// minute.
const CONCURRENCY: u32 = 6;
const NODES: usize = 3;
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
    let mut runs = Vec::new();
    let (of_clusters, of_nodes): (Vec<String>, Vec<String>) =
        selection.files()?.into_iter().partition(|file| CLUSTER_FILES.contains(&file.as_str()));
    if !of_clusters.is_empty() {
        // The first, for they take longest.
        let driver = selection.drivers.first().cloned().unwrap_or_default();
        let threads = selection.threads.last().cloned().unwrap_or_default();
        runs.push(Run {
            name: "clients-cluster".to_owned(),
            driver,
            threads,
            files: of_clusters,
            certificates: None,
        });
    }
    for driver in &selection.drivers {
        for threads in &selection.threads {
            let (driver, threads, files) = (driver.clone(), threads.clone(), of_nodes.clone());
            let name = format!("clients-{driver}-{threads}");
            runs.push(Run { name, driver, threads, files, certificates: None });
        }
    }
    runs.retain(|run| !run.files.is_empty());
    if selection.is_everything {
        let files = TLS_FILES.iter().map(|file| (*file).to_owned()).collect();
        let (driver, threads) = ("auto".to_owned(), "2".to_owned());
        let name = "clients-tls-2".to_owned();
        runs.push(Run { name, driver, threads, files, certificates: Some(certificate()?) });
    }
    pool::in_parallel(runs, NODES, |run| run.run())
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

impl Selection {
    /// The test files, all of them where none is named.
    fn files(&self) -> Result<Vec<String>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(root().join(DIRECTORY))? {
            files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        files.retain(|file| file.ends_with(".test.js"));
        files.sort();
        Ok(files)
    }
}

/// Test files against nodes that are alike.
struct Run {
    name: String,
    driver: String,
    threads: String,
    files: Vec<String>,
    /// For TLS: where the certificate is.
    certificates: Option<PathBuf>,
}

impl Run {
    /// What the tests say is shown when they have ended, since others run beside them.
    fn run(&self) -> Result<Tally> {
        let Self { name, .. } = self;
        let mut scripts = Scripts::new(DIRECTORY, name, CONCURRENCY);
        let xtask = std::env::current_exe().context("this program")?;
        scripts.command.env("PINWIRE_XTASK", xtask);
        let command = &mut scripts.command;
        command.args(&self.files).env("PINWIRE_DRIVER", &self.driver).env("PINWIRE_THREADS", &self.threads);
        if let Some(directory) = &self.certificates {
            let certificate = directory.join("node.crt");
            command.env("PINWIRE_TLS_DIR", directory).env("NODE_EXTRA_CA_CERTS", certificate);
        }
        let said = target_dir().join(format!("{name}.log"));
        command.stdout(File::create(&said)?);
        let outcome = scripts.run(RUN_LIMIT);
        println!("--> {name}\n{}", fs::read_to_string(&said)?);
        outcome
    }
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
