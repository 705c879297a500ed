//! The folder a node keeps everything in: made at first start, and of one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Held locked by the process that uses the folder; it says which process that is.
const LOCK: &str = "node.lock";

/// The folder is this process's for as long as this lives.
#[derive(Debug)]
pub(crate) struct DataFolder {
    /// Unlocked when it is closed, however the process ends.
    _lock: File,
}

/// Replaces a file of the folder: after a crash, or on a full disk, it is the old or the new one.
pub(crate) fn replace(data_dir: &Path, name: &str, content: &impl serde::Serialize) -> Result<()> {
    let path = data_dir.join(name);
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(content)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

impl DataFolder {
    /// Makes the folder if it is missing and takes it for this process.
    pub(crate) fn claim(path: &Path) -> Result<DataFolder> {
        let advice = || {
            format!(
                "cannot write to the data folder {}; give it to the user the node runs as, or name another one with \
                 --data-dir",
                path.display()
            )
        };
        std::fs::create_dir_all(path).with_context(advice)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut lock = options.open(path.join(LOCK)).with_context(advice)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = lock.read_to_string(&mut owner);
                bail!(
                    "the data folder {} is used by a node that runs (process {}); stop that one, or give this one \
                     another name or folder with --node-name or --data-dir",
                    path.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the data folder {}", path.display()));
            }
        }
        lock.set_len(0).with_context(advice)?;
        writeln!(lock, "{}", std::process::id()).with_context(advice)?;
        Ok(DataFolder { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::DataFolder;

    #[test]
    fn a_folder_is_of_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new/data");
        let first = DataFolder::claim(&path).expect("nobody has it");
        let error = DataFolder::claim(&path).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
        drop(first);
        DataFolder::claim(&path).expect("it is free again");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "").expect("writes");
        let error = DataFolder::claim(&dir.path().join("file/data")).expect_err("a file is in the way");
        assert!(format!("{error:#}").contains("--data-dir"), "{error:#}");
    }
}
