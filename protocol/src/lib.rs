//! Bytes to messages: WebSocket framing and the Yjs dialects, without I/O, clock or globals.
