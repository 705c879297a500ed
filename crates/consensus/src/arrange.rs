//! Who votes, who follows, who is out: one step at a time towards what is wanted, by the leader.
//!
//! [`next_step`] looks at the membership as it stands and names the next change, so a change that
//! was cut short by a crash or a new leader is simply gone on with. A newcomer follows until it has
//! nearly everything and only then votes; a leader that shall not vote first hands the lead to one
//! that shall.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::metadata_log::{Member, NodeId, ProposeError};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError};
use openraft::raft::TransferLeaderRequest;
use openraft::{ChangeMembers, Instant as _, ServerState};
use tokio::time::Instant;

use crate::consensus::{ChangeError, Consensus};
use crate::leading::{Again, as_response, confused};
use crate::rpc::{Request, Response};
use crate::types::{Membership, Peer};

/// A newcomer that replies to nothing for this long does not come.
const SILENCE: Duration = Duration::from_secs(3);

/// A last round of catching up that took less than this is near enough to vote.
const LAST_ROUND: Duration = Duration::from_millis(250);

/// How often what has no event is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a node is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Has a say in elections and commits.
    Voter,
    /// Follows and has none.
    Learner,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Change(Change),
    /// Have these catch up, then make the set of voters.
    Voters {
        newcomers: BTreeSet<u64>,
        voters: BTreeSet<u64>,
    },
    /// Have one of these lead, and go on.
    HandOver(BTreeSet<u64>),
    Done,
}

type Change = ChangeMembers<u64, Peer>;

impl Consensus {
    /// Makes the members of the log those of `desired`, in their roles; everybody else leaves.
    /// Works on any node and is done by the leader, one change at a time; what is as it should be
    /// is left alone, so it may be called at any time and again after any failure.
    ///
    /// Newcomers must have been started without founding a cluster. Those that shall vote are
    /// waited for; whoever cannot be reached is named in [`ChangeError::Behind`]. A number that
    /// was a member before and has lost its log must leave before it comes again.
    pub async fn arrange(&self, desired: Vec<(Member, Role)>) -> Result<(), ChangeError> {
        let request = Request::Arrange(desired.iter().map(Into::into).collect());
        let deadline = Instant::now() + self.inner.options.arrange_timeout;
        let outcome = self.by_leader(&request, Again::Safe, deadline).await?;
        arranged(outcome)
    }

