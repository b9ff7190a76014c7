//! Tokens: claims, keys, verification and minting, given keys and the time.
//!
//! No I/O, no clock, no state of its own: whoever calls passes the keys, the policy and the time in.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`claims`] | what a token says |
//! | [`pattern`] | which documents it is for |
//! | [`keys`], [`jwks`] | keys, each for one algorithm and perhaps one tenant |
//! | [`verify`] | is this token good? ([`Rejection`], close 4002) |
//! | [`access`] | what may its bearer do? ([`Forbidden`], close 4003) |
//! | [`origin`] | the rule for `Origin` |
//! | [`verdicts`] | a bounded memory of good tokens |
//! | [`mint`] | making tokens |
//!
//! A connection's path: [`Verdicts::verify`] once per token, then [`authorize`] once per document.

pub mod access;
pub mod claims;
pub mod jwks;
pub mod keys;
pub mod mint;
pub mod origin;
pub mod pattern;
pub mod verdicts;
pub mod verify;

pub use access::{Access, Forbidden, Request, authorize};
pub use claims::{Claims, Limits, OwnLimits};
pub use jwks::{Jwks, SkippedKey};
pub use keys::{Algorithm, Fingerprint, Key, KeyError, KeySet};
pub use mint::{MintError, SigningKey, mint};
pub use pattern::DocumentPatterns;
pub use verdicts::Verdicts;
pub use verify::{
    MAX_TOKEN_BYTES, Malformed, Policy, Rejection, Verified, claims_error, header_error, is_costly,
    read_unverified, verify, verify_by,
};
