//! The few things that are done to files while a node is being configured, behind a trait, so that tests need no disk.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// When it cannot be read, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The paths of all files in a directory, in no order.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether a file or directory exists and may be read.
    fn is_readable(&self, path: &Path) -> bool;

    /// The permission bits of a file.
    ///
    /// # Errors
    /// When there is no such file.
    fn mode(&self, path: &Path) -> io::Result<u32>;

    /// Creates a file that only its owner may read, with its whole text at once.
    ///
    /// # Errors
    /// `AlreadyExists` when there is a file already, which is then left alone.
    fn create_private(&self, path: &Path, text: &str) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    fn is_readable(&self, path: &Path) -> bool {
        if path.is_dir() {
            fs::read_dir(path).is_ok()
        } else {
            fs::File::open(path).is_ok()
        }
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.mode() & 0o777)
    }

    fn create_private(&self, path: &Path, text: &str) -> io::Result<()> {
        // A link to a finished file: another process sees all of it or nothing, and never replaces it.
        let mut unfinished = path.to_owned().into_os_string();
        unfinished.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        let outcome = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&unfinished, path));
        let removed = fs::remove_file(&unfinished);
        outcome.and(removed)
    }
}

#[cfg(test)]
pub(super) mod memory;
