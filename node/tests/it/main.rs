//! The program as operators and clients meet it.

mod admin;
mod clock;
mod clustered;
mod doctor;
mod exhaustion;
mod keys;
mod leaving;
mod links;
mod member;
mod moves;
mod names;
mod older;
mod ops;
mod provider;
mod regions;
mod rig;
mod serve;
mod shedding;
mod status;
mod store;
mod succession;
mod tls;
mod traces;
mod upgrade;
mod writers;
mod zone;
