//! Tokens of the simulated apps, and their verdicts.

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::{Access, App, AppLimits, Grant, Policy, Verdict};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    ReadWrite,
    ReadOnly,
    /// Fails verification.
    Invalid,
    /// Is valid, but for no document.
    Forbidden,
}

#[derive(Debug)]
struct Fixed(Option<Access>);

impl Policy for Fixed {
    fn access(&self, _document: &str, _origin: Option<&str>) -> Result<Access, Close> {
        self.0.ok_or_else(|| Close::new(CloseCode::Forbidden, "document not allowed by the token"))
    }
}

impl Token {
    pub(super) fn is_read_only(self) -> bool {
        self == Self::ReadOnly
    }

    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadOnly)
    }

    /// A good token in place of a bad one, for the same rights.
    pub(super) fn replacing(token: Option<Self>, read_only: bool) -> Self {
        match token {
            Some(token) if token.is_good() => token,
            _ if read_only => Self::ReadOnly,
            _ => Self::ReadWrite,
        }
    }

    pub(super) fn encode(self, app: usize) -> String {
        format!("{app}.{self:?}")
    }

    /// What a verifier says of an encoded token.
    pub(super) fn judge(encoded: &str, apps: &[Arc<App>]) -> Verdict {
        let invalid = || Close::new(CloseCode::InvalidToken, "invalid token");
        let (app, kind) = encoded.split_once('.').ok_or_else(invalid)?;
        let app = app.parse::<usize>().ok().and_then(|app| apps.get(app)).ok_or_else(invalid)?;
        let access = match kind {
            "ReadWrite" => Some(Access::ReadWrite),
            "ReadOnly" => Some(Access::ReadOnly),
            "Forbidden" => None,
            _ => return Err(invalid()),
        };
        Ok(Arc::new(Grant {
            app: Arc::clone(app),
            limits: AppLimits::UNLIMITED,
            subject: kind.into(),
            regions: None,
            expires: None,
            policy: Box::new(Fixed(access)),
        }))
    }
}
