//! Rules of the ring that tests break on purpose, to see that the checks would notice.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A packet of a view that is not installed yet is dropped.
    DropEarly,
    /// Nothing is sent again over a new link.
    NoResend,
    /// A view that was not seen changes nothing.
    IgnoreSkipped,
    /// A new right neighbour is told what is new, and not the rest.
    NoCatchup,
    /// A packet from anybody is as good as one from the left.
    AnyNeighbour,
    /// A packet behind a lost one is taken.
    IgnoreLoss,
    /// Publications that are here already are delivered again.
    TakeDoubles,
    /// What was stored in a view counts in the next one.
    KeepMarks,
    /// Marks and phases from another view count.
    ForeignMarks,
    /// A mark goes on before the own disk.
    MarkUnstored,
    /// The publisher does not wait for its own disk.
    CompleteUnstored,
    /// What is complete is never told when no traffic follows.
    NeverSettle,
    /// A death is told as soon as the view says so.
    DieAtOnce,
    /// The head does not wait until all have turned away from the dead.
    SealUngathered,
    /// Dead whom the head does not know are nobody's business.
    HeadKnowsAll,
    /// What the dead have left is settled before it is stored.
    SettleUnstored,
    /// The dead are cleared before all have settled them.
    ClearUnsettled,
}

impl Mutant {
    #[cfg(test)]
    pub(super) const ALL: &[Mutant] = &[
        Mutant::DropEarly,
        Mutant::NoResend,
        Mutant::IgnoreSkipped,
        Mutant::NoCatchup,
        Mutant::AnyNeighbour,
        Mutant::IgnoreLoss,
        Mutant::TakeDoubles,
        Mutant::KeepMarks,
        Mutant::ForeignMarks,
        Mutant::MarkUnstored,
        Mutant::CompleteUnstored,
        Mutant::NeverSettle,
        Mutant::DieAtOnce,
        Mutant::SealUngathered,
        Mutant::HeadKnowsAll,
        Mutant::SettleUnstored,
        Mutant::ClearUnsettled,
    ];
}
