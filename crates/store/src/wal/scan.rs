//! Reading a log file back, and telling a torn tail from damage.
//!
//! Every envelope says how far the log was durable when it was made. So where the records end, a
//! later envelope that claims more was durable proves that synced bytes have changed: that is
//! damage. Without such a proof the bytes were never promised, and the log ends there.

use std::sync::Arc;

use super::format::{
    self, ALIGNMENT, ENVELOPE_BYTES, EnvelopeHeader, FILE_HEADER_BYTES, VERSION, padded,
};
use crate::change::Malformed;
use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::files::Files;
use crate::index::FileId;
use crate::types::{Mutant, Position};

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What was found behind the last good record of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailState {
    /// Nothing of this use of the file.
    Clean,
    /// Records that were never promised, or parts of them.
    Torn,
}

/// What a log file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    /// Where its records end; offset 0 if it was never begun.
    pub(crate) end: Position,
    /// Everything before it was durable, as its records say.
    pub(crate) durable: Position,
    pub(crate) tail: TailState,
}

/// Some bytes of a file, moving forward.
struct Window<'a, D: Disk> {
    files: &'a mut Files<D>,
    id: FileId,
    start: u64,
    bytes: Vec<u8>,
}

impl<D: Disk> Window<'_, D> {
    /// `len` bytes at `offset`, or fewer at the end of the file.
    fn at(&mut self, offset: u64, len: usize) -> Result<&[u8], OpenError> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + len as u64 > end {
            self.bytes.resize(len.max(WINDOW_BYTES), 0);
            let outcome = self.files.read(self.id, offset, &mut self.bytes);
            let filled = outcome.map_err(|error| open_error(self.id, error))?;
            self.bytes.truncate(filled);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + len)])
    }
}

/// Tells a failure while opening.
pub(crate) fn open_error(id: FileId, error: StoreError) -> OpenError {
    let (file, error) = match error {
        StoreError::Read { file, error, .. } | StoreError::Poisoned { file, error } => {
            (file, error)
        }
        StoreError::DiskFull => (
            id.to_string(),
            Arc::new(std::io::ErrorKind::StorageFull.into()),
        ),
        other => (id.to_string(), Arc::new(std::io::Error::other(other))),
    };
    OpenError::Disk { file, error }
}

/// Reads a file's header: where the log ended before it. `None` if the file was not begun.
pub(crate) fn read_header<D: Disk>(
    files: &mut Files<D>,
    number: u32,
) -> Result<Option<Position>, OpenError> {
    let id = FileId::Wal(number);
    let mut bytes = [0; FILE_HEADER_BYTES];
    let filled = files
        .read(id, 0, &mut bytes)
        .map_err(|error| open_error(id, error))?;
    match format::parse_file_header(&bytes[..filled]) {
        Some(header) if header.version != VERSION => Err(OpenError::Version {
            file: id.to_string(),
            version: header.version,
        }),
        Some(header) if header.number == number => Ok(Some(header.previous)),
        _ => Ok(None),
    }
}

/// Applies every record of a begun file. `stop` is where the next file says this one ends.
pub(crate) fn scan_file<D: Disk>(
    files: &mut Files<D>,
    number: u32,
    stop: Option<u32>,
    mut apply: impl FnMut(&[u8], u32) -> Result<(), Malformed>,
) -> Result<Scan, OpenError> {
    let id = FileId::Wal(number);
    let mut window = Window {
        files,
        id,
        start: 0,
        bytes: Vec::new(),
    };
    let mut at = Position::new(number, FILE_HEADER_BYTES as u32);
    let mut durable = Position::new(number, 0);
    while Some(at.offset()) != stop {
        match read_envelope(&mut window, at)? {
            Some(header) => {
                let body_at = at.offset() + ENVELOPE_BYTES as u32;
                let body = window.at(u64::from(body_at), header.body_bytes as usize)?;
                apply(body, body_at).map_err(|Malformed| corrupt(at, "malformed changes"))?;
                let len = ENVELOPE_BYTES + padded(header.body_bytes as usize);
                at = Position::new(number, at.offset() + len as u32);
                durable = durable.max(header.durable);
            }
            None if stop.is_some() && !window.files.mutant(Mutant::TruncateAnywhere) => {
                return Err(corrupt(at, "bad record before the end of the log"));
            }
            None => break,
        }
    }
    let tail = if stop.is_some() {
        TailState::Clean
    } else {
        scan_tail(files, at)?
    };
    Ok(Scan {
        end: at,
        durable,
        tail,
    })
}

