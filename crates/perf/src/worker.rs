//! A thread and its connections.
//!
//! The thread waits for its sockets and for the next message that is due, and steps the connections
//! that have something to do. Connections that could go on at once take turns.
//!
//! Invariant: a connection is in `busy` at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::connection::{Connection, Note};
use crate::meter::{Meter, Tally};
use crate::poller::Poller;
use crate::schedule::Nanos;

/// The longest wait; an end of the run is noticed after so much time.
const WAIT: Nanos = 20_000_000;
/// How often connections are looked after.
const LOOK_AFTER: Nanos = 250_000_000;
/// Over this many messages per second, those due within [`TOGETHER`] are sent together.
const SINGLE_RATE: f64 = 20_000.0;
const TOGETHER: Nanos = 50_000;
/// Up to this many messages per second, the last part of a wait is spent awake: a sleeping thread
/// runs again some ten microseconds late, which would count as latency of the broker.
const AWAKE_RATE: f64 = 5_000.0;
const AWAKE: Nanos = 60_000;

/// What a worker shares with the rest.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Set when the run is to end.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) notes: UnboundedSender<Note>,
    pub(crate) confirm_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// The connections of one thread.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Shared,
    meter: Arc<Meter>,
    /// None where one has failed or ended.
    connections: Vec<Option<Connection>>,
    busy: Vec<usize>,
    is_busy: Vec<bool>,
    notes: Vec<Note>,
    scratch: Vec<u8>,
    /// Whether some connection has deadlines.
    timed: bool,
    /// How much later than due a message may be sent, for many to go together.
    together: Nanos,
    /// How long before a message is due the thread wakes up.
    awake: Nanos,
}

impl Worker {
    pub(crate) fn new(shared: Shared, meter: Arc<Meter>, connections: Vec<Connection>) -> Worker {
        let count = connections.len();
        let rate: f64 = connections.iter().map(Connection::rate).sum();
        Worker {
            shared,
            meter,
            connections: connections.into_iter().map(Some).collect(),
            busy: (0..count).collect(),
            is_busy: vec![true; count],
            notes: Vec::new(),
            scratch: Vec::new(),
            timed: rate > 0.0,
            together: if rate > SINGLE_RATE { TOGETHER } else { 0 },
            awake: if rate > AWAKE_RATE { 0 } else { AWAKE },
        }
    }

    /// Works until the run ends and the connections are closed. Publishing starts at `start`.
    pub(crate) fn run(mut self, start: Nanos) -> std::io::Result<()> {
        let mut poller = Poller::new()?;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let connection = connection.as_mut().expect("none has ended yet");
            connection.start(start);
            poller.add(connection.stream(), index)?;
        }
        let mut next_look = clock::now() + LOOK_AFTER;
        let mut end = None;
        loop {
            let now = clock::now();
            if end.is_none() && self.shared.stop.load(Ordering::Relaxed) {
                end = Some(now.saturating_add(nanos(self.shared.shutdown_timeout)));
                self.each(|connection| connection.begin_close());
            }
            let over = end.is_some_and(|end| now > end);
            if over || self.connections.iter().all(Option::is_none) {
                return Ok(());
            }
            if now >= next_look {
                next_look = now + LOOK_AFTER;
                self.look_after(&poller, now);
            }
            let timeout = Duration::from_nanos(self.wait_time(now));
            for change in poller.wait(timeout)? {
                if let Some(Some(connection)) = self.connections.get_mut(change.index) {
                    connection.wake(change.readable, change.writable);
                    make_busy(&mut self.busy, &mut self.is_busy, change.index);
                }
            }
            self.wake_due();
            self.step_busy(&poller);
            for note in self.notes.drain(..) {
                // Nobody listens only when the run is over anyway.
                let _ = self.shared.notes.send(note);
            }
        }
    }

    /// Does something with each connection and makes it busy.
    fn each(&mut self, mut what: impl FnMut(&mut Connection)) {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if let Some(connection) = connection {
                what(connection);
                make_busy(&mut self.busy, &mut self.is_busy, index);
            }
        }
    }

    fn wait_time(&self, now: Nanos) -> Nanos {
        if !self.busy.is_empty() {
            return 0;
        }
        let due = match self.timed {
            true => self
                .connections
                .iter()
                .flatten()
                .filter_map(Connection::deadline)
                .min(),
            false => None,
        };
        due.map_or(WAIT, |due| {
            let asleep = due.saturating_sub(now).saturating_sub(self.awake);
            asleep.max(self.together).min(WAIT)
        })
    }

    /// Makes the connections busy whose time has come.
    fn wake_due(&mut self) {
        if !self.timed {
            return;
        }
        let now = clock::now();
        for (index, connection) in self.connections.iter().enumerate() {
            let due = connection.as_ref().and_then(Connection::deadline);
            if due.is_some_and(|due| due <= now) {
                make_busy(&mut self.busy, &mut self.is_busy, index);
            }
        }
    }

    fn step_busy(&mut self, poller: &Poller) {
        if self.busy.is_empty() {
            return;
        }
        let meter = Arc::clone(&self.meter);
        let mut tally = meter.open();
        for index in std::mem::take(&mut self.busy) {
            self.is_busy[index] = false;
            self.step(index, poller, &mut tally);
        }
    }

    fn step(&mut self, index: usize, poller: &Poller, tally: &mut Tally) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        match connection.step(&mut self.scratch, tally, &mut self.notes) {
            Ok(true) => make_busy(&mut self.busy, &mut self.is_busy, index),
            Ok(false) if connection.is_closed() => self.drop_connection(index, poller),
            Ok(false) => {}
            Err(failure) => {
                self.fail(index, failure);
                self.drop_connection(index, poller);
            }
        }
    }

    fn look_after(&mut self, poller: &Poller, now: Nanos) {
        let confirm_timeout = nanos(self.shared.confirm_timeout);
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else {
                continue;
            };
            match connection.look_after(now, confirm_timeout) {
                Ok(()) => make_busy(&mut self.busy, &mut self.is_busy, index),
                Err(failure) => {
                    self.fail(index, failure);
                    self.drop_connection(index, poller);
                }
            }
        }
    }

    fn fail(&mut self, index: usize, failure: crate::failure::Failure) {
        // While the run ends, it is as good as an answer.
        if let Some(connection) = &self.connections[index]
            && !self.shared.stop.load(Ordering::Relaxed)
        {
            self.notes.push(Note::Failed {
                connection: connection.name().to_owned(),
                failure,
            });
        }
    }

    fn drop_connection(&mut self, index: usize, poller: &Poller) {
        if let Some(connection) = self.connections[index].take() {
            // The socket is closed next, which takes it out as well.
            let _ = poller.remove(connection.stream());
        }
    }
}

fn make_busy(busy: &mut Vec<usize>, is_busy: &mut [bool], index: usize) {
    if !is_busy[index] {
        is_busy[index] = true;
        busy.push(index);
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
