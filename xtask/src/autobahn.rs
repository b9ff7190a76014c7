//! The Autobahn cases against the bench server: `wstest` where a CPython 2.7 is found, else `kosoku` under Python 3.
//!
//! A case passes when both its behaviour and its close are OK or informational; NON-STRICT is a failure.

use crate::shell::{cargo, command, run as run_command, status_within, stdout, target_dir};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every case but most of 12 and 13, which are compression at many sizes and take ten minutes: of those the first sizes
/// of each kind.
const QUICK: &[&str] = &[
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.1.1", "12.1.2", "12.1.3", "12.2.1",
    "12.3.1", "12.4.1", "12.5.1", "13.1.1", "13.1.2", "13.2.1", "13.3.1", "13.4.1", "13.5.1", "13.6.1",
    "13.7.1",
];
/// How many cases these patterns and all cases are: fewer reports mean that the run broke off.
const QUICK_CASES: usize = 316;
const ALL_CASES: usize = 517;

const QUICK_LIMIT: Duration = Duration::from_secs(5 * 60);
const FULL_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What `wstest` needs, in an order in which each builds without the network's idea of "latest".
const WSTEST_PACKAGES: &[&[&str]] = &[
    &["setuptools==44.0.0", "wheel==0.36.2", "incremental==16.10.1"],
    &["cryptography==3.3.2", "pyOpenSSL==19.1.0"],
    &["--no-build-isolation", "Twisted==19.10.0"],
    &["--no-build-isolation", "autobahntestsuite==25.10.1"],
];
const KOSOKU: &str = "kosoku==0.1.0";

struct Options {
    full: bool,
    drivers: Vec<String>,
}

/// Runs the cases on both drivers, or on the one that `--driver` names; `--full` runs all of them. Counts cases.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let options = parse(args)?;
    let tester = Tester::find()?;
    if options.full && matches!(tester, Tester::Kosoku { .. }) {
        bail!(
            "all cases need wstest, and wstest needs a CPython 2.7 with pip: kosoku fails some of 13 by itself"
        );
    }
    let server = build_server()?;
    let mut total = Tally::default();
    for driver in &options.drivers {
        let report = Server::start(&server, driver)
            .and_then(|server| tester.test(server.addr, driver, options.full))
            .with_context(|| format!("Autobahn on {driver}"))?;
        total += judge(&report, driver, tester.case_count(options.full))?;
    }
    Ok(total)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { full: false, drivers: vec!["uring".to_owned(), "epoll".to_owned()] };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => options.full = true,
            "--driver" => {
                let driver = args.next().context("--driver needs uring or epoll")?;
                if !["uring", "epoll"].contains(&driver.as_str()) {
                    bail!("--driver needs uring or epoll, not {driver}");
                }
                options.drivers = vec![driver.clone()];
            }
            _ => bail!("autobahn: [--full] [--driver uring|epoll]; what is {arg}?"),
        }
    }
    Ok(options)
}

fn build_server() -> Result<PathBuf> {
    run_command(&mut cargo([
        "build",
        "--release",
        "-p",
        "pinwire-benches",
        "--bin",
        "pinwire-bench-server",
    ]))?;
    Ok(target_dir().join("release/pinwire-bench-server"))
}

