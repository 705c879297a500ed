//! The disk as the store uses it: files by their id, open ones kept, and failures judged.
//!
//! Invariants:
//! - after a failed write, sync or change of names every later change fails with that first error;
//! - no room on the disk is no failure, unless it was a sync or a write into the log that met it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::index::FileId;
use crate::types::{Mutant, Options};

/// Files kept open.
const OPEN_MAX: usize = 64;

/// A file kept open.
struct Open<F> {
    file: F,
    /// When it was used last.
    used: u64,
    /// True from a write to the sync after it. A system may tell of a failed write only through the
    /// handle that wrote, so until then it stays.
    unsynced: bool,
}

/// The disk with its open files.
pub(crate) struct Files<D: Disk> {
    disk: D,
    options: Options,
    open: BTreeMap<FileId, Open<D::File>>,
    uses: u64,
    poison: Option<StoreError>,
}

impl<D: Disk> Files<D> {
    pub(crate) fn new(disk: D, options: Options) -> Files<D> {
        Files {
            disk,
            options,
            open: BTreeMap::new(),
            uses: 0,
            poison: None,
        }
    }

    pub(crate) fn mutant(&self, mutant: Mutant) -> bool {
        self.options.breaks(mutant)
    }

    /// Fails if an earlier operation did.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    /// Remembers the failure for good.
    fn poisoned(&mut self, name: &str, error: io::Error) -> StoreError {
        let error = StoreError::Poisoned {
            file: name.to_owned(),
            error: Arc::new(error),
        };
        self.poison.get_or_insert(error).clone()
    }

    /// Judges the outcome of an operation that promises nothing by itself.
    fn judge<T>(&mut self, name: &str, outcome: io::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) {
                StoreError::DiskFull
            } else {
                self.poisoned(name, error)
            }
        })
    }

    /// The open file, opened if it must be.
    fn file(&mut self, id: FileId) -> io::Result<(&mut D, &D::File)> {
        self.uses += 1;
        if !self.open.contains_key(&id) {
            let file = self.disk.open(&id.to_string())?;
            self.keep(id, file);
        }
        let open = self.open.get_mut(&id).expect("opened above");
        open.used = self.uses;
        Ok((&mut self.disk, &open.file))
    }

    fn keep(&mut self, id: FileId, file: D::File) {
        if self.open.len() >= OPEN_MAX {
            let idle = self
                .open
                .iter()
                .filter(|(id, open)| !open.unsynced || matches!(id, FileId::Transient(_)));
            if let Some(oldest) = idle.min_by_key(|(_, open)| open.used).map(|(id, _)| *id) {
                self.open.remove(&oldest);
            }
        }
        let used = self.uses;
        self.open.insert(
            id,
            Open {
                file,
                used,
                unsynced: false,
            },
        );
    }

    fn set_unsynced(&mut self, id: FileId, unsynced: bool) {
        if let Some(open) = self.open.get_mut(&id) {
            open.unsynced = unsynced;
        }
    }

    pub(crate) fn create(&mut self, id: FileId) -> Result<(), StoreError> {
        self.check()?;
        let name = id.to_string();
        let created = self.disk.create(&name);
        let file = self.judge(&name, created)?;
        self.keep(id, file);
        Ok(())
    }

    /// Writes the pieces. In the log even a lack of room is a failure: the bytes may be there in
    /// part.
    pub(crate) fn write(
        &mut self,
        id: FileId,
        offset: u64,
        pieces: &[&[u8]],
    ) -> Result<(), StoreError> {
        self.check()?;
        let outcome = self
            .file(id)
            .and_then(|(disk, file)| disk.write_at(file, offset, pieces));
        self.set_unsynced(id, true);
        match (id, outcome) {
            (_, Ok(())) => Ok(()),
            (FileId::Wal(_), Err(error)) => Err(self.poisoned(&id.to_string(), error)),
            (_, outcome) => self.judge(&id.to_string(), outcome),
        }
    }

    pub(crate) fn sync(&mut self, id: FileId) -> Result<(), StoreError> {
        self.check()?;
        let mut outcome = self.file(id).and_then(|(disk, file)| disk.sync_data(file));
        if outcome.is_err() && self.mutant(Mutant::RetrySync) {
            outcome = self.file(id).and_then(|(disk, file)| disk.sync_data(file));
        }
        outcome.map_err(|error| self.poisoned(&id.to_string(), error))?;
        self.set_unsynced(id, false);
        Ok(())
    }

    pub(crate) fn sync_directory(&mut self, name: &str) -> Result<(), StoreError> {
        self.check()?;
        if self.mutant(Mutant::SkipDirectorySync) {
            return Ok(());
        }
        let outcome = self.disk.sync_directory(name);
        outcome.map_err(|error| self.poisoned(name, error))
    }

    pub(crate) fn preallocate(&mut self, id: FileId, len: u64) -> Result<(), StoreError> {
        self.check()?;
        let outcome = self
            .file(id)
            .and_then(|(disk, file)| disk.preallocate(file, len));
        self.judge(&id.to_string(), outcome)
    }

    pub(crate) fn rename(&mut self, from: FileId, to: FileId) -> Result<(), StoreError> {
        self.check()?;
        let name = from.to_string();
        let outcome = self.disk.rename(&name, &to.to_string());
        self.judge(&name, outcome)?;
        if let Some(open) = self.open.remove(&from) {
            self.open.insert(to, open);
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: FileId) -> Result<(), StoreError> {
        self.check()?;
        self.open.remove(&id);
        let name = id.to_string();
        let outcome = self.disk.remove(&name);
        self.judge(&name, outcome)
    }

    pub(crate) fn len(&mut self, id: FileId) -> Result<u64, StoreError> {
        self.check()?;
        let outcome = self.file(id).and_then(|(disk, file)| disk.len(file));
        outcome.map_err(|error| read_error(id, 0, error))
    }

    /// Fills the buffer from `offset` on and says how much of it there was. A failed read poisons
    /// nothing: it is told to the one who asked.
    pub(crate) fn read(
        &mut self,
        id: FileId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, StoreError> {
        self.check()?;
        let outcome = self
            .file(id)
            .and_then(|(disk, file)| disk.read_at(file, offset, buffer));
        outcome.map_err(|error| read_error(id, offset, error))
    }

    /// The disk itself, for what happens before there is anything to poison.
    pub(crate) fn disk(&mut self) -> &mut D {
        &mut self.disk
    }
}

fn read_error(id: FileId, offset: u64, error: io::Error) -> StoreError {
    StoreError::Read {
        file: id.to_string(),
        offset,
        error: Arc::new(error),
    }
}
