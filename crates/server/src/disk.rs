//! The store's disk on real files under one folder.
//!
//! Writes go to their place with `pwritev` semantics, data is made durable with `fdatasync`, names
//! with an `fsync` of the folder. A file made ready ahead of use is filled with zeros rather than
//! only reserved, since the first write into reserved blocks costs the file system a change of its
//! own at every sync.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use store::Disk;

/// Zeros are written in pieces of this size.
const ZEROS: &[u8] = &[0; 1 << 20];

/// Pieces below this size are gathered before they are written; larger ones are written as they are.
const GATHER_BYTES: usize = 64 << 10;

/// A folder that serves as the store's disk.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    gathered: Vec<u8>,
}

impl FileDisk {
    /// Uses the folder `root`, which is made when the store is opened.
    pub fn new(root: impl Into<PathBuf>) -> FileDisk {
        FileDisk { root: root.into(), gathered: Vec::new() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

impl Disk for FileDisk {
    type File = File;

    fn create_directory(&mut self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&path)?;
        match path.parent() {
            // A relative root of one component has the working directory as its parent.
            Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
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
            let count = usize::try_from(len - at).unwrap_or(usize::MAX).min(ZEROS.len());
            file.write_all_at(&ZEROS[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }
}
