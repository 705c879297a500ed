//! Watching the other nodes: membership on its clock, and what follows from its verdicts.
//!
//! Membership only suspects. A verdict becomes true for the cluster when the node that leads the metadata
//! log proposes `NodeDown`, and that is committed. The same node arranges the voters of the log and takes
//! the next steps of queues' views ([`crate::duties`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::metadata::Tables;
use cluster::link::{Incarnation, Lane};
use cluster::membership::{Effect, Event, Membership, Packet, PeerState, PeerStatus, Settings};
use cluster::metadata_log::NodeId;
use parking_lot::Mutex;
use stdx::Time;
use tokio::sync::{Notify, mpsc};

use crate::clock;
use crate::node::Node;
use crate::peers::PeerEvent;
use crate::wire;

/// What this node thinks of the others, for all who ask.
#[derive(Default)]
pub(crate) struct Reach {
    membership: Mutex<Option<Membership>>,
    gone: Mutex<BTreeMap<NodeId, Verdict>>,
    /// Since when those answer that do.
    met: Mutex<BTreeMap<NodeId, Time>>,
    /// A verdict has changed.
    pub changed: Notify,
}

/// A node does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The life in question; `None` when this node has not met the other since its own start.
    pub incarnation: Option<u64>,
    /// That life has ended; otherwise it may go on somewhere.
    pub certain: bool,
    pub since: Time,
}

impl Reach {
    /// Why a node counts as gone here, if it does.
    pub(crate) fn gone(&self, node: NodeId) -> Option<Verdict> {
        self.gone.lock().get(&node).copied()
    }

    /// Since when a node answers, if it does.
    pub(crate) fn alive_since(&self, node: NodeId) -> Option<Time> {
        self.met.lock().get(&node).copied()
    }

    /// Whether a node answers.
    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        let membership = self.membership.lock();
        let state = membership.as_ref().map(|membership| membership.state(node));
        matches!(state, Some(PeerState::Reachable | PeerState::Suspected))
    }

    /// Whether this node holds leases of all these nodes at this moment.
    pub(crate) fn holds_leases(&self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        let now = clock::awake();
        let membership = self.membership.lock();
        let Some(membership) = &*membership else { return false };
        nodes.into_iter().all(|node| membership.lease_until(node).is_some_and(|until| now < until))
    }

    /// From when on a node holds no lease of this one.
    pub(crate) fn granted_until(&self, node: NodeId) -> Option<Time> {
        self.membership.lock().as_ref().map(|membership| membership.granted_until(node))
    }

    /// Who says that it hears this node.
    pub(crate) fn hearers(&self, of: NodeId) -> BTreeSet<NodeId> {
        let membership = self.membership.lock();
        let Some(membership) = &*membership else { return BTreeSet::new() };
        let peers = membership.status();
        peers.iter().filter(|peer| peer.hears.contains(&of)).map(|peer| peer.peer).collect()
    }

    /// Who was declared down gets no lease until its next life is up: whoever leads its queues by now
    /// waits for the leases of before to run out.
    pub(crate) fn grant_only_to_those_up(&self, tables: &Tables) {
        if let Some(membership) = &mut *self.membership.lock() {
            for member in tables.nodes.iter() {
                membership.withhold(member.id, !member.is_up());
            }
        }
    }

    /// What an operator may see.
    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        self.membership.lock().as_ref().map(Membership::status).unwrap_or_default()
    }

    fn handle(&self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Some(membership) = &mut *self.membership.lock() {
            membership.handle(clock::awake(), event, &mut out);
        }
        out
    }

    fn wait(&self) -> std::time::Duration {
        let due = self.membership.lock().as_ref().map(Membership::deadline);
        due.map_or(std::time::Duration::from_millis(100), |due| due.since(clock::awake()))
    }
}

/// Runs membership until the end of this life of the node: others take one that stops in good order, which may have to
/// wait for its clients, for silent otherwise, and wait for it in turn.
pub(crate) async fn run(node: Arc<Node>, mut heard: mpsc::UnboundedReceiver<PeerEvent>) {
    let cluster = &node.config.cluster;
    let settings = Settings { failure_timeout: cluster.failure_timeout, ..Settings::default() };
    let settings = settings.capped(cluster.net_ticktime);
    let incarnation = Incarnation(node.identity.incarnation);
    let membership = Membership::new(node.id(), incarnation, settings, clock::awake());
    *node.reach.membership.lock() = Some(membership);
    node.reach.grant_only_to_those_up(&node.tables.load());
    loop {
        let event = tokio::select! {
            event = heard.recv() => match event {
                Some(event) => translate(&node, event),
                None => return,
            },
            () = tokio::time::sleep(node.reach.wait()) => Some(Event::Tick),
        };
        if let Some(event) = event {
            let effects = node.reach.handle(event);
            obey(&node, effects);
        }
    }
}

fn translate(node: &Node, event: PeerEvent) -> Option<Event> {
    Some(match event {
        PeerEvent::Connected { peer, incarnation } => {
            Event::Connected { peer, incarnation: Incarnation(incarnation) }
        }
        PeerEvent::Lost { peer, refused } => Event::Disconnected { peer, refused },
        PeerEvent::Refused { peer } => Event::Refused { peer },
        PeerEvent::Heartbeat { peer, body } => Event::Heartbeat(peer, Packet::decode(&body).ok()?),
        PeerEvent::Members => Event::Peers(node.peers.all().iter().map(|peer| peer.id).collect()),
    })
}

fn obey(node: &Node, effects: Vec<Effect>) {
    let name = |peer: NodeId| node.peers.get(peer).map_or_else(|| peer.to_string().into(), |p| Arc::clone(&p.name));
    // Of one that stopped in good order, or was declared down long ago, silence is no news.
    let is_up = |peer: NodeId| node.tables.load().nodes.is_up(peer);
    for effect in effects {
        match effect {
            Effect::Send { to, packet } => {
                if let Some(peer) = node.peers.get(to) {
                    peer.send(Lane::Control, wire::heartbeat(&packet.encode()));
                }
            }
            Effect::Reachable { peer, .. } => {
                node.reach.met.lock().insert(peer, clock::awake());
                if node.reach.gone.lock().remove(&peer).is_some() {
                    tracing::info!("node {} answers again", name(peer));
                }
                node.reach.changed.notify_waiters();
            }
            Effect::Suspected { peer } if is_up(peer) => tracing::info!("node {} is silent", name(peer)),
            Effect::Suspected { peer } => tracing::info!("node {} has stopped", name(peer)),
            Effect::Unsuspected { peer } => tracing::info!("node {} is heard again", name(peer)),
            Effect::Unreachable { peer, incarnation, certain } => {
                let what = if certain { "is down" } else { "does not answer" };
                if is_up(peer) {
                    tracing::warn!("node {} {what}", name(peer));
                } else {
                    tracing::debug!("node {}, which was declared down, {what}", name(peer));
                }
                let verdict = Verdict { incarnation: incarnation.map(|i| i.0), certain, since: clock::awake() };
                node.reach.met.lock().remove(&peer);
                node.reach.gone.lock().insert(peer, verdict);
                if let (Some(link), Some(life)) = (node.peers.get(peer), incarnation) {
                    // Whatever this connection still is, nobody should wait for it.
                    link.hang_up_on(life.0);
                }
                node.reach.changed.notify_waiters();
            }
        }
    }
}
