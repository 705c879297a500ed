//! A node alone: founding, answers, restarts, snapshots, refusals.

mod common;

use std::fs;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use cluster::metadata_log::{COMMAND_BYTES_MAX, MetadataLog};
use common::{Ledger, answer, open, options};
use consensus::{Consensus, NodeId, Options, ProposeError, StartError};

fn command(number: usize) -> Bytes {
    Bytes::from(format!("command {number}"))
}

/// Proposes `commands` at once and waits for all answers.
async fn propose_all(consensus: &Consensus, commands: impl IntoIterator<Item = Bytes>) {
    let mut proposals = tokio::task::JoinSet::new();
    for command in commands {
        let consensus = consensus.clone();
        proposals.spawn(async move { consensus.propose(command).await.unwrap() });
    }
    proposals.join_all().await;
}

#[tokio::test]
async fn an_empty_folder_becomes_a_cluster_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let (consensus, ledger) = open(options(&folder.path().join("deep/metadata")))
        .await
        .unwrap();
    assert!(consensus.is_leader());
    let first = consensus.propose(command(1)).await.unwrap();
    consensus.read_barrier().await.unwrap();
    let status = consensus.metrics();
    assert_eq!(first, answer(status.last_index, b"command 1"));
    assert_eq!(ledger.commands(), [command(1)]);
    assert_eq!(status.applied, status.last_index);
    assert_eq!(status.node, NodeId(1));
    assert_eq!(status.leader, Some(NodeId(1)));
    assert_eq!(status.term, 1);
    assert_eq!(status.voters.len(), 1);
    assert_eq!(status.voters[0].address, "warren@test");
    assert_eq!(status.learners, []);
    assert_eq!(status.stopped, None);
    consensus.shutdown().await;
    let told = "it was told to".to_owned();
    assert_eq!(
        consensus.propose(command(2)).await,
        Err(ProposeError::Stopped { reason: told })
    );
    assert_eq!(
        consensus.stopped().await,
        "the metadata log has stopped: it was told to"
    );
}

#[tokio::test]
async fn a_restart_brings_everything_back_before_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..4 {
        let (consensus, ledger) = open(options(folder.path())).await.unwrap();
        assert!(consensus.is_leader());
        assert_eq!(
            ledger.commands(),
            (0..life * 100).map(command).collect::<Vec<_>>()
        );
        for number in 0..100 {
            consensus
                .propose(command(life * 100 + number))
                .await
                .unwrap();
        }
        consensus.shutdown().await;
    }
}

#[tokio::test]
async fn the_door_of_the_cluster_crate_leads_here() {
    let folder = tempfile::tempdir().unwrap();
    let (consensus, _ledger) = open(options(folder.path())).await.unwrap();
    let (sender, outcome) = mpsc::channel();
    let log: &dyn MetadataLog = &consensus;
    log.propose(
        command(7),
        Box::new(move |answer| sender.send(answer).unwrap()),
    );
    let outcome = tokio::task::spawn_blocking(move || outcome.recv().unwrap())
        .await
        .unwrap();
    assert_eq!(
        outcome.unwrap(),
        answer(log.status().last_index, b"command 7")
    );
}

#[tokio::test]
async fn commands_have_a_largest_size() {
    let folder = tempfile::tempdir().unwrap();
    let (consensus, ledger) = open(options(folder.path())).await.unwrap();
    let largest = Bytes::from(vec![1; COMMAND_BYTES_MAX]);
    consensus.propose(largest.clone()).await.unwrap();
    let size = COMMAND_BYTES_MAX + 1;
    let refused = consensus.propose(Bytes::from(vec![1; size])).await;
    assert_eq!(refused, Err(ProposeError::TooLarge { size }));
    assert_eq!(ledger.commands(), [largest]);
}

fn file_bytes(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_keep_the_log_short() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        snapshot_entries: 200,
        ..options(folder.path())
    };
    let (consensus, ledger) = open(small.clone()).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..10 {
        let numbers = round * 500..(round + 1) * 500;
        propose_all(
            &consensus,
            numbers.map(|number| Bytes::from(vec![number as u8; 400])),
        )
        .await;
        sizes.push(file_bytes(folder.path(), "metadata.redb"));
    }
    let before = ledger.commands();
    assert_eq!(before.len(), 5000);
    let status = consensus.metrics();
    assert!(status.snapshot > 2000, "{status:?}");
    consensus.shutdown().await;
    // 2 MB of commands went through the log; a snapshot is due at half its own size again.
    assert!(sizes[9] < 4 << 20, "the log's file grew to {sizes:?}");
    let (consensus, ledger) = open(small).await.unwrap();
    assert_eq!(ledger.restored(), 1);
    assert_eq!(ledger.commands(), before);
    assert_eq!(
        consensus.metrics().snapshot,
        status.snapshot.max(consensus.metrics().snapshot)
    );
}

