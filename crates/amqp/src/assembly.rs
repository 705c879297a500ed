//! Assembly of contents on one channel: method, header, bodies.
//!
//! ```text
//!            method without content              the announced size is reached
//!           +----------+                        +------------------------------+
//!           v          |                        v                              |
//!         Method ------+                      Method                           |
//!           |  method with content                                             |
//!           +------------------> Header -- header, size > 0 --> Body ----------+
//!                                  |                              ^  |  body frame
//!                                  +-- header, size 0: done       +--+
//! ```
//!
//! Keeps true: a body never holds more than was announced, the byte too many is refused when its
//! frame comes; memory grows with the bytes that have arrived, not with the size announced; of a
//! message over `message_bytes_max` nothing is kept, but its frames are awaited, since the answer
//! to it ends the channel and not the connection.

use crate::content::{BASIC_CLASS, ContentHeader};
use crate::error::ConnectionError;
use crate::frame::{Frame, FrameKind};
use crate::method::Method;

/// A method with its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The method that announced it.
    pub method: Method,
    /// The properties, and the body right behind them.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the body begins.
    pub body_start: usize,
}

impl Content {
    /// Gives the encoded properties; see [`crate::PropertiesView`].
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        &self.bytes[..self.body_start]
    }

    /// Gives the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_start..]
    }
}

/// What a frame has led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// More frames must come.
    Pending,
    /// A method without content.
    Method(Method),
    /// A method with its whole content.
    Content(Content),
    /// A content over the configured size has ended; it was not kept.
    Oversized {
        /// The method that announced it.
        method: Method,
        /// The size of its body.
        body_size: u64,
    },
}

/// Puts the frames of one channel together.
#[derive(Clone, Debug)]
pub struct Assembly {
    message_bytes_max: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Method,
    Header(Method),
    Body {
        content: Content,
        body_size: u64,
        missing: u64,
    },
}

/// Room for a body grows by at least this much, and never beyond what was announced.
const GROW_BYTES_MIN: u64 = 64 * 1024;

impl Assembly {
    /// A channel that has received nothing. Bodies over `message_bytes_max` will not be kept.
    #[must_use]
    pub const fn new(message_bytes_max: u64) -> Assembly {
        Assembly {
            message_bytes_max,
            state: State::Method,
        }
    }

    /// Says whether a method is due: no content has been begun.
    #[inline]
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Method)
    }

    /// How many bytes a content that has been begun occupies.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::Body { content, .. } => content.bytes.capacity(),
            State::Method | State::Header(_) => 0,
        }
    }

    /// Takes the next frame of the channel. After an error the channel can receive nothing more.
    ///
    /// # Errors
    /// 505 for a frame that is not the one due; 501 for a body beyond the announced size, for an
    /// announced size over 512 MiB and for what cannot be decoded; 502 and 503 as
    /// [`Method::decode`].
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<Step, ConnectionError> {
        match std::mem::replace(&mut self.state, State::Method) {
            State::Method => self.push_method(frame),
            State::Header(method) => self.push_header(frame, method),
            State::Body {
                content,
                body_size,
                missing,
            } => self.push_body(frame, content, body_size, missing),
        }
    }

    fn push_method(&mut self, frame: &Frame<'_>) -> Result<Step, ConnectionError> {
        if frame.kind != FrameKind::Method {
            return Err(ConnectionError::unexpected_frame(
                "expected method frame, got non method frame instead",
            ));
        }
        let method = Method::decode(frame.payload)?;
        if !method.has_content() {
            return Ok(Step::Method(method));
        }
        self.state = State::Header(method);
        Ok(Step::Pending)
    }

    fn push_header(&mut self, frame: &Frame<'_>, method: Method) -> Result<Step, ConnectionError> {
        let id = method.id();
        if frame.kind != FrameKind::Header {
            return Err(ConnectionError::unexpected_frame(format_args!(
                "expected content header for class {BASIC_CLASS}, \
                 got non content header frame instead"
            ))
            .at(id));
        }
        let header = ContentHeader::parse(frame.payload).map_err(|error| error.at(id))?;
        let content = Content {
            method,
            bytes: header.properties.to_vec(),
            body_start: header.properties.len(),
        };
        Ok(self.proceed(content, header.body_size, header.body_size))
    }

    fn push_body(
        &mut self,
        frame: &Frame<'_>,
        mut content: Content,
        body_size: u64,
        missing: u64,
    ) -> Result<Step, ConnectionError> {
        let id = content.method.id();
        if frame.kind != FrameKind::Body {
            return Err(ConnectionError::unexpected_frame(
                "expected content body, got non content body frame instead",
            )
            .at(id));
        }
        let Some(still_missing) = missing.checked_sub(frame.payload.len() as u64) else {
            return Err(ConnectionError::frame_error(
                "content body frame exceeds remaining content size",
            )
            .at(id));
        };
        if body_size <= self.message_bytes_max {
            grow(&mut content.bytes, frame.payload.len(), missing);
            content.bytes.extend_from_slice(frame.payload);
        }
        Ok(self.proceed(content, body_size, still_missing))
    }

    /// Ends the content or waits for more of it.
    fn proceed(&mut self, content: Content, body_size: u64, missing: u64) -> Step {
        if missing > 0 {
            self.state = State::Body {
                content,
                body_size,
                missing,
            };
            Step::Pending
        } else if body_size > self.message_bytes_max {
            Step::Oversized {
                method: content.method,
                body_size,
            }
        } else {
            Step::Content(content)
        }
    }
}

/// Makes room for `more` bytes of a body that lacks `missing`: the room doubles, so that copying
/// stays proportional to the body, but is never more than the body needs.
fn grow(bytes: &mut Vec<u8>, more: usize, missing: u64) {
    if bytes.capacity() - bytes.len() < more {
        let wanted = (bytes.len() as u64).max(GROW_BYTES_MIN).min(missing);
        bytes.reserve_exact(more.max(usize::try_from(wanted).unwrap_or(more)));
    }
}

#[cfg(test)]
mod tests;
