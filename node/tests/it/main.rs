//! The program as operators and clients meet it.

mod exhaustion;
mod ops;
mod rig;
mod serve;
mod tls;
mod traces;
