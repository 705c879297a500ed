//! A connection while messages flow: bytes in, frames out, never waiting.
//!
//! ```text
//!   Running --- begin_close ---> Closing --- close-ok ---> Closed
//!      |                            |
//!      +---- the broker closes, or the socket fails: Failure
//! ```
//!
//! A worker calls [`Connection::step`] when the socket may have become readable or writable, or when
//! [`Connection::deadline`] has come. A step reads once, looks at all frames in place, and writes
//! what is to be written. The socket is watched for changes only (edge-triggered), so a connection
//! remembers whether there may be more to read or room to write.
//!
//! Invariant: frames are written whole and in order: a batch that is partly written comes first,
//! then `out`, then the next batch.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use amqp::method::{channel, connection};
use amqp::{
    Ack, ContentHeader, Deliver, Frame, FrameKind, Method, Nack, split, write_heartbeat,
    write_method,
};

use crate::batch::stamped_time;
use crate::clock;
use crate::consumer::Consumer;
use crate::failure::Failure;
use crate::meter::Tally;
use crate::producer::Producer;
use crate::schedule::{Nanos, Pace};
use crate::session::{self, Limits, Session};

/// What is read at once, at most.
const READ_BYTES: usize = 256 * 1024;
/// Batches written in one step before other connections have their turn.
const BATCHES_PER_STEP: usize = 4;
const SECOND: Nanos = 1_000_000_000;

/// Something the user or the end of the run depends on.
#[derive(Debug)]
pub(crate) enum Note {
    /// A consumer channel receives from all its queues.
    ConsumerStarted,
    /// A producer channel has published all its messages.
    ProducerDone,
    /// A consumer channel has received all its messages.
    ConsumerDone,
    /// The broker takes no publishes for now.
    Blocked { connection: String, reason: String },
    /// It takes them again.
    Unblocked { connection: String },
    /// A connection has failed.
    Failed {
        connection: String,
        failure: Failure,
    },
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// Its channels publish.
    Producers(Vec<Producer>),
    /// Its channels consume, all of them together at the pace if there is one.
    Consumers {
        consumers: Vec<Consumer>,
        pace: Option<Pace>,
    },
}

impl Role {
    /// Consuming channels, at so many messages per second altogether.
    pub(crate) fn consumers(consumers: Vec<Consumer>, rate: Option<f64>) -> Role {
        Role::Consumers {
            consumers,
            pace: rate.map(Pace::new),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Role::Producers(producers) => producers.len(),
            Role::Consumers { consumers, .. } => consumers.len(),
        }
    }
}

/// How far the message has come that is arriving on a channel.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Method,
    Header(Content),
    Body {
        content: Content,
        missing: u64,
        time: Option<Nanos>,
        begun: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Delivery(u64),
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Closing,
    Closed,
}

/// A batch that is being written.
#[derive(Clone, Copy, Debug)]
struct Pending {
    producer: usize,
    count: usize,
    written: usize,
}

/// A connection of a producer or consumer.
#[derive(Debug)]
pub(crate) struct Connection {
    name: String,
    stream: TcpStream,
    limits: Limits,
    state: State,
    role: Role,
    arrivals: Vec<Arrival>,
    /// Bytes that were read and not yet looked at.
    rest: Vec<u8>,
    /// Frames to write.
    out: Vec<u8>,
    pending: Option<Pending>,
    /// The producer that has its turn next.
    turn: usize,
    readable: bool,
    writable: bool,
    blocked: bool,
    paused_until: Option<Nanos>,
    heard: Nanos,
    spoke: Nanos,
}

