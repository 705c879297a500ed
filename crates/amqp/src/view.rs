//! Borrowed views of the methods that come once per message: publish, deliver, ack, nack, reject.
//!
//! `peek` looks at the payload of a method frame. It gives `None` when that is another method, and
//! otherwise the arguments as slices of the payload: nothing is copied or allocated. It accepts and
//! refuses exactly what [`crate::Method::decode`] does.

use crate::error::ConnectionError;
use crate::wire::{Malformed, Reader};

const BASIC: u16 = 60;
const PUBLISH: u16 = 40;
const DELIVER: u16 = 60;
const ACK: u16 = 80;
const REJECT: u16 = 90;
const NACK: u16 = 120;

/// Class and method id as they lead a payload.
pub(crate) const fn head(method: u16) -> [u8; 4] {
    let [c0, c1] = BASIC.to_be_bytes();
    let [m0, m1] = method.to_be_bytes();
    [c0, c1, m0, m1]
}

pub(crate) const PUBLISH_HEAD: [u8; 4] = head(PUBLISH);
pub(crate) const DELIVER_HEAD: [u8; 4] = head(DELIVER);
pub(crate) const ACK_HEAD: [u8; 4] = head(ACK);
pub(crate) const REJECT_HEAD: [u8; 4] = head(REJECT);
pub(crate) const NACK_HEAD: [u8; 4] = head(NACK);

/// The arguments of `basic.publish`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The exchange; empty for the default one.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Send the message back if no queue takes it.
    pub mandatory: bool,
    /// Send the message back if no consumer takes it at once.
    pub immediate: bool,
}

/// The arguments of `basic.deliver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// The consumer.
    pub consumer_tag: &'a [u8],
    /// Number of the delivery on its channel.
    pub delivery_tag: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Where it was published.
    pub exchange: &'a [u8],
    /// The routing key it had.
    pub routing_key: &'a [u8],
}

/// The arguments of `basic.ack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The delivery or publish.
    pub delivery_tag: u64,
    /// This one and all before it.
    pub multiple: bool,
}

/// The arguments of `basic.nack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nack {
    /// The delivery or publish.
    pub delivery_tag: u64,
    /// This one and all before it.
    pub multiple: bool,
    /// Put them back into the queue.
    pub requeue: bool,
}

/// The arguments of `basic.reject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reject {
    /// The delivery.
    pub delivery_tag: u64,
    /// Put it back into the queue.
    pub requeue: bool,
}

/// Finishes a peek: names the method in an error.
#[inline]
fn finish<T>(
    read: impl FnOnce() -> Result<T, Malformed>,
    method: u16,
) -> Result<Option<T>, ConnectionError> {
    match read() {
        Ok(view) => Ok(Some(view)),
        Err(malformed) => Err(ConnectionError::from(malformed).at((BASIC, method))),
    }
}

impl<'a> Publish<'a> {
    /// Reads the payload of a method frame, if it is a publish.
    ///
    /// # Errors
    /// 502 if the arguments are malformed.
    #[inline]
    pub fn peek(payload: &'a [u8]) -> Result<Option<Publish<'a>>, ConnectionError> {
        let Some(arguments) = payload.strip_prefix(&PUBLISH_HEAD) else {
            return Ok(None);
        };
        finish(|| Publish::read(arguments), PUBLISH)
    }

    #[inline]
    pub(crate) fn read(arguments: &'a [u8]) -> Result<Publish<'a>, Malformed> {
        let mut reader = Reader::new(arguments);
        reader.u16()?;
        let exchange = reader.short_bytes()?;
        let routing_key = reader.short_bytes()?;
        let bits = reader.u8()?;
        reader.finish()?;
        Ok(Publish {
            exchange,
            routing_key,
            mandatory: bits & 1 != 0,
            immediate: bits & 2 != 0,
        })
    }
}

impl<'a> Deliver<'a> {
    /// Reads the payload of a method frame, if it is a deliver.
    ///
    /// # Errors
    /// 502 if the arguments are malformed.
    #[inline]
    pub fn peek(payload: &'a [u8]) -> Result<Option<Deliver<'a>>, ConnectionError> {
        let Some(arguments) = payload.strip_prefix(&DELIVER_HEAD) else {
            return Ok(None);
        };
        finish(|| Deliver::read(arguments), DELIVER)
    }

    #[inline]
    fn read(arguments: &'a [u8]) -> Result<Deliver<'a>, Malformed> {
        let mut reader = Reader::new(arguments);
        let consumer_tag = reader.short_bytes()?;
        let delivery_tag = reader.u64()?;
        let redelivered = reader.u8()? & 1 != 0;
        let exchange = reader.short_bytes()?;
        let routing_key = reader.short_bytes()?;
        reader.finish()?;
        Ok(Deliver {
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
        })
    }
}

/// Reads the arguments that ack, nack and reject share: a delivery tag and an octet of bits.
#[inline]
fn tag_and_bits(arguments: &[u8]) -> Result<(u64, u8), Malformed> {
    let mut reader = Reader::new(arguments);
    let tag = reader.u64()?;
    let bits = reader.u8()?;
    reader.finish()?;
    Ok((tag, bits))
}

impl Ack {
    /// Reads the payload of a method frame, if it is an ack.
    ///
    /// # Errors
    /// 502 if the arguments are malformed.
    #[inline]
    pub fn peek(payload: &[u8]) -> Result<Option<Ack>, ConnectionError> {
        let Some(arguments) = payload.strip_prefix(&ACK_HEAD) else {
            return Ok(None);
        };
        let read = || {
            let (delivery_tag, bits) = tag_and_bits(arguments)?;
            Ok(Ack {
                delivery_tag,
                multiple: bits & 1 != 0,
            })
        };
        finish(read, ACK)
    }
}

impl Nack {
    /// Reads the payload of a method frame, if it is a nack.
    ///
    /// # Errors
    /// 502 if the arguments are malformed.
    #[inline]
    pub fn peek(payload: &[u8]) -> Result<Option<Nack>, ConnectionError> {
        let Some(arguments) = payload.strip_prefix(&NACK_HEAD) else {
            return Ok(None);
        };
        let read = || {
            let (delivery_tag, bits) = tag_and_bits(arguments)?;
            Ok(Nack {
                delivery_tag,
                multiple: bits & 1 != 0,
                requeue: bits & 2 != 0,
            })
        };
        finish(read, NACK)
    }
}

impl Reject {
    /// Reads the payload of a method frame, if it is a reject.
    ///
    /// # Errors
    /// 502 if the arguments are malformed.
    #[inline]
    pub fn peek(payload: &[u8]) -> Result<Option<Reject>, ConnectionError> {
        let Some(arguments) = payload.strip_prefix(&REJECT_HEAD) else {
            return Ok(None);
        };
        let read = || {
            let (delivery_tag, bits) = tag_and_bits(arguments)?;
            Ok(Reject {
                delivery_tag,
                requeue: bits & 1 != 0,
            })
        };
        finish(read, REJECT)
    }
}

#[cfg(test)]
mod tests;
