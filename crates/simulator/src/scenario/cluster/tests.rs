//! Many lives of clusters hold; rules that are broken on purpose are found broken.

use broker::mutant::{self, Mutant as Rule};

use super::{Coverage, Mutant, Settings, run};
use crate::scenario::Failure;

/// A broken rule must show within this many seeds.
const MUTANT_SEEDS: u64 = 1000;

/// A number from the environment, for those who want more than a test does.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Plays these seeds.
fn play(mut seeds: impl Iterator<Item = u64>) -> Result<Coverage, Failure> {
    seeds.try_fold(Coverage::default(), |mut total, seed| {
        total.add(run(seed, &Settings::default())?);
        Ok(total)
    })
}

#[test]
fn nothing_promised_is_lost_in_any_life_of_a_cluster() {
    let first = number("WARREN_CLUSTER_FIRST_SEED", 0);
    let seeds = number("WARREN_CLUSTER_SEEDS", 2000);
    // Each life is on one thread, and knows nothing of the others.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<Result<Coverage, Failure>> = std::thread::scope(|scope| {
        let share = |number: usize| move || play((first..first + seeds).skip(number).step_by(threads));
        let players: Vec<_> = (0..threads).map(|number| scope.spawn(share(number))).collect();
        players.into_iter().map(|player| player.join().expect("no life panics")).collect()
    });
    let mut total = Coverage::default();
    for outcome in outcomes {
        match outcome {
            Ok(coverage) => total.add(coverage),
            Err(failure) => panic!("{failure}"),
        }
    }
    // A test that meets no trouble proves nothing.
    assert!(seeds < 200 || total.is_full(), "{total}");
}

/// Lives in which two nodes served a queue at once: a leader that slept while a mirror got the seat it had proposed,
/// and one that came up as leader while the one before still held its lease; and one that only seemed to fail, since
/// a node that was woken up early wrote nothing until it would have woken up. And one in which a late answer ended
/// another question of the same channel. And one in which a mirror knew of messages that were still on their way to it,
/// and took what was sent again for them.
#[test]
fn lives_that_once_failed_hold() {
    for seed in [4_011_425, 4_044_961, 5_044_078, 6_022_668, 10_032_582] {
        run(seed, &Settings::default()).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    for seed in 0..5 {
        assert_eq!(run(seed, &Settings::default()), run(seed, &Settings::default()));
    }
}

/// A life that panics has noticed as well.
fn is_found(name: &str, first: u64, life: impl Fn(u64) -> bool + std::panic::RefUnwindSafe) {
    let holds = |seed: &u64| std::panic::catch_unwind(|| life(*seed)).unwrap_or(false);
    let found = (first..first + MUTANT_SEEDS).find(|seed| !holds(seed));
    assert!(found.is_some(), "{name} survives {MUTANT_SEEDS} seeds");
}

fn rule_is_found(rule: Rule) {
    rule_is_found_from(0, rule);
}

/// Begins where lives are known to meet it, if it is rare.
fn rule_is_found_from(first: u64, rule: Rule) {
    is_found(&format!("{rule:?}"), first, |seed| mutant::breaking(rule, || run(seed, &Settings::default()).is_ok()));
}

/// The same of a rule of the nodes' tasks.
fn task_is_found_from(first: u64, mutant: Mutant) {
    let settings = Settings { mutant: Some(mutant), ..Settings::default() };
    is_found(&format!("{mutant:?}"), first, |seed| run(seed, &settings).is_ok());
}

#[test]
fn a_completion_without_the_mirrors_that_join_is_found() {
    rule_is_found_from(700, Rule::CompleteWithoutJoining);
}

#[test]
fn a_seat_before_the_backlog_is_found() {
    rule_is_found_from(1000, Rule::SeatBeforeBacklog);
}

#[test]
fn a_mirror_that_knows_of_what_it_has_not_got_is_found() {
    rule_is_found_from(10_032_582, Rule::SessionsAheadOfBacklog);
}

#[test]
fn a_handover_taken_for_stored_is_found() {
    rule_is_found(Rule::HandoverIsStored);
}

#[test]
fn sequences_that_two_leaders_give_are_found() {
    rule_is_found(Rule::SequencesOfAllLeaders);
}

#[test]
fn a_surplus_that_stays_is_found() {
    rule_is_found(Rule::KeepSurplus);
}

#[test]
fn batches_that_a_feed_drops_are_found() {
    rule_is_found(Rule::DropWaitingBatches);
}

#[test]
fn publishes_taken_before_those_in_front_are_found() {
    rule_is_found(Rule::TakeWhatFollows);
}

#[test]
fn a_leader_that_completes_alone_is_found() {
    rule_is_found(Rule::CompleteAlone);
}

#[test]
fn a_step_that_counts_before_it_is_stored_is_found() {
    rule_is_found(Rule::HasBeforeStored);
}

#[test]
fn a_mirror_that_lacks_something_and_leads_is_found() {
    rule_is_found(Rule::PromoteCatchingUp);
}

#[test]
fn whoever_returns_first_and_leads_is_found() {
    rule_is_found(Rule::PromoteWhoeverReturns);
}

#[test]
fn what_is_lost_with_a_link_and_not_sent_again_is_found() {
    rule_is_found(Rule::NoRelinkAfterLoss);
}

#[test]
fn a_mirror_that_leads_for_want_of_one_in_sync_is_found() {
    rule_is_found(Rule::PromoteAtStop);
}

#[test]
fn a_queue_that_ends_with_its_last_mirror_in_sync_is_found() {
    rule_is_found(Rule::EndUnsynced);
}

#[test]
fn a_queue_that_nobody_starts_again_is_found() {
    rule_is_found(Rule::StayStopped);
}

#[test]
fn a_leader_that_cannot_bear_late_acknowledgements_is_found() {
    rule_is_found(Rule::StumbleOverLateAcks);
}

#[test]
fn a_confirm_of_what_no_node_took_is_found() {
    rule_is_found(Rule::ConfirmWhileDown);
}

#[test]
fn a_leader_that_serves_without_leases_is_found() {
    task_is_found_from(200, Mutant::ServeWithoutLeases);
}

#[test]
fn a_leader_that_waits_for_the_next_life_of_another_is_found() {
    task_is_found_from(510, Mutant::WaitForNextLife);
}

#[test]
fn a_report_of_what_is_not_synced_is_found() {
    task_is_found_from(0, Mutant::ReportUnsynced);
}

#[test]
fn a_refusal_that_is_told_as_a_confirm_is_found() {
    task_is_found_from(0, Mutant::ConfirmRefused);
}

#[test]
fn an_agent_that_heeds_no_refusal_is_found() {
    task_is_found_from(0, Mutant::HeedNoRefusal);
}

#[test]
fn a_node_that_goes_on_though_declared_down_is_found() {
    task_is_found_from(0, Mutant::StayDeclaredDown);
}

#[test]
fn a_second_replica_of_a_queue_on_one_node_is_found() {
    task_is_found_from(0, Mutant::FollowBeforeSteppingDown);
}

#[test]
fn a_consumer_that_only_its_queue_knows_is_found() {
    task_is_found_from(0, Mutant::LeaveGhosts);
}
