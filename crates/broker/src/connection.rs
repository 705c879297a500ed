//! A client connection: bytes and events in, bytes and effects out.
//!
//! ```text
//! AwaitHeader -> Starting -> Tuning -> Opening -> Running -> Closing -> Closed
//!       \___________\__________\______ a fault before Running: Doomed (silent pause) -> Closed
//! ```
//!
//! The driver reads into a buffer and calls [`Connection::receive`] with it; what is consumed is
//! gone, the rest comes again with more. Methods that need an answer from elsewhere (a commit, a
//! queue) make the connection wait: it consumes nothing until the answer arrived, so that methods
//! take effect in their order. Deliveries and confirms go on meanwhile.
//!
//! Invariants:
//! * at most one question is open; every question is answered or its queue is reported gone;
//! * `out` grows beyond [`OUT_HIGH_WATER`] only by one event: the rest waits in `inbox`;
//! * before authentication nothing but the read buffer of one small frame is held;
//! * publishes to a queue leave in the order in which they came.

mod handshake;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp::method::{channel, connection};
use amqp::{ConnectionError, Error, FrameKind, Method, PropertiesView, ShortStr, Table};
use stdx::{Lookup, Time};

use crate::channel::{Channel, Scope};
use crate::delay::Delayed;
use crate::id::{ConnectionId, Name, QueueId};
use crate::message::Message;
use crate::metadata::{Command, Outcome, Refusal, Tables};
use crate::queue::{ChannelEvent, ChannelKey, Publish, Publisher, QueueEvent};
use crate::status::{ConnectionStatus, TlsStatus};

/// Above this many bytes to be written, events wait.
pub const OUT_HIGH_WATER: usize = 256 * 1024;
/// Silence before the socket of a failed handshake closes (as RabbitMQ).
const DOOM: Duration = Duration::from_secs(3);
/// How long a closing connection waits for the peer's close-ok.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What the configuration says about connections.
#[derive(Clone, Debug)]
pub struct Limits {
    pub frame_max: u32,
    pub initial_frame_max: u32,
    pub channel_max: u16,
    /// Seconds; 0 is off.
    pub heartbeat: u16,
    pub handshake_timeout: Duration,
    pub message_bytes_max: u64,
    pub consumers_per_channel_max: Option<u32>,
    pub consumer_timeout: Option<Duration>,
    pub mechanisms: Vec<&'static str>,
    pub loopback_users: Vec<String>,
    pub server_properties: Table,
    pub node: Name,
}

/// What a driver may be asked for.
#[derive(Debug, Default)]
pub struct ConnectionEffects {
    pub to_queues: Vec<(QueueId, QueueEvent)>,
    /// To a channel of any connection (direct reply-to), with the proof that its name was genuine.
    pub to_connections: Vec<(ChannelKey, u64, Message)>,
    /// Messages that must wait, with their publisher and its number.
    pub delays: Vec<(Delayed, Publisher, u64)>,
    /// At most one: its answer comes back by [`Connection::proposed`].
    pub propose: Option<Command>,
    /// Commands whose answer nobody waits for.
    pub propose_and_forget: Vec<Command>,
    /// Things worth a log line.
    pub notes: Vec<Note>,
    open_publishes: Lookup<QueueId, usize>,
}

/// Things worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Authenticated,
    LoginRefused { user: String, reason: &'static str },
    /// The connection is being closed for a fault of the peer.
    Faulted(String),
    ChannelFaulted { channel: u16, text: String },
}

impl ConnectionEffects {
    /// Adds a publish to the batch that goes to a queue.
    #[inline]
    pub(crate) fn publish(&mut self, queue: QueueId, from: Publisher, publish: Publish) {
        if let Some(at) = self.open_publishes.get(&queue).copied()
            && let Some((_, QueueEvent::Publish { from: open, messages })) = self.to_queues.get_mut(at)
            && *open == from
        {
            messages.push(publish);
            return;
        }
        self.open_publishes.insert(queue, self.to_queues.len());
        self.to_queues.push((queue, QueueEvent::Publish { from, messages: vec![publish] }));
    }

    /// Adds any other event; publishes that follow start a new batch behind it.
    pub(crate) fn tell(&mut self, queue: QueueId, event: QueueEvent) {
        self.open_publishes.remove(&queue);
        if let QueueEvent::Ack { channel, runs } = &event
            && let Some((last, QueueEvent::Ack { channel: same, runs: open })) = self.to_queues.last_mut()
            && *last == queue
            && same == channel
        {
            open.extend_from_slice(runs);
            return;
        }
        self.to_queues.push((queue, event));
    }

