//! Logs founded anew, nodes that change over, and two histories that meet.

use std::fs;
use std::time::Duration;

use consensus::{NodeId, Options, ProposeError, StartError, forget, refound};

use crate::common::{Ledger, options};
use crate::switch::{
    IMPATIENT, PATIENT, Switch, address, agreed_leader, command, folder_of, node, node_options, node_with,
    same_everywhere, until, voters,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_cluster_founds_its_log_anew_and_the_others_rejoin() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let mut nodes = voters(&switch, folder, 5).await;
    nodes[0].propose(0..150).await;
    for node in &nodes {
        node.consensus.read_barrier().await.unwrap();
    }
    let old_generation = nodes[0].consensus.generation();
    // 4 and 5 have lost the other three, which go on.
    let rest = nodes.split_off(3);
    for number in 1..=3 {
        switch.rewire(|wires| {
            for lost in 4..=5 {
                wires.cut.extend([(number, lost), (lost, number)]);
            }
        });
    }
    nodes[1].consensus.read_barrier().await.unwrap();
    nodes[0].propose(150..170).await;
    for node in rest {
        node.stop(&switch).await;
    }
    let (four, five) = (folder_of(folder, 4), folder_of(folder, 5));
    let refounded = refound(&four, NodeId(4), &address(4), None).unwrap();
    assert_ne!(Some(refounded.generation), old_generation);
    forget(&five).unwrap();
    let told = Options {
        generation: Some(refounded.generation),
        ..node_options(&switch, folder, 5)
    };
    let rest = vec![
        node(&switch, folder, 4).await,
        node_with(&switch, told).await,
    ];
    assert!(
        rest[0].consensus.is_leader(),
        "the only voter leads at once"
    );
    assert_eq!(rest[0].consensus.metrics().applied, refounded.index + 1);
    assert_eq!(rest[0].ledger.len(), 150);
    // In the middle of it the old log's leader calls, and is not listened to.
    switch.heal();
    rest[0].arrange(&[4], &[5]).await;
    rest[1].propose(500..520).await;
    assert_eq!(rest[1].consensus.generation(), Some(refounded.generation));
    let expected: Vec<_> = (0..150).chain(500..520).map(command).collect();
    assert_eq!(same_everywhere(&rest).await, expected);
    // The old log's majority has gone on by itself, and hears nothing of the new one.
    nodes[2].propose(170..180).await;
    let expected: Vec<_> = (0..180).map(command).collect();
    assert_eq!(same_everywhere(&nodes).await, expected);
    assert_eq!(nodes[0].consensus.generation(), old_generation);
    // The sides meet, and the old one's stays: 4 and 5 leave it on paper and come in empty.
    for node in rest {
        node.stop(&switch).await;
    }
    nodes[0].arrange(&[1, 2, 3], &[]).await;
    for number in 4..=5 {
        forget(&folder_of(folder, number)).unwrap();
        let told = Options {
            generation: old_generation,
            ..node_options(&switch, folder, number)
        };
        nodes.push(node_with(&switch, told).await);
    }
    nodes[1].arrange(&[1, 2, 3, 4, 5], &[]).await;
    nodes[4].propose(180..190).await;
    let expected: Vec<_> = (0..190).map(command).collect();
    assert_eq!(same_everywhere(&nodes).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_about_another_generation_is_refused_with_a_reason() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let one = node(&switch, folder.path(), 1).await;
    let stranger = Options {
        found_cluster: true,
        ..node_options(&switch, folder.path(), 2)
    };
    let two = node_with(&switch, stranger).await;
    one.propose(0..3).await;
    two.propose(10..13).await;
    let joined = one
        .consensus
        .arrange(crate::switch::seats(&[1, 2], &[]))
        .await;
    let text = joined.unwrap_err().to_string();
    assert!(
        text.contains("have not caught up with the metadata log: 2"),
        "{text}"
    );
    assert_eq!(
        two.ledger.commands(),
        (10..13).map(command).collect::<Vec<_>>()
    );
    assert_eq!(two.voters(), [2]);
    two.propose(13..14).await;
    one.propose(3..4).await;
    assert_eq!(
        one.ledger.commands(),
        (0..4).map(command).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_opened_as_one_of_another_generation() {
    let folder = tempfile::tempdir().unwrap();
    let told = Options {
        generation: Some(7),
        ..options(folder.path())
    };
    let consensus = consensus::start(told.clone(), Ledger::default(), consensus::Alone);
    let consensus = consensus.await.unwrap();
    assert_eq!(consensus.metrics().generation, Some(7));
    let in_use = forget(folder.path());
    assert!(
        matches!(in_use, Err(StartError::InUse { .. })),
        "{in_use:?}"
    );
    let in_use = refound(folder.path(), NodeId(1), "here", None);
    assert!(
        matches!(in_use, Err(StartError::InUse { .. })),
        "{in_use:?}"
    );
    consensus.shutdown().await;
    let other = Options {
        generation: Some(8),
        ..told
    };
    let refused = consensus::start(other, Ledger::default(), consensus::Alone).await;
    let text = refused.err().unwrap().to_string();
    assert!(
        text.contains("is of generation 0000000000000007, not 0000000000000008"),
        "{text}"
    );
    let stranger = refound(folder.path(), NodeId(2), "there", None);
    assert!(
        matches!(stranger, Err(StartError::ForeignNode { .. })),
        "{stranger:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_founded_anew_from_snapshot_and_tail_any_number_of_times() {
    let folder = tempfile::tempdir().unwrap();
    let empty = refound(folder.path(), NodeId(1), "here", None);
    assert!(matches!(empty, Err(StartError::Empty { .. })), "{empty:?}");
    let mut expected = Vec::new();
    let (mut term, mut generations) = (0, Vec::new());
    for life in 0..4 {
        let small = Options {
            snapshot_entries: 50,
            ..options(folder.path())
        };
        let ledger = Ledger::default();
        let consensus = consensus::start(small, ledger.clone(), consensus::Alone);
        let consensus = consensus.await.unwrap();
        assert_eq!(ledger.commands(), expected, "life {life}");
        let status = consensus.metrics();
        assert!(status.term > term, "votes of the old log do not count");
        term = status.term;
        for number in 0..120 {
            let command = command(life * 1000 + number);
            consensus.propose(command.clone()).await.unwrap();
            expected.push(command);
        }
        consensus.shutdown().await;
        let refounded = refound(folder.path(), NodeId(1), "here", None).unwrap();
        assert!(refounded.index > status.last_index);
        generations.push(refounded.generation);
    }
    generations.dedup();
    assert_eq!(generations.len(), 4);
    forget(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    forget(folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_half_forgotten_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        snapshot_entries: 20,
        ..options(folder.path())
    };
    let consensus = consensus::start(small.clone(), Ledger::default(), consensus::Alone);
    let consensus = consensus.await.unwrap();
    for number in 0..60 {
        consensus.propose(command(number)).await.unwrap();
    }
    until("a snapshot is taken", || consensus.metrics().snapshot > 0).await;
    consensus.shutdown().await;
    let (log, forgotten) = (
        folder.path().join("metadata.redb"),
        folder.path().join("metadata.forgotten"),
    );
    fs::rename(log, &forgotten).unwrap();
    let ledger = Ledger::default();
    let consensus = consensus::start(small, ledger.clone(), consensus::Alone);
    let consensus = consensus.await.unwrap();
    assert_eq!(ledger.len(), 0);
    assert!(!forgotten.exists());
    consensus.shutdown().await;
}

/// A voter that comes back with an empty folder under its old number must not count for what it
/// held, nor vote on what it has forgotten; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_folder_does_no_harm_and_can_come_in_anew() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    nodes[0].propose(0..50).await;
    let leader = agreed_leader(&nodes).await;
    let lost = nodes.remove((leader + 1) % 3);
    let number = lost.number;
    lost.stop(&switch).await;
    forget(&folder_of(folder.path(), number)).unwrap();
    let newborn = Options {
        found_cluster: false,
        propose_timeout: Duration::from_millis(300),
        ..node_options(&switch, folder.path(), number)
    };
    let newborn = node_with(&switch, newborn).await;
    nodes[0].propose(50..60).await;
    nodes[1].propose(60..70).await;
    let refused = newborn.consensus.propose(command(99)).await;
    assert!(
        matches!(
            refused,
            Err(ProposeError::NoLeader { .. } | ProposeError::Unknown)
        ),
        "{refused:?}"
    );
    let rest: Vec<u64> = nodes.iter().map(|node| node.number).collect();
    nodes[0].arrange(&rest, &[]).await;
    nodes[0].arrange(&[1, 2, 3], &[]).await;
    nodes.push(newborn);
    nodes[0].propose(70..80).await;
    let expected: Vec<_> = (0..80).map(command).collect();
    assert_eq!(same_everywhere(&nodes).await, expected);
}
