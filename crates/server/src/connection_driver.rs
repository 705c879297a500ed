//! The task of one client connection: socket and mailbox in, socket and mailboxes out.
//!
//! Bytes are read into a buffer that all connections of a thread share; what a frame leaves over is
//! kept by the connection. So an idle connection holds no buffer, and a busy one finds its buffer in
//! the cache. Everything that one wake-up brings is handled before anything is sent on.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::connection::{
    Connection, ConnectionEffects, Context as BrokerContext, Note, OUT_HIGH_WATER, OpenCounts, Peer,
};
use broker::metadata::{Outcome, Refusal};
use broker::queue::QueueEvent;
use broker::{ConnectionId, QueueId};
use stdx::{Lookup, Time};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::clock;
use crate::listing;
use crate::mailbox::{Closed, Mailbox};
use crate::node::{ConnectionHandle, ConnectionMail, Node, ProposeFailure, QueueHandle, QueueMail};
use crate::queue_driver::{gone, left_behind, size_of_event};
use crate::seen;
use crate::traffic::Octets;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Bytes in a queue's mailbox above which its publishers are not read.
const MAILBOX_HIGH_WATER: usize = 4 << 20;
/// Rounds before other tasks get their turn.
const ROUNDS_MAX: usize = 16;
/// An output buffer larger than this is given back when it is empty.
const OUT_KEEP: usize = 64 * 1024;
/// How long a connection that has ended may take to read what was said last, and to hang up.
const LINGER: Duration = Duration::from_secs(2);
/// Queues whose mailboxes are remembered.
const QUEUES_KEEP: usize = 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

type Answer = Pin<Box<dyn Future<Output = Result<Outcome, ProposeFailure>> + Send>>;
type Count = Pin<Box<dyn Future<Output = OpenCounts> + Send>>;

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(node: Arc<Node>, id: ConnectionId, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut driver = Driver::new(node, id, stream, peer);
    let served = std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| driver.poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(())),
    })
    .await;
    if served.is_err() {
        // The hook has told where. This connection ends, the others do not notice.
        tracing::error!("connection {}: the broker failed; the connection is closed", driver.name);
        driver.connection.failed();
    }
    let rest = driver.connection.out.split_off(driver.written.min(driver.connection.out.len()));
    let (eof, has_left) = (driver.eof, driver.connection.has_left());
    if let Ok(stream) = catch_unwind(AssertUnwindSafe(|| driver.end()))
        && !eof
    {
        let ended = async {
            if has_left { see_off(stream, &rest).await } else { hang_up(stream, &rest).await }
        };
        let _ = tokio::time::timeout(LINGER, ended).await;
    }
}

/// The client has said goodbye and gets its answer. It is the one to hang up (AMQP 0-9-1, `connection.close-ok`):
/// some that find the end right behind the answer take it for a failure.
async fn see_off<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, rest: &[u8]) -> std::io::Result<()> {
    stream.write_all(rest).await?;
    stream.flush().await?;
    read_out(&mut stream).await?;
    stream.shutdown().await
}

/// Says the last words and waits for the peer to hang up: a socket that is closed with bytes unread
/// resets the connection, and the peer may never see why.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, rest: &[u8]) -> std::io::Result<()> {
    stream.write_all(rest).await?;
    stream.shutdown().await?;
    read_out(&mut stream).await
}

async fn read_out<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

