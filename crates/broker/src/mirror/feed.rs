//! The leader's side of a mirror that catches up.
//!
//! ```text
//!   Surveying --the store's sequences--> Sending --nothing missing--> Joining --seat in the view--> gone
//!   (batches wait)                       (backlog and batches)        (nothing completes without it)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::Time;
use store::{Batch, Seq};

use super::effects::Effects;
use super::leader::Care;
use super::operation::{self, Sessions};
use super::packet::Packet;
use super::runs::Runs;
use crate::id::QueueId;
use crate::metadata::ViewChange;
use crate::mutant::{Mutant, breaks};
use crate::queue::{Load, horizon_key, level_key};

/// Bytes of backlog on the way to one mirror.
const WINDOW_BYTES: usize = 4 << 20;
/// A mirror this far behind with live batches starts over.
const BEHIND_BYTES_MAX: usize = 64 << 20;
/// A mirror that is behind by fewer steps takes its place in the ring.
const STEPS_BEHIND_MAX: usize = 1000;
/// Bytes of one read of the store.
const LOAD_BYTES: usize = 1 << 20;
/// The same while the queue is in use, when only one part of the backlog is on its way.
const GENTLE_LOAD_BYTES: usize = 128 << 10;
/// A seat that was refused is proposed again after this time.
const PROPOSE_AGAIN: Duration = Duration::from_secs(2);

/// A step on its way.
#[derive(Debug)]
struct Sent {
    number: u64,
    bytes: usize,
    /// The publication of the ring that it is, for batches of the queue.
    publication: Option<u64>,
}

/// A batch of the queue: the operation, its publication, and what it removes.
type Waiting = (Bytes, u64, Vec<(u8, Seq, Seq)>);

/// See the file's head.
#[derive(Debug)]
pub(super) struct Feed {
    queue: QueueId,
    node: NodeId,
    /// Which attempt of the mirror this is.
    pub(super) id: u64,
    held: Vec<(u8, Runs)>,
    /// What is known of publishers, to be told behind the messages that it speaks of: a mirror that leads alone before
    /// it has them would take what it is sent again for known, and confirm what nobody has. While it is not told, the
    /// batches that go past are silent, and what they change is added here.
    sessions: Sessions,
    has_told: bool,
    /// The last publication before the feed.
    begun_at: u64,
    /// Batches that wait for the survey.
    waiting: Option<Vec<Waiting>>,
    missing: BTreeMap<u8, Runs>,
    next: u64,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    /// The last publication that the mirror has stored, once it has all of the backlog.
    has: u64,
    /// Steps of the backlog that the mirror has not stored.
    backlog_steps: usize,
    loading: bool,
    /// Whether the backlog is sent, or only what happens from now on.
    pub(super) sends_backlog: bool,
    /// Nothing completes without this mirror.
    pub(super) joining: bool,
    /// A seat is proposed, and nobody knows the outcome.
    proposed: bool,
    propose_after: Time,
    /// It was told its place in the ring: it gets no more steps, and once it has stored those that it was
    /// sent, the ring speaks for it.
    pub(super) welcomed: bool,
    pub(super) held_something: bool,
    pub(super) messages_sent: u64,
    batch_messages: usize,
    per_second: Option<NonZeroU64>,
    /// Nothing of the backlog is read before this.
    load_after: Time,
    /// Since when a part is on its way after which the feed rests for as long.
    gentle_since: Option<Time>,
}

impl Feed {
    pub(super) fn new(
        queue: QueueId,
        node: NodeId,
        id: u64,
        held: Vec<(u8, Runs)>,
        sessions: Sessions,
        last_publication: u64,
        care: Care,
    ) -> Feed {
        let held_something = held.iter().any(|(_, runs)| !runs.is_empty());
        Feed {
            queue,
            node,
            id,
            held,
            sessions,
            has_told: false,
            begun_at: last_publication,
            waiting: Some(Vec::new()),
            missing: BTreeMap::new(),
            next: 1,
            sent: VecDeque::new(),
            sent_bytes: 0,
            has: last_publication,
            backlog_steps: 0,
            loading: false,
            sends_backlog: care.automatic,
            joining: false,
            proposed: false,
            propose_after: Time::START,
            welcomed: false,
            held_something,
            messages_sent: 0,
            batch_messages: care.batch_messages,
            per_second: care.backlog_per_second,
            load_after: Time::START,
            gentle_since: None,
        }
    }

    pub(super) fn set_care(&mut self, care: Care) {
        self.batch_messages = care.batch_messages;
        self.per_second = care.backlog_per_second;
    }

    /// Messages that the mirror lacks; `None` while that is not known.
    pub(super) fn messages_left(&self) -> Option<u64> {
        self.waiting.is_none().then(|| self.missing.values().map(Runs::len).sum())
    }

