//! The end of a channel, and of a connection: what goes with it is gone when the client hears that it is over.
//!
//! ```text
//! channels close --> auto-delete queues that they consumed from are asked, all at once --> all are gone, or live on --+
//!           \------> a connection's exclusive queues: ConnectionEnded ------------------> committed ------------------+
//!                                                                                          the last words are said <--+
//! ```
//!
//! Queues hear at once that a channel is closed, behind all that the client has said; only the client waits.
//!
//! Invariants:
//! * nothing is read between the end and the last words;
//! * the last words are said when nothing is left to wait for, and after [`CLOSE_WAIT`] in any case;
//! * each ending asks as a channel of number 0 with a life of its own: no answer to another question is taken for
//!   one to it.

use std::collections::BTreeSet;

use amqp::{ConnectionError, Method, ShortStr};
use amqp::method::connection;
use stdx::Time;

use super::{CLOSE_WAIT, Connection, ConnectionEffects, Context, State};
use crate::channel::Channel;
use crate::id::QueueId;
use crate::metadata::Command;
use crate::queue::{ChannelEvent, ChannelKey, ConsumerKey, QueueEvent};

/// Somebody leaves, and waits for what goes with him.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) until: Time,
    /// Queues that have not answered, with the life that asks.
    asked: BTreeSet<(u32, QueueId)>,
    /// The end of the exclusive queues was proposed.
    proposed: bool,
    /// What is said when all of it is gone, on which channel.
    last_words: Vec<(u16, Method)>,
}

impl Connection {
    /// Ends a channel that was taken out. `last_word` follows when what goes with it is gone.
    pub(super) fn leave_channel(&mut self, context: &Context, mut channel: Channel, last_word: Method, fx: &mut ConnectionEffects) {
        fx.channels_closed += 1;
        channel.flush_reports(&mut self.out);
        let queues = channel.auto_delete_queues(&context.tables).collect();
        channel.close(fx);
        self.begin_leave(context, (channel.key.number, last_word));
        self.ask_to_go(queues, fx);
        self.go_if_gone(context, fx);
    }

    /// Ends all channels and then the connection, with `last_word`: at once, if it does not wait.
    pub(super) fn leave(&mut self, context: &Context, last_word: Method, waits: bool, fx: &mut ConnectionEffects) {
        let consumed = self.channels.values().filter(|_| waits);
        let queues = consumed.flat_map(|channel| channel.auto_delete_queues(&context.tables)).collect();
        self.end_channels(fx);
        self.state = State::Ending;
        self.begin_leave(context, (0, last_word));
        if waits {
            self.ask_to_go(queues, fx);
            self.propose_end(fx);
            self.go_if_gone(context, fx);
        } else {
            self.go(context, fx);
        }
    }

    fn begin_leave(&mut self, context: &Context, last_word: (u16, Method)) {
        let until = context.now + CLOSE_WAIT;
        let new = || Leave { until, asked: BTreeSet::new(), proposed: false, last_words: Vec::new() };
        let leave = self.leaving.get_or_insert_with(new);
        leave.last_words.push(last_word);
    }

    /// Who cancels a consumer of a queue that is about to delete itself is answered when it is gone. The consumer
    /// is none that there is: those that there were went with their channel.
    fn ask_to_go(&mut self, queues: BTreeSet<QueueId>, fx: &mut ConnectionEffects) {
        let Some(leave) = &mut self.leaving else { return };
        self.lives += 1;
        let channel = ChannelKey { connection: self.id, number: 0, life: self.lives };
        let consumer = ConsumerKey { channel, number: 0 };
        for queue in queues {
            leave.asked.insert((channel.life, queue));
            fx.tell(queue, QueueEvent::Cancel { consumer, reply: true });
        }
    }

    /// Behind a command of one of its channels: that may be about a queue that must go, too.
    fn propose_end(&mut self, fx: &mut ConnectionEffects) {
        let Some(leave) = &mut self.leaving else { return };
        if self.owns_exclusive && !self.proposing {
            leave.proposed = true;
            self.proposing = true;
            fx.propose = Some(Command::ConnectionEnded { connection: self.id });
        }
    }

    /// What was proposed is answered while the connection ends.
    pub(super) fn end_proposed(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        if self.leaving.as_ref().is_some_and(|leave| leave.proposed) {
            self.owns_exclusive = false;
        }
        self.propose_end(fx);
        self.go_if_gone(context, fx);
    }

    /// Whether the event is a queue's answer to who leaves; takes it.
    pub(super) fn takes_leave(&mut self, event: &ChannelEvent) -> bool {
        let ChannelEvent::Replied { channel, queue, .. } = event else { return false };
        if let Some(leave) = &mut self.leaving {
            leave.asked.remove(&(channel.life, *queue));
        }
        channel.number == 0
    }

    /// Says the last words, if nothing is waited for any more.
    pub(super) fn go_if_gone(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let owns = self.state == State::Ending && self.owns_exclusive;
        if self.leaving.as_ref().is_some_and(|leave| leave.asked.is_empty()) && !owns {
            self.go(context, fx);
        }
    }

    /// Says the last words.
    pub(super) fn go(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let Some(leave) = self.leaving.take() else { return };
        for (number, word) in leave.last_words {
            self.send(number, &word);
            match word {
                Method::ChannelClose(_) => drop(self.closing.insert(number, ())),
                Method::ConnectionClose(_) => {
                    self.state = State::Closing { until: context.now + CLOSE_WAIT };
                    // A blocked connection must still be heard saying close-ok.
                    self.blocked = false;
                }
                Method::ConnectionCloseOk(_) => {
                    self.state = State::Closed;
                    self.left = true;
                }
                _ => {}
            }
        }
        if !self.is_running() {
            self.forget_exclusive(fx);
        }
    }

    /// Exclusive queues that are still there go, and nobody waits for it.
    pub(super) fn forget_exclusive(&mut self, fx: &mut ConnectionEffects) {
        if std::mem::take(&mut self.owns_exclusive) {
            fx.propose_and_forget.push(Command::ConnectionEnded { connection: self.id });
        }
    }
}

/// The last word of a connection that is closed for a reason of ours.
pub(super) fn close_method(error: &ConnectionError) -> Method {
    connection::Close {
        reply_code: error.code.value(),
        reply_text: ShortStr::truncated(&error.text),
        class_id: error.class_id,
        method_id: error.method_id,
    }
    .into()
}
