//! The lives that can be simulated, by name.

pub mod cluster;
pub mod store;

use std::fmt;

/// What went wrong, and in which life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The seed of the life.
    pub seed: u64,
    /// The step at which it showed.
    pub step: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} fails at step {}: {}",
            self.scenario, self.step, self.what
        )?;
        write!(
            f,
            "again: cargo run -p simulator -- {} --seed {}",
            self.scenario, self.seed
        )
    }
}
