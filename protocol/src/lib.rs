//! Bytes to messages, and back: WebSocket framing (RFC 6455, RFC 7692) and the dialects that run on it.
//!
//! Nothing here does I/O, reads a clock or holds a global: a caller passes bytes in and takes events and bytes out.
//!
//! | module | concern |
//! | --- | --- |
//! | [`ws`] | upgrade, frames, masking, fragmentation, UTF-8, close rules, permessage-deflate; both roles |
//! | [`document`] | the y-websocket and Hocuspocus dialects, awareness, the structural walk of an update |
//! | [`close`] | the one table of close codes |

pub mod close;
pub mod document;
pub mod ws;
