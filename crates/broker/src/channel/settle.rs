//! Acks, nacks, rejects and recover: delivery tags back to queues.

use amqp::method::basic;
use amqp::{ChannelError, ConnectionError, Error};
use store::Seq;

use super::transaction::Verdict;
use super::{Channel, Held, Mode, Scope};
use crate::id::QueueId;
use crate::queue::QueueEvent;

impl Channel {
    pub(super) fn ack(&mut self, scope: &mut Scope<'_>, tag: u64, multiple: bool) -> Result<(), Error> {
        let count = self.take_tags(scope, tag, multiple, Verdict::Ack)?;
        // What a transaction holds counts at its commit.
        if self.mode != Mode::Transaction {
            self.counters.ack += count;
        }
        self.give_turns(scope);
        Ok(())
    }

    pub(super) fn nack(
        &mut self,
        scope: &mut Scope<'_>,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Error> {
        self.take_tags(scope, tag, multiple, Verdict::Reject { requeue })?;
        self.give_turns(scope);
        Ok(())
    }

    /// Settles one tag, or all up to it (0 means all there are); answers how many.
    fn take_tags(
        &mut self,
        scope: &mut Scope<'_>,
        tag: u64,
        multiple: bool,
        verdict: Verdict,
    ) -> Result<u64, Error> {
        if !multiple {
            let Some(held) = self.unacked.remove(tag) else { return Err(unknown_tag(tag)) };
            self.settle(scope, tag, held, verdict);
            return Ok(1);
        }
        // As RabbitMQ: the tag itself must be one that is not settled.
        if tag != 0 && self.unacked.get_mut(tag).is_none() {
            return Err(unknown_tag(tag));
        }
        let last = if tag == 0 { u64::MAX - 1 } else { tag };
        let mut taken = Vec::new();
        self.unacked.drain_up_to(last, |tag, held| taken.push((tag, held)));
        if self.mode == Mode::Transaction || verdict != Verdict::Ack {
            for (tag, held) in &taken {
                self.settle(scope, *tag, *held, verdict);
            }
        } else {
            self.ack_runs(scope, &taken);
        }
        Ok(taken.len() as u64)
    }

    /// One event for each queue, sequences gathered into runs.
    fn ack_runs(&mut self, scope: &mut Scope<'_>, taken: &[(u64, Held)]) {
        let mut open: Vec<(QueueId, Vec<(Seq, Seq)>)> = Vec::new();
        for (_, held) in taken {
            self.uncount(held.consumer);
            let runs = match open.iter_mut().rev().find(|(queue, _)| *queue == held.queue) {
                Some((_, runs)) => runs,
                None => {
                    open.push((held.queue, Vec::new()));
                    let Some((_, runs)) = open.last_mut() else { continue };
                    runs
                }
            };
            match runs.last_mut() {
                Some((_, last)) if last.0 + 1 == held.seq.0 => *last = held.seq,
                _ => runs.push((held.seq, held.seq)),
            }
        }
        for (queue, runs) in open {
            scope.fx.tell(queue, QueueEvent::Ack { channel: self.key, runs });
        }
    }

    fn settle(&mut self, scope: &mut Scope<'_>, tag: u64, held: Held, verdict: Verdict) {
        if self.mode == Mode::Transaction {
            self.transaction.settle(tag, held.queue, held.seq, held.consumer, verdict);
        } else {
            self.uncount(held.consumer);
            self.settle_now(scope, held.queue, held.seq, verdict);
        }
    }

    pub(super) fn settle_now(&mut self, scope: &mut Scope<'_>, queue: QueueId, seq: Seq, verdict: Verdict) {
        let channel = self.key;
        let event = match verdict {
            Verdict::Ack => QueueEvent::Ack { channel, runs: vec![(seq, seq)] },
            Verdict::Reject { requeue } => QueueEvent::Reject { channel, seqs: vec![seq], requeue },
        };
        scope.fx.tell(queue, event);
    }

    pub(super) fn recover(&mut self, scope: &mut Scope<'_>, requeue: bool, reply: bool) -> Result<(), Error> {
        if !requeue {
            return Err(ConnectionError::not_implemented("requeue=false").into());
        }
        let mut taken = Vec::new();
        self.unacked.drain(|_, held| taken.push(held));
        for held in taken {
            self.uncount(held.consumer);
            self.settle_now(scope, held.queue, held.seq, Verdict::Reject { requeue: true });
        }
        if reply {
            scope.send(self.key.number, basic::RecoverOk {});
        }
        self.give_turns(scope);
        Ok(())
    }
}

fn unknown_tag(tag: u64) -> Error {
    ChannelError::precondition_failed(format_args!("unknown delivery tag {tag}")).into()
}