struct Driver<S> {
    node: Arc<Node>,
    id: ConnectionId,
    name: String,
    stream: S,
    handle: Arc<ConnectionHandle>,
    connection: Connection,
    mailbox: Arc<Mailbox<ConnectionMail>>,
    fx: ConnectionEffects,
    mails: Vec<ConnectionMail>,
    /// Bytes that were read and not consumed.
    partial: Vec<u8>,
    /// `partial` was left because the connection waited, not because a frame is incomplete.
    stalled: bool,
    /// Bytes of `connection.out` that are written.
    written: usize,
    /// The stream may keep bytes back.
    unflushed: bool,
    /// When the connection came to its end.
    closed_at: Option<Time>,
    answer: Option<Answer>,
    /// Other nodes are asked what is open there.
    count: Option<Count>,
    /// A queue that has too much in its mailbox.
    throttle: Option<Arc<QueueHandle>>,
    queues: Lookup<QueueId, Arc<QueueHandle>>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Time>,
    /// Bytes and reads.
    received: (u64, u64),
    sent: (u64, u64),
    /// Bytes that the node's sums have.
    told: Octets,
    eof: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// A connection that has just come. In a box, and not in `serve`: in place it would take its room several times in
    /// each connection's task.
    fn new(node: Arc<Node>, id: ConnectionId, stream: S, peer: Peer) -> Box<Driver<S>> {
        let mailbox = Arc::new(Mailbox::new());
        let handle = Arc::new(ConnectionHandle::new(Arc::clone(&mailbox)));
        node.connections.write().insert(id, Arc::clone(&handle));
        node.counters.connections_created.fetch_add(1, Ordering::Relaxed);
        let limits = Arc::clone(&node.limits);
        let name = format!("{} -> {}", peer.address, peer.host);
        let mut connection = Connection::new(id, limits, peer, clock::random(), clock::now(), clock::unix_millis());
        let alarm = node.alarm.borrow().clone();
        connection.alarm(alarm.as_deref());
        Box::new(Driver {
            node,
            id,
            name,
            stream,
            handle,
            connection,
            mailbox,
            fx: ConnectionEffects::default(),
            mails: Vec::new(),
            partial: Vec::new(),
            stalled: false,
            written: 0,
            unflushed: false,
            closed_at: None,
            answer: None,
            count: None,
            throttle: None,
            queues: Lookup::new(),
            timer: Box::pin(tokio::time::sleep_until(clock::instant(Time::START))),
            timer_at: None,
            received: (0, 0),
            sent: (0, 0),
            told: Octets::default(),
            eof: false,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            let mut progress = self.take_mail(cx);
            progress |= self.take_answer(cx);
            progress |= self.take_count(cx);
            progress |= self.read(cx);
            let context = self.context();
            self.connection.fill(&context, &mut self.fx);
            self.obey();
            progress |= self.take_answer(cx);
            progress |= self.write(cx);
            if self.eof || self.is_done() {
                return Poll::Ready(());
            }
            if !progress {
                return self.arm_timer(cx);
            }
        }
        cx.waker().wake_by_ref();
        // Under constant load, too, hearts beat.
        self.arm_timer(cx)
    }

    /// Whether the connection is closed and everything said, or nobody listens.
    fn is_done(&mut self) -> bool {
        if !self.connection.is_closed() {
            return false;
        }
        let since = *self.closed_at.get_or_insert_with(clock::now);
        let said = self.connection.out.is_empty() && !self.unflushed;
        said || clock::now().since(since) >= LINGER
    }

    fn context(&self) -> BrokerContext {
        BrokerContext { now: clock::now(), unix_millis: clock::unix_millis(), tables: self.node.tables.load_full() }
    }

    fn take_mail(&mut self, cx: &mut Context<'_>) -> bool {
        let mut mails = std::mem::take(&mut self.mails);
        let ready = self.mailbox.poll_take(cx, &mut mails).is_ready();
        if ready {
            let context = self.context();
            for mail in mails.drain(..) {
                match mail {
                    ConnectionMail::Channel(event) => self.connection.deliver(event),
                    ConnectionMail::DirectReply { channel, proof, message } => {
                        self.connection.direct_reply(&context, channel, proof, &message, &mut self.fx);
                    }
                    ConnectionMail::Status(reply) => {
                        let mut status = self.connection.status();
                        (status.received_bytes, status.received_reads) = self.received;
                        (status.sent_bytes, status.sent_writes) = self.sent;
                        let _ = reply.send(status);
                    }
                    ConnectionMail::Traffic(reply) => {
                        self.connection.tell_traffic(&mut self.fx.traffic);
                        self.tell_traffic();
                        let _ = reply.send(());
                    }
                    ConnectionMail::Close(reason) => self.connection.close(&context, &reason, &mut self.fx),
                    ConnectionMail::CloseNow(reason) => self.connection.close_now(&context, &reason, &mut self.fx),
                    ConnectionMail::Alarm(reason) => self.connection.alarm(reason.as_deref()),
                }
            }
        }
        self.mails = mails;
        ready
    }

    fn take_answer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(answer) = &mut self.answer else { return false };
        let Poll::Ready(result) = answer.as_mut().poll(cx) else { return false };
        self.answer = None;
        let context = self.context();
        match result {
            Ok(outcome) => self.connection.proposed(&context, Ok(outcome), &mut self.fx),
            Err(ProposeFailure::Refused(refusal)) => {
                self.connection.proposed(&context, Err::<Outcome, Refusal>(refusal), &mut self.fx);
            }
            Err(ProposeFailure::Unavailable(why)) => {
                tracing::warn!(connection = %self.name, "metadata is unavailable: {why}");
                self.connection.close_now(&context, &format!("metadata is unavailable: {why}"), &mut self.fx);
            }
        }
        true
    }

