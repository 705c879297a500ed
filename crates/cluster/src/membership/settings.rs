//! The times of membership, and its rules that tests may break.

use std::time::Duration;

/// The asker gives up this part of a lease, for clocks that do not run equally fast.
const LEASE_MARGIN: u32 = 100;

/// Times. The lease must be the same in all lives of a node, the others may differ anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time between two pings.
    pub heartbeat: Duration,
    /// Silence after which a peer is suspected; half of it is how late the own tick may be.
    pub suspect_after: Duration,
    /// Silence after which a peer is unreachable.
    pub failure_timeout: Duration,
    /// How long a lease is that this node grants.
    pub lease: Duration,
    /// A rule to break on purpose, so that tests can prove it would be noticed.
    #[cfg(any(test, feature = "mutants"))]
    pub mutant: Option<Mutant>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            heartbeat: Duration::from_millis(100),
            suspect_after: Duration::from_secs(1),
            failure_timeout: Duration::from_secs(3),
            lease: Duration::from_secs(2),
            #[cfg(any(test, feature = "mutants"))]
            mutant: None,
        }
    }
}

impl Settings {
    /// The same with silence limited by RabbitMQ's `net_ticktime`.
    #[must_use]
    pub fn capped(mut self, net_ticktime: Duration) -> Settings {
        let shortest = 4 * self.heartbeat;
        self.failure_timeout = self.failure_timeout.min(net_ticktime).max(shortest);
        self.suspect_after = self.suspect_after.min(self.failure_timeout / 2);
        self
    }

    /// What of a lease its holder counts on.
    pub(super) fn counted(&self, lease: Duration) -> Duration {
        if self.breaks(Mutant::NoMargin) {
            return lease;
        }
        lease - lease / LEASE_MARGIN
    }

    /// How old a question may be for its answer to count.
    pub(super) fn memory(&self) -> Duration {
        self.failure_timeout.max(self.lease)
    }

    /// True if this rule is to be broken.
    pub(super) fn breaks(&self, mutant: Mutant) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.mutant == Some(mutant);
        #[cfg(not(any(test, feature = "mutants")))]
        {
            let _ = mutant;
            false
        }
    }
}

/// A rule broken on purpose. Only tests and builds with the feature `mutants` can break one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The asker counts its lease from the answer.
    LeaseFromAnswer,
    /// The asker trusts its clock to run exactly as fast as the granter's.
    NoMargin,
    /// A new life knows nothing of what an earlier one may have granted.
    ForgetEarlierGrants,
    /// Every life counts its rounds from the same number.
    ReuseRounds,
    /// A peer that leaves the list takes with it what was granted to it.
    ForgetGrantOfRemoved,
    /// Whoever asks is granted a lease, answers or not.
    GrantWhoeverAsks,
    /// Hearing a peer ask is taken for an answer.
    AskingIsAnswering,
    /// After its own sleep a node goes on counting the silence of others.
    CountOwnSleep,
    /// Another life of a peer is taken for the one before it.
    IgnoreIncarnation,
    /// A refused connection is taken for death while another connection is open.
    RefusedThoughConnected,
    /// An answer counts however old its question is.
    OldAnswersCount,
    /// A peer that is unreachable is asked no more.
    GiveUp,
}
