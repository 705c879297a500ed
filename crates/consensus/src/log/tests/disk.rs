//! A disk in memory with the log's two files: can be held, can fail, and forgets in a crash what was not synced.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use redb::StorageBackend;
use stdx::Rng;

/// Writes since the last sync survive a crash in pieces of this size, each or not.
const SECTOR_BYTES: usize = 512;

/// The disk, and one of its files: a new one's is the database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    inner: Arc<(Mutex<State>, Condvar)>,
    file: usize,
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: VecDeque<Change>,
}

#[derive(Debug, Default)]
struct State {
    files: [Contents; 2],
    syncs: u64,
    hold: bool,
    held: bool,
    release: u64,
    fail: bool,
    crashed: bool,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn make(&self, image: &mut Vec<u8>) {
        match self {
            Change::Length(length) => image.resize(*length, 0),
            Change::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Contents {
    /// What a power cut leaves.
    fn after_crash(&self, rng: &mut Rng) -> Contents {
        let mut image = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Change::Length(_) => {
                    if rng.one_in(2) {
                        change.make(&mut image);
                    }
                }
                Change::Write(offset, bytes) => {
                    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if rng.one_in(2) {
                            let offset = offset + number * SECTOR_BYTES;
                            Change::Write(offset, sector.to_vec()).make(&mut image);
                        }
                    }
                }
            }
        }
        Contents {
            now: image.clone(),
            synced: image,
            unsynced: VecDeque::new(),
        }
    }
}

impl Disk {
    /// The journal on this disk.
    pub(crate) fn journal(&self) -> Disk {
        Disk {
            inner: self.inner.clone(),
            file: 1,
        }
    }

    /// Changes the bytes of a file behind everybody's back.
    pub(crate) fn damage(&self, change: impl FnOnce(&mut [u8])) {
        let mut state = self.inner.0.lock().unwrap();
        let file = &mut state.files[self.file];
        change(&mut file.now);
        file.synced.clone_from(&file.now);
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.inner.0.lock().unwrap().syncs
    }

    pub(crate) fn hold_syncs(&self, hold: bool) {
        self.inner.0.lock().unwrap().hold = hold;
        self.inner.1.notify_all();
    }

    pub(crate) fn release_one_sync(&self) {
        self.inner.0.lock().unwrap().release += 1;
        self.inner.1.notify_all();
        let state = self.inner.0.lock().unwrap();
        drop(
            self.inner
                .1
                .wait_while(state, |state| state.release > 0)
                .unwrap(),
        );
    }

    pub(crate) fn wait_for_held_sync(&self) {
        let state = self.inner.0.lock().unwrap();
        drop(self.inner.1.wait_while(state, |state| !state.held).unwrap());
    }

    pub(crate) fn fail_next_sync(&self) {
        self.inner.0.lock().unwrap().fail = true;
    }

    /// What is left after a power cut at this moment. This disk refuses everything from here on.
    /// `at_the_moment` runs before anything more can be reported as written.
    pub(crate) fn crash(&self, rng: &mut Rng, at_the_moment: impl FnOnce()) -> Disk {
        let mut state = self.inner.0.lock().unwrap();
        state.crashed = true;
        // What was synced may already have been reported or not: both are fine.
        let files = [0, 1].map(|file: usize| state.files[file].after_crash(rng));
        at_the_moment();
        drop(state);
        let after = State {
            files,
            ..State::default()
        };
        Disk {
            inner: Arc::new((Mutex::new(after), Condvar::new())),
            file: self.file,
        }
    }

    fn alive(state: &State) -> io::Result<()> {
        if state.crashed {
            Err(io::Error::other("power is off"))
        } else {
            Ok(())
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.0.lock().unwrap().files[self.file].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.inner.0.lock().unwrap();
        let offset = offset as usize;
        let bytes = state.files[self.file].now.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.inner.0.lock().unwrap();
        Disk::alive(&state)?;
        let change = Change::Length(length as usize);
        let file = &mut state.files[self.file];
        change.make(&mut file.now);
        file.unsynced.push_back(change);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.inner.0.lock().unwrap();
        Disk::alive(&state)?;
        let change = Change::Write(offset as usize, bytes.to_vec());
        let file = &mut state.files[self.file];
        change.make(&mut file.now);
        file.unsynced.push_back(change);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.inner.0.lock().unwrap();
        if state.hold {
            state.held = true;
            self.inner.1.notify_all();
            let wait = |state: &mut State| state.hold && state.release == 0;
            state = self.inner.1.wait_while(state, wait).unwrap();
            state.release = state.release.saturating_sub(1);
            state.held = false;
            self.inner.1.notify_all();
        }
        Disk::alive(&state)?;
        if std::mem::take(&mut state.fail) {
            return Err(io::Error::other("no more space"));
        }
        state.syncs += 1;
        let file = &mut state.files[self.file];
        for change in file.unsynced.drain(..) {
            change.make(&mut file.synced);
        }
        Ok(())
    }
}
