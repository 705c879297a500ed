//! The task of a replica that follows. When it is its turn, it becomes the queue's driver.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use broker::QueueId;
use broker::metadata::Queue as Record;
use broker::mirror::{Effects, Follower, Leader};
use broker::mirror::operation::Sessions;
use broker::queue::QueueEvent;
use cluster::ring::Member;
use stdx::Time;

use crate::clock;
use crate::follow::{forget_copy, leads, level_max, start_leader};
use crate::mailbox::Mailbox;
use crate::mirrors::{self, Mail, care};
use crate::node::{Node, QueueHandle, QueueMail};

/// How a follower begins.
pub(crate) enum Start {
    /// With what its store has; or with nothing, in the first view of its queue.
    Fresh,
    /// It led until now.
    AfterLeading { ring: Option<Member>, sessions: Sessions },
}

/// Starts following a queue. What came in for the replica that this one replaces goes to its mailbox.
pub(crate) fn start(node: &Arc<Node>, record: &Arc<Record>, start: Start, came: impl IntoIterator<Item = QueueMail>) {
    let mailbox = Arc::new(Mailbox::new());
    for mail in came {
        let _ = mailbox.push(mail, 0);
    }
    let handle = Arc::new(QueueHandle::of_queue(Arc::clone(&mailbox), node.peers.next_life()));
    node.mirroring.write().insert(record.id, handle);
    let (now, me, view) = (clock::now(), node.id(), &record.view);
    let first_feed = node.peers.next_life() << 20;
    let mut fx = Effects::default();
    let follower = match start {
        Start::Fresh => {
            let is_new = view.seats.iter().any(|seat| seat.node == me && seat.since == 1);
            Follower::new(now, record.id, me, view, is_new, first_feed, &mut fx)
        }
        Start::AfterLeading { ring, sessions } => {
            Follower::after_leading(now, record.id, me, view, ring, sessions, first_feed, &mut fx)
        }
    };
    let driver = Driver { node: Arc::clone(node), record: Arc::clone(record), follower, mailbox, fx };
    node.run(Box::new(driver).run());
}

struct Driver {
    node: Arc<Node>,
    record: Arc<Record>,
    follower: Follower,
    mailbox: Arc<Mailbox<QueueMail>>,
    fx: Effects,
}

enum Next {
    GoOn,
    /// The queue is deleted, or this node has no part in it any more.
    End { forget: bool },
}

impl Driver {
    async fn run(mut self: Box<Self>) {
        let mut mails = Vec::new();
        self.obey();
        loop {
            self.wait(&mut mails).await;
            let now = clock::now();
            let mut next = Next::GoOn;
            for mail in mails.drain(..) {
                // Its end looks at what has become of the queue after the record that ended it.
                if matches!((&next, &mail), (Next::End { .. }, QueueMail::Record(_))) {
                    continue;
                }
                if let Next::End { forget } = self.take(now, mail) {
                    next = Next::End { forget };
                }
            }
            if let Next::End { forget } = next {
                self.end(forget);
                return;
            }
            self.follower.tick(now, &mut self.fx);
            self.obey();
            if self.follower.can_lead() && self.may_lead() {
                self.lead().await;
                return;
            }
        }
    }

    async fn wait(&self, mails: &mut Vec<QueueMail>) {
        let take = poll_fn(|cx| self.mailbox.poll_take(cx, mails));
        let now = clock::now();
        let mut deadline = self.follower.deadline(now);
        if self.record.view.leader() == self.node.id() {
            let soon = now + Duration::from_millis(20);
            deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
        }
        match deadline {
            None => take.await,
            Some(at) => drop(tokio::time::timeout_at(clock::instant(at), take).await),
        }
    }

