//! Recovery: from the newest checkpoint, the footers of its segments, and the log behind it.
//!
//! Only the log is read record by record; its length is bounded by `Options`. Whatever the
//! checkpoint does not name is left over from work a crash cut short, and is removed. The log never
//! goes on in a file that was written before: behind a torn record there may be whole ones that
//! were never promised, and the next append must not make them look like part of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::checkpoint::{self, Checkpoint, LivePart};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::files::Files;
use crate::index::{Extent, FileId, Index, Queue};
use crate::segment::{self, SegmentInfo};
use crate::types::{Mutant, Note, Options, Position};
use crate::wal::{self, TailState, Wal, corrupt, open_error, read_header};

/// What recovery hands to the store.
pub(crate) struct Opened<D: Disk> {
    pub(crate) files: Files<D>,
    pub(crate) index: Index,
    pub(crate) wal: Wal,
    pub(crate) segments: BTreeMap<u32, SegmentInfo>,
    pub(crate) next_segment: u32,
    pub(crate) checkpoint: u32,
    pub(crate) notes: Vec<Note>,
}

/// Opens the store, making it if the disk is empty.
pub(crate) fn open<D: Disk>(disk: D, options: &Options) -> Result<Opened<D>, OpenError> {
    let mut files = Files::new(disk, *options);
    make_directories(&mut files)?;
    for name in list(&mut files, segment::TRANSIENT)? {
        remove(&mut files, segment::TRANSIENT, &name)?;
    }
    let (number, checkpoint) = newest_checkpoint(&mut files)?;
    let mut index = Index::default();
    let next_segment = load_segments(&checkpoint, &mut index, &mut files)?;
    let segments = checkpoint
        .segments
        .iter()
        .map(|info| (info.number, *info))
        .collect();
    let mut notes = Vec::new();
    let wal = replay(&checkpoint, options, &mut index, &mut notes, &mut files)?;
    Ok(Opened {
        files,
        index,
        wal,
        segments,
        next_segment,
        checkpoint: number,
        notes,
    })
}

fn make_directories<D: Disk>(files: &mut Files<D>) -> Result<(), OpenError> {
    let all = [
        "",
        wal::DIRECTORY,
        segment::DIRECTORY,
        checkpoint::DIRECTORY,
        segment::TRANSIENT,
    ];
    for name in all {
        let made = files.disk().create_directory(name);
        made.map_err(|error| disk_error(name, error))?;
    }
    files
        .sync_directory("")
        .map_err(|error| open_error(FileId::NewCheckpoint, error))
}

fn disk_error(file: &str, error: io::Error) -> OpenError {
    OpenError::Disk {
        file: file.to_owned(),
        error: Arc::new(error),
    }
}

fn list<D: Disk>(files: &mut Files<D>, directory: &str) -> Result<Vec<String>, OpenError> {
    files
        .disk()
        .list(directory)
        .map_err(|error| disk_error(directory, error))
}

fn remove<D: Disk>(files: &mut Files<D>, directory: &str, name: &str) -> Result<(), OpenError> {
    let name = format!("{directory}/{name}");
    files
        .disk()
        .remove(&name)
        .map_err(|error| disk_error(&name, error))
}

/// Numbers of the files in a folder, by rising number. A file without one is what a crash left
/// behind.
fn numbers<D: Disk>(
    files: &mut Files<D>,
    directory: &str,
    suffix: &str,
) -> Result<BTreeSet<u32>, OpenError> {
    let mut numbers = BTreeSet::new();
    for name in list(files, directory)? {
        match name.strip_suffix(suffix).map(str::parse) {
            Some(Ok(number)) => {
                numbers.insert(number);
            }
            _ if name.ends_with(".tmp") => remove(files, directory, &name)?,
            _ => {}
        }
    }
    Ok(numbers)
}

