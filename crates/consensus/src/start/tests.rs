//! Three nodes on disks that fail: one at a time under a working cluster, and all in one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::{Member, PendingSnapshot, RestoreError};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use stdx::Rng;

use super::*;
use crate::format::{EntryRecord, Position};
use crate::log::tests::disk::Disk;
use crate::rpc;
use crate::types::{Entry, LeaderId, LogId, Vote};
use crate::{ProposeError, Role, UnreachableError};

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<Bytes>>>);

impl StateMachine for Ledger {
    fn apply(&mut self, _index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        self.0.lock().extend_from_slice(commands);
        commands.to_vec()
    }

    fn snapshot(&self) -> PendingSnapshot {
        panic!("the test is too short for a snapshot")
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<(), RestoreError> {
        panic!("nobody has taken a snapshot")
    }
}

type Nodes = Arc<Mutex<BTreeMap<u64, Consensus>>>;

struct Wire(Nodes);

impl Network for Wire {
    async fn call(&self, peer: &Member, request: Bytes) -> Result<Bytes, UnreachableError> {
        let node = self.0.lock().get(&peer.id.0).cloned();
        match node {
            Some(node) => Ok(node.receive(&request).await),
            None => Err(UnreachableError("it is not running".to_owned())),
        }
    }
}

struct Node {
    consensus: Consensus,
    ledger: Ledger,
    disk: Disk,
}

async fn node(nodes: &Nodes, folder: &Path, number: u64, disk: Disk) -> Node {
    let options = Options {
        found_cluster: number == 1,
        heartbeat: Duration::from_millis(50),
        election_timeout: Duration::from_millis(400),
        ..Options::new(folder.join(number.to_string()), NodeId(number), "here")
    };
    let ledger = Ledger::default();
    let backend = disk.clone();
    let open_log: OpenLog = Box::new(move |path, node| {
        let journal = backend.journal();
        LogFile::open_with(backend, || Ok(journal), path, node)
    });
    let started = start_on(options, ledger.clone(), Wire(nodes.clone()), open_log);
    let consensus = started.await.unwrap();
    nodes.lock().insert(number, consensus.clone());
    Node {
        consensus,
        ledger,
        disk,
    }
}

async fn three(nodes: &Nodes, folder: &Path, mut disks: Vec<Disk>) -> Vec<Node> {
    let mut started = Vec::new();
    for number in (1..=3).rev() {
        let disk = disks.pop().unwrap_or_default();
        started.insert(0, node(nodes, folder, number, disk).await);
    }
    started
}

fn everybody() -> Vec<(Member, Role)> {
    let member = |number| Member {
        id: NodeId(number),
        address: "here".to_owned(),
    };
    (1..=3)
        .map(|number| (member(number), Role::Voter))
        .collect()
}

fn command(number: usize) -> Bytes {
    format!("command {number}").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_fails_stops_and_the_others_go_on() {
    for of_leader in [false, true] {
        let (nodes, folder) = (Nodes::default(), tempfile::tempdir().unwrap());
        let three = three(&nodes, folder.path(), Vec::new()).await;
        three[0].consensus.arrange(everybody()).await.unwrap();
        three[2]
            .consensus
            .propose_idempotent(command(0))
            .await
            .unwrap();
        let leads = |node: &Node| node.consensus.is_leader() == of_leader;
        let failing = three.iter().position(leads).unwrap();
        three[failing].disk.fail_next_sync();
        let others = [(failing + 1) % 3, (failing + 2) % 3];
        for number in 1..40 {
            let node = &three[others[number % 2]].consensus;
            node.propose_idempotent(command(number)).await.unwrap();
        }
        let why = three[failing].consensus.stopped().await;
        assert!(why.contains("cannot write metadata file"), "{why}");
        let refused = three[failing].consensus.propose(command(99)).await;
        match refused {
            Err(ProposeError::Stopped { reason }) => {
                assert!(reason.contains("see to the disk"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        three[others[0]].consensus.read_barrier().await.unwrap();
        for number in 0..40 {
            let held = three[others[0]].ledger.0.lock().contains(&command(number));
            assert!(held, "{number} is lost");
        }
    }
}

/// A power cut takes the leader, or all nodes at once, in the middle of many proposals; each disk
/// forgets any of what it had not synced.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_survives_a_power_cut() {
    for seed in 0..6 {
        let (nodes, folder) = (Nodes::default(), tempfile::tempdir().unwrap());
        let mut rng = Rng::new(seed);
        let first = three(&nodes, folder.path(), Vec::new()).await;
        first[0].consensus.arrange(everybody()).await.unwrap();
        let mut proposals = tokio::task::JoinSet::new();
        for number in 0..300 {
            let consensus = first[number % 3].consensus.clone();
            proposals.spawn(async move { (number, consensus.propose(command(number)).await) });
        }
        let mut answered = Vec::new();
        let cut_after = 1 + rng.below(200) as usize;
        while answered.len() < cut_after {
            let (number, outcome) = proposals.join_next().await.unwrap().unwrap();
            answered.extend(outcome.is_ok().then_some(number));
        }
        let all = rng.one_in(2);
        nodes.lock().clear();
        let mut disks = Vec::new();
        for node in &first {
            if all || node.consensus.is_leader() {
                disks.push(node.disk.crash(&mut rng, || ()));
            } else {
                disks.push(node.disk.clone());
            }
        }
        while let Some(outcome) = proposals.try_join_next() {
            if let Ok((number, Ok(_))) = outcome {
                answered.push(number);
            }
        }
        proposals.abort_all();
        for node in &first {
            node.consensus.shutdown().await;
        }
        let second = three(&nodes, folder.path(), disks).await;
        for node in &second {
            node.consensus.read_barrier().await.unwrap();
            let ledger = node.ledger.0.lock();
            for number in &answered {
                let times = ledger.iter().filter(|held| **held == command(*number));
                assert_eq!(times.count(), 1, "seed {seed}: {number}");
            }
        }
    }
}

/// A leader of an earlier life of node 2 sends its log's beginning, in which 2 was the only voter.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_does_not_stand_on_the_memberships_of_its_past() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        found_cluster: false,
        generation: Some(7),
        ..Options::new(folder.path(), NodeId(2), "here")
    };
    let begin = || start(options.clone(), Ledger::default(), crate::Alone);
    let at = |term, node, index| LogId::new(LeaderId::new(term, node), index);
    let membership = |voter| {
        let peer = Peer {
            address: "here".to_owned(),
        };
        Membership::new(
            vec![BTreeSet::from([voter])],
            BTreeMap::from([(voter, peer)]),
        )
        .unwrap()
    };
    let append = |committed: &LogId, previous: Option<&LogId>, entries: &[Entry]| {
        let vote = Vote {
            leader_id: LeaderId::new(5, 1),
            committed: true,
        };
        let request = rpc::Request::Append {
            vote: (&vote).into(),
            previous: previous.map(Position::from),
            committed: Some(Position::from(committed)),
            entries: entries.iter().map(EntryRecord::from).collect(),
        };
        request.encode(7)
    };
    let founding = Entry::new(at(0, 2, 0), EntryPayload::Membership(membership(2)));
    let present = Entry::new(at(5, 1, 1), EntryPayload::Membership(membership(1)));
    let consensus = begin().await.unwrap();
    let half = append(&present.log_id, None, std::slice::from_ref(&founding));
    rpc::Response::decode(&consensus.receive(&half).await).unwrap();
    assert!(consensus.inner.log.is_newcomer());
    consensus.shutdown().await;
    let consensus = begin().await.unwrap();
    assert!(!consensus.is_leader(), "it has elected itself");
    let rest = append(&present.log_id, Some(&founding.log_id), std::slice::from_ref(&present));
    rpc::Response::decode(&consensus.receive(&rest).await).unwrap();
    assert!(!consensus.inner.log.is_newcomer());
    consensus.shutdown().await;
    let consensus = begin().await.unwrap();
    assert!(!consensus.inner.log.is_newcomer(), "that is on disk");
    consensus.shutdown().await;
}
