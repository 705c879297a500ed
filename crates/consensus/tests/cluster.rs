//! Several nodes in one process, over a network that can be cut: what later membership work builds
//! on. Time is real here, since files are; the tests wait for states, never for durations.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{Ledger, options};
use consensus::{
    ChangeError, Consensus, Member, Network, NodeId, Options, ProposeError, UnreachableError,
};

/// How long the nodes of a test wait for their leader: `PATIENT` ones keep theirs on a busy machine.
const IMPATIENT: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(20);

/// Carries requests between the nodes of a test, except over links that are cut.
#[derive(Clone)]
struct Switch {
    election_timeout: Duration,
    nodes: Arc<Mutex<BTreeMap<String, Consensus>>>,
    unplugged: Arc<Mutex<BTreeSet<String>>>,
}

impl Switch {
    fn new(election_timeout: Duration) -> Self {
        Switch {
            election_timeout,
            nodes: Arc::default(),
            unplugged: Arc::default(),
        }
    }
}

/// One node's plug in the switch.
struct Plug {
    switch: Switch,
    own: String,
}

impl Network for Plug {
    async fn call(&self, peer: &Member, request: Bytes) -> Result<Bytes, UnreachableError> {
        let target = {
            let unplugged = self.switch.unplugged.lock().unwrap();
            let cut = unplugged.contains(&self.own) || unplugged.contains(&peer.address);
            let nodes = self.switch.nodes.lock().unwrap();
            nodes.get(&peer.address).filter(|_| !cut).cloned()
        };
        match target {
            Some(node) => Ok(node.receive(&request).await),
            None => Err(UnreachableError(format!("{} is cut off", peer.address))),
        }
    }
}

fn address(number: u64) -> String {
    format!("warren@node{number}")
}

fn member(number: u64) -> Member {
    Member {
        id: NodeId(number),
        address: address(number),
    }
}

struct Node {
    consensus: Consensus,
    ledger: Ledger,
}

/// Starts node `number`; the first founds the cluster.
async fn node(switch: &Switch, folder: &Path, number: u64) -> Node {
    let options = Options {
        node_id: NodeId(number),
        address: address(number),
        found_cluster: number == 1,
        snapshot_entries: 100,
        heartbeat: Duration::from_millis(100),
        election_timeout: switch.election_timeout,
        ..options(&folder.join(number.to_string()))
    };
    let ledger = Ledger::default();
    let plug = Plug {
        switch: switch.clone(),
        own: address(number),
    };
    let consensus = consensus::start(options, ledger.clone(), plug)
        .await
        .unwrap();
    switch
        .nodes
        .lock()
        .unwrap()
        .insert(address(number), consensus.clone());
    Node { consensus, ledger }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            looks.tick().await;
        }
    };
    let met = tokio::time::timeout(Duration::from_secs(30), met).await;
    assert!(met.is_ok(), "waited in vain until {what}");
}

/// Three voters, the first leading.
async fn three(switch: &Switch, folder: &Path) -> Vec<Node> {
    let mut nodes = vec![node(switch, folder, 1).await];
    for number in 2..=3 {
        nodes.push(node(switch, folder, number).await);
        nodes[0]
            .consensus
            .add_learner(member(number))
            .await
            .unwrap();
    }
    nodes[0]
        .consensus
        .set_voters([1, 2, 3].map(NodeId).into())
        .await
        .unwrap();
    nodes
}

fn command(number: usize) -> Bytes {
    format!("command {number}").into()
}

/// Proposes to whoever leads `nodes`. A busy machine may move the leadership; `NotLeader` promises
/// that the command was not taken.
async fn propose(nodes: &[Node], numbers: std::ops::Range<usize>) {
    for number in numbers {
        loop {
            until("one leads", || leader(nodes).is_some()).await;
            let Some(leader) = leader(nodes) else {
                continue;
            };
            match nodes[leader].consensus.propose(command(number)).await {
                Ok(_) => break,
                Err(ProposeError::NotLeader { .. }) => {}
                Err(error) => panic!("command {number}: {error}"),
            }
        }
    }
}

