//! Methods as the specification lists their arguments, for tests that speak by hand.
//!
//! Bits are given as one octet, the first bit lowest.

use black_box::{Method, Value};

/// `x-…` arguments.
pub(crate) type Arguments<'a> = &'a [(&'a str, Value)];

pub(crate) const DECLARE_OK: (u16, u16) = (50, 11);

/// Bits of `queue.declare` and `exchange.declare`.
pub(crate) const PASSIVE: u8 = 1;
pub(crate) const DURABLE: u8 = 2;
pub(crate) const EXCLUSIVE: u8 = 4;
pub(crate) const INTERNAL: u8 = 8;
/// Of a queue.
pub(crate) const AUTO_DELETE: u8 = 8;

pub(crate) fn declare(queue: &str, bits: u8, arguments: Arguments) -> Method {
    Method::new(50, 10).short(0).text(queue).octet(bits).table(arguments)
}

pub(crate) fn delete(queue: &str, bits: u8) -> Method {
    Method::new(50, 40).short(0).text(queue).octet(bits)
}

pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> Method {
    Method::new(50, 20).short(0).text(queue).text(exchange).text(key).octet(0).table(&[])
}

pub(crate) fn exchange(name: &str, kind: &str, bits: u8, arguments: Arguments) -> Method {
    Method::new(40, 10).short(0).text(name).text(kind).octet(bits).table(arguments)
}

pub(crate) fn delete_exchange(name: &str) -> Method {
    Method::new(40, 20).short(0).text(name).octet(0)
}

pub(crate) fn qos(prefetch_bytes: u32, prefetch: u16) -> Method {
    Method::new(60, 10).long(prefetch_bytes).short(prefetch).octet(0)
}

/// Bits of `basic.consume`.
pub(crate) const NO_ACK: u8 = 2;
pub(crate) const ALONE: u8 = 4;

pub(crate) fn consume(queue: &str, tag: &str, bits: u8) -> Method {
    Method::new(60, 20).short(0).text(queue).text(tag).octet(bits).table(&[])
}

pub(crate) fn get(queue: &str) -> Method {
    Method::new(60, 70).short(0).text(queue).octet(0)
}

pub(crate) fn ack(tag: u64) -> Method {
    Method::new(60, 80).long_long(tag).octet(0)
}

pub(crate) fn confirm_select() -> Method {
    Method::new(85, 10).octet(0)
}

pub(crate) fn tx_select() -> Method {
    Method::new(90, 10)
}
