//! Installing what the stages need and this machine lacks. Touches nothing that is there already.

use crate::shell::{cargo, command, root, run as run_command, stdout, tools_dir, works};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// The oldest Node.js whose test runner knows `--test-concurrency`.
const NODE_MIN: (u32, u32) = (20, 10);

/// Programs, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("cc", &["--version"], "build-essential"),
    ("c++", &["--version"], "build-essential"),
    ("git", &["--version"], "git"),
    ("node", &["--version"], "nodejs"),
    ("npm", &["--version"], "npm"),
    ("valgrind", &["--version"], "valgrind"),
    ("openssl", &["version"], "openssl"),
    ("systemd-analyze", &["--version"], "systemd"),
    ("promtool", &["--version"], "prometheus"),
    ("faketime", &["--version"], "faketime"),
];

/// Cargo subcommands, and the crates that bring them.
const CARGO_TOOLS: &[(&str, &str)] = &[("nextest", "cargo-nextest"), ("deny", "cargo-deny")];

pub(crate) fn run(_args: &[String]) -> Result<Tally> {
    install_programs()?;
    check_node_version()?;
    for (subcommand, package) in CARGO_TOOLS {
        install_cargo_tool(subcommand, package)?;
    }
    install_client_packages()?;
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
    println!("installing {}", missing.join(", "));
    apt_get(&["update", "--quiet"])?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    apt_get(&[&install, missing.as_slice()].concat())
}

fn apt_get(args: &[&str]) -> Result<()> {
    let is_root = stdout(command("id").arg("-u"))?.trim() == "0";
    let mut apt = if is_root {
        command("apt-get")
    } else {
        let mut sudo = command("sudo");
        sudo.args(["--non-interactive", "apt-get"]);
        sudo
    };
    run_command(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
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

/// `npm ci`, unless what the lock file names is installed.
pub(crate) fn install_client_packages() -> Result<()> {
    let clients = root().join("tests/clients");
    let installed = clients.join("node_modules/.package-lock.json");
    if is_newer(&installed, &clients.join("package-lock.json")) {
        return Ok(());
    }
    run_command(command("npm").arg("ci").current_dir(&clients)).context("installing the clients")
}

fn is_newer(one: &Path, other: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((modified(one), modified(other)), (Ok(one), Ok(other)) if one >= other)
}
