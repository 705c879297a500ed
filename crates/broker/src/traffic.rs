//! What clients publish and take, counted where they do it and told from time to time.
//!
//! A channel counts in plain numbers of its own. Whoever keeps the sums asks for what was added since it
//! was told last, and is told the rest when a channel ends: sums of what was told never fall, and nothing is
//! told twice.

use std::collections::BTreeMap;

use crate::status::Counters;

/// What was counted and not told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages: Counters,
    /// By name, in the virtual host of the connection.
    pub exchanges: BTreeMap<Vec<u8>, Passed>,
}

/// Messages that have passed an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Published to it.
    pub publish_in: u64,
    /// Handed on to queues: one message counts for each.
    pub publish_out: u64,
}

impl std::ops::AddAssign for Passed {
    fn add_assign(&mut self, more: Passed) {
        self.publish_in += more.publish_in;
        self.publish_out += more.publish_out;
    }
}

/// Counts by exchange. The exchange of the last publish is at hand: most channels use one.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last: Vec<u8>,
    of_last: Passed,
    others: BTreeMap<Vec<u8>, Passed>,
}

impl Tally {
    pub(crate) fn add(&mut self, exchange: &[u8], passed: Passed) {
        if self.last != exchange {
            self.put_away();
            self.last.clear();
            self.last.extend_from_slice(exchange);
        }
        self.of_last += passed;
    }

    fn put_away(&mut self) {
        let passed = std::mem::take(&mut self.of_last);
        if passed == Passed::default() {
            return;
        }
        match self.others.get_mut(&self.last) {
            Some(known) => *known += passed,
            None => drop(self.others.insert(self.last.clone(), passed)),
        }
    }

    /// Gives away all that was counted.
    pub(crate) fn tell(&mut self, exchanges: &mut BTreeMap<Vec<u8>, Passed>) {
        self.put_away();
        for (exchange, passed) in std::mem::take(&mut self.others) {
            *exchanges.entry(exchange).or_default() += passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_keeps_exchanges_apart_and_tells_each_count_once() {
        let mut tally = Tally::default();
        let one = |out| Passed { publish_in: 1, publish_out: out };
        for (exchange, out) in [("a", 2), ("a", 2), ("", 1), ("a", 0), ("b", 0), ("", 1)] {
            tally.add(exchange.as_bytes(), one(out));
        }
        let mut told = BTreeMap::new();
        tally.tell(&mut told);
        let passed = |publish_in, publish_out| Passed { publish_in, publish_out };
        let wanted = [(b"".to_vec(), passed(2, 2)), (b"a".to_vec(), passed(3, 4)), (b"b".to_vec(), passed(1, 0))];
        assert_eq!(told, BTreeMap::from(wanted.clone()));
        tally.tell(&mut told);
        assert_eq!(told, BTreeMap::from(wanted), "told twice");
        tally.add(b"a", one(1));
        tally.tell(&mut told);
        assert_eq!(told[&b"a"[..]], passed(4, 5));
    }
}
