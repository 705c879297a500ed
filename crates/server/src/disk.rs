//! The store's disk on real files under one folder.
//!
//! Writes go to their place with `pwrite`, data is made durable with `fdatasync`, names with an
//! `fsync` of the folder. A file made ready ahead of use is filled with zeros rather than only
//! reserved, since the first write into reserved blocks costs the file system a change of its own
//! at every sync. The folder is locked for as long as the disk lives: two processes on one folder
//! would destroy what both of them promised.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use store::Disk;

/// Zeros are written in pieces of this size.
const ZEROS: &[u8] = &[0; 1 << 20];

/// Held locked by the process that uses the folder.
const LOCK: &str = "lock";

/// Pieces below this size are gathered before they are written; larger ones are written as they
/// are.
const GATHER_BYTES: usize = 64 << 10;

/// A folder that serves as the store's disk.
#[derive(Debug)]
pub(crate) struct FileDisk {
    root: PathBuf,
    lock: Option<File>,
    gathered: Vec<u8>,
}

impl FileDisk {
    /// Uses the folder `root`, which is made and locked when the store is opened.
    pub(crate) fn new(root: impl Into<PathBuf>) -> FileDisk {
        FileDisk {
            root: root.into(),
            lock: None,
            gathered: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.root.clone()
        } else {
            self.root.join(name)
        }
    }

    /// Takes the folder for this process.
    fn lock(&mut self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.root.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::ResourceBusy, "another process uses this folder")
            }
            TryLockError::Error(error) => error,
        })?;
        self.lock = Some(file);
        Ok(())
    }
}

/// Makes a folder and those above it, each name durable.
fn create_directories(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_directories(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    File::open(parent)?.sync_all()
}

impl Disk for FileDisk {
    type File = File;

    fn create_directory(&mut self, name: &str) -> io::Result<()> {
        create_directories(&self.path(name))?;
        self.lock()
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(name))
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(name))
    }

    fn write_at(&mut self, file: &File, offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let mut at = offset;
        self.gathered.clear();
        for piece in pieces {
            if piece.len() >= GATHER_BYTES {
                file.write_all_at(&self.gathered, at)?;
                at += self.gathered.len() as u64;
                self.gathered.clear();
                file.write_all_at(piece, at)?;
                at += piece.len() as u64;
            } else {
                self.gathered.extend_from_slice(piece);
                if self.gathered.len() >= 4 * GATHER_BYTES {
                    file.write_all_at(&self.gathered, at)?;
                    at += self.gathered.len() as u64;
                    self.gathered.clear();
                }
            }
        }
        file.write_all_at(&self.gathered, at)
    }

    fn read_at(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&mut self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn len(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn preallocate(&mut self, file: &File, len: u64) -> io::Result<()> {
        let mut at = file.metadata()?.len();
        while at < len {
            let count = usize::try_from(len - at)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            file.write_all_at(&ZEROS[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use store::{Batch, Limits, Options, QueueKey, Seq, Store};

    use super::*;

    /// A folder of this test's own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let name = format!("warren-disk-{}-{test}", std::process::id());
            Folder(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn contents(disk: &mut FileDisk, file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(disk.len(file).unwrap()).unwrap() + 10];
        let count = disk.read_at(file, 0, &mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn pieces_of_any_size_land_one_after_the_other() {
        let folder = Folder::new("pieces");
        let mut disk = FileDisk::new(folder.0.join("deep/er"));
        disk.create_directory("").unwrap();
        disk.create_directory("wal").unwrap();
        let file = disk.create("wal/1").unwrap();
        let pieces: Vec<Vec<u8>> = [3, 0, 70_000, 5, 65_536, 1, 40_000, 60_000, 60_000, 60_000]
            .iter()
            .enumerate()
            .map(|(n, len)| vec![n as u8 + 1; *len])
            .collect();
        let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        disk.write_at(&file, 5, &borrowed).unwrap();
        disk.sync_data(&file).unwrap();
        let expected = [vec![0; 5], pieces.concat()].concat();
        assert!(contents(&mut disk, &file) == expected);
    }

    #[test]
    fn names_are_made_listed_renamed_and_removed() {
        let folder = Folder::new("names");
        let mut disk = FileDisk::new(&folder.0);
        disk.create_directory("").unwrap();
        disk.create_directory("wal").unwrap();
        disk.create("wal/1").unwrap();
        assert_eq!(
            disk.create("wal/1").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        disk.rename("wal/1", "wal/2").unwrap();
        disk.sync_directory("wal").unwrap();
        assert_eq!(disk.list("wal").unwrap(), ["2"]);
        assert_eq!(disk.open("wal/1").unwrap_err().kind(), ErrorKind::NotFound);
        disk.remove("wal/2").unwrap();
        assert!(disk.list("wal").unwrap().is_empty());
    }

    #[test]
    fn a_file_is_filled_with_zeros_behind_what_it_holds() {
        let folder = Folder::new("zeros");
        let mut disk = FileDisk::new(&folder.0);
        disk.create_directory("").unwrap();
        let file = disk.create("1").unwrap();
        disk.write_at(&file, 0, &[b"abc"]).unwrap();
        disk.preallocate(&file, 6).unwrap();
        disk.preallocate(&file, 2).unwrap();
        assert_eq!(contents(&mut disk, &file), b"abc\0\0\0");
    }

    #[test]
    fn one_folder_serves_one_disk() {
        let folder = Folder::new("lock");
        let mut first = FileDisk::new(&folder.0);
        first.create_directory("").unwrap();
        let mut second = FileDisk::new(&folder.0);
        let error = second.create_directory("").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        drop(first);
        second.create_directory("").unwrap();
    }

    #[test]
    fn the_store_finds_its_messages_again_through_many_log_files() {
        let folder = Folder::new("store");
        let options = Options {
            wal_file_bytes: 64 << 10,
            segment_bytes: 64 << 10,
            wal_files_kept: 2,
            wal_files_max: 6,
            ..Options::default()
        };
        let queue = QueueKey(7);
        let payload = |seq: u64| vec![seq as u8; 200 + seq as usize % 50];
        for round in 0..4_u64 {
            let (mut store, recovery) = Store::open(FileDisk::new(&folder.0), options).unwrap();
            assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
            assert_eq!(store.live(queue).messages, round * 500);
            for seq in round * 1000..(round + 1) * 1000 {
                let mut batch = Batch::new();
                batch.enqueue(queue, Seq(seq), &[&payload(seq)]);
                if seq % 2 == 1 {
                    batch.remove(queue, &[(Seq(seq - 1), Seq(seq - 1))]);
                }
                store.append(&mut batch).unwrap();
                if seq % 50 == 0 {
                    store.sync().unwrap();
                    while store.maintain(1 << 20).unwrap() {}
                }
            }
            store.close().unwrap();
        }
        let (mut store, recovery) = Store::open(FileDisk::new(&folder.0), options).unwrap();
        assert_eq!(recovery.queues[0].1.next, Seq(4000));
        let all = Limits {
            messages: usize::MAX,
            bytes: usize::MAX,
        };
        let messages = store.read(queue, Seq(0), all).unwrap();
        assert!(
            messages
                .iter()
                .map(|(seq, _)| seq.0)
                .eq((0..2000).map(|n| 2 * n + 1))
        );
        assert!(messages.iter().all(|(seq, bytes)| *bytes == payload(seq.0)));
        assert!(store.usage().segment_files > 0);
    }
}
