//! A client connection: bytes and events in, bytes and effects out.
//!
//! ```text
//! AwaitHeader -> Starting -> Tuning -> Opening -> Running -> Closing -> Closed
//!       \___________\__________\______ a fault before Running: Doomed (silent pause) -> Closed
//!                            Running -> Ending (what goes with it goes) -> Closing, or Closed if the client closed
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

mod effects;
mod handshake;
mod leave;
mod patience;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp::method::{channel, connection};
use amqp::{ConnectionError, Error, FrameKind, Method, PropertiesView, ShortStr, Table};
use stdx::{Lookup, Time};

pub use effects::{ConnectionEffects, Note};

use crate::channel::{Channel, Scope};
use crate::id::{ConnectionId, Name};
use crate::message::Message;
use crate::metadata::{Outcome, Refusal, Tables};
use crate::queue::{ChannelEvent, ChannelKey};
use crate::status::TlsStatus;

/// Above this many bytes to be written, direct replies are dropped: they are sent at most once.
const REPLIES_HIGH_WATER: usize = 16 * 1024 * 1024;
/// Bytes of unfinished messages that one connection may hold, besides one of the largest size.
const UNFINISHED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Above this many bytes to be written, events wait.
pub const OUT_HIGH_WATER: usize = 256 * 1024;
/// Silence before the socket of a failed handshake closes (as RabbitMQ).
const DOOM: Duration = Duration::from_secs(3);
/// How long a closing connection waits for the peer's close-ok, and who leaves for what goes with him.
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
    /// Name and password of the user that ANONYMOUS clients are; `None` refuses them.
    pub anonymous: Option<(String, String)>,
    /// Channels that all clients of the node together may have open.
    pub channels_per_node_max: Option<u64>,
    pub stamps: Stamps,
    pub server_properties: Table,
    pub node: Name,
}

/// What the broker writes into the headers of each message that comes in. `Some(true)` replaces what a
/// publisher has put there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// `timestamp_in_ms`, and the property `timestamp`.
    pub timestamp: Option<bool>,
    /// `x-routed-by`, the node's name.
    pub routing_node: Option<bool>,
}

/// How the world stands when the connection is called.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: Time,
    pub unix_millis: u64,
    pub tables: Arc<Tables>,
}

/// What is open on the node; asked for only when a limit must be checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenCounts {
    pub of_vhost: u64,
    pub of_user: u64,
    pub of_node: u64,
    pub node_max: Option<u64>,
    /// Channels of this user.
    pub user_channels: u64,
    /// Channels of all.
    pub node_channels: u64,
}

