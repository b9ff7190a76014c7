//! A load generator for WebSocket servers that checks what it measures.
//!
//! ```text
//! cli ──► scenario ──► preflight ──► run: threads, each an engine full of clients ──► results ──► report, compare
//!                                      │ each with its ledgers: who must get what       │
//!                                      └──────────────── verdict ──────────────────────┘
//! ```
//!
//! `team` shares a run out to several processes, each of which runs `run`; `merge` puts their results together, and `view`
//! shows it while it goes on.
//!
//! `run` is the whole of it: `process` is the main thread's side, `worker` a thread's. Everything that counts or judges is
//! free of sockets and clocks: `schedule`, `ledger`, `content`, `layout`, `verdict`, `search`, `expression`, `compare`.

pub mod cli;
pub mod compare;
pub mod environment;
pub mod expression;
pub mod histogram;
pub mod manual;
pub mod merge;
pub mod outcome;
pub mod plan;
pub mod preflight;
mod procfs;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod search;
pub mod signals;
mod sum;
pub mod team;
mod verdict;
pub mod view;