/// The bench server on a port of its own; ends with the value.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(binary: &Path, driver: &str) -> Result<Server> {
        let mut child = Command::new(binary)
            .args(["--listen", "127.0.0.1:0", "--threads", "2", "--driver", driver])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bench server")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let addr = line.trim().rsplit(' ').next().and_then(|addr| addr.parse().ok());
        let mut server = Server { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        server.addr = addr.context("the bench server did not say where it listens")?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that runs the cases.
enum Tester {
    Wstest { user_base: PathBuf },
    Kosoku { program: PathBuf },
}

impl Tester {
    /// Installs one below the target directory, once.
    fn find() -> Result<Tester> {
        let home = target_dir().join("autobahn");
        fs::create_dir_all(&home)?;
        match python2() {
            Some(python) => install_wstest(&python, home.join("py2")),
            None => install_kosoku(&home.join("py3")),
        }
    }

    /// How many cases a run has to report.
    fn case_count(&self, full: bool) -> usize {
        match self {
            _ if full => ALL_CASES,
            Tester::Wstest { .. } => QUICK_CASES,
            // It takes exclusions only: all but 12 and 13.
            Tester::Kosoku { .. } => 301,
        }
    }

    /// Runs the cases and returns the path of the index.
    fn test(&self, addr: SocketAddr, agent: &str, full: bool) -> Result<PathBuf> {
        let report = target_dir().join("autobahn/reports").join(agent);
        // Yesterday's report must not be judged.
        let _ = fs::remove_dir_all(&report);
        fs::create_dir_all(&report)?;
        let mut program = match self {
            Tester::Wstest { user_base } => {
                let spec = report.join("spec.json");
                fs::write(&spec, wstest_spec(addr, agent, &report, full).to_string())?;
                let mut wstest = command(user_base.join("bin/wstest"));
                wstest.env("PYTHONUSERBASE", user_base).args(["-m", "fuzzingclient", "-s"]).arg(spec);
                wstest
            }
            Tester::Kosoku { program } => {
                let mut kosoku = command(program);
                if !full {
                    kosoku.args(["-x", "12.*", "-x", "13.*"]);
                }
                kosoku.args(["-p", "1", "-o"]).arg(&report).arg(format!("{addr}/echo"));
                kosoku
            }
        };
        let log = fs::File::create(report.join("log.txt"))?;
        program.stdout(log.try_clone()?).stderr(log);
        let status = status_within(&mut program, if full { FULL_LIMIT } else { QUICK_LIMIT })?;
        let index = report.join("index.json");
        if !index.exists() {
            bail!("no report ({status}); see {}", report.join("log.txt").display());
        }
        Ok(index)
    }
}

fn wstest_spec(addr: SocketAddr, agent: &str, report: &Path, full: bool) -> Value {
    json!({
        "outdir": report,
        "servers": [{ "agent": agent, "url": format!("ws://{addr}/echo") }],
        "cases": if full { &["*"] } else { QUICK },
        "exclude-cases": [],
        "exclude-agent-cases": {},
    })
}

/// A CPython 2.7: the newest of pyenv's, or the system's.
fn python2() -> Option<PathBuf> {
    let of_pyenv = || {
        let versions = stdout(command("pyenv").args(["versions", "--bare"])).ok()?;
        let version =
            versions.lines().map(str::trim).rfind(|version| version.starts_with("2.7."))?.to_owned();
        let prefix = stdout(command("pyenv").args(["prefix", &version])).ok()?;
        Some(Path::new(prefix.trim()).join("bin/python2.7"))
    };
    let candidates = [of_pyenv(), Some(PathBuf::from("python2.7"))];
    let has_pip = |python: &PathBuf| stdout(command(python).args(["-m", "pip", "--version"])).is_ok();
    candidates.into_iter().flatten().find(has_pip)
}

fn install_wstest(python: &Path, user_base: PathBuf) -> Result<Tester> {
    let complete = user_base.join("complete");
    if !complete.exists() {
        println!("installing wstest (half a minute, once)");
        for packages in WSTEST_PACKAGES {
            let mut pip = command(python);
            pip.args([
                "-m",
                "pip",
                "install",
                "--user",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
            ]);
            pip.args(*packages).env("PYTHONUSERBASE", &user_base).env("PYTHONWARNINGS", "ignore");
            run_command(&mut pip).context("installing wstest")?;
        }
        fs::write(complete, "")?;
    }
    Ok(Tester::Wstest { user_base })
}

fn install_kosoku(environment: &Path) -> Result<Tester> {
    let program = environment.join("bin/kosoku");
    if !program.exists() {
        println!("no CPython 2.7 for wstest: installing kosoku");
        run_command(command("python3").args(["-m", "venv"]).arg(environment)).context("making a venv")?;
        let mut pip = command(environment.join("bin/pip"));
        run_command(pip.args(["install", "--quiet", "--no-input", KOSOKU])).context("installing kosoku")?;
    }
    Ok(Tester::Kosoku { program })
}

/// Counts the cases of a report and prints those that failed.
fn judge(index: &Path, driver: &str, expected: usize) -> Result<Tally> {
    let index: Value = serde_json::from_slice(&fs::read(index)?).context("reading the report")?;
    let cases: Vec<(&String, &Value)> = index
        .as_object()
        .into_iter()
        .flat_map(|agents| agents.values())
        .filter_map(Value::as_object)
        .flatten()
        .collect();
    let mut tally = Tally::default();
    for (name, case) in &cases {
        let (behavior, close) = (&case["behavior"], &case["behaviorClose"]);
        let passed = is_good(behavior) && is_good(close);
        tally.record(passed);
        if !passed {
            println!("    {driver}: case {name}: behavior {behavior}, close {close}");
        }
    }
    println!("    {driver}: {tally}");
    if cases.len() < expected {
        bail!("{driver}: only {} of {expected} cases were reported", cases.len());
    }
    Ok(tally)
}

fn is_good(outcome: &Value) -> bool {
    matches!(outcome.as_str(), Some("OK" | "INFORMATIONAL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(index: &Value, expected: usize) -> Result<Tally> {
        let file =
            std::env::temp_dir().join(format!("pinwire-autobahn-{}-{expected}.json", std::process::id()));
        fs::write(&file, index.to_string()).unwrap();
        let tally = judge(&file, "test", expected);
        fs::remove_file(file).unwrap();
        tally
    }

    #[test]
    fn anything_but_ok_and_informational_fails_in_either_column() {
        let case = |behavior: &str, close: &str| json!({ "behavior": behavior, "behaviorClose": close });
        let index = json!({ "agent": {
            "1.1.1": case("OK", "OK"),
            "6.4.1": case("NON-STRICT", "OK"),
            "7.1.6": case("INFORMATIONAL", "INFORMATIONAL"),
            "7.7.1": case("OK", "FAILED"),
            "7.7.2": case("OK", "UNCLEAN"),
            "7.7.3": {},
        }});
        assert_eq!(judged(&index, 6).unwrap(), Tally { passed: 2, failed: 4 });
    }

    #[test]
    fn a_report_that_broke_off_is_an_error() {
        let index = json!({ "agent": { "1.1.1": { "behavior": "OK", "behaviorClose": "OK" } } });
        assert!(judged(&index, 2).is_err());
        assert!(judged(&json!({}), 3).is_err());
    }
}
