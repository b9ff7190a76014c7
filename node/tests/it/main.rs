//! The program as operators and clients meet it.

mod keys;
mod ops;
mod provider;
mod rig;
mod serve;
mod tls;
