//! What a member keeps of one publisher: numbers, and the payloads that are not settled yet.
//!
//! ```text
//!   1 ......... settled | settled + 1 ......... sent ......... received
//!    forgotten          |  pending: kept for the right neighbour
//! ```
//!
//! Invariants: `pending` holds exactly the publications behind `settled` up to `received`;
//! `settled <= sent <= received`; `stored <= received`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::MemberId;
use super::packet::Part;

#[derive(Clone, Debug, Default)]
pub(super) struct Publisher {
    /// Complete everywhere, as far as is known here. For own publications: reported complete.
    pub settled: u64,
    pub pending: VecDeque<Bytes>,
    pub pending_bytes: usize,
    /// As durable here as it must be.
    pub stored: u64,
    /// From the left neighbour, in the installed view: stored by all from the publisher to there.
    pub left_mark: u64,
    /// What the right neighbour was told, since it is the right neighbour or the link is new.
    pub sent: u64,
    pub sent_settled: u64,
    pub sent_mark: u64,
    /// It is in the installed view.
    pub living: bool,
    /// Its death was told, so nothing of it may come any more.
    pub death_told: bool,
}

impl Publisher {
    /// Number of the last publication that is here.
    pub(super) fn received(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// Adds publications that follow what is here.
    pub(super) fn append(&mut self, payloads: &[Bytes]) {
        self.pending_bytes += payloads.iter().map(Bytes::len).sum::<usize>();
        self.pending.extend(payloads.iter().cloned());
    }

    /// Forgets payloads up to `number`, which must be here. True if that was news.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        if number <= self.settled {
            return false;
        }
        assert!(
            number <= self.received(),
            "only what is here can be settled"
        );
        let count = (number - self.settled) as usize;
        for payload in self.pending.drain(..count) {
            self.pending_bytes -= payload.len();
        }
        self.settled = number;
        self.sent = self.sent.max(number);
        true
    }

    /// Forgets what the right neighbour was told: it is another one, or may have lost it.
    pub(super) fn unsend(&mut self) {
        self.sent = self.settled;
        self.sent_settled = 0;
        self.sent_mark = 0;
    }

    /// Up to which number everybody from the publisher to here has stored it, in this view. The
    /// publisher waits for itself when the mark comes back, so it begins with the right neighbour.
    /// The dead have no marks; the phases are for them.
    pub(super) fn mark(&self, is_own: bool, is_left: bool) -> u64 {
        match (is_own || !self.living, is_left) {
            (true, _) => 0,
            (false, true) => self.stored,
            (false, false) => self.stored.min(self.left_mark),
        }
    }

    /// Takes everything the right neighbour was not told yet. To the publisher itself, of that the
    /// mark alone.
    pub(super) fn part(&mut self, id: MemberId, mark: u64, to_publisher: bool) -> Part {
        let mut part = Part {
            publisher: id,
            mark: if mark > self.sent_mark { mark } else { 0 },
            ..Part::default()
        };
        self.sent_mark = self.sent_mark.max(mark);
        if to_publisher {
            return part;
        }
        if self.settled > self.sent_settled {
            part.settled = self.settled;
            self.sent_settled = self.settled;
        }
        if self.sent < self.received() {
            part.first = self.sent + 1;
            let from = (self.sent - self.settled) as usize;
            part.payloads = self.pending.range(from..).cloned().collect();
            self.sent = self.received();
        }
        part
    }

    /// All of it, for a handover.
    pub(super) fn whole(&self, id: MemberId) -> Part {
        Part {
            publisher: id,
            settled: self.settled,
            mark: 0,
            first: if self.pending.is_empty() {
                0
            } else {
                self.settled + 1
            },
            payloads: self.pending.iter().cloned().collect(),
            death_told: self.death_told,
        }
    }

    /// A newcomer's copy of what was handed over. Nothing counts as stored.
    pub(super) fn handed(part: Part) -> Publisher {
        let mut publisher = Publisher {
            settled: part.settled,
            sent: part.settled,
            death_told: part.death_told,
            ..Publisher::default()
        };
        publisher.append(&part.payloads);
        publisher
    }
}
