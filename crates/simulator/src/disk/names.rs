//! The names of a simulated disk: as programs see them, and as a power loss would leave them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use stdx::Rng;

/// A change of names that no sync of the folder has covered.
#[derive(Clone, Debug)]
enum Change {
    Put { name: String, file: u64 },
    Remove { name: String },
    Rename { from: String, to: String, file: u64 },
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Change::Put { name, .. } | Change::Remove { name } => name,
            Change::Rename { to, .. } => to,
        }
    }

    fn file(&self) -> Option<u64> {
        match self {
            Change::Put { file, .. } | Change::Rename { file, .. } => Some(*file),
            Change::Remove { .. } => None,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Change::Put { name, file } => {
                names.insert(name.clone(), *file);
            }
            Change::Remove { name } => {
                names.remove(name);
            }
            Change::Rename { from, to, file } => {
                // The name it had may never have become durable, or may be another file's by then.
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// All names. Invariant: `seen` is `synced` with every unsynced change made, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    unsynced: Vec<Change>,
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Names {
    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.seen
            .get(name)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn create(&mut self, name: &str, file: u64) -> io::Result<()> {
        if self.seen.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Put {
            name: name.to_owned(),
            file,
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        assert_eq!(
            folder(from),
            folder(to),
            "the store renames inside a folder"
        );
        self.change(Change::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.change(Change::Remove {
            name: name.to_owned(),
        });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn list(&self, directory: &str) -> Vec<String> {
        let inside = self.seen.keys().filter(|name| folder(name) == directory);
        inside
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect()
    }

    pub(super) fn all(&self) -> Vec<(String, u64)> {
        self.seen
            .iter()
            .map(|(name, file)| (name.clone(), *file))
            .collect()
    }

    /// True if a file has a name, or may have one after a power loss.
    pub(super) fn holds(&self, file: u64) -> bool {
        let unsynced = self
            .unsynced
            .iter()
            .any(|change| change.file() == Some(file));
        unsynced
            || self
                .seen
                .values()
                .chain(self.synced.values())
                .any(|other| *other == file)
    }

    pub(super) fn sync(&mut self, directory: &str) {
        let (done, left): (Vec<Change>, Vec<Change>) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|c| folder(c.name()) == directory);
        done.iter()
            .for_each(|change| change.apply(&mut self.synced));
        self.unsynced = left;
    }

    /// What a power loss leaves: all, some or none of the unsynced changes.
    pub(super) fn lose(&mut self, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.unsynced);
        let habit = rng.below(4);
        let prefix = rng.below(changes.len() as u64 + 1) as usize;
        for (n, change) in changes.iter().enumerate() {
            let kept = match habit {
                0 => false,
                1 => true,
                2 => n < prefix,
                _ => rng.one_in(2),
            };
            if kept {
                change.apply(&mut self.synced);
            }
        }
        self.seen = self.synced.clone();
    }
}
