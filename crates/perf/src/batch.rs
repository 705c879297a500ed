//! Published messages as they go over the wire, many in one piece of memory.
//!
//! All messages of a channel are alike but for the first bytes of the body: a sequence number and
//! the time they count their latency from (4 and 8 bytes, big-endian, as PerfTest writes them). So
//! the frames are made once, as many messages as fit 64 KiB, and each time only those bytes are
//! written anew.
//!
//! Invariant: message `i` occupies bytes `i * stride` to `(i + 1) * stride`.

use amqp::properties::PERSISTENT;
use amqp::{Properties, Publish, write_body, write_content_header, write_publish};

use crate::options::STAMP_BYTES;
use crate::schedule::Nanos;

/// Batches are about this large: enough for a system call to cost nothing per message, little
/// enough to stay in the processor's cache.
const BATCH_BYTES: usize = 64 * 1024;

/// What all messages of a channel have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) channel: u16,
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) mandatory: bool,
    pub(crate) persistent: bool,
    pub(crate) body_bytes: usize,
    pub(crate) frame_max: u32,
}

/// The frames of several messages.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    stride: usize,
    /// Where in a message the sequence number is, if the body has room for it.
    stamp_start: Option<usize>,
}

impl Batch {
    /// Makes the frames.
    pub(crate) fn new(message: &Message<'_>) -> Batch {
        let mut one = Vec::new();
        let publish = Publish {
            exchange: message.exchange,
            routing_key: message.routing_key,
            mandatory: message.mandatory,
            immediate: false,
        };
        let properties = Properties {
            delivery_mode: message.persistent.then_some(PERSISTENT),
            ..Properties::default()
        };
        write_publish(&mut one, message.channel, &publish);
        let body_bytes = message.body_bytes as u64;
        write_content_header(
            &mut one,
            message.channel,
            body_bytes,
            &properties.to_bytes(),
        );
        let body_start = one.len() + amqp::frame::FRAME_HEAD_BYTES;
        let body = vec![0; message.body_bytes];
        write_body(&mut one, message.channel, &body, message.frame_max);
        let count = (BATCH_BYTES / one.len()).max(1);
        Batch {
            bytes: one.repeat(count),
            stride: one.len(),
            stamp_start: (message.body_bytes >= STAMP_BYTES).then_some(body_start),
        }
    }

    /// How many messages it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// Size of one message on the wire.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Gives the frames of the first `count` messages.
    pub(crate) fn frames(&self, count: usize) -> &[u8] {
        &self.bytes[..count * self.stride]
    }

    /// Writes sequence numbers from `first` on and times into the first `count` messages.
    pub(crate) fn stamp(&mut self, count: usize, first: u64, time_of: impl Fn(u64) -> Nanos) {
        let Some(start) = self.stamp_start else {
            return;
        };
        let messages = self.bytes.chunks_exact_mut(self.stride).take(count);
        for (message, number) in messages.zip(first..) {
            let [.., n0, n1, n2, n3] = number.to_be_bytes();
            let [t0, t1, t2, t3, t4, t5, t6, t7] = time_of(number).to_be_bytes();
            let stamp = [n0, n1, n2, n3, t0, t1, t2, t3, t4, t5, t6, t7];
            message[start..start + STAMP_BYTES].copy_from_slice(&stamp);
        }
    }
}

/// Reads the time out of the first piece of a body.
#[inline]
pub(crate) fn stamped_time(body: &[u8]) -> Option<Nanos> {
    let (&[_, _, _, _, t0, t1, t2, t3, t4, t5, t6, t7], _) =
        body.split_first_chunk::<STAMP_BYTES>()?;
    Some(u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]))
}

#[cfg(test)]
mod tests {
    use amqp::{Assembly, Content, Method, Step, split};

    use super::*;

    fn message(body_bytes: usize) -> Message<'static> {
        Message {
            channel: 3,
            exchange: b"x",
            routing_key: b"key",
            mandatory: false,
            persistent: true,
            body_bytes,
            frame_max: 4096,
        }
    }

    /// Reads the frames back.
    fn contents(mut bytes: &[u8]) -> Vec<Content> {
        let mut assembly = Assembly::new(u64::MAX);
        let mut contents = Vec::new();
        while let Some((frame, used)) = split(bytes, 4096).expect("right frames") {
            assert_eq!(frame.channel, 3);
            bytes = &bytes[used..];
            match assembly.push(&frame).expect("right order") {
                Step::Content(content) => contents.push(content),
                step => assert_eq!(step, Step::Pending),
            }
        }
        assert!(bytes.is_empty() && assembly.is_idle());
        contents
    }

    #[test]
    fn messages_are_whole_and_stamped() {
        for body_bytes in [12, 16, 1024, 4088, 4089, 200_000] {
            let mut batch = Batch::new(&message(body_bytes));
            let count = batch.capacity().min(3);
            batch.stamp(count, 7, |number| 1000 * number);
            let contents = contents(batch.frames(count));
            assert_eq!(contents.len(), count);
            for (content, number) in contents.iter().zip(7_u64..) {
                let Method::BasicPublish(publish) = &content.method else {
                    panic!("{:?} is not a publish", content.method);
                };
                assert!(publish.exchange == "x" && publish.routing_key == "key");
                let properties = Properties::decode(content.properties()).expect("properties");
                assert_eq!(properties.delivery_mode, Some(2));
                assert_eq!(content.body().len(), body_bytes);
                assert_eq!(stamped_time(content.body()), Some(1000 * number));
                assert_eq!(content.body()[..4], [0, 0, 0, number.to_be_bytes()[7]]);
            }
        }
    }

    #[test]
    fn small_bodies_carry_no_time() {
        for body_bytes in [0, 11] {
            let mut batch = Batch::new(&message(body_bytes));
            batch.stamp(1, 0, |_| u64::MAX);
            let contents = contents(batch.frames(1));
            assert_eq!(contents[0].body(), vec![0; body_bytes]);
            assert_eq!(stamped_time(contents[0].body()), None);
        }
    }

    #[test]
    fn a_batch_is_large_and_holds_at_least_one() {
        let small = Batch::new(&message(16));
        assert!(small.capacity() > 500);
        assert!(small.capacity() * small.stride() <= BATCH_BYTES);
        assert_eq!(Batch::new(&message(1_000_000)).capacity(), 1);
    }
}
