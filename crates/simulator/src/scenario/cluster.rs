//! Whole clusters of the real machines on one thread.
//!
//! Each node has the real metadata tables, membership, queues, replicas, agents, and a real store on a disk
//! that loses what was not synced. Played are the tasks around them, as the server has them (each a file here
//! of the same name), the network, the clocks, clients with their channels, and the metadata log: here it is as
//! it should be, since that the real one is so is tested in `consensus`. Not played: sides of a partition that
//! found the log anew, and what they do when they meet.
//!
//! A life has three parts. In the storm nodes die, stop, sleep and are slow, the network breaks, policies
//! change; then all heals, and everything confirmed must come out; then the power goes everywhere, and nothing
//! may come again. What must hold is in [`crate::invariant`].

mod agent_driver;
mod client;
mod life;
mod log_writer;
mod metadata_log;
mod mirror_driver;
mod network;
mod node;
mod plan;
mod queue_driver;
#[cfg(test)]
mod tests;
mod trouble;
mod world;

use std::fmt;

use crate::scenario::Failure;
use world::World;

/// How to play a life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Tell what happens on standard output.
    pub tell: bool,
    /// A rule of the tasks to break.
    pub mutant: Option<Mutant>,
}

/// A rule of the tasks broken on purpose. Rules of the machines have theirs in `broker::mutant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A leader serves without the leases of its mirrors.
    ServeWithoutLeases,
    /// A new leader does not wait for the leases of the old one to end.
    LeadBeforeLeasesEnd,
    /// A leader that must not serve delivers when a batch is complete.
    SettleWithoutServing,
    /// A new leader waits for the leases of one that is back in another life.
    WaitForNextLife,
    /// What is written is reported before it is synced.
    ReportUnsynced,
    /// Refused publishes are confirmed.
    ConfirmRefused,
    /// An agent does not heed that whom it takes for the leader does not lead.
    HeedNoRefusal,
    /// A node that was declared down and lives goes on.
    StayDeclaredDown,
    /// A leader that steps down counts for nothing until it follows.
    FollowBeforeSteppingDown,
    /// A channel asks again for a consumer that it is cancelling, and drops what comes to one that is no more.
    LeaveGhosts,
}

/// What lives were like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Lives played.
    pub lives: u64,
    /// Things that happened.
    pub steps: u64,
    /// Messages.
    pub published: u64,
    /// Messages that their publishers may forget.
    pub confirmed: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that were flagged.
    pub redelivered: u64,
    /// Consumers that their clients cancelled.
    pub cancels: u64,
    /// Processes that died, alone or with their host.
    pub crashes: u64,
    /// Orderly stops.
    pub stops: u64,
    /// Connections between nodes that broke, counted at both ends.
    pub links_lost: u64,
    /// Partitions.
    pub cuts: u64,
    /// Nodes that slept.
    pub sleeps: u64,
    /// Nodes that were declared down and lived.
    pub outcasts: u64,
    /// Leaders that gave way to others.
    pub step_downs: u64,
    /// Mirrors that became leaders.
    pub takeovers: u64,
    /// Policies that changed.
    pub policies: u64,
    /// Leaders that were asked to move.
    pub rebalances: u64,
    /// Proposals that were taken though nobody heard it.
    pub outcomes_unknown: u64,
    /// Differs if anything differs.
    pub trace: u64,
}

impl Coverage {
    fn all(&mut self) -> [&mut u64; 19] {
        [
            &mut self.lives,
            &mut self.steps,
            &mut self.published,
            &mut self.confirmed,
            &mut self.refused,
            &mut self.delivered,
            &mut self.redelivered,
            &mut self.cancels,
            &mut self.crashes,
            &mut self.stops,
            &mut self.links_lost,
            &mut self.cuts,
            &mut self.sleeps,
            &mut self.outcasts,
            &mut self.step_downs,
            &mut self.takeovers,
            &mut self.policies,
            &mut self.rebalances,
            &mut self.outcomes_unknown,
        ]
    }

    /// Adds another life.
    pub fn add(&mut self, mut other: Coverage) {
        for (mine, theirs) in self.all().into_iter().zip(other.all()) {
            *mine += *theirs;
        }
        self.trace = self.trace.rotate_left(5) ^ other.trace;
    }

    /// Whether everything was met.
    #[must_use]
    pub fn is_full(mut self) -> bool {
        self.all().iter().all(|count| **count > 0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Plays the life that belongs to a seed.
pub fn run(seed: u64, settings: &Settings) -> Result<Coverage, Failure> {
    let mut world = World::new(seed, *settings);
    world.play();
    world.coverage.lives = 1;
    world.coverage.steps = world.steps;
    world.coverage.trace = world.trace;
    match world.checks.failure() {
        None => Ok(world.coverage),
        Some(what) => Err(Failure { scenario: "cluster", seed, step: world.steps, what: what.clone() }),
    }
}

impl World {
    fn breaks(&self, mutant: Mutant) -> bool {
        self.settings.mutant == Some(mutant)
    }
}
