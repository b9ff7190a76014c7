//! A load generator for WebSocket servers that checks what it measures.
//!
//! ```text
//! cli ──► scenario ──► run: threads, each an engine full of clients ──► results ──► report, compare, expression
//!            │              ▲ conductor, watch                              ▲
//!            └──► agent ────┴──────────────────── merge ────────────────────┘
//! ```

pub mod environment;
pub mod histogram;
pub mod results;
pub mod run;
pub mod scenario;
