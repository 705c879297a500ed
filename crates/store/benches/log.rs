//! How fast the store takes messages for good, reads a backlog, and opens with one.
//!
//! `cargo bench -p store` measures on real files in `WARREN_BENCH_DIR`, or else under the target
//! folder. Started as a test it does the same with a thousandth of the messages, so that it cannot
//! rot.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use store::{Batch, Limits, Options, QueueKey, Seq, Store, StoreError};

#[path = "../../server/src/disk.rs"]
#[allow(dead_code, unused_imports, reason = "its tests come along")]
mod disk;

use disk::FileDisk;

/// Messages of the backlog.
const BACKLOG: u64 = 10_000_000;

struct Bench {
    folder: PathBuf,
    /// One message in so many is enough to see that it works.
    shrink: u64,
}

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let root = std::env::var_os("WARREN_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = root.join(format!("warren-bench-{}", std::process::id()));
    let bench = Bench {
        folder: folder.clone(),
        shrink: if measured { 1 } else { 1000 },
    };
    let outcome = bench.run();
    let _ = std::fs::remove_dir_all(folder);
    outcome.expect("the store works");
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Bench {
    fn run(&self) -> Result<(), StoreError> {
        for size in [16, 1024] {
            for depth in [1, 64, 1024, 8192] {
                self.append(size, depth)?;
            }
        }
        self.backlog(16, Options::default())?;
        let short = Options {
            wal_files_kept: 0,
            ..Options::default()
        };
        self.backlog(16, short)?;
        self.backlog(
            1024,
            Options {
                wal_files_kept: 1,
                ..Options::default()
            },
        )
    }

    fn open(&self, name: &str, options: Options) -> Store<FileDisk> {
        let disk = FileDisk::new(self.folder.join(name));
        Store::open(disk, options)
            .expect("the folder can be used")
            .0
    }

    /// Messages in batches, a sync after each `depth` of them, as if so many publishers waited.
    fn append(&self, size: usize, depth: u64) -> Result<(), StoreError> {
        let options = Options {
            wal_files_kept: 1,
            ..Options::default()
        };
        let mut store = self.open("append", options);
        let payload = vec![7; size];
        let mut batch = Batch::new();
        // A server that has run for a while writes into files it has used before.
        let mut seq = 0;
        while store.durable().file() < 4 && self.shrink == 1 {
            batch.enqueue(QueueKey(2), Seq(seq), &[&[0; 1 << 20]]);
            batch.remove(QueueKey(2), &[(Seq(seq), Seq(seq))]);
            store.append(&mut batch)?;
            store.sync()?;
            while store.maintain(u64::MAX)? {}
            seq += 1;
        }
        let (mut seq, mut syncs) = (0, 0_u32);
        let long = Duration::from_secs(2) / self.shrink as u32;
        let start = Instant::now();
        while start.elapsed() < long {
            for _ in 0..depth {
                batch.enqueue(QueueKey(1), Seq(seq), &[&payload]);
                seq += 1;
            }
            // The queue is consumed at the pace at which it is filled.
            let gone = seq.saturating_sub(depth * 4);
            batch.remove(QueueKey(1), &[(Seq(gone.saturating_sub(depth)), Seq(gone))]);
            store.append(&mut batch)?;
            store.sync()?;
            store.maintain(4 << 20)?;
            syncs += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "append {size:5} B depth {depth:5}: {:9.0} records/s {:7.1} MB/s, {:5.0} us a sync",
            seq as f64 / seconds,
            (seq * size as u64) as f64 / seconds / 1e6,
            seconds * 1e6 / f64::from(syncs),
        ));
        drop(store);
        let _ = std::fs::remove_dir_all(self.folder.join("append"));
        Ok(())
    }

    /// A long queue: filling it, opening the store with it, reading all of it.
    fn backlog(&self, size: usize, options: Options) -> Result<(), StoreError> {
        let messages = BACKLOG * 16 / (size as u64).max(16) / self.shrink;
        let mut store = self.open("backlog", options);
        let payload = vec![7; size];
        let mut batch = Batch::new();
        let start = Instant::now();
        for seq in 0..messages {
            batch.enqueue(QueueKey(1), Seq(seq), &[&payload]);
            if seq % 10_000 == 9_999 {
                store.append(&mut batch)?;
                store.sync()?;
                store.maintain(4 << 20)?;
            }
        }
        store.append(&mut batch)?;
        store.sync()?;
        while store.maintain(64 << 20)? {}
        let filled = start.elapsed();
        let usage = store.usage();
        store.close()?;

        let start = Instant::now();
        let mut store = self.open("backlog", options);
        let opened = start.elapsed();
        assert_eq!(
            store.live(QueueKey(1)).messages,
            messages,
            "all messages are back"
        );
        let read = self.read_all(&mut store, messages)?;
        say(&format!(
            "backlog {messages} x {size} B: {} log files, {} segments, filled in {:.2} s, opened in \
             {:.0} ms, {:.2} B of memory a message, read at {:.0} MB/s and {:.0} messages/s",
            usage.wal_files,
            usage.segment_files,
            filled.as_secs_f64(),
            opened.as_secs_f64() * 1e3,
            store.usage().index_bytes as f64 / messages as f64,
            (messages * size as u64) as f64 / read.as_secs_f64() / 1e6,
            messages as f64 / read.as_secs_f64(),
        ));
        drop(store);
        let _ = std::fs::remove_dir_all(self.folder.join("backlog"));
        Ok(())
    }

    fn read_all(&self, store: &mut Store<FileDisk>, messages: u64) -> Result<Duration, StoreError> {
        let limits = Limits {
            messages: 4096,
            bytes: 1 << 20,
        };
        let start = Instant::now();
        let (mut next, mut count) = (Seq(0), 0);
        loop {
            let page = store.read(QueueKey(1), next, limits)?;
            let Some((last, _)) = page.last() else { break };
            next = Seq(last.0 + 1);
            count += page.len() as u64;
        }
        assert_eq!(count, messages, "all messages are read");
        Ok(start.elapsed())
    }
}