    /// A batch of the queue, as the ring got it. False: the mirror is too far behind.
    pub(super) fn batch(
        &mut self,
        operation: &Bytes,
        publication: u64,
        removed: &[(u8, Seq, Seq)],
        out: &mut Effects,
    ) -> bool {
        if self.welcomed {
            return true;
        }
        if let Some(waiting) = &mut self.waiting {
            self.sent_bytes += operation.len();
            waiting.push((operation.clone(), publication, removed.to_vec()));
        } else {
            self.forget(removed);
            self.pass_on(operation.clone(), publication, out);
            self.tell_if_whole(out);
        }
        self.sent_bytes <= BEHIND_BYTES_MAX + WINDOW_BYTES || breaks(Mutant::FeedWithoutBound)
    }

    fn forget(&mut self, removed: &[(u8, Seq, Seq)]) {
        for (level, first, last) in removed {
            if let Some(missing) = self.missing.get_mut(level) {
                missing.remove(&[(*first, *last)]);
            }
        }
    }

    fn step(&mut self, operation: Bytes, publication: Option<u64>, out: &mut Effects) {
        let number = self.next;
        self.next += 1;
        self.sent_bytes += operation.len();
        self.backlog_steps += usize::from(publication.is_none());
        self.sent.push_back(Sent { number, bytes: operation.len(), publication });
        out.to_peers.push((self.node, Packet::Step { feed: self.id, number, operation }));
    }

    /// A batch of the queue.
    fn pass_on(&mut self, operation: Bytes, publication: u64, out: &mut Effects) {
        let silenced = (!self.has_told).then(|| operation::without_sessions(&operation)).flatten();
        let (operation, sessions) = silenced.unwrap_or((operation, Sessions::new()));
        self.sessions.extend(sessions);
        self.step(operation, Some(publication), out);
    }

    /// Tells what is known of publishers, once nothing of the backlog is missing.
    fn tell_if_whole(&mut self, out: &mut Effects) {
        if self.messages_left() == Some(0) {
            self.tell_sessions(out);
        }
    }

    /// Everything up to this publication is complete. Once all that was before the feed is, every seat has it, and a
    /// mirror that has none, or may get none, can be told: otherwise nothing would be complete without it. Who is
    /// promoted without being in sync then takes nothing twice.
    pub(super) fn completed(&mut self, completed: u64, out: &mut Effects) {
        if self.waiting.is_none() && completed > self.begun_at {
            self.tell_sessions(out);
        }
    }

    fn tell_sessions(&mut self, out: &mut Effects) {
        if !std::mem::replace(&mut self.has_told, true) {
            let sessions = std::mem::take(&mut self.sessions);
            self.step(operation::encode(Batch::new().as_bytes(), &sessions), None, out);
        }
    }

    /// What the leader's store held when the feed began.
    pub(super) fn surveyed(
        &mut self,
        live: Vec<(u8, Runs)>,
        note: Option<(Seq, Bytes)>,
        late: Option<Sessions>,
        out: &mut Effects,
    ) {
        let Some(waiting) = self.waiting.take() else { return };
        self.sent_bytes = 0;
        let mut surplus = Batch::new();
        if breaks(Mutant::WipeBeforeRefill) {
            for (level, held) in std::mem::take(&mut self.held) {
                surplus.remove(level_key(self.queue, level), &held.iter().collect::<Vec<_>>());
            }
        }
        for (level, held) in &self.held {
            let ours = live.iter().find(|(l, _)| l == level).map(|(_, runs)| runs.clone()).unwrap_or_default();
            let runs: Vec<(Seq, Seq)> = held.without(&ours).iter().collect();
            if !breaks(Mutant::KeepSurplus) {
                surplus.remove(level_key(self.queue, *level), &runs);
            }
        }
        // Who leads next has to know whether deliveries have begun.
        surplus.forget(horizon_key(self.queue));
        if let Some((seq, note)) = note {
            surplus.enqueue(horizon_key(self.queue), seq, &[&note]);
        }
        for (level, ours) in live {
            let none = Runs::default();
            let held = self.held.iter().find(|(l, _)| *l == level).map_or(&none, |(_, runs)| runs);
            self.missing.insert(level, ours.without(held));
        }
        self.held = Vec::new();
        let sessions = match late {
            Some(late) => late,
            None if self.messages_left() == Some(0) || breaks(Mutant::SessionsAheadOfBacklog) => {
                self.has_told = true;
                std::mem::take(&mut self.sessions)
            }
            None => Sessions::new(),
        };
        self.step(operation::encode(surplus.as_bytes(), &sessions), None, out);
        for (operation, publication, removed) in waiting {
            self.forget(&removed);
            if !breaks(Mutant::DropWaitingBatches) {
                self.pass_on(operation, publication, out);
            }
        }
        self.tell_if_whole(out);
    }

