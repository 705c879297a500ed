//! The `ha-` settings of a policy, typed: who should hold a queue, and how they keep up.

use std::time::Duration;

use amqp::{Table, Value};

use crate::id::Name;

/// How a queue is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirroring {
    pub mode: MirrorMode,
    /// A new mirror gets what is there already without being asked.
    pub sync_automatic: bool,
    /// Messages in one batch of catching up; `None` is the configured size.
    pub sync_batch_size: Option<u64>,
    pub sync_strategy: SyncStrategy,
    /// The leader stopped in good order: may a mirror that is not in sync take over.
    pub promote_on_shutdown: Promotion,
    /// The leader crashed: the same question.
    pub promote_on_failure: Promotion,
    pub promotion_order: PromotionOrder,
    /// With fewer members in sync the queue takes no publishes.
    pub min_in_sync: u64,
    /// A confirm waits for the leader alone.
    pub ack_async: bool,
    /// How long the place of a lost mirror stays free.
    pub replace_after: Duration,
}

/// Which mirrors there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorMode {
    /// One on every running node.
    All,
    /// So many copies, the leader's included.
    Exactly(u64),
    /// Copies on these nodes.
    Nodes(Vec<Name>),
}

/// Whether a mirror that is not in sync may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    Always,
    WhenSynced,
}

/// How a mirror catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStrategy {
    /// It gets everything.
    Full,
    /// It gets what it lacks.
    Incremental,
    /// It gets what comes from then on.
    Event,
}

/// Which of several mirrors takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromotionOrder {
    Oldest,
    LongestLog,
}

impl Mirroring {
    /// Reads a policy's effective definition; `None` if it does not ask for mirrors. The policy has been
    /// checked when it was set: a value of a wrong type counts as absent.
    #[must_use]
    pub fn of(policy: &Table) -> Option<Mirroring> {
        let text = |key| policy.get(key).and_then(Value::as_str);
        let number = |key| {
            let number = policy.get(key).and_then(Value::as_i64);
            number.and_then(|number| u64::try_from(number).ok())
        };
        let promotion = |key, default| match text(key) {
            Some("always") => Promotion::Always,
            Some("when-synced") => Promotion::WhenSynced,
            _ => default,
        };
        Some(Mirroring {
            mode: MirrorMode::of(policy)?,
            sync_automatic: text("ha-sync-mode") == Some("automatic"),
            sync_batch_size: number("ha-sync-batch-size").filter(|size| *size > 1),
            sync_strategy: match text("ha-sync-strategy") {
                Some("full") => SyncStrategy::Full,
                Some("event") => SyncStrategy::Event,
                _ => SyncStrategy::Incremental,
            },
            promote_on_shutdown: promotion("ha-promote-on-shutdown", Promotion::WhenSynced),
            promote_on_failure: promotion("ha-promote-on-failure", Promotion::Always),
            promotion_order: match text("ha-promotion-order") {
                Some("longest-log") => PromotionOrder::LongestLog,
                _ => PromotionOrder::Oldest,
            },
            min_in_sync: number("ha-min-in-sync").unwrap_or(1),
            ack_async: text("ha-ack-mode") == Some("async"),
            replace_after: Duration::from_millis(number("ha-replace-after").unwrap_or(0)),
        })
    }

    /// Whether a mirror that is not in sync takes over from a leader that is gone. Who does not want it
    /// after a crash does not want it after an orderly stop.
    #[must_use]
    pub fn promotes_uncleanly(&self, clean: bool) -> bool {
        let on_failure = self.promote_on_failure == Promotion::Always;
        on_failure && (!clean || self.promote_on_shutdown == Promotion::Always)
    }
}

impl MirrorMode {
    fn of(policy: &Table) -> Option<MirrorMode> {
        let parameters = policy.get("ha-params");
        match policy.get("ha-mode")?.as_str()? {
            "all" => Some(MirrorMode::All),
            "exactly" => {
                let copies = parameters?.as_i64()?;
                u64::try_from(copies).ok().map(MirrorMode::Exactly)
            }
            "nodes" => {
                let names = parameters?.as_array()?.iter();
                let names = names.filter_map(Value::as_str).map(Name::from);
                Some(MirrorMode::Nodes(names.collect()))
            }
            _ => None,
        }
    }
}
