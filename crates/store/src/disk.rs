//! What the store asks of a disk, and nothing more.
//!
//! The order of file work is the whole subject of the store, so a disk is handed to it instead of
//! effects being handed out (the one exception to rule M4). Names are relative and use `/`, as in
//! `wal/00000001.log`.
//!
//! What the store believes of a disk:
//! - Bytes given to `write_at` survive a crash only once `sync_data` of that file has returned
//!   well. Until then any part of them may survive, in any order; bytes outside the written range
//!   are never touched.
//! - A name made, changed or removed survives only once `sync_directory` of its folder has returned
//!   well.
//! - After an operation has failed, nothing is known of the bytes or names it was about.

use std::io;

/// The file operations the store needs.
pub trait Disk {
    /// An open file, good for reading and writing.
    type File;

    /// Makes a folder if it is not there. `""` is the root itself.
    fn create_directory(&mut self, name: &str) -> io::Result<()>;

    /// Makes a new empty file; an error if the name is taken.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Writes all pieces, one after the other, starting at `offset`. The file grows if it must.
    fn write_at(&mut self, file: &Self::File, offset: u64, pieces: &[&[u8]]) -> io::Result<()>;

    /// Fills `buffer` from `offset` on; less than its length only where the file ends.
    fn read_at(&mut self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns once everything written to the file so far, and its length, would survive a crash.
    fn sync_data(&mut self, file: &Self::File) -> io::Result<()>;

    /// Returns once every name made, changed or removed in the folder so far would survive a crash.
    fn sync_directory(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of any file that had it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Names of the files directly inside a folder, without the folder's name, in any order.
    fn list(&mut self, directory: &str) -> io::Result<Vec<String>>;

    /// Length of a file in bytes.
    fn len(&mut self, file: &Self::File) -> io::Result<u64>;

    /// Makes the file `len` bytes long by writing zeros from its present end, so that later writes
    /// inside it need no new room on the disk.
    fn preallocate(&mut self, file: &Self::File, len: u64) -> io::Result<()>;
}