    /// Asks for the next part of the backlog, or for a place in the ring of the view of this epoch. `in_use`: so that
    /// clients of the queue hardly notice, disks and links are theirs for half of the time.
    pub(super) fn pump(&mut self, now: Time, epoch: u64, completed: u64, in_use: bool, out: &mut Effects) {
        if self.waiting.is_some() || self.loading || self.welcomed {
            return;
        }
        let in_use = in_use && !breaks(Mutant::FeedAtFullSpeed);
        if self.backlog_steps == 0
            && let Some(since) = self.gentle_since.take()
        {
            self.load_after = self.load_after.max(now + now.since(since));
        }
        let has_room = if in_use { self.backlog_steps == 0 } else { self.sent_bytes < WINDOW_BYTES };
        let next = self.missing.iter().find_map(|(level, runs)| Some((*level, runs.first()?)));
        match next {
            Some((level, from)) if self.sends_backlog && has_room && now >= self.load_after => {
                self.loading = true;
                self.gentle_since = in_use.then_some(now);
                let key = level_key(self.queue, level);
                let most = if in_use { GENTLE_LOAD_BYTES } else { LOAD_BYTES };
                // Small enough for several in a second.
                let share = self.per_second.map_or(most as u64, |bytes| bytes.get() / 8 + 1);
                let bytes = most.min(usize::try_from(share).unwrap_or(most));
                let load = Load { key, from, messages: self.batch_messages, bytes };
                out.loads.push((self.node, self.id, load));
            }
            Some(_) => {}
            None if !self.joining => self.joining = self.sent.len() <= STEPS_BEHIND_MAX && self.sent_bytes < WINDOW_BYTES,
            None => {
                if !self.proposed && now >= self.propose_after && self.has().is_some_and(|has| has >= completed) {
                    self.proposed = true;
                    out.proposals.push((epoch, ViewChange::InSync(self.node)));
                }
            }
        }
    }

    /// When the feed has rested, if it rests.
    pub(super) fn rests_until(&self) -> Option<Time> {
        (self.sends_backlog && !self.loading && self.backlog_steps == 0).then_some(self.load_after)
    }

    /// Part of the backlog, from `from` on.
    pub(super) fn loaded(&mut self, now: Time, level: u8, messages: &[(Seq, Bytes)], out: &mut Effects) {
        self.loading = false;
        let Some(missing) = self.missing.get_mut(&level) else { return };
        let Some((last, _)) = messages.last() else {
            // Nothing is there any more.
            *missing = Runs::default();
            self.tell_if_whole(out);
            return;
        };
        let mut batch = Batch::new();
        for (seq, payload) in messages.iter().filter(|(seq, _)| missing.contains(*seq) || breaks(Mutant::FeedTheRemoved)) {
            batch.enqueue(level_key(self.queue, level), *seq, &[payload]);
            self.messages_sent += 1;
        }
        missing.drop_up_to(*last);
        if !batch.is_empty() {
            if let Some(per_second) = self.per_second {
                let nanos = batch.len_bytes() as u64 * 1_000_000_000 / per_second;
                self.load_after = now.max(self.load_after) + Duration::from_nanos(nanos);
            }
            self.step(operation::encode(batch.as_bytes(), &Sessions::new()), None, out);
        }
        self.tell_if_whole(out);
    }

    /// The mirror has stored all steps up to this one.
    pub(super) fn stored(&mut self, number: u64) {
        while let Some(first) = self.sent.front().filter(|first| first.number <= number) {
            self.sent_bytes -= first.bytes;
            match first.publication {
                Some(publication) => self.has = self.has.max(publication),
                None => self.backlog_steps -= 1,
            }
            self.sent.pop_front();
        }
    }

    /// The last publication up to which the mirror has stored everything there is; `None` while it lacks
    /// some of the backlog, in which are the publications from before the feed.
    pub(super) fn has(&self) -> Option<u64> {
        if self.is_done() {
            return Some(u64::MAX);
        }
        let whole = self.waiting.is_none() && self.backlog_steps == 0 && self.messages_left() == Some(0);
        (whole || breaks(Mutant::SeatBeforeBacklog)).then_some(self.has)
    }

    /// Whether the ring speaks for the mirror from here on.
    pub(super) fn is_done(&self) -> bool {
        self.welcomed && self.sent.is_empty()
    }

    /// The number of the last step.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Whether a seat is proposed, and nobody knows the outcome.
    pub(super) fn is_proposed(&self) -> bool {
        self.proposed || self.welcomed
    }

    /// Begins again for the same mirror: what was required is required until the outcome of its seat is
    /// known.
    pub(super) fn follow_on(&mut self, before: &Feed) {
        self.joining = before.joining;
        self.proposed = before.proposed;
        self.propose_after = before.propose_after;
    }

    /// Nothing need wait for this mirror any more.
    pub(super) fn wait_no_more(&mut self) {
        self.joining = false;
        self.proposed = false;
    }

    /// The proposal of a seat was refused: whatever made it so, it is proposed again later.
    pub(super) fn refused(&mut self, now: Time) {
        self.proposed = false;
        self.propose_after = now + PROPOSE_AGAIN;
    }
}
