//! A node alone: founding, answers, restarts, snapshots, refusals.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::metadata_log::{COMMAND_BYTES_MAX, MetadataLog};
use common::{answer, open, options};
use consensus::{NodeId, ProposeError, StartError};

fn command(number: usize) -> Bytes {
    Bytes::from(format!("command {number}"))
}

#[tokio::test]
async fn an_empty_folder_becomes_a_cluster_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (consensus, ledger) = open(options(&folder.path().join("metadata"))).await.unwrap();
    eprintln!("start took {:?}", started.elapsed());
    assert!(consensus.is_leader());
    let first = consensus.propose(command(1)).await.unwrap();
    eprintln!("start and first took {:?}", started.elapsed());
    let index = consensus.metrics().last_index;
    assert_eq!(first, answer(index, b"command 1"));
    assert_eq!(ledger.commands(), [command(1)]);
    let status = consensus.metrics();
    assert_eq!(status.leader, Some(NodeId(1)));
    assert_eq!(status.term, 1);
    assert_eq!(status.voters.len(), 1);
    assert_eq!(status.voters[0].address, "warren@test");
    assert_eq!(status.learners, []);
    assert_eq!(status.stopped, None);
    consensus.read_barrier().await.unwrap();
    assert_eq!(consensus.metrics().applied, index);
    consensus.shutdown().await;
    assert_eq!(
        consensus.propose(command(2)).await,
        Err(ProposeError::Stopped { reason: "it was told to".to_owned() })
    );
}
