//! Deliveries and what survives: redelivered, order, requeue, restarts, leases.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::mutant::{Mutant, notices};
use crate::queue::{ConsumerKey, Overflow, QueueEvent, QueueReply, Settings};

#[test]
fn nothing_is_delivered_before_the_log_holds_the_note() {
    let mut f = Fixture::new(Settings::default());
    f.consume(1, 0);
    f.publish([persistent(1)]);
    f.expect_deliveries(&[]);
    assert_eq!(f.confirmed, []);
    f.answer_all();
    f.expect_deliveries(&[1]);
    assert_eq!(f.confirmed, [1]);
}

#[test]
fn a_full_queue_delivers_nothing_before_the_log_holds_the_note() {
    let settings = Settings { length_max: Some(1), overflow: Overflow::RejectPublish, ..Settings::default() };
    let mut f = Fixture::new(settings);
    f.consume(1, 0);
    f.publish([persistent(1), persistent(2)]);
    f.expect_deliveries(&[]);
    f.answer_all();
    f.expect_deliveries(&[1]);
    assert_eq!(f.rejected, [2]);
}

#[test]
fn a_message_with_no_time_to_live_reaches_a_ready_consumer_of_a_fresh_queue() {
    let mut f = Fixture::new(Settings { message_ttl: Some(Duration::ZERO), ..dead_letters_to("dlx") });
    f.consume(1, 1);
    f.publish([persistent(1), persistent(2)]);
    f.pass(30);
    f.answer_all();
    f.expect_deliveries(&[1]);
    assert_eq!(f.letters.len(), 1);
}

#[test]
fn a_lazy_queue_hands_a_message_with_no_time_to_live_to_a_ready_consumer() {
    let mut f = Fixture::with(
        Settings { lazy: true, message_ttl: Some(Duration::ZERO), ..Settings::default() },
        false,
    );
    f.consume(1, 0);
    f.publish([transient(1)]);
    f.expect_deliveries(&[1]);
}

#[test]
fn an_idle_client_that_polls_an_empty_queue_costs_no_write() {
    let mut f = Fixture::new(Settings::default());
    f.get(1);
    assert!(matches!(f.replies[..], [(_, QueueReply::Got(None))]));
    assert!(f.answers.is_empty());
}

#[test]
fn requeued_messages_return_to_their_place() {
    let mut f = Fixture::new(Settings::default());
    f.publish((1..=5).map(persistent));
    f.consume(1, 3);
    f.answer_all();
    let seqs = f.expect_deliveries(&[1, 2, 3]);
    f.cancel(1);
    f.reject(1, &[seqs[2]], true);
    f.reject(1, &[seqs[0]], true);
    f.consume(2, 0);
    let again = f.delivered();
    assert_eq!(body(&again), [1, 3, 4, 5]);
    let flags: Vec<bool> = again.iter().map(|(_, d)| d.redelivered).collect();
    assert_eq!(flags, [true, true, false, false]);
}

#[test]
fn a_closed_channel_gives_back_what_was_on_its_way() {
    let mut f = Fixture::new(Settings::default());
    f.publish((1..=4).map(persistent));
    f.consume(1, 2);
    f.answer_all();
    f.cancel(1);
    f.get(1);
    assert_eq!(f.queue.status().messages_unacked, 3);
    f.close(1);
    assert_eq!(f.queue.status().messages_unacked, 0);
    f.delivered();
    f.consume(2, 0);
    f.expect_deliveries(&[1, 2, 3, 4]);
}

#[test]
fn after_a_stop_in_good_order_new_messages_are_fresh_though_transient_ones_were_delivered() {
    let mut f = Fixture::new(Settings::default());
    f.consume(1, 0);
    f.publish((1..=50).map(transient));
    f.answer_all();
    f.delivered();
    f.restart(true);
    f.consume(1, 0);
    f.publish([persistent(51)]);
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [51]);
    assert!(!delivered[0].1.redelivered);
}

#[test]
fn after_a_crash_what_was_there_is_flagged_and_what_comes_is_not() {
    let mut f = Fixture::new(Settings::default());
    f.publish((1..=3).map(persistent));
    f.consume(1, 1);
    f.answer_all();
    f.delivered();
    f.restart(false);
    assert_eq!(f.queue.status().messages_ready, 3);
    f.publish([persistent(4)]);
    f.consume(1, 0);
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [1, 2, 3, 4]);
    let flags: Vec<bool> = delivered.iter().map(|(_, d)| d.redelivered).collect();
    assert_eq!(flags, [true, true, true, false]);
}

