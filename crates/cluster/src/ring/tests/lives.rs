//! Thousands of lives of a ring, each from a seed, and the proof that the checks would notice.

use std::panic::catch_unwind;

use super::world::World;
use crate::ring::Mutant;

const LIVES: u64 = 4_000;

fn holds(seed: u64, mutant: Option<Mutant>) -> bool {
    catch_unwind(|| World::new(seed, mutant).live()).is_ok()
}

#[test]
fn every_promise_is_kept_in_every_life() {
    for seed in 0..LIVES {
        assert!(
            holds(seed, None),
            "the life with seed {seed} breaks a promise, see above"
        );
    }
}

#[test]
fn every_broken_rule_is_found() {
    for &mutant in Mutant::ALL {
        let found = (0..LIVES).find(|&seed| !holds(seed, Some(mutant)));
        assert!(
            found.is_some(),
            "{mutant:?} breaks a rule and nothing notices"
        );
    }
}
