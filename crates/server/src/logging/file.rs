//! The log file: appended to, set aside when it has its size, opened again when asked.
//!
//! Old files are `NAME.0`, the newest of them, to `NAME.(count - 1)`; what is older is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::LogRotation;

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    len: u64,
    rotation: LogRotation,
}

impl LogFile {
    /// Opens the file at its end; it and its folder are made where they are missing.
    pub(super) fn open(path: &Path, rotation: LogRotation) -> io::Result<LogFile> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = open(path)?;
        let len = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, len, rotation })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds whole lines; before they would exceed the size, the file is set aside.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        let added = text.len() as u64;
        if self.rotation.size > 0 && self.len > 0 && self.len + added > self.rotation.size {
            self.rotate()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.len += added;
        Ok(())
    }

    /// The file of that name, which may be another one by now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = LogFile::open(&self.path, self.rotation.clone())?;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.rotation.count == 0 {
            self.file.set_len(0)?;
            self.len = 0;
            return Ok(());
        }
        for number in (1..self.rotation.count).rev() {
            match fs::rename(self.old(number - 1), self.old(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.old(0))?;
        self.reopen()
    }

    fn old(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_file_is_appended_to_and_its_folder_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a/b/node.log");
        for line in ["one\n", "two\n"] {
            LogFile::open(&path, LogRotation::default()).expect("opens").write(line).expect("writes");
        }
        assert_eq!(text(&path), "one\ntwo\n");
    }

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("node.log");
        let mut file = LogFile::open(&path, LogRotation { size: 8, count: 2 }).expect("opens");
        for line in ["aaa\n", "bbb\n", "ccccccccccc\n", "ddd\n", "eee\n", "fff\n"] {
            file.write(line).expect("writes");
        }
        assert_eq!(text(&path), "fff\n");
        assert_eq!(text(dir.path().join("node.log.0")), "ddd\neee\n");
        assert_eq!(text(dir.path().join("node.log.1")), "ccccccccccc\n");
        assert!(!dir.path().join("node.log.2").exists());
    }

    #[test]
    fn without_old_files_a_full_one_is_emptied() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("node.log");
        let mut file = LogFile::open(&path, LogRotation { size: 5, count: 0 }).expect("opens");
        file.write("aaa\n").expect("writes");
        file.write("bbb\n").expect("writes");
        assert_eq!(text(&path), "bbb\n");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, moved) = (dir.path().join("node.log"), dir.path().join("moved"));
        let mut file = LogFile::open(&path, LogRotation::default()).expect("opens");
        file.write("one\n").expect("writes");
        fs::rename(&path, &moved).expect("moves");
        file.write("two\n").expect("writes");
        file.reopen().expect("opens again");
        file.write("three\n").expect("writes");
        assert_eq!((text(&moved), text(&path)), ("one\ntwo\n".into(), "three\n".into()));
    }
}
