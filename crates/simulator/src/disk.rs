//! A disk that lies within the rules.
//!
//! It keeps what programs see and what would survive apart. A power loss leaves of each unsynced
//! write all, nothing or any part of it, and of each unsynced change of names all or nothing, every
//! file and folder by itself. A failed sync loses what it was about for good, though reads go on
//! showing it. It can fail any operation, run out of room, go down in the middle of any operation,
//! and flip bits of what was synced. All of it follows from one seed.

mod file;
mod names;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use stdx::Rng;
use store::Disk;

use file::SimulatedFile;
use names::Names;

/// How often things go wrong: each is "one in so many operations", 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A write fails after any part of it.
    pub write_error: u64,
    /// A sync fails and what it was about is lost.
    pub sync_error: u64,
    /// A read fails.
    pub read_error: u64,
    /// Bytes all files together may have; 0 for no limit.
    pub capacity: u64,
    /// The machine goes down in this many operations; 0 for not.
    pub down_after: u64,
}

/// What a machine finds when it comes up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Only the process died: the system still holds all it was told, synced or not.
    Process,
    /// The power went: what was not synced is kept, lost or torn.
    Power,
}

struct State {
    rng: Rng,
    faults: Faults,
    /// True once the machine is down: every operation fails until it comes up.
    down: bool,
    /// The machine goes down when this many operations have been made.
    down_at: Option<u64>,
    operations: u64,
    trace: u64,
    names: Names,
    files: BTreeMap<u64, SimulatedFile>,
    next_file: u64,
}

/// A handle on the disk. All clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Rc<RefCell<State>>);

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHandle(u64);

/// Where an operation is cut off, if it is.
enum Fate {
    Done,
    /// Fails having done nothing or a part.
    Fails(io::Error),
    /// Done, but nobody hears of it: the machine goes down.
    DoneThenDown,
}

impl SimulatedDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk(Rc::new(RefCell::new(State {
            rng: Rng::new(seed),
            faults: Faults::default(),
            down: false,
            down_at: None,
            operations: 0,
            trace: 0xCBF2_9CE4_8422_2325,
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 1,
        })))
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.0.borrow_mut();
        state.faults = faults;
        state.down_at = (faults.down_after > 0).then(|| state.operations + faults.down_after);
    }

    /// True if the machine went down in the middle of an operation.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.borrow().down
    }

    /// Operations made so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// A number that differs if any operation or its outcome differs.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.0.borrow().trace
    }

    /// Names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0
            .borrow()
            .names
            .all()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.borrow().used()
    }

    /// Takes the machine down, if it is not yet, and up again. Faults are off afterwards.
    pub fn restart(&self, crash: Crash) {
        let state = &mut *self.0.borrow_mut();
        state.down = false;
        state.down_at = None;
        state.faults = Faults::default();
        if crash == Crash::Power {
            state.names.lose(&mut state.rng);
            for file in state.files.values_mut() {
                file.lose(&mut state.rng);
            }
        }
        let names = &state.names;
        state.files.retain(|id, _| names.holds(*id));
        state.note(&format!("restart {crash:?}"), 0);
    }

    /// Flips up to `most` bits in what was synced, and says where. Bytes that are not zero are
    /// preferred, since most of a log file has never been written.
    pub fn flip_bits(&self, most: u64) -> Vec<(String, u64)> {
        let state = &mut *self.0.borrow_mut();
        let names: Vec<(String, u64)> = state.names.all();
        let mut flipped = Vec::new();
        for _ in 0..=state.rng.below(most) {
            let (name, id) = &names[state.rng.below(names.len() as u64) as usize];
            let file = state.files.get_mut(id).expect("a name has a file");
            if let Some(offset) = file.flip_bit(&mut state.rng) {
                flipped.push((name.clone(), offset));
            }
        }
        let what: Vec<String> = flipped
            .iter()
            .map(|(name, at)| format!("{name}@{at}"))
            .collect();
        state.note(&format!("flip {}", what.join(" ")), 0);
        flipped
    }
}

impl State {
    fn used(&self) -> u64 {
        self.files.values().map(SimulatedFile::len).sum()
    }

