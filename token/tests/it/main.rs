//! The crate as its users see it, with keys made for the occasion.

mod claims;
mod forgery;
mod jwks;
mod support;
