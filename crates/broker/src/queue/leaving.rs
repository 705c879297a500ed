//! Messages that leave for the dead-letter exchange, and those that simply go.
//!
//! A dead letter stays in the queue's charge (and in the log) until its targets hold it, so that a
//! crash in between doubles it rather than losing it (spec 7.5).

use std::collections::BTreeMap;

use crate::message::Message;
use crate::mutant::{Mutant, breaks};
use crate::queue::event::{DeadLetter, QueueEffects, Reason};
use crate::queue::ready::Entry;
use crate::queue::Queue;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    next: u64,
    /// By number; `None` for a publish that was refused and is only forwarded.
    kept: BTreeMap<u64, Option<Entry>>,
    fresh: Vec<DeadLetter>,
    /// Bytes of memory of what is kept.
    bytes: u64,
}

/// So much may be on its way to dead-letter targets before expiry waits for them.
const KEPT_MESSAGES_MAX: usize = 8192;
const KEPT_BYTES_MAX: u64 = 8 << 20;

impl Leaving {
    /// Forwards a publish that the queue refused (`reject-publish-dlx`).
    pub(crate) fn refuse(&mut self, message: Message) {
        self.send(message, Reason::MaxLength, 0, None);
    }

    /// Whether the targets are behind: what can wait should.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= KEPT_MESSAGES_MAX || self.bytes >= KEPT_BYTES_MAX
    }

    fn send(&mut self, message: Message, reason: Reason, count: u32, entry: Option<Entry>) {
        self.next += 1;
        self.bytes += entry.as_ref().map_or(0, |e| e.message.memory_bytes() as u64);
        self.kept.insert(self.next, entry);
        self.fresh.push(DeadLetter { number: self.next, message, reason, count });
    }
}

impl Queue {
    /// A message leaves for a reason: to the dead-letter exchange if there is one, else for good.
    pub(super) fn leave(&mut self, entry: Entry, reason: Reason) {
        if self.settings.dead_letter_exchange.is_some() {
            if breaks(Mutant::LeaveAtOnce) {
                self.gone(self.level_of(&entry.message), &entry);
            }
            self.leaving.send(entry.message.clone(), reason, entry.returns, Some(entry));
        } else {
            let level = self.level_of(&entry.message);
            self.gone(level, &entry);
        }
    }

    pub(super) fn dead_lettered(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(Some(entry)) = self.leaving.kept.remove(number) {
                self.leaving.bytes -= entry.message.memory_bytes() as u64;
                let level = self.level_of(&entry.message);
                self.gone(level, &entry);
            }
        }
    }

    pub(super) fn send_dead_letters(&mut self, out: &mut QueueEffects) {
        out.dead_letters.append(&mut self.leaving.fresh);
    }
}