#[test]
fn priorities_survive_a_restart() {
    let mut f = Fixture::new(Settings { priority_max: Some(3), ..Settings::default() });
    let of = |n: u64, priority| fixture::message(n, priority, true, None, 0);
    f.publish([of(1, 0), of(2, 3), of(3, 1), of(4, 9), of(5, 0)]);
    f.restart(true);
    f.consume(1, 0);
    f.answer_all();
    let seqs = f.expect_deliveries(&[2, 4, 3, 1, 5]);
    f.ack(1, &seqs);
    assert_eq!(f.stored(), 0);
    assert_eq!(f.queue.status().bytes_persistent, 0);
}

#[test]
fn a_lease_begins_when_the_last_consumer_leaves() {
    let mut f = Fixture::new(Settings { expires: Some(Duration::from_secs(60)), ..Settings::default() });
    f.consume(1, 0);
    f.pass(3_600_000);
    f.cancel(1);
    assert!(f.proposals.is_empty());
    f.pass(60_000);
    f.tick();
    assert_eq!(f.proposals.len(), 1);
}

#[test]
fn a_policy_that_brings_a_lease_deletes_no_idle_queue_at_once() {
    let mut f = Fixture::new(Settings::default());
    f.pass(3_600_000);
    let settings = Settings { expires: Some(Duration::from_secs(60)), ..Settings::default() };
    f.round(vec![QueueEvent::Settings(Arc::new(settings))]);
    assert!(f.proposals.is_empty());
    f.pass(60_000);
    f.tick();
    assert_eq!(f.proposals.len(), 1);
}

#[test]
fn the_next_consumer_takes_over_from_the_single_active_one() {
    let mut f = Fixture::with(Settings { single_active_consumer: true, ..Settings::default() }, false);
    f.consume(1, 1);
    f.consume(2, 0);
    f.publish((1..=3).map(transient));
    f.expect_deliveries(&[1]);
    f.close(1);
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [1, 2, 3]);
    assert!(delivered.iter().all(|(key, _)| *key == ConsumerKey { channel: channel(2), number: 0 }));
}

/// So many consumers of a queue with a single active one, which holds 1 and 2 of five messages.
fn after_the_active_one_of(consumers: u16) -> Fixture {
    let mut f = Fixture::with(Settings { single_active_consumer: true, ..Settings::default() }, false);
    (1..=consumers).for_each(|number| f.consume(number, 2));
    f.publish((1..=5).map(transient));
    f.expect_deliveries(&[1, 2]);
    f
}

fn cancel(f: &mut Fixture, number: u16) {
    f.round(vec![QueueEvent::Cancel { consumer: ConsumerKey { channel: channel(number), number: 0 }, reply: true }]);
}

/// As clients do that close a channel: they cancel first. What was on its way to the consumer comes before the rest.
#[test]
fn the_next_consumer_gets_what_a_cancelled_one_held_first() {
    let mut f = after_the_active_one_of(2);
    cancel(&mut f, 1);
    f.expect_deliveries(&[]);
    f.close(1);
    f.expect_deliveries(&[1, 2]);
}

/// All consumers of a client that ends are cancelled before their channel closes.
#[test]
fn the_next_consumer_waits_as_well_when_others_are_cancelled_meanwhile() {
    let mut f = after_the_active_one_of(3);
    cancel(&mut f, 1);
    cancel(&mut f, 2);
    f.expect_deliveries(&[]);
    f.close(1);
    f.expect_deliveries(&[1, 2]);
}

/// It keeps what it holds, and its channel goes on.
#[test]
fn the_next_consumer_does_not_wait_long_for_a_cancelled_one() {
    let mut f = after_the_active_one_of(2);
    cancel(&mut f, 1);
    f.expect_deliveries(&[]);
    assert!(f.queue.deadline(f.now).is_some());
    f.pass(1_000);
    f.tick();
    f.expect_deliveries(&[3, 4]);
}

#[test]
fn an_expired_dead_letter_stays_stored_until_its_targets_hold_it() {
    let mut f = Fixture::new(Settings { message_ttl: Some(Duration::from_millis(5)), ..dead_letters_to("dlx") });
    f.publish([persistent(1)]);
    f.pass(10);
    f.tick();
    assert_eq!(f.letters.iter().map(|letter| number(&letter.message)).collect::<Vec<_>>(), [1]);
    assert_eq!(f.stored(), 1);
    let numbers = vec![f.letters[0].number];
    f.round(vec![QueueEvent::DeadLettered { numbers }]);
    assert_eq!(f.stored(), 0);
}

#[test]
fn a_dead_letter_that_leaves_before_its_targets_hold_it_is_found() {
    notices(Mutant::LeaveAtOnce, an_expired_dead_letter_stays_stored_until_its_targets_hold_it);
}

