//! What the node that leads the metadata log does for all: says who is down, arranges the voters, and
//! takes the next steps of queues' views.
//!
//! Every step is a command that is void if things have changed meanwhile, so that it does no harm when
//! two nodes believe that they lead, or one is told something twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::metadata::{Command, MirrorMode, NodeKind, Queue, Scope, Tables, ViewChange};
use cluster::metadata_log::{Member, NodeId};
use consensus::{ChangeError, Consensus, Role};
use parking_lot::Mutex;
use stdx::Time;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock;
use crate::config::Rebalance;
use crate::node::Node;

/// More voters make the log slower, not safer.
const VOTERS_MAX: usize = 7;
/// Looked at again after this time, whatever happens.
const ROUND: Duration = Duration::from_millis(200);
/// A node that somebody in reach still hears is given so long for the link between the two to come back.
const PARTIAL_PATIENCE: Duration = Duration::from_secs(10);

/// Steps of views on their way to the log.
const STEPS_AT_ONCE: usize = 256;
/// Leaders moved in one turn of the timer.
const MOVES_MAX: usize = 10;
/// Between two attempts to arrange the voters.
const ARRANGE_AGAIN: Duration = Duration::from_millis(300);

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut changes = node.rearrangements.subscribe();
    let (mut voters, mut views) = (Voters::default(), Views::default());
    let mut absences = Absences::default();
    let mut spread_at = clock::awake();
    loop {
        let at_rest = node.tables.load().nodes.len() <= 1 && voters.as_wanted;
        let timer = async {
            if at_rest {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ROUND).await;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = node.reach.changed.notified() => {}
            () = timer => {}
            () = node.stopped() => return,
        }
        changes.mark_unchanged();
        let Some(consensus) = node.consensus() else { continue };
        if consensus.is_leader() {
            say_who_is_down(&node).await;
            voters.arrange(&node, &consensus);
            absences.note(&node.tables.load(), clock::awake());
            views.step(&node, &absences);
            spread_leaders(&node, &mut spread_at);
        } else {
            bury_leader(&node, &consensus).await;
        }
    }
}

/// A leader of the metadata log whose process has ended is not waited for: the first voter in reach
/// stands for election.
async fn bury_leader(node: &Node, consensus: &Consensus) {
    let status = consensus.metrics();
    let Some(leader) = status.leader.filter(|leader| node.reach.gone(*leader).is_some_and(|verdict| verdict.certain))
    else {
        return;
    };
    let heir = status.voters.iter().map(|voter| voter.id).filter(|id| *id != leader && node.in_reach(*id)).min();
    let Some(heir) = heir else { return };
    tracing::info!(%leader, %heir, "the leader of the metadata log has ended");
    if let Err(error) = consensus.leader_is_dead(leader, heir).await {
        tracing::debug!(?error, "a new leader of the metadata log was not asked for");
    }
}

async fn say_who_is_down(node: &Node) {
    let tables = node.tables.load_full();
    for member in tables.nodes.iter().filter(|member| member.id != node.id() && member.is_up()) {
        let Some(verdict) = node.reach.gone(member.id) else { continue };
        // A later life that has said hello says so itself when it is up.
        if verdict.incarnation.is_some_and(|seen| seen > member.incarnation) {
            continue;
        }
        let waited = clock::awake().since(verdict.since);
        let heard_elsewhere = !verdict.certain && !node.reach.hearers(member.id).is_empty();
        if heard_elsewhere && waited < PARTIAL_PATIENCE {
            continue;
        }
        let command = Command::NodeDown { node: member.id, incarnation: member.incarnation, clean: false };
        match node.propose_as_leader(&command).await {
            Ok(_) => tracing::warn!("node {} is declared down", member.name),
            // It is tried again as long as this node leads.
            Err(error) => tracing::debug!(?error, "node {} could not be declared down", member.name),
        }
    }
}

