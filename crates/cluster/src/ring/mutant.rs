//! Rules of the ring that tests break on purpose, to see that the checks would notice.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A packet of a view that is not installed yet is dropped.
    DropEarly,
    /// Nothing is sent again over a new link.
    NoResend,
    /// A view that was not seen changes nothing.
    IgnoreSkipped,
}
