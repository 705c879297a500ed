//! What a life is like: drawn once, so that lives differ more than moments do.

use std::time::Duration;

use cluster::membership;
use stdx::Rng;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) nodes: u64,
    pub(super) queues: u64,
    pub(super) clients: u64,
    /// Mirrors of queues called many: 0 is on all nodes.
    pub(super) many_mode: u64,
    pub(super) few_mode: u64,
    /// Bytes of ready messages that a queue keeps in memory.
    pub(super) budget: u64,
    pub(super) batch_messages: usize,
    pub(super) replica_timeout: Duration,
    pub(super) membership: membership::Settings,
    /// Messages of this life, about.
    pub(super) messages: u64,
    /// Most bytes of a body.
    pub(super) body_max: u64,
    /// Microseconds between two things that a client does.
    pub(super) pace: u64,
    /// Messages that a publisher sends at once.
    pub(super) burst: u64,
    /// Messages without a confirm at most.
    pub(super) window: u64,
    pub(super) prefetch: u64,
    /// One in so many deliveries is given back.
    pub(super) requeues_one_in: u64,
    /// Consumers acknowledge seldom, so that there is a backlog.
    pub(super) lazy_consumers: bool,
    /// One in so many things that a consumer does is to cancel; 0 is never.
    pub(super) cancels_one_in: u64,
    /// Packets are late at times.
    pub(super) jitter: bool,
    /// How long things go wrong.
    pub(super) storm: Duration,
    /// Most milliseconds between two troubles.
    pub(super) calm_millis: u64,
    /// How likely each trouble is, of [`TROUBLES`].
    pub(super) weights: [u64; TROUBLES],
    /// At the end the power goes everywhere.
    pub(super) ends_dark: bool,
    /// All nodes are restarted in turn.
    pub(super) rolls: bool,
}

/// Kinds of trouble: see `trouble`.
pub(super) const TROUBLES: usize = 13;

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Plan {
        let nodes = [2, 3, 3, 3][rng.below(4) as usize];
        let queues = 1 + rng.below(4);
        let mut weights = [0; TROUBLES];
        for weight in &mut weights {
            *weight = if rng.one_in(2) { 0 } else { 1 + rng.below(5) };
        }
        // A life without any trouble proves nothing.
        weights[rng.below(3) as usize] += 2;
        Plan {
            nodes,
            queues,
            clients: queues + 1 + rng.below(4),
            many_mode: if rng.one_in(3) { 2 } else { 0 },
            few_mode: 2,
            budget: 1024 << rng.below(8),
            batch_messages: 1 + rng.below(100) as usize,
            replica_timeout: Duration::from_secs(2 + rng.below(8)),
            membership: membership::Settings::default(),
            messages: 500 + rng.below(4000),
            body_max: 20 + (1 << rng.below(10)),
            pace: 500 << rng.below(7),
            burst: 1 << rng.below(6),
            window: 1 << (3 + rng.below(6)),
            prefetch: if rng.one_in(4) { 0 } else { 1 << rng.below(8) },
            requeues_one_in: if rng.one_in(2) { 0 } else { 5 + rng.below(50) },
            lazy_consumers: rng.one_in(3),
            // Of a copy: lives without cancellations are what they were.
            cancels_one_in: if rng.clone().one_in(5) { 4 << rng.clone().below(4) } else { 0 },
            jitter: rng.one_in(2),
            storm: Duration::from_secs(4 + rng.below(12)),
            calm_millis: 100 << rng.below(5),
            weights,
            ends_dark: rng.one_in(2),
            rolls: rng.one_in(4),
        }
    }
}
