//! What a node does when it and the others lose sight of each other, and when they meet again.
//!
//! ```text
//!                     quorum lost                        quorum back
//!   pause_minority:   no clients ----------------------> clients again
//!   pause_if_all_down: the same, when none of the named nodes is in reach
//!   ignore, autoheal: after a while a log of the next generation is founded, by one of those in reach;
//!                     the others in reach join it, and everything goes on
//! ```
//!
//! Sides that meet again have logs of different generations and talk of nothing else until one has given
//! way: by itself with `autoheal`, when told to with `ignore`. The side stays that has more client
//! connections, or else more nodes, or else the first node by name (RabbitMQ, "Clustering and Network
//! Partitions", autoheal). Each node of the other side starts again as a member of the staying log, and
//! puts back what its queues got in between ([`crate::returning`]).
//!
//! A node that was declared down and lives starts again too: others have gone on without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use broker::metadata::Command;
use cluster::link::Lane;
use cluster::metadata_log::NodeId;
use consensus::{Options, StartError};
use management::host::{AppState, HostFailure};
use stdx::Time;

use crate::alarms::Shortage;
use crate::clock;
use crate::config::{NodeName, PartitionHandling};
use crate::host::{Order, ProcessHost};
use crate::identity::Identity;
use crate::metadata::Machine;
use crate::node::{ConnectionMail, Node};
use crate::raft_network::OverLinks;
use crate::wire::{self, Standing};

/// Looked at so often.
const ROUND: Duration = Duration::from_millis(100);

/// A node that waits for its log asks so often whether others have gone on in another generation.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a node said of its side holds for so long; it says so every second.
const STANDING_HOLDS: Duration = Duration::from_secs(3);

/// Where two sides stand.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub standing: Standing,
    pub at: Time,
}

/// Whether the log says that this life of the node is over.
pub(crate) fn was_declared_down(node: &Node) -> bool {
    let tables = node.tables.load();
    tables.nodes.get(node.id()).is_some_and(|me| !me.is_up() && me.incarnation >= node.identity.incarnation)
}

/// The application begins another life.
pub(crate) fn start_again(host: &ProcessHost) {
    let _ = host.orders.send(Order::Restart("the cluster has gone on without this node".to_owned()));
}

struct Watch {
    host: Arc<ProcessHost>,
    node: Arc<Node>,
    /// Since when there is no quorum.
    lost_since: Option<Time>,
    paused: bool,
    told_at: Option<Time>,
}

/// Runs until the node stops.
pub(crate) async fn run(host: Arc<ProcessHost>, node: Arc<Node>) {
    let mut watch = Watch { host, node, lost_since: None, paused: false, told_at: None };
    loop {
        let lone = watch.node.tables.load().nodes.len() < 2;
        let mut changes = watch.node.rearrangements.subscribe();
        changes.mark_unchanged();
        tokio::select! {
            () = async { if lone { std::future::pending().await } else { tokio::time::sleep(ROUND).await } } => {}
            _ = changes.changed() => {}
            () = watch.node.stopped() => return,
        }
        watch.round().await;
    }
}

impl Watch {
    async fn round(&mut self) {
        let is_member = self.node.tables.load().nodes.get(self.node.id()).is_some();
        if (!is_member || was_declared_down(&self.node)) && !self.node.is_stopping() {
            start_again(&self.host);
            self.node.stopped().await;
            return;
        }
        let has_quorum = self.has_quorum();
        if has_quorum {
            // Nobody gives way to nodes that cannot go on.
            self.tell_standing();
        }
        let now = clock::awake();
        self.lost_since = if has_quorum { None } else { Some(self.lost_since.unwrap_or(now)) };
        let lost_for = self.lost_since.map_or(Duration::ZERO, |since| now.since(since));
        let patience = self.node.config.cluster.failure_timeout;
        match self.node.config.cluster.partition_handling.clone() {
            PartitionHandling::PauseMinority => self.pause_if(!has_quorum && lost_for >= patience / 2),
            PartitionHandling::PauseIfAllDown { nodes, autoheal } => {
                self.pause_if(!self.is_any_in_reach(&nodes));
                if !self.paused {
                    self.go_on_without(has_quorum, lost_for).await;
                    self.meet(autoheal).await;
                }
            }
            PartitionHandling::Ignore => {
                self.go_on_without(has_quorum, lost_for).await;
                self.meet(false).await;
            }
            PartitionHandling::Autoheal => {
                self.go_on_without(has_quorum, lost_for).await;
                self.meet(true).await;
            }
        }
    }

