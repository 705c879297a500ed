//! What a node knows of its cluster, and what it can be asked to do with its queues' leaders. Units
//! are those of the parent module.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::Name;
use regex::{Regex, RegexBuilder};

use crate::host::NodeKind;

/// The most memory that a pattern may need once it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The cluster as this node sees it, without asking anybody: it never waits for a peer. Alarms,
/// versions and listeners of the members are in [`super::NodeStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Random and for ever; empty while the node is in no cluster.
    pub id: String,
    /// How often the metadata were founded anew, by a fork or by force.
    pub generation: u64,
    /// All members, this node among them, sorted by name.
    pub members: Vec<Member>,
    /// Metadata can be changed: a majority of the voters answers.
    pub has_quorum: bool,
    /// `cluster_partition_handling` as configured.
    pub partition_handling: String,
    /// Nodes and the peers that each cannot communicate with; those that can are not in it.
    pub partitions: BTreeMap<Name, Vec<Name>>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub name: Name,
    /// For good, and no other member's.
    pub number: u64,
    pub kind: NodeKind,
    pub running: bool,
    pub being_drained: bool,
    /// How often its process has started.
    pub incarnation: u64,
    pub role: MetadataRole,
    /// Leads the metadata at this moment.
    pub leads_metadata: bool,
    pub verdict: Verdict,
    /// Since when the verdict stands.
    pub verdict_age: Duration,
}

/// What a member does for the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRole {
    #[default]
    Voter,
    /// Follows, and is waited for as a voter is.
    Synchronous,
    /// Was to be waited for, and fell behind.
    Lagging,
    /// Follows.
    Learner,
}

impl MetadataRole {
    /// One or two words for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            MetadataRole::Voter => "voter",
            MetadataRole::Synchronous => "synchronous learner",
            MetadataRole::Lagging => "lagging learner",
            MetadataRole::Learner => "learner",
        }
    }
}

/// What this node thinks of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It is this node.
    #[default]
    Own,
    Alive,
    /// It does not answer; nothing has been done about it yet.
    Suspected,
    Down,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Own => "own",
            Verdict::Alive => "alive",
            Verdict::Suspected => "suspected",
            Verdict::Down => "down",
        }
    }
}

/// Which queues' leaders are to be spread over the nodes.
#[derive(Clone, Debug)]
pub struct RebalanceRequest {
    pub kind: RebalanceKind,
    vhosts: Regex,
    queues: Regex,
    /// Where all of them shall go; `None` spreads them evenly.
    pub target: Option<Name>,
    /// Answer when all have moved; else at once and without rows.
    pub wait: bool,
}

/// The types of queues that a rebalance is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceKind {
    All,
    Classic,
    /// There are none of these.
    Quorum,
    /// There are none of these.
    Stream,
}

impl RebalanceRequest {
    /// Patterns are searched for anywhere in a name. `None` when one of them is no pattern.
    #[must_use]
    pub fn new(kind: RebalanceKind, vhosts: &str, queues: &str) -> Option<RebalanceRequest> {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .ok()
        };
        Some(RebalanceRequest {
            kind,
            vhosts: compile(vhosts)?,
            queues: compile(queues)?,
            target: None,
            wait: true,
        })
    }

    /// The patterns of virtual hosts and of queues.
    #[must_use]
    pub fn patterns(&self) -> (&str, &str) {
        (self.vhosts.as_str(), self.queues.as_str())
    }

    /// Whether a queue is meant, as far as its names tell.
    #[must_use]
    pub fn selects(&self, vhost: &str, queue: &str) -> bool {
        self.vhosts.is_match(vhost) && self.queues.is_match(queue)
    }
}

/// A node after a rebalance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalanceRow {
    pub node: Name,
    /// Mirrored queues that it leads, of those the rebalance was about.
    pub classic: u64,
}

/// What became of a wish to synchronize mirrors, or to stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronized {
    /// It goes on, or was stopped.
    Done,
    /// Nothing was there to be stopped.
    NotSyncing,
}
