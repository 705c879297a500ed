//! The task that keeps delayed messages until they are due.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use broker::delay::{DELAY_ID, DELAY_KEY, Delayed, Delays};
use broker::exchange::{Routing, route};
use broker::queue::{ChannelEvent, Publish, Publisher, QueueEvent};
use store::{Batch, Seq};

use crate::clock;
use crate::log_writer::{Job, Receipt};
use crate::mailbox::Mailbox;
use crate::node::{ConnectionMail, Node, QueueHandle, QueueMail};
use crate::queue_driver::send;

/// What comes in: a message, its publisher and its number.
pub(crate) type Entry = (Delayed, Publisher, u64);

/// Starts the task.
pub(crate) fn start(node: &Arc<Node>, delays: Delays) {
    let mailbox = Arc::new(Mailbox::new());
    node.doors.write().insert(DELAY_ID, Arc::new(QueueHandle::of_queue(Arc::clone(&mailbox), 0)));
    let driver =
        Driver { node: Arc::clone(node), delays, mailbox, leaving: HashMap::new(), batch: Batch::new(), fresh: false };
    node.run(driver.run());
}

struct Driver {
    node: Arc<Node>,
    delays: Delays,
    mailbox: Arc<Mailbox<QueueMail>>,
    /// Due messages: targets that do not hold them yet.
    leaving: HashMap<u64, usize>,
    batch: Batch,
    /// The batch holds messages that came in.
    fresh: bool,
}

impl Driver {
    async fn run(mut self) {
        let mut mails = Vec::new();
        loop {
            let take = poll_fn(|cx| self.mailbox.poll_take(cx, &mut mails));
            match self.delays.deadline(clock::now(), clock::unix_millis()) {
                None => take.await,
                Some(at) => drop(tokio::time::timeout_at(clock::instant(at), take).await),
            }
            for mail in mails.drain(..) {
                self.take(mail);
            }
            for (seq, delayed) in self.delays.due(clock::unix_millis()) {
                self.release(seq, &delayed);
            }
            if !self.batch.is_empty() {
                let report = self.fresh.then(|| (Arc::clone(&self.mailbox), Receipt::Ticket(self.delays.ticket())));
                self.fresh = false;
                self.node.log.submit(Job::Append { batch: std::mem::take(&mut self.batch), report });
            }
        }
    }

    fn take(&mut self, mail: QueueMail) {
        match mail {
            QueueMail::Delay((delayed, from, number)) => {
                self.delays.take(delayed, from, number, &mut self.batch);
                self.fresh = true;
            }
            QueueMail::Event(QueueEvent::Stored { ticket }) => {
                for (from, number) in self.delays.stored(ticket) {
                    self.confirm(from, number);
                }
            }
            QueueMail::Event(QueueEvent::DeadLettered { numbers }) => {
                for number in numbers {
                    self.held(number);
                }
            }
            QueueMail::Stop(done) => drop(done.send(())),
            QueueMail::Event(_)
            | QueueMail::Report(_)
            | QueueMail::Record(_)
            | QueueMail::Answered(..)
            | QueueMail::Recheck
            | QueueMail::NotLeader(..)
            | QueueMail::Mirror(_)
            | QueueMail::Deleted => {}
        }
    }

    fn confirm(&self, from: Publisher, number: u64) {
        if let Publisher::Channel(channel) = from
            && let Some(handle) = self.node.connection(channel.connection)
        {
            let event = ChannelEvent::Confirmed { channel, runs: vec![(number, number)] };
            let _ = handle.mailbox.push(ConnectionMail::Channel(event), 0);
        }
    }

    /// One target holds a message; when all do, it leaves the log.
    fn held(&mut self, number: u64) {
        let Some(left) = self.leaving.get_mut(&number) else { return };
        *left -= 1;
        if *left == 0 {
            self.leaving.remove(&number);
            self.batch.remove(DELAY_KEY, &[(Seq(number), Seq(number))]);
        }
    }

    /// A message is due: it goes where its exchange routes it today.
    fn release(&mut self, seq: Seq, delayed: &Delayed) {
        let tables = self.node.tables.load_full();
        let mut targets = Vec::new();
        let exchange = std::str::from_utf8(delayed.message.exchange()).unwrap_or_default();
        if let Some(vhost) = tables.vhosts.get(&delayed.vhost)
            && let Some(exchange) = vhost.exchanges.get(exchange)
        {
            let view = delayed.message.view();
            let keys = [delayed.message.routing_key()];
            let routing = Routing { keys: &keys, properties: &view, random: clock::random() };
            route(&tables, vhost, exchange, &routing, &mut targets);
        }
        if targets.is_empty() {
            self.batch.remove(DELAY_KEY, &[(seq, seq)]);
            return;
        }
        self.leaving.insert(seq.0, targets.len());
        for target in targets {
            let messages = vec![Publish { message: delayed.message.clone(), number: seq.0 }];
            send(&self.node, target.id, QueueEvent::Publish { from: Publisher::Queue(DELAY_ID), messages });
        }
    }
}
