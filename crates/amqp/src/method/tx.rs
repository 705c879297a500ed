//! Class tx, 90. Transactions.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

class! {
    /// Puts the channel into transaction mode.
    Select = (90, 10) "tx.select" {}

    /// The channel is in transaction mode.
    SelectOk = (90, 11) "tx.select-ok" {}

    /// Makes publishes and acknowledgements since the last commit take effect.
    Commit = (90, 20) "tx.commit" {}

    /// They have taken effect.
    CommitOk = (90, 21) "tx.commit-ok" {}

    /// Drops publishes and acknowledgements since the last commit.
    Rollback = (90, 30) "tx.rollback" {}

    /// They are dropped.
    RollbackOk = (90, 31) "tx.rollback-ok" {}
}