/// A mirror is fed messages, and not the note that its leader has begun to deliver them.
#[test]
fn who_takes_over_a_mirrored_queue_takes_nothing_for_fresh() {
    let mut f = Fixture::new(Settings::default());
    f.publish([persistent(1)]);
    f.answer_all();
    f.record.view.mirrored = true;
    f.record.view.led_since = 5;
    f.restart(false);
    f.consume(1, 0);
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [1]);
    assert!(delivered[0].1.redelivered);
}

#[test]
fn what_a_client_may_have_seen_and_is_taken_for_fresh_is_found() {
    notices(Mutant::TakeForFresh, who_takes_over_a_mirrored_queue_takes_nothing_for_fresh);
}

/// Of what an earlier leader delivered one message is acknowledged, twice, and the rest comes again.
#[test]
fn an_acknowledgement_of_what_an_earlier_leader_delivered_counts_once() {
    let mut f = Fixture::new(Settings::default());
    f.publish((1..=3).map(persistent));
    f.consume(1, 0);
    f.answer_all();
    let seqs = f.expect_deliveries(&[1, 2, 3]);
    f.record.view.mirrored = true;
    f.record.view.led_since = 5;
    f.restart(false);
    f.queue.succeed(std::collections::BTreeMap::new());
    f.consume(1, 1);
    f.answer_all();
    f.expect_deliveries(&[1]);
    f.ack(1, &seqs[1..2]);
    f.ack(1, &seqs[1..2]);
    assert_eq!(f.stored(), 2);
    f.ack(1, &seqs[..1]);
    f.expect_deliveries(&[3]);
}

#[test]
fn a_queue_that_stumbles_over_late_acknowledgements_is_found() {
    notices(Mutant::StumbleOverLateAcks, an_acknowledgement_of_what_an_earlier_leader_delivered_counts_once);
}

/// What came again was kept in memory beside a backlog that was still to be read, and read with it once more:
/// it came twice, and the last messages of the backlog never.
#[test]
fn what_publishers_send_again_behind_a_backlog_comes_once_and_flagged() {
    let mut f = Fixture::new(Settings::default());
    f.publish((1..=3).map(persistent));
    f.answer_all();
    f.record.view.mirrored = true;
    f.record.view.led_since = 5;
    f.restart(false);
    f.session(true, [persistent(4), persistent(5)]);
    f.session(false, [persistent(6), persistent(7)]);
    f.consume(1, 0);
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [1, 2, 3, 4, 5, 6, 7]);
    let flags: Vec<bool> = delivered.iter().map(|(_, d)| d.redelivered).collect();
    assert_eq!(flags, [true, true, true, true, true, false, false]);
    assert_eq!(f.queue.status().messages_ready, 0);
}

/// It was registered twice: one of two had its messages late.
#[test]
fn a_consumer_that_asks_twice_is_one_consumer() {
    let mut f = Fixture::new(Settings::default());
    f.consume(1, 0);
    f.consume(1, 0);
    assert!(f.replies.iter().all(|(_, reply)| matches!(reply, QueueReply::Consuming(Ok(())))));
    assert_eq!((f.replies.len(), f.queue.status().consumers.len()), (2, 1));
    f.publish((1..=4).map(persistent));
    f.answer_all();
    f.expect_deliveries(&[1, 2, 3, 4]);
}

/// A node that has just begun to lead took what followed a refusal to lead. What it had refused came again
/// and counted as known: it was confirmed and lost.
#[test]
fn what_follows_publishes_that_were_sent_back_waits_for_them() {
    let mut f = Fixture::new(Settings::default());
    f.session(false, [persistent(1)]);
    f.session_behind(3, false, [persistent(4)]);
    f.answer_all();
    assert_eq!(std::mem::take(&mut f.confirmed), [1]);
    f.session(true, [persistent(2), persistent(3), persistent(4)]);
    f.session_behind(4, false, [persistent(5)]);
    f.consume(1, 0);
    f.answer_all();
    assert_eq!(f.confirmed, [2, 3, 4, 5]);
    f.expect_deliveries(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_queue_with_too_few_copies_takes_nothing_and_reports_what_it_took_later() {
    let mut f = Fixture::new(Settings { overflow: Overflow::RejectPublishDlx, ..dead_letters_to("dlx") });
    f.consume(1, 0);
    f.publish([persistent(1)]);
    f.queue.set_short_of_copies(true);
    f.publish([persistent(2)]);
    f.answer_all();
    assert_eq!((&f.confirmed[..], &f.rejected[..]), (&[][..], &[2][..]));
    assert!(f.letters.is_empty());
    // Who consumes does not wait.
    f.expect_deliveries(&[1]);
    f.queue.set_short_of_copies(false);
    f.publish([persistent(3)]);
    f.answer_all();
    assert_eq!((&f.confirmed[..], &f.rejected[..]), (&[1, 3][..], &[2][..]));
}