    /// Called by the driver when it has taken the effects.
    pub fn taken(&mut self) {
        self.open_publishes.clear();
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_queues.is_empty()
            && self.to_connections.is_empty()
            && self.delays.is_empty()
            && self.propose.is_none()
            && self.propose_and_forget.is_empty()
            && self.notes.is_empty()
    }
}

/// How the world stands when the connection is called.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: Time,
    pub unix_millis: u64,
    pub tables: Arc<Tables>,
    /// Connections of this virtual host and user, and of the node, for limits at `connection.open`.
    pub counts: OpenCounts,
}

/// Open connections, asked for only when a connection opens.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenCounts {
    pub of_vhost: u64,
    pub of_user: u64,
    pub of_node: u64,
    pub node_max: Option<u64>,
    pub user_channels: u64,
}

#[derive(Debug, PartialEq)]
enum State {
    AwaitHeader,
    /// Start was sent, or Secure.
    Starting,
    Tuning,
    Opening,
    Running,
    /// Close was sent; close-ok, or the end of patience, ends it.
    Closing { until: Time },
    /// Says nothing more and closes the socket later.
    Doomed { until: Time },
    Closed,
}

/// Who the peer is, as far as the transport knows.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub host: SocketAddr,
    pub tls: Option<Arc<TlsStatus>>,
    /// The name in the client's certificate, where EXTERNAL may use it.
    pub certificate_name: Option<String>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    limits: Arc<Limits>,
    peer: Peer,
    state: State,
    born: Time,
    frame_max: u32,
    channel_max: u16,
    heartbeat: u16,
    client_properties: Arc<Table>,
    mechanism: &'static str,
    user: Name,
    vhost: Name,
    connected_at: u64,
    /// Secret part of direct reply-to names.
    secret: u64,
    lives: u32,
    channels: BTreeMap<u16, Channel>,
    /// Channels that we closed and whose close-ok is due.
    closing: Lookup<u16, ()>,
    inbox: VecDeque<ChannelEvent>,
    /// Bytes to be written; the driver takes them.
    pub out: Vec<u8>,
    last_sent: Time,
    last_received: Time,
    sent_since: bool,
    /// A channel's question is open.
    waiting: Option<u16>,
    owns_exclusive: bool,
    /// Why publishers are blocked, if they are.
    alarm: Option<String>,
    told_blocked: bool,
    blocked: bool,
    dirty: Vec<u16>,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(id: ConnectionId, limits: Arc<Limits>, peer: Peer, secret: u64, now: Time, unix_millis: u64) -> Self {
        Connection {
            id,
            frame_max: limits.initial_frame_max,
            channel_max: limits.channel_max,
            heartbeat: limits.heartbeat,
            limits,
            peer,
            state: State::AwaitHeader,
            born: now,
            client_properties: Arc::new(Table::new()),
            mechanism: "",
            user: "".into(),
            vhost: "".into(),
            connected_at: unix_millis,
            secret,
            lives: 0,
            channels: BTreeMap::new(),
            closing: Lookup::new(),
            inbox: VecDeque::new(),
            out: Vec::new(),
            last_sent: now,
            last_received: now,
            sent_since: false,
            waiting: None,
            owns_exclusive: false,
            alarm: None,
            told_blocked: false,
            blocked: false,
            dirty: Vec::new(),
        }
    }

    /// Whether more bytes should be read.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.waiting.is_none() && !self.blocked && self.state != State::Closed
    }

    /// Whether the socket should be closed once `out` is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the client is authenticated and its virtual host open.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The user and virtual host, once opened.
    #[must_use]
    pub fn identity(&self) -> (&Name, &Name) {
        (&self.user, &self.vhost)
    }

    /// Takes bytes in; answers how many were consumed. The rest must be given again, with more.
    pub fn receive(&mut self, context: &Context, bytes: &[u8], fx: &mut ConnectionEffects) -> usize {
        self.last_received = context.now;
        let mut at = 0;
        while at < bytes.len() && self.wants_bytes() {
            let used = match self.state {
                State::AwaitHeader => self.header(context, &bytes[at..]),
                State::Running => self.fast_publish(context, &bytes[at..], fx),
                State::Doomed { .. } => bytes.len() - at,
                _ => 0,
            };
            if used > 0 {
                at += used;
                continue;
            }
            if self.state == State::AwaitHeader {
                break;
            }
            match amqp::split(&bytes[at..], self.frame_max) {
                Ok(None) => break,
                Ok(Some((frame, used))) => {
                    at += used;
                    if let Err(error) = self.frame(context, &frame, fx) {
                        self.fault(context, error, fx);
                    }
                }
                Err(error) => {
                    self.fault(context, error, fx);
                    at = bytes.len();
                }
            }
        }
        self.flush_channels();
        at
    }

    /// The common case: a whole publish on an open channel.
    #[inline]
    fn fast_publish(&mut self, context: &Context, bytes: &[u8], fx: &mut ConnectionEffects) -> usize {
        let Some(whole) = amqp::whole_publish(bytes, self.frame_max) else { return 0 };
        let number = whole.channel;
        let Some(channel) = self.channels.get_mut(&number) else { return 0 };
        if !channel.assembly.is_idle() {
            return 0;
        }
        let Ok(view) = PropertiesView::parse(whole.header.properties) else { return 0 };
        if self.alarm.is_some() {
            self.blocked = true;
        }
        let wire = &bytes[13..if whole.body.is_empty() { whole.used } else { whole.used - 1 }];
        let mut scope = Scope {
            context,
            limits: &self.limits,
            connection: self.id,
            user: &self.user,
            vhost: &self.vhost,
            out: &mut self.out,
            fx,
            frame_max: self.frame_max,
            secret: self.secret,
            owns_exclusive: &mut self.owns_exclusive,
            cancel_notify: true,
        };
        let parts = crate::channel::Incoming {
            publish: whole.publish,
            view: &view,
            properties: whole.header.properties,
            body: whole.body,
            wire: Some(wire),
        };
        let result = channel.publish(&mut scope, &parts);
        if channel.has_reports() && self.dirty.last() != Some(&number) {
            self.dirty.push(number);
        }
        if let Err(error) = result {
            let error = error.at((60, 40));
            self.channel_fault(context, number, error, fx);
        }
        whole.used
    }

    fn frame(
        &mut self,
        context: &Context,
        frame: &amqp::Frame<'_>,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(());
        }
        match self.state {
            State::Closing { .. } => {
                if frame.channel == 0 && frame.kind == FrameKind::Method {
                    match Method::decode(frame.payload) {
                        Ok(Method::ConnectionCloseOk(_)) => self.state = State::Closed,
                        Ok(Method::ConnectionClose(_)) => {
                            self.send(0, &connection::CloseOk {}.into());
                            self.state = State::Closed;
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            State::Doomed { .. } | State::Closed | State::AwaitHeader => Ok(()),
            _ if frame.channel == 0 => {
                if frame.kind != FrameKind::Method {
                    return Err(frame.unexpected());
                }
                let method = Method::decode(frame.payload)?;
                let id = method.id();
                self.connection_method(context, method, fx).map_err(|e| if e.method_id == 0 { e.at(id) } else { e })
            }
            State::Running => self.channel_frame(context, frame, fx),
            _ => Err(ConnectionError::unexpected_frame("channel frame before connection.open")),
        }
    }

    fn connection_method(
        &mut self,
        context: &Context,
        method: Method,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        match (&self.state, method) {
            (_, Method::ConnectionClose(_)) if self.state != State::Starting => {
                self.end_channels(fx);
                self.send(0, &connection::CloseOk {}.into());
                self.state = State::Closed;
                Ok(())
            }
            (State::Running, Method::ConnectionUpdateSecret(_)) => {
                self.send(0, &connection::UpdateSecretOk {}.into());
                Ok(())
            }
            (State::Running, Method::ConnectionCloseOk(_)) => Ok(()),
            (State::Running, method) => {
                Err(ConnectionError::command_invalid(format_args!("unimplemented method {}", method.name())))
            }
            (_, method) => self.handshake(context, method, fx),
        }
    }

    fn channel_frame(
        &mut self,
        context: &Context,
        frame: &amqp::Frame<'_>,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        let number = frame.channel;
        if self.closing.contains_key(&number) {
            if frame.kind == FrameKind::Method {
                match Method::decode(frame.payload) {
                    Ok(Method::ChannelCloseOk(_)) => {
                        self.closing.remove(&number);
                    }
                    Ok(Method::ChannelClose(_)) => {
                        self.send(number, &channel::CloseOk {}.into());
                        self.closing.remove(&number);
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        if !self.channels.contains_key(&number) {
            return self.open_channel(context, frame);
        }
        self.with_channel(context, number, fx, |channel, scope| channel.frame(scope, frame))
    }

    fn open_channel(&mut self, context: &Context, frame: &amqp::Frame<'_>) -> Result<(), ConnectionError> {
        if frame.kind != FrameKind::Method {
            return Err(frame.unexpected());
        }
        match Method::decode(frame.payload)? {
            Method::ChannelOpen(_) => {}
            // A channel that both sides closed at the same time.
            Method::ChannelCloseOk(_) => return Ok(()),
            other => return Err(ConnectionError::channel_error("expected 'channel.open'").at(other.id())),
        }
        if self.channel_max > 0 && self.channels.len() >= usize::from(self.channel_max) {
            return Err(ConnectionError::not_allowed(format_args!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            ))
            .at((20, 10)));
        }
        if self.channel_max > 0 && frame.channel > self.channel_max {
            return Err(ConnectionError::not_allowed(format_args!(
                "channel number {} is above the negotiated channel_max ({})",
                frame.channel, self.channel_max
            ))
            .at((20, 10)));
        }
        let user = context.tables.users.get(&self.user);
        if let Some(max) = user.and_then(|u| u.limits.max_channels)
            && context.counts.user_channels.max(self.channels.len() as u64) >= max
        {
            return Err(ConnectionError::not_allowed(format_args!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of ({max})",
                self.user
            ))
            .at((20, 10)));
        }
        self.lives += 1;
        let key = ChannelKey { connection: self.id, number: frame.channel, life: self.lives };
        self.channels.insert(frame.channel, Channel::new(key, self.limits.message_bytes_max, context.now));
        self.send(frame.channel, &channel::OpenOk {}.into());
        Ok(())
    }

    /// Calls a channel and deals with its errors.
    fn with_channel(
        &mut self,
        context: &Context,
        number: u16,
        fx: &mut ConnectionEffects,
        call: impl FnOnce(&mut Channel, &mut Scope<'_>) -> Result<(), Error>,
    ) -> Result<(), ConnectionError> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let mut scope = Scope {
            context,
            limits: &self.limits,
            connection: self.id,
            user: &self.user,
            vhost: &self.vhost,
            out: &mut self.out,
            fx,
            frame_max: self.frame_max,
            secret: self.secret,
            owns_exclusive: &mut self.owns_exclusive,
            cancel_notify: capability(&self.client_properties, "consumer_cancel_notify"),
        };
        let result = call(channel, &mut scope);
        if channel.is_waiting() {
            self.waiting = Some(number);
        } else if self.waiting == Some(number) {
            self.waiting = None;
        }
        if channel.has_reports() && self.dirty.last() != Some(&number) {
            self.dirty.push(number);
        }
        let ended = channel.is_ended();
        match result {
            Ok(()) => {}
            Err(Error::Connection(error)) => return Err(error),
            Err(error) => self.channel_fault(context, number, error, fx),
        }
        if ended && let Some(mut channel) = self.channels.remove(&number) {
            channel.close(fx);
        }
        Ok(())
    }

    /// Confirms that gathered in this round.
    fn flush_channels(&mut self) {
        for number in self.dirty.drain(..) {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.flush_reports(&mut self.out);
            }
        }
    }

    fn channel_fault(&mut self, context: &Context, number: u16, error: Error, fx: &mut ConnectionEffects) {
        let error = match error {
            Error::Connection(error) => return self.fault(context, error, fx),
            Error::Channel(error) => error,
        };
        if let Some(mut channel) = self.channels.remove(&number) {
            channel.flush_reports(&mut self.out);
            channel.close(fx);
        }
        if self.waiting == Some(number) {
            self.waiting = None;
        }
        fx.notes.push(Note::ChannelFaulted { channel: number, text: error.text.clone() });
        let close = channel::Close {
            reply_code: error.code.value(),
            reply_text: ShortStr::truncated(&error.text),
            class_id: error.class_id,
            method_id: error.method_id,
        };
        self.send(number, &close.into());
        self.closing.insert(number, ());
    }

    /// A hard error: the peer is told, if it has come far enough to be told.
    fn fault(&mut self, context: &Context, error: ConnectionError, fx: &mut ConnectionEffects) {
        fx.notes.push(Note::Faulted(error.text.clone()));
        match self.state {
            State::Opening | State::Running => self.close_with(context, &error, fx),
            State::Tuning if error.code.value() == 530 => self.close_with(context, &error, fx),
            State::Closing { .. } | State::Closed | State::Doomed { .. } => {}
            _ => self.state = State::Doomed { until: context.now + DOOM },
        }
    }

    fn close_with(&mut self, context: &Context, error: &ConnectionError, fx: &mut ConnectionEffects) {
        self.end_channels(fx);
        let close = connection::Close {
            reply_code: error.code.value(),
            reply_text: ShortStr::truncated(&error.text),
            class_id: error.class_id,
            method_id: error.method_id,
        };
        self.send(0, &close.into());
        self.state = State::Closing { until: context.now + CLOSE_WAIT };
    }

    /// Closes the connection from our side: 320 with this reason.
    pub fn close(&mut self, context: &Context, reason: &str, fx: &mut ConnectionEffects) {
        match self.state {
            State::Running | State::Opening => {
                self.close_with(context, &ConnectionError::connection_forced(reason), fx);
            }
            State::Closing { .. } | State::Closed => {}
            _ => self.state = State::Closed,
        }
        self.waiting = None;
    }

    /// The socket is gone, or the driver ends: everything that was held goes back.
    pub fn ended(&mut self, fx: &mut ConnectionEffects) {
        self.end_channels(fx);
        self.state = State::Closed;
        self.waiting = None;
    }

    fn end_channels(&mut self, fx: &mut ConnectionEffects) {
        for (_, mut channel) in std::mem::take(&mut self.channels) {
            channel.flush_reports(&mut self.out);
            channel.close(fx);
        }
        self.inbox.clear();
        self.waiting = None;
        if std::mem::take(&mut self.owns_exclusive) {
            fx.propose_and_forget.push(Command::ConnectionEnded { connection: self.id });
        }
    }

    /// The answer to `propose`.
    pub fn proposed(&mut self, context: &Context, answer: Result<Outcome, Refusal>, fx: &mut ConnectionEffects) {
        let Some(number) = self.waiting else { return };
        let result = self.with_channel(context, number, fx, |channel, scope| channel.proposed(scope, answer));
        if let Err(error) = result {
            self.fault(context, error, fx);
        }
        self.flush_channels();
    }

    /// Takes an event from a queue. Events are obeyed in order, while there is room in `out`.
    pub fn deliver(&mut self, event: ChannelEvent) {
        self.inbox.push_back(event);
    }

    /// A reply through direct reply-to.
    pub fn direct_reply(
        &mut self,
        context: &Context,
        key: ChannelKey,
        proof: u64,
        message: &Message,
        fx: &mut ConnectionEffects,
    ) {
        if !crate::reply_to::is_genuine(key, proof, self.secret) {
            return;
        }
        let _ = self.with_channel(context, key.number, fx, |channel, scope| {
            channel.direct_reply(scope, key, message);
            Ok(())
        });
    }

    /// Obeys waiting events while there is room; call before writing and whenever `out` was written.
    pub fn fill(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        while self.out.len() < OUT_HIGH_WATER {
            let Some(event) = self.inbox.pop_front() else { break };
            let key = match &event {
                ChannelEvent::Deliver { channel, .. }
                | ChannelEvent::Confirmed { channel, .. }
                | ChannelEvent::Rejected { channel, .. }
                | ChannelEvent::Replied { channel, .. }
                | ChannelEvent::ConsumerCancelled { channel, .. } => *channel,
            };
            if self.channels.get(&key.number).is_none_or(|c| c.key != key) {
                // The channel is gone; the queue took back what it held for it.
                continue;
            }
            let result = self.with_channel(context, key.number, fx, |channel, scope| channel.event(scope, event));
            if let Err(error) = result {
                self.fault(context, error, fx);
            }
        }
        if !self.dirty.is_empty() {
            self.flush_channels();
        }
    }

    /// Whether events wait for room.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn send(&mut self, channel: u16, method: &Method) {
        amqp::write_method(&mut self.out, channel, method);
    }

    /// An alarm began, changed or ended.
    pub fn alarm(&mut self, reason: Option<&str>) {
        self.alarm = reason.map(str::to_owned);
        if self.alarm.is_none() {
            self.blocked = false;
        }
        if self.state != State::Running || !capability(&self.client_properties, "connection.blocked") {
            return;
        }
        match (&self.alarm, self.told_blocked) {
            (Some(reason), false) => {
                let reason = ShortStr::truncated(reason);
                self.send(0, &connection::Blocked { reason }.into());
                self.told_blocked = true;
            }
            (None, true) => {
                self.send(0, &connection::Unblocked {}.into());
                self.told_blocked = false;
            }
            _ => {}
        }
    }

    /// The driver wrote bytes.
    pub fn written(&mut self, now: Time) {
        self.last_sent = now;
        self.sent_since = true;
    }

    /// When [`Connection::tick`] must be called if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::AwaitHeader | State::Starting | State::Tuning | State::Opening => {
                Some(self.born + self.limits.handshake_timeout)
            }
            State::Closing { until } | State::Doomed { until } => Some(until),
            State::Closed => None,
            State::Running => {
                let timeout = self.limits.consumer_timeout.and_then(|timeout| {
                    self.channels.values().filter_map(Channel::oldest_delivery).min().map(|at| at + timeout)
                });
                let beat = (self.heartbeat > 0).then(|| {
                    let half = Duration::from_millis(u64::from(self.heartbeat) * 500);
                    let dead = self.last_received + Duration::from_secs(u64::from(self.heartbeat) * 2);
                    if self.blocked { self.last_sent + half } else { dead.min(self.last_sent + half) }
                });
                match (timeout, beat) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                }
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let now = context.now;
        match self.state {
            State::AwaitHeader | State::Starting | State::Tuning | State::Opening => {
                if now.since(self.born) >= self.limits.handshake_timeout {
                    fx.notes.push(Note::Faulted("handshake timeout".to_owned()));
                    self.state = State::Closed;
                }
            }
            State::Closing { until } | State::Doomed { until } => {
                if now >= until {
                    self.state = State::Closed;
                }
            }
            State::Closed => {}
            State::Running => self.running_tick(context, fx),
        }
    }

    fn running_tick(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let now = context.now;
        if self.heartbeat > 0 {
            let beat = Duration::from_secs(u64::from(self.heartbeat));
            // While we do not read, we cannot hear the peer's heart.
            if !self.blocked && self.waiting.is_none() && now.since(self.last_received) >= beat * 2 {
                fx.notes.push(Note::Faulted(format!("missed heartbeats from client, timeout: {}s", self.heartbeat)));
                self.ended(fx);
                return;
            }
            if now.since(self.last_sent) >= beat / 2 {
                amqp::write_heartbeat(&mut self.out);
                self.last_sent = now;
            }
        }
        if let Some(timeout) = self.limits.consumer_timeout {
            let late: Vec<u16> = self
                .channels
                .iter()
                .filter(|(_, c)| c.oldest_delivery().is_some_and(|at| now.since(at) >= timeout))
                .map(|(number, _)| *number)
                .collect();
            for number in late {
                let text = format!(
                    "delivery acknowledgement on channel {number} timed out. Timeout value used: {} ms. \
                     This timeout value can be configured, see consumers doc guide to learn more",
                    timeout.as_millis()
                );
                let error = amqp::ChannelError::precondition_failed(text);
                self.channel_fault(context, number, error.into(), fx);
            }
        }
    }

    /// What an operator may see; counters of bytes are the driver's.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        let name = format!("{} -> {}", self.peer.address, self.peer.host);
        let state = match self.state {
            State::Running if self.blocked => "blocked",
            State::Running if self.alarm.is_some() => "blocking",
            State::Running => "running",
            State::Opening => "opening",
            State::Tuning => "tuning",
            State::Closing { .. } => "closing",
            State::Closed | State::Doomed { .. } => "closed",
            State::AwaitHeader | State::Starting => "starting",
        };
        ConnectionStatus {
            id: self.id,
            name: name.into(),
            peer: self.peer.address,
            host: self.peer.host,
            vhost: Arc::clone(&self.vhost),
            user: Arc::clone(&self.user),
            state,
            auth_mechanism: self.mechanism,
            client_properties: Arc::clone(&self.client_properties),
            channels: self.channels.values().map(Channel::status).collect(),
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
            connected_at: self.connected_at,
            received_bytes: 0,
            received_reads: 0,
            sent_bytes: 0,
            sent_writes: 0,
            send_pending_bytes: self.out.len() as u64,
            tls: self.peer.tls.clone(),
        }
    }
}

/// Whether the client announced a capability.
fn capability(client_properties: &Table, name: &str) -> bool {
    client_properties
        .get("capabilities")
        .and_then(amqp::Value::as_table)
        .and_then(|table| table.get(name))
        .and_then(amqp::Value::as_bool)
        .unwrap_or(false)
}