/// The envelope at `at`, if it is whole.
fn read_envelope<D: Disk>(
    window: &mut Window<'_, D>,
    at: Position,
) -> Result<Option<EnvelopeHeader>, OpenError> {
    let offset = u64::from(at.offset());
    let any_place = window.files.mutant(Mutant::IgnorePosition);
    let unchecked = window.files.mutant(Mutant::SkipChecksum);
    let bytes = window.at(offset, ENVELOPE_BYTES)?;
    let Some(header) = format::parse_envelope(bytes).filter(|h| h.at == at || any_place) else {
        return Ok(None);
    };
    let end = offset + ENVELOPE_BYTES as u64 + u64::from(header.body_bytes);
    if end > u64::from(u32::MAX) {
        return Ok(None);
    }
    let body = window.at(offset + ENVELOPE_BYTES as u64, header.body_bytes as usize)?;
    let whole = body.len() == header.body_bytes as usize
        && (unchecked || crc32fast::hash(body) == header.body_checksum);
    Ok(whole.then_some(header))
}

/// Looks at what follows the last good record: nothing, an unfinished write, or damage.
pub(crate) fn scan_tail<D: Disk>(
    files: &mut Files<D>,
    end: Position,
) -> Result<TailState, OpenError> {
    let unsuspecting = files.mutant(Mutant::TruncateAnywhere);
    let id = FileId::Wal(end.file());
    let mut window = Window {
        files,
        id,
        start: 0,
        bytes: Vec::new(),
    };
    let mut tail = TailState::Clean;
    if resembles_header(&mut window, end)? {
        tail = TailState::Torn;
    }
    let mut offset = u64::from(end.offset());
    loop {
        let len = window.at(offset, WINDOW_BYTES)?.len();
        if len < ENVELOPE_BYTES {
            return Ok(tail);
        }
        // The last header-sized bytes of a window are looked at in the next one.
        let mut next = 0;
        while next + ENVELOPE_BYTES <= len {
            let bytes = &window.bytes[(offset - window.start) as usize + next..];
            if let Some(header) = format::parse_envelope(&bytes[..ENVELOPE_BYTES])
                && header.at.get() == Position::new(end.file(), 0).get() + offset + next as u64
            {
                tail = TailState::Torn;
                if header.durable > end && !unsuspecting {
                    return Err(corrupt(end, "bad record that had been synced"));
                }
            }
            next += ALIGNMENT;
        }
        offset += next as u64;
    }
}

/// True if a header with a fault stands at the end of the log, or the header of a file and the
/// first envelope at the start of one.
fn resembles_header<D: Disk>(window: &mut Window<'_, D>, end: Position) -> Result<bool, OpenError> {
    let mut at = end;
    if end.offset() == 0 {
        let header = window.at(0, FILE_HEADER_BYTES)?;
        if format::resembles_file_header(header, end.file()) {
            return Ok(true);
        }
        at = Position::new(end.file(), FILE_HEADER_BYTES as u32);
    }
    let header = window.at(u64::from(at.offset()), ENVELOPE_BYTES)?;
    Ok(format::resembles_envelope(header, at))
}

/// Writes the bytes from one place of a file to another once more, and syncs them.
///
/// After a failed sync a system may show bytes it will never write, and call them written. Nobody
/// was promised them, but whoever reads them now will rely on them.
pub(crate) fn rewrite<D: Disk>(
    files: &mut Files<D>,
    number: u32,
    from: u32,
    to: u32,
) -> Result<(), StoreError> {
    let id = FileId::Wal(number);
    let mut buffer = Vec::new();
    let mut offset = u64::from(from);
    while offset < u64::from(to) && !files.mutant(Mutant::SkipRewrite) {
        buffer.resize(
            (u64::from(to) - offset).min(WINDOW_BYTES as u64) as usize,
            0,
        );
        let filled = files.read(id, offset, &mut buffer)?;
        buffer.truncate(filled);
        files.write(id, offset, &[&buffer])?;
        offset += (filled as u64).max(1);
    }
    files.sync(id)
}

pub(crate) fn corrupt(at: Position, what: &'static str) -> OpenError {
    let file = FileId::Wal(at.file()).to_string();
    OpenError::Corrupt {
        file,
        offset: u64::from(at.offset()),
        what,
    }
}
