//! The program as operators and clients meet it.

mod admin;
mod ops;
mod rig;
mod serve;
mod store;
mod tls;
