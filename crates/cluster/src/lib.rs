//! How nodes agree: what must be true on every node, whatever engine or simulation carries it.
//!
//! Pure: no IO, clock, randomness, threads, locks or async. `metadata_log` is the door to the
//! replicated log of metadata; the engine behind it lives in `consensus`, its model in
//! `simulator`.

pub mod handshake;
pub mod link;
pub mod membership;
pub mod metadata_log;
pub mod ring;
