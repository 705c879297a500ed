//! Time and a connection: handshake timeout, heartbeats, alarms, and deliveries that nobody acknowledges.
//!
//! Invariants:
//! * the peer is given up only for silence that we listened to;
//! * [`Connection::deadline`] moves on whenever [`Connection::tick`] was called at it.

use std::time::Duration;

use amqp::method::connection;
use amqp::ShortStr;
use stdx::Time;

use super::{Connection, ConnectionEffects, Context, Note, State, capability};
use crate::channel::Channel;

/// Deliveries are looked through for late ones this often, or as often as the timeout is long.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl Connection {
    /// An alarm began, changed or ended.
    pub fn alarm(&mut self, reason: Option<&str>) {
        self.alarm = reason.map(str::to_owned);
        if self.alarm.is_none() {
            self.blocked = false;
        }
        if self.alarm.is_none() && self.told_blocked && self.state == State::Running {
            self.send(0, &connection::Unblocked {}.into());
            self.told_blocked = false;
        }
    }

    /// A publish arrived during an alarm: it is the last that is read, and the client is told why
    /// (RabbitMQ, "Blocked Connection Notifications": publishing connections hear of it).
    pub(super) fn meet_alarm(&mut self) {
        self.blocked = true;
        if self.told_blocked || !capability(&self.client_properties, "connection.blocked") {
            return;
        }
        if let Some(reason) = &self.alarm {
            let reason = ShortStr::truncated(reason);
            self.send(0, &connection::Blocked { reason }.into());
            self.told_blocked = true;
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
            State::Ending => self.leaving.as_ref().map(|leave| leave.until),
            State::Running => {
                let leave = self.leaving.as_ref().map(|leave| leave.until);
                let check = self.limits.consumer_timeout.map(|_| self.next_check);
                let beat = (self.heartbeat > 0).then(|| {
                    let half = Duration::from_millis(u64::from(self.heartbeat) * 500);
                    let dead = self.last_received + Duration::from_secs(u64::from(self.heartbeat) * 2);
                    dead.min(self.last_sent + half)
                });
                check.into_iter().chain(beat).chain(leave).min()
            }
        }
    }

    /// The driver cannot read, or sees the peer take bytes: silence says nothing.
    pub fn excuse_silence(&mut self, now: Time) {
        self.last_received = now;
    }

    /// Time has passed.
    pub fn tick(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let now = context.now;
        if self.leaving.as_ref().is_some_and(|leave| now >= leave.until) {
            self.go(context, fx);
        }
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
            State::Ending | State::Closed => {}
            State::Running => self.running_tick(context, fx),
        }
    }

    fn running_tick(&mut self, context: &Context, fx: &mut ConnectionEffects) {
        let now = context.now;
        if self.heartbeat > 0 {
            let beat = Duration::from_secs(u64::from(self.heartbeat));
            if !self.wants_bytes() {
                // While we do not read, we cannot hear the peer's heart.
                self.last_received = now;
            }
            if now.since(self.last_received) >= beat * 2 {
                fx.notes.push(Note::Faulted(format!("missed heartbeats from client, timeout: {}s", self.heartbeat)));
                self.ended(fx);
                // Who does not listen is told nothing.
                self.out.clear();
                return;
            }
            if now.since(self.last_sent) >= beat / 2 {
                amqp::write_heartbeat(&mut self.out);
                self.last_sent = now;
            }
        }
        if let Some(timeout) = self.limits.consumer_timeout
            && now >= self.next_check
        {
            self.next_check = now + timeout.clamp(Duration::from_millis(1), CHECK_INTERVAL);
            let late: Vec<u16> = self
                .channels
                .iter()
                .filter(|(_, c)| Channel::oldest_delivery(c).is_some_and(|at| now.since(at) >= timeout))
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
}