/// The checkpoint that counts. A disk without a trace of a store gets a first one.
fn newest_checkpoint<D: Disk>(files: &mut Files<D>) -> Result<(u32, Checkpoint), OpenError> {
    let mut found = numbers(files, checkpoint::DIRECTORY, ".ckpt")?;
    let Some(newest) = found.pop_last() else {
        let logs = numbers(files, wal::DIRECTORY, ".log")?;
        let segments = numbers(files, segment::DIRECTORY, ".seg")?;
        if !logs.is_empty() || !segments.is_empty() {
            let file = FileId::Checkpoint(1).to_string();
            return Err(OpenError::Missing { file });
        }
        let first = Checkpoint::of(&Index::default(), 1, Position(0), Vec::new());
        let written = checkpoint::write(first.clone(), 1, files);
        written.map_err(|error| open_error(FileId::Checkpoint(1), error))?;
        return Ok((1, first));
    };
    let checkpoint = checkpoint::read(newest, files)?;
    // Its name may still be in the system's memory alone, and what it replaces is given up next.
    let synced = files.sync_directory(checkpoint::DIRECTORY);
    synced.map_err(|error| open_error(FileId::Checkpoint(newest), error))?;
    for number in found {
        let id = FileId::Checkpoint(number);
        files.remove(id).map_err(|error| open_error(id, error))?;
    }
    Ok((newest, checkpoint))
}

/// Fills the index from the footers. Returns the lowest segment number that was never used.
fn load_segments<D: Disk>(
    checkpoint: &Checkpoint,
    index: &mut Index,
    files: &mut Files<D>,
) -> Result<u32, OpenError> {
    let mut on_disk = numbers(files, segment::DIRECTORY, ".seg")?;
    let highest = on_disk.last().copied().unwrap_or(0);
    let mut extents = BTreeMap::new();
    let mut next = highest + 1;
    for info in &checkpoint.segments {
        if !on_disk.remove(&info.number) {
            return Err(OpenError::Missing {
                file: FileId::Segment(info.number).to_string(),
            });
        }
        for (key, extent) in segment::read_footer(info, files)? {
            extents.insert((key, info.number), extent);
        }
        next = next.max(info.number + 1);
    }
    for number in on_disk {
        let id = FileId::Segment(number);
        files.remove(id).map_err(|error| open_error(id, error))?;
    }
    for state in &checkpoint.queues {
        let mut queue = Queue::with_next(state.next);
        let mut parts: Vec<Extent> = Vec::new();
        for (number, part) in &state.parts {
            let Some(mut extent) = extents.remove(&(state.queue, *number)) else {
                continue;
            };
            if let LivePart::Runs(runs) = part {
                extent.keep_runs(runs);
            }
            parts.push(extent);
        }
        parts.sort_by_key(Extent::first);
        for extent in parts {
            index.live.add(extent.file, extent.live);
            queue.insert(extent);
        }
        index.queues.insert(state.queue, queue);
    }
    Ok(next)
}

/// Applies the log from the checkpoint's first file on and prepares its continuation in a new file.
fn replay<D: Disk>(
    checkpoint: &Checkpoint,
    options: &Options,
    index: &mut Index,
    notes: &mut Vec<Note>,
    files: &mut Files<D>,
) -> Result<Wal, OpenError> {
    let mut on_disk = numbers(files, wal::DIRECTORY, ".log")?;
    let first = checkpoint.first_wal;
    let begun = chain(checkpoint, &on_disk, files)?;
    let (mut end, mut durable) = (checkpoint.durable, checkpoint.durable);
    let mut reuse = None;
    for (at, (number, _)) in begun.iter().enumerate() {
        let stop = begun.get(at + 1).map(|(_, previous)| previous.offset());
        let scan = wal::scan_file(files, *number, stop, |body, base| {
            index.apply(body, FileId::Wal(*number), base)
        })?;
        (end, durable) = (scan.end, scan.durable);
        if scan.tail == TailState::Torn {
            notes.push(torn(scan.end));
            reuse = files.mutant(Mutant::ReuseTornFile).then_some(scan.end);
        }
    }
    if end < checkpoint.durable && !files.mutant(Mutant::TruncateAnywhere) {
        return Err(corrupt(
            end,
            "the log ends before the checkpoint says it does",
        ));
    }
    let mut tail = first;
    if let Some((newest, _)) = begun.last() {
        tail = newest + 1;
        let again = wal::rewrite(files, *newest, durable.offset(), end.offset());
        again.map_err(|error| open_error(FileId::Wal(*newest), error))?;
    }
    drop_torn_spare(tail, &mut on_disk, notes, files)?;
    let ready = settle(first, tail, &on_disk, files)?;
    let mut wal = Wal::new(first, tail, ready, end, options.wal_file_bytes);
    if let Some(end) = reuse {
        wal.continue_at(end);
    }
    Ok(wal)
}

