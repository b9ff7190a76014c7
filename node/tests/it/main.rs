//! The program as operators and clients meet it.

mod admin;
mod clock;
mod doctor;
mod exhaustion;
mod keys;
mod links;
mod member;
mod moves;
mod ops;
mod provider;
mod regions;
mod rig;
mod serve;
mod status;
mod store;
mod tls;
mod traces;