/// Who should vote: nodes with a disk, those that vote already first. Two nodes have one voter, since
/// two could do nothing without each other; unless there is a witness. It votes where the others are
/// even in number, so that of two halves one has more.
fn roles(tables: &Tables, voters: &[NodeId], me: NodeId) -> Vec<(Member, Role)> {
    let mut members: Vec<_> = tables.nodes.iter().collect();
    members.sort_by_key(|member| (member.id != me, !voters.contains(&member.id), member.id));
    let count = |kind| members.iter().filter(|member| member.kind == kind).count();
    let (disc, witnesses) = (count(NodeKind::Disc), count(NodeKind::Witness));
    let with_witness = witnesses > 0 && disc > 0 && disc < VOTERS_MAX && disc.is_multiple_of(2);
    let mut seats = match disc {
        0..=2 if !with_witness => 1,
        count => count.min(VOTERS_MAX),
    };
    let mut witness_seats = usize::from(with_witness);
    let roles = members.into_iter().map(|member| {
        let left = match member.kind {
            NodeKind::Disc => &mut seats,
            NodeKind::Witness => &mut witness_seats,
            NodeKind::Ram => &mut 0,
        };
        let votes = *left > 0;
        *left -= usize::from(votes);
        let role = if votes { Role::Voter } else { Role::Learner };
        (Member { id: member.id, address: member.name.to_string() }, role)
    });
    let mut roles: Vec<_> = roles.collect();
    roles.sort_by_key(|(member, _)| member.id);
    roles
}

/// Who votes is being arranged: that may take long, and nothing else waits for it.
#[derive(Default)]
struct Voters {
    under_way: Option<JoinHandle<()>>,
    /// When this node looked last, nothing was to be done.
    as_wanted: bool,
    /// What has been said last of why they are not as they should be.
    told: Arc<Mutex<String>>,
}

impl Voters {
    fn arrange(&mut self, node: &Node, consensus: &Consensus) {
        if self.under_way.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let tables = node.tables.load_full();
        let status = consensus.metrics();
        let voters: Vec<NodeId> = status.voters.iter().map(|member| member.id).collect();
        let wanted = roles(&tables, &voters, node.id());
        let synchronous = match &wanted[..] {
            [_, _] => wanted.iter().find(|(_, role)| *role == Role::Learner).map(|(member, _)| member.id),
            _ => None,
        };
        consensus.set_synchronous(synchronous);
        let seats = |members: Vec<Member>, role| members.into_iter().map(move |member| (member, role));
        let mut present: Vec<_> = seats(status.voters, Role::Voter).chain(seats(status.learners, Role::Learner)).collect();
        present.sort_by_key(|(member, _)| member.id);
        self.as_wanted = wanted == present;
        if self.as_wanted || wanted.is_empty() {
            self.told.lock().clear();
            return;
        }
        let (consensus, told) = (consensus.clone(), Arc::clone(&self.told));
        self.under_way = Some(tokio::spawn(async move {
            if let Err(error) = consensus.arrange(wanted).await {
                let why = match &error {
                    ChangeError::Behind(behind) => {
                        let names: Vec<&str> = tables.node_names(behind).collect();
                        format!("{} did not answer, or is not up to date with it", names.join(", "))
                    }
                    error => error.to_string(),
                };
                if *told.lock() != why {
                    tracing::info!("the voters of the metadata log are arranged again later: {why}");
                    *told.lock() = why;
                }
                tokio::time::sleep(ARRANGE_AGAIN).await;
            }
        }));
    }
}

/// Since when nodes are down, as far as this node has seen it.
#[derive(Default)]
struct Absences(BTreeMap<NodeId, Time>);

impl Absences {
    fn note(&mut self, tables: &Tables, now: Time) {
        let down = tables.nodes.iter().filter(|member| !member.is_up()).map(|member| member.id);
        self.0 = down.map(|id| (id, self.0.get(&id).copied().unwrap_or(now))).collect();
    }

    /// Whether a mirror that would be added takes the place of one that may still come back
    /// (`ha-replace-after`).
    fn is_too_early(&self, record: &Queue, added: NodeId, now: Time) -> bool {
        let Some(mirroring) = record.mirroring.as_deref() else { return false };
        if !matches!(mirroring.mode, MirrorMode::Exactly(_)) || record.view.recoverable.contains(&added) {
            return false;
        }
        let mut away = record.view.recoverable.iter().filter_map(|gone| self.0.get(gone));
        away.any(|since| now.since(*since) < mirroring.replace_after)
    }
}

