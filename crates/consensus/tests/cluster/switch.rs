//! The network of a test: it carries requests between nodes of one process, and can cut any pair in
//! either direction, hold a node's traffic back, and unplug it. And the nodes on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use consensus::{
    Consensus, Member, Network, NodeId, Options, ProposeError, Role, UnreachableError,
};
use tokio::sync::watch;

use crate::common::{Ledger, options};

/// How long the nodes of a test wait for their leader: `PATIENT` ones keep theirs on a busy machine.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(400);
pub(crate) const PATIENT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Switch {
    election_timeout: Duration,
    nodes: Arc<Mutex<BTreeMap<String, Consensus>>>,
    wires: watch::Sender<Wires>,
}

#[derive(Clone, Default)]
pub(crate) struct Wires {
    /// What goes from the first to the second is lost.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// What goes from and to these waits.
    pub(crate) frozen: BTreeSet<u64>,
}

impl Switch {
    pub(crate) fn new(election_timeout: Duration) -> Self {
        Switch {
            election_timeout,
            nodes: Arc::default(),
            wires: watch::Sender::default(),
        }
    }

    pub(crate) fn rewire(&self, change: impl FnOnce(&mut Wires)) {
        self.wires.send_modify(change);
    }

    /// Cuts `node` off from all others.
    pub(crate) fn unplug(&self, node: u64) {
        self.rewire(|wires| {
            for other in (0..10).filter(|&other| other != node) {
                wires.cut.extend([(node, other), (other, node)]);
            }
        });
    }

    pub(crate) fn heal(&self) {
        self.rewire(|wires| *wires = Wires::default());
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        !self.wires.borrow().cut.contains(&(from, to))
    }

    async fn thawed(&self, from: u64, to: u64) {
        let mut wires = self.wires.subscribe();
        let free = |wires: &Wires| !wires.frozen.contains(&from) && !wires.frozen.contains(&to);
        wires.wait_for(free).await.unwrap();
    }
}

/// One node's plug in the switch.
struct Plug {
    switch: Switch,
    own: u64,
}

impl Network for Plug {
    async fn call(&self, peer: &Member, request: Bytes) -> Result<Bytes, UnreachableError> {
        let (from, to) = (self.own, peer.id.0);
        let lost = || UnreachableError(format!("{} is cut off", peer.address));
        self.switch.thawed(from, to).await;
        let target = self
            .switch
            .nodes
            .lock()
            .unwrap()
            .get(&peer.address)
            .cloned();
        let target = target.filter(|_| self.switch.passes(from, to));
        let reply = target.ok_or_else(lost)?.receive(&request).await;
        self.switch.thawed(from, to).await;
        if self.switch.passes(to, from) {
            Ok(reply)
        } else {
            Err(lost())
        }
    }

    fn is_linked(&self, peer: &Member) -> bool {
        let there = self
            .switch
            .nodes
            .lock()
            .unwrap()
            .contains_key(&peer.address);
        there && self.switch.passes(self.own, peer.id.0)
    }
}

pub(crate) fn address(number: u64) -> String {
    format!("warren@node{number}")
}

pub(crate) fn member(number: u64) -> Member {
    Member {
        id: NodeId(number),
        address: address(number),
    }
}

/// Everybody in `voters` and `learners`, as `arrange` wants it.
pub(crate) fn seats(voters: &[u64], learners: &[u64]) -> Vec<(Member, Role)> {
    let voters = voters.iter().map(|&id| (member(id), Role::Voter));
    let learners = learners.iter().map(|&id| (member(id), Role::Learner));
    voters.chain(learners).collect()
}

pub(crate) struct Node {
    pub(crate) number: u64,
    pub(crate) consensus: Consensus,
    pub(crate) ledger: Ledger,
}

pub(crate) fn node_options(switch: &Switch, folder: &Path, number: u64) -> Options {
    Options {
        node_id: NodeId(number),
        address: address(number),
        found_cluster: number == 1,
        snapshot_entries: 100,
        heartbeat: Duration::from_millis(50),
        election_timeout: switch.election_timeout,
        propose_timeout: Duration::from_secs(30),
        ..options(&folder_of(folder, number))
    }
}

