//! What a broker owes for what it was given: the judge of tests that break things.
//!
//! Publishers and consumers write down what they did and saw. Then:
//! - what was confirmed comes out at least once;
//! - what comes out was put in;
//! - a message is new (`redelivered` not set) at most once; where there is one consumer, only at first:
//!   where there are two, a first copy may have been on its way to one while the other got the second;
//! - messages of one session of a publisher come out in their order, each at its first time.
//!
//! A publisher that has lost its connection does not know what arrived. It begins a new session and
//! publishes anew what was not confirmed; those are other messages.

use std::collections::BTreeMap;
use std::time::Instant;

/// A message: the so-many'th, from 0, of one session of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub publisher: u32,
    pub session: u32,
    pub number: u32,
}

impl Id {
    /// As a body.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{} {} {}", self.publisher, self.session, self.number)
    }

    /// Reads a body.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Id> {
        let mut numbers = std::str::from_utf8(body).ok()?.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Id { publisher: next()?, session: next()?, number: next()? })
    }
}

const CONFIRMED: u8 = 1;
const SEEN: u8 = 2;
const SEEN_AS_NEW: u8 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Message {
    known: u8,
    /// The latest copy that came out: when, and whether it was said to have come before.
    latest: Option<(Instant, bool)>,
}

#[derive(Debug, Default)]
struct Session {
    /// What is known of each message.
    messages: Vec<Message>,
    /// The latest that has come out for the first time.
    last: Option<u32>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Ledger {
    sessions: BTreeMap<(u32, u32), Session>,
    violations: Vec<String>,
    confirmed: u64,
    seen: u64,
    again: u64,
}

impl Ledger {
    /// A message is about to be published; its number follows the one before it.
    ///
    /// # Panics
    /// If it does not.
    pub fn published(&mut self, id: Id) {
        let session = self.sessions.entry((id.publisher, id.session)).or_default();
        assert_eq!(session.messages.len(), id.number as usize, "messages are published in order");
        session.messages.push(Message::default());
    }

    fn message(&mut self, id: Id) -> Option<&mut Message> {
        self.sessions.get_mut(&(id.publisher, id.session))?.messages.get_mut(id.number as usize)
    }

    /// The broker has taken the message.
    pub fn confirmed(&mut self, id: Id) {
        match self.message(id) {
            Some(message) => message.known |= CONFIRMED,
            None => self.violations.push(format!("{id:?} is confirmed and was never published")),
        }
        self.confirmed += 1;
    }

    /// A message has come out of a queue. `in_order`: there is one consumer, which sees the queue's order.
    pub fn delivered(&mut self, id: Id, redelivered: bool, in_order: bool) {
        let Some(message) = self.message(id) else {
            self.violations.push(format!("{id:?} comes out and was never published"));
            return;
        };
        let (before, latest) = (message.known, message.latest);
        message.known |= SEEN | if redelivered { 0 } else { SEEN_AS_NEW };
        message.latest = Some((Instant::now(), redelivered));
        let earlier = if in_order { SEEN } else { SEEN_AS_NEW };
        if !redelivered && before & earlier != 0 {
            let (ago, flagged) = latest.map_or_else(Default::default, |(at, flagged)| (at.elapsed(), flagged));
            self.violations.push(format!("{id:?} comes again and is said to be new; it came {ago:?} ago, redelivered: {flagged}"));
        }
        if before & SEEN != 0 {
            self.again += 1;
            return;
        }
        self.seen += 1;
        let session = self.sessions.get_mut(&(id.publisher, id.session)).expect("it was found above");
        let last = session.last;
        session.last = last.max(Some(id.number));
        if in_order && last > Some(id.number) {
            self.violations.push(format!("{id:?} comes after {last:?}, redelivered: {redelivered}"));
        }
    }

    /// What was confirmed and has not come out.
    #[must_use]
    pub fn missing(&self) -> Vec<Id> {
        let sessions = self.sessions.iter();
        let missing = sessions.flat_map(|((publisher, session), found)| {
            let owed = (0_u32..).zip(&found.messages).filter(|(_, message)| message.known & (CONFIRMED | SEEN) == CONFIRMED);
            owed.map(|(number, _)| Id { publisher: *publisher, session: *session, number })
        });
        missing.collect()
    }

    /// What the broker did wrong so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Messages confirmed, come out, and come out again.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.confirmed, self.seen, self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> Id {
        Id { publisher: 1, session: 2, number }
    }

    fn ledger(published: u32) -> Ledger {
        let mut ledger = Ledger::default();
        (0..published).for_each(|n| ledger.published(id(n)));
        ledger
    }

    #[test]
    fn bodies_come_as_they_went() {
        assert_eq!(Id::parse(id(7).body().as_bytes()), Some(id(7)));
        assert_eq!(Id::parse(b"1 2"), None);
        assert_eq!(Id::parse(b"\xff"), None);
    }

    #[test]
    fn good_histories_pass() {
        let mut ledger = ledger(4);
        ledger.confirmed(id(0));
        ledger.delivered(id(0), false, true);
        // Delivered before its confirm, and again after a failover.
        ledger.delivered(id(1), false, true);
        ledger.confirmed(id(1));
        ledger.delivered(id(1), true, true);
        // Never confirmed, first seen with the mark.
        ledger.delivered(id(3), true, true);
        assert!(ledger.missing().is_empty());
        assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
        assert_eq!(ledger.counts(), (2, 3, 1));
    }

    #[test]
    fn a_loss_is_seen() {
        let mut ledger = ledger(2);
        ledger.confirmed(id(0));
        ledger.confirmed(id(1));
        ledger.delivered(id(1), false, false);
        assert_eq!(ledger.missing(), [id(0)]);
    }

    #[test]
    fn a_second_copy_without_the_mark_is_seen() {
        // The first flagged or not, seen by one consumer or by two.
        for (first, in_order, wrongs) in [(true, true, 1), (false, true, 1), (false, false, 1), (true, false, 0)] {
            let mut ledger = ledger(1);
            ledger.delivered(id(0), first, in_order);
            ledger.delivered(id(0), false, in_order);
            assert_eq!(ledger.violations().len(), wrongs);
        }
    }

    #[test]
    fn a_wrong_order_is_seen() {
        let mut ledger = ledger(3);
        ledger.delivered(id(1), false, true);
        ledger.delivered(id(0), true, true);
        assert_eq!(ledger.violations().len(), 1);
    }

    #[test]
    fn a_message_nobody_published_is_seen() {
        let mut ledger = ledger(1);
        ledger.delivered(id(1), false, true);
        ledger.confirmed(id(1));
        assert_eq!(ledger.violations().len(), 2);
    }
}
