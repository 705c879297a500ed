//! The properties of a message: owned ([`Properties`]) and as a view of the bytes
//! ([`PropertiesView`]).
//!
//! A broker passes properties on as the bytes they came in, and looks at a few of them on the way:
//! the view checks all of them once and allocates nothing. Both accept exactly the same bytes.
//!
//! Invariant: a [`RawTable`] has been checked, so decoding it later cannot fail.

use crate::error::ConnectionError;
use crate::field::{self, Table, Value};
use crate::short_str::ShortStr;
use crate::wire::{Malformed, Reader, put_short};

/// Bits of the property flags, and what follows them in the same order.
mod flag {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const DELIVERY_MODE: u16 = 1 << 12;
    pub(super) const PRIORITY: u16 = 1 << 11;
    pub(super) const CORRELATION_ID: u16 = 1 << 10;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
    pub(super) const MESSAGE_ID: u16 = 1 << 7;
    pub(super) const TIMESTAMP: u16 = 1 << 6;
    pub(super) const TYPE: u16 = 1 << 5;
    pub(super) const USER_ID: u16 = 1 << 4;
    pub(super) const APP_ID: u16 = 1 << 3;
    pub(super) const CLUSTER_ID: u16 = 1 << 2;
    /// The continuation bit and the one beside it: no class has so many properties.
    pub(super) const UNKNOWN: u16 = 0b11;
}

/// `delivery_mode` of a message that must survive a restart.
pub const PERSISTENT: u8 = 2;

/// The properties of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<ShortStr>,
    /// MIME encoding of the body.
    pub content_encoding: Option<ShortStr>,
    /// Headers of the application.
    pub headers: Option<Table>,
    /// 2 for persistent, anything else for transient.
    pub delivery_mode: Option<u8>,
    /// Priority, higher first.
    pub priority: Option<u8>,
    /// Which request this answers.
    pub correlation_id: Option<ShortStr>,
    /// Where the answer should go.
    pub reply_to: Option<ShortStr>,
    /// Time to live in milliseconds, as decimal digits.
    pub expiration: Option<ShortStr>,
    /// The application's name for the message.
    pub message_id: Option<ShortStr>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message: `type` on the wire.
    pub message_type: Option<ShortStr>,
    /// The user who published; checked by the broker.
    pub user_id: Option<ShortStr>,
    /// The application that published.
    pub app_id: Option<ShortStr>,
    /// A leftover of AMQP 0-8.
    pub cluster_id: Option<ShortStr>,
}

impl Properties {
    /// Decodes flags and properties.
    ///
    /// # Errors
    /// 502 if the bytes are not properties of a basic message.
    pub fn decode(bytes: &[u8]) -> Result<Properties, ConnectionError> {
        Ok(Properties::from(&PropertiesView::parse(bytes)?))
    }

    /// Appends flags and properties.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut flags = 0;
        out.extend_from_slice(&[0; 2]);
        let mut text = |out: &mut Vec<u8>, flag: u16, text: &Option<ShortStr>| {
            if let Some(text) = text {
                flags |= flag;
                put_short(out, text);
            }
        };
        text(out, flag::CONTENT_TYPE, &self.content_type);
        text(out, flag::CONTENT_ENCODING, &self.content_encoding);
        if let Some(headers) = &self.headers {
            headers.put(out);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        text(out, flag::CORRELATION_ID, &self.correlation_id);
        text(out, flag::REPLY_TO, &self.reply_to);
        text(out, flag::EXPIRATION, &self.expiration);
        text(out, flag::MESSAGE_ID, &self.message_id);
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        text(out, flag::TYPE, &self.message_type);
        text(out, flag::USER_ID, &self.user_id);
        text(out, flag::APP_ID, &self.app_id);
        text(out, flag::CLUSTER_ID, &self.cluster_id);
        for (flag, present) in [
            (flag::HEADERS, self.headers.is_some()),
            (flag::DELIVERY_MODE, self.delivery_mode.is_some()),
            (flag::PRIORITY, self.priority.is_some()),
            (flag::TIMESTAMP, self.timestamp.is_some()),
        ] {
            if present {
                flags |= flag;
            }
        }
        out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
    }

    /// Gives flags and properties as they go behind a content header.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

impl From<&PropertiesView<'_>> for Properties {
    fn from(view: &PropertiesView<'_>) -> Properties {
        let text = |bytes: Option<&[u8]>| bytes.map(ShortStr::from_wire);
        Properties {
            content_type: text(view.content_type()),
            content_encoding: text(view.content_encoding()),
            headers: view.headers().map(RawTable::decode),
            delivery_mode: view.delivery_mode(),
            priority: view.priority(),
            correlation_id: text(view.correlation_id()),
            reply_to: text(view.reply_to()),
            expiration: text(view.expiration()),
            message_id: text(view.message_id()),
            timestamp: view.timestamp(),
            message_type: text(view.message_type()),
            user_id: text(view.user_id()),
            app_id: text(view.app_id()),
            cluster_id: text(view.cluster_id()),
        }
    }
}

/// Properties in the bytes they came in, checked once. Each answer steps over the properties in
/// front of it, and costs next to nothing for a property that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertiesView<'a> {
    flags: u16,
    /// What stands behind the flags.
    values: &'a [u8],
}

