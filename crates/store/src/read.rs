//! Reading messages back, wherever they are.
//!
//! Records that lie close together come in with one disk read and share its memory. Every record is
//! checked against its checksum, which covers its queue and sequence too, so that a message is
//! returned right or not at all.

use bytes::Bytes;

use crate::batch::{MESSAGE_BYTES, message_checksum};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::files::Files;
use crate::index::{Entry, FileId};
use crate::types::{Mutant, QueueKey, Seq};
use crate::wal::Wal;

/// Most bytes one disk read fetches, unless a single record is larger.
const SPAN_BYTES: u32 = 1 << 20;

/// Bytes between two records that are read along rather than seeked over.
const GAP_BYTES: u32 = 4096;

/// The records of some messages of a queue, in their order, length and checksum included.
pub(crate) fn records<D: Disk>(
    queue: QueueKey,
    entries: &[(FileId, Entry)],
    wal: &Wal,
    files: &mut Files<D>,
) -> Result<Vec<Bytes>, StoreError> {
    files.check()?;
    let mut out = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while let Some(((file, first), _)) = rest.split_first() {
        if let FileId::Wal(number) = file
            && let Some(bytes) = wal.pending_at(*number, first.offset, len(first))
        {
            out.push(Bytes::copy_from_slice(bytes));
            rest = &rest[1..];
            continue;
        }
        let count = span(*file, rest, wal);
        let (group, after) = rest.split_at(count);
        read_span(queue, *file, group, files, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn len(entry: &Entry) -> usize {
    MESSAGE_BYTES + entry.size as usize
}

/// How many of the entries one read should fetch.
fn span(file: FileId, entries: &[(FileId, Entry)], wal: &Wal) -> usize {
    let first = entries[0].1;
    let mut end = first.end();
    let mut count = 1;
    for (other, entry) in &entries[1..] {
        let near = *other == file
            && entry.offset >= end
            && entry.offset - end <= GAP_BYTES
            && entry.end() - first.offset <= SPAN_BYTES;
        let written = match file {
            FileId::Wal(number) => wal.pending_at(number, entry.offset, 1).is_none(),
            _ => true,
        };
        if !near || !written {
            break;
        }
        end = entry.end();
        count += 1;
    }
    count
}

fn read_span<D: Disk>(
    queue: QueueKey,
    file: FileId,
    group: &[(FileId, Entry)],
    files: &mut Files<D>,
    out: &mut Vec<Bytes>,
) -> Result<(), StoreError> {
    let start = group[0].1.offset;
    let end = group[group.len() - 1].1.end();
    let mut buffer = vec![0; (end - start) as usize];
    let filled = files.read(file, u64::from(start), &mut buffer)?;
    buffer.truncate(filled);
    let buffer = Bytes::from(buffer);
    let used: usize = group.iter().map(|(_, entry)| len(entry)).sum();
    // A slice keeps the whole buffer in memory, so a buffer of mostly gaps is not worth sharing.
    let share = used * 2 >= buffer.len();
    let unchecked = files.mutant(Mutant::SkipChecksum);
    for (_, entry) in group {
        let from = (entry.offset - start) as usize;
        let Some(record) = buffer.get(from..from + len(entry)) else {
            return Err(corrupt(file, entry));
        };
        if !unchecked && !is_good(queue, entry, record) {
            return Err(corrupt(file, entry));
        }
        let whole = from..from + len(entry);
        out.push(if share {
            buffer.slice(whole)
        } else {
            Bytes::copy_from_slice(record)
        });
    }
    Ok(())
}

fn is_good(queue: QueueKey, entry: &Entry, record: &[u8]) -> bool {
    let (head, payload) = record.split_at(MESSAGE_BYTES);
    let checksum = message_checksum(queue, Seq(entry.seq), payload);
    head[..4] == entry.size.to_le_bytes() && head[4..] == checksum.to_le_bytes()
}

fn corrupt(file: FileId, entry: &Entry) -> StoreError {
    StoreError::Corrupt {
        file: file.to_string(),
        offset: u64::from(entry.offset),
    }
}