impl Connection {
    /// Takes over a connection that has been set up.
    pub(crate) fn new(session: Session, name: String, role: Role) -> Result<Connection, Failure> {
        let (stream, rest, limits) = session.into_parts();
        stream.set_nonblocking(true)?;
        let now = clock::now();
        Ok(Connection {
            name,
            stream,
            limits,
            state: State::Running,
            arrivals: vec![Arrival::Method; role.channels()],
            role,
            rest,
            out: Vec::new(),
            pending: None,
            turn: 0,
            readable: true,
            writable: true,
            blocked: false,
            paused_until: None,
            heard: now,
            spoke: now,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Begins to publish.
    pub(crate) fn start(&mut self, now: Nanos) {
        if let Role::Producers(producers) = &mut self.role {
            producers
                .iter_mut()
                .for_each(|producer| producer.start(now));
        }
    }

    /// Messages per second that it is to send or take, 0 without a rate.
    pub(crate) fn rate(&self) -> f64 {
        match &self.role {
            Role::Producers(producers) => producers.iter().filter_map(Producer::rate).sum(),
            Role::Consumers { pace, .. } => pace.map_or(0.0, |pace| pace.rate()),
        }
    }

    /// Notes what the socket is ready for.
    pub(crate) fn wake(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// When a step is due although nothing happens on the socket.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        if self.state != State::Running || self.blocked || !self.writable {
            return self.paused_until;
        }
        match &self.role {
            Role::Producers(producers) => producers.iter().filter_map(Producer::next_due).min(),
            Role::Consumers { .. } => self.paused_until,
        }
    }

    /// Reads once, looks at what came, and writes. Says whether there is more to do at once.
    pub(crate) fn step(
        &mut self,
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) -> Result<bool, Failure> {
        let mut now = clock::now();
        let resumed = self.paused_until.take_if(|until| *until <= now).is_some();
        let reads = self.readable && self.paused_until.is_none() && !resumed;
        if reads || resumed {
            let mut end = self.rest.len();
            if scratch.len() < end + READ_BYTES {
                scratch.resize(end + READ_BYTES, 0);
            }
            scratch[..end].copy_from_slice(&self.rest);
            if reads {
                end += self.read(&mut scratch[end..])?;
                now = clock::now();
                self.heard = now;
            }
            let used = self.take_frames(&scratch[..end], now, tally, notes)?;
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[used..end]);
        }
        let more_to_write = self.write(now, tally)?;
        if let Role::Producers(producers) = &mut self.role {
            for producer in producers {
                if producer.take_done() {
                    notes.push(Note::ProducerDone);
                }
            }
        }
        let more_to_read = self.readable && self.paused_until.is_none();
        Ok((more_to_read || more_to_write) && self.state != State::Closed)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        match self.stream.read(buffer) {
            Ok(0) if self.state == State::Closing => {
                self.state = State::Closed;
                Ok(0)
            }
            Ok(0) => Err(Failure::Closed),
            Ok(count) => {
                // Less than was asked for: the socket is empty, and will be announced again.
                self.readable = count == buffer.len();
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        now: Nanos,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((frame, frame_bytes)) = split(&bytes[used..], self.limits.frame_max)? {
            if !self.take_frame(&frame, now, tally, notes)? {
                break;
            }
            used += frame_bytes;
        }
        Ok(used)
    }

    /// Looks at a frame. `false`: it is a delivery that must wait; nothing has changed.
    #[inline]
    fn take_frame(
        &mut self,
        frame: &Frame<'_>,
        now: Nanos,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) -> Result<bool, Failure> {
        let index = usize::from(frame.channel).wrapping_sub(1);
        match frame.kind {
            FrameKind::Method => return self.take_method(frame, now, tally, notes),
            FrameKind::Heartbeat => {}
            _ if self.state != State::Running => {}
            FrameKind::Header => {
                let Some(Arrival::Header(content)) = self.arrivals.get(index).copied() else {
                    return Err(frame.unexpected().into());
                };
                let header = ContentHeader::parse(frame.payload)?;
                self.arrivals[index] = Arrival::Body {
                    content,
                    missing: header.body_size,
                    time: None,
                    begun: false,
                };
                if header.body_size == 0 {
                    self.arrive(index, content, None, now, tally, notes);
                }
            }
            FrameKind::Body => self.take_body(index, frame, now, tally, notes)?,
        }
        Ok(true)
    }

    #[inline]
    fn take_body(
        &mut self,
        index: usize,
        frame: &Frame<'_>,
        now: Nanos,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) -> Result<(), Failure> {
        let Some(Arrival::Body {
            content,
            missing,
            time,
            begun,
        }) = self.arrivals.get_mut(index)
        else {
            return Err(frame.unexpected().into());
        };
        if !*begun {
            *begun = true;
            *time = stamped_time(frame.payload);
        }
        let (content, time) = (*content, *time);
        match missing.checked_sub(frame.payload.len() as u64) {
            Some(0) => self.arrive(index, content, time, now, tally, notes),
            Some(rest) => *missing = rest,
            None => return Err(frame.unexpected().into()),
        }
        Ok(())
    }

    /// A content has come whole.
    #[inline]
    fn arrive(
        &mut self,
        index: usize,
        content: Content,
        time: Option<Nanos>,
        now: Nanos,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) {
        self.arrivals[index] = Arrival::Method;
        match (content, &mut self.role) {
            (Content::Delivery(tag), Role::Consumers { consumers, .. }) => {
                let consumer = &mut consumers[index];
                consumer.receive(tag, time, now, &mut self.out, tally);
                if consumer.take_done() {
                    notes.push(Note::ConsumerDone);
                }
            }
            (Content::Return, _) => tally.returned += 1,
            (Content::Delivery(_), Role::Producers(_)) => {}
        }
    }

    #[inline]
    fn take_method(
        &mut self,
        frame: &Frame<'_>,
        now: Nanos,
        tally: &mut Tally,
        notes: &mut Vec<Note>,
    ) -> Result<bool, Failure> {
        let index = usize::from(frame.channel).wrapping_sub(1);
        if self.state == State::Running {
            match &mut self.role {
                Role::Consumers { pace, .. } => {
                    if let Some(deliver) = Deliver::peek(frame.payload)? {
                        if let Some(pace) = pace {
                            if pace.next() > now {
                                self.paused_until = Some(pace.next());
                                return Ok(false);
                            }
                            pace.take(now);
                        }
                        self.expect(index, frame, Content::Delivery(deliver.delivery_tag))?;
                        return Ok(true);
                    }
                }
                Role::Producers(producers) => {
                    let answer = match Ack::peek(frame.payload)? {
                        Some(ack) => Some((ack.delivery_tag, ack.multiple, true)),
                        None => Nack::peek(frame.payload)?
                            .map(|nack| (nack.delivery_tag, nack.multiple, false)),
                    };
                    if let Some((tag, multiple, accepted)) = answer {
                        if let Some(producer) = producers.get_mut(index) {
                            producer.confirm((tag, multiple), accepted, now, tally);
                        }
                        return Ok(true);
                    }
                }
            }
        }
        let method = Method::decode(frame.payload)?;
        self.take_rare_method(frame, method, notes)?;
        Ok(true)
    }

    /// A content must follow on the channel.
    #[inline]
    fn expect(&mut self, index: usize, frame: &Frame<'_>, content: Content) -> Result<(), Failure> {
        match self.arrivals.get_mut(index) {
            Some(arrival @ Arrival::Method) => {
                *arrival = Arrival::Header(content);
                Ok(())
            }
            _ => Err(frame.unexpected().into()),
        }
    }

    #[cold]
    fn take_rare_method(
        &mut self,
        frame: &Frame<'_>,
        method: Method,
        notes: &mut Vec<Note>,
    ) -> Result<(), Failure> {
        let index = usize::from(frame.channel).wrapping_sub(1);
        match method {
            Method::ConnectionCloseOk(_) => self.state = State::Closed,
            Method::ConnectionClose(close) => {
                write_method(&mut self.out, 0, &connection::CloseOk {}.into());
                // It is too late for anything else to be written, and no failure if this is not.
                let _ = self.stream.write(&self.out);
                if self.state == State::Running {
                    return Err(close.into());
                }
                self.state = State::Closed;
            }
            _ if self.state != State::Running => {}
            Method::ChannelClose(close) => return Err(close.into()),
            Method::BasicCancel(cancel) => {
                return Err(Failure::Cancelled(cancel.consumer_tag.to_string()));
            }
            Method::BasicReturn(_) => self.expect(index, frame, Content::Return)?,
            Method::BasicConsumeOk(_) => {
                if let Role::Consumers { consumers, .. } = &mut self.role
                    && let Some(consumer) = consumers.get_mut(index)
                    && consumer.started()
                {
                    notes.push(Note::ConsumerStarted);
                }
            }
            Method::ConnectionBlocked(blocked) => {
                self.blocked = true;
                notes.push(Note::Blocked {
                    connection: self.name.clone(),
                    reason: blocked.reason.to_string(),
                });
            }
            Method::ConnectionUnblocked(_) => {
                self.blocked = false;
                if let Role::Producers(producers) = &mut self.role {
                    let now = clock::now();
                    producers
                        .iter_mut()
                        .for_each(|producer| producer.wait_anew(now));
                }
                let connection = self.name.clone();
                notes.push(Note::Unblocked { connection });
            }
            Method::ChannelFlow(flow) => {
                let active = flow.active;
                if let Role::Producers(producers) = &mut self.role
                    && let Some(producer) = producers.get_mut(index)
                {
                    producer.set_flowing(active);
                }
                let answer = channel::FlowOk { active };
                write_method(&mut self.out, frame.channel, &answer.into());
            }
            other => return Err(session::unexpected("nothing", &other)),
        }
        Ok(())
    }

    /// Writes until nothing is left, the socket is full, or others should have their turn; says
    /// whether it is the last of these.
    fn write(&mut self, mut now: Nanos, tally: &mut Tally) -> io::Result<bool> {
        let mut batches = 0;
        while self.writable {
            if let Some(pending) = self.pending {
                self.write_batch(pending, tally)?;
            } else if !self.out.is_empty() {
                let written = write_some(&mut self.stream, &self.out, &mut self.writable)?;
                self.out.drain(..written);
                self.spoke = now;
            } else if batches == BATCHES_PER_STEP {
                return Ok(true);
            } else {
                if batches > 0 {
                    now = clock::now();
                }
                if !self.fill(now, tally) {
                    return Ok(false);
                }
                batches += 1;
            }
        }
        Ok(false)
    }

    /// Prepares the batch of the next producer that may publish.
    fn fill(&mut self, now: Nanos, tally: &mut Tally) -> bool {
        let Role::Producers(producers) = &mut self.role else {
            return false;
        };
        if self.blocked || self.state != State::Running {
            return false;
        }
        for _ in 0..producers.len() {
            let index = self.turn;
            self.turn = (self.turn + 1) % producers.len();
            let count = producers[index].ready(now);
            if count > 0 {
                producers[index].fill(count, now, tally);
                self.spoke = now;
                self.pending = Some(Pending {
                    producer: index,
                    count,
                    written: 0,
                });
                return true;
            }
        }
        false
    }

    fn write_batch(&mut self, mut pending: Pending, tally: &mut Tally) -> io::Result<()> {
        let Role::Producers(producers) = &self.role else {
            unreachable!("only producers have batches");
        };
        let producer = &producers[pending.producer];
        let frames = producer.frames(pending.count);
        let rest = &frames[pending.written..];
        let written = write_some(&mut self.stream, rest, &mut self.writable)?;
        let before = pending.written / producer.stride();
        pending.written += written;
        tally.sent += (pending.written / producer.stride() - before) as u64;
        self.pending = (pending.written < frames.len()).then_some(pending);
        Ok(())
    }

    /// What must be done from time to time: heartbeats, and failures that show by nothing coming.
    pub(crate) fn look_after(&mut self, now: Nanos, confirm_timeout: Nanos) -> Result<(), Failure> {
        if self.state != State::Running {
            return Ok(());
        }
        let heartbeat = Nanos::from(self.limits.heartbeat) * SECOND;
        if heartbeat > 0 {
            if !self.readable && now.saturating_sub(self.heard) > 2 * heartbeat {
                return Err(Failure::Silent(2 * heartbeat / SECOND));
            }
            if now.saturating_sub(self.spoke) > heartbeat / 2 && self.out.is_empty() {
                write_heartbeat(&mut self.out);
            }
        }
        if let Role::Producers(producers) = &self.role
            && !self.blocked
            && producers.iter().any(|p| p.waited(now) > confirm_timeout)
        {
            return Err(Failure::Unconfirmed(confirm_timeout / SECOND));
        }
        Ok(())
    }

    /// Publishes nothing more and asks the broker to end the connection.
    pub(crate) fn begin_close(&mut self) {
        if self.state == State::Running {
            self.state = State::Closing;
            self.paused_until = None;
            write_method(&mut self.out, 0, &session::close().into());
        }
    }

    /// The broker has agreed to the end.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}

/// Writes what the socket takes; notes when it is full.
fn write_some(stream: &mut TcpStream, bytes: &[u8], writable: &mut bool) -> io::Result<usize> {
    match stream.write(bytes) {
        Ok(written) => {
            *writable = written == bytes.len();
            Ok(written)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            *writable = false;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}
