//! Two nodes: one votes, the other is its synchronous learner.

use std::path::Path;
use std::time::{Duration, Instant};

use consensus::{NodeId, Options, ProposeError, refound};

use crate::switch::{
    Node, PATIENT, Switch, address, command, member, node, node_options, node_with,
    same_everywhere, until,
};

/// Longer than any disk hangs, and than anybody would wait in a test that needs the other node gone.
const UNHURRIED: Duration = Duration::from_secs(60);
const HURRIED: Duration = Duration::from_secs(3);

/// Node 1 votes, node 2 is its synchronous learner, which may not answer for `lag`.
async fn two(switch: &Switch, folder: &Path, lag: Duration) -> (Node, Node) {
    let options = |number| Options {
        lag_timeout: lag,
        ..node_options(switch, folder, number)
    };
    let one = node_with(switch, options(1)).await;
    let two = node_with(switch, options(2)).await;
    one.arrange(&[1], &[2]).await;
    one.consensus.set_synchronous(Some(NodeId(2)));
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_on_both_disks() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let (one, two) = two(&switch, folder.path(), UNHURRIED).await;
    for number in 0..100 {
        let asked = if number % 2 == 0 { &one } else { &two };
        asked.consensus.propose(command(number)).await.unwrap();
        let held = two.consensus.metrics().last_index;
        assert!(held >= one.consensus.metrics().applied, "{number}");
    }
    let status = one.consensus.metrics();
    assert_eq!(
        (status.synchronous, status.lagging),
        (Some(NodeId(2)), false)
    );
    // The voter is gone for good: the other has everything, and goes on when it is told to.
    one.stop(&switch).await;
    two.stop(&switch).await;
    let hasty = Options {
        propose_timeout: Duration::from_millis(100),
        ..node_options(&switch, folder.path(), 2)
    };
    let two = node_with(&switch, hasty).await;
    let refused = two.consensus.propose(command(100)).await;
    assert!(
        matches!(refused, Err(ProposeError::NoLeader { .. })),
        "{refused:?}"
    );
    two.stop(&switch).await;
    refound(&folder.path().join("2"), NodeId(2), &address(2), None).unwrap();
    let two = node(&switch, folder.path(), 2).await;
    two.propose(100..110).await;
    assert_eq!(
        two.ledger.commands(),
        (0..110).map(command).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_killed_under_load_loses_nothing_it_answered() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let (one, two) = two(&switch, folder.path(), UNHURRIED).await;
    let mut answered = 0;
    let mut proposals = tokio::task::JoinSet::new();
    for number in 0..400 {
        let consensus = one.consensus.clone();
        proposals.spawn(async move { (number, consensus.propose(command(number)).await) });
    }
    let mut kept = Vec::new();
    while let Some(outcome) = proposals.join_next().await {
        if let Ok((number, Ok(_))) = outcome {
            kept.push(number);
        }
        answered += 1;
        if answered == 100 {
            // From here on nothing reaches the learner, as when the voter's machine dies.
            switch.unplug(1);
            proposals.abort_all();
        }
    }
    assert!(kept.len() >= 50);
    one.stop(&switch).await;
    two.stop(&switch).await;
    refound(&folder.path().join("2"), NodeId(2), &address(2), None).unwrap();
    let two = node(&switch, folder.path(), 2).await;
    for number in kept {
        assert!(two.ledger.holds(&command(number)), "{number} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_away_is_not_waited_for_until_it_is_back() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let (one, two) = two(&switch, folder.path(), HURRIED).await;
    one.propose(0..10).await;
    for round in 1..=2 {
        switch.unplug(2);
        let (first, last) = (round * 1000, round * 1000 + 300);
        one.propose(first..first + 1).await;
        assert!(
            one.consensus.metrics().lagging,
            "it held the answer back until then"
        );
        let started = Instant::now();
        one.propose(first + 1..last).await;
        assert!(started.elapsed() < Duration::from_secs(20), "each waited");
        switch.heal();
        until("it is in step", || !one.consensus.metrics().lagging).await;
        assert!(two.consensus.metrics().last_index >= one.consensus.metrics().applied);
        one.propose(last..last + 50).await;
        assert!(two.consensus.metrics().last_index >= one.consensus.metrics().applied);
    }
    same_everywhere(&[one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_stops_cleanly_moves_its_vote_first() {
    let (switch, folder) = (Switch::new(PATIENT), tempfile::tempdir().unwrap());
    let (one, two) = two(&switch, folder.path(), HURRIED).await;
    one.propose(0..20).await;
    let mut next = 20;
    for (from, to) in [(&one, &two), (&two, &one), (&one, &two)] {
        let started = Instant::now();
        from.consensus.hand_over(NodeId(to.number)).await.unwrap();
        println!("handed over in {:?}", started.elapsed());
        assert!(to.consensus.is_leader());
        assert_eq!(to.voters(), [to.number]);
        assert_eq!(to.learners(), [from.number]);
        from.consensus.set_synchronous(None);
        to.consensus.set_synchronous(Some(NodeId(from.number)));
        until("it knows", || from.voters() == [to.number]).await;
        from.propose(next..next + 10).await;
        to.propose(next + 10..next + 20).await;
        next += 20;
    }
    one.stop(&switch).await;
    // The first proposal waits until it is clear that the other is away.
    two.propose(next..next + 10).await;
    assert!(two.consensus.metrics().lagging);
    assert_eq!(two.ledger.len(), next + 10);
    assert_eq!(two.consensus.metrics().voters, [member(2)]);
    let one = node(&switch, folder.path(), 1).await;
    until("it is in step", || !two.consensus.metrics().lagging).await;
    same_everywhere(&[one, two]).await;
}
