//! What a broker owes for what it was given: the judge of tests that break things.
//!
//! Publishers and consumers write down what they did and saw. Then:
//! - what was confirmed comes out at least once;
//! - what comes out was put in;
//! - a message is new (`redelivered` not set) at most once; where there is one consumer, only at first:
//!   where there are two, a first copy may have been on its way to one while the other got the second;
//! - messages of one session of a publisher come out in their order, each at its first time. What a consumer
//!   held that has just gone comes later, flagged: see [`Sees`].
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

/// What a consumer sees of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// There are others.
    Part,
    /// It is the only one, and its predecessor may have gone so shortly before that messages were on their way
    /// there: they come back, flagged, behind what has been delivered meanwhile.
    Order,
    /// It has been the only one for long.
    WholeOrder,
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

    /// A message has come out of a queue.
    pub fn delivered(&mut self, id: Id, redelivered: bool, sees: Sees) {
        let Some(message) = self.message(id) else {
            self.violations.push(format!("{id:?} comes out and was never published"));
            return;
        };
        let (before, latest) = (message.known, message.latest);
        message.known |= SEEN | if redelivered { 0 } else { SEEN_AS_NEW };
        message.latest = Some((Instant::now(), redelivered));
        let earlier = if sees == Sees::Part { SEEN_AS_NEW } else { SEEN };
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
        let in_order = match sees {
            Sees::Part => false,
            Sees::Order => !redelivered,
            Sees::WholeOrder => true,
        };
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
        ledger.delivered(id(0), false, Sees::WholeOrder);
        // Delivered before its confirm, and again after a failover.
        ledger.delivered(id(1), false, Sees::WholeOrder);
        ledger.confirmed(id(1));
        ledger.delivered(id(1), true, Sees::WholeOrder);
        // Never confirmed, first seen with the mark.
        ledger.delivered(id(3), true, Sees::WholeOrder);
        assert!(ledger.missing().is_empty());
        assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
        assert_eq!(ledger.counts(), (2, 3, 1));
    }

    #[test]
    fn a_loss_is_seen() {
        let mut ledger = ledger(2);
        ledger.confirmed(id(0));
        ledger.confirmed(id(1));
        ledger.delivered(id(1), false, Sees::Part);
        assert_eq!(ledger.missing(), [id(0)]);
    }

    #[test]
    fn a_second_copy_without_the_mark_is_seen() {
        // The first flagged or not, seen by one consumer or by two.
        use Sees::{Order, Part};
        for (first, sees, wrongs) in [(true, Order, 1), (false, Order, 1), (false, Part, 1), (true, Part, 0)] {
            let mut ledger = ledger(1);
            ledger.delivered(id(0), first, sees);
            ledger.delivered(id(0), false, sees);
            assert_eq!(ledger.violations().len(), wrongs);
        }
    }

    #[test]
    fn a_wrong_order_is_seen() {
        let mut ledger = ledger(3);
        ledger.delivered(id(1), false, Sees::WholeOrder);
        ledger.delivered(id(0), true, Sees::WholeOrder);
        assert_eq!(ledger.violations().len(), 1);
    }

    #[test]
    fn what_a_consumer_that_has_gone_held_may_come_late_if_it_is_flagged() {
        for (redelivered, wrongs) in [(true, 0), (false, 1)] {
            let mut ledger = ledger(2);
            ledger.delivered(id(1), false, Sees::Order);
            ledger.delivered(id(0), redelivered, Sees::Order);
            assert_eq!(ledger.violations().len(), wrongs);
        }
    }

    #[test]
    fn a_message_nobody_published_is_seen() {
        let mut ledger = ledger(1);
        ledger.delivered(id(1), false, Sees::WholeOrder);
        ledger.confirmed(id(1));
        assert_eq!(ledger.violations().len(), 2);
    }
}
