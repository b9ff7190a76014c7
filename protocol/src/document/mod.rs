//! Yjs document dialects: y-websocket and Hocuspocus.