    /// Has `node`, which has lost its log, leave: the next [`Consensus::arrange`] takes it in as one that
    /// has nothing. While it is a member the leader goes on from what `node` once held. Works on any node;
    /// nothing is done where it is no member.
    pub async fn begin_again(&self, node: NodeId) -> Result<(), ChangeError> {
        let membership = self.membership();
        if membership.get_node(&node.0).is_none() {
            return Ok(());
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let others = membership.nodes().filter(|(id, _)| **id != node.0);
        let others = others.map(|(&id, peer)| {
            let role = if voters.contains(&id) { Role::Voter } else { Role::Learner };
            (peer.to_member(id), role)
        });
        match self.arrange(others.collect()).await {
            // The others' turn to catch up comes without this.
            Err(ChangeError::Behind(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Makes `to` voter and leader in this node's place, and this node a learner; for a clean stop
    /// of one of two nodes. Where others vote too, handing over the lead alone loses no vote, see
    /// [`Consensus::transfer_leader`].
    pub async fn hand_over(&self, to: NodeId) -> Result<(), ChangeError> {
        let deadline = Instant::now() + self.inner.options.arrange_timeout;
        let me = self.inner.node;
        let membership = self.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        if membership.get_node(&to.0).is_none() || to == me {
            return Err(ChangeError::Refused(format!("{to} is no other member")));
        }
        let seats: Vec<(Member, Role)> = membership
            .nodes()
            .map(|(&id, peer)| {
                let votes = id == to.0 || id != me.0 && voters.contains(&id);
                let role = if votes { Role::Voter } else { Role::Learner };
                (peer.to_member(id), role)
            })
            .collect();
        match tokio::time::timeout_at(deadline, self.arrange_here(&seats, Some(to))).await {
            Ok(Ok(Response::NotLeader(_) | Response::Unknown)) => {}
            Ok(outcome) => return arranged(outcome?),
            Err(_) => return Err(ProposeError::Unknown.into()),
        }
        let request = Request::Arrange(seats.iter().map(Into::into).collect());
        arranged(self.by_leader(&request, Again::Safe, deadline).await?)
    }

    /// Asks the voter `to` to lead instead of this node; returns before that has happened.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ProposeError> {
        let asked = self.inner.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|fatal| self.stopped_by(&fatal))
    }

    /// The process of `leader` has ended: as far as it still leads, this node waits for it no longer, and
    /// stands for election at once if it is the `heir`. Nothing is lost if that is wrong, or if nodes name
    /// different heirs: then elections take their usual time.
    pub async fn leader_is_dead(&self, leader: NodeId, heir: NodeId) -> Result<(), ProposeError> {
        let (vote, current) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, metrics.current_leader)
        };
        if current != Some(leader.0) || leader == self.inner.node {
            return Ok(());
        }
        let request = TransferLeaderRequest::new(vote, heir.0, None);
        let asked = self.inner.raft.handle_transfer_leader(request).await;
        asked.map(drop).map_err(|fatal| self.stopped_by(&fatal))
    }

    /// Arranges as far as this node leads; `next` is to lead if this node no longer shall.
    pub(crate) async fn arrange_here(
        &self,
        desired: &[(Member, Role)],
        next: Option<NodeId>,
    ) -> Result<Response, ProposeError> {
        let roles: BTreeMap<u64, (Peer, Role)> = desired
            .iter()
            .map(|(member, role)| {
                let address = member.address.clone();
                (member.id.0, (Peer { address }, *role))
            })
            .collect();
        let senseless = |why: &str| Ok(Response::Senseless(why.to_owned()));
        if roles.len() != desired.len() {
            return senseless("a node is named twice");
        }
        if roles.values().all(|(_, role)| *role == Role::Learner) {
            return senseless("somebody has to vote");
        }
        let _turn = self.inner.arranging.lock().await;
        let mut server = self.inner.raft.server_metrics();
        loop {
            let (leads, settled, membership) = {
                let server = server.borrow_watched();
                let settled = server.membership_config == server.committed_membership_config;
                let membership = server.membership_config.membership().clone();
                (server.state == ServerState::Leader, settled, membership)
            };
            if !leads {
                return Ok(Response::NotLeader(self.known_leader().map(Into::into)));
            }
            if !settled {
                // A change of somebody else's is under way.
                drop(tokio::time::timeout(LOOK, server.changed()).await);
                continue;
            }
            let outcome = match next_step(&membership, &roles, self.inner.node.0) {
                Step::Change(change) => self.change(change).await?,
                Step::Voters { newcomers, voters } => match self.caught_up(&newcomers).await {
                    Some(response) => Some(response),
                    None => self.change(ChangeMembers::ReplaceAllVoters(voters)).await?,
                },
                Step::HandOver(voters) => Some(self.hand_to(&voters, next).await?),
                Step::Done => {
                    let behind = self.caught_up(&learners(&roles)).await;
                    Some(behind.unwrap_or(Response::Arranged))
                }
            };
            if let Some(response) = outcome {
                return Ok(response);
            }
        }
    }

    /// Makes one change. Some is the end of it; none, that it is made or has to be tried again.
    async fn change(&self, change: Change) -> Result<Option<Response>, ProposeError> {
        if let ChangeMembers::RemoveNodes(nodes) = &change {
            nodes.iter().for_each(|&node| self.inner.links.let_go(node));
        }
        let changed = self.inner.raft.change_membership(change, true).await;
        let Err(error) = changed else {
            return Ok(None);
        };
        match self.write_error(error) {
            Ok(error) => as_response(error).map(Some),
            Err(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            )) => {
                tokio::time::sleep(LOOK).await;
                Ok(None)
            }
            Err(error) => Ok(Some(Response::Senseless(error.to_string()))),
        }
    }

    /// Waits until `nodes` have caught up. Some says why that is no use.
    async fn caught_up(&self, nodes: &BTreeSet<u64>) -> Option<Response> {
        let mut data = self.inner.raft.data_metrics();
        let started = Instant::now();
        // Per node the index its present round goes to, and when that began.
        let mut rounds: BTreeMap<u64, (u64, Instant)> = BTreeMap::new();
        let mut missing = nodes.clone();
        loop {
            let now = Instant::now();
            let mut silent = Vec::new();
            {
                let data = data.borrow_watched();
                let last = data.last_log.map_or(0, |id| id.index);
                let (Some(held), Some(heard)) = (&data.replication, &data.heartbeat) else {
                    return Some(Response::NotLeader(None));
                };
                missing.retain(|node| {
                    let held = held.get(node).copied().flatten().map_or(0, |id| id.index);
                    let (upto, began) = *rounds.entry(*node).or_insert((last, now));
                    if held >= upto {
                        rounds.insert(*node, (last, now));
                        if held > 0 && (held >= last || now - began < LAST_ROUND) {
                            return false;
                        }
                    }
                    let heard = heard.get(node).copied().flatten();
                    let silence = heard.map_or(SILENCE, |heard| heard.elapsed());
                    if silence.min(started.elapsed()) >= SILENCE {
                        silent.push(*node);
                    }
                    true
                });
            }
            if missing.is_empty() {
                return None;
            }
            if silent.len() == missing.len() {
                return Some(Response::Behind(silent));
            }
            let changed = tokio::time::timeout(LOOK, data.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return Some(Response::Unknown);
            }
        }
    }

