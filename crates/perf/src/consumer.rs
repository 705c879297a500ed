//! One channel that consumes: what it counts and when it acknowledges.
//!
//! Invariant: with acknowledgements on, every delivery that was counted is acknowledged at the
//! latest when `ack_every` of them have come, or when the last one has.

use amqp::write_ack;

use crate::meter::Tally;
use crate::schedule::Nanos;

/// A consuming channel.
#[derive(Debug)]
pub(crate) struct Consumer {
    channel: u16,
    autoack: bool,
    /// 0: each delivery on its own.
    ack_every: u64,
    /// How many deliveries it takes; `u64::MAX` is no limit.
    limit: u64,
    received: u64,
    /// Queues whose `consume-ok` has not come.
    starting: usize,
    announced: bool,
}

/// How a consumer is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) channel: u16,
    /// How many queues it consumes from.
    pub(crate) queues: usize,
    pub(crate) autoack: bool,
    pub(crate) ack_every: u64,
    /// 0 is no limit.
    pub(crate) limit: u64,
}

impl Consumer {
    /// A consumer that has received nothing.
    pub(crate) fn new(settings: &Settings) -> Consumer {
        Consumer {
            channel: settings.channel,
            autoack: settings.autoack,
            ack_every: settings.ack_every,
            limit: match settings.limit {
                0 => u64::MAX,
                limit => limit,
            },
            received: 0,
            starting: settings.queues,
            announced: false,
        }
    }

    /// The broker has begun to deliver from one queue. Says whether that was the last of them.
    pub(crate) fn started(&mut self) -> bool {
        let was_starting = self.starting > 0;
        self.starting = self.starting.saturating_sub(1);
        was_starting && self.starting == 0
    }

    /// A message has come whole. What comes beyond the limit is left for others.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        delivery_tag: u64,
        time: Option<Nanos>,
        now: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        if self.received == self.limit {
            return;
        }
        self.received += 1;
        tally.received += 1;
        if let Some(time) = time {
            tally.consumer_latency.record(time, now);
        }
        if self.autoack {
            return;
        }
        if self.ack_every == 0 {
            write_ack(out, self.channel, delivery_tag, false);
        } else if self.received.is_multiple_of(self.ack_every) || self.received == self.limit {
            write_ack(out, self.channel, delivery_tag, true);
        }
    }

    /// Says once that all messages have come.
    pub(crate) fn take_done(&mut self) -> bool {
        let done = self.received == self.limit && !self.announced;
        self.announced |= done;
        done
    }
}

#[cfg(test)]
mod tests {
    use amqp::{Ack, FrameKind, split};

    use super::*;

    /// Receives `count` messages and gives the acks, as tags and whether they are multiple.
    fn acks(settings: &Settings, count: u64) -> Vec<(u64, bool)> {
        let (mut consumer, mut out) = (Consumer::new(settings), Vec::new());
        let mut tally = Tally::default();
        for tag in 1..=count {
            consumer.receive(tag, Some(1), 2, &mut out, &mut tally);
        }
        let expected = match settings.limit {
            0 => count,
            limit => count.min(limit),
        };
        assert_eq!(tally.received, expected);
        assert_eq!(consumer.take_done(), settings.limit == expected);
        assert!(!consumer.take_done());

        let (mut rest, mut acks) = (&out[..], Vec::new());
        while let Some((frame, used)) = split(rest, 4096).expect("right frames") {
            assert_eq!((frame.kind, frame.channel), (FrameKind::Method, 7));
            let ack = Ack::peek(frame.payload).expect("right").expect("an ack");
            acks.push((ack.delivery_tag, ack.multiple));
            rest = &rest[used..];
        }
        acks
    }

    const EACH: Settings = Settings {
        channel: 7,
        queues: 1,
        autoack: false,
        ack_every: 0,
        limit: 0,
    };

    #[test]
    fn acknowledges_each_or_many_or_none() {
        let none = Settings {
            autoack: true,
            ..EACH
        };
        let many = Settings {
            ack_every: 3,
            ..EACH
        };
        assert_eq!(acks(&EACH, 2), [(1, false), (2, false)]);
        assert_eq!(acks(&many, 7), [(3, true), (6, true)]);
        assert_eq!(acks(&none, 7), []);
    }

    #[test]
    fn the_last_message_is_acknowledged_and_the_next_left_alone() {
        let limited = Settings {
            ack_every: 3,
            limit: 5,
            ..EACH
        };
        assert_eq!(acks(&limited, 9), [(3, true), (5, true)]);
        assert_eq!(acks(&limited, 4), [(3, true)]);
    }

    #[test]
    fn it_has_started_when_all_queues_have() {
        let mut consumer = Consumer::new(&Settings { queues: 2, ..EACH });
        assert!(!consumer.started() && consumer.started() && !consumer.started());
    }
}
