//! Results as JSON, whole: what is compared, kept and merged later.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::results::{Results, SCHEMA};

/// Writes them.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Reads them.
///
/// # Errors
/// No such file, no results, or results of another version.
pub fn read(path: &Path) -> Result<Results> {
    let place = || format!("{}", path.display());
    let value: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).with_context(place)?).with_context(place)?;
    let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or("none");
    ensure!(
        schema == SCHEMA,
        "{}: results of schema `{schema}`; this program reads `{SCHEMA}`",
        path.display()
    );
    serde_json::from_value(value).with_context(place)
}

/// The JSON Schema of what is written.
///
/// # Errors
/// None that a test would not find.
pub fn schema() -> Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(Results))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn results_are_read_back_and_other_versions_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let mut written = results();
        written.correctness.lost = 3;
        write(&written, &path).unwrap();
        assert_eq!(read(&path).unwrap().correctness.lost, 3);
        written.schema = "pinwire-loadgen/0".into();
        write(&written, &path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("pinwire-loadgen/0"));
    }

    #[test]
    fn the_kept_schema_is_that_of_the_types() {
        let kept = include_str!("../../schema.json");
        assert!(kept == schema().unwrap(), "`pinwire-loadgen schema > loadgen/schema.json` renews it");
    }
}
