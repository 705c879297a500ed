//! The snapshot file: the whole state at one index, replaced in one step.
//!
//! Invariants: the file under its name is always complete and on disk (it is written beside,
//! synced, renamed, and the folder synced); a handed-out [`SnapshotBody`] stays readable when a
//! newer snapshot takes its place. There is one writer at a time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::StartError;
use crate::format::{self, FormatError, SnapshotRecord};
use crate::log::file::sync_folder_of;
use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership};

const MAGIC: [u8; 8] = *b"wrn-snap";

/// A snapshot's state: in memory on its way from a peer, or in the file.
#[derive(Clone, Debug)]
pub(crate) enum SnapshotBody {
    Memory(Bytes),
    File(Arc<File>, PathBuf),
}

/// A snapshot that is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) meta: SnapshotMeta,
    pub(crate) body: SnapshotBody,
    pub(crate) bytes: u64,
}

/// The place of this node's snapshot.
pub(crate) struct SnapshotStore {
    path: PathBuf,
    current: Mutex<Option<Current>>,
    writing: Mutex<()>,
}

impl SnapshotBody {
    /// The state's bytes, read and checked.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            SnapshotBody::Memory(bytes) => Ok(bytes.clone()),
            SnapshotBody::File(file, path) => read_file(file)
                .and_then(|read| Ok(read.map(|(_, body)| body)?))
                .map_err(|error| {
                    let text = format!("cannot read metadata snapshot {}: {error}", path.display());
                    io::Error::new(error.kind(), text)
                }),
        }
    }
}

impl SnapshotStore {
    /// Reads the snapshot at `path`, if there is one; also returns its state.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<Bytes>), StartError> {
        let io = |source| StartError::File {
            path: path.to_owned(),
            source,
        };
        // What a crash left half-written was never a snapshot.
        match fs::remove_file(unfinished(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Ok(()) | Err(_) => {}
        }
        let mut current = None;
        let mut state = None;
        match File::open(path) {
            Ok(file) => {
                let (meta, body) = read_file(&file)
                    .map_err(io)?
                    .map_err(|error| StartError::unreadable(path, "content", &error))?;
                let bytes = body.len() as u64;
                let body_in_file = SnapshotBody::File(Arc::new(file), path.to_owned());
                current = Some(Current {
                    meta,
                    body: body_in_file,
                    bytes,
                });
                state = Some(body);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let store = SnapshotStore {
            path: path.to_owned(),
            current: Mutex::new(current),
            writing: Mutex::new(()),
        };
        Ok((store, state))
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<Current> {
        self.current.lock().clone()
    }

    /// Takes `membership` for that of the snapshot, if that is from before `founded`: where a log is
    /// founded anew, no membership of before counts, and none is sent to who joins it.
    pub(crate) fn found(&self, founded: &LogId, membership: &Membership) {
        if let Some(current) = &mut *self.current.lock()
            && current.meta.last_log_id.as_ref() < Some(founded)
        {
            let at = current.meta.last_log_id;
            current.meta.last_membership = StoredMembership::new(at, membership.clone());
        }
    }

    /// Replaces the snapshot; returns once the new one is on disk. Blocks. An older one than the
    /// present is not taken: a snapshot from a peer may overtake one being built here.
    pub(crate) fn replace(&self, meta: &SnapshotMeta, body: &[u8]) -> io::Result<Current> {
        let _writing = self.writing.lock();
        if let Some(current) = self.current()
            && current.meta.last_log_id > meta.last_log_id
        {
            return Ok(current);
        }
        let file = write_file(&self.path, meta, body).map_err(|error| {
            let path = self.path.display();
            io::Error::new(
                error.kind(),
                format!("cannot write metadata snapshot {path}: {error}"),
            )
        })?;
        let body_in_file = SnapshotBody::File(Arc::new(file), self.path.clone());
        let bytes = body.len() as u64;
        let current = Current {
            meta: meta.clone(),
            body: body_in_file,
            bytes,
        };
        *self.current.lock() = Some(current.clone());
        Ok(current)
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

fn write_file(path: &Path, meta: &SnapshotMeta, body: &[u8]) -> io::Result<File> {
    let unfinished = unfinished(path);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unfinished)?;
    let head = format::encode(&SnapshotRecord::from(meta));
    let head_bytes = u32::try_from(head.len()).map_err(io::Error::other)?;
    file.write_all(&MAGIC)?;
    file.write_all(&head_bytes.to_le_bytes())?;
    file.write_all(&head)?;
    file.write_all(&(body.len() as u64).to_le_bytes())?;
    file.write_all(&crc32fast::hash(body).to_le_bytes())?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder_of(path)?;
    Ok(file)
}

/// Reads a snapshot file whole: an IO error outside, a wrong content inside.
fn read_file(file: &File) -> io::Result<Result<(SnapshotMeta, Bytes), FormatError>> {
    let bytes = Bytes::from(read_from_start(file)?);
    Ok(parse(&bytes))
}

fn parse(bytes: &Bytes) -> Result<(SnapshotMeta, Bytes), FormatError> {
    let not_ours = || FormatError::Content("it is not a snapshot".to_owned());
    let rest = bytes.strip_prefix(&MAGIC).ok_or_else(not_ours)?;
    let (head_bytes, rest) = rest.split_first_chunk::<4>().ok_or(FormatError::Short)?;
    let head_bytes = u32::from_le_bytes(*head_bytes) as usize;
    let (head, rest) = rest
        .split_at_checked(head_bytes)
        .ok_or(FormatError::Short)?;
    let meta = SnapshotMeta::try_from(format::decode::<SnapshotRecord>(head)?)?;
    let (body_bytes, rest) = rest.split_first_chunk::<8>().ok_or(FormatError::Short)?;
    let (checksum, body) = rest.split_first_chunk::<4>().ok_or(FormatError::Short)?;
    if body.len() as u64 != u64::from_le_bytes(*body_bytes) {
        return Err(FormatError::Short);
    }
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(FormatError::Checksum);
    }
    Ok((meta, bytes.slice_ref(body)))
}

#[cfg(unix)]
fn read_from_start(file: &File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    // Not `seek` and `read`: handed-out bodies share the file's one cursor.
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(not(unix))]
fn read_from_start(mut file: &File) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