/// Starts node `number`; the first founds the cluster.
pub(crate) async fn node(switch: &Switch, folder: &Path, number: u64) -> Node {
    node_with(switch, node_options(switch, folder, number)).await
}

pub(crate) async fn node_with(switch: &Switch, options: Options) -> Node {
    let ledger = Ledger::default();
    let number = options.node_id.0;
    let plug = Plug {
        switch: switch.clone(),
        own: number,
    };
    let consensus = consensus::start(options, ledger.clone(), plug)
        .await
        .unwrap();
    let mut nodes = switch.nodes.lock().unwrap();
    nodes.insert(address(number), consensus.clone());
    Node {
        number,
        consensus,
        ledger,
    }
}

impl Node {
    /// Ends the node; its folder stays.
    pub(crate) async fn stop(self, switch: &Switch) {
        switch.nodes.lock().unwrap().remove(&address(self.number));
        self.consensus.shutdown().await;
    }

    pub(crate) async fn arrange(&self, voters: &[u64], learners: &[u64]) {
        let arranged = self.consensus.arrange(seats(voters, learners)).await;
        arranged.unwrap_or_else(|error| panic!("voters {voters:?}: {error}"));
    }

    pub(crate) fn voters(&self) -> Vec<u64> {
        let voters = self.consensus.metrics().voters;
        voters.into_iter().map(|member| member.id.0).collect()
    }

    pub(crate) fn learners(&self) -> Vec<u64> {
        let learners = self.consensus.metrics().learners;
        learners.into_iter().map(|member| member.id.0).collect()
    }

    /// Proposes the commands of `numbers`, again until each is taken.
    pub(crate) async fn propose(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            loop {
                match self.consensus.propose(command(number)).await {
                    Ok(_) => break,
                    Err(ProposeError::NotLeader { .. } | ProposeError::NoLeader { .. }) => {}
                    Err(error) => panic!("command {number}: {error}"),
                }
            }
        }
    }
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            looks.tick().await;
        }
    };
    let met = tokio::time::timeout(Duration::from_secs(60), met).await;
    assert!(met.is_ok(), "waited in vain until {what}");
}

/// Where the node of this number has its log.
pub(crate) fn folder_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(number.to_string())
}

/// Nodes 1 to `count`, all of them voters; the first leads unless a busy machine has moved that.
pub(crate) async fn voters(switch: &Switch, folder: &Path, count: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(node(switch, folder, number).await);
    }
    let all: Vec<u64> = (1..=count).collect();
    nodes[0].arrange(&all, &[]).await;
    nodes
}

pub(crate) fn command(number: usize) -> Bytes {
    format!("command {number}").into()
}

/// The index in `nodes` of one that leads.
pub(crate) fn leader(nodes: &[Node]) -> Option<usize> {
    nodes.iter().position(|node| node.consensus.is_leader())
}

/// The index in `nodes` of the one all of them take for the leader.
pub(crate) async fn agreed_leader(nodes: &[Node]) -> usize {
    let agreed = || {
        let leader = nodes[0].consensus.metrics().leader?;
        let all = nodes
            .iter()
            .all(|node| node.consensus.metrics().leader == Some(leader));
        let position = nodes.iter().position(|node| node.number == leader.0)?;
        (all && nodes[position].consensus.is_leader()).then_some(position)
    };
    until("all agree on a leader", || agreed().is_some()).await;
    agreed().unwrap_or_else(|| leader(nodes).unwrap_or(0))
}

/// Waits until all machines have seen the same commands as far as the last one proposed by `last`.
pub(crate) async fn same_everywhere(nodes: &[Node]) -> Vec<Bytes> {
    until("all agree", || {
        let commands = nodes[0].ledger.state.lock().unwrap().clone();
        nodes
            .iter()
            .all(|node| *node.ledger.state.lock().unwrap() == commands)
    })
    .await;
    nodes[0].ledger.commands()
}
