//! From the mirrors that there are to those that the policy asks for, one safe step at a time.
//!
//! [`desired`] says who should lead and who should mirror. [`next_step`] gives the next change of one
//! view towards that: missing mirrors are added and catch up; once they are in sync the leader hands
//! over if it should not stay; only then what is too much goes. A node with an old copy is a mirror until
//! that is merged, and goes then if it should not stay. A step that is no longer the right one
//! is refused by its epoch, so steps may be proposed as often as anybody likes.
//!
//! Invariant: no step takes the last copy in sync away, whatever the policy says.

use std::sync::Arc;

use cluster::metadata_log::NodeId;
use stdx::Rng;

use super::command::Command;
use super::mirroring::MirrorMode;
use super::tables::{Queue, Tables};
use super::view::{View, ViewChange};
use crate::id::QueueId;

/// Who holds a queue, as far as the choice of mirrors looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies<'a> {
    pub(super) leader: NodeId,
    /// Oldest first.
    pub(super) mirrors: &'a [NodeId],
    /// Those of the mirrors that are in sync, oldest first.
    pub(super) in_sync: &'a [NodeId],
    /// Nodes that are no mirrors and have an old copy.
    pub(super) recoverable: &'a [NodeId],
}

/// Who should hold a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub leader: NodeId,
    pub mirrors: Vec<NodeId>,
    /// Nobody who should hold it is in sync yet: whoever leads does so until somebody is.
    pub waits: bool,
}

/// A change of one view that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub queue: QueueId,
    pub epoch: u64,
    pub change: ViewChange,
}

impl From<Step> for Command {
    fn from(step: Step) -> Command {
        Command::ChangeView {
            queue: step.queue,
            epoch: step.epoch,
            change: step.change,
        }
    }
}

impl Tables {
    /// Who should hold this queue, as things are.
    #[must_use]
    pub fn desired(&self, queue: &Queue, draw: u64) -> Desired {
        let view = &queue.view;
        let alone = Desired {
            leader: view.leader(),
            mirrors: Vec::new(),
            waits: false,
        };
        let Some(mirroring) = &queue.mirroring else {
            return alone;
        };
        let in_sync: Vec<NodeId> = view.mirrors().collect();
        let mirrors = in_sync.iter().chain(&view.catching_up);
        let copies = Copies {
            leader: view.leader(),
            mirrors: &mirrors.copied().collect::<Vec<_>>(),
            in_sync: &in_sync,
            recoverable: &view.recoverable,
        };
        desired(&mirroring.mode, copies, self, draw)
    }

    /// The next step of one queue towards what its policy asks for. `draw` chooses where a choice is
    /// free.
    #[must_use]
    pub fn next_step(&self, queue: &Queue, draw: u64) -> Option<Step> {
        if !queue.view.is_running() {
            return None;
        }
        let desired = self.desired(queue, draw);
        let change = next_change(&queue.view, &desired, |node| self.nodes.is_up(node))?;
        Some(Step {
            queue: queue.id,
            epoch: queue.view.epoch,
            change,
        })
    }

    /// The next steps of all queues, or of those that may need one.
    #[must_use]
    pub fn next_steps(&self, changed: Option<&[QueueId]>, draw: u64) -> Vec<Step> {
        let mut rng = Rng::new(draw);
        let mut step = |queue: &Arc<Queue>| self.next_step(queue, rng.next());
        match changed {
            Some(ids) => {
                let queues = ids.iter().filter_map(|id| self.queues.get(id));
                queues.filter_map(step).collect()
            }
            None => {
                let queues = self.vhosts.values().flat_map(|vhost| vhost.queues.values());
                let needy = queues.filter(|queue| {
                    let view = &queue.view;
                    view.mirrored || !view.recoverable.is_empty() || !view.old.is_empty()
                });
                needy.filter_map(&mut step).collect()
            }
        }
    }
}

