//! The terminal console of Pinwire. It knows nothing but the admin API, and talks to many nodes at once.
//!
//! ```text
//!  nodes ◄──► client ──updates──► model ◄── query, list ──► view ──► terminal
//!   (network thread)                ▲                        ▲
//!                                   └───────── app ──────────┘ ◄── keys, mouse, clock
//! ```
//!
//! | module | concern | may do |
//! | --- | --- | --- |
//! | [`client`] | connections to nodes, their streams, discovery of others | I/O, on a thread of its own |
//! | [`model`] | what is known: samples in, state out | nothing: the time is passed in |
//! | [`query`] | the language of filters, and sorting | nothing |
//! | [`format`] | numbers, times and bytes for people | nothing |
//! | [`list`] | the lists, their columns and values: for views, `--once` and `--stream` alike | nothing |
//! | [`app`] | an input in, changed state and commands out | nothing |
//! | [`keys`] | which key does what: for the program, its help and its documentation | nothing |
//! | [`view`] | state to cells of a screen | nothing |
//! | [`theme`] | colours, glyphs, and what a terminal can draw | nothing |
//! | [`terminal`] | the real terminal, and giving it back | I/O |
//! | [`run`] | the loop of the interactive program | I/O |
//! | [`once`] | the same without a screen | I/O |
//! | [`record`] | recordings, replays, support bundles | files |
//! | [`config`], [`cli`] | contexts, tokens, themes, keys; flags | files, the environment |

pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod format;
pub mod keys;
pub mod list;
pub mod model;
pub mod once;
pub mod query;
pub mod record;
pub mod run;
pub mod terminal;
pub mod theme;
pub mod view;
