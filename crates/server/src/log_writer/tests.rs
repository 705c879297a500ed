//! Who writes, and what becomes of a batch when the disk does not do its part.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Waker};

use store::Options;

use super::*;
use crate::disk::FileDisk;

/// What the disk does with the next operations.
#[derive(Clone, Default)]
struct Mood {
    is_full: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    /// The thread that synced last.
    synced_by: Arc<Mutex<Option<std::thread::ThreadId>>>,
}

impl Mood {
    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("it is broken"));
        }
        if self.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

struct MoodyDisk(FileDisk, Mood);

impl Disk for MoodyDisk {
    type File = File;

    fn create_directory(&mut self, name: &str) -> io::Result<()> {
        self.0.create_directory(name)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        self.1.check()?;
        self.0.create(name)
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        self.0.open(name)
    }

    fn write_at(&mut self, file: &File, offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        self.1.check()?;
        self.0.write_at(file, offset, pieces)
    }

    fn read_at(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(file, offset, buffer)
    }

    fn sync_data(&mut self, file: &File) -> io::Result<()> {
        *self.1.synced_by.lock() = Some(std::thread::current().id());
        self.0.sync_data(file)
    }

    fn sync_directory(&mut self, name: &str) -> io::Result<()> {
        self.0.sync_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn len(&mut self, file: &File) -> io::Result<u64> {
        self.0.len(file)
    }

    fn preallocate(&mut self, file: &File, len: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.preallocate(file, len)
    }
}

struct Setup {
    folder: PathBuf,
    mood: Mood,
    writer: LogWriter,
    thread: Option<JoinHandle<()>>,
    failed: Receiver<String>,
    mailbox: Arc<Mailbox<QueueMail>>,
}

impl Setup {
    fn new(test: &str) -> Setup {
        let folder = std::env::temp_dir().join(format!("warren-log-writer-{}-{test}", std::process::id()));
        let mood = Mood::default();
        let disk = MoodyDisk(FileDisk::new(&folder), mood.clone());
        let (store, _) = Store::open(disk, Options::default()).unwrap();
        let (say, failed) = channel();
        let (writer, thread) = LogWriter::start(store, move |error| drop(say.send(error))).unwrap();
        Setup { folder, mood, writer, thread: Some(thread), failed, mailbox: Arc::new(Mailbox::new()) }
    }

    fn batch(&self, seq: u64, bytes: usize) -> (Batch, Reported) {
        let mut batch = Batch::new();
        batch.enqueue(level_key(QueueId(1), 0), Seq(seq), &[&vec![7; bytes]]);
        batch.seal();
        (batch, (Arc::clone(&self.mailbox), Receipt::Ticket(seq)))
    }

    fn commit(&self, seq: u64, bytes: usize) {
        let (batch, report) = self.batch(seq, bytes);
        self.writer.commit(batch, report);
    }

    /// What has been reported by now.
    fn reported(&self) -> Vec<u64> {
        let mut mails = Vec::new();
        let _: Poll<()> = self.mailbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut mails);
        let ticket = |mail| match mail {
            QueueMail::Event(QueueEvent::Stored { ticket }) => ticket,
            _ => panic!("something else came"),
        };
        mails.into_iter().map(ticket).collect()
    }

    /// Whether this thread synced last.
    fn synced_here(&self) -> bool {
        *self.mood.synced_by.lock() == Some(std::thread::current().id())
    }

    fn settle(&self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.writer.submit(Job::Barrier(done));
        wait.blocking_recv().unwrap();
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.mood.is_full.store(false, Ordering::SeqCst);
        self.writer.submit(Job::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_small_batch_is_durable_and_reported_when_commit_returns() {
    let setup = Setup::new("small");
    setup.settle();
    // The thread may still be keeping house; whoever finds it at that leaves the batch to it.
    let here = (1..1000).any(|seq| {
        setup.writer.shared.pace.store(0, Ordering::Relaxed);
        *setup.mood.synced_by.lock() = None;
        setup.commit(seq, 100);
        let at_once = setup.reported() == [seq];
        assert!(at_once || !setup.synced_here());
        setup.settle();
        setup.reported();
        at_once
    });
    assert!(here, "every batch was left to the thread");
}

#[test]
fn what_comes_behind_others_waits_for_its_turn() {
    let setup = Setup::new("order");
    for seq in 1..=200 {
        let (batch, report) = setup.batch(seq, 100);
        if seq % 3 == 0 {
            setup.commit(seq, 100);
        } else {
            setup.writer.submit(Job::Append { batch, report: Some(report) });
        }
    }
    setup.settle();
    assert_eq!(setup.reported(), (1..=200).collect::<Vec<_>>());
}

#[test]
fn large_batches_and_slow_disks_are_for_the_thread() {
    let setup = Setup::new("slow");
    setup.settle();
    for seq in 1..=20 {
        setup.commit(seq, HERE_BYTES + 1);
        setup.settle();
        assert!(!setup.synced_here());
    }
    for seq in 21..=40 {
        setup.writer.shared.pace.store(HERE_NANOS * 100, Ordering::Relaxed);
        setup.commit(seq, 100);
        setup.settle();
        assert!(!setup.synced_here());
    }
    assert_eq!(setup.reported(), (1..=40).collect::<Vec<_>>());
}

#[test]
fn without_room_a_batch_waits_with_the_thread() {
    let setup = Setup::new("full");
    setup.settle();
    setup.mood.is_full.store(true, Ordering::SeqCst);
    setup.commit(1, 100);
    setup.commit(2, 100);
    assert!(setup.reported().is_empty());
    setup.mood.is_full.store(false, Ordering::SeqCst);
    setup.settle();
    assert_eq!(setup.reported(), [1, 2]);
}

#[test]
fn a_broken_disk_is_told_and_nothing_is_reported() {
    let setup = Setup::new("broken");
    setup.settle();
    setup.mood.fails.store(true, Ordering::SeqCst);
    setup.commit(1, 100);
    assert!(setup.failed.recv().unwrap().contains("it is broken"));
    setup.commit(2, 100);
    assert!(setup.reported().is_empty());
}

#[test]
fn a_store_that_is_closed_takes_nothing() {
    let mut setup = Setup::new("closed");
    setup.commit(1, 100);
    setup.writer.submit(Job::Stop);
    setup.thread.take().unwrap().join().unwrap();
    setup.commit(2, 100);
    assert_eq!(setup.reported(), [1]);
}