#[derive(Debug, PartialEq)]
enum State {
    AwaitHeader,
    /// Start was sent, or Secure.
    Starting,
    Tuning,
    Opening,
    Running,
    /// Its channels are closed, and what goes with it goes before the last word is said: see `leaving`.
    Ending,
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
    /// Boxed: most connections have one, and a node of the map has room for eleven.
    channels: BTreeMap<u16, Box<Channel>>,
    /// Channels that we closed and whose close-ok is due.
    closing: Lookup<u16, ()>,
    inbox: VecDeque<ChannelEvent>,
    /// Bytes to be written; the driver takes them.
    pub out: Vec<u8>,
    last_sent: Time,
    last_received: Time,
    sent_since: bool,
    /// The client has closed, and was told close-ok.
    left: bool,
    /// A channel's question is open.
    waiting: Option<u16>,
    /// A command is proposed and not answered.
    proposing: bool,
    /// Channels that are closed, or the connection itself, wait for what goes with them.
    leaving: Option<leave::Leave>,
    owns_exclusive: bool,
    /// Why publishers are blocked, if they are.
    alarm: Option<String>,
    told_blocked: bool,
    blocked: bool,
    dirty: Vec<u16>,
    /// Counts are needed before the next frame can be judged.
    asks_counts: Option<Name>,
    counts: Option<OpenCounts>,
    /// Bytes of messages of which frames are still to come.
    unfinished: u64,
    /// When deliveries that nobody acknowledges are looked for next.
    next_check: Time,
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
            left: false,
            waiting: None,
            proposing: false,
            leaving: None,
            owns_exclusive: false,
            alarm: None,
            told_blocked: false,
            blocked: false,
            dirty: Vec::new(),
            asks_counts: None,
            counts: None,
            unfinished: 0,
            next_check: now,
        }
    }

    /// Whether more bytes should be read.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.waiting.is_none() && self.leaving.is_none() && !self.blocked && self.state != State::Closed
    }

    /// The virtual host whose connections must be counted, with those of the user and of the node,
    /// before what was not consumed can be judged.
    #[must_use]
    pub fn asks_counts(&self) -> Option<&Name> {
        self.asks_counts.as_ref()
    }

    /// The answer to [`Connection::asks_counts`]; the bytes must be given again.
    pub fn counted(&mut self, counts: OpenCounts) {
        self.asks_counts = None;
        self.counts = Some(counts);
    }

    /// How many channels are open.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Bytes that are held of what the peer sent, besides what it must give again.
    #[must_use]
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished
    }

    /// Whether the socket should be closed once `out` is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether it was closed as the client asked for.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.left
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
                    if self.must_count(context, &frame) {
                        break;
                    }
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

    /// Whether the frame can only be judged by somebody who knows the other connections.
    fn must_count(&mut self, context: &Context, frame: &amqp::Frame<'_>) -> bool {
        let limited = || {
            self.limits.channels_per_node_max.is_some()
                || context.tables.users.get(&self.user).is_some_and(|u| u.limits.max_channels.is_some())
        };
        let opens = match self.state {
            State::Opening => frame.channel == 0,
            State::Running => frame.channel != 0 && !self.channels.contains_key(&frame.channel) && limited(),
            _ => false,
        };
        if !opens || frame.kind != FrameKind::Method || self.counts.is_some() {
            return false;
        }
        self.asks_counts = match Method::decode(frame.payload) {
            Ok(Method::ConnectionOpen(open)) => Some(open.virtual_host.to_str_lossy().into()),
            Ok(Method::ChannelOpen(_)) => Some(Arc::clone(&self.vhost)),
            _ => None,
        };
        self.asks_counts.is_some()
    }

    /// The common case: a whole publish on an open channel.
    #[inline]
    fn fast_publish(&mut self, context: &Context, bytes: &[u8], fx: &mut ConnectionEffects) -> usize {
        let Some(whole) = amqp::whole_publish(bytes, self.frame_max) else { return 0 };
        if self.alarm.is_some() && self.channels.contains_key(&whole.channel) {
            self.meet_alarm();
        }
        let number = whole.channel;
        let Some(channel) = self.channels.get_mut(&number) else { return 0 };
        if !channel.assembly.is_idle() {
            return 0;
        }
        let Ok(view) = PropertiesView::parse(whole.header.properties) else { return 0 };
        let wire = &bytes[13..if whole.body.is_empty() { whole.used } else { whole.used - 1 }];
        let mut scope = Scope {
            context,
            limits: &self.limits,
            connection: self.id,
            peer: &self.peer,
            user: &self.user,
            vhost: &self.vhost,
            out: &mut self.out,
            fx,
            frame_max: self.frame_max,
            secret: self.secret,
            trusted: false,
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
            State::Doomed { .. } | State::Ending | State::Closed | State::AwaitHeader => Ok(()),
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
                self.leave(context, connection::CloseOk {}.into(), true, fx);
                Ok(())
            }
            (State::Running, Method::ConnectionUpdateSecret(_)) => {
                self.send(0, &connection::UpdateSecretOk {}.into());
                Ok(())
            }
            (State::Running, Method::ConnectionCloseOk(_)) => Ok(()),
            (State::Running, _) => Err(ConnectionError::channel_error("unexpected method in connection state running")),
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
            return self.open_channel(context, frame, fx);
        }
        let held = self.held_by(number);
        let result = self.with_channel(context, number, fx, |channel, scope| channel.frame(scope, frame));
        if self.channels.contains_key(&number) {
            self.unfinished = self.unfinished - held + self.held_by(number);
        }
        result?;
        if frame.kind == FrameKind::Header && self.alarm.is_some() {
            self.meet_alarm();
        }
        let max = UNFINISHED_BYTES_MAX + self.limits.message_bytes_max;
        if self.unfinished > max {
            return Err(ConnectionError::resource_error(format_args!("unfinished messages are larger than {max} bytes")));
        }
        Ok(())
    }

    fn held_by(&self, number: u16) -> u64 {
        self.channels.get(&number).map_or(0, |channel| channel.assembly.buffered_bytes() as u64)
    }

    /// Takes a channel out; its unfinished message goes with it.
    fn remove_channel(&mut self, number: u16) -> Option<Channel> {
        self.unfinished -= self.held_by(number);
        self.channels.remove(&number).map(|channel| *channel)
    }

    /// Whether the user and the node may have one channel more.
    fn check_channels(&mut self, context: &Context) -> Result<(), ConnectionError> {
        let user = context.tables.users.get(&self.user);
        let counts = self.counts.take().unwrap_or_default();
        // Counts of the others are a moment old; our own are exact.
        let mine = self.channels.len() as u64;
        if let Some(max) = user.and_then(|u| u.limits.max_channels)
            && counts.user_channels.max(mine) >= max
        {
            return Err(ConnectionError::not_allowed(format_args!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of ({max})",
                self.user
            )));
        }
        if let Some(max) = self.limits.channels_per_node_max
            && counts.node_channels.max(mine) >= max
        {
            return Err(ConnectionError::not_allowed(format_args!(
                "number of channels opened on node '{}' has reached the maximum allowed limit of ({max})",
                self.limits.node
            )));
        }
        Ok(())
    }

    fn open_channel(
        &mut self,
        context: &Context,
        frame: &amqp::Frame<'_>,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
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
        self.check_channels(context).map_err(|error| error.at((20, 10)))?;
        fx.channels_opened += 1;
        self.lives += 1;
        let key = ChannelKey { connection: self.id, number: frame.channel, life: self.lives };
        let channel = Channel::new(key, self.limits.message_bytes_max, context.now);
        self.channels.insert(frame.channel, Box::new(channel));
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
            peer: &self.peer,
            user: &self.user,
            vhost: &self.vhost,
            out: &mut self.out,
            fx,
            frame_max: self.frame_max,
            secret: self.secret,
            trusted: false,
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
        self.proposing |= fx.propose.is_some();
        match result {
            Ok(()) => {}
            Err(Error::Connection(error)) => return Err(error),
            Err(error) => self.channel_fault(context, number, error, fx),
        }
        if ended && let Some(channel) = self.remove_channel(number) {
            self.leave_channel(context, channel, channel::CloseOk {}.into(), fx);
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
        let Some(channel) = self.remove_channel(number) else { return };
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
        self.leave_channel(context, channel, close.into(), fx);
    }

    /// A hard error: the peer is told, if it has come far enough to be told.
    fn fault(&mut self, context: &Context, error: ConnectionError, fx: &mut ConnectionEffects) {
        fx.notes.push(Note::Faulted(error.text.clone()));
        match self.state {
            State::Opening | State::Running => self.leave(context, leave::close_method(&error), true, fx),
            State::Tuning if error.code.value() == 530 => self.leave(context, leave::close_method(&error), true, fx),
            State::Ending | State::Closing { .. } | State::Closed | State::Doomed { .. } => {}
            _ => self.state = State::Doomed { until: context.now + DOOM },
        }
    }

    /// Closes the connection from our side: 320 with this reason, when what goes with it is gone.
    pub fn close(&mut self, context: &Context, reason: &str, fx: &mut ConnectionEffects) {
        self.close_from_here(context, reason, true, fx);
    }

    /// Closes the connection from our side, or ends its end, and waits for nothing: the node cannot go on serving.
    pub fn close_now(&mut self, context: &Context, reason: &str, fx: &mut ConnectionEffects) {
        self.close_from_here(context, reason, false, fx);
        if self.state == State::Ending {
            self.go(context, fx);
        }
    }

    fn close_from_here(&mut self, context: &Context, reason: &str, waits: bool, fx: &mut ConnectionEffects) {
        match self.state {
            State::Running | State::Opening => {
                let error = ConnectionError::connection_forced(reason);
                self.leave(context, leave::close_method(&error), waits, fx);
            }
            State::Ending | State::Closing { .. } | State::Closed => {}
            _ => self.state = State::Closed,
        }
    }

    /// The socket is gone, or the driver ends: everything that was held goes back.
    pub fn ended(&mut self, fx: &mut ConnectionEffects) {
        self.end_channels(fx);
        self.leaving = None;
        self.state = State::Closed;
        self.forget_exclusive(fx);
    }

    /// The broker itself failed in dealing with this connection: 541, and nothing more.
    pub fn failed(&mut self) {
        let error = ConnectionError::internal_error("the broker failed to serve this connection");
        if matches!(self.state, State::Opening | State::Running) {
            self.send(0, &leave::close_method(&error));
        }
        self.state = State::Closed;
    }

    fn end_channels(&mut self, fx: &mut ConnectionEffects) {
        fx.channels_closed += self.channels.len() as u64;
        for (_, mut channel) in std::mem::take(&mut self.channels) {
            channel.flush_reports(&mut self.out);
            channel.close(fx);
        }
        self.inbox.clear();
        self.waiting = None;
        self.unfinished = 0;
    }

    /// The answer to `propose`.
    pub fn proposed(&mut self, context: &Context, answer: Result<Outcome, Refusal>, fx: &mut ConnectionEffects) {
        self.proposing = false;
        if self.state == State::Ending {
            return self.end_proposed(context, fx);
        }
        let Some(number) = self.waiting else { return };
        let result = self.with_channel(context, number, fx, |channel, scope| channel.proposed(scope, answer));
        if let Err(error) = result {
            self.fault(context, error, fx);
        }
        self.flush_channels();
    }

    /// Takes an event from a queue. Events are obeyed in order, while there is room in `out`.
    pub fn deliver(&mut self, event: ChannelEvent) {
        if !self.takes_leave(&event) {
            self.inbox.push_back(event);
        }
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
        if self.out.len() > REPLIES_HIGH_WATER || !crate::reply_to::is_genuine(key, proof, self.secret) {
            return;
        }
        let _ = self.with_channel(context, key.number, fx, |channel, scope| {
            channel.direct_reply(scope, key, message);
            Ok(())
        });
    }

    /// Obeys waiting events while there is room; call before writing and whenever `out` was written.
    pub fn fill(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        self.go_if_gone(context, fx);
        while self.out.len() < OUT_HIGH_WATER {
            let Some(event) = self.inbox.pop_front() else { break };
            let key = event.channel();
            match event {
                ChannelEvent::QueueMoved { queue, .. } => {
                    self.in_all_channels(context, fx, |channel, scope| channel.queue_moved(scope, queue));
                    continue;
                }
                ChannelEvent::QueueDown { queue, for_good, .. } => {
                    self.in_all_channels(context, fx, |channel, scope| channel.queue_down(scope, queue, for_good));
                    continue;
                }
                _ => {}
            }
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

    fn in_all_channels(
        &mut self,
        context: &Context,
        fx: &mut ConnectionEffects,
        mut tell: impl FnMut(&mut Channel, &mut Scope<'_>),
    ) {
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            let _ = self.with_channel(context, number, fx, |channel, scope| {
                tell(channel, scope);
                Ok(())
            });
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

#[cfg(test)]
pub(crate) mod tests;
