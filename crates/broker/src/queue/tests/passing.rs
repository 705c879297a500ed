//! Messages that come and are gone in one round: nobody has to acknowledge them.

use super::*;
use crate::id::ConnectionId;
use crate::queue::{Publish, Publisher, QueueEffects, QueueEvent, QueueReply, Settings};

fn publish(number: u64) -> QueueEvent {
    let from = Publisher::Channel(channel(99));
    QueueEvent::Publish { from, messages: vec![Publish { message: persistent(number), number }] }
}

fn get() -> QueueEvent {
    QueueEvent::Get { channel: channel(1), no_ack: true }
}

/// A durable queue; the note that deliveries begin is in the log.
fn queue() -> Fixture {
    let mut f = Fixture::new(Settings::default());
    f.round(vec![publish(1), get()]);
    f.answer_all();
    assert_eq!((std::mem::take(&mut f.confirmed), got(&mut f), f.stored()), (vec![1], 1, 0));
    f
}

/// How many messages `get`s have brought.
fn got(f: &mut Fixture) -> usize {
    f.replies.drain(..).filter(|(_, reply)| matches!(reply, QueueReply::Got(Some(_)))).count()
}

#[test]
fn what_a_consumer_takes_without_acknowledgement_is_confirmed_and_not_written() {
    let mut f = queue();
    let consume = f.ask(1, 0, true);
    f.round(vec![consume]);
    let end = |f: &mut Fixture| f.store.append(&mut store::Batch::new()).expect("nothing is written");
    let before = end(&mut f);
    f.publish((2..=4).map(persistent));
    assert_eq!((f.ticket, f.confirmed.as_slice()), (None, &[2, 3, 4][..]));
    assert_eq!(body(&f.delivered()), [2, 3, 4]);
    let status = f.queue.status();
    assert_eq!((status.messages_persistent, status.counters.deliver_no_ack), (0, 3));
    assert_eq!(end(&mut f), before);
}

#[test]
fn if_one_of_them_stays_all_are_written_before_they_are_confirmed() {
    let mut f = queue();
    f.round(vec![publish(2), publish(3), get()]);
    assert!(f.ticket.is_some() && f.confirmed.is_empty());
    f.answer_all();
    assert_eq!((got(&mut f), f.confirmed.as_slice(), f.stored()), (1, &[2, 3][..], 1));
}

#[test]
fn what_was_there_before_is_removed_from_the_log_beside_what_only_passes() {
    let mut f = queue();
    f.publish([persistent(2)]);
    f.answer_all();
    assert_eq!((f.confirmed.as_slice(), f.stored()), (&[2][..], 1));
    f.round(vec![publish(3), get(), get()]);
    assert_eq!((f.ticket, f.confirmed.as_slice()), (None, &[2, 3][..]));
    assert_eq!((got(&mut f), f.stored()), (2, 0));
    f.restart(false);
    assert_eq!(f.queue.status().messages_ready, 0);
}

#[test]
fn what_is_sent_again_is_not_confirmed_with_what_passes() {
    let mut f = queue();
    f.consume(2, 1);
    f.session(false, [persistent(1)]);
    assert_eq!(body(&f.delivered()), [1]);
    // It is not in the log yet, and its agent sends it again.
    let message = |number| Publish { message: persistent(number), number };
    let (session, messages) = (ConnectionId(2), vec![message(1), message(2)]);
    f.round(vec![QueueEvent::Session { session, settled: 0, follows: 0, again: true, messages }, get()]);
    assert!(got(&mut f) == 1 && f.ticket.is_some() && f.confirmed.is_empty());
    f.answer_all();
    assert_eq!((f.confirmed.as_slice(), f.stored()), (&[1, 1, 2][..], 1));
}

#[test]
fn a_mirrored_queue_writes_what_only_passes() {
    let mut f = queue();
    f.queue.replicate(true, &mut QueueEffects::default());
    f.round(vec![publish(2), get()]);
    assert!(f.ticket.is_some() && f.confirmed.is_empty());
}

#[test]
fn a_crash_leaves_it_open_whether_a_sequence_that_only_passed_is_given_again() {
    let mut f = queue();
    f.round(vec![publish(2), get()]);
    f.restart(false);
    f.publish([persistent(3)]);
    f.answer_all();
    f.restart(false);
    f.consume(1, 0);
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [3]);
    assert!(delivered[0].1.redelivered, "it may have been seen");
}
