//! The `ha-` settings as drivers read them.

use std::time::Duration;

use super::*;

#[test]
fn settings_are_typed_and_have_rabbitmqs_defaults() {
    let defaults = Mirroring::of(&table(&[("ha-mode", "all".into())])).unwrap();
    assert_eq!(
        defaults,
        Mirroring {
            mode: MirrorMode::All,
            sync_automatic: false,
            sync_batch_size: None,
            sync_strategy: SyncStrategy::Incremental,
            promote_on_shutdown: Promotion::WhenSynced,
            promote_on_failure: Promotion::Always,
            promotion_order: PromotionOrder::Oldest,
            min_in_sync: 1,
            ack_async: false,
            replace_after: Duration::ZERO,
        }
    );
    let all = table(&[
        ("ha-mode", "exactly".into()),
        ("ha-params", 2_i64.into()),
        ("ha-sync-mode", "automatic".into()),
        ("ha-sync-batch-size", 50_i64.into()),
        ("ha-sync-strategy", "event".into()),
        ("ha-promote-on-shutdown", "always".into()),
        ("ha-promote-on-failure", "when-synced".into()),
        ("ha-promotion-order", "longest-log".into()),
        ("ha-min-in-sync", 2_i64.into()),
        ("ha-ack-mode", "async".into()),
        ("ha-replace-after", 1500_i64.into()),
    ]);
    assert_eq!(
        Mirroring::of(&all).unwrap(),
        Mirroring {
            mode: MirrorMode::Exactly(2),
            sync_automatic: true,
            sync_batch_size: Some(50),
            sync_strategy: SyncStrategy::Event,
            promote_on_shutdown: Promotion::Always,
            promote_on_failure: Promotion::WhenSynced,
            promotion_order: PromotionOrder::LongestLog,
            min_in_sync: 2,
            ack_async: true,
            replace_after: Duration::from_millis(1500),
        }
    );
    let mut fixture = Fixture::new();
    fixture.mirrored("q", all);
    let queue = Arc::clone(fixture.tables().queue("/", "q").unwrap());
    assert_eq!(queue.mirroring.as_ref().unwrap().min_in_sync, 2);
}

#[test]
fn a_batch_of_one_is_the_configured_size() {
    let one = table(&[
        ("ha-mode", "all".into()),
        ("ha-sync-batch-size", 1_i64.into()),
    ]);
    assert_eq!(Mirroring::of(&one).unwrap().sync_batch_size, None);
    assert_eq!(Mirroring::of(&Table::new()), None);
}