/// Spreads the leaders of mirrored queues, if that is to be done by itself and nothing else is under way.
fn spread_leaders(node: &Node, last: &mut Time) {
    let Rebalance::Timer(interval) = node.config.cluster.rebalance else { return };
    let now = clock::awake();
    if now.since(*last) < interval {
        return;
    }
    *last = now;
    let tables = node.tables.load_full();
    let in_order = |record: &Arc<Queue>| record.view.is_running() && record.view.catching_up.is_empty();
    if !tables.nodes.iter().all(|member| member.is_up()) || !tables.queues.values().all(in_order) {
        return;
    }
    for step in tables.rebalance(Scope { vhost: None, queue: None }, |_| 0).into_iter().take(MOVES_MAX) {
        if let Some(record) = tables.queues.get(&step.step.queue).filter(|record| record.view.is_in_sync(step.to)) {
            tracing::info!("queue '{}' in vhost '{}' moves to node {}", record.name, record.vhost, tables.node_name(step.to));
            crate::mirrors::ask_to_yield(node, record, step.to);
        }
    }
}

/// Steps of views are under way: with very many queues that takes long, and nothing else waits for it.
#[derive(Default)]
struct Views {
    under_way: Option<JoinHandle<()>>,
}

impl Views {
    fn step(&mut self, node: &Arc<Node>, absences: &Absences) {
        if self.under_way.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let tables = node.tables.load_full();
        let mut commands = Vec::new();
        for step in tables.next_steps(None, clock::random()) {
            let Some(record) = tables.queues.get(&step.queue) else { continue };
            match step.change {
                // The leader first comes to rest.
                ViewChange::Transfer(to) => crate::mirrors::ask_to_yield(node, record, to),
                ViewChange::AddMirror(added) if absences.is_too_early(record, added, clock::awake()) => {}
                _ => commands.push(Command::from(step)),
            }
        }
        if !commands.is_empty() {
            self.under_way = Some(tokio::spawn(propose_all(Arc::clone(node), commands)));
        }
    }
}

/// Proposes many at once, so that they share what a commit costs. One that is refused was overtaken.
async fn propose_all(node: Arc<Node>, commands: Vec<Command>) {
    let mut under_way = JoinSet::new();
    for command in commands {
        if under_way.len() >= STEPS_AT_ONCE {
            under_way.join_next().await;
        }
        if node.is_stopping() {
            return;
        }
        let node = Arc::clone(&node);
        under_way.spawn(async move {
            if let Err(error) = node.propose(command).await {
                tracing::debug!(?error, "a step of a queue's view was not taken");
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use broker::metadata::Metadata;

    use super::*;

    /// Who votes of so many nodes of each kind, when `me` leads; nodes are numbered from 1, the witness last.
    fn voters(disc: u64, witness: bool, me: u64) -> Vec<u64> {
        let mut metadata = Metadata::new();
        let kinds = (0..disc).map(|_| NodeKind::Disc).chain(witness.then_some(NodeKind::Witness));
        for (number, kind) in (1..).zip(kinds) {
            let (name, address) = (format!("n{number}@here").into(), String::new());
            metadata.apply(number, &Command::RegisterNode { name, address, kind, disk: number }).0.unwrap();
        }
        let roles = roles(&metadata.tables(), &[NodeId(me)], NodeId(me));
        let voting = roles.iter().filter(|(_, role)| *role == Role::Voter);
        voting.map(|(member, _)| member.id.0).collect()
    }

    #[test]
    fn two_nodes_have_one_vote_and_with_a_witness_three() {
        assert_eq!(voters(1, false, 1), [1]);
        assert_eq!(voters(2, false, 2), [2]);
        assert_eq!(voters(2, true, 1), [1, 2, 3]);
        assert_eq!(voters(2, true, 3), [1, 2, 3]);
    }

    #[test]
    fn a_witness_votes_where_the_others_are_even() {
        assert_eq!(voters(1, true, 1), [1]);
        assert_eq!(voters(1, true, 2), [1], "it hands over what it leads");
        assert_eq!(voters(3, true, 1), [1, 2, 3]);
        assert_eq!(voters(4, true, 1), [1, 2, 3, 4, 5]);
        assert_eq!(voters(6, true, 6).len(), VOTERS_MAX);
        assert_eq!(voters(8, true, 8), [1, 2, 3, 4, 5, 6, 8]);
    }
}
