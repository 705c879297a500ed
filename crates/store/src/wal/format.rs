//! The fixed parts of a log file: its header, and the header of each envelope.
//!
//! Both say where they belong, so that what an earlier use of the file left behind never passes for
//! a record of this one. `docs/formats/log.md` draws them.

use crate::codec::Decoder;
use crate::types::Position;

/// Version of everything the store writes.
pub(crate) const VERSION: u32 = 1;

const FILE_MAGIC: [u8; 8] = *b"warrnwal";
const ENVELOPE_MAGIC: [u8; 4] = *b"wenv";

/// Bytes of a file's header.
pub(crate) const FILE_HEADER_BYTES: usize = 32;

/// Bytes of an envelope's header.
pub(crate) const ENVELOPE_BYTES: usize = 32;

/// Envelopes start at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

/// Length of a body with the zeros behind it.
pub(crate) const fn padded(body_bytes: usize) -> usize {
    body_bytes.next_multiple_of(ALIGNMENT)
}

/// Header of the file `number`, where the log before it ended at `previous`.
pub(crate) fn file_header(number: u32, previous: Position) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&previous.get().to_le_bytes());
    let checksum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// What a file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) version: u32,
    pub(crate) number: u32,
    pub(crate) previous: Position,
}

/// Reads a file's header; `None` if it is none.
pub(crate) fn parse_file_header(bytes: &[u8]) -> Option<FileHeader> {
    let checksum = crc32fast::hash(bytes.get(..28)?);
    let mut decoder = Decoder::new(bytes);
    if decoder.take(8)? != FILE_MAGIC {
        return None;
    }
    let (version, number) = (decoder.u32()?, decoder.u32()?);
    let previous = Position(decoder.u64()?);
    decoder.u32()?;
    (decoder.u32()? == checksum).then_some(FileHeader {
        version,
        number,
        previous,
    })
}

/// Header of an envelope at `at`, written when everything before `durable` was durable.
pub(crate) fn envelope_header(
    at: Position,
    durable: Position,
    body_bytes: u32,
    body_checksum: u32,
) -> [u8; ENVELOPE_BYTES] {
    let mut header = [0; ENVELOPE_BYTES];
    header[..4].copy_from_slice(&ENVELOPE_MAGIC);
    header[4..8].copy_from_slice(&body_bytes.to_le_bytes());
    header[8..16].copy_from_slice(&at.get().to_le_bytes());
    header[16..24].copy_from_slice(&durable.get().to_le_bytes());
    header[24..28].copy_from_slice(&body_checksum.to_le_bytes());
    let checksum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// What an envelope's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnvelopeHeader {
    pub(crate) at: Position,
    pub(crate) durable: Position,
    pub(crate) body_bytes: u32,
    pub(crate) body_checksum: u32,
}

/// Reads an envelope's header; `None` if it is none.
pub(crate) fn parse_envelope(bytes: &[u8]) -> Option<EnvelopeHeader> {
    if bytes.get(..4)? != ENVELOPE_MAGIC {
        return None;
    }
    let checksum = crc32fast::hash(bytes.get(..28)?);
    let mut decoder = Decoder::new(&bytes[4..]);
    let body_bytes = decoder.u32()?;
    let at = Position(decoder.u64()?);
    let durable = Position(decoder.u64()?);
    let body_checksum = decoder.u32()?;
    let valid = decoder.u32()? == checksum;
    valid.then_some(EnvelopeHeader {
        at,
        durable,
        body_bytes,
        body_checksum,
    })
}

/// Bits that may differ in what names a header's kind and place before it is taken for none.
const CHANGED_BITS_MAX: u32 = 8;

/// True if these bytes were an envelope's header for `at` before some of them changed or while some
/// of them were missing. A whole header of an earlier use of the file is none of this one.
pub(crate) fn resembles_envelope(bytes: &[u8], at: Position) -> bool {
    let place = at.get().to_le_bytes();
    bytes.len() == ENVELOPE_BYTES
        && (bytes[8..16] == place
            || parse_envelope(bytes).is_none()
                && changed_bits(&bytes[..4], &ENVELOPE_MAGIC) + changed_bits(&bytes[8..16], &place)
                    <= CHANGED_BITS_MAX)
}

/// The same for the header of the file `number`.
pub(crate) fn resembles_file_header(bytes: &[u8], number: u32) -> bool {
    let place = number.to_le_bytes();
    bytes.len() == FILE_HEADER_BYTES
        && (bytes[12..16] == place
            || parse_file_header(bytes).is_none()
                && changed_bits(&bytes[..8], &FILE_MAGIC) + changed_bits(&bytes[12..16], &place)
                    <= CHANGED_BITS_MAX)
}

fn changed_bits(bytes: &[u8], expected: &[u8]) -> u32 {
    bytes
        .iter()
        .zip(expected)
        .map(|(a, b)| (a ^ b).count_ones())
        .sum()
}
