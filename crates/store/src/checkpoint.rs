//! The checkpoint: one small file that says which files count and what they cannot say themselves.
//!
//! It names the first log file recovery needs, the segments, and for each queue its next sequence
//! and which of its messages in the segments are live. It is written under another name, synced,
//! renamed and its folder synced; only then may anything it does not name be given up. So each
//! moment has exactly one valid checkpoint, and damage in it is never taken for an unfinished
//! write.

use crate::codec::{Decoder, put_varint};
use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::files::Files;
use crate::index::{Extent, FileId, Index, Queue};
use crate::segment::SegmentInfo;
#[cfg(feature = "mutants")]
use crate::types::Mutant;
use crate::types::{Position, QueueKey};
use crate::wal::format::VERSION;
use crate::wal::open_error;

/// Folder of the checkpoints.
pub(crate) const DIRECTORY: &str = "checkpoint";

const MAGIC: [u8; 8] = *b"warrnchk";

/// Which messages a segment holds live for a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LivePart {
    /// All it holds.
    Whole,
    /// Those whose sequence lies in a run, both ends included.
    Runs(Vec<(u64, u64)>),
}

/// A queue as the checkpoint knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueState {
    pub(crate) queue: QueueKey,
    pub(crate) next: u64,
    /// By segment number; a segment that is not listed holds nothing live of this queue.
    pub(crate) parts: Vec<(u32, LivePart)>,
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// First log file that recovery needs.
    pub(crate) first_wal: u32,
    /// The log was durable up to here when the checkpoint was written.
    pub(crate) durable: Position,
    pub(crate) segments: Vec<SegmentInfo>,
    pub(crate) queues: Vec<QueueState>,
}

impl Checkpoint {
    /// The state of the index at this moment. Messages that are in the log are left to the log.
    pub(crate) fn of(
        index: &Index,
        first_wal: u32,
        durable: Position,
        segments: Vec<SegmentInfo>,
    ) -> Checkpoint {
        let queues = index
            .queues
            .iter()
            .map(|(key, queue)| QueueState {
                queue: *key,
                next: queue.next,
                parts: parts(queue),
            })
            .collect();
        Checkpoint {
            first_wal,
            durable,
            segments,
            queues,
        }
    }

    #[cfg(feature = "mutants")]
    fn break_on_purpose(&mut self, mutant: impl Fn(Mutant) -> bool) {
        for state in &mut self.queues {
            if mutant(Mutant::ForgetRemovals) {
                state
                    .parts
                    .iter_mut()
                    .for_each(|(_, part)| *part = LivePart::Whole);
            }
            if mutant(Mutant::ForgetNextSeq) && state.parts.is_empty() {
                state.next = 0;
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.first_wal.to_le_bytes());
        out.extend_from_slice(&self.durable.get().to_le_bytes());
        put_varint(&mut out, self.segments.len() as u64);
        for segment in &self.segments {
            put_varint(&mut out, u64::from(segment.number));
            put_varint(&mut out, segment.len);
            put_varint(&mut out, segment.record_bytes);
            out.extend_from_slice(&segment.checksum.to_le_bytes());
        }
        put_varint(&mut out, self.queues.len() as u64);
        for state in &self.queues {
            out.extend_from_slice(&state.queue.0.to_le_bytes());
            put_varint(&mut out, state.next);
            put_varint(&mut out, state.parts.len() as u64);
            for (segment, part) in &state.parts {
                put_varint(&mut out, u64::from(*segment));
                encode_part(&mut out, part);
            }
        }
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `Err` carries the version if it is not ours.
    fn decode(bytes: &[u8]) -> Result<Checkpoint, Option<u32>> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(None)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(None);
        }
        let mut decoder = Decoder::new(body);
        if decoder.take(8) != Some(&MAGIC) {
            return Err(None);
        }
        match decoder.u32() {
            Some(VERSION) => decode_body(&mut decoder).ok_or(None),
            version => Err(version),
        }
    }
}

