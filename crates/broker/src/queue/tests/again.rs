//! What a publisher's node sends again.

use super::*;
use crate::mutant::{Mutant, breaking};
use crate::queue::Settings;

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
