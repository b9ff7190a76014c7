//! What is in the packages: what they need, what they bring, and what Debian's own checker says.

use super::deb::PROGRAMS;
use crate::shell::{command, stdout};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// What the programs may be linked with: the C library and the compiler's, which every system has.
const LIBRARIES: &[&str] =
    &["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
/// The oldest glibc that packages are to run with, that of Debian 12. A build on a system with a newer one needs that.
const GLIBC_MAX: (u32, u32) = (2, 36);

/// A package, and something that has to be true of it.
type Check = fn(&Path, &str) -> Result<()>;

pub(super) fn all(packages: &[PathBuf]) -> Result<Tally> {
    const CHECKS: &[(&str, Check)] =
        &[("libraries", libraries), ("glibc", glibc), ("contents", contents), ("lintian", lintian)];
    let mut tally = Tally::default();
    for (package, name) in packages.iter().zip(PROGRAMS) {
        for (what, check) in CHECKS {
            let checked = check(package, name);
            if let Err(error) = &checked {
                println!("{name}, {what}: {error:#}");
            }
            tally.record(checked.is_ok());
        }
    }
    Ok(tally)
}

fn program(name: &str) -> PathBuf {
    super::deb::directory().join("tree/debian").join(name).join("usr/bin").join(name)
}

fn libraries(_package: &Path, name: &str) -> Result<()> {
    let headers = stdout(command("objdump").arg("-p").arg(program(name)))?;
    let needed = headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED"));
    match needed.map(str::trim).find(|library| !LIBRARIES.contains(library)) {
        Some(library) => bail!("is linked with {library}"),
        None => Ok(()),
    }
}

/// What the package says that it needs is no less than the program's symbols do, and no more than Debian 12 has.
fn glibc(package: &Path, name: &str) -> Result<()> {
    let symbols = stdout(command("objdump").arg("-T").arg(program(name)))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(version);
    let needed = versions.max().context("no symbol of glibc")?;
    let depends = stdout(command("dpkg-deb").arg("--field").arg(package).arg("Depends"))?;
    let declared = depends.split_once("libc6 (>= ").and_then(|(_, rest)| version(rest));
    let declared = declared.with_context(|| format!("does not depend on libc6: {depends}"))?;
    ensure!(declared >= needed, "declares {declared:?}, needs {needed:?}");
    let built_with = stdout(command("ldd").arg("--version"))?;
    let built_with = built_with.lines().next().and_then(|line| version(line.rsplit(' ').next()?));
    println!("{name} needs glibc {}.{}", declared.0, declared.1);
    if built_with.is_some_and(|built_with| built_with <= GLIBC_MAX) {
        ensure!(declared <= GLIBC_MAX, "needs a newer glibc than {GLIBC_MAX:?}");
    }
    Ok(())
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn contents(package: &Path, name: &str) -> Result<()> {
    let listed = stdout(command("dpkg-deb").arg("--contents").arg(package))?;
    let files: Vec<(&str, &str)> = listed.lines().filter_map(entry).collect();
    let common = [
        ("-rwxr-xr-x root/root", format!("/usr/bin/{name}")),
        ("-rw-r--r-- root/root", format!("/usr/share/man/man1/{name}.1.gz")),
        ("-rw-r--r-- root/root", format!("/usr/share/bash-completion/completions/{name}")),
        ("-rw-r--r-- root/root", format!("/usr/share/zsh/vendor-completions/_{name}")),
        ("-rw-r--r-- root/root", format!("/usr/share/fish/vendor_completions.d/{name}.fish")),
        ("-rw-r--r-- root/root", format!("/usr/share/doc/{name}/copyright")),
        ("-rw-r--r-- root/root", format!("/usr/share/doc/{name}/changelog.gz")),
        ("-rw-r--r-- root/root", format!("/usr/share/doc/{name}/changelog.Debian.gz")),
        ("-rw-r--r-- root/root", format!("/usr/share/doc/{name}/THIRD-PARTY.txt.gz")),
    ];
    let node = [
        ("drwxr-xr-x root/root", "/etc/pinwire/"),
        ("-rw-r--r-- root/root", "/usr/lib/sysusers.d/pinwire-node.conf"),
        ("-rw-r--r-- root/root", "/usr/share/doc/pinwire-node/install.md.gz"),
        ("-rw-r--r-- root/root", "/usr/share/doc/pinwire-node/examples/prometheus/alerts.yml"),
        ("-rw-r--r-- root/root", "/usr/share/man/man1/pinwire-node-config-check.1.gz"),
    ];
    let own = node.iter().filter(|_| name == "pinwire-node").map(|(mode, path)| (*mode, (*path).to_owned()));
    for (mode, path) in common.into_iter().chain(own) {
        ensure!(files.contains(&(mode, path.as_str())), "has no {path}, or not as {mode}");
    }
    let is_unit = |path: &str| path.ends_with("/lib/systemd/system/pinwire.service");
    ensure!(
        files.iter().any(|(_, path)| is_unit(path)) == (name == "pinwire-node"),
        "the unit belongs to pinwire-node"
    );
    Ok(())
}

/// Mode with owner, and path from the root, of a line of `dpkg-deb --contents`.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (mode, rest) = line.split_at_checked("-rwxr-xr-x root/root".len())?;
    let path = rest.split_whitespace().nth(3)?;
    Some((mode, path.strip_prefix('.')?))
}

/// Everything that lintian warns of is mended, or overridden with a reason in `ops/debian`.
fn lintian(package: &Path, _name: &str) -> Result<()> {
    let mut lintian = command("lintian");
    lintian.args(["--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root"]).arg(package);
    let output = lintian.output().context("lintian; `cargo xtask setup` installs it")?;
    ensure!(output.status.success(), "\n{}", String::from_utf8_lossy(&output.stdout).trim());
    Ok(())
}
