//! Providers and the embedded server against real servers, resolvers and clients, on free ports of this machine.

mod embedded;
mod exec;
mod keep;
mod rfc2136;
mod rig;
mod services;