fn torn(end: Position) -> Note {
    let file = FileId::Wal(end.file()).to_string();
    Note::TornTail {
        file,
        offset: u64::from(end.offset()),
    }
}

/// Removes the next file if it holds records though it was not begun: they were never promised, and
/// stand at places this number would make valid.
fn drop_torn_spare<D: Disk>(
    tail: u32,
    on_disk: &mut BTreeSet<u32>,
    notes: &mut Vec<Note>,
    files: &mut Files<D>,
) -> Result<(), OpenError> {
    let start = Position::new(tail, 0);
    if on_disk.contains(&tail) && wal::scan_tail(files, start)? == TailState::Torn {
        notes.push(torn(start));
        let id = FileId::Wal(tail);
        files.remove(id).map_err(|error| open_error(id, error))?;
        on_disk.remove(&tail);
    }
    Ok(())
}

/// The begun files in order, each with the place where the log before it ended.
fn chain<D: Disk>(
    checkpoint: &Checkpoint,
    on_disk: &BTreeSet<u32>,
    files: &mut Files<D>,
) -> Result<Vec<(u32, Position)>, OpenError> {
    let first = checkpoint.first_wal;
    let mut begun = Vec::new();
    for number in on_disk.range(first..) {
        if let Some(previous) = read_header(files, *number)? {
            begun.push((*number, previous));
        }
    }
    let mut expected = first;
    for (number, previous) in &begun {
        if *number != expected {
            return Err(not_begun(expected, on_disk));
        }
        if number != &first && previous.file() + 1 != *number {
            return Err(corrupt(
                Position::new(*number, 0),
                "does not follow the file before it",
            ));
        }
        expected += 1;
    }
    if checkpoint.durable.file() >= expected {
        return Err(not_begun(expected, on_disk));
    }
    Ok(begun)
}

/// A file that must have records has none, or is not there.
fn not_begun(number: u32, on_disk: &BTreeSet<u32>) -> OpenError {
    if on_disk.contains(&number) {
        return corrupt(Position::new(number, 0), "bad header of a file in use");
    }
    OpenError::Missing {
        file: FileId::Wal(number).to_string(),
    }
}

/// Makes the names what they should be: nothing below `first`, and spares without gaps from `tail`
/// on. Returns the highest number in use.
fn settle<D: Disk>(
    first: u32,
    tail: u32,
    on_disk: &BTreeSet<u32>,
    files: &mut Files<D>,
) -> Result<u32, OpenError> {
    let fail = |number| move |error| open_error(FileId::Wal(number), error);
    let mut ready = tail - 1;
    for number in on_disk.range(tail..) {
        ready += 1;
        if *number != ready {
            let to = FileId::Wal(ready);
            files
                .rename(FileId::Wal(*number), to)
                .map_err(fail(*number))?;
        }
    }
    for number in on_disk.range(..first) {
        files.remove(FileId::Wal(*number)).map_err(fail(*number))?;
    }
    files.sync_directory(wal::DIRECTORY).map_err(fail(tail))?;
    Ok(ready)
}
