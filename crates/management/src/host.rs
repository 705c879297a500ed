//! The process around the broker: what an operator may ask of it even while the broker application is
//! stopped, paused or still starting. The server implements [`Host`]; tests use a small fake.
//!
//! [`host_router`] serves these requests, and nothing else, when there is no application to serve the
//! others; [`crate::Management`] serves the same while it runs. Both look for
//! [`crate::Identity::Operator`] in the extensions of a request.

mod failure;
mod router;

use std::time::Duration;

use async_trait::async_trait;
use broker::Name;
use serde::{Deserialize, Serialize};

pub use failure::HostFailure;
pub use router::host_router;

/// The process of a node. Every method may be called from many tasks at once; those that change
/// something go one after the other, and return when it is done.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// This node's name.
    fn name(&self) -> Name;

    /// What the application is doing.
    fn app(&self) -> AppState;

    /// What there is to tell about the process.
    fn process(&self) -> ProcessFacts;

    /// The members of the cluster as this node knew them last. Needs no application.
    fn last_known(&self) -> LastKnown;

    /// Starts the application and waits until it serves. Nothing happens when it runs.
    async fn start_app(&self) -> Result<(), HostFailure>;

    /// Stops the application in good order; the process stays. Nothing happens when it is stopped.
    async fn stop_app(&self) -> Result<(), HostFailure>;

    /// Leaves the cluster and deletes all that the node has. `force` tells nobody. Refused with
    /// [`HostFailure::AppRunning`] while the application runs.
    async fn reset(&self, force: bool) -> Result<(), HostFailure>;

    /// Resets the node and makes it a member of the cluster that `seed` is in. An application that
    /// runs is stopped before and started after.
    async fn join(&self, seed: Name, kind: NodeKind) -> Result<Joined, HostFailure>;

    /// Joins the own cluster anew as another kind of node. False when it is of that kind already.
    /// Refused with [`HostFailure::AppRunning`] while the application runs.
    async fn change_kind(&self, kind: NodeKind) -> Result<bool, HostFailure>;

    /// Lets the next start of the application go without the other members. Refused with
    /// [`HostFailure::AppRunning`] while it runs.
    async fn force_boot(&self) -> Result<(), HostFailure>;

    /// Removes another node while no node of the cluster runs. Refused with
    /// [`HostFailure::OnlineNodeOfflineFlag`] while the application runs.
    async fn forget_offline(&self, node: Name) -> Result<(), HostFailure>;

    /// Takes this node out of its cluster for good, and makes it blank. `drain` first lets other nodes
    /// lead its queues; `force` goes even when messages would be lost by it.
    async fn leave(&self, drain: bool, force: bool) -> Result<(), HostFailure>;

    /// Begins an orderly stop of the process and returns; the answer still reaches the caller.
    fn stop(&self);

    /// Variables of the environment that mean something to the node, secrets left out, sorted.
    fn os_env(&self) -> Vec<(String, String)>;

    /// The words of the command line that the process was started with.
    fn arguments(&self) -> Vec<String>;
}

/// What the application is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppState {
    /// It serves clients.
    Running,
    /// It will serve clients; `why` says what it waits for.
    Starting { why: String },
    /// An operator stopped it.
    Stopped,
    /// It stopped by itself and goes on by itself, as when the node is in a minority.
    Paused { why: String },
}

impl AppState {
    /// `running`, `starting`, `stopped` or `paused`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            AppState::Running => "running",
            AppState::Starting { .. } => "starting",
            AppState::Stopped => "stopped",
            AppState::Paused { .. } => "paused",
        }
    }

    /// The reason, or nothing where the state says it all.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            AppState::Starting { why } | AppState::Paused { why } => why,
            AppState::Running | AppState::Stopped => "",
        }
    }
}

/// How a node keeps the metadata, and what it is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeKind {
    #[default]
    Disc,
    Ram,
    /// It votes on metadata, and holds no queues.
    Witness,
}

impl NodeKind {
    /// `disc`, `ram` or `witness`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NodeKind::Disc => "disc",
            NodeKind::Ram => "ram",
            NodeKind::Witness => "witness",
        }
    }
}

/// A node is in the cluster that it was to join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// It was there before, and nothing has changed.
    pub already: bool,
}

/// A cluster as a node remembers it. All names are sorted; the node's own is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastKnown {
    pub cluster_name: String,
    pub disc_nodes: Vec<Name>,
    pub ram_nodes: Vec<Name>,
    pub witness_nodes: Vec<Name>,
}

/// What there is to tell about a process without an application in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    pub os_pid: u32,
    pub uptime: Duration,
    /// Warren's version.
    pub version: String,
    pub data_dir: String,
    pub log_files: Vec<String>,
    pub config_files: Vec<String>,
}
