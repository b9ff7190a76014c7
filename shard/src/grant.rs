//! What a verified token allows, as far as a shard needs to know it.

use crate::{App, AppLimits};
use pinwire_protocol::close::Close;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

/// Verdict on a token.
pub type Verdict = Result<Arc<Grant>, Close>;

/// A verified token.
#[derive(Debug)]
pub struct Grant {
    /// The app it is for.
    pub app: Arc<App>,
    /// What that app may use, by this token.
    pub limits: AppLimits,
    /// `sub`.
    pub subject: Box<str>,
    /// `regions`: where it may be used; everywhere without.
    pub regions: Option<Arc<[Box<str>]>>,
    /// Until when it is good, in Unix seconds: `exp`, and what clocks may differ by.
    pub expires: Option<u64>,
    /// Which documents, from which origins, and how.
    pub policy: Box<dyn Policy>,
}

/// The part of a token that is judged per document.
pub trait Policy: Debug + Send + Sync {
    /// How `document` may be opened by a client whose handshake carried `origin`.
    ///
    /// # Errors
    /// A close 4003 with its reason.
    fn access(&self, document: &str, origin: Option<&str>) -> Result<Access, Close>;
}

/// How a document may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Edits are taken.
    ReadWrite,
    /// Edits are dropped.
    ReadOnly,
}

/// A WebSocket that was just opened: what its handshake said.
#[derive(Debug)]
pub struct Opening {
    /// The document in the path, unchecked.
    pub document: Option<Box<str>>,
    /// The token of the handshake.
    pub token: Option<Box<str>>,
    /// `Origin`.
    pub origin: Option<Box<str>>,
    /// The client's address.
    pub peer: IpAddr,
    /// permessage-deflate was negotiated.
    pub deflate: bool,
}
