//! Field tables: the arguments of methods and the headers of messages.
//!
//! Order and duplicate names are kept, so a table leaves as it came. Tags are read as RabbitMQ
//! reads them: `l` and `L` are both signed 64-bit (and `l` is written), `s` is signed 16-bit.
//!
//! Invariant: a decoded table is at most [`DEPTH_MAX`] levels deep, so that nothing that walks it
//! can exhaust the stack. `check` accepts exactly the bytes that [`Table::decode`] accepts.

use serde::{Deserialize, Serialize};

use crate::error::ConnectionError;
use crate::short_str::ShortStr;
use crate::wire::{Malformed, Reader, put_counted, put_long, put_short};

/// How deep tables and arrays may be nested; the outermost table is level 1.
pub const DEPTH_MAX: usize = 32;

/// Names and values, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table(pub Vec<(ShortStr, Value)>);

/// One value of a table or an array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`; `L` is read as the same.
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits behind the point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: bytes, most often text.
    LongStr(Vec<u8>),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table),
    /// `V`
    Void,
    /// `x`
    Binary(Vec<u8>),
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Table {
        Table(Vec::new())
    }

    /// Decodes the bytes behind the length of a table.
    ///
    /// # Errors
    /// 502 if the bytes are not entries of a table.
    pub fn decode(bytes: &[u8]) -> Result<Table, ConnectionError> {
        Ok(Table::parse(bytes)?)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Table, Malformed> {
        read_table(bytes, 1)
    }

    /// Appends the length and the entries.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_counted(out, |out| {
            for (name, value) in &self.0 {
                put_short(out, name);
                value.put(out);
            }
        });
    }

    /// Gives the first value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// Says whether there is a value with this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets a value: in the place of the first one with this name, or at the end.
    pub fn insert(&mut self, name: ShortStr, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((name, value));
                None
            }
        }
    }

    /// Sets a value under a name that the program knows; a name over 255 bytes is cut.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Table {
        self.insert(ShortStr::truncated(name), value);
        self
    }

    /// Takes every value with this name out and gives the first.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let mut removed = self.0.extract_if(.., |(n, _)| *n == name);
        let first = removed.next().map(|(_, value)| value);
        removed.for_each(drop);
        first
    }

    /// Goes through names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ShortStr, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// Gives the number, if this is any integer.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::I8(n) => Some(n.into()),
            Value::U8(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::I64(n) => Some(n),
            _ => None,
        }
    }

    /// Gives the text, if this is a long string in UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Gives the bytes, if this is a long string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::LongStr(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Gives the truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(bit) => Some(*bit),
            _ => None,
        }
    }

    /// Gives the table, if this is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Table> {
        match self {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Gives the values, if this is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Gives the name of the type as RabbitMQ writes it in error texts.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::I8(_) => "byte",
            Value::U8(_) => "unsignedbyte",
            Value::I16(_) => "short",
            Value::U16(_) => "unsignedshort",
            Value::I32(_) => "signedint",
            Value::U32(_) => "unsignedint",
            Value::I64(_) => "long",
            Value::F32(_) => "float",
            Value::F64(_) => "double",
            Value::Decimal { .. } => "decimal",
            Value::LongStr(_) => "longstr",
            Value::Array(_) => "array",
            Value::Timestamp(_) => "timestamp",
            Value::Table(_) => "table",
            Value::Void => "void",
            Value::Binary(_) => "binary",
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
            out.push(tag);
            out.extend_from_slice(bytes);
        }
        match self {
            Value::Bool(bit) => tagged(out, b't', &[u8::from(*bit)]),
            Value::I8(n) => tagged(out, b'b', &n.to_be_bytes()),
            Value::U8(n) => tagged(out, b'B', &n.to_be_bytes()),
            Value::I16(n) => tagged(out, b's', &n.to_be_bytes()),
            Value::U16(n) => tagged(out, b'u', &n.to_be_bytes()),
            Value::I32(n) => tagged(out, b'I', &n.to_be_bytes()),
            Value::U32(n) => tagged(out, b'i', &n.to_be_bytes()),
            Value::I64(n) => tagged(out, b'l', &n.to_be_bytes()),
            Value::F32(n) => tagged(out, b'f', &n.to_be_bytes()),
            Value::F64(n) => tagged(out, b'd', &n.to_be_bytes()),
            Value::Decimal { scale, value } => {
                tagged(out, b'D', &[*scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Value::LongStr(bytes) => {
                out.push(b'S');
                put_long(out, bytes);
            }
            Value::Array(values) => {
                out.push(b'A');
                put_counted(out, |out| values.iter().for_each(|value| value.put(out)));
            }
            Value::Timestamp(seconds) => tagged(out, b'T', &seconds.to_be_bytes()),
            Value::Table(table) => {
                out.push(b'F');
                table.put(out);
            }
            Value::Void => out.push(b'V'),
            Value::Binary(bytes) => {
                out.push(b'x');
                put_long(out, bytes);
            }
        }
    }
}

fn read_table(bytes: &[u8], depth: usize) -> Result<Table, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let name = ShortStr::from_wire(reader.short_bytes()?);
        entries.push((name, read_value(&mut reader, depth)?));
    }
    Ok(Table(entries))
}