    /// Whether enough voters of the metadata log are in reach.
    fn has_quorum(&self) -> bool {
        self.node.consensus().is_none_or(|log| self.node.reaches_quorum(&log.metrics()))
    }

    /// Unknown names do not count; if none is a member, nothing pauses (RabbitMQ).
    fn is_any_in_reach(&self, names: &[NodeName]) -> bool {
        let tables = self.node.tables.load();
        let members: Vec<NodeId> =
            names.iter().filter_map(|name| Some(tables.nodes.named(&name.to_string())?.id)).collect();
        members.is_empty() || members.into_iter().any(|member| self.node.in_reach(member))
    }

    /// Without a quorum clients are sent away, and none is let in.
    fn pause_if(&mut self, pause: bool) {
        if pause == self.paused {
            return;
        }
        self.paused = pause;
        self.node.shut.send_modify(|shut| shut.by_pause = pause);
        if pause {
            let why = "too few nodes of the cluster are in reach".to_owned();
            tracing::warn!("{why}: clients are sent away until they are back");
            for handle in self.node.connections.read().values() {
                let reason = "broker forced connection closure with reason 'pause_minority'".to_owned();
                let _ = handle.mailbox.push(ConnectionMail::CloseNow(reason), 0);
            }
            self.host.set(AppState::Paused { why });
        } else {
            tracing::info!("enough nodes of the cluster are in reach again: clients are let in");
            self.host.set(AppState::Running);
        }
    }

    /// In the open modes the nodes that see each other go on, in a generation of their own.
    async fn go_on_without(&mut self, has_quorum: bool, lost_for: Duration) {
        if has_quorum {
            return;
        }
        let tables = self.node.tables.load_full();
        let consensus = self.node.consensus();
        let voters: Vec<NodeId> = consensus.iter().flat_map(|log| log.metrics().voters).map(|voter| voter.id).collect();
        // Nobody else can be at work where all that are missing have certainly died.
        let missing = voters.iter().filter(|voter| !self.node.in_reach(**voter));
        let all_dead = missing.clone().all(|voter| self.node.reach.gone(*voter).is_some_and(|verdict| verdict.certain));
        let patience = self.node.config.cluster.failure_timeout * 2;
        if !all_dead && lost_for < patience {
            return;
        }
        // A witness alone has nothing to go on with, and waits for the others.
        let members = tables.nodes.up_for_queues().filter(|member| self.node.in_reach(member.id));
        // Who votes knows the log best; of several, the first.
        let founder = members.min_by_key(|member| (!voters.contains(&member.id), member.id)).map(|member| member.id);
        if founder != Some(self.node.id()) {
            return;
        }
        let before = self.node.generation.load(Ordering::Acquire).max(tables.cluster.generation);
        let members = tables.nodes.iter().map(|member| member.name.to_string());
        let generation = own_generation(before, &self.node.name, members);
        tracing::warn!("the metadata log is founded anew among the nodes in reach, as generation {generation}");
        if let Err(error) = found(&self.node, generation).await {
            tracing::error!("the metadata log could not be founded anew: {error:#}");
            return;
        }
        self.lost_since = None;
        self.tell_standing_now();
    }