fn leader(nodes: &[Node]) -> Option<usize> {
    nodes.iter().position(|node| node.consensus.is_leader())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_as_learners_and_become_voters() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let mut nodes = vec![node(&switch, folder.path(), 1).await];
    // More than a snapshot's worth, so that the newcomer cannot be served from the log alone.
    propose(&nodes[..1], 0..400).await;
    until("a snapshot is taken", || {
        nodes[0].consensus.metrics().snapshot > 100
    })
    .await;
    nodes.push(node(&switch, folder.path(), 2).await);
    assert_eq!(nodes[1].consensus.metrics().leader, None);
    assert_eq!(
        nodes[1].consensus.propose(command(0)).await,
        Err(ProposeError::NotLeader { leader: None })
    );
    nodes[0].consensus.add_learner(member(2)).await.unwrap();
    until("the learner has all", || nodes[1].ledger.len() == 400).await;
    assert!(nodes[1].ledger.restored() >= 1, "it came by snapshot");
    assert_eq!(nodes[1].ledger.commands(), nodes[0].ledger.commands());
    let status = nodes[0].consensus.metrics();
    assert_eq!(
        (status.voters, status.learners),
        (vec![member(1)], vec![member(2)])
    );
    nodes[0]
        .consensus
        .set_voters([1, 2].map(NodeId).into())
        .await
        .unwrap();
    assert_eq!(nodes[0].consensus.metrics().voters, [member(1), member(2)]);
    let leader = Some(member(1));
    until("the other knows its leader", || {
        nodes[1].consensus.metrics().leader.is_some()
    })
    .await;
    let refused = nodes[1].consensus.propose(command(0)).await;
    assert_eq!(
        refused,
        Err(ProposeError::NotLeader {
            leader: leader.clone()
        })
    );
    let refused = nodes[1].consensus.read_barrier().await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader }));
    propose(&nodes[..1], 400..410).await;
    until("both have all", || nodes[1].ledger.len() == 410).await;
    let stranger = nodes[0]
        .consensus
        .set_voters([1, 9].map(NodeId).into())
        .await;
    assert!(
        matches!(stranger, Err(ChangeError::Refused(_))),
        "{stranger:?}"
    );
    nodes[0]
        .consensus
        .set_voters([NodeId(1)].into())
        .await
        .unwrap();
    nodes[0].consensus.remove_learner(NodeId(2)).await.unwrap();
    assert_eq!(nodes[0].consensus.metrics().learners, []);
    propose(&nodes[..1], 410..411).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_goes_on_without_its_leader_and_a_minority_does_not() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = three(&switch, folder.path()).await;
    propose(&nodes, 0..20).await;
    switch.unplugged.lock().unwrap().insert(address(1));
    propose(&nodes[1..], 20..40).await;
    let cut_off = nodes[0].consensus.clone();
    let lost = tokio::spawn(async move { cut_off.propose("lost".into()).await });
    switch.unplugged.lock().unwrap().clear();
    until("the old leader follows", || nodes[0].ledger.len() >= 40).await;
    let lost = lost.await.unwrap();
    assert!(
        matches!(
            lost,
            Err(ProposeError::Unknown | ProposeError::NotLeader { .. })
        ),
        "{lost:?}"
    );
    until("all agree", || {
        let commands = nodes[1].ledger.commands();
        nodes.iter().all(|node| node.ledger.commands() == commands)
    })
    .await;
    assert!(!nodes[0].ledger.holds(b"lost"));
    assert_eq!(
        nodes[0].ledger.commands(),
        (0..40).map(command).collect::<Vec<_>>()
    );
    until("one leads", || leader(&nodes).is_some()).await;
    nodes[leader(&nodes).unwrap()]
        .consensus
        .read_barrier()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_when_asked() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let nodes = three(&switch, folder.path()).await;
    propose(&nodes, 0..5).await;
    nodes[0].consensus.transfer_leader(NodeId(3)).await.unwrap();
    until("the third leads", || nodes[2].consensus.is_leader()).await;
    until("the first knows", || {
        nodes[0].consensus.metrics().leader == Some(NodeId(3))
    })
    .await;
    propose(&nodes, 5..10).await;
    until("the first has all", || nodes[0].ledger.len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_with_everything_it_answered() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = three(&switch, folder.path()).await;
    propose(&nodes, 0..250).await;
    for node in &nodes {
        node.consensus.shutdown().await;
    }
    switch.nodes.lock().unwrap().clear();
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(node(&switch, folder.path(), number).await);
    }
    until("one leads", || leader(&nodes).is_some()).await;
    until("all have all", || {
        nodes.iter().all(|node| node.ledger.len() == 250)
    })
    .await;
    propose(&nodes, 250..251).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_the_network_is_refused_and_changes_nothing() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let node = node(&switch, folder.path(), 1).await;
    for nonsense in [&b""[..], b"\x01", b"\x02abcdefgh", b"GET / HTTP/1.1"] {
        let reply = node.consensus.receive(nonsense).await;
        assert!(String::from_utf8_lossy(&reply).contains("the request cannot be read"));
    }
    propose(&[node], 0..1).await;
}