    /// Hands the lead to one of `voters`, by preference to `next`, and names it.
    async fn hand_to(
        &self,
        voters: &BTreeSet<u64>,
        next: Option<NodeId>,
    ) -> Result<Response, ProposeError> {
        let to = {
            let data = self.inner.raft.data_metrics();
            let data = data.borrow_watched();
            let held = data.replication.as_ref();
            let best = voters
                .iter()
                .max_by_key(|id| held.and_then(|held| held.get(*id).copied().flatten()))
                .copied();
            next.map(|next| next.0)
                .filter(|next| voters.contains(next))
                .or(best)
        };
        let Some(to) = to else {
            return Ok(Response::Senseless("somebody has to vote".to_owned()));
        };
        self.transfer_leader(NodeId(to)).await?;
        let mut leader = self.inner.leader.subscribe();
        let me = self.inner.node;
        let handed = leader.wait_for(|leader| leader.is_some_and(|leader| leader != me));
        let limit = self.inner.options.election_timeout * 2;
        drop(tokio::time::timeout(limit, handed).await);
        Ok(Response::NotLeader(self.known_leader().map(Into::into)))
    }

    pub(crate) fn membership(&self) -> Membership {
        let server = self.inner.raft.server_metrics();
        let server = server.borrow_watched();
        server.membership_config.membership().clone()
    }
}

fn arranged(outcome: Response) -> Result<(), ChangeError> {
    match outcome {
        Response::Arranged => Ok(()),
        Response::Behind(nodes) => {
            Err(ChangeError::Behind(nodes.into_iter().map(NodeId).collect()))
        }
        Response::Senseless(why) => Err(ChangeError::Refused(why)),
        Response::NotLeader(leader) => Err(ProposeError::NotLeader {
            leader: leader.map(Into::into),
        }
        .into()),
        Response::Unknown => Err(ProposeError::Unknown.into()),
        other => Err(confused(&other).into()),
    }
}

fn learners(roles: &BTreeMap<u64, (Peer, Role)>) -> BTreeSet<u64> {
    let learners = roles.iter().filter(|(_, (_, role))| *role == Role::Learner);
    learners.map(|(&id, _)| id).collect()
}

/// The next step from `membership` to `roles` for the leader `me`.
fn next_step(membership: &Membership, roles: &BTreeMap<u64, (Peer, Role)>, me: u64) -> Step {
    let configs = membership.get_joint_config();
    if configs.len() > 1 {
        // Half a change: the other half first.
        return Step::Change(ChangeMembers::AddVoterIds(BTreeSet::new()));
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let nodes: BTreeMap<u64, Peer> = membership
        .nodes()
        .map(|(&id, peer)| (id, peer.clone()))
        .collect();
    let differing = |known: bool| -> BTreeMap<u64, Peer> {
        let differing = roles.iter().filter(|(id, (peer, _))| match nodes.get(id) {
            Some(present) => known && present != peer,
            None => !known,
        });
        differing
            .map(|(&id, (peer, _))| (id, peer.clone()))
            .collect()
    };
    let moved = differing(true);
    if !moved.is_empty() {
        return Step::Change(ChangeMembers::SetNodes(moved));
    }
    let new = differing(false);
    if !new.is_empty() {
        return Step::Change(ChangeMembers::AddNodes(new));
    }
    let wanted: BTreeSet<u64> = roles
        .iter()
        .filter(|(_, (_, role))| *role == Role::Voter)
        .map(|(&id, _)| id)
        .collect();
    if !wanted.contains(&me) {
        if wanted.is_subset(&voters) {
            return Step::HandOver(wanted);
        }
        let newcomers = wanted.difference(&voters).copied().collect();
        let voters = wanted.into_iter().chain([me]).collect();
        return Step::Voters { newcomers, voters };
    }
    if wanted != voters {
        let newcomers = wanted.difference(&voters).copied().collect();
        return Step::Voters {
            newcomers,
            voters: wanted,
        };
    }
    let leaving: BTreeSet<u64> = nodes
        .into_keys()
        .filter(|id| !roles.contains_key(id))
        .collect();
    if leaving.is_empty() {
        Step::Done
    } else {
        Step::Change(ChangeMembers::RemoveNodes(leaving))
    }
}

#[cfg(test)]
mod tests;
