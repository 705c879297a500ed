//! Links that fail in any pair and direction, nodes that hang, restarts in every order. What was
//! answered stays, and all see the same commands in the same order.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use consensus::{Options, ProposeError};
use stdx::Rng;

use crate::switch::{
    IMPATIENT, Node, Switch, agreed_leader, command, node, node_options, node_with,
    same_everywhere, until, voters,
};

/// Proposes through `node` until `stop`; returns what was answered.
async fn proposer(node: &Node, name: &str, stop: &AtomicBool, count: &AtomicUsize) -> Vec<Bytes> {
    let mut answered = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let command = Bytes::from(format!("{name} {number}"));
        match node.consensus.propose(command.clone()).await {
            Ok(_) => {
                answered.push(command);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(ProposeError::Unknown | ProposeError::NoLeader { .. }) => {}
            Err(error) => panic!("{name} {number}: {error}"),
        }
    }
    answered
}

/// Waits until `count` is higher by `by`.
async fn more(count: &AtomicUsize, by: usize) {
    let before = count.load(Ordering::Relaxed);
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while count.load(Ordering::Relaxed) < before + by {
        looks.tick().await;
    }
}

async fn random_cuts(seed: u64) {
    println!("seed {seed}");
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = Vec::new();
    for number in 1..=3 {
        let hasty = Options {
            propose_timeout: Duration::from_millis(1500),
            ..node_options(&switch, folder.path(), number)
        };
        nodes.push(node_with(&switch, hasty).await);
    }
    nodes[0].arrange(&[1, 2, 3], &[]).await;
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let chaos = async {
        let mut rng = Rng::new(seed);
        for _ in 0..6 {
            for _ in 0..1 + rng.below(4) {
                let (from, to) = (1 + rng.below(3), 1 + rng.below(3));
                let freeze = rng.one_in(4);
                switch.rewire(|wires| {
                    if freeze {
                        wires.frozen.insert(from);
                    } else {
                        wires.cut.insert((from, to));
                    }
                });
            }
            // As long as an election or two may take; whether one happens is the seed's affair.
            let most = Duration::from_millis(200 + rng.below(1200));
            drop(tokio::time::timeout(most, more(&count, 200)).await);
            if rng.one_in(2) {
                switch.heal();
            }
        }
        switch.heal();
        let answered = tokio::time::timeout(Duration::from_secs(60), more(&count, 20));
        answered.await.expect("commands are answered again");
        stop.store(true, Ordering::Relaxed);
    };
    let ((), a, b, c) = tokio::join!(
        chaos,
        proposer(&nodes[0], "of 1", &stop, &count),
        proposer(&nodes[1], "of 2", &stop, &count),
        proposer(&nodes[2], "of 3", &stop, &count),
    );
    for node in &nodes {
        node.consensus.read_barrier().await.unwrap();
    }
    let commands = same_everywhere(&nodes).await;
    let kept: BTreeSet<&Bytes> = commands.iter().collect();
    assert_eq!(
        kept.len(),
        commands.len(),
        "seed {seed}: one was applied twice"
    );
    for command in [a, b, c].iter().flatten() {
        assert!(kept.contains(command), "seed {seed}: {command:?} is lost");
    }
    for node in nodes {
        node.stop(&switch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_survives_any_cuts() {
    for seed in 1..=3 {
        random_cuts(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hung_or_was_cut_off_disturbs_nobody() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    for freeze in [true, false] {
        let leader = agreed_leader(&nodes).await;
        let follower = &nodes[(leader + 1) % 3];
        let term = nodes[leader].consensus.metrics().term;
        if freeze {
            switch.rewire(|wires| wires.frozen.extend([follower.number]));
        } else {
            switch.unplug(follower.number);
        }
        // Far more than the log keeps behind a snapshot, and longer than an election takes.
        let first = if freeze { 0 } else { 1000 };
        nodes[leader].propose(first..first + 400).await;
        let elections = async {
            let mut looks = tokio::time::interval(IMPATIENT / 10);
            for _ in 0..40 {
                looks.tick().await;
            }
        };
        elections.await;
        switch.heal();
        follower.propose(first + 400..first + 410).await;
        same_everywhere(&nodes).await;
        let status = nodes[leader].consensus.metrics();
        assert!(nodes[leader].consensus.is_leader(), "{status:?}");
        assert_eq!(status.term, term, "an election was held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_nobody_or_hangs_is_replaced() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let nodes = voters(&switch, folder.path(), 3).await;
    for hang in [false, true] {
        let leader = agreed_leader(&nodes).await;
        let deaf = nodes[leader].number;
        switch.rewire(|wires| {
            if hang {
                wires.frozen.insert(deaf);
            } else {
                // It still shows that it lives, and hears no reply.
                wires.cut.extend((1..=3).map(|other| (other, deaf)));
            }
        });
        let others = [&nodes[(leader + 1) % 3], &nodes[(leader + 2) % 3]];
        until("another leads", || {
            others.iter().any(|node| node.consensus.is_leader())
        })
        .await;
        let commands = if hang { 0..20 } else { 100..120 };
        for number in commands {
            let proposed = others[number % 2]
                .consensus
                .propose_idempotent(command(number));
            proposed.await.unwrap();
        }
        switch.heal();
        same_everywhere(&nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restart_in_every_order() {
    let (switch, folder) = (Switch::new(IMPATIENT), tempfile::tempdir().unwrap());
    let mut nodes = voters(&switch, folder.path(), 3).await;
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut next = 0;
    for (round, order) in orders.into_iter().enumerate() {
        for number in next..next + 30 {
            let node = &nodes[number % 3];
            let proposed = node.consensus.propose_idempotent(command(number));
            proposed.await.unwrap();
        }
        next += 30;
        let mut running: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        for place in orders[(round * 5 + 2) % 6] {
            running[place].take().unwrap().stop(&switch).await;
        }
        for place in order {
            running[place] = Some(node(&switch, folder.path(), place as u64 + 1).await);
        }
        nodes = running.into_iter().flatten().collect();
        nodes[order[0]].consensus.read_barrier().await.unwrap();
        let kept: BTreeSet<_> = nodes[order[0]].ledger.commands().into_iter().collect();
        assert_eq!(kept, (0..next).map(command).collect());
    }
    same_everywhere(&nodes).await;
}
