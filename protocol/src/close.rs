//! The one table of close codes.
