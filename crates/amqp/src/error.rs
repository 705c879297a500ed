//! The answers to a peer that is at fault: reply codes, and the errors that carry them.
//!
//! A [`ConnectionError`] ends the connection, a [`ChannelError`] one channel; they are two types so
//! that neither can be taken for the other. Each is built by a named function from the tail of its
//! text; the function puts the name of the code in front, as RabbitMQ does:
//! `ChannelError::not_found("no queue 'q' in vhost '/'")` reads
//! `NOT_FOUND - no queue 'q' in vhost '/'`.
//!
//! Invariant: a text is at most 255 bytes, so that it fits the short string that carries it.

use std::fmt;

use thiserror::Error;

/// A reply code of `connection.close`, `channel.close` or `basic.return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl ReplyCode {
            $($(#[$doc])* pub const $name: ReplyCode = ReplyCode($value);)*

            /// Gives the name as it stands in front of an error text; `UNKNOWN` for a code that
            /// the protocol does not have.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

reply_codes! {
    /// Success, and the code of an orderly close.
    REPLY_SUCCESS = 200,
    /// The content is too large for the peer at this time.
    CONTENT_TOO_LARGE = 311,
    /// A mandatory message was not routed to any queue.
    NO_ROUTE = 312,
    /// An immediate message found no consumer.
    NO_CONSUMERS = 313,
    /// An operator closed the connection, or the node is shutting down.
    CONNECTION_FORCED = 320,
    /// The virtual host is not known.
    INVALID_PATH = 402,
    /// The user may not do this.
    ACCESS_REFUSED = 403,
    /// The named thing does not exist.
    NOT_FOUND = 404,
    /// The thing belongs to another connection.
    RESOURCE_LOCKED = 405,
    /// A condition of the method does not hold.
    PRECONDITION_FAILED = 406,
    /// A frame that cannot be decoded.
    FRAME_ERROR = 501,
    /// A frame with illegal values in its fields.
    SYNTAX_ERROR = 502,
    /// A method that does not fit the state, or that the peer does not know.
    COMMAND_INVALID = 503,
    /// A channel that is not open, or is open already.
    CHANNEL_ERROR = 504,
    /// A frame that was not expected at this place.
    UNEXPECTED_FRAME = 505,
    /// Not enough resources to go on.
    RESOURCE_ERROR = 506,
    /// A rule that the peer must keep was broken.
    NOT_ALLOWED = 530,
    /// A feature that is not provided.
    NOT_IMPLEMENTED = 540,
    /// A fault of the broker itself.
    INTERNAL_ERROR = 541,
}

impl ReplyCode {
    /// Takes a code as it came from a peer.
    #[must_use]
    pub const fn from_value(value: u16) -> ReplyCode {
        ReplyCode(value)
    }

    /// Gives the number that goes on the wire.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Says whether this code ends the whole connection, wherever it was raised.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        matches!(self.0, 320 | 402 | 501..=506 | 530 | 540 | 541)
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

/// Why a connection must be closed; the content of a `connection.close`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text} ({})", code.value())]
pub struct ConnectionError {
    /// The reply code.
    pub code: ReplyCode,
    /// Class of the method at fault, 0 if there is none.
    pub class_id: u16,
    /// Method at fault, 0 if there is none.
    pub method_id: u16,
    /// The whole text, with the name of the code in front.
    pub text: String,
}

/// Why a channel must be closed; the content of a `channel.close`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text} ({})", code.value())]
pub struct ChannelError {
    /// The reply code.
    pub code: ReplyCode,
    /// Class of the method at fault, 0 if there is none.
    pub class_id: u16,
    /// Method at fault, 0 if there is none.
    pub method_id: u16,
    /// The whole text, with the name of the code in front.
    pub text: String,
}

/// Either kind, for operations that can end in both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The connection must be closed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The channel must be closed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl Error {
    /// Names the method at fault.
    #[must_use]
    pub fn at(self, method: (u16, u16)) -> Error {
        match self {
            Error::Connection(error) => error.at(method).into(),
            Error::Channel(error) => error.at(method).into(),
        }
    }
}

/// A channel error raised on channel 0 can only end the connection; the code stays.
impl From<ChannelError> for ConnectionError {
    fn from(error: ChannelError) -> ConnectionError {
        let ChannelError {
            code,
            class_id,
            method_id,
            text,
        } = error;
        ConnectionError {
            code,
            class_id,
            method_id,
            text,
        }
    }
}

macro_rules! constructors {
    ($type:ident: $($(#[$doc:meta])* $name:ident = $code:ident,)*) => {
        impl $type {
            $(
                $(#[$doc])*
                #[cold]
                #[must_use]
                pub fn $name(text: impl fmt::Display) -> $type {
                    $type::new(ReplyCode::$code, text)
                }
            )*

            #[cold]
            fn new(code: ReplyCode, text: impl fmt::Display) -> $type {
                let text = full_text(code, &text);
                $type { code, class_id: 0, method_id: 0, text }
            }

            /// Names the method at fault.
            #[must_use]
            pub fn at(self, (class_id, method_id): (u16, u16)) -> $type {
                $type { class_id, method_id, ..self }
            }
        }
    };
}

constructors! { ConnectionError:
    /// 320: an operator, or the end of the node or of the virtual host, closes the connection.
    connection_forced = CONNECTION_FORCED,
    /// 402: the virtual host is not known.
    invalid_path = INVALID_PATH,
    /// 403: the login is refused. On channel 0 this ends the connection.
    access_refused = ACCESS_REFUSED,
    /// 404: used on channel 0 only.
    not_found = NOT_FOUND,
    /// 501: a frame that cannot be decoded.
    frame_error = FRAME_ERROR,
    /// 502: illegal values in the fields of a frame.
    syntax_error = SYNTAX_ERROR,
    /// 503: a method that does not fit the state, or that is not known.
    command_invalid = COMMAND_INVALID,
    /// 504: a channel that is not open, or is open already.
    channel_error = CHANNEL_ERROR,
    /// 505: a frame that was not expected at this place.
    unexpected_frame = UNEXPECTED_FRAME,
    /// 506: not enough resources to go on.
    resource_error = RESOURCE_ERROR,
    /// 530: a rule that the peer must keep was broken.
    not_allowed = NOT_ALLOWED,
    /// 540: a feature that is not provided.
    not_implemented = NOT_IMPLEMENTED,
    /// 541: a fault of our own.
    internal_error = INTERNAL_ERROR,
}

constructors! { ChannelError:
    /// 311: the content is too large for the peer at this time.
    content_too_large = CONTENT_TOO_LARGE,
    /// 312: a mandatory message was not routed.
    no_route = NO_ROUTE,
    /// 313: an immediate message found no consumer.
    no_consumers = NO_CONSUMERS,
    /// 403: the user may not do this, or nobody may.
    access_refused = ACCESS_REFUSED,
    /// 404: the named thing does not exist.
    not_found = NOT_FOUND,
    /// 405: the thing belongs to another connection.
    resource_locked = RESOURCE_LOCKED,
    /// 406: a condition of the method does not hold.
    precondition_failed = PRECONDITION_FAILED,
}

const TEXT_BYTES_MAX: usize = 255;

fn full_text(code: ReplyCode, tail: &dyn fmt::Display) -> String {
    let mut text = format!("{} - {tail}", code.name());
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - 3));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_name_in_front_and_fits_a_short_string() {
        let error = ChannelError::not_found("no queue 'q' in vhost '/'").at((50, 10));
        assert_eq!(error.text, "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!(
            (error.code.value(), error.class_id, error.method_id),
            (404, 50, 10)
        );

        let long = ConnectionError::not_allowed("ä".repeat(200)).text;
        assert!(long.len() <= 255 && long.starts_with("NOT_ALLOWED - ä") && long.ends_with("ä..."));
        let limit = ConnectionError::not_allowed("x".repeat(255 - 14)).text;
        assert_eq!((limit.len(), limit.ends_with('x')), (255, true));
    }

    #[test]
    fn codes_are_hard_or_soft_as_the_protocol_says() {
        for code in [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541] {
            assert!(ReplyCode::from_value(code).is_hard(), "{code}");
        }
        for code in [200, 311, 312, 313, 403, 404, 405, 406, 500, 507] {
            assert!(!ReplyCode::from_value(code).is_hard(), "{code}");
        }
        assert_eq!(ReplyCode::from_value(999).name(), "UNKNOWN");
    }
}
