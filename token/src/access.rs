//! What the bearer of a verified token may do here.

use std::borrow::Cow;

use crate::claims::Claims;
use crate::origin::origin_allowed;

/// How a document may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Read and change.
    #[default]
    ReadWrite,
    /// Read only; changes are dropped.
    ReadOnly,
}

/// What is asked for. `None` leaves that side unjudged.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The handshake's `Origin`; clients that are no browsers send none.
    pub origin: Option<&'a str>,
    /// The document to open.
    pub document: Option<&'a str>,
    /// The region that serves.
    pub region: Option<&'a str>,
    /// License regions this node can reach.
    pub known_db_codes: &'a [String],
}

/// Why a verified token is not enough: close 4003.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// The page's origin is none of `allowed_domain_*`.
    Origin,
    /// The region is none of `regions`.
    Region,
    /// The document matches none of `documents`.
    Document,
    /// `dbCode` names a license region this node does not know.
    UnknownDbCode(Box<str>),
    /// The token names no `dbCode`, and there are several license regions.
    NoDbCode,
    /// `dbCode` names another license region than the one that the app is of.
    OtherDbCode {
        /// What the token names.
        named: Box<str>,
        /// What tokens of the app named before.
        known: Box<str>,
    },
    /// The region is none of those that the app's record allows.
    AppRegion,
}

impl Forbidden {
    /// For the client: stable, and short enough for a close reason.
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Origin => "origin not allowed by the token".into(),
            Self::Region => "region not allowed by the token".into(),
            Self::Document => "document not allowed by the token".into(),
            Self::UnknownDbCode(code) => format!("unknown dbCode: {}", shown(code, MAX_CODE_SHOWN)).into(),
            Self::NoDbCode => "the token names no license region (dbCode)".into(),
            Self::OtherDbCode { named, known } => {
                let (named, known) = (shown(named, MAX_CODE_SHOWN / 2), shown(known, MAX_CODE_SHOWN / 2));
                format!("dbCode {named}: the app is of license region {known}").into()
            }
            Self::AppRegion => "region not allowed for the app".into(),
        }
    }
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason())
    }
}

impl std::error::Error for Forbidden {}

fn shown(code: &str, bytes: usize) -> &str {
    &code[..code.floor_char_boundary(bytes)]
}

/// Bytes of a foreign `dbCode` repeated to its sender; a whole close reason has 123 (RFC 6455 5.5).
const MAX_CODE_SHOWN: usize = 64;

/// Judges `request` by `claims`. Whether the token is of the right tenant and app is for whoever knows the socket's.
pub fn authorize(claims: &Claims, request: &Request<'_>) -> Result<Access, Forbidden> {
    if let Some(origin) = request.origin
        && !claims.allowed_domains.is_empty()
        && !origin_allowed(origin, &claims.allowed_domains)
    {
        return Err(Forbidden::Origin);
    }
    if let Some(code) = &claims.db_code
        && !request.known_db_codes.iter().any(|known| **known == **code)
    {
        return Err(Forbidden::UnknownDbCode(code.clone()));
    }
    if let (Some(regions), Some(region)) = (&claims.regions, request.region)
        && !regions.iter().any(|allowed| **allowed == *region)
    {
        return Err(Forbidden::Region);
    }
    if let Some(document) = request.document
        && !claims.documents.allow(document)
    {
        return Err(Forbidden::Document);
    }
    Ok(claims.access)
}
