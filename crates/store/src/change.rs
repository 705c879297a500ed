//! Reads a batch back: the changes in the body of a log envelope, in their order.
//!
//! Used on our own fresh batches and on bytes found at recovery, so malformed bytes end the walk
//! with an error instead of a panic.

use crate::batch::{KIND_ENQUEUE, KIND_FORGET, KIND_REMOVE, MESSAGE_BYTES};
use crate::codec::Decoder;
use crate::types::{QueueKey, Seq};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// `count` messages with the sequences from `first` on start at `offset` of the body.
    Enqueue {
        queue: QueueKey,
        first: Seq,
        count: u32,
        offset: usize,
    },
    /// The messages from `first` to `last` are gone.
    Remove {
        queue: QueueKey,
        first: Seq,
        last: Seq,
    },
    /// The queue is gone.
    Forget { queue: QueueKey },
}

/// The bytes do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Calls `apply` with each change and, for enqueues, the sizes of its messages.
pub(crate) fn walk(
    body: &[u8],
    mut apply: impl FnMut(Change, &mut Sizes<'_, '_>),
) -> Result<(), Malformed> {
    let mut decoder = Decoder::new(body);
    while !decoder.is_empty() {
        step(&mut decoder, &mut apply).ok_or(Malformed)?;
    }
    Ok(())
}

fn step(
    decoder: &mut Decoder<'_>,
    apply: &mut impl FnMut(Change, &mut Sizes<'_, '_>),
) -> Option<()> {
    let kind = decoder.u8()?;
    let queue = QueueKey(decoder.u64()?);
    match kind {
        KIND_ENQUEUE => {
            let first = Seq(decoder.u64()?);
            let count = decoder.u32()?;
            let change = Change::Enqueue {
                queue,
                first,
                count,
                offset: decoder.at(),
            };
            let mut sizes = Sizes {
                decoder,
                left: count,
                broken: false,
            };
            apply(change, &mut sizes);
            for _ in sizes.by_ref() {}
            (!sizes.broken).then_some(())
        }
        KIND_REMOVE => {
            for _ in 0..decoder.u32()? {
                let (first, last) = (Seq(decoder.u64()?), Seq(decoder.u64()?));
                let mut sizes = Sizes {
                    decoder,
                    left: 0,
                    broken: false,
                };
                apply(Change::Remove { queue, first, last }, &mut sizes);
            }
            Some(())
        }
        KIND_FORGET => {
            let mut sizes = Sizes {
                decoder,
                left: 0,
                broken: false,
            };
            apply(Change::Forget { queue }, &mut sizes);
            Some(())
        }
        _ => None,
    }
}

/// Payload sizes of the messages of a group, in order.
pub(crate) struct Sizes<'a, 'b> {
    decoder: &'a mut Decoder<'b>,
    left: u32,
    broken: bool,
}

impl Iterator for Sizes<'_, '_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let size = self.decoder.u32();
        let rest = MESSAGE_BYTES - 4;
        let fits = size.and_then(|size| self.decoder.take(rest + size as usize).map(|_| size));
        if fits.is_none() {
            self.left = 0;
            self.broken = true;
        }
        fits
    }
}
