//! A file system in memory, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Files;

/// Files with their texts and modes. Directories exist where files are in them.
#[derive(Debug, Default)]
pub(in super::super) struct MemoryFiles {
    files: RefCell<BTreeMap<PathBuf, (String, u32)>>,
    /// Below these nothing can be created.
    pub(in super::super) read_only: Vec<PathBuf>,
}

impl MemoryFiles {
    /// Files that everybody may read.
    pub(in super::super) fn of(files: &[(&str, &str)]) -> MemoryFiles {
        let memory = MemoryFiles::default();
        for (path, text) in files {
            memory.put(path, text, 0o644);
        }
        memory
    }

    pub(in super::super) fn put(&self, path: &str, text: &str, mode: u32) {
        self.files
            .borrow_mut()
            .insert(PathBuf::from(path), (text.to_owned(), mode));
    }
}

fn absent() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files
            .borrow()
            .get(path)
            .map(|(text, _)| text.clone())
            .ok_or_else(absent)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let files = self.files.borrow();
        // The reverse of their order, to show that callers sort.
        Ok(files
            .keys()
            .rev()
            .filter(|path| path.parent() == Some(directory))
            .cloned()
            .collect())
    }

    fn is_readable(&self, path: &Path) -> bool {
        self.files
            .borrow()
            .keys()
            .any(|known| known.starts_with(path))
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.files
            .borrow()
            .get(path)
            .map(|(_, mode)| *mode)
            .ok_or_else(absent)
    }

    fn create_private(&self, path: &Path, text: &str) -> io::Result<()> {
        if self
            .read_only
            .iter()
            .any(|directory| path.starts_with(directory))
        {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "read-only file system",
            ));
        }
        if self.files.borrow().contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is one"));
        }
        self.files
            .borrow_mut()
            .insert(path.to_owned(), (text.to_owned(), 0o600));
        Ok(())
    }
}
