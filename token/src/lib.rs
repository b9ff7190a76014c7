//! Tokens: claims, keys, verification and minting, given keys and the time.