    fn note(&mut self, what: &str, number: u64) {
        for byte in what.bytes().chain(number.to_le_bytes()) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// Counts an operation and says how it ends.
    fn fate(&mut self, what: &str, number: u64, one_in: u64) -> Fate {
        if self.down {
            return Fate::Fails(io::Error::other("the machine is down"));
        }
        self.operations += 1;
        self.note(what, number);
        if self.down_at.is_some_and(|at| self.operations >= at) {
            self.down = true;
            if self.rng.one_in(2) {
                return Fate::DoneThenDown;
            }
            return Fate::Fails(io::Error::other("the machine went down"));
        }
        if one_in > 0 && self.rng.one_in(one_in) {
            self.note("failed", 0);
            return Fate::Fails(io::Error::other("input/output error"));
        }
        Fate::Done
    }

    /// Runs an operation that is done wholly or not at all.
    fn whole<T>(
        &mut self,
        what: &str,
        one_in: u64,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.fate(what, 0, one_in) {
            Fate::Done => operation(self),
            Fate::Fails(error) => Err(error),
            Fate::DoneThenDown => {
                operation(self)?;
                Err(io::Error::other("the machine went down"))
            }
        }
    }

    fn file(&mut self, file: FileHandle) -> &mut SimulatedFile {
        self.files.get_mut(&file.0).expect("an open file exists")
    }

    /// Writes what there is room for.
    fn write(&mut self, file: FileHandle, offset: u64, mut bytes: Vec<u8>) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let growth = end.saturating_sub(self.file(file).len());
        let capacity = self.faults.capacity;
        let room = if capacity == 0 {
            growth
        } else {
            capacity.saturating_sub(self.used())
        };
        if growth > room {
            bytes.truncate((bytes.len() as u64).saturating_sub(growth - room) as usize);
        }
        if !bytes.is_empty() {
            self.file(file).write(offset, bytes);
        }
        if growth > room {
            Err(ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl Disk for SimulatedDisk {
    type File = FileHandle;

    fn create_directory(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&mut self, name: &str) -> io::Result<FileHandle> {
        let state = &mut *self.0.borrow_mut();
        state.whole(&format!("create {name}"), 0, |state| {
            let full = state.faults.capacity > 0 && state.used() >= state.faults.capacity;
            if full {
                return Err(ErrorKind::StorageFull.into());
            }
            let id = state.next_file;
            state.names.create(name, id)?;
            state.next_file += 1;
            state.files.insert(id, SimulatedFile::default());
            Ok(FileHandle(id))
        })
    }

    fn open(&mut self, name: &str) -> io::Result<FileHandle> {
        let state = &mut *self.0.borrow_mut();
        state.whole(&format!("open {name}"), 0, |state| {
            state.names.find(name).map(FileHandle)
        })
    }

    fn write_at(&mut self, file: &FileHandle, offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let mut bytes = pieces.concat();
        let what = format!("write {} at {offset}", file.0);
        match state.fate(&what, bytes.len() as u64, state.faults.write_error) {
            Fate::Done => state.write(*file, offset, bytes),
            Fate::Fails(error) => {
                bytes.truncate(state.rng.below(bytes.len() as u64 + 1) as usize);
                state.write(*file, offset, bytes)?;
                Err(error)
            }
            Fate::DoneThenDown => {
                state.write(*file, offset, bytes)?;
                Err(io::Error::other("the machine went down"))
            }
        }
    }

    fn read_at(&mut self, file: &FileHandle, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.0.borrow_mut();
        let what = format!("read {} at {offset}", file.0);
        let one_in = state.faults.read_error;
        state.whole(&what, one_in, |state| {
            Ok(state.file(*file).read(offset, buffer))
        })
    }

    fn sync_data(&mut self, file: &FileHandle) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let what = format!("sync {}", file.0);
        match state.fate(&what, 0, state.faults.sync_error) {
            Fate::Done => state.file(*file).sync(),
            Fate::Fails(error) => {
                let mut rng = state.rng.clone();
                if !state.down {
                    state.file(*file).fail_sync(&mut rng);
                }
                state.rng = rng;
                return Err(error);
            }
            Fate::DoneThenDown => {
                state.file(*file).sync();
                return Err(io::Error::other("the machine went down"));
            }
        }
        Ok(())
    }

    fn sync_directory(&mut self, name: &str) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let one_in = state.faults.sync_error;
        state.whole(&format!("sync folder {name}"), one_in, |state| {
            state.names.sync(name);
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.whole(&format!("rename {from} {to}"), 0, |state| {
            state.names.rename(from, to)
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.whole(&format!("remove {name}"), 0, |state| {
            state.names.remove(name)
        })
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let state = &mut *self.0.borrow_mut();
        state.whole(&format!("list {directory}"), 0, |state| {
            let mut names = state.names.list(directory);
            // No order is promised, so none may be relied on.
            for n in (1..names.len()).rev() {
                names.swap(n, state.rng.below(n as u64 + 1) as usize);
            }
            Ok(names)
        })
    }

    fn len(&mut self, file: &FileHandle) -> io::Result<u64> {
        let state = &mut *self.0.borrow_mut();
        state.whole("len", 0, |state| Ok(state.file(*file).len()))
    }

    fn preallocate(&mut self, file: &FileHandle, len: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let what = format!("preallocate {}", file.0);
        state.whole(&what, state.faults.write_error, |state| {
            let present = state.file(*file).len();
            let zeros = vec![0; len.saturating_sub(present) as usize];
            state.write(*file, present, zeros)
        })
    }
}