    fn take_count(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(count) = &mut self.count else { return false };
        let Poll::Ready(counts) = count.as_mut().poll(cx) else { return false };
        self.count = None;
        self.connection.counted(counts);
        true
    }

    fn wants_bytes(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(queue) = &self.throttle {
            if queue.mailbox.poll_room(cx, MAILBOX_HIGH_WATER).is_pending() {
                // It is us who do not listen.
                self.connection.excuse_silence(clock::now());
                return false;
            }
            self.throttle = None;
        }
        self.count.is_none() && self.connection.wants_bytes() && self.connection.out.len() < 4 * OUT_HIGH_WATER
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.wants_bytes(cx) {
            return false;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let held = self.partial.len();
            if scratch.len() < READ_BYTES.max(held + READ_BYTES / 2) {
                scratch.resize(READ_BYTES.max(held + READ_BYTES / 2), 0);
            }
            scratch[..held].copy_from_slice(&self.partial);
            let mut filled = held;
            if !self.stalled {
                let mut buffer = ReadBuf::new(&mut scratch[held..]);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => return false,
                    Poll::Ready(Err(_)) => self.eof = true,
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.eof = true,
                    Poll::Ready(Ok(())) => {
                        filled += buffer.filled().len();
                        self.received.0 += buffer.filled().len() as u64;
                        self.received.1 += 1;
                    }
                }
            }
            if self.eof {
                return true;
            }
            let context = self.context();
            let mut used = self.connection.receive(&context, &scratch[..filled], &mut self.fx);
            while let Some(vhost) = self.connection.asks_counts() {
                let (user, _) = self.connection.identity();
                if listing::is_limited(&context.tables, user, vhost) {
                    let counts = listing::open_counts(Arc::clone(&self.node), Arc::clone(user), Arc::clone(vhost));
                    self.count = Some(Box::pin(counts));
                    break;
                }
                let counts = self.node.open_counts(user, Some(vhost));
                self.connection.counted(counts);
                used += self.connection.receive(&context, &scratch[used..filled], &mut self.fx);
            }
            self.handle.channels.store(self.connection.channels() as u64, Ordering::Relaxed);
            self.partial.clear();
            self.partial.extend_from_slice(&scratch[used..filled]);
            let waits = self.count.is_some() || !self.connection.wants_bytes();
            self.stalled = !self.partial.is_empty() && waits;
            if self.partial.is_empty() && self.partial.capacity() > OUT_KEEP {
                self.partial = Vec::new();
            }
            true
        })
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.written < self.connection.out.len() {
            let out = &self.connection.out[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, out) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.written += count;
                    self.sent.0 += count as u64;
                    self.sent.1 += 1;
                    self.unflushed = true;
                    progress = true;
                    if self.connection.out.len() > OUT_KEEP {
                        // Who takes much is alive, even if we are too busy to listen. Our own
                        // heartbeats prove nothing.
                        self.connection.excuse_silence(clock::now());
                    }
                }
                Poll::Ready(_) => {
                    self.eof = true;
                    return true;
                }
            }
        }
        if self.written > 0 && self.written == self.connection.out.len() {
            self.written = 0;
            self.connection.out.clear();
            if self.connection.out.capacity() > OUT_KEEP && !self.connection.has_backlog() {
                self.connection.out = Vec::new();
            }
            self.connection.written(clock::now());
        }
        // Encrypted streams keep bytes back until told.
        if self.unflushed && self.written == 0 {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => {
                    self.eof = true;
                    return true;
                }
            }
        }
        progress
    }

    fn arm_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.closed_at {
            Some(at) => Some(at + LINGER),
            None => self.connection.deadline(),
        };
        if deadline != self.timer_at {
            self.timer_at = deadline;
            if let Some(at) = deadline {
                self.timer.as_mut().reset(clock::instant(at));
            }
        }
        if self.timer_at.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.timer_at = None;
            let context = self.context();
            self.connection.tick(&context, &mut self.fx);
            self.obey();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Does what the connection asks.
    fn obey(&mut self) {
        if self.fx.is_empty() {
            return;
        }
        for (queue, event) in std::mem::take(&mut self.fx.to_queues) {
            self.tell_queue(queue, event);
        }
        for (channel, proof, message) in self.fx.to_connections.drain(..) {
            self.node.reply_directly(channel, proof, message);
        }
        for entry in self.fx.delays.drain(..) {
            self.node.delay(entry);
        }
        if let Some(command) = self.fx.propose.take() {
            let node = Arc::clone(&self.node);
            self.answer = Some(Box::pin(async move { seen::propose(&node, command).await }));
        }
        for command in self.fx.propose_and_forget.drain(..) {
            let node = Arc::clone(&self.node);
            tokio::spawn(async move {
                if let Err(error) = node.propose(command).await {
                    tracing::warn!(?error, "exclusive queues of an ended connection were not deleted");
                }
            });
        }
        for note in std::mem::take(&mut self.fx.notes) {
            self.note(note);
        }
        if self.fx.channels_closed > 0 {
            self.tell_traffic();
        }
        let counters = &self.node.counters;
        counters.channels_created.fetch_add(std::mem::take(&mut self.fx.channels_opened), Ordering::Relaxed);
        counters.channels_closed.fetch_add(std::mem::take(&mut self.fx.channels_closed), Ordering::Relaxed);
        counters.queues_declared.fetch_add(std::mem::take(&mut self.fx.queues_declared), Ordering::Relaxed);
        self.fx.taken();
    }

    /// Adds to the node's sums what they do not have yet.
    fn tell_traffic(&mut self) {
        let traffic = std::mem::take(&mut self.fx.traffic);
        let (_, vhost) = self.connection.identity();
        if vhost.is_empty() {
            return;
        }
        let octets = Octets { received: self.received.0 - self.told.received, sent: self.sent.0 - self.told.sent };
        self.told = Octets { received: self.received.0, sent: self.sent.0 };
        self.node.traffic.add(vhost, traffic, octets);
    }

    fn tell_queue(&mut self, id: QueueId, event: QueueEvent) {
        let known = self.queues.get(&id).filter(|handle| !handle.is_retired());
        let Some(handle) = known.map(Arc::clone).or_else(|| self.find_queue(id)) else {
            gone(&self.node, id, event);
            return;
        };
        let bytes = size_of_event(&event);
        match handle.mailbox.push(QueueMail::Event(event), bytes) {
            // Only who publishes waits: what consumers say makes room.
            Ok(total) if bytes > 0 && total > MAILBOX_HIGH_WATER => self.throttle = Some(handle),
            Ok(_) => {}
            Err(Closed(mail)) => {
                self.queues.remove(&id);
                if let QueueMail::Event(event) = mail {
                    left_behind(&self.node, id, event);
                }
            }
        }
    }

    fn find_queue(&mut self, id: QueueId) -> Option<Arc<QueueHandle>> {
        let handle = self.node.queue(id)?;
        if self.queues.len() >= QUEUES_KEEP {
            self.queues.clear();
        }
        self.queues.insert(id, Arc::clone(&handle));
        Some(handle)
    }

    fn note(&mut self, note: Note) {
        let name = &self.name;
        match note {
            Note::Authenticated => {
                let (user, vhost) = self.connection.identity();
                *self.handle.identity.write() = Some((Arc::clone(user), Arc::clone(vhost)));
                self.node.counters.logins.fetch_add(1, Ordering::Relaxed);
                tracing::info!("connection {name}: user '{user}' authenticated and granted access to vhost '{vhost}'");
            }
            Note::LoginRefused { user, reason } => {
                self.node.counters.logins_failed.fetch_add(1, Ordering::Relaxed);
                tracing::info!("connection {name}: login of user '{user}' refused: {reason}");
            }
            Note::Faulted(text) => tracing::info!("closing connection {name}: {text}"),
            Note::ChannelFaulted { channel, text } => tracing::debug!("connection {name}, channel {channel}: {text}"),
        }
    }

    /// Everybody hears that this connection is gone; gives the stream back.
    fn end(mut self) -> S {
        self.connection.ended(&mut self.fx);
        self.node.connections.write().remove(&self.id);
        self.obey();
        self.tell_traffic();
        self.mailbox.close();
        self.node.counters.connections_closed.fetch_add(1, Ordering::Relaxed);
        let (user, vhost) = self.connection.identity();
        if !vhost.is_empty() {
            tracing::info!("closed connection {} (vhost: '{vhost}', user: '{user}')", self.name);
        }
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_has_closed_hangs_up_first() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let seen_off = tokio::spawn(async move { see_off(ours, b"close-ok").await });
        let mut said = [0; 8];
        theirs.read_exact(&mut said).await.expect("the answer comes");
        let more = tokio::time::timeout(Duration::from_millis(50), theirs.read(&mut said)).await;
        assert!(more.is_err(), "the broker hung up first");
        drop(theirs);
        seen_off.await.expect("no panic").expect("the client is gone");
    }
}