    fn tell_standing(&mut self) {
        let now = clock::awake();
        if self.told_at.is_none_or(|at| now.since(at) >= Duration::from_secs(1)) {
            self.tell_standing_now();
        }
    }

    fn tell_standing_now(&mut self) {
        self.told_at = Some(clock::awake());
        let packet = wire::standing(&standing(&self.node));
        for peer in self.node.peers.all() {
            peer.send(Lane::Control, packet.clone());
        }
    }

    /// Somebody in reach has a log of another generation, and a quorum for it.
    async fn meet(&mut self, heals: bool) {
        let now = clock::awake();
        let ours = standing(&self.node);
        let fresh = |met: &Met| now.since(met.at) < STANDING_HOLDS;
        self.node.met.lock().retain(|peer, met| fresh(met) && self.node.in_reach(*peer));
        let others: Vec<(NodeId, Standing)> = {
            let met = self.node.met.lock();
            let different = met.iter().filter(|(_, met)| met.standing.generation != ours.generation);
            different.map(|(id, met)| (*id, met.standing.clone())).collect()
        };
        self.node.partitioned.lock().clone_from(&others.iter().map(|(id, _)| *id).collect());
        let Some((peer, theirs)) = others.into_iter().max_by_key(|(_, standing)| standing.clone().rank()) else { return };
        let told = self.node.heal.swap(false, Ordering::AcqRel);
        // Who was asked to heal stays; the others hear it from there.
        if told {
            for peer in self.node.peers.all() {
                peer.send(Lane::Control, wire::give_way(ours.generation));
            }
            return;
        }
        let must = self.node.give_way_to.swap(0, Ordering::AcqRel) == theirs.generation;
        // A log that was founded anew by nodes of ours, while this one was away, is the later one.
        let abandoned = ours.nodes <= 1 && ours.connections == 0 && theirs.generation > ours.generation;
        if must || abandoned || (heals && (!self.has_quorum() || theirs.clone().rank() > ours.rank())) {
            give_way(&self.host, &self.node, peer, &theirs);
            self.node.stopped().await;
        }
    }
}

