use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::StorageError;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use openraft::{RaftLogReader, RaftTypeConfig};
use stdx::Rng;
use tempfile::TempDir;

use super::*;
use crate::machine::{Growth, Machine};
use crate::snapshot::SnapshotStore;
use crate::types::{Command, LeaderId};

use disk::Disk;

pub(crate) mod disk;

/// A state machine that counts; the engine's suite looks only at positions and membership.
struct Counter(u64);

impl cluster::metadata_log::StateMachine for Counter {
    fn apply(&mut self, _index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        self.0 += commands.len() as u64;
        commands.to_vec()
    }

    fn snapshot(&self) -> cluster::metadata_log::PendingSnapshot {
        let count = self.0;
        Box::new(move || Bytes::copy_from_slice(&count.to_le_bytes()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), cluster::metadata_log::RestoreError> {
        let count = snapshot.try_into();
        let wrong = |_| cluster::metadata_log::RestoreError("not a count".to_owned());
        self.0 = u64::from_le_bytes(count.map_err(wrong)?);
        Ok(())
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, (TempDir, Closer)> for Builder {
    async fn build(&self) -> Result<((TempDir, Closer), LogStore, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let (log, closer) = open(&Disk::default());
        let (snapshots, _) = SnapshotStore::open(&folder.path().join("snapshot")).unwrap();
        let growth = Arc::new(Growth::new(u64::MAX, u64::MAX));
        let machine = Machine::new(
            Box::new(Counter(0)),
            Arc::new(snapshots),
            growth,
            tokio::sync::watch::Sender::new(0),
        );
        Ok(((folder, closer), log, machine))
    }
}

/// The suite sleeps a second at times; the paused clock skips that.
#[tokio::test(start_paused = true)]
async fn passes_the_suite_of_the_engine() {
    Suite::<Types, LogStore, Machine, Builder, _>::test_all(Builder)
        .await
        .unwrap();
}

fn leader(term: u64) -> LeaderId {
    LeaderId::new(term, 1)
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(leader(term), index)
}

fn entry(term: u64, index: u64, command: impl Into<Bytes>) -> Entry {
    Entry::new(
        log_id(term, index),
        EntryPayload::Normal(Command(command.into())),
    )
}

fn open(disk: &Disk) -> (LogStore, Closer) {
    let path = Path::new("disk");
    let (file, stored) = LogFile::open_with(disk.clone(), || Ok(disk.journal()), path, 1).unwrap();
    LogStore::new(path.to_owned(), file, stored).unwrap()
}

/// Appends and hands back the future of its completion.
async fn append(
    log: &mut LogStore,
    entries: Vec<Entry>,
) -> impl Future<Output = io::Result<()>> + use<> {
    use openraft::type_config::TypeConfigExt;
    let (sender, done) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender))
        .await
        .unwrap();
    async move { done.await.unwrap() }
}

#[tokio::test]
async fn appends_that_wait_for_a_sync_share_the_next() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    let before = disk.syncs();
    disk.hold_syncs(true);
    let mut completions = vec![append(&mut log, vec![entry(1, 0, "first")]).await];
    disk.wait_for_held_sync();
    for index in 1..1000 {
        completions.push(append(&mut log, vec![entry(1, index, "another")]).await);
    }
    assert_eq!(log.try_get_log_entries(0..1000).await.unwrap().len(), 1000);
    disk.hold_syncs(false);
    for completion in completions {
        completion.await.unwrap();
    }
    assert_eq!(disk.syncs() - before, 2);
}

#[tokio::test]
async fn a_failed_sync_ends_writing_for_good() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    log.blocking_append(vec![entry(1, 0, "kept")])
        .await
        .unwrap();
    disk.fail_next_sync();
    let error = append(&mut log, vec![entry(1, 1, "lost")])
        .await
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot write metadata file disk: "),
        "{error}"
    );
    assert!(error.contains("see to the disk"), "{error}");
    // The disk would take writes again, but what it holds can no longer be known.
    let vote = Vote {
        leader_id: leader(2),
        committed: false,
    };
    assert_eq!(log.save_vote(&vote).await.unwrap_err().to_string(), error);
    let refused = log
        .append(vec![entry(1, 2, "late")], IOFlushed::noop())
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), error);
    assert_eq!(log.failure(), Some(error));
}

