//! Writers: each appends whole frames to a buffer.
//!
//! Those for publish, deliver, ack and nack come once per message and are written out by hand: the
//! size is known beforehand, room is made once, and fixed parts go in one piece.
//!
//! The caller answers for two limits, both set when the bytes were taken in: names are at most 255
//! bytes (longer ones are cut), and a method or header frame fits `frame_max`.

use crate::content::{BASIC_CLASS, CONTENT_HEADER_BYTES};
use crate::frame::{
    FRAME_BODY, FRAME_END, FRAME_HEAD_BYTES, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD,
    FRAME_OVERHEAD_BYTES,
};
use crate::method::Method;
use crate::short_str::SHORT_STR_BYTES_MAX;
use crate::view::{ACK_HEAD, DELIVER_HEAD, Deliver, NACK_HEAD, Nack, PUBLISH_HEAD, Publish};

/// The head of a frame with `size` bytes of payload.
#[inline]
fn frame_head(kind: u8, channel: u16, size: usize) -> [u8; FRAME_HEAD_BYTES] {
    let size = u32::try_from(size).expect("a frame is far smaller than 4 GiB");
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [kind, c0, c1, s0, s1, s2, s3]
}

/// The part of a name that a short string can hold.
#[inline]
fn short(name: &[u8]) -> &[u8] {
    &name[..name.len().min(SHORT_STR_BYTES_MAX)]
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "`short` has cut the name to 255 bytes"
)]
fn put_short(out: &mut Vec<u8>, name: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

/// Appends a method frame.
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    method.encode(out);
    let size = out.len() - start - FRAME_HEAD_BYTES;
    out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&frame_head(FRAME_METHOD, channel, size));
    out.push(FRAME_END);
}

/// Appends a heartbeat frame.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&frame_head(FRAME_HEARTBEAT, 0, 0));
    out.push(FRAME_END);
}

/// Appends a content header frame with properties that are encoded already.
#[inline]
pub fn write_content_header(out: &mut Vec<u8>, channel: u16, body_size: u64, properties: &[u8]) {
    let size = CONTENT_HEADER_BYTES + properties.len();
    out.reserve(size + FRAME_OVERHEAD_BYTES);
    let mut head = [0; FRAME_HEAD_BYTES + CONTENT_HEADER_BYTES];
    head[..7].copy_from_slice(&frame_head(FRAME_HEADER, channel, size));
    head[7..9].copy_from_slice(&BASIC_CLASS.to_be_bytes());
    head[11..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a body in as many frames as `frame_max` asks for; none if it is empty. A `frame_max` of
/// 0 is no limit.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    let payload_max = payload_max(frame_max);
    if body.len() <= payload_max {
        if !body.is_empty() {
            write_body_frame(out, channel, body);
        }
        return;
    }
    let frames = body.len().div_ceil(payload_max);
    out.reserve(body.len() + frames * FRAME_OVERHEAD_BYTES);
    for piece in body.chunks(payload_max) {
        write_body_frame(out, channel, piece);
    }
}

#[inline]
fn payload_max(frame_max: u32) -> usize {
    match frame_max {
        0 => u32::MAX as usize,
        _ => (frame_max as usize)
            .saturating_sub(FRAME_OVERHEAD_BYTES)
            .max(1),
    }
}

#[inline]
fn write_body_frame(out: &mut Vec<u8>, channel: u16, piece: &[u8]) {
    out.reserve(piece.len() + FRAME_OVERHEAD_BYTES);
    out.extend_from_slice(&frame_head(FRAME_BODY, channel, piece.len()));
    out.extend_from_slice(piece);
    out.push(FRAME_END);
}

/// Appends the method frame of a publish.
#[inline]
pub fn write_publish(out: &mut Vec<u8>, channel: u16, publish: &Publish<'_>) {
    let (exchange, routing_key) = (short(publish.exchange), short(publish.routing_key));
    let size = 4 + 2 + 1 + exchange.len() + 1 + routing_key.len() + 1;
    out.reserve(size + FRAME_OVERHEAD_BYTES);
    let mut head = [0; FRAME_HEAD_BYTES + 6];
    head[..7].copy_from_slice(&frame_head(FRAME_METHOD, channel, size));
    head[7..11].copy_from_slice(&PUBLISH_HEAD);
    out.extend_from_slice(&head);
    put_short(out, exchange);
    put_short(out, routing_key);
    let bits = u8::from(publish.mandatory) | u8::from(publish.immediate) << 1;
    out.extend_from_slice(&[bits, FRAME_END]);
}

/// Appends the method frame of a delivery.
#[inline]
pub fn write_deliver(out: &mut Vec<u8>, channel: u16, deliver: &Deliver<'_>) {
    let tag = short(deliver.consumer_tag);
    let (exchange, routing_key) = (short(deliver.exchange), short(deliver.routing_key));
    let size = 4 + 1 + tag.len() + 8 + 1 + 1 + exchange.len() + 1 + routing_key.len();
    out.reserve(size + FRAME_OVERHEAD_BYTES);
    let mut head = [0; FRAME_HEAD_BYTES + 4];
    head[..7].copy_from_slice(&frame_head(FRAME_METHOD, channel, size));
    head[7..].copy_from_slice(&DELIVER_HEAD);
    out.extend_from_slice(&head);
    put_short(out, tag);
    let mut middle = [0; 9];
    middle[..8].copy_from_slice(&deliver.delivery_tag.to_be_bytes());
    middle[8] = u8::from(deliver.redelivered);
    out.extend_from_slice(&middle);
    put_short(out, exchange);
    put_short(out, routing_key);
    out.push(FRAME_END);
}

/// Appends an ack frame.
#[inline]
pub fn write_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_tag(out, channel, ACK_HEAD, delivery_tag, u8::from(multiple));
}

/// Appends a nack frame.
#[inline]
pub fn write_nack(out: &mut Vec<u8>, channel: u16, nack: Nack) {
    let bits = u8::from(nack.multiple) | u8::from(nack.requeue) << 1;
    write_tag(out, channel, NACK_HEAD, nack.delivery_tag, bits);
}

/// Appends a frame with the arguments that ack and nack share.
#[inline]
fn write_tag(out: &mut Vec<u8>, channel: u16, method: [u8; 4], delivery_tag: u64, bits: u8) {
    let mut frame = [0; FRAME_HEAD_BYTES + 14];
    frame[..7].copy_from_slice(&frame_head(FRAME_METHOD, channel, 13));
    frame[7..11].copy_from_slice(&method);
    frame[11..19].copy_from_slice(&delivery_tag.to_be_bytes());
    frame[19] = bits;
    frame[20] = FRAME_END;
    out.extend_from_slice(&frame);
}

#[cfg(test)]
mod tests;
