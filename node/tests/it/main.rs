//! The program as operators and clients meet it.

mod ops;
mod rig;
mod serve;
mod store;
mod tls;
