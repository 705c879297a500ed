//! Runs the machines against a world that misbehaves, from one seed.
//!
//! A scenario plays a random life from a seed, compares every answer with a naive model, and
//! returns the first thing that is wrong. The same seed gives the same life, down to the last
//! operation.

pub mod disk;
pub mod invariant;
pub mod scenario;
