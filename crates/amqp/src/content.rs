//! Content headers, and the short way for a message that lies whole in the read buffer.
//!
//! A content is a method, a header frame that announces the size of the body and carries the
//! properties, and body frames. [`whole_publish`] recognises the common case (publish, header and
//! at most one body frame, one behind the other on one channel) in one pass without a copy;
//! whatever else there is, good or bad, goes the long way through [`crate::split`] and
//! [`crate::Assembly`].
//!
//! Invariant: a `ContentHeader` announces at most [`CONTENT_BYTES_MAX`].

use crate::error::ConnectionError;
use crate::frame::{
    FRAME_BODY, FRAME_END, FRAME_HEAD_BYTES, FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD_BYTES,
    frame_error,
};
use crate::view::{PUBLISH_HEAD, Publish};

/// The only class with content.
pub const BASIC_CLASS: u16 = 60;

/// The largest body that may be announced, whatever the configuration says.
pub const CONTENT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Octets of a header payload in front of the properties.
pub(crate) const CONTENT_HEADER_BYTES: usize = 12;

/// A content header, with the properties still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class; always that of basic.
    pub class: u16,
    /// Size of the body in bytes.
    pub body_size: u64,
    /// Property flags and properties; see [`crate::PropertiesView`].
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a content header frame. The properties are not looked at.
    ///
    /// # Errors
    /// 505 for a class without content or a weight, 501 for a payload that is too short and for an
    /// announced size over 512 MiB.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<ContentHeader<'a>, ConnectionError> {
        let Some((head, properties)) = payload.split_first_chunk::<CONTENT_HEADER_BYTES>() else {
            return Err(frame_error(FRAME_HEADER, payload, "unknown_frame"));
        };
        let &[c0, c1, w0, w1, s0, s1, s2, s3, s4, s5, s6, s7] = head;
        let class = u16::from_be_bytes([c0, c1]);
        let weight = u16::from_be_bytes([w0, w1]);
        let body_size = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        if class != BASIC_CLASS || weight != 0 || body_size > CONTENT_BYTES_MAX {
            return Err(refused(class, weight, body_size));
        }
        Ok(ContentHeader {
            class,
            body_size,
            properties,
        })
    }
}

#[cold]
fn refused(class: u16, weight: u16, body_size: u64) -> ConnectionError {
    if weight != 0 {
        return ConnectionError::unexpected_frame(format_args!(
            "expected content header for class {BASIC_CLASS}, got non content header frame instead"
        ));
    }
    if class != BASIC_CLASS {
        return ConnectionError::unexpected_frame(format_args!(
            "expected content header for class {BASIC_CLASS}, \
             got one for class {class} instead"
        ));
    }
    ConnectionError::frame_error(format_args!(
        "content body size {body_size} exceeds maximum allowed size {CONTENT_BYTES_MAX}"
    ))
}

/// A published message that lies whole in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholePublish<'a> {
    /// The channel of all its frames.
    pub channel: u16,
    /// The method.
    pub publish: Publish<'a>,
    /// The header.
    pub header: ContentHeader<'a>,
    /// The body, in one piece.
    pub body: &'a [u8],
    /// How many bytes of the buffer the frames occupy.
    pub used: usize,
}

/// Takes the published message at the front of `buf`, if it lies there whole and with at most one
/// body frame. `None` says nothing about whether the bytes are right: go the long way then.
///
/// Only for a channel whose [`crate::Assembly`] is idle. The properties and the configured size of
/// messages are for the caller to check.
#[inline]
#[must_use]
pub fn whole_publish(buf: &[u8], frame_max: u32) -> Option<WholePublish<'_>> {
    let limit = if frame_max == 0 { u32::MAX } else { frame_max };
    let (channel, payload, rest) = frame_of(FRAME_METHOD, buf, limit)?;
    let publish = Publish::read(payload.strip_prefix(&PUBLISH_HEAD)?).ok()?;
    let (header_channel, payload, rest) = frame_of(FRAME_HEADER, rest, limit)?;
    let header = ContentHeader::parse(payload).ok()?;
    let (body_channel, body, rest) = if header.body_size == 0 {
        (channel, &[][..], rest)
    } else {
        frame_of(FRAME_BODY, rest, limit)?
    };
    if channel != header_channel || channel != body_channel || body.len() as u64 != header.body_size
    {
        return None;
    }
    Some(WholePublish {
        channel,
        publish,
        header,
        body,
        used: buf.len() - rest.len(),
    })
}

/// Channel, payload and what follows, if `buf` begins with a whole frame of this kind.
#[inline]
fn frame_of(kind: u8, buf: &[u8], limit: u32) -> Option<(u16, &[u8], &[u8])> {
    let (&[k, c0, c1, s0, s1, s2, s3], rest) = buf.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if k != kind || size > limit {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(size as usize)?;
    let (&FRAME_END, rest) = rest.split_first()? else {
        return None;
    };
    debug_assert!(buf.len() == rest.len() + payload.len() + FRAME_OVERHEAD_BYTES);
    Some((u16::from_be_bytes([c0, c1]), payload, rest))
}

#[cfg(test)]
mod tests;
