//! One channel that publishes: how many messages it may send, and which of them are confirmed.
//!
//! A limit of messages, a window of unconfirmed publishes and a rate may each hold it back. With a
//! rate, every time that is stamped or noted is the one when the message was due, not the one when
//! it was written, so that latencies contain whatever held the producer back.
//!
//! Invariant: messages that [`Producer::fill`] has counted are written before it is called again.

use crate::batch::{Batch, Message};
use crate::meter::Tally;
use crate::options::Options;
use crate::schedule::{Nanos, Schedule, approximate};
use crate::window::Window;

/// A publishing channel.
#[derive(Debug)]
pub(crate) struct Producer {
    batch: Batch,
    limit: u64,
    published: u64,
    window: Option<Window>,
    /// Since when nothing has been confirmed, while something is unconfirmed.
    waiting_since: Option<Nanos>,
    rate: Option<f64>,
    phase: f64,
    /// None before the start, and without a rate.
    schedule: Option<Schedule>,
    started: bool,
    flowing: bool,
    announced: bool,
}

/// How a producer is to be.
pub(crate) struct Settings<'a> {
    pub(crate) options: &'a Options,
    pub(crate) channel: u16,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) frame_max: u32,
    /// Number of this channel, and number of all producer channels.
    pub(crate) turn: (usize, usize),
}

impl Producer {
    /// It publishes nothing before [`Producer::start`].
    pub(crate) fn new(settings: &Settings<'_>) -> Producer {
        let options = settings.options;
        let (turn, turns) = settings.turn;
        Producer {
            batch: Batch::new(&Message {
                channel: settings.channel,
                exchange: settings.exchange.as_bytes(),
                routing_key: settings.routing_key.as_bytes(),
                mandatory: options.mandatory(),
                persistent: options.persistent(),
                body_bytes: options.size,
                frame_max: settings.frame_max,
            }),
            limit: match options.pmessages {
                0 => u64::MAX,
                limit => limit,
            },
            published: 0,
            window: options.confirm_window().map(Window::new),
            waiting_since: None,
            rate: options.rate(),
            phase: approximate(turn as u64) / approximate(turns as u64),
            schedule: None,
            started: false,
            flowing: true,
            announced: false,
        }
    }

    /// Begins to publish at `now`.
    pub(crate) fn start(&mut self, now: Nanos) {
        self.started = true;
        self.schedule = self.rate.map(|rate| Schedule::new(now, rate, self.phase));
    }

    /// Messages per second, if there is a rate.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// The broker lets the channel publish, or stops it.
    pub(crate) fn set_flowing(&mut self, flowing: bool) {
        self.flowing = flowing;
    }

    /// How many messages it may publish apart from its rate.
    fn room(&self) -> u64 {
        if !self.started || !self.flowing {
            return 0;
        }
        let window = self.window.as_ref().map_or(u64::MAX, Window::free);
        window.min(self.limit - self.published)
    }

    /// How many messages are to be written now.
    pub(crate) fn ready(&self, now: Nanos) -> usize {
        let mut count = self.room().min(self.batch.capacity() as u64);
        if let Some(schedule) = &self.schedule {
            count = count.min(schedule.due(now) - self.published);
        }
        usize::try_from(count).expect("at most the capacity of the batch")
    }

    /// When the next message is due, if only the rate holds it back.
    pub(crate) fn next_due(&self) -> Option<Nanos> {
        let schedule = self.schedule.as_ref().filter(|_| self.room() > 0)?;
        Some(schedule.time_of(self.published))
    }

    /// Prepares `count` messages and counts them as published.
    pub(crate) fn fill(&mut self, count: usize, now: Nanos, tally: &mut Tally) {
        let first = self.published;
        self.published += count as u64;
        let schedule = self.schedule;
        let time_of = |number| schedule.map_or(now, |schedule| schedule.time_of(number));
        self.batch.stamp(count, first, time_of);
        if let Some(window) = &mut self.window {
            window.sent((first..self.published).map(time_of));
            self.waiting_since.get_or_insert(now);
        }
        if schedule.is_some() {
            for number in first..self.published {
                tally.lag.record(time_of(number), now);
            }
        }
    }

    /// The frames that [`Producer::fill`] has prepared.
    pub(crate) fn frames(&self, count: usize) -> &[u8] {
        self.batch.frames(count)
    }

    /// Size of a message on the wire.
    pub(crate) fn stride(&self) -> usize {
        self.batch.stride()
    }

