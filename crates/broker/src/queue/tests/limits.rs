//! Limits: of length, of memory, of what is under way.

use std::time::Duration;

use super::fixture::{message, number};
use super::*;
use crate::mutant::{Mutant, notices};
use crate::queue::{Overflow, Publish, Publisher, QueueEvent, QueueReply, Settings};

fn ready(f: &Fixture) -> (u64, u64) {
    let status = f.queue.status();
    (status.messages_ready, status.bytes_ready)
}

#[test]
fn a_publish_that_would_exceed_the_bytes_is_refused() {
    let settings = Settings { length_max_bytes: Some(20), overflow: Overflow::RejectPublish, ..Settings::default() };
    let mut f = Fixture::with(settings, false);
    f.publish((1..=3).map(transient));
    assert_eq!(f.confirmed, [1, 2]);
    assert_eq!(f.rejected, [3]);
}

#[test]
fn what_a_full_queue_refuses_is_in_no_copy() {
    let mut f = Fixture::new(Settings { length_max: Some(1), overflow: Overflow::RejectPublish, ..Settings::default() });
    f.publish((1..=3).map(persistent));
    f.answer_all();
    assert_eq!((&f.confirmed[..], &f.rejected[..]), (&[1][..], &[2, 3][..]));
    assert_eq!(f.stored(), 1);
}

#[test]
fn a_mirror_that_keeps_what_was_refused_is_found() {
    notices(Mutant::MirrorRefused, what_a_full_queue_refuses_is_in_no_copy);
}

#[test]
fn over_the_limit_the_head_goes_which_is_of_the_highest_priority() {
    let settings = Settings { length_max: Some(2), priority_max: Some(1), ..dead_letters_to("dlx") };
    let mut f = Fixture::with(settings, false);
    let of = |n: u64, priority| message(n, priority, false, None, 0);
    f.publish([of(1, 1), of(2, 0), of(3, 0), of(4, 1)]);
    assert_eq!(f.letters.iter().map(|l| number(&l.message)).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(ready(&f), (2, 16));
}

#[test]
fn bytes_of_messages_on_disk_are_exact_however_they_differ() {
    let settings = Settings { length_max_bytes: Some(100_000), ..dead_letters_to("dlx") };
    let mut f = Fixture::new(settings);
    f.now.budget_bytes = 1;
    f.publish([message(1, 0, true, None, 60_000)]);
    f.publish((2..=200).map(|n| message(n, 0, true, None, 92)));
    f.answer_all();
    assert!(f.letters.is_empty(), "{} dropped within the limit", f.letters.len());
    assert_eq!(ready(&f), (200, 60_008 + 199 * 100));
}

#[test]
fn large_messages_are_read_back_a_few_at_a_time() {
    let mut f = Fixture::new(Settings::default());
    f.now.budget_bytes = 64 << 10;
    for n in 1..=100 {
        f.publish([message(n, 0, true, None, 20_000)]);
    }
    f.answer_all();
    assert!(f.queue.status().memory < 256 << 10, "{} bytes in memory", f.queue.status().memory);
    f.get(1);
    f.answer_all();
    f.consume(1, 0);
    f.answer_all();
    let mut found: Vec<u64> = body(&f.delivered());
    assert_eq!(found.len(), 53, "credit ends after a mebibyte");
    found.sort_unstable();
    assert_eq!(found, (2..=54).collect::<Vec<_>>());
}

#[test]
fn a_purge_between_a_read_and_its_answer_doubles_nothing() {
    let mut f = Fixture::with(Settings::default(), true);
    f.now.budget_bytes = 0;
    f.publish([persistent(1)]);
    f.now.budget_bytes = 300;
    let from = Publisher::Channel(channel(99));
    let publish = |n: u64| QueueEvent::Publish { from, messages: vec![Publish { message: persistent(n), number: n }] };
    f.answers.clear();
    f.queue.levels[0].loading = None;
    let mut events = vec![
        QueueEvent::Get { channel: channel(1), no_ack: false },
        QueueEvent::Purge { channel: channel(2) },
    ];
    events.extend((2..=9).map(publish));
    f.round(events);
    f.answer_all();
    assert!(matches!(f.replies[0], (_, QueueReply::Purged { messages: 1 })));
    f.consume(3, 0);
    f.answer_all();
    let mut found = body(&f.delivered());
    found.extend(f.replies.iter().filter_map(|(_, reply)| match reply {
        QueueReply::Got(Some((delivery, _))) => Some(number(&delivery.message)),
        _ => None,
    }));
    found.sort_unstable();
    assert_eq!(found, (2..=9).collect::<Vec<_>>());
}

#[test]
fn expiry_waits_for_dead_letter_targets_that_are_behind() {
    let settings = Settings { message_ttl: Some(Duration::from_millis(1)), ..dead_letters_to("dlx") };
    let mut f = Fixture::with(settings, false);
    f.now.budget_bytes = 1 << 30;
    f.publish((1..=20_000).map(transient));
    f.pass(10);
    f.tick();
    let mut seen = 0;
    while f.letters.len() > seen {
        assert!(f.letters.len() - seen <= 8192);
        let numbers = f.letters[seen..].iter().map(|letter| letter.number).collect();
        seen = f.letters.len();
        f.round(vec![QueueEvent::DeadLettered { numbers }]);
    }
    assert_eq!(seen, 20_000);
}
