//! Proposals and reads from nodes that do not lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use consensus::{NodeId, Options, ProposeError};
use stdx::Rng;

use crate::common::answer;
use crate::switch::{
    IMPATIENT, Node, PATIENT, Switch, agreed_leader, command, node, node_options, node_with,
    same_everywhere, until, voters,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_proposes_and_reads_its_own_writes() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    nodes.push(node(&switch, folder.path(), 4).await);
    nodes[2].arrange(&[1, 2, 3], &[4]).await;
    for round in 0..20 {
        for (place, node) in nodes.iter().enumerate() {
            let command = command(round * 10 + place);
            let answered = node.consensus.propose(command.clone()).await.unwrap();
            let ledger = node.ledger.state.lock().unwrap().clone();
            let index = ledger.iter().find(|(_, held)| **held == command);
            let (&index, _) = index.expect("it reads its own write");
            assert_eq!(answered, answer(index, &command));
        }
        for node in &nodes {
            node.consensus.read_barrier().await.unwrap();
            assert_eq!(node.ledger.len(), (round + 1) * 4);
        }
    }
    same_everywhere(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_leader_waits_and_then_says_so() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    let last = nodes.remove(2);
    for node in nodes {
        node.stop(&switch).await;
    }
    last.stop(&switch).await;
    let hasty = Options {
        propose_timeout: Duration::from_millis(100),
        ..node_options(&switch, folder.path(), 3)
    };
    let last = node_with(&switch, hasty).await;
    let refused = last.consensus.propose(command(1)).await;
    let text = refused.clone().unwrap_err().to_string();
    assert!(
        matches!(refused, Err(ProposeError::NoLeader { .. })),
        "{refused:?}"
    );
    assert!(
        text.contains("too few of its voters can be reached"),
        "{text}"
    );
    let refused = last.consensus.read_barrier().await;
    assert!(
        matches!(refused, Err(ProposeError::NoLeader { .. })),
        "{refused:?}"
    );
    last.stop(&switch).await;
    // One that is asked during the wait and finds its leader is answered.
    let waiting = node(&switch, folder.path(), 3).await;
    let consensus = waiting.consensus.clone();
    let proposed = tokio::spawn(async move { consensus.propose(command(2)).await });
    let other = node(&switch, folder.path(), 2).await;
    proposed.await.unwrap().unwrap();
    assert!(waiting.ledger.holds(&command(2)));
    assert!(!waiting.ledger.holds(&command(1)));
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_hears_of_each_new_leader() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    let mut changes = nodes[2].consensus.leader_changes();
    changes.wait_for(Option::is_some).await.unwrap();
    for _ in 0..3 {
        let leader = agreed_leader(&nodes).await;
        let next = (leader + 1) % 3;
        let to = NodeId(nodes[next].number);
        nodes[leader].consensus.transfer_leader(to).await.unwrap();
        let old = NodeId(nodes[leader].number);
        changes
            .wait_for(|leader| leader.is_some_and(|leader| leader != old))
            .await
            .unwrap();
    }
}

/// What became of each command, by its proposer.
type Outcomes = BTreeMap<Bytes, Result<(), ProposeError>>;

/// Proposes through `node` until `stop`; at most once where not `again`.
async fn proposer(node: &Node, name: &str, again: bool, stop: Arc<AtomicBool>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let command = Bytes::from(format!("{name} {number}"));
        let outcome = if again {
            node.consensus.propose_idempotent(command.clone()).await
        } else {
            node.consensus.propose(command.clone()).await
        };
        if outcome.is_ok() {
            assert!(node.ledger.holds(&command), "{name} reads its own writes");
        }
        outcomes.insert(command, outcome.map(drop));
    }
    outcomes
}

/// Every command once if answered, never if refused, at most once if unknown; of those that may be
/// proposed again, at least once if answered.
fn check(outcomes: &Outcomes, commands: &[Bytes]) {
    for (command, outcome) in outcomes {
        let times = commands.iter().filter(|held| *held == command).count();
        let again = command.starts_with(b"again");
        match outcome {
            Ok(()) if again => assert!(times >= 1, "{command:?} is lost"),
            Ok(()) => assert_eq!(times, 1, "{command:?}"),
            Err(ProposeError::Unknown) => assert!(again || times <= 1, "{command:?} {times} times"),
            Err(ProposeError::NoLeader { .. }) => assert_eq!(times, 0, "{command:?} was refused"),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_takes_effect_once_while_the_lead_moves() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    nodes.push(node(&switch, folder.path(), 4).await);
    nodes[0].arrange(&[1, 2, 3], &[4]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let chaos = async {
        let mut rng = Rng::new(11);
        for _ in 0..8 {
            let leader = agreed_leader(&nodes[..3]).await;
            let seen = nodes[3].ledger.len();
            if rng.one_in(2) {
                let to = NodeId(nodes[(leader + 1) % 3].number);
                nodes[leader].consensus.transfer_leader(to).await.unwrap();
            } else {
                // A leader that is lost in the middle of what it has taken.
                switch.unplug(nodes[leader].number);
                let others = [(leader + 1) % 3, (leader + 2) % 3];
                until("another leads", || {
                    others
                        .iter()
                        .any(|&other| nodes[other].consensus.is_leader())
                })
                .await;
                switch.heal();
            }
            until("commands are answered again", || {
                nodes[3].ledger.len() > seen + 40
            })
            .await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (_, a, b, c, d, e, f) = tokio::join!(
        chaos,
        proposer(&nodes[0], "once by 1", false, stop.clone()),
        proposer(&nodes[1], "once by 2", false, stop.clone()),
        proposer(&nodes[2], "again by 3", true, stop.clone()),
        proposer(&nodes[3], "once by 4", false, stop.clone()),
        proposer(&nodes[3], "again by 4", true, stop.clone()),
        proposer(&nodes[0], "again by 1", true, stop.clone()),
    );
    let commands = same_everywhere(&nodes).await;
    for outcomes in [a, b, c, d, e, f] {
        check(&outcomes, &commands);
        let again = outcomes
            .iter()
            .filter(|(name, _)| name.starts_with(b"again"));
        for (command, outcome) in again {
            assert_eq!(outcome, &Ok(()), "{command:?}");
        }
        assert!(outcomes.values().any(Result::is_ok), "{outcomes:?}");
    }
}
