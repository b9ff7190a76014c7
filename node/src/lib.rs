//! The Pinwire node: effects to kernel, HTTP, tokens and the command line.
