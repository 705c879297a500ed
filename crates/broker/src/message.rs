//! A message: what users send. Immutable, shared by counting, eight bytes to hold.
//!
//! It is kept as the publisher's frames laid it on the wire, in one allocation:
//!
//! ```text
//! exchange routing-key bits CE | 02 ch ch size class weight body-size properties CE | 03 ch ch size body
//! ```
//!
//! so that taking a message in is one copy, and handing it to a consumer is one copy of the part from
//! the header frame on, with the channel numbers overwritten. The same bytes are what the store keeps.
//! Invariant: `properties` was validated by `PropertiesView::parse` when the message was made.

use amqp::{PropertiesView, ShortStr};
use triomphe::ThinArc;

const FRAME_HEADER_SIZE: usize = 7;
/// class, weight and body size in front of the properties.
const CONTENT_HEADER_SIZE: usize = 12;

/// Where the parts lie, and what queues ask on every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    header_at: u32,
    properties_at: u32,
    properties_end: u32,
    body_at: u32,
    flags: u8,
    priority: u8,
}

const PERSISTENT: u8 = 1;
const HAS_EXPIRATION: u8 = 2;

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Message(ThinArc<Head, u8>);

/// Bytes that are not a message (a corrupt record, or a bug of the caller).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes are not a message")]
pub struct NotAMessage;

impl Message {
    /// Takes a whole publish as it lies in a read buffer: `wire` begins at the exchange name of the
    /// publish method and ends with the last byte of the only body frame (or of the header frame's
    /// end octet when the body is empty). `properties` must be the view of this message's properties.
    #[must_use]
    pub fn from_wire(wire: &[u8], view: &PropertiesView<'_>) -> Option<Message> {
        let head = Head::find(wire, view)?;
        Some(Message(ThinArc::from_header_and_slice(head, wire)))
    }

    /// Builds a message from parts.
    #[must_use]
    pub fn new(exchange: &[u8], routing_key: &[u8], properties: &[u8], body: &[u8]) -> Option<Message> {
        let mut wire = Vec::with_capacity(
            exchange.len() + routing_key.len() + properties.len() + body.len() + 40,
        );
        write_wire(&mut wire, exchange, routing_key, properties, body.len())?;
        wire.extend_from_slice(body);
        let view = PropertiesView::parse(properties).ok()?;
        Message::from_wire(&wire, &view)
    }

    /// Reads back what [`Message::as_bytes`] gave.
    ///
    /// # Errors
    /// When the bytes are not a message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Message, NotAMessage> {
        let (_, properties_at, properties_end) = Head::frames(bytes).ok_or(NotAMessage)?;
        let view = PropertiesView::parse(&bytes[properties_at..properties_end]).map_err(|_| NotAMessage)?;
        Message::from_wire(bytes, &view).ok_or(NotAMessage)
    }

    /// The whole, as the store keeps it.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[must_use]
    #[inline]
    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// The exchange it was published to.
    #[must_use]
    #[inline]
    pub fn exchange(&self) -> &[u8] {
        let bytes = self.as_bytes();
        &bytes[1..1 + bytes[0] as usize]
    }

    /// The routing key it was published with.
    #[must_use]
    #[inline]
    pub fn routing_key(&self) -> &[u8] {
        let bytes = self.as_bytes();
        let at = 1 + bytes[0] as usize;
        &bytes[at + 1..at + 1 + bytes[at] as usize]
    }

    /// The encoded properties: flags and list, as on the wire.
    #[must_use]
    #[inline]
    pub fn properties(&self) -> &[u8] {
        let head = self.head();
        &self.as_bytes()[head.properties_at as usize..head.properties_end as usize]
    }

    /// A cheap view of the properties.
    #[must_use]
    pub fn view(&self) -> PropertiesView<'_> {
        PropertiesView::of_checked(self.properties())
    }

    /// The body.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.as_bytes()[self.head().body_at as usize..]
    }

    /// Bytes of the body.
    #[must_use]
    #[inline]
    pub fn body_bytes(&self) -> usize {
        self.as_bytes().len() - self.head().body_at as usize
    }

    /// Bytes of memory it takes, allocation included.
    #[must_use]
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.as_bytes().len() + 56
    }

    /// Whether delivery-mode is 2.
    #[must_use]
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.head().flags & PERSISTENT != 0
    }

    /// The `priority` property; 0 when absent.
    #[must_use]
    #[inline]
    pub fn priority(&self) -> u8 {
        self.head().priority
    }

    /// The `expiration` property in milliseconds. Publishing refuses what is not a number.
    #[must_use]
    pub fn expiration_millis(&self) -> Option<u64> {
        if self.head().flags & HAS_EXPIRATION == 0 {
            return None;
        }
        std::str::from_utf8(self.view().expiration()?).ok()?.parse().ok()
    }

    /// Appends the header frame and the body frames for `channel` to `out`, body included.
    #[inline]
    pub fn write_content(&self, out: &mut Vec<u8>, channel: u16, frame_max: u32) {
        let head = self.head();
        let bytes = self.as_bytes();
        let header_at = head.header_at as usize;
        let body_at = head.body_at as usize;
        let one_frame = frame_max == 0 || bytes.len() - body_at + 8 <= frame_max as usize;
        if one_frame && bytes.len() > body_at {
            let at = out.len();
            out.extend_from_slice(&bytes[header_at..]);
            out.push(amqp::frame::FRAME_END);
            let channel = channel.to_be_bytes();
            out[at + 1..at + 3].copy_from_slice(&channel);
            let body_frame = at + body_at - header_at - FRAME_HEADER_SIZE;
            out[body_frame + 1..body_frame + 3].copy_from_slice(&channel);
        } else {
            let at = out.len();
            out.extend_from_slice(&bytes[header_at..head.properties_end as usize + 1]);
            out[at + 1..at + 3].copy_from_slice(&channel.to_be_bytes());
            amqp::write_body(out, channel, &bytes[body_at..], frame_max);
        }
    }

    /// The same message with other exchange, routing key and properties (dead-lettering, BCC removal).
    #[must_use]
    pub fn with(&self, exchange: &[u8], routing_key: &[u8], properties: &[u8]) -> Option<Message> {
        Message::new(exchange, routing_key, properties, self.body())
    }
}

