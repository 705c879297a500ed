//! A disk in memory that forgets nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

type File = Rc<RefCell<Vec<u8>>>;

#[derive(Clone, Default)]
pub(super) struct MemoryDisk(Rc<RefCell<BTreeMap<String, File>>>);

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl store::Disk for MemoryDisk {
    type File = File;

    fn create_directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let file = File::default();
        match self.0.borrow_mut().insert(name.to_owned(), Rc::clone(&file)) {
            None => Ok(file),
            Some(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        }
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        self.0.borrow().get(name).map(Rc::clone).ok_or_else(missing)
    }

    fn write_at(&mut self, file: &File, offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let mut bytes = file.borrow_mut();
        let mut at = offset as usize;
        for piece in pieces {
            let end = at + piece.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(piece);
            at = end;
        }
        Ok(())
    }

    fn read_at(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = file.borrow();
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn sync_data(&mut self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.0.borrow_mut().remove(from).ok_or_else(missing)?;
        self.0.borrow_mut().insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name).map(drop).ok_or_else(missing)
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let inside = |name: &String| {
            let rest = if directory.is_empty() { name } else { name.strip_prefix(directory)?.strip_prefix('/')? };
            (!rest.contains('/')).then(|| rest.to_owned())
        };
        Ok(self.0.borrow().keys().filter_map(inside).collect())
    }

    fn len(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.borrow().len() as u64)
    }

    fn preallocate(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.borrow_mut().resize(len as usize, 0);
        Ok(())
    }
}
