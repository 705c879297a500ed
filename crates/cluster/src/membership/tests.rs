mod plays;
mod world;

use super::Mutant;
use world::{Report, run};

const SEEDS: u64 = 60;
/// A broken rule must show within this many seeds.
const MUTANT_SEEDS: u64 = 1_000;

#[test]
fn leases_verdicts_and_healing_hold_in_every_world() {
    let mut total = Report::default();
    for seed in 0..SEEDS {
        match run(seed, None) {
            Ok(report) => total.add(&report),
            Err(failure) => panic!("{failure}"),
        }
    }
    // A test that meets no trouble proves nothing.
    assert!(
        total.suspected > 5 * SEEDS && total.unreachable > 5 * SEEDS,
        "{total:?}"
    );
    assert!(
        total.certain > SEEDS && total.reachable > 10 * SEEDS,
        "{total:?}"
    );
    assert!(
        total.sleeps > SEEDS && total.leases_checked > 10_000 * SEEDS,
        "{total:?}"
    );
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    for seed in 0..5 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

fn is_found(mutant: Mutant) {
    let found = (0..MUTANT_SEEDS).find_map(|seed| run(seed, Some(mutant)).err());
    println!("{mutant:?}: {found:?}");
    assert!(found.is_some(), "{mutant:?} survives {MUTANT_SEEDS} seeds");
}

#[test]
fn a_lease_counted_from_the_answer_is_found() {
    is_found(Mutant::LeaseFromAnswer);
}

#[test]
fn trust_in_the_rate_of_clocks_is_found() {
    is_found(Mutant::NoMargin);
}

#[test]
fn forgotten_grants_of_an_earlier_life_are_found() {
    is_found(Mutant::ForgetEarlierGrants);
}

#[test]
fn forgotten_grants_to_a_removed_peer_are_found() {
    is_found(Mutant::ForgetGrantOfRemoved);
}

#[test]
fn grants_to_whoever_asks_are_found() {
    is_found(Mutant::GrantWhoeverAsks);
}

#[test]
fn a_question_taken_for_an_answer_is_found() {
    is_found(Mutant::AskingIsAnswering);
}

#[test]
fn own_sleep_taken_for_the_silence_of_others_is_found() {
    is_found(Mutant::CountOwnSleep);
}

#[test]
fn a_life_taken_for_the_one_before_is_found() {
    is_found(Mutant::IgnoreIncarnation);
}

#[test]
fn death_by_refusal_of_a_second_connection_is_found() {
    is_found(Mutant::RefusedThoughConnected);
}

#[test]
fn answers_to_old_questions_are_found() {
    is_found(Mutant::OldAnswersCount);
}

#[test]
fn peers_that_are_given_up_are_found() {
    is_found(Mutant::GiveUp);
}
