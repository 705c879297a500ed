//! Random exchanges: one of the targets, whatever their binding keys.

use super::{Found, Targets};

/// Picks by the number that came with the message, so that routing itself draws nothing.
pub(super) fn find<'a>(targets: &'a Targets, random: u64, found: &mut Found<'a>) {
    let len = targets.len() as u64;
    if let Some(place) = random.checked_rem(len)
        && let Some(target) = targets.iter().nth(place as usize)
    {
        found.push(target);
    }
}
