//! The store on a disk that lies, against a naive model.
//!
//! Batches are appended, synced, read, maintained and paged out at random; operations fail, the
//! disk fills, the process dies, the power goes. After each crash the store must hold exactly what
//! some number of the batches made, counted in order from the first, and that number must not be
//! below what `sync` ever claimed. That says at once that nothing durable is lost, nothing removed
//! comes back, nothing appears that was not enqueued, and sequences are not handed out twice. Where
//! bits of synced bytes were flipped, the damage must be named, or nothing is changed by it.

mod check;
mod model;
#[cfg(test)]
mod tests;
mod workload;

use std::fmt;

use stdx::Rng;
pub use store::Mutant;
use store::{Options, Store};

use crate::disk::{Crash, Faults, SimulatedDisk};
use crate::scenario::Failure;
use model::{Change, Model};
use workload::Habits;

/// How to play a life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Tell each step on standard output.
    pub tell: bool,
    /// A rule of the store to break.
    pub mutant: Option<Mutant>,
    /// Let the machine go down after exactly this many disk operations, and have no other faults.
    pub down_after: Option<u64>,
}

/// What a life was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lives played.
    pub lives: u64,
    /// Disk operations.
    pub operations: u64,
    /// Restarts after the power went, and after the process died.
    pub power_losses: u64,
    /// Restarts after the process died.
    pub process_deaths: u64,
    /// Restarts that lost batches no sync had covered.
    pub batches_lost: u64,
    /// Torn tails the store reported.
    pub torn_tails: u64,
    /// Stores that stopped after a failed write or sync.
    pub poisoned: u64,
    /// Calls refused for want of room.
    pub disk_full: u64,
    /// Calls refused since the log was full.
    pub log_full: u64,
    /// Lives with flipped bits that `open` or `read` noticed.
    pub damage_named: u64,
    /// Lives with flipped bits that changed nothing.
    pub damage_harmless: u64,
    /// Most segments seen at once.
    pub segments: u64,
    /// Differs if anything differs.
    pub trace: u64,
}

impl Report {
    /// Adds another life.
    pub fn add(&mut self, other: &Report) {
        self.lives += other.lives;
        self.operations += other.operations;
        self.power_losses += other.power_losses;
        self.process_deaths += other.process_deaths;
        self.batches_lost += other.batches_lost;
        self.torn_tails += other.torn_tails;
        self.poisoned += other.poisoned;
        self.disk_full += other.disk_full;
        self.log_full += other.log_full;
        self.damage_named += other.damage_named;
        self.damage_harmless += other.damage_harmless;
        self.segments = self.segments.max(other.segments);
        self.trace = self.trace.rotate_left(5) ^ other.trace;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} disk operations, {} power losses, {} process deaths, {} of these lost unsynced \
             batches, {} torn tails, {} poisoned, {} times disk full, {} times log full, damage \
             named {} and harmless {}, up to {} segments, trace {:016x}",
            self.operations,
            self.power_losses,
            self.process_deaths,
            self.batches_lost,
            self.torn_tails,
            self.poisoned,
            self.disk_full,
            self.log_full,
            self.damage_named,
            self.damage_harmless,
            self.segments,
            self.trace,
        )
    }
}

/// A batch that no sync is known to cover.
struct Unsynced {
    position: store::Position,
    changes: Vec<Change>,
}

/// One life.
struct Life {
    seed: u64,
    settings: Settings,
    rng: Rng,
    disk: SimulatedDisk,
    options: Options,
    habits: Habits,
    store: Option<Store<SimulatedDisk>>,
    /// What is known to be durable.
    durable: Model,
    /// The batches that made it, in order.
    history: Vec<Vec<Change>>,
    unsynced: Vec<Unsynced>,
    /// What reads must show: all that was appended, and the transient messages.
    shown: Model,
    /// Highest sequence used so far in any queue.
    seq_max: u64,
    next_id: u64,
    faults: Faults,
    step: u64,
    report: Report,
}

/// Plays the life that belongs to a seed.
pub fn run(seed: u64, settings: &Settings) -> Result<Report, Failure> {
    let mut life = Life::new(seed, *settings);
    let outcome = life.play();
    let step = life.step;
    life.report.lives = 1;
    life.report.operations = life.disk.operations();
    life.report.trace = life.disk.trace();
    match outcome {
        Ok(()) => Ok(life.report),
        Err(what) => Err(Failure {
            scenario: "store",
            seed,
            step,
            what,
        }),
    }
}