fn read_array(bytes: &[u8], depth: usize) -> Result<Vec<Value>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        values.push(read_value(&mut reader, depth)?);
    }
    Ok(values)
}

/// Reads a tag and its value, in a table or array of level `depth`.
pub(crate) fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::I8(reader.u8()?.cast_signed()),
        b'B' => Value::U8(reader.u8()?),
        b's' => Value::I16(reader.u16()?.cast_signed()),
        b'u' => Value::U16(reader.u16()?),
        b'I' => Value::I32(reader.u32()?.cast_signed()),
        b'i' => Value::U32(reader.u32()?),
        b'l' | b'L' => Value::I64(reader.u64()?.cast_signed()),
        b'f' => Value::F32(f32::from_bits(reader.u32()?)),
        b'd' => Value::F64(f64::from_bits(reader.u64()?)),
        b'D' => Value::Decimal {
            scale: reader.u8()?,
            value: reader.u32()?,
        },
        b'S' => Value::LongStr(reader.long_bytes()?.to_vec()),
        b'A' => Value::Array(read_array(reader.long_bytes()?, deeper(depth)?)?),
        b'T' => Value::Timestamp(reader.u64()?),
        b'F' => Value::Table(read_table(reader.long_bytes()?, deeper(depth)?)?),
        b'V' => Value::Void,
        b'x' => Value::Binary(reader.long_bytes()?.to_vec()),
        tag => return Err(Malformed::UnknownType(tag)),
    })
}

/// Checks the entries of a table without building it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Malformed> {
    check_table(bytes, 1)
}

fn check_table(bytes: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        reader.short_bytes()?;
        skip_value(&mut reader, depth)?;
    }
    Ok(())
}

fn check_array(bytes: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        skip_value(&mut reader, depth)?;
    }
    Ok(())
}

/// Steps over a tag and its value, in a table or array of level `depth`.
#[inline]
pub(crate) fn skip_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), Malformed> {
    match reader.u8()? {
        b'S' | b'x' => reader.long_bytes().map(drop),
        b'V' => Ok(()),
        b't' | b'b' | b'B' => reader.take(1).map(drop),
        b's' | b'u' => reader.take(2).map(drop),
        b'I' | b'i' | b'f' => reader.take(4).map(drop),
        b'D' => reader.take(5).map(drop),
        b'l' | b'L' | b'd' | b'T' => reader.take(8).map(drop),
        b'F' => check_table(reader.long_bytes()?, deeper(depth)?),
        b'A' => check_array(reader.long_bytes()?, deeper(depth)?),
        tag => Err(Malformed::UnknownType(tag)),
    }
}

fn deeper(depth: usize) -> Result<usize, Malformed> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(Malformed::TooDeep)
    }
}

macro_rules! value_from {
    ($($type:ty => $variant:ident,)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value.into())
            }
        }
    )*};
}

value_from! {
    bool => Bool,
    i8 => I8,
    u8 => U8,
    i16 => I16,
    u16 => U16,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    f32 => F32,
    f64 => F64,
    &str => LongStr,
    String => LongStr,
    Table => Table,
    Vec<Value> => Array,
}

impl FromIterator<(ShortStr, Value)> for Table {
    fn from_iter<I: IntoIterator<Item = (ShortStr, Value)>>(entries: I) -> Table {
        Table(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
