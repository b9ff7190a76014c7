//! Why a call to Redis has no answer.

use std::sync::Arc;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No server answered in time, or the one that did cannot serve now. Whether the call was carried out is unknown.
    #[error("{0}")]
    OutOfReach(Arc<str>),
    /// The server's memory is at its bound (`OOM`): the call was refused as a whole.
    #[error("the server's memory is full: {0}")]
    Full(Arc<str>),
    /// The server refused it: a missing right, a wrong type, an error in a script.
    #[error("the server refused it: {0}")]
    Refused(Arc<str>),
}

impl Error {
    pub(crate) fn out_of_reach(reason: impl Into<Arc<str>>) -> Self {
        Self::OutOfReach(reason.into())
    }
}

/// What an error that the server sent, or the loss of its connection, means for who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was carried out: this server is not the one to ask (any more). Look again who is.
    NotHere,
    /// Nothing was carried out; another server has the slot for good.
    Moved(String, u16),
    /// Nothing was carried out; another server has this key while the slot moves.
    Ask(String, u16),
    /// Nothing was carried out: the script is not loaded.
    NoScript,
    /// The connection is of no use any more; whether the call was carried out is unknown.
    Lost(Arc<str>),
    /// For the caller.
    Failed(Error),
}

pub(crate) fn judge(error: &redis::RedisError) -> Verdict {
    let text: Arc<str> = error.to_string().into();
    if error.is_unrecoverable_error() || error.is_io_error() || error.is_connection_dropped() {
        return Verdict::Lost(text);
    }
    match error.code() {
        Some("MOVED") => redirect(error, Verdict::Moved).unwrap_or(Verdict::NotHere),
        Some("ASK") => redirect(error, Verdict::Ask).unwrap_or(Verdict::NotHere),
        Some("NOSCRIPT") => Verdict::NoScript,
        // A replica; a slot half way; a Cluster that has not decided who serves.
        Some("READONLY" | "UNBLOCKED" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN") => Verdict::NotHere,
        Some("OOM") => Verdict::Failed(Error::Full(text)),
        Some("LOADING" | "BUSY" | "NOREPLICAS" | "MISCONF") => Verdict::Failed(Error::OutOfReach(text)),
        _ => script_error(&text).unwrap_or(Verdict::Failed(Error::Refused(text))),
    }
}

/// The crate tells `host:port` and the slot. The host may be empty: that of the server which answered.
fn redirect(error: &redis::RedisError, to: fn(String, u16) -> Verdict) -> Option<Verdict> {
    let (name, port) = error.redirect_node()?.0.rsplit_once(':')?;
    Some(to(name.to_owned(), port.parse().ok()?))
}

/// A command that failed within a script fails the script with its own words, but not always with its code in front.
fn script_error(text: &str) -> Option<Verdict> {
    if text.contains("OOM command not allowed") {
        return Some(Verdict::Failed(Error::Full(text.into())));
    }
    text.contains("READONLY You can't write against a read only replica").then_some(Verdict::NotHere)
}