impl Life {
    fn new(seed: u64, settings: Settings) -> Life {
        let mut rng = Rng::new(seed ^ 0x5354_4F52_4500);
        let size = |rng: &mut Rng| 1024 << rng.below(4);
        let kept = 1 + rng.below(3) as u32;
        let options = Options {
            wal_file_bytes: size(&mut rng),
            wal_files_kept: kept,
            wal_files_max: kept + 2 + rng.below(5) as u32,
            spare_files: rng.below(3) as u32,
            segment_bytes: size(&mut rng),
            mutant: settings.mutant,
        };
        Life {
            seed,
            settings,
            disk: SimulatedDisk::new(rng.next()),
            options,
            habits: Habits::new(&mut rng),
            store: None,
            durable: Model::default(),
            history: Vec::new(),
            unsynced: Vec::new(),
            shown: Model::default(),
            seq_max: 0,
            next_id: 1,
            faults: Faults::default(),
            step: 0,
            report: Report::default(),
            rng,
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.settings.tell {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{:4} {}", self.step, what());
        }
    }

    fn play(&mut self) -> Result<(), String> {
        let seed = self.seed;
        self.tell(|| format!("seed {seed}, {:?}", self.options));
        self.open()?;
        self.draw_faults();
        for _ in 0..self.habits.steps {
            self.step += 1;
            self.act()?;
            if self.disk.is_down() {
                self.crash()?;
                self.draw_faults();
            }
        }
        self.finish()
    }

    /// Draws what goes wrong until the next crash.
    fn draw_faults(&mut self) {
        let rng = &mut self.rng;
        let down_after = 1 + rng.below(if self.habits.fragile { 6 } else { 150 });
        let mut faults = Faults {
            down_after,
            ..Faults::default()
        };
        match rng.below(8) {
            0 => faults.write_error = 20 + rng.below(100),
            1 => faults.sync_error = 10 + rng.below(60),
            2 => faults.read_error = 5 + rng.below(60),
            3 | 4 => faults.capacity = self.disk.used_bytes() + rng.below(40_000),
            _ => {}
        }
        if self.habits.calm || self.settings.down_after.is_some() {
            faults = Faults {
                down_after: self.settings.down_after.unwrap_or(0),
                ..Faults::default()
            };
        }
        self.faults = faults;
        self.disk.set_faults(faults);
        self.tell(|| format!("{faults:?}"));
    }

    /// Faults end: the disk serves again. What was promised is still there, and everything can be
    /// removed down to the last file.
    fn finish(&mut self) -> Result<(), String> {
        self.step += 1;
        self.crash()?;
        if self.habits.flips {
            return self.damage();
        }
        self.heal()?;
        self.check_all()?;
        let usage = self.store().usage();
        if usage.wal_files > self.options.wal_files_kept + 1 {
            return Err(format!("the log is not kept short: {usage:?}"));
        }
        self.empty()?;
        self.heal()?;
        let usage = self.store().usage();
        if usage.messages > 0 || usage.segment_files > 0 || usage.transient_bytes > 0 {
            return Err(format!("an emptied store keeps files: {usage:?}"));
        }
        let names = self.disk.names();
        // The log, one checkpoint, and nothing that nobody knows of.
        if names.len() as u32 > usage.wal_files + usage.spare_files + 1 {
            return Err(format!("{names:?} on disk for {usage:?}"));
        }
        self.crash()?;
        self.check_all()
    }

    /// Kills the process or cuts the power, opens the store again and checks what it holds.
    fn crash(&mut self) -> Result<(), String> {
        let crash = if self.rng.one_in(3) {
            Crash::Process
        } else {
            Crash::Power
        };
        match crash {
            Crash::Process => self.report.process_deaths += 1,
            Crash::Power => self.report.power_losses += 1,
        }
        self.tell(|| format!("restart, {crash:?}"));
        self.store = None;
        self.disk.restart(crash);
        // Crash again while recovering, at times.
        while !self.habits.calm && self.rng.one_in(4) {
            let down_after = 1 + self.rng.below(30);
            self.disk.set_faults(Faults {
                down_after,
                ..Faults::default()
            });
            if let Err(error) = self.try_open()
                && !self.disk.is_down()
            {
                return Err(format!("open fails: {error}"));
            }
            self.store = None;
            self.disk.restart(if self.rng.one_in(3) {
                Crash::Process
            } else {
                Crash::Power
            });
        }
        self.open()
    }

    fn store(&mut self) -> &mut Store<SimulatedDisk> {
        self.store.as_mut().expect("open between crashes")
    }
}
