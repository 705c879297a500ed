//! A small disk of a node's own, which a test can fill.
//!
//! It is a file system in memory (`tmpfs`), mounted at the node's data folder by who may mount: root, in a
//! container with CAP_SYS_ADMIN. It is gone with the node.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Takes what room there is.
const FILLER: &str = "filler";

/// See the file's head.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts a disk of so many MiB at a folder, which is made.
    ///
    /// # Panics
    /// If it cannot be mounted, with what is missing.
    #[must_use]
    #[track_caller]
    pub(crate) fn mount(at: PathBuf, mebibytes: u32) -> Disk {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        std::fs::create_dir_all(&at).expect("a folder to mount at");
        let name = format!("warren-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        if let Err(said) = call(mount.args(["-t", "tmpfs", "-o", &size, &name]).arg(&at)) {
            panic!("a file system is mounted for each node: run as root, with CAP_SYS_ADMIN: {said}");
        }
        Disk { at }
    }

    /// Leaves no room on it.
    ///
    /// # Panics
    /// If something else than that goes wrong.
    #[track_caller]
    pub fn fill(&self) {
        let mut filler = File::create(self.at.join(FILLER)).expect("room for a name");
        // In ever smaller pieces: a write that does not fit may write nothing.
        for piece in [1 << 20, 4096, 1] {
            let zeros = vec![0; piece];
            loop {
                match filler.write(&zeros) {
                    Ok(count) if count > 0 => {}
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk does not get full: {error}"),
                }
            }
        }
    }

    /// Gives the room back that [`Disk::fill`] took.
    ///
    /// # Panics
    /// If it was not filled.
    #[track_caller]
    pub fn make_room(&self) {
        std::fs::remove_file(self.at.join(FILLER)).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// Namespaces of other tests' nodes may have seen the mount: it goes when they do.
fn unmount(at: &Path) {
    let _ = call(Command::new("umount").arg("--lazy").arg(at));
}

/// Unmounts what tests left that were killed.
fn remove_leftovers() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines() {
        let mut words = mount.split(' ');
        let process = words.next().and_then(|name| name.strip_prefix("warren-")?.split('-').next());
        let at = words.next();
        if let (Some(process), Some(at), Some("tmpfs")) = (process, at, words.next())
            && !Path::new("/proc").join(process).exists()
        {
            unmount(Path::new(at));
        }
    }
}

fn call(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim())) }
}