/// Whether a member that runs is in another generation than this node, which starts: then this node comes
/// back into that one. True: the application is told to start again. Whom that generation has forgotten is no
/// member there, and gives up.
pub(crate) async fn gave_way_at_start(host: &ProcessHost, node: &Arc<Node>) -> anyhow::Result<bool> {
    let tables = node.tables.load_full();
    let own = node.name.to_string();
    let ask = host.asking(&own, Duration::from_secs(1));
    let nothing = serde_json::json!({});
    for member in tables.nodes.iter().filter(|member| member.id != node.id()) {
        let Ok(who) = ask.post(&member.name, "/api/peer/who", &nothing).await else { continue };
        let same_cluster = who["cluster"].as_u64() == Some(tables.cluster.id);
        let generation = who["generation"].as_u64().unwrap_or(0);
        // This node may be following that one already.
        let _one = node.switching.lock().await;
        if same_cluster && who["app"] == "running" && generation != node.generation.load(Ordering::Acquire) {
            let theirs = who["members"].as_array().into_iter().flatten();
            if !theirs.into_iter().any(|name| name.as_str() == Some(&*own)) {
                let (thinker, dissident) = (Arc::clone(&node.name), Arc::clone(&member.name));
                let failure = HostFailure::InconsistentCluster { thinker, dissident };
                return Err(anyhow::Error::from(failure)).context("reset the node, or give it an empty data folder");
            }
            tracing::warn!("node {} is in generation {generation} of the metadata log: this node comes back into it", member.name);
            crate::returning::write_down(node, member.id)?;
            let why = "the cluster has gone on in another generation".to_owned();
            let _ = host.orders.send(Order::Restart(why));
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks that again for as long as this node waits for its log; ends when the application is told to start
/// again. Who runs may found a generation just after it has answered. Its link stands, so that most voters
/// seem to be in reach, and none of them answers in this node's generation any more.
pub(crate) async fn give_way_while_waiting(host: &ProcessHost, node: &Arc<Node>) -> anyhow::Result<()> {
    // A node that has nothing waits for the side that took it in, and for no other.
    let had_log = !node.tables.load().nodes.is_empty();
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        if had_log && gave_way_at_start(host, node).await? {
            return Ok(());
        }
    }
}

/// Where this node's side stands.
pub(crate) fn standing(node: &Node) -> Standing {
    let tables = node.tables.load();
    let up = tables.nodes.up().filter(|member| node.in_reach(member.id));
    let names: Vec<String> = up.map(|member| member.name.to_string()).collect();
    let load = crate::load::own(node);
    Standing {
        generation: node.generation.load(Ordering::Acquire),
        cluster: tables.cluster.id,
        connections: load.connections,
        messages: Some(load.messages),
        nodes: names.len() as u64,
        first: names.into_iter().min().unwrap_or_default(),
        // Nobody publishes to a witness.
        shortage: if node.config.is_witness() { Shortage::default() } else { node.resources.shortage() },
    }
}

/// What the nodes in reach that are in this node's generation have said of themselves lately.
pub(crate) fn partners(node: &Node) -> Vec<Standing> {
    let (now, generation) = (clock::awake(), node.generation.load(Ordering::Acquire));
    let met = node.met.lock();
    let partners = met.iter().filter(|(peer, met)| {
        met.standing.generation == generation && now.since(met.at) < STANDING_HOLDS && node.in_reach(**peer)
    });
    partners.map(|(_, met)| met.standing.clone()).collect()
}

/// This node's side is the one that gives way: it starts again as a member of the other log.
fn give_way(host: &ProcessHost, node: &Arc<Node>, to: NodeId, theirs: &Standing) {
    tracing::warn!("this node gives way to generation {} of the metadata log and comes back into it", theirs.generation);
    if let Err(error) = crate::returning::write_down(node, to) {
        tracing::error!("{error:#}; this node stays as it is");
        return;
    }
    let _ = host.orders.send(Order::Restart("the other side of a partition stays".to_owned()));
}

/// The next generation that this member founds. No other member founds one of the same number: where nobody
/// sees anybody, all may do so at once.
pub(crate) fn own_generation(before: u64, name: &str, members: impl IntoIterator<Item = String>) -> u64 {
    let members: BTreeSet<String> = members.into_iter().chain([name.to_owned()]).collect();
    let rank = members.iter().position(|member| member == name).unwrap_or_default() as u64;
    // A power of two, so that a member more or less seldom changes it.
    let step = members.len().max(2).next_power_of_two() as u64;
    let next = before + 1;
    next + (rank + step - next % step) % step
}

/// Founds the log anew from what this node has, as its only voter. Queues and connections go on.
pub(crate) async fn found(node: &Arc<Node>, generation: u64) -> anyhow::Result<()> {
    let (id, name) = (node.id(), node.name.to_string());
    let refound = move |folder: &Path| consensus::refound(folder, id, &name, Some(generation)).map(drop);
    if !change_over(node, generation, true, refound).await? {
        return Ok(());
    }
    let cluster = node.tables.load().cluster.id;
    let mut commands = vec![Command::FoundCluster { id: cluster, generation }];
    let tables = node.tables.load_full();
    for member in tables.nodes.up().filter(|member| !node.in_reach(member.id)) {
        commands.push(Command::NodeDown { node: member.id, incarnation: member.incarnation, clean: false });
    }
    node.propose(Command::Batch(commands)).await?;
    Ok(())
}

/// Follows a log that another node has founded anew.
pub(crate) async fn follow_founder(node: &Arc<Node>, generation: u64) -> anyhow::Result<()> {
    change_over(node, generation, false, consensus::forget).await.map(drop)
}

/// Stops the engine, has `change` make the log in its folder one of `generation`, and starts it again. False,
/// and nothing is done, while there is no engine.
async fn change_over(
    node: &Arc<Node>,
    generation: u64,
    founder: bool,
    change: impl FnOnce(&Path) -> Result<(), StartError> + Send + 'static,
) -> anyhow::Result<bool> {
    let Some(old) = node.consensus() else { return Ok(false) };
    crate::returning::remember_fork(node, generation).await?;
    old.shutdown().await;
    let folder = node.config.data_dir.join("metadata");
    let identity = Identity { generation, founder, ..node.identity.clone() };
    // A log founded anew is worth something without the identity, and one to be left is worth nothing with it:
    // so every start finds out where this one was cut short.
    if founder {
        tokio::task::spawn_blocking(move || change(&folder)).await??;
        identity.save(&node.config.data_dir)?;
    } else {
        identity.save(&node.config.data_dir)?;
        tokio::task::spawn_blocking(move || change(&folder)).await??;
    }
    start_log(node, generation, founder).await?;
    Ok(true)
}

/// Starts the engine on the folder as it is now. What it replays is seen only when it is all there.
async fn start_log(node: &Arc<Node>, generation: u64, founder: bool) -> anyhow::Result<()> {
    let (machine, publish) = Machine::silent(Arc::clone(&node.tables), node.follow.clone());
    let options = log_options(node, generation, founder);
    let log = consensus::start(options, machine, OverLinks(Arc::clone(&node.peers))).await?;
    node.generation.store(generation, Ordering::Release);
    node.set_consensus(log);
    publish.open();
    crate::follow::follow_all(node).await;
    Ok(())
}

pub(crate) fn log_options(node: &Node, generation: u64, founder: bool) -> Options {
    let folder = node.config.data_dir.join("metadata");
    let mut options = Options::new(folder, node.id(), node.name.to_string());
    options.found_cluster = founder;
    options.generation = Some(generation);
    options
}

/// A peer says where its side stands.
pub(crate) fn hear(node: &Arc<Node>, peer: NodeId, standing: Standing) {
    let ours = node.generation.load(Ordering::Acquire);
    let same_cluster = standing.cluster == node.tables.load().cluster.id;
    if !same_cluster {
        return;
    }
    let theirs = standing.generation;
    node.met.lock().insert(peer, Met { standing, at: clock::awake() });
    crate::alarms::tell_clients(node);
    // Of those that lost the quorum together, one founds and the others follow at once.
    let stranded = node.consensus().is_some_and(|log| !node.reaches_quorum(&log.metrics()));
    if theirs > ours && stranded && !node.is_stopping() {
        let node = Arc::clone(node);
        tokio::spawn(async move {
            let _one = node.switching.lock().await;
            if node.generation.load(Ordering::Acquire) >= theirs {
                return;
            }
            tracing::warn!("this node follows the metadata log that was founded anew, generation {theirs}");
            if let Err(error) = follow_founder(&node, theirs).await {
                tracing::error!("the metadata log that was founded anew cannot be followed: {error:#}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::own_generation;

    #[test]
    fn members_that_go_on_by_themselves_at_once_do_so_in_generations_of_their_own() {
        let of = |before, name: &str| own_generation(before, name, ["a", "b", "c"].map(str::to_owned));
        assert_eq!([of(1, "a"), of(1, "b"), of(1, "c")], [4, 5, 2]);
        assert_eq!([of(2, "a"), of(4, "a"), of(4, "b")], [4, 8, 5]);
        for (name, rank) in [("a", 0), ("b", 1), ("c", 2)] {
            let mut generation = 1;
            for _ in 0..20 {
                let next = of(generation, name);
                assert!(next > generation && next <= generation + 4 && next % 4 == rank);
                generation = next;
            }
        }
        assert!(own_generation(1, "alone", []) > 1);
    }
}
