//! Installing what the stages need and this machine lacks. Touches nothing that is there already.

use crate::shell::{cargo, command, root, run as run_command, stdout, tools_dir, works};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Node.js that builds the example editor (with Vite).
const NODE_MIN: (u32, u32) = (20, 19);

/// Programs, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("cc", &["--version"], "build-essential"),
    ("c++", &["--version"], "build-essential"),
    ("git", &["--version"], "git"),
    ("node", &["--version"], "nodejs"),
    ("npm", &["--version"], "npm"),
    ("valgrind", &["--version"], "valgrind"),
    ("openssl", &["version"], "openssl"),
    ("prlimit", &["--version"], "util-linux"),
    ("systemd-analyze", &["--version"], "systemd"),
    ("promtool", &["--version"], "prometheus"),
    ("sh", &["-c", "command -v certutil"], "libnss3-tools"),
    ("objdump", &["--version"], "binutils"),
    ("perl", DEBHELPER, "debhelper"),
    ("lintian", &["--version"], "lintian"),
    ("man", &["--version"], "man-db"),
    ("fish", &["--version"], "fish"),
    ("zsh", &["--version"], "zsh"),
    ("curl", &["--version"], "curl"),
    ("ip", &["-V"], "iproute2"),
    ("python3", &["-c", "import ensurepip, venv"], "python3-venv"),
    ("redis-server", &["--version"], "redis-server"),
    ("redis-sentinel", &["--version"], "redis-sentinel"),
    ("redis-cli", &["--version"], "redis-tools"),
    ("faketime", &["--version"], "faketime"),
    ("dig", &["-v"], "bind9-dnsutils"),
    ("sh", &["-c", "PATH=$PATH:/usr/sbin; command -v named"], "bind9"),
    ("sh", &["-c", "PATH=$PATH:/usr/sbin; command -v knotd"], "knot"),
];

/// What Debian asks whether a package may start its service. Tests start servers of their own; those of the packages would only take
/// their ports.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Programs that are Chromium, the first that is there taken.
const BROWSERS: &[&str] = &["chromium", "google-chrome", "google-chrome-stable", "chromium-browser"];

/// For perl: debhelper's own programs succeed in a package's tree only.
pub(crate) const DEBHELPER: &[&str] = &["-MDebian::Debhelper::Dh_Version", "-e", "1"];

/// Cargo subcommands, and the crates that bring them.
const CARGO_TOOLS: &[(&str, &str)] = &[("nextest", "cargo-nextest"), ("deny", "cargo-deny")];

pub(crate) fn run(_args: &[String]) -> Result<Tally> {
    install_programs()?;
    check_node_version()?;
    for (subcommand, package) in CARGO_TOOLS {
        install_cargo_tool(subcommand, package)?;
    }
    install_client_packages()?;
    install_browser()?;
    install_browser_packages()?;
    install_schemathesis()?;
    Ok(Tally::default())
}

fn install_programs() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, args, _)| !works(program, args)).map(|entry| entry.2).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !works("apt-get", &["--version"]) {
        bail!("please install: {}", missing.join(", "));
    }
    install(&missing)
}

fn install(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(", "));
    apt_get(&["update", "--quiet"])?;
    // A policy that is there already is somebody's, and stays.
    let has_policy = Path::new(POLICY).exists();
    if !has_policy {
        let deny = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        run_command(as_root("sh")?.args(["-c", &deny]))?;
    }
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let installed = apt_get(&[&install, packages].concat());
    if !has_policy {
        run_command(as_root("rm")?.args(["-f", POLICY]))?;
    }
    installed
}

/// The path of a Chromium that runs here.
pub(crate) fn install_browser() -> Result<PathBuf> {
    if let Some(browser) = find_browser() {
        return Ok(browser);
    }
    if !works("apt-get", &["--version"]) {
        bail!("please install Chromium");
    }
    install(&["chromium"])?;
    find_browser().context("the package chromium brought no Chromium that runs")
}

fn find_browser() -> Option<PathBuf> {
    let name = BROWSERS.iter().find(|name| works(name, &["--version"]))?;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn apt_get(args: &[&str]) -> Result<()> {
    run_command(as_root("env")?.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args))
}

/// A command with root's rights.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if stdout(command("id").arg("-u"))?.trim() == "0" {
        return Ok(command(program));
    }
    let mut sudo = command("sudo");
    sudo.args(["--non-interactive", program]);
    Ok(sudo)
}

fn check_node_version() -> Result<()> {
    let version = stdout(command("node").arg("--version"))?;
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= NODE_MIN => Ok(()),
        _ => bail!("Node.js {}.{} or later is needed, this is {}", NODE_MIN.0, NODE_MIN.1, version.trim()),
    }
}

/// Installs `package` into the target directory unless `cargo SUBCOMMAND` is there.
pub(crate) fn install_cargo_tool(subcommand: &str, package: &str) -> Result<()> {
    if works("cargo", &[subcommand, "--version"]) {
        return Ok(());
    }
    println!("installing {package} (a few minutes, once)");
    let tools = tools_dir();
    // Not optimised: it runs for seconds, and would be built for minutes.
    let mut install = cargo(["install", "--locked", "--quiet", "--debug", package, "--root"]);
    install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("build"));
    install.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "false");
    run_command(&mut install).with_context(|| format!("installing {package}"))?;
    // The build of a tool is larger than the tool and not needed again.
    let _ = fs::remove_dir_all(tools.join("build"));
    Ok(())
}

/// The stock clients of `tests/clients`.
pub(crate) fn install_client_packages() -> Result<()> {
    install_packages("tests/clients")
}

/// What drives the browser, and what the example editor is built with.
pub(crate) fn install_browser_packages() -> Result<()> {
    install_packages("tests/browser")?;
    install_packages("examples/editor")
}

/// `npm ci`, unless what the lock file names is installed.
fn install_packages(directory: &str) -> Result<()> {
    let packages = root().join(directory);
    let installed = packages.join("node_modules/.package-lock.json");
    if is_newer(&installed, &packages.join("package-lock.json")) {
        return Ok(());
    }
    run_command(command("npm").arg("ci").current_dir(&packages))
        .with_context(|| format!("installing the packages of {directory}"))
}

/// The program that tests an HTTP API against its description, and the version that is known to find nothing here.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Installs schemathesis into an environment of its own, unless it is there; gives its program.
pub(crate) fn install_schemathesis() -> Result<PathBuf> {
    let environment = tools_dir().join("schemathesis");
    let program = environment.join("bin/schemathesis");
    let installed = environment.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|version| version == SCHEMATHESIS) {
        return Ok(program);
    }
    println!("installing {SCHEMATHESIS}");
    run_command(command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS];
    run_command(command(environment.join("bin/python")).args(pip)).context("installing schemathesis")?;
    fs::write(&installed, SCHEMATHESIS)?;
    Ok(program)
}

fn is_newer(one: &Path, other: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((modified(one), modified(other)), (Ok(one), Ok(other)) if one >= other)
}