/// Writes everything of a message but its body.
fn write_wire(
    wire: &mut Vec<u8>,
    exchange: &[u8],
    routing_key: &[u8],
    properties: &[u8],
    body_bytes: usize,
) -> Option<()> {
    wire.push(u8::try_from(exchange.len()).ok()?);
    wire.extend_from_slice(exchange);
    wire.push(u8::try_from(routing_key.len()).ok()?);
    wire.extend_from_slice(routing_key);
    wire.extend_from_slice(&[0, amqp::frame::FRAME_END, amqp::frame::FRAME_HEADER, 0, 0]);
    wire.extend_from_slice(&u32::try_from(properties.len() + CONTENT_HEADER_SIZE).ok()?.to_be_bytes());
    wire.extend_from_slice(&[0, 60, 0, 0]);
    wire.extend_from_slice(&(body_bytes as u64).to_be_bytes());
    wire.extend_from_slice(properties);
    wire.push(amqp::frame::FRAME_END);
    if body_bytes > 0 {
        wire.extend_from_slice(&[amqp::frame::FRAME_BODY, 0, 0]);
        wire.extend_from_slice(&u32::try_from(body_bytes).ok()?.to_be_bytes());
    }
    Some(())
}

impl Head {
    /// Offsets of header frame, properties and their end.
    fn frames(wire: &[u8]) -> Option<(usize, usize, usize)> {
        let exchange = *wire.first()? as usize;
        let key = *wire.get(1 + exchange)? as usize;
        let header_at = exchange + key + 4;
        let size = wire.get(header_at + 3..header_at + 7)?;
        let size = u32::from_be_bytes(size.try_into().ok()?) as usize;
        let properties_at = header_at + FRAME_HEADER_SIZE + CONTENT_HEADER_SIZE;
        let properties_end = header_at + FRAME_HEADER_SIZE + size;
        (wire.len() > properties_end && properties_end >= properties_at)
            .then_some((header_at, properties_at, properties_end))
    }

    fn find(wire: &[u8], view: &PropertiesView<'_>) -> Option<Head> {
        let (header_at, properties_at, properties_end) = Head::frames(wire)?;
        let size = &wire[header_at + FRAME_HEADER_SIZE + 4..properties_at];
        let body_bytes = usize::try_from(u64::from_be_bytes(size.try_into().ok()?)).ok()?;
        let after_header = properties_end + 1;
        let body_at = if body_bytes == 0 { after_header } else { after_header + FRAME_HEADER_SIZE };
        if wire.len() < body_at || wire.len() - body_at != body_bytes {
            return None;
        }
        let mut flags = 0;
        if view.delivery_mode() == Some(2) {
            flags |= PERSISTENT;
        }
        if view.expiration().is_some() {
            flags |= HAS_EXPIRATION;
        }
        Some(Head {
            header_at: u32::try_from(header_at).ok()?,
            properties_at: u32::try_from(properties_at).ok()?,
            properties_end: u32::try_from(properties_end).ok()?,
            body_at: u32::try_from(body_at).ok()?,
            flags,
            priority: view.priority().unwrap_or(0),
        })
    }
}

/// Writes the part of a message before its body into `wire`, for bodies that arrive in several frames:
/// the caller appends the body and calls [`Message::from_wire`].
pub fn begin_wire(
    wire: &mut Vec<u8>,
    exchange: &ShortStr,
    routing_key: &ShortStr,
    properties: &[u8],
    body_bytes: usize,
) -> Option<()> {
    write_wire(wire, exchange.as_bytes(), routing_key.as_bytes(), properties, body_bytes)
}
