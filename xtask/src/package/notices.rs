//! Licences and notices of the libraries that are linked into the programs.

use crate::shell::{cargo, stdout};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Files beside a library's manifest that begin so are what its licence asks to be passed on.
const NAMES: &[&str] = &["license", "licence", "copying", "notice", "copyright"];

/// One text about all libraries that any of `programs` is linked with: a list, then each distinct text once.
pub(super) fn of(programs: &[&str]) -> Result<String> {
    let homes = homes()?;
    let mut list = String::from("Libraries that are linked into the programs, and their licences.\n\n");
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, license) in linked(programs)? {
        let _ = writeln!(list, "{name}: {license}");
        let home = homes.get(&name).with_context(|| format!("cargo knows no folder of {name}"))?;
        for text in texts_in(home)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (text, names) in texts {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let _ = write!(list, "\n{}\n{names}\n\n{text}\n", "-".repeat(80));
    }
    Ok(list)
}

/// Name and version of each library, with its licence.
fn linked(programs: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut tree =
        cargo(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}\t{l}"]);
    for program in programs {
        tree.args(["--package", program]);
    }
    let listed = stdout(&mut tree)?;
    let line = |line: &str| {
        let (package, license) = line.split_once('\t')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?.trim_start_matches('v'));
        // What stands in this workspace is no library of others.
        (!name.starts_with("pinwire-"))
            .then(|| (format!("{name} {version}"), license.trim_end_matches(" (*)").to_owned()))
    };
    Ok(listed.lines().filter_map(line).collect())
}

/// Folder of each package that cargo knows, by name and version.
fn homes() -> Result<BTreeMap<String, PathBuf>> {
    let metadata = stdout(&mut cargo(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let home = |package: &serde_json::Value| {
        let [name, version, manifest] =
            ["name", "version", "manifest_path"].map(|key| package[key].as_str().unwrap_or_default());
        (format!("{name} {version}"), Path::new(manifest).parent().map(Path::to_path_buf).unwrap_or_default())
    };
    Ok(metadata["packages"].as_array().map(|all| all.iter().map(home).collect()).unwrap_or_default())
}

fn texts_in(home: &Path) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(home).with_context(|| format!("cannot read {}", home.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.insert(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned());
        }
    }
    Ok(texts)
}