impl<'a> PropertiesView<'a> {
    /// Checks flags and properties.
    ///
    /// # Errors
    /// 502 if the bytes are not properties of a basic message.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<PropertiesView<'a>, ConnectionError> {
        match PropertiesView::check(bytes) {
            Ok(view) => Ok(view),
            Err(malformed) => Err(malformed.into()),
        }
    }

    /// Looks again at bytes that [`PropertiesView::parse`] has accepted, without checking them.
    /// Of other bytes the answers are wrong, or `None`.
    #[inline]
    #[must_use]
    pub fn of_checked(bytes: &'a [u8]) -> PropertiesView<'a> {
        match bytes {
            [f0, f1, values @ ..] => PropertiesView {
                flags: u16::from_be_bytes([*f0, *f1]),
                values,
            },
            _ => PropertiesView::default(),
        }
    }

    #[inline]
    fn check(bytes: &'a [u8]) -> Result<PropertiesView<'a>, Malformed> {
        let &[f0, f1, ref values @ ..] = bytes else {
            return Err(Malformed::Cut);
        };
        let flags = u16::from_be_bytes([f0, f1]);
        // Nearly every message has a delivery mode and nothing else.
        if flags != flag::DELIVERY_MODE || values.len() != 1 {
            check_values(flags, values)?;
        }
        Ok(PropertiesView { flags, values })
    }

    /// Gives the value that starts where the property `wanted` stands, if it is there.
    #[inline]
    fn find<T>(
        &self,
        wanted: u16,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Option<T> {
        if self.flags & wanted == 0 {
            return None;
        }
        let mut reader = Reader::new(self.values);
        // The bits above the wanted one stand for what comes before it.
        let before = self.flags & !(wanted | (wanted - 1));
        if before != 0 {
            skip_values(before, &mut reader).ok()?;
        }
        read(&mut reader).ok()
    }

    /// Says whether the message must survive a restart, as far as it can say so itself.
    #[inline]
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(PERSISTENT)
    }
}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident = $flag:ident, $read:ident -> $type:ty,)*) => {
        impl<'a> PropertiesView<'a> {
            $(
                $(#[$doc])*
                #[inline]
                #[must_use]
                pub fn $name(&self) -> Option<$type> {
                    self.find(flag::$flag, Reader::$read)
                }
            )*

            /// Headers of the application, decoded on demand.
            #[inline]
            #[must_use]
            pub fn headers(&self) -> Option<RawTable<'a>> {
                self.find(flag::HEADERS, Reader::long_bytes).map(RawTable)
            }
        }
    };
}

answers! {
    /// MIME type of the body.
    content_type = CONTENT_TYPE, short_bytes -> &'a [u8],
    /// MIME encoding of the body.
    content_encoding = CONTENT_ENCODING, short_bytes -> &'a [u8],
    /// 2 for persistent, anything else for transient.
    delivery_mode = DELIVERY_MODE, u8 -> u8,
    /// Priority, higher first.
    priority = PRIORITY, u8 -> u8,
    /// Which request this answers.
    correlation_id = CORRELATION_ID, short_bytes -> &'a [u8],
    /// Where the answer should go.
    reply_to = REPLY_TO, short_bytes -> &'a [u8],
    /// Time to live in milliseconds, as decimal digits.
    expiration = EXPIRATION, short_bytes -> &'a [u8],
    /// The application's name for the message.
    message_id = MESSAGE_ID, short_bytes -> &'a [u8],
    /// Seconds since 1970.
    timestamp = TIMESTAMP, u64 -> u64,
    /// The application's name for the kind of message: `type` on the wire.
    message_type = TYPE, short_bytes -> &'a [u8],
    /// The user who published; checked by the broker.
    user_id = USER_ID, short_bytes -> &'a [u8],
    /// The application that published.
    app_id = APP_ID, short_bytes -> &'a [u8],
    /// A leftover of AMQP 0-8.
    cluster_id = CLUSTER_ID, short_bytes -> &'a [u8],
}

fn check_values(flags: u16, values: &[u8]) -> Result<(), Malformed> {
    if flags & flag::UNKNOWN != 0 {
        return Err(Malformed::UnknownProperty);
    }
    let mut reader = Reader::new(values);
    skip_values(
        flags & (flag::CONTENT_TYPE | flag::CONTENT_ENCODING),
        &mut reader,
    )?;
    if flags & flag::HEADERS != 0 {
        field::check(reader.long_bytes()?)?;
    }
    skip_values(flags & (flag::HEADERS - 1), &mut reader)?;
    reader.finish()
}

/// Steps over the properties whose flags are given.
fn skip_values(mut flags: u16, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    while flags != 0 {
        let first = 1 << flags.ilog2();
        match first {
            flag::HEADERS => reader.long_bytes()?,
            flag::DELIVERY_MODE | flag::PRIORITY => reader.take(1)?,
            flag::TIMESTAMP => reader.take(8)?,
            _ => reader.short_bytes()?,
        };
        flags &= !first;
    }
    Ok(())
}

/// The entries of a table, checked and still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawTable<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// Gives the bytes behind the length of the table.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Decodes the whole table.
    ///
    /// # Panics
    /// If the bytes come from a [`PropertiesView::of_checked`] that nobody had checked.
    #[must_use]
    pub fn decode(self) -> Table {
        Table::parse(self.0).expect("the table was checked when it was found")
    }

    /// Decodes the first value with this name, stepping over the others.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Value> {
        let mut reader = Reader::new(self.0);
        while !reader.is_empty() {
            if reader.short_bytes().ok()? == name.as_bytes() {
                return field::read_value(&mut reader, 1).ok();
            }
            field::skip_value(&mut reader, 1).ok()?;
        }
        None
    }

    /// Says whether there is a value with this name.
    #[must_use]
    pub fn contains(self, name: &str) -> bool {
        let mut reader = Reader::new(self.0);
        while let Ok(found) = reader.short_bytes() {
            if found == name.as_bytes() {
                return true;
            }
            if field::skip_value(&mut reader, 1).is_err() {
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
