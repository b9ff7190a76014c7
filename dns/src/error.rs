//! What is wrong, where, and what would mend it.

use std::fmt;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {fault}; {mend}")]
pub struct SettingError {
    /// Which one, by its name in the settings.
    pub setting: &'static str,
    /// What is wrong with it.
    pub fault: String,
    /// What to do.
    pub mend: String,
}

impl SettingError {
    pub(crate) fn new(setting: &'static str, fault: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { setting, fault: fault.into(), mend: mend.into() }
    }
}

/// Why a provider did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderError {
    /// The name has other addresses than the change was decided on: nothing was changed.
    Changed,
    /// It could not be done, or it is not known whether it was.
    Failed(Failure),
}

/// What failed, as an operator needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which server, service or program.
    pub place: String,
    /// What happened.
    pub fault: String,
    /// What to look at; empty where the fault says it all.
    pub mend: String,
}

impl ProviderError {
    pub(crate) fn failed(
        place: impl Into<String>,
        fault: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Failed(Failure { place: place.into(), fault: fault.into(), mend: mend.into() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.fault)?;
        if self.mend.is_empty() { Ok(()) } else { write!(formatter, "; {}", self.mend) }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => formatter.write_str("the addresses were changed by somebody else meanwhile"),
            Self::Failed(failure) => failure.fmt(formatter),
        }
    }
}

impl std::error::Error for ProviderError {}