#[tokio::test]
async fn old_entries_leave_memory_and_are_read_from_the_file() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    let command = |index: u64| vec![index as u8; 10_000];
    for index in 0..100 {
        log.blocking_append(vec![entry(1, index, command(index))])
            .await
            .unwrap();
    }
    {
        let state = log.shared.state.lock();
        assert!(
            state.recent_bytes <= RECENT_BYTES + journal::JOURNAL_BYTES,
            "{} bytes",
            state.recent_bytes
        );
        assert!(
            (5..95).contains(&state.recent_start()),
            "from {}",
            state.recent_start()
        );
    }
    let read = log.try_get_log_entries(..).await.unwrap();
    let expected: Vec<Entry> = (0..100)
        .map(|index| entry(1, index, command(index)))
        .collect();
    assert_eq!(read, expected);
    assert_eq!(
        log.try_get_log_entries(3..=4).await.unwrap(),
        expected[3..5]
    );
    assert_eq!(log.try_get_log_entries(99..).await.unwrap(), expected[99..]);
    assert_eq!(log.try_get_log_entries(200..).await.unwrap(), []);
    // One packet to a peer stays near its bound.
    let sent = log.limited_get_log_entries(0, 100).await.unwrap();
    assert_eq!(sent, expected[..sent.len()]);
    assert_eq!(sent.len(), 100);
}

#[tokio::test]
async fn a_big_backlog_is_sent_in_bounded_packets() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    let entries = (0..8)
        .map(|index| entry(1, index, vec![7; SEND_BYTES / 2]))
        .collect::<Vec<_>>();
    log.blocking_append(entries).await.unwrap();
    assert_eq!(log.limited_get_log_entries(0, 8).await.unwrap().len(), 2);
    assert_eq!(log.limited_get_log_entries(7, 8).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_truncation_under_a_running_commit_keeps_the_new_entries_readable() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    log.blocking_append(vec![entry(1, 0, "first")])
        .await
        .unwrap();
    disk.hold_syncs(true);
    let old = append(&mut log, vec![entry(1, 1, "old"), entry(1, 2, "old")]).await;
    disk.wait_for_held_sync();
    let truncation = tokio::spawn({
        let mut log = log.clone();
        async move { log.truncate_after(Some(log_id(1, 0))).await }
    });
    while log.shared.state.lock().truncations == 0 {
        tokio::task::yield_now().await;
    }
    let new = append(&mut log, vec![entry(2, 1, "new"), entry(2, 2, "new")]).await;
    disk.release_one_sync();
    old.await.unwrap();
    disk.wait_for_held_sync();
    // The disk still holds the old entries 1 and 2: readers must not see them.
    let mut expected = vec![entry(1, 0, "first"), entry(2, 1, "new"), entry(2, 2, "new")];
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), expected);
    disk.hold_syncs(false);
    truncation.await.unwrap().unwrap();
    new.await.unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), expected);
    // Nor when all has gone from the journal and from memory into the database.
    let big = (3..6).map(|index| entry(2, index, vec![b'b'; RECENT_BYTES]));
    expected.extend(big);
    log.blocking_append(expected[3..].to_vec()).await.unwrap();
    assert!(log.shared.state.lock().recent_start() > 2);
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), expected);
}

/// What the log should be: the model of [`whatever_was_reported_survives_a_crash`].
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries
            .values()
            .next_back()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }

    fn outline(&self) -> String {
        let entries = self.entries.values().map(|entry| entry.log_id.to_string());
        format!(
            "{:?} {:?} {:?}",
            self.vote,
            self.purged,
            entries.collect::<Vec<_>>()
        )
    }

    async fn read(log: &mut LogStore) -> Model {
        let entries = log.try_get_log_entries(..).await.unwrap();
        Model {
            vote: log.read_vote().await.unwrap(),
            purged: log.get_log_state().await.unwrap().last_purged_log_id,
            entries: entries
                .into_iter()
                .map(|entry| (entry.log_id.index, entry))
                .collect(),
        }
    }
}

/// Random writes on a disk that, when it crashes, keeps what was synced and any part of the rest.
/// After the crash the log must be in one of the states since the last reported write.
#[tokio::test]
async fn whatever_was_reported_survives_a_crash() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut disk = Disk::default();
        let mut model = Model::default();
        for life in 0..3 {
            let (mut log, closer) = open(&disk);
            assert_eq!(
                Model::read(&mut log).await,
                model,
                "seed {seed}, life {life}"
            );
            // States the log may be in after a crash now: the last one reported, and all since.
            let mut possible = vec![model.clone()];
            let reported = Arc::new(AtomicU64::new(0));
            for step in 1..=rng.below(25) {
                random_write(&mut rng, &mut log, &mut model, step, &reported).await;
                possible.push(model.clone());
                if rng.one_in(4) {
                    tokio::task::yield_now().await;
                }
            }
            let crashed = disk.crash(&mut rng, || {
                possible.drain(..reported.load(Ordering::SeqCst) as usize);
            });
            drop((log, closer));
            disk = crashed;
            let (mut log, _closer) = open(&disk);
            let found = Model::read(&mut log).await;
            assert!(
                possible.contains(&found),
                "seed {seed}, life {life}: found {}, possible were {:?}",
                found.outline(),
                possible.iter().map(Model::outline).collect::<Vec<_>>()
            );
            model = found;
        }
    }
}

