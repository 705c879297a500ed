//! Partners of a queue on other nodes, and after a change of leader.
//!
//! * An agent publishes in a *session*: by rising numbers, keeping what is not reported, and sending it
//!   again to whoever leads next. A number is taken once: what is not above the last taken is reported
//!   without being taken, unless it was refused. So none may be taken before those in front of it: where
//!   they came too early, and were sent back, what follows them is passed over and comes again with them.
//! * Fewer copies are in sync than the policy wants (`ha-min-in-sync`): publishes are refused, and those that
//!   were taken before are reported when there are enough again.
//! * The link to a node breaks: its channels' consumers go and what they held comes back. They ask again
//!   by themselves when the link is there.
//! * An acknowledgement may come for a delivery of an earlier leader, or from before the link broke: the
//!   message goes wherever it is now. A second one finds nothing.

use std::collections::{BTreeMap, BTreeSet};

use cluster::metadata_log::NodeId;
use store::Seq;

use super::event::{ChannelEvent, ChannelKey, Consume, Publish, Publisher, QueueEffects};
use super::ready::Entry;
use super::{EPOCH_SHIFT, Now, Queue, level_key, push_run};
use crate::id::ConnectionId;
use crate::mutant::{Mutant, breaks};

/// What is known of one agent's publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The highest number taken or refused.
    pub last: u64,
    /// Refused numbers of which the agent may not have heard.
    pub refused: BTreeSet<u64>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    sessions: BTreeMap<ConnectionId, Session>,
    /// Acknowledgements may come for what is not held by who sends them.
    expects_late_acks: bool,
    /// Acknowledged late while the message was on disk: it goes when it is read.
    acked_on_disk: BTreeSet<Seq>,
    short_of_copies: bool,
    /// What is stored, and not reported for want of copies.
    withheld: u64,
}

impl Elsewhere {
    pub(super) fn is_short_of_copies(&self) -> bool {
        self.short_of_copies
    }

    /// Whether the report of what is stored up to this ticket waits for copies.
    pub(super) fn withholds(&mut self, ticket: u64) -> bool {
        if self.short_of_copies {
            self.withheld = self.withheld.max(ticket);
        }
        self.short_of_copies
    }
}

impl Queue {
    /// Whether fewer copies are in sync than the policy wants.
    pub fn set_short_of_copies(&mut self, short: bool) {
        let was_short = std::mem::replace(&mut self.elsewhere.short_of_copies, short);
        if was_short && !short {
            let ticket = std::mem::take(&mut self.elsewhere.withheld);
            self.stored(ticket);
        }
    }

    /// Whether everything up to this number of a session has been here.
    pub(super) fn has_heard(&self, session: ConnectionId, number: u64) -> bool {
        number == 0
            || breaks(Mutant::TakeWhatFollows)
            || self.elsewhere.sessions.get(&session).is_some_and(|known| known.last >= number)
    }

    pub(super) fn publish_of_session(
        &mut self,
        now: Now,
        session: ConnectionId,
        settled: u64,
        again: bool,
        messages: Vec<Publish>,
        out: &mut QueueEffects,
    ) {
        self.begin_publishes(now, messages.len());
        let from = Publisher::Agent(session);
        let known = self.elsewhere.sessions.entry(session).or_default();
        known.refused = known.refused.split_off(&(settled + 1));
        let mut known = std::mem::take(known);
        for publish in messages {
            let number = publish.number;
            if number <= known.last {
                self.report_known(from, number, known.refused.contains(&number));
                continue;
            }
            known.last = number;
            if self.has_room(now, &publish, out) {
                self.enqueue(now, from, publish, again, out);
            } else {
                known.refused.insert(number);
                self.refuse(from, publish);
            }
        }
        if self.replicated {
            out.sessions.insert(session, known.clone());
        }
        self.elsewhere.sessions.insert(session, known);
    }

    /// A publish that came before: it is safe when everything written so far is.
    fn report_known(&mut self, from: Publisher, number: u64, refused: bool) {
        if refused {
            self.refused.push((from, vec![number]));
        } else {
            push_run(&mut self.safe_when_stored, from, number);
            self.reports_earlier = true;
        }
    }

