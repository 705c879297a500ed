//! Rules that tests break on purpose, to see that the checks would notice. Only tests, and builds with
//! the feature `mutants`, can break one.

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "mutants")),
    expect(unreachable_pub, reason = "no rule is broken in this build")
)]
pub enum Mutant {
    /// A leader completes without the mirrors whose seat is proposed.
    CompleteWithoutJoining,
    /// A mirror counts as whole before it has stored its backlog.
    SeatBeforeBacklog,
    /// A member counts what it was handed over as stored before it is.
    HandoverIsStored,
    /// A leader's sequences go on where its store ends.
    SequencesOfAllLeaders,
    /// A new leader knows nothing of its publishers' sessions.
    ForgetSessions,
    /// A welcome does not tell the sessions.
    WelcomeWithoutSessions,
    /// A feed begins with sessions that know of batches which come later.
    SessionsAheadOfData,
    /// A feed begins with all that is known of publishers, and the messages that this speaks of come behind it.
    SessionsAheadOfBacklog,
    /// A mirror keeps what it knew of sessions when what it held of them is removed.
    KeepStaleSessions,
    /// Sessions do not tell which numbers were refused.
    ForgetRefused,
    /// What was removed while its message was read for a feed is sent all the same.
    FeedTheRemoved,
    /// What a mirror holds and its leader does not stays.
    KeepSurplus,
    /// Batches from before the survey of a feed has come are not sent.
    DropWaitingBatches,
    /// A mirror that is proposed is given up when it is slow.
    GiveUpProposed,
    /// A mirror that begins again is not waited for any more, though its seat is proposed.
    ForgetProposal,
    /// A refusal counts, whatever proposal it is of.
    HeedLateRefusals,
    /// A member of the ring does not ask for what was sent before it was one.
    NoRelink,
    /// A member of the ring asks for what was sent before it was one, and not who comes to be its neighbour.
    AskOneNeighbour,
    /// Nothing is sent again over a new link.
    NoRelinkAfterLoss,
    /// A mirror leads before the ring has gathered what the dead left.
    LeadBeforeGathering,
    /// A leader reports what its own disk has.
    CompleteAlone,
    /// A follower takes a step behind one that was lost.
    IgnoreLostSteps,
    /// A step counts as stored when it has come.
    HasBeforeStored,
    /// A feed that is lost with its link is not asked for again.
    NeverAskAgain,
    /// A seat that no leader has made a member of the ring stays.
    KeepEmptySeats,
    /// Who has to lead without a place in the ring waits for one.
    StayWithoutRing,
    /// A new leader takes for fresh what no note of its own store says was delivered.
    TakeForFresh,
    /// A seat is taken in any view, whoever proposed it when.
    ChangeAnyView,
    /// A mirror that catches up is promoted before one in sync.
    PromoteCatchingUp,
    /// The last seat that goes is forgotten: whoever comes first leads.
    PromoteWhoeverReturns,
    /// Who led goes on with its own term after another has led.
    LeadThroughOthersTerm,
    /// A queue takes publishes of an agent though those in front of them were sent back.
    TakeWhatFollows,
    /// A mirror that catches up may be handed the lead.
    TransferToCatchingUp,
    /// Where a leader stops, a mirror that lacks something leads, whatever the policy says.
    PromoteAtStop,
    /// A queue without a mirror in sync ends instead of waiting for one.
    EndUnsynced,
    /// A stopped queue stays stopped, whoever comes back.
    StayStopped,
    /// Exclusive queues stay when the node of their clients goes.
    KeepExclusive,
    /// A binding that is removed is not listed any more, and routes.
    RouteUnlisted,
    /// A command of a later version counts as done, and changes nothing.
    SkipUnknown,
    /// A mirror that comes back is emptied before it is fed.
    WipeBeforeRefill,
    /// What waits for a slow mirror is kept without a bound.
    FeedWithoutBound,
    /// A mirror is fed as fast as it can be, whoever uses the queue.
    FeedAtFullSpeed,
    /// A dead letter is removed before its targets hold it.
    LeaveAtOnce,
    /// Mirrors keep what their leader refused.
    MirrorRefused,
    /// An acknowledgement of what an earlier leader delivered ends the queue.
    StumbleOverLateAcks,
    /// What nobody can take is confirmed.
    ConfirmWhileDown,
    /// The room of publishes that are refused is not given back.
    KeepRoom,
    /// A restart forgets that what was published again may be the second of two.
    ForgetDoubts,
    /// A member of the ring waits for what its neighbour has sent, and does not ask for it.
    WaitForWhatIsLost,
    /// A mirror that was handed the ring says that it has stored nothing of it.
    CountRingOnly,
    /// Who asks to be sent everything again must be a neighbour as far as this node's metadata says.
    NeighboursOfMetadata,
    /// What a leader gave out before others have led counts when it leads again.
    HeedEarlierTerms,
}

impl Mutant {
    /// Those that random lives of replicas must find; the others have a play of their own.
    #[cfg(test)]
    pub(crate) const OF_REPLICAS: &[Mutant] = &[
        Mutant::CompleteWithoutJoining,
        Mutant::SeatBeforeBacklog,
        Mutant::HandoverIsStored,
        Mutant::SequencesOfAllLeaders,
        Mutant::ForgetSessions,
        Mutant::WelcomeWithoutSessions,
        Mutant::ForgetRefused,
        Mutant::FeedTheRemoved,
        Mutant::KeepSurplus,
        Mutant::DropWaitingBatches,
        Mutant::GiveUpProposed,
        Mutant::ForgetProposal,
        Mutant::NoRelink,
        Mutant::NoRelinkAfterLoss,
        Mutant::LeadBeforeGathering,
        Mutant::CompleteAlone,
        Mutant::IgnoreLostSteps,
        Mutant::HasBeforeStored,
        Mutant::NeverAskAgain,
        Mutant::KeepEmptySeats,
        Mutant::ChangeAnyView,
        Mutant::PromoteCatchingUp,
        Mutant::PromoteWhoeverReturns,
        Mutant::LeadThroughOthersTerm,
    ];
}

#[cfg(any(test, feature = "mutants"))]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this rule is broken.
pub(crate) fn breaks(mutant: Mutant) -> bool {
    #[cfg(any(test, feature = "mutants"))]
    return BROKEN.get() == Some(mutant);
    #[cfg(not(any(test, feature = "mutants")))]
    {
        let _ = mutant;
        false
    }
}

/// Does something on this thread with a rule broken.
#[cfg(any(test, feature = "mutants"))]
pub fn breaking<T>(mutant: Mutant, action: impl FnOnce() -> T) -> T {
    struct Mend;
    impl Drop for Mend {
        fn drop(&mut self) {
            BROKEN.set(None);
        }
    }
    BROKEN.set(Some(mutant));
    let _mend = Mend;
    action()
}

/// A play holds, and fails when a rule is broken.
#[cfg(test)]
pub(crate) fn notices(rule: Mutant, play: impl Fn() + std::panic::RefUnwindSafe) {
    play();
    let broken = std::panic::catch_unwind(|| breaking(rule, &play));
    assert!(broken.is_err(), "nobody notices {rule:?}");
}
