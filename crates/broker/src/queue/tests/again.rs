//! What a publisher's node sends again.

use super::*;
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
