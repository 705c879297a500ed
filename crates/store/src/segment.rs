//! Segments: files into which live messages are copied when the log file or segments that held them
//! are given up.
//!
//! A segment holds the records of many queues, queue by queue and by rising sequence, then a footer
//! with the index of each queue's part, then a trailer that says where the footer is. It is written
//! once, synced, and never changed. Which of its messages are still live is the checkpoint's to
//! say.
//!
//! One file for all queues, since a file and a sync for each of 100,000 queues would take minutes.

use crate::batch::MESSAGE_BYTES;
use crate::codec::Decoder;
use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::files::Files;
use crate::index::{Entry, Extent, FileId};
use crate::types::{Mutant, QueueKey};
use crate::wal::open_error;

/// Folder of the segments.
pub(crate) const DIRECTORY: &str = "segment";

/// Folder of the transient messages.
pub(crate) const TRANSIENT: &str = "transient";

const MAGIC: [u8; 8] = *b"warrnseg";

/// Bytes at the end of a segment: magic, footer's offset, length and checksum, own checksum.
const TRAILER_BYTES: usize = 8 + 8 + 8 + 4 + 4;

/// Records gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// What the store remembers of a segment, and the checkpoint names it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u32,
    /// Length of the file.
    pub(crate) len: u64,
    /// Bytes of records in it.
    pub(crate) record_bytes: u64,
    /// Checksum of the footer.
    pub(crate) checksum: u32,
}

/// A file being filled with records.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    id: FileId,
    gathered: Vec<u8>,
    /// Bytes written to the file.
    written: u64,
    /// Bytes written that are not synced.
    unsynced: u64,
    pub(crate) extents: Vec<(QueueKey, Extent)>,
}

