//! A process killed at any moment loses nothing it has answered.

mod common;

use std::collections::BTreeSet;
use std::process::Stdio;

use bytes::Bytes;
use common::{open, options};
use consensus::Options;
use stdx::Rng;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Set in the process that is to be killed: the folder it works in.
const FOLDER: &str = "WARREN_TEST_CRASH_FOLDER";
const PROPOSERS: usize = 16;

/// In the child: proposes without end and prints each command once it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let options = Options {
        snapshot_entries: 300,
        ..options(folder.as_ref())
    };
    let (consensus, ledger) = open(options).await.unwrap();
    let before = ledger.len();
    let mut proposers = tokio::task::JoinSet::new();
    for proposer in 0..PROPOSERS {
        let consensus = consensus.clone();
        proposers.spawn(async move {
            for number in 0.. {
                let command = format!("answered {before}-{proposer}-{number}");
                consensus
                    .propose(Bytes::from(command.clone()))
                    .await
                    .unwrap();
                // One write, so that a line is whole or missing.
                println!("{command}");
            }
        });
    }
    proposers.join_all().await;
}

fn spawn_child(folder: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_process_keeps_what_it_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(7);
    let mut answered = BTreeSet::new();
    for life in 0..6 {
        let mut child = spawn_child(folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kill_after = 1 + rng.below(1200);
        let mut heard = 0;
        // After the kill the pipe still holds lines, and they count: they were answered.
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("answered ") {
                answered.insert(Bytes::from(line));
                heard += 1;
                if heard == kill_after {
                    child.start_kill().unwrap();
                }
            }
        }
        assert!(
            heard >= kill_after,
            "the child of life {life} ended by itself"
        );
        child.wait().await.unwrap();
        let (consensus, ledger) = open(options(folder.path())).await.unwrap();
        let kept: BTreeSet<Bytes> = ledger.commands().into_iter().collect();
        let lost: Vec<_> = answered.difference(&kept).collect();
        assert!(lost.is_empty(), "life {life} lost {lost:?}");
        assert!(
            kept.len() <= answered.len() + (life + 1) * PROPOSERS,
            "nothing came from nowhere"
        );
        consensus.shutdown().await;
    }
    assert!(answered.len() > 500, "{}", answered.len());
}
