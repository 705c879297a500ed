//! Several nodes in one process, over a network that can be cut. Time is real here, since files are;
//! the tests wait for states, never for durations.

#[path = "../common/mod.rs"]
mod common;
mod generation;
mod membership;
mod partition;
mod relay;
mod switch;
mod two;

use std::time::Duration;

use consensus::{ChangeError, NodeId, Options, ProposeError};
use switch::{
    IMPATIENT, Node, PATIENT, Switch, command, leader, member, node, node_options, node_with,
    until, voters,
};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_as_learners_and_become_voters() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let mut nodes = vec![node(&switch, folder.path(), 1).await];
    // More than a snapshot's worth, so that the newcomer cannot be served from the log alone.
    nodes[0].propose(0..400).await;
    until("a snapshot is taken", || {
        nodes[0].consensus.metrics().snapshot > 100
    })
    .await;
    let hasty = Options {
        propose_timeout: Duration::from_millis(20),
        ..node_options(&switch, folder.path(), 2)
    };
    nodes.push(node_with(&switch, hasty).await);
    assert_eq!(nodes[1].consensus.metrics().leader, None);
    let refused = nodes[1].consensus.propose(command(0)).await;
    assert!(
        matches!(refused, Err(ProposeError::NoLeader { .. })),
        "{refused:?}"
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
    nodes[0].propose(400..410).await;
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
    nodes[0].propose(410..411).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_goes_on_without_its_leader_and_a_minority_does_not() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    nodes[0].propose(0..20).await;
    let old = switch::agreed_leader(&nodes).await;
    let others: Vec<&Node> = (0..3).filter(|&i| i != old).map(|i| &nodes[i]).collect();
    switch.unplug(nodes[old].number);
    // Taken by a leader that cannot commit it: nobody may hear that it took effect.
    let cut_off = nodes[old].consensus.clone();
    let lost = tokio::spawn(async move { cut_off.propose("lost".into()).await });
    let deposed = Some(NodeId(nodes[old].number));
    until("another leads", || {
        let leader = |node: &&Node| node.consensus.metrics().leader;
        let known = others.iter().map(leader);
        known.clone().all(|leader| leader.is_some()) && known.clone().all(|l| l != deposed)
    })
    .await;
    others[0].propose(20..40).await;
    switch.heal();
    let lost = lost.await.unwrap();
    switch::same_everywhere(&nodes).await;
    let commands = nodes[0].ledger.commands();
    let held = commands.iter().filter(|held| *held == "lost").count();
    match lost {
        Ok(_) => assert_eq!(held, 1),
        Err(ProposeError::Unknown) => assert!(held <= 1),
        Err(error) => panic!("{error}"),
    }
    let answered: Vec<_> = commands.into_iter().filter(|held| held != "lost").collect();
    assert_eq!(answered, (0..40).map(command).collect::<Vec<_>>());
    for node in &nodes {
        node.consensus.read_barrier().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_when_asked() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    nodes[1].propose(0..5).await;
    nodes[0].consensus.transfer_leader(NodeId(3)).await.unwrap();
    until("the third leads", || nodes[2].consensus.is_leader()).await;
    until("the first knows", || {
        nodes[0].consensus.metrics().leader == Some(NodeId(3))
    })
    .await;
    nodes[1].propose(5..10).await;
    until("the first has all", || nodes[0].ledger.len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_with_everything_it_answered() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    nodes[2].propose(0..250).await;
    for node in nodes {
        node.stop(&switch).await;
    }
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(node(&switch, folder.path(), number).await);
    }
    until("one leads", || leader(&nodes).is_some()).await;
    until("all have all", || {
        nodes.iter().all(|node| node.ledger.len() == 250)
    })
    .await;
    nodes[0].propose(250..251).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_the_network_is_refused_and_changes_nothing() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let node = node(&switch, folder.path(), 1).await;
    for nonsense in [
        &b""[..],
        b"\x01",
        b"\x02abcdefgh",
        b"\x01abcdefgh",
        b"GET / HTTP/1.1",
    ] {
        let reply = node.consensus.receive(nonsense).await;
        assert!(String::from_utf8_lossy(&reply).contains("the request cannot be read"));
    }
    node.propose(0..1).await;
}