impl SegmentWriter {
    /// Starts a new file.
    pub(crate) fn create<D: Disk>(
        id: FileId,
        files: &mut Files<D>,
    ) -> Result<SegmentWriter, StoreError> {
        files.create(id)?;
        let extents = Vec::new();
        Ok(SegmentWriter {
            id,
            gathered: Vec::new(),
            written: 0,
            unsynced: 0,
            extents,
        })
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Bytes of records so far.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    /// Adds a record, length and checksum included, of the same queue as the last or of a later
    /// one.
    pub(crate) fn push<D: Disk>(
        &mut self,
        queue: QueueKey,
        seq: u64,
        record: &[u8],
        files: &mut Files<D>,
    ) -> Result<(), StoreError> {
        let offset = u32::try_from(self.record_bytes()).expect("a segment is closed below 4 GiB");
        let entry = Entry {
            seq,
            offset,
            size: (record.len() - MESSAGE_BYTES) as u32,
        };
        match self.extents.last_mut() {
            Some((last, extent)) if *last == queue => extent.push(entry),
            _ => self.extents.push((queue, Extent::new(self.id, entry))),
        }
        self.gathered.extend_from_slice(record);
        if self.gathered.len() >= WRITE_BYTES {
            self.write(files)
        } else {
            Ok(())
        }
    }

    fn write<D: Disk>(&mut self, files: &mut Files<D>) -> Result<(), StoreError> {
        if !self.gathered.is_empty() {
            files.write(self.id, self.written, &[&self.gathered])?;
            self.written += self.gathered.len() as u64;
            self.unsynced += self.gathered.len() as u64;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Writes what is gathered, and syncs it if a restart is to find it: many small syncs hold up
    /// confirms less than one large one.
    pub(crate) fn settle<D: Disk>(&mut self, files: &mut Files<D>) -> Result<(), StoreError> {
        self.write(files)?;
        let lasting = matches!(self.id, FileId::Segment(_));
        if self.unsynced > 0 && lasting && !files.mutant(Mutant::RecycleBeforeSegmentSync) {
            files.sync(self.id)?;
        }
        self.unsynced = 0;
        Ok(())
    }

    /// Writes the footer and syncs the file. Its name is synced by the caller.
    pub(crate) fn finish<D: Disk>(
        &mut self,
        sync: bool,
        files: &mut Files<D>,
    ) -> Result<SegmentInfo, StoreError> {
        self.write(files)?;
        let (FileId::Segment(number) | FileId::Transient(number)) = self.id else {
            unreachable!("a segment writer writes segments");
        };
        let footer = encode_footer(&self.extents);
        let checksum = crc32fast::hash(&footer);
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&MAGIC);
        trailer.extend_from_slice(&self.written.to_le_bytes());
        trailer.extend_from_slice(&(footer.len() as u64).to_le_bytes());
        trailer.extend_from_slice(&checksum.to_le_bytes());
        trailer.extend_from_slice(&crc32fast::hash(&trailer).to_le_bytes());
        files.write(self.id, self.written, &[&footer, &trailer])?;
        if sync {
            files.sync(self.id)?;
        }
        let len = self.written + (footer.len() + TRAILER_BYTES) as u64;
        Ok(SegmentInfo {
            number,
            len,
            record_bytes: self.written,
            checksum,
        })
    }
}

fn encode_footer(extents: &[(QueueKey, Extent)]) -> Vec<u8> {
    let mut footer = Vec::new();
    footer.extend_from_slice(&(extents.len() as u32).to_le_bytes());
    for (queue, extent) in extents {
        footer.extend_from_slice(&queue.0.to_le_bytes());
        extent.encode(&mut footer);
    }
    footer
}

fn decode_footer(footer: &[u8], id: FileId) -> Option<Vec<(QueueKey, Extent)>> {
    let mut decoder = Decoder::new(footer);
    let count = decoder.u32()?;
    let mut extents = Vec::new();
    for _ in 0..count {
        let queue = QueueKey(decoder.u64()?);
        extents.push((queue, Extent::decode(&mut decoder, id)?));
    }
    decoder.is_empty().then_some(extents)
}

/// Reads the footer of a segment the checkpoint names.
pub(crate) fn read_footer<D: Disk>(
    info: &SegmentInfo,
    files: &mut Files<D>,
) -> Result<Vec<(QueueKey, Extent)>, OpenError> {
    let id = FileId::Segment(info.number);
    let fail = |error| open_error(id, error);
    let corrupt = |offset, what| OpenError::Corrupt {
        file: id.to_string(),
        offset,
        what,
    };
    if files.len(id).map_err(fail)? != info.len {
        return Err(corrupt(info.len, "length differs from the checkpoint's"));
    }
    let trailer_at = info.len.saturating_sub(TRAILER_BYTES as u64);
    let mut trailer = [0; TRAILER_BYTES];
    files.read(id, trailer_at, &mut trailer).map_err(fail)?;
    let place = parse_trailer(&trailer).filter(|(at, len, checksum)| {
        *checksum == info.checksum && at.checked_add(*len) == Some(trailer_at)
    });
    let (at, len, checksum) = place.ok_or_else(|| corrupt(trailer_at, "bad trailer"))?;
    let mut footer = vec![0; len as usize];
    let filled = files.read(id, at, &mut footer).map_err(fail)?;
    if filled != footer.len() || crc32fast::hash(&footer) != checksum {
        return Err(corrupt(at, "bad footer"));
    }
    decode_footer(&footer, id).ok_or_else(|| corrupt(at, "malformed footer"))
}

/// Offset, length and checksum of the footer.
fn parse_trailer(trailer: &[u8; TRAILER_BYTES]) -> Option<(u64, u64, u32)> {
    let mut decoder = Decoder::new(trailer);
    let magic = decoder.take(8)?;
    let place = (decoder.u64()?, decoder.u64()?, decoder.u32()?);
    let valid = decoder.u32()? == crc32fast::hash(&trailer[..TRAILER_BYTES - 4]);
    (valid && magic == MAGIC).then_some(place)
}
