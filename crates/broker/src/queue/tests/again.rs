//! What other nodes send again, and consumers that ask again.

use std::time::Duration;

use super::fixture::message;
use super::*;
use crate::mutant::{Mutant, breaking};
use crate::queue::{ChannelEvent, ChannelKey, Consume, ConsumerKey, Queue, QueueEffects, QueueEvent, QueueReply, Settings};

/// Nothing is written for it, and the report still waits until everything before is safe.
#[test]
fn what_publishers_send_again_is_reported_though_nothing_else_happens() {
    let mut f = Fixture::new(Settings::default());
    f.session(false, [persistent(1), persistent(2)]);
    f.answer_all();
    assert_eq!(std::mem::take(&mut f.confirmed), [1, 2]);
    f.session(true, [persistent(1), persistent(2)]);
    assert!(f.confirmed.is_empty());
    f.answer_all();
    assert_eq!(f.confirmed, [1, 2]);
    assert_eq!(f.queue.status().messages_ready, 2);
}

/// Whoever had it first may have delivered it.
#[test]
fn what_publishers_send_again_is_flagged_after_a_restart_too() {
    let play = || {
        [true, false].into_iter().all(|in_good_order| {
            let mut f = Fixture::new(Settings::default());
            f.session(true, [persistent(1), persistent(2)]);
            f.answer_all();
            f.restart(in_good_order);
            f.publish([persistent(3)]);
            f.consume(1, 0);
            f.answer_all();
            let flags: Vec<bool> = f.delivered().iter().map(|(_, delivery)| delivery.redelivered).collect();
            flags == [true, true, false]
        })
    };
    assert!(play());
    assert!(!breaking(Mutant::ForgetDoubts, play));
}

fn auto_delete() -> Fixture {
    let mut f = Fixture::new(Settings::default());
    f.record.auto_delete = true;
    f.queue = Queue::new(&f.record, &[], None, f.now);
    f
}

/// They will ask again.
#[test]
fn the_end_of_a_consumer_that_is_not_there_deletes_no_queue_whose_consumers_lost_their_link() {
    let mut f = auto_delete();
    f.consume(1, 0);
    f.round(vec![QueueEvent::NodeLost { node: channel(1).connection.node() }]);
    f.round(vec![QueueEvent::Cancel { consumer: ConsumerKey { channel: channel(1), number: 9 }, reply: false }]);
    assert!(f.proposals.is_empty());
}

/// Of two consumers that lost their link one is cancelled, and asks for that before the other asks again.
#[test]
fn the_cancel_of_a_consumer_that_went_with_its_link_deletes_no_queue_that_has_another() {
    let mut f = auto_delete();
    f.consume(1, 0);
    f.consume(2, 0);
    f.round(vec![QueueEvent::NodeLost { node: channel(1).connection.node() }]);
    f.cancel(2);
    asks_again(&mut f, |_| {});
    f.pass(120_000);
    f.tick();
    assert!(f.proposals.is_empty());
}

/// Those that are there have asked again by then.
#[test]
fn a_queue_whose_last_consumer_went_with_its_node_or_was_cancelled_while_it_moved_deletes_itself_later() {
    for (ends_in_order, comes_back) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut f = auto_delete();
        if ends_in_order {
            // The leader of before had it.
            f.cancel(1);
            assert!(matches!(f.replies[0], (_, QueueReply::Cancelled(0))));
        } else {
            f.consume(1, 0);
            f.round(vec![QueueEvent::NodeLost { node: channel(1).connection.node() }]);
        }
        f.pass(59_000);
        if comes_back {
            asks_again(&mut f, |_| {});
        }
        f.pass(900);
        f.tick();
        assert!(f.proposals.is_empty());
        assert_eq!(f.queue.deadline(f.now), Some(f.now.time + Duration::from_millis(100)), "it looks by itself");
        f.pass(100);
        f.tick();
        assert_eq!(f.proposals.len(), usize::from(!comes_back));
    }
}

/// By the question of `basic.cancel`, for a consumer that there never was.
#[test]
fn who_asks_behind_the_end_of_a_channel_is_answered_when_the_queue_is_gone_or_stays() {
    for is_shared in [false, true] {
        let mut f = auto_delete();
        f.consume(1, 0);
        if is_shared {
            f.consume(2, 0);
        }
        f.replies.clear();
        let leaving = ChannelKey { number: 0, life: 9, ..channel(1) };
        f.round(vec![
            QueueEvent::ChannelClosed { channel: channel(1), seqs: Vec::new() },
            QueueEvent::Cancel { consumer: ConsumerKey { channel: leaving, number: 0 }, reply: true },
        ]);
        assert_eq!(f.proposals.len(), usize::from(!is_shared));
        let mut replies = std::mem::take(&mut f.replies);
        if !is_shared {
            assert!(replies.is_empty());
            let mut fx = QueueEffects::default();
            f.queue.flush_and_end(&mut fx);
            replies = fx.to_connections.into_iter().filter_map(|(_, event)| match event {
                ChannelEvent::Replied { channel, reply, .. } => Some((channel, reply)),
                _ => None,
            }).collect();
        }
        assert!(matches!(replies[..], [(to, QueueReply::Cancelled(0))] if to == leaving), "{replies:?}");
        f.pass(120_000);
        f.tick();
        assert_eq!(f.proposals.len(), usize::from(!is_shared));
    }
}

/// A consumer of channel 1 that asks again: what it gave back meanwhile did not come here.
fn asks_again(f: &mut Fixture, change: impl FnOnce(&mut Consume)) {
    let QueueEvent::Consume(mut ask) = f.ask(1, 0, false) else { unreachable!() };
    ask.again = true;
    change(&mut ask);
    f.round(vec![QueueEvent::Consume(ask)]);
}

#[test]
fn a_consumer_that_is_still_there_when_it_asks_again_has_its_whole_credit() {
    let large = |n| message(n, 0, false, None, 600 << 10);
    let mut f = Fixture::with(Settings::default(), false);
    f.now.budget_bytes = 64 << 20;
    f.consume(1, 0);
    f.publish((1..=6).map(large));
    f.expect_deliveries(&[1, 2]);
    asks_again(&mut f, |_| {});
    f.expect_deliveries(&[3, 4]);
    // What was on its way before is given back all the same: more than the whole it never has.
    let consumer = ConsumerKey { channel: channel(1), number: 0 };
    f.round(vec![QueueEvent::Credit { consumer, bytes: 4 << 20 }]);
    f.expect_deliveries(&[5, 6]);
}

#[test]
fn a_consumer_that_waited_for_its_turn_waits_no_more_when_it_asks_again() {
    let mut f = Fixture::with(Settings::default(), false);
    f.consume(1, 0);
    f.publish([transient(1)]);
    let seqs = f.expect_deliveries(&[1]);
    f.round(vec![QueueEvent::Surplus { channel: channel(1), seqs }]);
    f.expect_deliveries(&[]);
    asks_again(&mut f, |_| {});
    f.expect_deliveries(&[1]);
}

#[test]
fn a_consumer_that_is_still_there_when_it_asks_again_has_the_limit_that_it_asks_for() {
    let mut f = Fixture::with(Settings::default(), false);
    f.consume(1, 1);
    f.publish((1..=4).map(transient));
    f.expect_deliveries(&[1]);
    asks_again(&mut f, |ask| (ask.prefetch, ask.limited) = (3, true));
    f.expect_deliveries(&[2, 3]);
    assert_eq!(f.queue.status().consumers.len(), 1);
}