    /// The sessions as a successor must know them.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<ConnectionId, Session> {
        &self.elsewhere.sessions
    }

    /// From now on everything is written down, for the mirrors to have it: also what would only stay in
    /// memory. Turning it off concerns what comes later.
    pub fn replicate(&mut self, on: bool, out: &mut QueueEffects) {
        if !on || std::mem::replace(&mut self.replicated, on) {
            self.replicated = on;
            return;
        }
        let id = self.id;
        let mut write = |level: usize, entry: &mut Entry| {
            if !std::mem::replace(&mut entry.stored, true) {
                let payload = [&entry.expires_at.to_be_bytes(), entry.message.as_bytes()];
                out.batch.enqueue(level_key(id, level as u8), entry.seq, &payload);
            }
        };
        for (level, ready) in self.levels.iter_mut().enumerate() {
            ready.in_memory_mut().for_each(|entry| write(level, entry));
        }
        let levels = self.levels.len();
        self.unacked.for_each_mut(|held| {
            let level = usize::from(held.entry.message.priority()).min(levels - 1);
            write(level, &mut held.entry);
        });
        out.sessions.clone_from(&self.elsewhere.sessions);
    }

    /// Another node leads: consumers are told to ask there, and publishers that have no agent hear that
    /// nobody can tell what became of what is not reported.
    pub fn leave_to_successor(&mut self, out: &mut QueueEffects) {
        self.flush_outgoing(out);
        let channels: BTreeSet<ConnectionId> = self.consumers.iter().map(|c| c.key.channel.connection).collect();
        for connection in channels {
            let channel = ChannelKey { connection, number: 0, life: 0 };
            out.to_connections.push((connection, ChannelEvent::QueueMoved { channel, queue: self.id }));
        }
        let waiting = std::mem::take(&mut self.waiting).into_iter().flat_map(|(_, reports)| reports);
        for (publisher, runs) in waiting.chain(std::mem::take(&mut self.safe_when_stored)) {
            if let Publisher::Channel(channel) = publisher {
                let numbers = runs.iter().flat_map(|(first, last)| *first..=*last).collect();
                out.to_connections.push((channel.connection, ChannelEvent::Rejected { channel, numbers }));
            }
        }
    }

    /// No message has this sequence yet, and none that comes has a lower one.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.next_seq)
    }

    /// The same leader goes on in a term of its own: another may have gone on in the one before.
    pub fn begin_term(&mut self, led_since: u64) {
        self.led_since = led_since;
        self.next_seq = self.next_seq.max(led_since << EPOCH_SHIFT);
    }

    /// Takes over from an earlier leader: what it knew of sessions, and that its deliveries may still be
    /// acknowledged.
    pub fn succeed(&mut self, sessions: BTreeMap<ConnectionId, Session>) {
        self.elsewhere.sessions = sessions;
        self.elsewhere.expects_late_acks = true;
    }

    /// A consumer that was there before the queue moved, or the link broke. It is there still if its node
    /// only took somebody else for the leader in between.
    pub(super) fn consume_again(&mut self, now: Now, ask: Consume, out: &mut QueueEffects) {
        let key = ask.consumer;
        let there = self.consumers.contains(key);
        let taken = !there && (self.consumers.has_exclusive() || (ask.exclusive && !self.consumers.is_empty()));
        if there {
            self.consumers.renew(key, ask.prefetch, ask.limited);
        } else if !taken {
            self.last_used = now.time;
            self.had_consumer = true;
            self.elsewhere.expects_late_acks = true;
            self.consumers.add(ask);
        }
        let event = ChannelEvent::Resubscribed { channel: key.channel, number: key.number, accepted: !taken };
        out.to_connections.push((key.channel.connection, event));
    }

    pub(super) fn node_lost(&mut self, now: Now, node: NodeId, out: &mut QueueEffects) {
        self.flush_outgoing(out);
        self.elsewhere.expects_late_acks = true;
        let mut channels: BTreeSet<ChannelKey> = self.consumers.iter().map(|c| c.key.channel).collect();
        channels.extend(self.unacked.iter().map(|(_, held)| held.channel));
        channels.extend(self.horizon.waiting_channels());
        channels.retain(|channel| channel.connection.node() == node);
        let keeps_consumers = !self.consumers.is_empty();
        for channel in channels {
            self.give_back_all(channel);
        }
        if keeps_consumers && self.consumers.is_empty() {
            self.last_used = now.time;
            self.seems_abandoned(now);
        }
    }

    /// Forgets a channel and takes back all it held.
    fn give_back_all(&mut self, channel: ChannelKey) {
        self.consumers.remove_channel(channel);
        self.horizon.forget_channel(channel);
        let held: Vec<u64> =
            self.unacked.iter().filter(|(_, held)| held.channel == channel).map(|(seq, _)| seq).collect();
        for seq in held {
            if let Some(entry) = self.release(channel, Seq(seq)) {
                self.requeue(entry);
            }
        }
    }

    /// The message of an acknowledgement that comes late, from wherever it is.
    pub(super) fn late_ack(&mut self, seq: Seq) -> Option<Entry> {
        if !self.elsewhere.expects_late_acks || !self.horizon.was_delivered(seq) {
            return None;
        }
        assert!(!breaks(Mutant::StumbleOverLateAcks), "nobody here delivered {seq:?}");
        if let Some(channel) = self.unacked.get_mut(seq.0).map(|held| held.channel) {
            return self.release(channel, seq);
        }
        let found = self.levels.iter_mut().find_map(|level| level.take(seq));
        if found.is_none() && self.levels.iter().any(|l| l.paged.messages > 0 && seq.0 >= l.paged.next) {
            self.elsewhere.acked_on_disk.insert(seq);
        }
        found
    }

    /// Of what was just read into a level, what was acknowledged meanwhile goes.
    pub(super) fn drop_acked(&mut self, level: usize, last: Seq) {
        if self.elsewhere.acked_on_disk.is_empty() {
            return;
        }
        let later = self.elsewhere.acked_on_disk.split_off(&Seq(last.0 + 1));
        let acked = std::mem::replace(&mut self.elsewhere.acked_on_disk, later);
        for seq in acked {
            match self.levels[level].take(seq) {
                Some(entry) => {
                    self.counters.ack += 1;
                    self.gone(level, &entry);
                }
                // Of another level, whose turn comes.
                None if self.levels.len() > 1 => drop(self.elsewhere.acked_on_disk.insert(seq)),
                None => {}
            }
        }
    }
}
