//! Publisher confirms: which publishes are safe, and telling it in as few frames as possible.

use amqp::Nack;

use super::{Channel, Mode, Waiting};

/// Numbers whose fate is known and not yet told.
#[derive(Debug, Default)]
pub(super) struct Reports {
    safe: Vec<u64>,
    rejected: Vec<u64>,
    /// Everything up to here was acked cumulatively.
    told: u64,
}

impl Channel {
    pub(crate) fn has_reports(&self) -> bool {
        !self.reports.safe.is_empty() || !self.reports.rejected.is_empty()
    }

    /// Whether the only publish so far is safe, once it is known.
    pub(super) fn is_safe(&self) -> Option<bool> {
        if self.reports.rejected.is_empty() { (!self.reports.safe.is_empty()).then_some(true) } else { Some(false) }
    }

    /// Takes a new publish into account that goes to `targets` queues.
    #[inline]
    pub(super) fn expect(&mut self, targets: u32) -> u64 {
        self.published += 1;
        if targets == 0 {
            self.reports.safe.push(self.published);
        } else {
            self.unconfirmed.insert(self.published, targets);
        }
        self.published
    }

    /// One queue holds the publish safely.
    #[inline]
    pub(super) fn safe(&mut self, number: u64) {
        let Some(left) = self.unconfirmed.get_mut(number) else { return };
        *left -= 1;
        if *left == 0 {
            self.unconfirmed.remove(number);
            if self.mode == Mode::Confirm {
                self.reports.safe.push(number);
            }
        }
    }

    /// One queue refused the publish; the others keep their copy, but the publisher is told once.
    pub(super) fn rejected(&mut self, number: u64) {
        if self.unconfirmed.remove(number).is_none() {
            return;
        }
        if self.mode == Mode::Confirm {
            self.reports.rejected.push(number);
        } else if let Some(Waiting::Transaction { refused }) = &mut self.waiting {
            *refused = true;
        }
    }

    /// Writes acks and nacks: one cumulative ack where everything before it is settled.
    pub(crate) fn flush_reports(&mut self, out: &mut Vec<u8>) {
        let channel = self.key.number;
        for number in self.reports.rejected.drain(..) {
            amqp::write_nack(out, channel, Nack { delivery_tag: number, multiple: false, requeue: false });
        }
        let mut safe = std::mem::take(&mut self.reports.safe);
        if safe.is_empty() {
            return;
        }
        safe.sort_unstable();
        self.counters.confirm += safe.len() as u64;
        let lowest = self.unconfirmed.first_key().unwrap_or(u64::MAX);
        let settled = safe.partition_point(|number| *number < lowest);
        if let Some(last) = settled.checked_sub(1).map(|i| safe[i]) {
            let multiple = last != self.reports.told + 1;
            amqp::write_ack(out, channel, last, multiple);
            self.reports.told = last;
        }
        for number in &safe[settled..] {
            amqp::write_ack(out, channel, *number, false);
        }
        safe.clear();
        self.reports.safe = safe;
    }
}