/// Who should hold a queue under a mode.
pub(super) fn desired(
    mode: &MirrorMode,
    copies: Copies<'_>,
    tables: &Tables,
    draw: u64,
) -> Desired {
    let leader = copies.leader;
    let mirrors = match mode {
        MirrorMode::All => {
            let up = tables.nodes.up_for_queues().map(|node| node.id);
            up.filter(|node| *node != leader).collect()
        }
        MirrorMode::Exactly(count) => {
            let wanted = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
            if copies.mirrors.len() < wanted {
                more(copies, wanted, tables, draw)
            } else {
                // Who is in sync stays, before who is older.
                let (in_sync, others): (Vec<_>, Vec<_>) = copies
                    .mirrors
                    .iter()
                    .partition(|node| copies.in_sync.contains(node));
                in_sync.into_iter().chain(others).take(wanted).collect()
            }
        }
        MirrorMode::Nodes(names) => {
            let named = names.iter().filter_map(|name| tables.nodes.named(name));
            let up = named.filter(|node| node.is_up() && node.holds_queues());
            let up = up.map(|node| node.id);
            let mut listed: Vec<NodeId> = Vec::new();
            for node in up {
                if !listed.contains(&node) {
                    listed.push(node);
                }
            }
            return nodes(&listed, copies);
        }
    };
    let waits = false;
    Desired {
        leader,
        mirrors,
        waits,
    }
}

/// The mirrors that there are, and others up to the wanted number: first nodes that have an old copy,
/// then any, those that are being drained last.
fn more(copies: Copies<'_>, wanted: usize, tables: &Tables, draw: u64) -> Vec<NodeId> {
    let mut mirrors = copies.mirrors.to_vec();
    let mut rng = Rng::new(draw);
    let mut free: Vec<(bool, bool, u64, NodeId)> = tables
        .nodes
        .up_for_queues()
        .filter(|node| node.id != copies.leader && !copies.mirrors.contains(&node.id))
        .map(|node| {
            let is_fresh = !copies.recoverable.contains(&node.id);
            (node.draining, is_fresh, rng.next(), node.id)
        })
        .collect();
    free.sort_unstable();
    let missing = wanted - mirrors.len();
    mirrors.extend(free.into_iter().take(missing).map(|(.., node)| node));
    mirrors
}

/// Copies on listed nodes that run.
fn nodes(listed: &[NodeId], copies: Copies<'_>) -> Desired {
    // Without a mirror in sync the leader has the only full copy, and is listed by that.
    let is_listed = listed.contains(&copies.leader) || copies.in_sync.is_empty();
    let mut in_sync = copies.in_sync.iter();
    let heir = in_sync.find(|node| listed.contains(node)).copied();
    let leader = match copies.in_sync.first() {
        Some(first) if !is_listed && !listed.is_empty() => heir.unwrap_or(*first),
        _ => copies.leader,
    };
    let mirrors = listed.iter().copied().filter(|node| *node != leader);
    Desired {
        leader,
        mirrors: mirrors.collect(),
        waits: leader != copies.leader && heir.is_none(),
    }
}

fn next_change(
    view: &View,
    desired: &Desired,
    is_up: impl Fn(NodeId) -> bool,
) -> Option<ViewChange> {
    let wanted = |node: NodeId| node == desired.leader || desired.mirrors.contains(&node);
    let mut all = std::iter::once(desired.leader).chain(desired.mirrors.iter().copied());
    if let Some(missing) = all.find(|node| !view.is_member(*node)) {
        return Some(ViewChange::AddMirror(missing));
    }
    // Only as a mirror a node puts back what its old copy has, wanted there or not.
    if let Some(old) = view.old.iter().find(|node| is_up(**node) && !view.is_member(**node)) {
        return Some(ViewChange::AddMirror(*old));
    }
    // What does not hold everything is nobody's safety.
    let is_surplus = |node: NodeId| !wanted(node) && !view.old.contains(&node);
    if let Some(surplus) = view.catching_up.iter().find(|node| is_surplus(**node)) {
        return Some(ViewChange::DropMirror(*surplus));
    }
    if desired.leader != view.leader() {
        if desired.waits {
            return None;
        }
        let may = view.is_in_sync(desired.leader) && is_up(desired.leader);
        return may.then_some(ViewChange::Transfer(desired.leader));
    }
    if !desired.mirrors.iter().all(|node| view.is_in_sync(*node)) {
        return None;
    }
    if let Some(surplus) = view.mirrors().filter(|node| !wanted(*node)).last() {
        return Some(ViewChange::DropMirror(surplus));
    }
    let mut kept = view.recoverable.iter();
    let back = kept.find(|node| is_up(**node));
    back.map(|node| ViewChange::DropMirror(*node))
}