    fn take(&mut self, now: Time, mail: QueueMail) -> Next {
        let fx = &mut self.fx;
        match mail {
            QueueMail::Record(record) => return self.record_changed(now, record),
            QueueMail::Mirror(mail) => match mail {
                Mail::Packet(from, packet) => self.follower.receive(now, from, packet, fx),
                Mail::Stored(report) => self.follower.stored(report, fx),
                Mail::Surveyed { feed, held, .. } => self.follower.surveyed(now, feed, held, fx),
                Mail::Reconnected(node) => self.follower.reconnected(now, node, fx),
                Mail::Synchronize(_, done) => drop(done.send(false)),
                Mail::Loaded { .. } | Mail::Refused(..) | Mail::FirstIncomplete(_) | Mail::HandOver(_) | Mail::StepDown(_) => {}
            },
            QueueMail::Event(QueueEvent::NodeLost { .. }) | QueueMail::Recheck => {}
            QueueMail::Event(event) => crate::queue_driver::gone_from_here(&self.node, self.record.id, event),
            QueueMail::Deleted => return Next::End { forget: true },
            QueueMail::Stop(done) => drop(done.send(())),
            QueueMail::Report(_) | QueueMail::Delay(_) | QueueMail::Answered(..) | QueueMail::NotLeader(..) => {}
        }
        Next::GoOn
    }

    fn record_changed(&mut self, now: Time, record: Arc<Record>) -> Next {
        let me = self.node.id();
        self.record = record;
        let view = &self.record.view;
        if !view.is_member(me) {
            return Next::End { forget: !view.holds(me) };
        }
        if !view.is_running() {
            let (name, vhost) = (&self.record.name, &self.record.vhost);
            let tables = self.node.tables.load();
            let leader = tables.leader_name(&self.record);
            tracing::warn!(
                "queue '{name}' in vhost '{vhost}' stops until node {leader} is back: the copy here is not in sync, and its \
                 policy promotes none that is not"
            );
            return Next::End { forget: false };
        }
        self.follower.view_changed(now, view, &mut self.fx);
        Next::GoOn
    }

    fn obey(&mut self) {
        mirrors::obey(&self.node, &self.record, &self.mailbox, &mut self.fx);
    }

    fn may_lead(&self) -> bool {
        mirrors::serve_no_more(&self.node, self.follower.leaders_before())
    }

    /// It is this node's turn: the queue starts from the store.
    async fn lead(self: Box<Self>) {
        let Driver { node, record, follower, mailbox, .. } = *self;
        let found = node.log.survey(vec![(record.id, level_max(&record))]).await.pop();
        // What was written before is reported to the mailbox that closes, and goes on to the next one.
        node.log.settled().await;
        let (ring, sessions) = follower.take_over();
        let _order = node.following.lock();
        node.mirroring.write().remove(&record.id);
        let newest = node.tables.load().queues.get(&record.id).map(Arc::clone);
        let rest = mailbox.close();
        let Some(newest) = newest else { return forget_copy(&node, record.id, level_max(&record)) };
        let Some(found) = found else { return };
        if !leads(node.id(), &newest) {
            mirrors::view_changed(&node, &newest);
            return;
        }
        let care = care(&node, &newest);
        let leader = match ring {
            // The view may have moved on while the store was asked: the driver installs what is newer.
            Some(ring) => Leader::succeed(newest.id, node.id(), &record.view, ring, sessions.clone(), care),
            None => Leader::found(newest.id, node.id(), &newest.view, sessions.clone(), care),
        };
        if newest.view.is_unclean_term() {
            mirrors::warn_of_unclean(&node, &newest);
        } else {
            tracing::info!("queue '{}' in vhost '{}' is led here", newest.name, newest.vhost);
        }
        let rest = rest.into_iter().filter(|mail| matches!(mail, QueueMail::Mirror(_) | QueueMail::Stop(_)));
        let came = std::iter::once(QueueMail::Record(Arc::clone(&newest))).chain(rest);
        start_leader(&node, &newest, &found, (leader, sessions), came);
    }

    fn end(self, forget: bool) {
        let id: QueueId = self.record.id;
        let _order = self.node.following.lock();
        self.node.mirroring.write().remove(&id);
        self.mailbox.close();
        if forget {
            forget_copy(&self.node, id, level_max(&self.record));
        }
        // The view may have changed again meanwhile, or the queue have gone.
        match self.node.tables.load().queues.get(&id) {
            Some(newest) if newest.view.epoch > self.record.view.epoch => mirrors::view_changed(&self.node, newest),
            None if !forget => forget_copy(&self.node, id, level_max(&self.record)),
            _ => {}
        }
    }
}
