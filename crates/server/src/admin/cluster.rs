//! The cluster as this node sees it, and members that go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::Name;
use broker::metadata::{ClusterNode, Command, Refusal};
use cluster::membership::{PeerState, PeerStatus};
use cluster::metadata_log::{NodeId, Status};
use management::host::HostFailure;
use management::node::{ClusterFacts, Failure, Member, MetadataRole, Verdict};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::config::PartitionHandling;
use crate::listing;
use crate::node::{Node, ProposeFailure};

/// How long the cluster may take to find that a node is down.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this node knows without asking anybody.
pub(super) fn facts(node: &Node) -> ClusterFacts {
    let tables = node.tables.load_full();
    let log = node.consensus().map(|consensus| consensus.metrics());
    let seen = node.reach.status();
    let mut members: Vec<Member> = tables
        .nodes
        .iter()
        .map(|member| {
            let peer = seen.iter().find(|peer| peer.peer == member.id);
            let (verdict, since) = judge(node, member, peer);
            Member {
                name: Arc::clone(&member.name),
                number: member.id.0,
                kind: listing::kind(member.kind),
                running: member.is_up(),
                being_drained: member.draining,
                incarnation: member.incarnation,
                role: log.as_ref().map(|log| role(log, member.id)).unwrap_or_default(),
                leads_metadata: log.as_ref().is_some_and(|log| log.leader == Some(member.id)),
                verdict,
                verdict_age: since.map(|since| clock::awake().since(since)).unwrap_or_default(),
            }
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut partitions = BTreeMap::new();
    let cut_off = node.cut_off();
    if !cut_off.is_empty() {
        partitions.insert(Arc::clone(&node.name), cut_off);
    }
    ClusterFacts {
        id: match tables.cluster.id {
            0 => String::new(),
            id => format!("{id:016x}"),
        },
        generation: tables.cluster.generation,
        members,
        has_quorum: log.is_some_and(|log| log.leader.is_some() && node.reaches_quorum(&log)),
        partition_handling: handling(&node.config.cluster.partition_handling).to_owned(),
        partitions,
    }
}

fn judge(node: &Node, member: &ClusterNode, peer: Option<&PeerStatus>) -> (Verdict, Option<stdx::Time>) {
    if member.id == node.id() {
        return (Verdict::Own, None);
    }
    let silent_since = peer.and_then(|peer| peer.silent_since);
    let gone_since = node.reach.gone(member.id).map(|verdict| verdict.since);
    match peer.map(|peer| peer.state).unwrap_or_default() {
        PeerState::Reachable => (Verdict::Alive, node.reach.alive_since(member.id)),
        PeerState::Suspected => (Verdict::Suspected, silent_since),
        PeerState::Unreachable | PeerState::Dead => (Verdict::Down, gone_since.or(silent_since)),
        PeerState::Awaited | PeerState::Unknown if member.is_up() => (Verdict::Suspected, silent_since),
        PeerState::Awaited | PeerState::Unknown => (Verdict::Down, silent_since),
    }
}

fn role(log: &Status, member: NodeId) -> MetadataRole {
    let votes = log.voters.iter().any(|voter| voter.id == member);
    // Where two nodes are all, the one without a vote is waited for; the leader alone knows that it is not.
    let is_one_of_two = log.voters.len() + log.learners.len() == 2;
    match () {
        () if votes => MetadataRole::Voter,
        () if is_one_of_two && log.lagging => MetadataRole::Lagging,
        () if is_one_of_two => MetadataRole::Synchronous,
        () => MetadataRole::Learner,
    }
}

fn handling(mode: &PartitionHandling) -> &'static str {
    match mode {
        PartitionHandling::Ignore => "ignore",
        PartitionHandling::Autoheal => "autoheal",
        PartitionHandling::PauseMinority => "pause_minority",
        PartitionHandling::PauseIfAllDown { .. } => "pause_if_all_down",
    }
}

/// Whether a member is down. One that does not answer is given the time in which the cluster finds that out.
async fn is_down(node: &Node, member: NodeId) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut changes = node.changes.subscribe();
    loop {
        changes.mark_unchanged();
        match node.tables.load().nodes.get(member) {
            Some(member) if member.is_up() => {}
            _ => return true,
        }
        let speaks = node.peers.get(member).is_some_and(|peer| peer.life().is_some());
        if speaks && node.reach.is_reachable(member) || timeout_at(deadline, changes.changed()).await.is_err() {
            return false;
        }
    }
}

fn member(node: &Node, name: &Name) -> Result<Arc<ClusterNode>, HostFailure> {
    let tables = node.tables.load();
    let mut members = tables.nodes.iter();
    let member = members.find(|member| cluster::handshake::is_same_node(name, &member.name));
    member.map(Arc::clone).ok_or(HostFailure::NotAClusterNode)
}

/// Removes a member whose application does not run.
pub(super) async fn forget(node: &Node, name: &Name, force: bool) -> Result<(), Failure> {
    let member = member(node, name)?;
    if member.id == node.id() || !is_down(node, member.id).await {
        return Err(HostFailure::StillRunning(Arc::clone(&member.name)).into());
    }
    match node.propose(Command::ForgetNode { node: member.id, force }).await {
        Ok(_) => Ok(()),
        Err(ProposeFailure::Refused(Refusal::NodeIsUp(name))) => Err(HostFailure::StillRunning(name).into()),
        Err(ProposeFailure::Refused(Refusal::NoSuchNode(_))) => Err(HostFailure::NotAClusterNode.into()),
        Err(ProposeFailure::Refused(refusal)) => Err(HostFailure::Refused(crate::host::explain(&refusal)).into()),
        Err(ProposeFailure::Unavailable(why)) => Err(HostFailure::Temporary(why).into()),
    }
}
