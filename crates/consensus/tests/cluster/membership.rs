//! Nodes that come, vote, stop voting and go, asked for on any node.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use consensus::{ChangeError, NodeId, forget};

use crate::switch::{
    IMPATIENT, Node, PATIENT, Switch, agreed_leader, command, folder_of, node, same_everywhere, seats, until,
    voters,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_and_shrinks_under_load() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes: Vec<Node> = Vec::new();
    for number in 1..=5 {
        nodes.push(node(&switch, folder.path(), number).await);
    }
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // From the one that stays throughout.
            let proposed = nodes[1].consensus.propose_idempotent(command(number)).await;
            proposed.unwrap();
            answered.store(number + 1, Ordering::Relaxed);
        }
    };
    nodes[0].arrange(&[1, 2, 3], &[]).await;
    let changes = async {
        let more = || answered.load(Ordering::Relaxed);
        // Asked of different nodes, the last of which are no voters any more.
        let plan: [(usize, &[u64], &[u64]); 5] = [
            (0, &[1, 2, 3, 4, 5], &[]),
            (4, &[1, 2, 3], &[4, 5]),
            (3, &[2, 3], &[]),
            (2, &[2], &[3]),
            (1, &[2], &[]),
        ];
        for (asked, voters, learners) in plan {
            let before = more();
            nodes[asked].arrange(voters, learners).await;
            until("it is known", || nodes[1].voters() == voters).await;
            until("it is known", || nodes[1].learners() == learners).await;
            until("commands are answered", || more() > before + 10).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, changes);
    let commands: BTreeSet<_> = nodes[1].ledger.commands().into_iter().collect();
    for number in 0..answered.load(Ordering::Relaxed) {
        assert!(commands.contains(&command(number)), "{number} is lost");
    }
    assert!(nodes[1].consensus.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_it_should_be_is_left_alone() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    let before = nodes[0].consensus.metrics();
    for node in &nodes {
        node.arrange(&[1, 2, 3], &[]).await;
    }
    assert_eq!(nodes[0].consensus.metrics().last_index, before.last_index);
    for senseless in [seats(&[], &[1, 2]), seats(&[1, 2], &[2])] {
        let refused = nodes[1].consensus.arrange(senseless).await;
        assert!(
            matches!(refused, Err(ChangeError::Refused(_))),
            "{refused:?}"
        );
    }
    assert_eq!(nodes[0].consensus.metrics().last_index, before.last_index);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_named_and_comes_later() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 1).await;
    let absent = nodes[0].consensus.arrange(seats(&[1, 2], &[])).await;
    assert_eq!(absent, Err(ChangeError::Behind(vec![NodeId(2)])));
    assert_eq!(
        nodes[0].voters(),
        [1],
        "nobody waits for one who is not there"
    );
    nodes[0].propose(0..10).await;
    let late = node(&switch, folder.path(), 2).await;
    nodes[0].arrange(&[1, 2], &[]).await;
    assert_eq!(nodes[0].voters(), [1, 2]);
    late.propose(10..20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_its_log_leaves_and_comes_again() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    nodes[0].propose(0..20).await;
    let lost = nodes.pop().unwrap();
    assert!(!lost.consensus.is_leader());
    lost.consensus.shutdown().await;
    drop(lost);
    forget(&folder_of(folder.path(), 3)).unwrap();
    nodes[1].consensus.begin_again(NodeId(3)).await.unwrap();
    assert_eq!((nodes[0].voters(), nodes[0].learners()), (vec![1, 2], vec![]));
    nodes[1].consensus.begin_again(NodeId(3)).await.unwrap();
    nodes.push(node(&switch, folder.path(), 3).await);
    nodes[1].arrange(&[1, 2, 3], &[]).await;
    nodes[0].propose(20..30).await;
    same_everywhere(&nodes).await;
    assert_eq!(nodes[2].ledger.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_goes_on_with_half_a_change() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    for number in 4..=5 {
        nodes.push(node(&switch, folder.path(), number).await);
    }
    nodes[0].arrange(&[1, 2, 3], &[4, 5]).await;
    for round in 0..4 {
        let leader = agreed_leader(&nodes).await;
        let voters: &[u64] = if round % 2 == 0 {
            &[1, 2, 3, 4, 5]
        } else {
            &[1, 2, 3]
        };
        let learners: &[u64] = if round % 2 == 0 { &[] } else { &[4, 5] };
        let index = nodes[leader].consensus.metrics().last_index;
        let asked = nodes[leader].consensus.clone();
        let wanted = seats(voters, learners);
        let change = tokio::spawn(async move { asked.arrange(wanted).await });
        // Cut off at some entry of the change.
        until("it has begun", || {
            let reached = nodes[leader].consensus.metrics().last_index;
            reached > index + round / 2 || nodes[leader].voters() == voters
        })
        .await;
        switch.unplug(nodes[leader].number);
        let other = &nodes[(leader + 1) % 5];
        match other.consensus.arrange(seats(voters, learners)).await {
            Ok(()) => {}
            // All but waiting for the one that is cut off is done.
            Err(ChangeError::Behind(nodes_behind)) => {
                assert_eq!(nodes_behind, [NodeId(nodes[leader].number)]);
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(other.voters(), voters);
        switch.heal();
        change.await.unwrap().unwrap();
        for node in &nodes {
            until("everybody knows", || node.voters() == voters).await;
        }
        other.consensus.read_barrier().await.unwrap();
        other
            .consensus
            .propose_idempotent(command(round as usize))
            .await
            .unwrap();
    }
    same_everywhere(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_shall_leave_hands_over_and_goes() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    nodes[0].propose(0..5).await;
    nodes[0].arrange(&[2, 3], &[]).await;
    let rest = &nodes[1..];
    until("the rest knows", || {
        rest.iter().all(|node| node.voters() == [2, 3])
    })
    .await;
    until("it is no member", || {
        rest.iter().all(|node| node.learners().is_empty())
    })
    .await;
    nodes[1].propose(5..10).await;
    assert!(!nodes[0].consensus.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_is_filled_by_snapshot_while_commands_flow() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 1).await;
    nodes[0].propose(0..500).await;
    let stop = AtomicBool::new(false);
    let newcomer = node(&switch, folder.path(), 2).await;
    let load = async {
        for number in 500.. {
            if stop.load(Ordering::Relaxed) {
                return number;
            }
            nodes[0].propose(number..number + 1).await;
        }
        0
    };
    let join = async {
        nodes[0].arrange(&[1], &[2]).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (end, ()) = tokio::join!(load, join);
    assert!(newcomer.ledger.restored() >= 1);
    nodes.push(newcomer);
    assert_eq!(same_everywhere(&nodes).await.len(), end);
}
