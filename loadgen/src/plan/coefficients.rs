//! The figures that plans are computed with: one file, each with its source and the range it was measured in.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file.
const TEXT: &str = include_str!("../../coefficients.toml");

/// One figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Coefficient {
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// A page in `benches/results`, or the file that sets it.
    pub(crate) source: String,
    pub(crate) range: String,
}

/// All of them; what each is stands in the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Coefficients {
    pub(crate) process_bytes: Coefficient,
    pub(crate) thread_bytes: Coefficient,
    pub(crate) connection_bytes: Coefficient,
    pub(crate) document_bytes: Coefficient,
    pub(crate) awareness_bytes: Coefficient,
    pub(crate) log_share: Coefficient,
    pub(crate) socket_bytes: Coefficient,
    pub(crate) poll_bytes: Coefficient,
    pub(crate) buffer_bytes: Coefficient,
    pub(crate) delivery_us: Coefficient,
    pub(crate) frame_us: Coefficient,
    pub(crate) handshake_us: Coefficient,
    pub(crate) ping_seconds: Coefficient,
    pub(crate) idle_frame_seconds: Coefficient,
    pub(crate) renewal_seconds: Coefficient,
    pub(crate) collect_seconds: Coefficient,
}

impl Coefficients {
    /// Reads the file that was built in.
    ///
    /// # Errors
    /// It is not as it should be; a test sees to that.
    pub(crate) fn read() -> Result<Self> {
        toml::from_str(TEXT).context("loadgen/coefficients.toml")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_figure_is_positive_and_its_page_is_there() {
        let all: toml::Table = toml::from_str(TEXT).unwrap();
        Coefficients::read().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, entry) in all {
            let coefficient: Coefficient = entry.try_into().unwrap();
            assert!(coefficient.value > 0.0, "{name}");
            assert!(!coefficient.unit.is_empty() && !coefficient.range.is_empty(), "{name}");
            let source = coefficient.source;
            if source.ends_with(".md") || source.ends_with(".rs") {
                let is_there = [root.join("benches/results"), root.clone()]
                    .iter()
                    .any(|folder| folder.join(&source).exists());
                assert!(is_there, "{name}: {source}");
            }
        }
    }
}
