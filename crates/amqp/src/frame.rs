//! Frames: how bytes of a connection are cut into pieces that belong to channels.
//!
//! ```text
//!  octet 0   1 2       3 4 5 6    7 ...        7 + size
//!  kind      channel   size       payload      0xCE
//! ```
//!
//! [`split`] answers from the seven octets of the head alone whether a frame may come at all, so a
//! peer cannot make us wait for, or buffer, more than a frame may hold. The size limit is
//! RabbitMQ's: `frame_max` counts the whole frame, and 8 bytes more are tolerated, since clients
//! are found that count only the payload.

use std::fmt;

use crate::error::ConnectionError;

/// Kind octet of a method frame.
pub const FRAME_METHOD: u8 = 1;
/// Kind octet of a content header frame.
pub const FRAME_HEADER: u8 = 2;
/// Kind octet of a content body frame.
pub const FRAME_BODY: u8 = 3;
/// Kind octet of a heartbeat frame.
pub const FRAME_HEARTBEAT: u8 = 8;
/// The octet behind every payload.
pub const FRAME_END: u8 = 0xCE;
/// The smallest `frame_max` that may be negotiated, and the limit until it is.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// Octets in front of the payload.
pub const FRAME_HEAD_BYTES: usize = 7;
/// Octets of a frame that are not payload.
pub const FRAME_OVERHEAD_BYTES: usize = FRAME_HEAD_BYTES + 1;
/// The first bytes of a connection, in both directions.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method and its arguments.
    Method,
    /// The size and the properties of a content.
    Header,
    /// A piece of the body of a content.
    Body,
    /// A sign of life, on channel 0 and without payload.
    Heartbeat,
}

impl FrameKind {
    /// Gives the kind octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            FrameKind::Method => FRAME_METHOD,
            FrameKind::Header => FRAME_HEADER,
            FrameKind::Body => FRAME_BODY,
            FrameKind::Heartbeat => FRAME_HEARTBEAT,
        }
    }
}

/// A whole frame, still lying in the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What lies between head and end octet.
    pub payload: &'a [u8],
}

/// Takes the frame at the front of `buf` and says how many bytes it occupies. `None`: more bytes
/// are needed. A `frame_max` of 0 is no limit.
///
/// # Errors
/// 501 for a frame over the limit, of unknown kind, without its end octet, or a heartbeat with a
/// payload; 505 for a heartbeat on a channel.
#[inline]
pub fn split(buf: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, ConnectionError> {
    let Some((head, rest)) = buf.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(None);
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let channel = u16::from_be_bytes([c0, c1]);
    if size > frame_max && frame_max != 0 {
        return Err(too_large(kind, size, frame_max));
    }
    let kind = match kind {
        FRAME_METHOD => FrameKind::Method,
        FRAME_HEADER => FrameKind::Header,
        FRAME_BODY => FrameKind::Body,
        FRAME_HEARTBEAT => {
            check_heartbeat(channel, size)?;
            FrameKind::Heartbeat
        }
        unknown => return Err(frame_error(unknown, &[], "unknown_frame")),
    };
    let Some((payload, [end, ..])) = rest.split_at_checked(size as usize) else {
        return Ok(None);
    };
    if *end != FRAME_END {
        let what = format!("{{invalid_frame_end_marker,{end}}}");
        return Err(frame_error(kind.octet(), payload, what));
    }
    Ok(Some((
        Frame {
            kind,
            channel,
            payload,
        },
        size as usize + FRAME_OVERHEAD_BYTES,
    )))
}

#[cold]
fn check_heartbeat(channel: u16, size: u32) -> Result<(), ConnectionError> {
    if size != 0 {
        return Err(frame_error(FRAME_HEARTBEAT, &[], "unknown_frame"));
    }
    if channel != 0 {
        return Err(unexpected(FRAME_HEARTBEAT, &[]));
    }
    Ok(())
}

#[cold]
fn too_large(kind: u8, size: u32, frame_max: u32) -> ConnectionError {
    let limit = i64::from(frame_max) - 8;
    frame_error(kind, &[], format!("{{frame_too_large,{size},{limit}}}"))
}

/// 501 in RabbitMQ's words.
#[cold]
pub(crate) fn frame_error(kind: u8, payload: &[u8], what: impl fmt::Display) -> ConnectionError {
    ConnectionError::frame_error(format_args!("{}: {what}", Snippet { kind, payload }))
}

/// 505 in RabbitMQ's words.
#[cold]
fn unexpected(kind: u8, payload: &[u8]) -> ConnectionError {
    ConnectionError::unexpected_frame(Snippet { kind, payload })
}

impl Frame<'_> {
    /// Gives the error for a frame that has no business where it came: 505.
    #[cold]
    #[must_use]
    pub fn unexpected(&self) -> ConnectionError {
        unexpected(self.kind.octet(), self.payload)
    }
}

/// Kind and first octets of a frame, as RabbitMQ shows them.
struct Snippet<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, shown) = match self.payload.get(..16) {
            Some(first) if self.payload.len() > 16 => ("first 16", first),
            _ => ("all", self.payload),
        };
        write!(f, "type {}, {word} octets = <<", self.kind)?;
        if !shown.is_empty() && shown.iter().all(|b| matches!(b, b' '..=b'~')) {
            write!(f, "{:?}", String::from_utf8_lossy(shown))?;
        } else {
            for (i, octet) in shown.iter().enumerate() {
                write!(f, "{}{octet}", if i == 0 { "" } else { "," })?;
            }
        }
        f.write_str(">>")
    }
}

#[cfg(test)]
mod tests;