#[tokio::test]
async fn bytes_of_commands_make_a_snapshot_due_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        snapshot_bytes: 100_000,
        ..options(folder.path())
    };
    let (consensus, _ledger) = open(small).await.unwrap();
    for _ in 0..12 {
        consensus
            .propose(Bytes::from(vec![1; 10_000]))
            .await
            .unwrap();
    }
    while consensus.metrics().snapshot == 0 {
        tokio::task::yield_now().await;
    }
    assert!(file_bytes(folder.path(), "metadata.snapshot") > 100_000);
}

async fn refusal(options: Options) -> StartError {
    match open(options).await {
        Ok(_) => panic!("it should not have started"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn one_folder_serves_one_node_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (consensus, _ledger) = open(options(folder.path())).await.unwrap();
    let error = refusal(options(folder.path())).await;
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    consensus.shutdown().await;
    // A handle that still lives does not hold the folder.
    let (other, _ledger) = open(options(folder.path())).await.unwrap();
    other.shutdown().await;
    let stranger = Options {
        node_id: NodeId(2),
        ..options(folder.path())
    };
    let text = refusal(stranger).await.to_string();
    assert!(
        text.contains("belongs to node 1, and this is node 2"),
        "{text}"
    );
    drop(consensus);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let text = refusal(options(&file.join("metadata"))).await.to_string();
    assert!(
        text.starts_with("cannot use ") && text.contains("file/metadata"),
        "{text}"
    );
    let odd = Options {
        heartbeat: std::time::Duration::from_secs(9),
        ..options(folder.path())
    };
    assert!(matches!(refusal(odd).await, StartError::Options(_)));
}

/// A folder with a snapshot and some log behind it, closed in order.
async fn used_folder() -> (tempfile::TempDir, Vec<Bytes>) {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        snapshot_entries: 50,
        ..options(folder.path())
    };
    let (consensus, ledger) = open(small).await.unwrap();
    for number in 0..120 {
        consensus.propose(command(number)).await.unwrap();
    }
    while consensus.metrics().snapshot == 0 {
        tokio::task::yield_now().await;
    }
    consensus.shutdown().await;
    (folder, ledger.commands())
}

#[tokio::test]
async fn missing_files_are_noticed() {
    let (folder, _) = used_folder().await;
    let (log, snapshot) = (
        folder.path().join("metadata.redb"),
        folder.path().join("metadata.snapshot"),
    );
    let aside = folder.path().join("aside");
    fs::rename(&snapshot, &aside).unwrap();
    let text = refusal(options(folder.path())).await.to_string();
    assert!(text.contains("metadata.snapshot is damaged"), "{text}");
    assert!(text.contains("missing or older"), "{text}");
    fs::rename(&aside, &snapshot).unwrap();
    fs::rename(&log, &aside).unwrap();
    let text = refusal(options(folder.path())).await.to_string();
    assert!(
        text.contains("metadata.redb is damaged: it is missing beside"),
        "{text}"
    );
    assert!(text.contains("move the folder away"), "{text}");
    assert!(!log.exists(), "a refusal must not make a new log");
}

/// Flips bytes all over the log's file: either the node says so and names the file, or the damage
/// lay where nothing is stored and everything is there.
#[tokio::test]
async fn a_damaged_log_is_never_taken_for_a_good_one() {
    let (folder, commands) = used_folder().await;
    let path = folder.path().join("metadata.redb");
    let good = fs::read(&path).unwrap();
    let snapshot = fs::read(folder.path().join("metadata.snapshot")).unwrap();
    let (mut refused, mut unharmed) = (0, 0);
    let block_bytes = 512;
    let blocks = good.chunks(block_bytes).enumerate();
    let written = blocks
        .filter(|(_, block)| block.iter().any(|&byte| byte != 0))
        .step_by(2);
    for (block, _) in written {
        let scratch = tempfile::tempdir().unwrap();
        let mut bad = good.clone();
        let at = block * block_bytes;
        for byte in bad.iter_mut().skip(at).take(block_bytes) {
            *byte ^= 0xa5;
        }
        fs::write(scratch.path().join("metadata.redb"), bad).unwrap();
        fs::write(scratch.path().join("metadata.snapshot"), &snapshot).unwrap();
        match open(options(scratch.path())).await {
            Ok((consensus, ledger)) => {
                assert_eq!(ledger.commands(), commands, "damage at {at}");
                consensus.shutdown().await;
                unharmed += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("metadata.redb is damaged"),
                    "damage at {at}: {text}"
                );
                assert!(
                    text.contains("move the folder away"),
                    "damage at {at}: {text}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > 5 && unharmed > 5,
        "{refused} refused, {unharmed} unharmed"
    );
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let text = refusal(options(folder.path())).await.to_string();
    assert!(text.contains("metadata.redb is damaged"), "{text}");
    fs::write(&path, "not a database at all").unwrap();
    let text = refusal(options(folder.path())).await.to_string();
    assert!(text.contains("metadata.redb is damaged"), "{text}");
}

#[tokio::test]
async fn a_snapshot_the_state_machine_refuses_is_named() {
    struct Stubborn(Ledger);
    impl cluster::metadata_log::StateMachine for Stubborn {
        fn apply(&mut self, index: u64, commands: &[Bytes]) -> Vec<Bytes> {
            self.0.apply(index, commands)
        }
        fn snapshot(&self) -> cluster::metadata_log::PendingSnapshot {
            self.0.snapshot()
        }
        fn restore(&mut self, _: &[u8]) -> Result<(), cluster::metadata_log::RestoreError> {
            Err(cluster::metadata_log::RestoreError(
                "state of version 9".to_owned(),
            ))
        }
    }
    let (folder, _) = used_folder().await;
    let machine = Stubborn(Ledger::default());
    let started = consensus::start(options(folder.path()), machine, consensus::Alone).await;
    let text = started.err().unwrap().to_string();
    assert!(
        text.contains("metadata.snapshot was written by another version"),
        "{text}"
    );
    assert!(text.contains("state of version 9"), "{text}");
}

/// A machine that fails on one command: a bug, which must be told and not waited for.
struct Fragile(Ledger);

impl cluster::metadata_log::StateMachine for Fragile {
    fn apply(&mut self, index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        assert!(
            !commands.contains(&Bytes::from_static(b"poison")),
            "poisoned"
        );
        self.0.apply(index, commands)
    }
    fn snapshot(&self) -> cluster::metadata_log::PendingSnapshot {
        self.0.snapshot()
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), cluster::metadata_log::RestoreError> {
        self.0.restore(snapshot)
    }
}

#[tokio::test]
async fn a_panic_of_the_state_machine_stops_the_log_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Fragile(Ledger::default());
    let consensus = consensus::start(options(folder.path()), machine, consensus::Alone).await;
    let consensus = consensus.unwrap();
    consensus.propose(command(1)).await.unwrap();
    let (poisoned, stopped) = tokio::join!(
        consensus.propose(Bytes::from_static(b"poison")),
        consensus.stopped()
    );
    assert!(
        matches!(poisoned, Err(ProposeError::Stopped { .. })),
        "{poisoned:?}"
    );
    assert!(
        stopped.contains("the metadata log has stopped"),
        "{stopped}"
    );
    let next = consensus.propose(command(2)).await;
    assert!(
        matches!(next, Err(ProposeError::Stopped { .. })),
        "{next:?}"
    );
    consensus.shutdown().await;
}

/// A node that was killed leaves a journal that counts: without it, or with changed bytes in it, it does not start.
#[tokio::test]
async fn a_journal_that_counts_is_not_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let (consensus, _ledger) = open(options(folder.path())).await.unwrap();
    for number in 0..20 {
        consensus.propose(command(number)).await.unwrap();
    }
    let killed = tempfile::tempdir().unwrap();
    for name in ["metadata.redb", "metadata.journal"] {
        fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
    }
    consensus.shutdown().await;
    let journal = killed.path().join("metadata.journal");
    let good = fs::read(&journal).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 1;
    for (bytes, what) in [(Some(&bad[..]), "has changed"), (Some(&good[..1000]), "it has 1000 bytes"), (None, "it has 0 bytes")] {
        match bytes {
            Some(bytes) => fs::write(&journal, bytes).unwrap(),
            None => fs::remove_file(&journal).unwrap(),
        }
        let text = refusal(options(killed.path())).await.to_string();
        assert!(text.contains("metadata.journal is damaged: ") && text.contains(what), "{text}");
    }
    fs::write(&journal, good).unwrap();
    let (consensus, ledger) = open(options(killed.path())).await.unwrap();
    assert_eq!(ledger.commands(), (0..20).map(command).collect::<Vec<_>>());
    consensus.shutdown().await;
}