/// What the segments hold live for a queue.
fn parts(queue: &Queue) -> Vec<(u32, LivePart)> {
    let mut extents: Vec<(u32, &Extent)> = queue
        .extents()
        .iter()
        .filter_map(|extent| match extent.file {
            FileId::Segment(number) => Some((number, extent)),
            _ => None,
        })
        .collect();
    // Stable, so that the runs of one segment stay in order.
    extents.sort_by_key(|(number, _)| *number);
    let mut parts: Vec<(u32, LivePart)> = Vec::with_capacity(extents.len());
    for (number, extent) in extents {
        if extent.is_whole() {
            parts.push((number, LivePart::Whole));
            continue;
        }
        match parts.last_mut() {
            Some((last, LivePart::Runs(runs))) if *last == number => {
                runs.extend(extent.live_runs());
            }
            _ => parts.push((number, LivePart::Runs(extent.live_runs()))),
        }
    }
    parts
}

/// A part is a count of runs, 0 for the whole, and each run's distance to the one before it and its
/// length.
fn encode_part(out: &mut Vec<u8>, part: &LivePart) {
    let LivePart::Runs(runs) = part else {
        put_varint(out, 0);
        return;
    };
    put_varint(out, runs.len() as u64);
    let mut before = 0;
    for (first, last) in runs {
        put_varint(out, first - before);
        put_varint(out, last - first);
        before = *last;
    }
}

fn decode_body(decoder: &mut Decoder<'_>) -> Option<Checkpoint> {
    let first_wal = decoder.u32()?;
    let durable = Position(decoder.u64()?);
    let mut segments = Vec::new();
    for _ in 0..decoder.varint()? {
        let number = u32::try_from(decoder.varint()?).ok()?;
        let (len, record_bytes) = (decoder.varint()?, decoder.varint()?);
        let checksum = decoder.u32()?;
        segments.push(SegmentInfo {
            number,
            len,
            record_bytes,
            checksum,
        });
    }
    let mut queues = Vec::new();
    for _ in 0..decoder.varint()? {
        let queue = QueueKey(decoder.u64()?);
        let next = decoder.varint()?;
        let mut parts = Vec::new();
        for _ in 0..decoder.varint()? {
            let segment = u32::try_from(decoder.varint()?).ok()?;
            parts.push((segment, decode_part(decoder)?));
        }
        queues.push(QueueState { queue, next, parts });
    }
    decoder.is_empty().then_some(Checkpoint {
        first_wal,
        durable,
        segments,
        queues,
    })
}

fn decode_part(decoder: &mut Decoder<'_>) -> Option<LivePart> {
    let count = decoder.varint()?;
    if count == 0 {
        return Some(LivePart::Whole);
    }
    let mut runs = Vec::new();
    let mut before = 0_u64;
    for _ in 0..count {
        let first = before.checked_add(decoder.varint()?)?;
        let last = first.checked_add(decoder.varint()?)?;
        runs.push((first, last));
        before = last;
    }
    Some(LivePart::Runs(runs))
}

/// Makes the checkpoint durable under its number.
pub(crate) fn write<D: Disk>(
    #[cfg_attr(
        not(feature = "mutants"),
        expect(unused_mut, reason = "only mutants change it")
    )]
    mut checkpoint: Checkpoint,
    number: u32,
    files: &mut Files<D>,
) -> Result<(), StoreError> {
    #[cfg(feature = "mutants")]
    checkpoint.break_on_purpose(|mutant| files.mutant(mutant));
    let id = FileId::NewCheckpoint;
    files.create(id)?;
    if let Err(error) = files.write(id, 0, &[&checkpoint.encode()]) {
        files.remove(id)?;
        return Err(error);
    }
    files.sync(id)?;
    if let Err(error) = files.rename(id, FileId::Checkpoint(number)) {
        files.remove(id)?;
        return Err(error);
    }
    files.sync_directory(DIRECTORY)
}

/// Reads a checkpoint.
pub(crate) fn read<D: Disk>(number: u32, files: &mut Files<D>) -> Result<Checkpoint, OpenError> {
    let id = FileId::Checkpoint(number);
    let len = files.len(id).map_err(|error| open_error(id, error))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let filled = files
        .read(id, 0, &mut bytes)
        .map_err(|error| open_error(id, error))?;
    Checkpoint::decode(&bytes[..filled]).map_err(|version| match version {
        Some(version) => OpenError::Version {
            file: id.to_string(),
            version,
        },
        None => OpenError::Corrupt {
            file: id.to_string(),
            offset: 0,
            what: "bad checkpoint",
        },
    })
}
