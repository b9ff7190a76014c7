//! The Debian packages, built from the release binaries: debhelper puts in place what the programs themselves write.

use super::notices;
use crate::setup::DEBHELPER;
use crate::shell::{command, root, run, stdout, target_dir, works};
use crate::unit::release_binary;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Each is a program and the package of the same name.
pub(crate) const PROGRAMS: &[&str] = &["pinwire-node", "pinwire-loadgen", "pinwire-admin"];

/// Each shell whose completions are shipped, with the file that it looks for.
const COMPLETIONS: &[(&str, &str, &str)] = &[("bash", "", ""), ("fish", "", ".fish"), ("zsh", "_", "")];

/// Where packages are made.
pub(crate) fn directory() -> PathBuf {
    target_dir().join("package")
}

/// Builds the packages and gives their files, in the order of [`PROGRAMS`].
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    ensure!(works("perl", DEBHELPER), "packages are made by debhelper; `cargo xtask setup` installs it");
    let _ = fs::remove_dir_all(directory());
    let tree = directory().join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    lay_out(&tree)?;
    let options = "noautodbgsym parallel=2";
    stdout(command("debian/rules").arg("binary").current_dir(&tree).env("DEB_BUILD_OPTIONS", options))?;
    PROGRAMS.iter().map(|name| package_file(name)).collect()
}

fn package_file(name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    for entry in fs::read_dir(directory())? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with(&prefix) && file.ends_with(".deb") {
            return Ok(path);
        }
    }
    bail!("debhelper made no package {name}")
}

/// Everything that goes into the packages, where `ops/debian` expects it.
fn lay_out(tree: &Path) -> Result<()> {
    copy_tree(&root().join("ops/debian"), &tree.join("debian"))?;
    fs::copy(root().join("ops/systemd/pinwire.service"), tree.join("debian/pinwire-node.pinwire.service"))?;
    check_version(tree)?;
    for file in ["README.md", "SECURITY.md", "CHANGELOG.md"] {
        fs::copy(root().join(file), tree.join(file))?;
    }
    for folder in ["docs", "ops/prometheus", "ops/grafana"] {
        copy_tree(&root().join(folder), &tree.join(folder))?;
    }
    for name in PROGRAMS {
        lay_out_program(tree, name)?;
    }
    fs::write(tree.join("THIRD-PARTY.txt"), notices::of(PROGRAMS)?)?;
    Ok(())
}

/// A program, and the pages and completions that it writes about itself.
fn lay_out_program(tree: &Path, name: &str) -> Result<()> {
    let program = tree.join(name);
    let built = release_binary(name);
    fs::copy(&built, &program)
        .with_context(|| format!("{}: `cargo xtask build` makes it", built.display()))?;
    run(command(&program).arg("manual").arg(tree.join("man")))?;
    for (shell, before, after) in COMPLETIONS {
        let folder = tree.join("completions").join(shell);
        fs::create_dir_all(&folder)?;
        let text = stdout(command(&program).args(["completions", shell]))?;
        fs::write(folder.join(format!("{before}{name}{after}")), text)?;
    }
    Ok(())
}

/// The packages' version is the workspace's, with Debian's revision behind it.
fn check_version(tree: &Path) -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str().unwrap_or_default();
    let packaged = stdout(command("dpkg-parsechangelog").args(["-SVersion"]).current_dir(tree))?;
    ensure!(
        packaged.trim().rsplit_once('-').is_some_and(|(upstream, _)| upstream == version),
        "ops/debian/changelog is about {}, the workspace is {version}: add an entry",
        packaged.trim()
    );
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