    /// The broker has confirmed publishes, or refused them.
    pub(crate) fn confirm(
        &mut self,
        (tag, multiple): (u64, bool),
        accepted: bool,
        now: Nanos,
        tally: &mut Tally,
    ) {
        let Some(window) = &mut self.window else {
            return;
        };
        let latency = &mut tally.confirm_latency;
        let count = window.confirm(tag, multiple, |time| {
            if accepted {
                latency.record(time, now);
            }
        });
        if accepted {
            tally.confirmed += count;
        } else {
            tally.nacked += count;
        }
        self.waiting_since = (window.unconfirmed() > 0).then_some(now);
    }

    /// The broker could not confirm anything up to now.
    pub(crate) fn wait_anew(&mut self, now: Nanos) {
        self.waiting_since = self.waiting_since.map(|_| now);
    }

    /// How long nothing has been confirmed although something waits.
    pub(crate) fn waited(&self, now: Nanos) -> Nanos {
        self.waiting_since
            .map_or(0, |since| now.saturating_sub(since))
    }

    /// Says once that all messages are published, and confirmed where confirms are asked for.
    pub(crate) fn take_done(&mut self) -> bool {
        let unconfirmed = self.window.as_ref().map_or(0, Window::unconfirmed);
        let done = self.published == self.limit && unconfirmed == 0 && !self.announced;
        self.announced |= done;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(arguments: &str) -> Producer {
        let options = Options::parse(arguments.split_whitespace().map(Into::into));
        Producer::new(&Settings {
            options: &options.expect("right options"),
            channel: 1,
            exchange: "",
            routing_key: "q",
            frame_max: 4096,
            turn: (0, 1),
        })
    }

    #[test]
    fn nothing_is_ready_before_the_start() {
        let mut producer = producer("-C 3");
        assert_eq!(producer.ready(1), 0);
        producer.start(1);
        assert_eq!(producer.ready(1), 3);
        producer.set_flowing(false);
        assert_eq!(producer.ready(1), 0);
    }

    #[test]
    fn window_and_limit_hold_it_back() {
        let (mut producer, mut tally) = (producer("-c 4 -C 6"), Tally::default());
        producer.start(0);
        assert_eq!(producer.ready(0), 4);
        producer.fill(4, 1_000_000, &mut tally);
        assert_eq!(producer.ready(1_000_000), 0);
        producer.confirm((3, true), true, 3_000_000, &mut tally);
        assert_eq!((tally.confirmed, producer.ready(3_000_000)), (3, 2));
        producer.fill(2, 3_000_000, &mut tally);
        producer.confirm((4, false), false, 4_000_000, &mut tally);
        assert!(!producer.take_done());
        assert_eq!(producer.waited(9_000_000), 5_000_000);
        producer.wait_anew(8_000_000);
        assert_eq!(producer.waited(9_000_000), 1_000_000);
        producer.confirm((6, true), true, 5_000_000, &mut tally);
        assert_eq!((tally.confirmed, tally.nacked), (5, 1));
        assert_eq!((producer.ready(9), producer.waited(9_000_000)), (0, 0));
        assert!(producer.take_done() && !producer.take_done());
        let summary = tally.confirm_latency.summary();
        assert_eq!(summary.count, 5);
        assert!((summary.max - 2000.0).abs() < 5.0, "{summary:?}");
    }

    #[test]
    fn with_a_rate_latency_counts_from_when_a_message_was_due() {
        let (mut producer, mut tally) = (producer("-c 1 -r 1000"), Tally::default());
        producer.start(0);
        assert_eq!((producer.ready(0), producer.next_due()), (1, Some(0)));
        producer.fill(1, 0, &mut tally);
        // The confirm takes 4 ms: the messages due at 1, 2, 3 and 4 ms are late.
        assert_eq!((producer.ready(4_000_000), producer.next_due()), (0, None));
        producer.confirm((1, false), true, 4_000_000, &mut tally);
        for tag in 2..=4 {
            assert_eq!(producer.ready(4_000_000), 1);
            producer.fill(1, 4_000_000, &mut tally);
            producer.confirm((tag, false), true, 4_000_000, &mut tally);
        }
        let (confirm, lag) = (tally.confirm_latency.summary(), tally.lag.summary());
        assert_eq!((confirm.count, lag.count), (4, 4));
        assert!((confirm.mean - (4000.0 + 3000.0 + 2000.0 + 1000.0) / 4.0).abs() < 5.0);
        assert!((lag.max - 3000.0).abs() < 5.0, "{lag:?}");
    }
}
