//! Messages to effects: one thread's documents and sessions, deterministic, seed and time passed in.
