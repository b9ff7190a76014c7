//! Measurements, and the bench server that runs the engine without documents.
