//! Many lives of one queue's replicas, each from a seed (see `world`), and the exam of the checks: every
//! rule, broken on purpose, must be found broken.
//!
//! `WARREN_SEED=n WARREN_SEEDS=1 cargo test -p broker mirror::tests` plays one life again.

mod checks;
mod disk;
mod events;
mod old_copies;
mod plays;
mod publishers;
mod world;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::Time;
use store::Seq;
use world::{Coverage, World};

use super::operation::{self, Sessions};
use super::{Care, Effects, Leader, Packet};
use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::mutant::{Mutant, breaking};

/// Lives of every run of the tests; more are played by hand and at night.
const SEEDS: u64 = 400;
/// A broken rule must show within this many lives.
const MUTANT_SEEDS: u64 = 12_000;

/// A life in two phases: anything may happen, then everything heals.
fn live(seed: u64) -> Coverage {
    let mut world = World::new(seed);
    for _ in 0..world.setup.steps {
        world.step(false);
    }
    world.calm_down();
    for _ in 0..30 {
        for _ in 0..600 * world.setup.nodes {
            world.step(true);
        }
        world.round();
        if world.is_whole() {
            break;
        }
    }
    world.check_healed();
    world.coverage
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_complete_is_lost_and_all_copies_become_equal() {
    let from = number("WARREN_SEED").unwrap_or(0);
    let seeds = number("WARREN_SEEDS").unwrap_or(SEEDS);
    let mut total = Coverage::default();
    for seed in from..from + seeds {
        match std::panic::catch_unwind(|| live(seed)) {
            Ok(coverage) => total.add(coverage),
            Err(_) => panic!("again: WARREN_SEED={seed} WARREN_SEEDS=1 cargo test -p broker mirror::tests::nothing"),
        }
    }
    if seeds >= SEEDS {
        // A test that meets no trouble proves nothing.
        assert!(total.all_above(seeds / 20), "too little happened: {total:?}");
    }
}

#[test]
fn two_lives_of_one_seed_are_the_same() {
    for seed in 0..20 {
        assert_eq!(live(seed), live(seed));
    }
}

/// In how many lives a broken rule shows, if it does.
fn found_after(mutant: Mutant) -> Option<u64> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..number("WARREN_SEEDS").unwrap_or(MUTANT_SEEDS)).find(|seed| std::panic::catch_unwind(|| breaking(mutant, || live(*seed))).is_err());
    std::panic::set_hook(hook);
    found
}

/// `WARREN_MUTANT=Name` looks for one alone.
#[test]
fn every_broken_rule_of_replicas_is_found() {
    let only = std::env::var("WARREN_MUTANT").ok();
    let is_asked = |mutant: &&Mutant| only.as_ref().is_none_or(|name| *name == format!("{mutant:?}"));
    let mut survivors = Vec::new();
    for mutant in Mutant::OF_REPLICAS.iter().filter(is_asked) {
        match found_after(*mutant) {
            Some(after) => println!("{mutant:?} is found in life {after}"),
            None => {
                println!("{mutant:?} is not found");
                survivors.push(mutant);
            }
        }
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
}

#[test]
fn a_newcomer_is_told_whether_deliveries_have_begun() {
    let id = NodeId;
    let view = View::new([id(1)], true).after(ViewChange::AddMirror(id(2)), |_| true).expect("it may be added");
    let mut leader = Leader::found(QueueId(7), id(1), &view, Sessions::new(), Care::default());
    let (mut out, now) = (Effects::default(), Time::START);
    leader.receive(now, id(2), Packet::Wants { feed: 5, epoch: view.epoch, holds: Vec::new() }, &mut out);
    assert_eq!(out.survey, [(id(2), 5)]);
    let note = (Seq(3), Bytes::from_static(b"note"));
    leader.surveyed(now, id(2), 5, Vec::new(), Some(note), &mut out);
    let steps = out.to_peers.iter().filter_map(|(_, packet)| match packet {
        Packet::Step { operation, .. } => operation::decode(operation),
        _ => None,
    });
    let told: Vec<_> = steps.flat_map(|(batch, _)| batch.messages().collect::<Vec<_>>()).collect();
    assert_eq!(told, [(crate::queue::horizon_key(QueueId(7)), Seq(3))]);
}
