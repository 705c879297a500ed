//! Reading and writing the elementary types of AMQP: integers, bits, strings and tables.
//!
//! A [`Reader`] never looks past its slice and never panics; whatever is wrong is a [`Malformed`],
//! which is small, so that the good case stays cheap. Bits that follow each other share an octet in
//! both directions (AMQP 0-9-1, 4.2.5.2); any other field starts a new one.

use crate::error::ConnectionError;
use crate::field::Table;
use crate::short_str::ShortStr;

/// What is wrong with a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The bytes end before the field does.
    Cut,
    /// Bytes are left behind the last field.
    Trailing,
    /// A field value of a type that does not exist.
    UnknownType(u8),
    /// Tables and arrays nested too deeply.
    TooDeep,
    /// Property flags that stand for no property.
    UnknownProperty,
    /// A short string of a method without content that is not UTF-8.
    NotUtf8,
}

impl From<Malformed> for ConnectionError {
    #[cold]
    fn from(malformed: Malformed) -> ConnectionError {
        match malformed {
            Malformed::Cut => ConnectionError::syntax_error("arguments are cut short"),
            Malformed::Trailing => ConnectionError::syntax_error("bytes behind the last argument"),
            Malformed::UnknownType(tag) => {
                ConnectionError::syntax_error(format_args!("unknown field type {tag}"))
            }
            Malformed::TooDeep => ConnectionError::syntax_error(format_args!(
                "tables nested deeper than {}",
                crate::field::DEPTH_MAX
            )),
            Malformed::UnknownProperty => {
                ConnectionError::syntax_error("property flags that stand for no property")
            }
            // RabbitMQ's code and text; it checks names, and not what comes with each message.
            Malformed::NotUtf8 => ConnectionError::frame_error("Malformed UTF-8 in shortstr"),
        }
    }
}

/// Takes fields from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes that no field has claimed.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads a length octet and that many bytes.
    #[inline]
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let (&len, rest) = self.rest.split_first().ok_or(Malformed::Cut)?;
        let (taken, rest) = rest
            .split_at_checked(usize::from(len))
            .ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a 32-bit length and that many bytes.
    #[inline]
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| Malformed::Cut)?)
    }
}

/// Takes the arguments of a method from the front of a slice.
#[derive(Debug)]
pub(crate) struct ArgumentReader<'a> {
    fields: Reader<'a>,
    bits: u8,
    bits_left: u8,
    check_utf8: bool,
}

impl<'a> ArgumentReader<'a> {
    /// With `check_utf8`, short strings that are not UTF-8 are refused.
    pub(crate) fn new(bytes: &'a [u8], check_utf8: bool) -> ArgumentReader<'a> {
        ArgumentReader {
            fields: Reader::new(bytes),
            bits: 0,
            bits_left: 0,
            check_utf8,
        }
    }

    /// The rest, at a place where a new octet begins.
    pub(crate) fn fields(&mut self) -> &mut Reader<'a> {
        self.bits_left = 0;
        &mut self.fields
    }

    fn bit(&mut self) -> Result<bool, Malformed> {
        if self.bits_left == 0 {
            self.bits = self.fields.u8()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }
}

/// Appends the arguments of a method to a buffer.
#[derive(Debug)]
pub(crate) struct ArgumentWriter<'a> {
    out: &'a mut Vec<u8>,
    bits_used: u8,
}

impl<'a> ArgumentWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> ArgumentWriter<'a> {
        ArgumentWriter { out, bits_used: 0 }
    }

    /// The buffer, at a place where a new octet begins.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        self.bits_used = 0;
        self.out
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out().extend_from_slice(bytes);
    }

    pub(crate) fn bit(&mut self, bit: bool) {
        if self.bits_used == 0 {
            self.out.push(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.bits_used;
        }
        self.bits_used = (self.bits_used + 1) % 8;
    }
}

/// Appends a length octet and the bytes.
pub(crate) fn put_short(out: &mut Vec<u8>, text: &ShortStr) {
    let len = u8::try_from(text.len()).expect("a short string has at most 255 bytes");
    out.push(len);
    out.extend_from_slice(text);
}

/// Appends a 32-bit length and the bytes.
pub(crate) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a field is far smaller than 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a 32-bit length in front of what `write` appends.
pub(crate) fn put_counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = u32::try_from(out.len() - start - 4).expect("a field is far smaller than 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// One argument of a method. The type says how it travels: `bool` is a bit, `Vec<u8>` a long
/// string, the others what their names say.
pub(crate) trait Argument: Sized {
    fn read(reader: &mut ArgumentReader<'_>) -> Result<Self, Malformed>;
    fn write(&self, writer: &mut ArgumentWriter<'_>);
}

impl Argument for bool {
    fn read(reader: &mut ArgumentReader<'_>) -> Result<bool, Malformed> {
        reader.bit()
    }

    fn write(&self, writer: &mut ArgumentWriter<'_>) {
        writer.bit(*self);
    }
}

macro_rules! integer_arguments {
    ($($int:ident)*) => {$(
        impl Argument for $int {
            fn read(reader: &mut ArgumentReader<'_>) -> Result<$int, Malformed> {
                reader.fields().$int()
            }

            fn write(&self, writer: &mut ArgumentWriter<'_>) {
                writer.bytes(&self.to_be_bytes());
            }
        }
    )*};
}

integer_arguments! { u8 u16 u32 u64 }

impl Argument for ShortStr {
    fn read(reader: &mut ArgumentReader<'_>) -> Result<ShortStr, Malformed> {
        let bytes = reader.fields().short_bytes()?;
        if reader.check_utf8 && std::str::from_utf8(bytes).is_err() {
            return Err(Malformed::NotUtf8);
        }
        Ok(ShortStr::from_wire(bytes))
    }

    fn write(&self, writer: &mut ArgumentWriter<'_>) {
        put_short(writer.out(), self);
    }
}

impl Argument for Vec<u8> {
    fn read(reader: &mut ArgumentReader<'_>) -> Result<Vec<u8>, Malformed> {
        Ok(reader.fields().long_bytes()?.to_vec())
    }

    fn write(&self, writer: &mut ArgumentWriter<'_>) {
        put_long(writer.out(), self);
    }
}

impl Argument for Table {
    fn read(reader: &mut ArgumentReader<'_>) -> Result<Table, Malformed> {
        Table::parse(reader.fields().long_bytes()?)
    }

    fn write(&self, writer: &mut ArgumentWriter<'_>) {
        self.put(writer.out());
    }
}

#[cfg(test)]
mod tests;
