//! The way back: numbers and counted bytes from a buffer, each checked against what is left.

use super::BadPacket;

const SHORT: BadPacket = BadPacket("it ends too early");

pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BadPacket> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(SHORT)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPacket> {
        let (taken, left) = self.left.split_first_chunk().ok_or(SHORT)?;
        self.left = left;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadPacket> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BadPacket> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadPacket("a flag that is neither 0 nor 1")),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, BadPacket> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadPacket> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadPacket> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `bytes_each`: more than fit are refused.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, BadPacket> {
        let count = self.u32()? as usize;
        if count > self.left.len() / bytes_each.max(1) {
            return Err(BadPacket("a count of more than there is"));
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BadPacket> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    pub(super) fn end(&self) -> Result<(), BadPacket> {
        if self.left.is_empty() { Ok(()) } else { Err(BadPacket("bytes are left over")) }
    }
}
