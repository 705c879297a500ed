//! Transactions: publishes and settlements held until commit (AMQP 0-9-1, class tx).
//!
//! As in RabbitMQ, atomic for each queue only: commit-ok says that every publish is as safe as a
//! confirm would say.

use std::sync::Arc;

use amqp::method::tx;
use amqp::{ChannelError, Error};
use store::Seq;

use super::{Channel, Mode, Scope, Waiting};
use crate::id::QueueId;
use crate::message::Message;
use crate::queue::{Publish, Publisher};

#[derive(Debug)]
pub(super) struct HeldPublish {
    pub targets: Arc<[QueueId]>,
    pub message: Message,
    pub mandatory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack,
    Reject { requeue: bool },
}

/// A transaction that is open.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<HeldPublish>,
    settled: Vec<(u64, QueueId, Seq, u32, Verdict)>,
}

impl Transaction {
    pub(super) fn publishes(&self) -> usize {
        self.publishes.len()
    }

    pub(super) fn acks(&self) -> usize {
        self.settled.len()
    }

    pub(super) fn hold(&mut self, publish: HeldPublish) {
        self.publishes.push(publish);
    }

    pub(super) fn settle(&mut self, tag: u64, queue: QueueId, seq: Seq, consumer: u32, verdict: Verdict) {
        self.settled.push((tag, queue, seq, consumer, verdict));
    }
}

impl Channel {
    fn check_transactional(&self) -> Result<(), Error> {
        if self.mode == Mode::Transaction {
            Ok(())
        } else {
            Err(ChannelError::precondition_failed("channel is not transactional").into())
        }
    }

    pub(super) fn tx_commit(&mut self, scope: &mut Scope<'_>) -> Result<(), Error> {
        self.check_transactional()?;
        for held in std::mem::take(&mut self.transaction.publishes) {
            // A queue may have been deleted since the publish: what counts is the commit.
            let queues = &scope.context.tables.queues;
            let targets: Vec<QueueId> =
                held.targets.iter().copied().filter(|id| queues.contains_key(id)).collect();
            self.counters.publish += 1;
            self.routes.count(held.message.exchange(), targets.len());
            if targets.is_empty() {
                self.unroutable(scope, &held.message, held.mandatory);
                continue;
            }
            let number = self.expect(targets.len() as u32);
            for queue in targets {
                let publish = Publish { message: held.message.clone(), number };
                scope.fx.publish(queue, Publisher::Channel(self.key), publish);
            }
        }
        for (_, queue, seq, consumer, verdict) in std::mem::take(&mut self.transaction.settled) {
            self.uncount(consumer);
            self.counters.ack += u64::from(verdict == Verdict::Ack);
            self.settle_now(scope, queue, seq, verdict);
        }
        self.give_turns(scope);
        self.waiting = Some(Waiting::Transaction { refused: false });
        self.transaction_progress(scope)
    }

    /// Answers commit when the fate of every publish is known.
    pub(super) fn transaction_progress(&mut self, scope: &mut Scope<'_>) -> Result<(), Error> {
        let Some(Waiting::Transaction { refused }) = self.waiting else { return Ok(()) };
        if !self.unconfirmed.is_empty() {
            return Ok(());
        }
        self.waiting = None;
        if refused {
            return Err(Error::from(ChannelError::precondition_failed("partial tx completion")).at((90, 20)));
        }
        scope.send(self.key.number, tx::CommitOk {});
        Ok(())
    }

    pub(super) fn tx_rollback(&mut self, scope: &mut Scope<'_>) -> Result<(), Error> {
        self.check_transactional()?;
        self.transaction.publishes.clear();
        let settled = std::mem::take(&mut self.transaction.settled);
        for (tag, queue, seq, consumer, _) in settled {
            let at = scope.context.now;
            self.unacked.insert(tag, super::Held { queue, seq, consumer, at });
        }
        scope.send(self.key.number, tx::RollbackOk {});
        Ok(())
    }
}
