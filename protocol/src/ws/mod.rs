//! WebSocket framing (RFC 6455) and permessage-deflate (RFC 7692), sans I/O.
