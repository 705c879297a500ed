//! What a publisher's node sends again.

use super::*;
use crate::queue::{ConsumerKey, Queue, QueueEvent, Settings};

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

/// They will ask again.
#[test]
fn the_end_of_a_consumer_that_is_not_there_deletes_no_queue_whose_consumers_lost_their_link() {
    let mut f = Fixture::new(Settings::default());
    f.record.auto_delete = true;
    f.queue = Queue::new(&f.record, &[], None, f.now);
    f.consume(1, 0);
    f.round(vec![QueueEvent::NodeLost { node: channel(1).connection.node() }]);
    f.round(vec![QueueEvent::Cancel { consumer: ConsumerKey { channel: channel(1), number: 9 }, reply: false }]);
    assert!(f.proposals.is_empty());
}
