//! AMQP 0-9-1 on the wire: bytes in, methods and contents out, and the way back.
//!
//! Both directions of every method are here, so that a broker and a client can be built on the
//! same codec. Nothing in this crate does IO, and no input whatsoever makes it panic: bad input is
//! a [`ConnectionError`] with the reply code that the peer is told.
//!
//! Reading: [`split`] cuts frames out of a buffer; [`Method::decode`] reads any method;
//! [`Assembly`] puts methods and their contents together for one channel. For the methods that
//! come once per message there are borrowed views ([`Publish`], [`Deliver`], [`Ack`], ...) and
//! [`WholePublish`], which copy and allocate nothing.
//!
//! Writing: the functions of [`mod@write`] append frames to a `Vec<u8>`.

pub mod assembly;
pub mod content;
pub mod error;
pub mod field;
pub mod frame;
pub mod method;
pub mod properties;
pub mod short_str;
#[cfg(test)]
mod testing;
pub mod view;
mod wire;
pub mod write;

pub use assembly::{Assembly, Content, Step};
pub use content::{ContentHeader, WholePublish, whole_publish};
pub use error::{ChannelError, ConnectionError, Error, ReplyCode};
pub use field::{Table, Value};
pub use frame::{Frame, FrameKind, split};
pub use method::Method;
pub use properties::{Properties, PropertiesView, RawTable};
pub use short_str::ShortStr;
pub use view::{Ack, Deliver, Nack, Publish, Reject};
pub use write::{
    write_ack, write_body, write_content_header, write_deliver, write_heartbeat, write_method,
    write_nack, write_publish,
};