async fn random_write(
    rng: &mut Rng,
    log: &mut LogStore,
    model: &mut Model,
    step: u64,
    reported: &Arc<AtomicU64>,
) {
    let next = next_index(model.last().as_ref());
    match rng.below(8) {
        0 => {
            let vote = Vote {
                leader_id: leader(step),
                committed: rng.one_in(2),
            };
            log.save_vote(&vote).await.unwrap();
            reported.fetch_max(step, Ordering::SeqCst);
            model.vote = Some(vote);
        }
        1 if !model.entries.is_empty() => {
            let first = *model.entries.keys().next().unwrap();
            let keep = first + rng.below(next - first + 1);
            let after = keep
                .checked_sub(1)
                .and_then(|index| model.entries.get(&index));
            let after = after.map(|entry| entry.log_id).or(model.purged);
            log.truncate_after(after).await.unwrap();
            if keep < next {
                reported.fetch_max(step, Ordering::SeqCst);
            }
            model.entries.split_off(&next_index(after.as_ref()));
        }
        2 if !model.entries.is_empty() => {
            let first = *model.entries.keys().next().unwrap();
            let upto = model.entries[&(first + rng.below(next - first))].log_id;
            log.purge(upto).await.unwrap();
            model.purged = Some(upto);
            model.entries = model.entries.split_off(&(upto.index + 1));
        }
        _ => {
            let entries: Vec<Entry> = (next..=next + rng.below(4))
                .map(|index| entry(step, index, vec![step as u8; rng.below(3000) as usize]))
                .collect();
            model.entries.extend(
                entries
                    .iter()
                    .map(|entry| (entry.log_id.index, entry.clone())),
            );
            let done = append(log, entries).await;
            let reported = reported.clone();
            let completion = async move {
                // After the crash the disk refuses everything.
                if done.await.is_ok() {
                    reported.fetch_max(step, Ordering::SeqCst);
                }
            };
            if rng.one_in(2) {
                completion.await
            } else {
                drop(tokio::spawn(completion))
            }
        }
    }
}

#[test]
fn nobody_else_uses_the_types_of_the_engine() {
    // The alias chain must end at plain numbers, or the stored format would follow the engine's.
    fn is_u64<T: 'static>() -> bool {
        std::any::TypeId::of::<T>() == std::any::TypeId::of::<u64>()
    }
    assert!(is_u64::<<Types as RaftTypeConfig>::Term>());
    assert!(is_u64::<<Types as RaftTypeConfig>::NodeId>());
}

/// The journal is folded into the database many times over; both stay small, and reads never miss what is
/// in the one and not yet in the other.
#[tokio::test]
async fn the_journal_makes_room_for_itself() {
    let disk = Disk::default();
    let (mut log, closer) = open(&disk);
    let command = |index: u64| vec![index as u8; 500];
    let before = disk.syncs();
    for index in 0..5000 {
        let next = vec![entry(1, index, command(index))];
        log.blocking_append(next).await.unwrap();
        if index % 499 == 0 {
            let read = log.try_get_log_entries(..).await.unwrap();
            assert_eq!(read.len() as u64, index + 1);
            assert!(read.iter().zip(0..).all(|(held, index)| *held == entry(1, index, command(index))));
        }
    }
    let syncs = disk.syncs() - before;
    assert!((5000..5100).contains(&syncs), "{syncs} syncs of 5000 batches");
    assert!(log.shared.state.lock().recent_bytes < journal::JOURNAL_BYTES * 2);
    drop((log, closer));
    let (mut log, _closer) = open(&disk);
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 5000);
}

/// An orderly end leaves a database that needs no journal, so that it may be copied alone.
#[tokio::test]
async fn after_an_orderly_end_the_database_is_complete() {
    let disk = Disk::default();
    let (mut log, closer) = open(&disk);
    log.blocking_append(vec![entry(1, 0, "kept")]).await.unwrap();
    log.save_committed(Some(log_id(1, 0))).await.unwrap();
    drop((log, closer));
    disk.journal().damage(|bytes| bytes.fill(0xff));
    let (mut log, _closer) = open(&disk);
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), [entry(1, 0, "kept")]);
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 0)));
}

/// The machine goes on after the process: what was in the journal alone counts.
#[tokio::test]
async fn what_only_the_journal_holds_is_in_the_log_after_a_crash() {
    let disk = Disk::default();
    let (mut log, _closer) = open(&disk);
    log.blocking_append(vec![entry(1, 0, "kept"), entry(1, 1, "cut off")]).await.unwrap();
    log.truncate_after(Some(log_id(1, 0))).await.unwrap();
    log.blocking_append(vec![entry(2, 1, "new")]).await.unwrap();
    let disk = disk.crash(&mut Rng::new(1), || ());
    let (mut log, _closer) = open(&disk);
    let held = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(held, [entry(1, 0, "kept"), entry(2, 1, "new")]);
}
