//! Starting the log: reading what is on disk, taking part, taking office.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cluster::metadata_log::{NodeId, StateMachine};
use openraft::async_runtime::WatchReceiver;
use openraft::{ServerState, SnapshotPolicy};
use parking_lot::Mutex;

use crate::consensus::{Consensus, Inner};
use crate::log::{Closer, LogStore, file::LogFile};
use crate::machine::{Growth, Machine};
use crate::network::{Links, Network};
use crate::snapshot::SnapshotStore;
use crate::types::{Membership, Peer, Raft};
use crate::{Options, StartError};

const LOG_FILE: &str = "metadata.redb";
const SNAPSHOT_FILE: &str = "metadata.snapshot";

/// Entries kept behind a snapshot, for followers that are a little late.
const KEPT_BEHIND_SNAPSHOT: u64 = 1_000;

/// Opens or creates the log in `options.data_dir`, brings `state_machine` to where the log ends, and
/// starts taking part. A lone voter is its own leader when this returns, and `state_machine` has
/// seen every command; among several voters it has seen those known to be committed.
pub async fn start<N: Network>(
    options: Options,
    state_machine: impl StateMachine,
    network: N,
) -> Result<Consensus, StartError> {
    let config = Arc::new(config(&options)?);
    let growth = Arc::new(Growth::new(
        options.snapshot_entries,
        options.snapshot_bytes,
    ));
    let opened = open(options.clone(), Box::new(state_machine), growth.clone()).await?;
    let node = options.node_id;
    let links = Links::new(network, node.0);
    let log = opened.log.clone();
    let engine = |what: String| match log.damage() {
        Some(damage) => StartError::damaged(log.path(), damage),
        None => StartError::Engine {
            path: options.data_dir.clone(),
            what,
        },
    };
    let raft = Raft::new(node.0, config, links, log.clone(), opened.machine).await;
    let raft = raft.map_err(|error| engine(error.to_string()))?;
    let supervisor = tokio::spawn(supervise(raft.clone(), node, growth));
    let consensus = Consensus {
        inner: Arc::new(Inner {
            raft,
            node,
            log: opened.log,
            incoming: Mutex::new(None),
            runtime: tokio::runtime::Handle::current(),
            closer: Mutex::new(Some(opened.closer)),
            supervisor: Mutex::new(Some(supervisor)),
        }),
    };
    match consensus.take_office(&options).await {
        Ok(()) => Ok(consensus),
        Err(what) => {
            let what = consensus.inner.log.failure().unwrap_or(what);
            consensus.shutdown().await;
            Err(engine(what))
        }
    }
}

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    if options.election_timeout < options.heartbeat * 3 || options.heartbeat.as_millis() < 5 {
        return Err(StartError::Options(
            "the heartbeat is at least 5 ms, and the election timeout at least three of them"
                .to_owned(),
        ));
    }
    let millis = |duration: std::time::Duration| duration.as_millis() as u64;
    openraft::Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_timeout),
        election_timeout_max: millis(options.election_timeout) * 2,
        // When a snapshot is due, `Growth` decides.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT.min(options.snapshot_entries / 10),
        replication_lag_threshold: KEPT_BEHIND_SNAPSHOT.max(options.snapshot_entries) * 2,
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        // A leader that restarts stands for election like anybody else: only winning proves that
        // it has everything the cluster has committed.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Options(error.to_string()))
}

struct Opened {
    log: LogStore,
    closer: Closer,
    machine: Machine,
}

/// Reads what is on disk, away from the runtime's threads.
async fn open(
    options: Options,
    state_machine: Box<dyn StateMachine>,
    growth: Arc<Growth>,
) -> Result<Opened, StartError> {
    let path = options.data_dir.join(LOG_FILE);
    let opening = tokio::task::spawn_blocking(move || open_files(&options, state_machine, growth));
    match opening.await {
        Ok(result) => result,
        // redb asserts what it expects of its pages; a page that breaks the assertion is damage.
        Err(panic) => Err(StartError::damaged(
            &path,
            format!("reading it failed ({panic})"),
        )),
    }
}

fn open_files(
    options: &Options,
    mut state_machine: Box<dyn StateMachine>,
    growth: Arc<Growth>,
) -> Result<Opened, StartError> {
    let folder = &options.data_dir;
    let cannot = |path: &Path, source| StartError::File {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| cannot(folder, source))?;
    let (log_path, snapshot_path) = (folder.join(LOG_FILE), folder.join(SNAPSHOT_FILE));
    let (snapshots, state) = SnapshotStore::open(&snapshot_path)?;
    let snapshot_upto = snapshots
        .current()
        .and_then(|current| current.meta.last_log_id);
    if snapshot_upto.is_some() && !log_path.exists() {
        return Err(StartError::damaged(
            &log_path,
            "it is missing beside its snapshot",
        ));
    }
    let (file, stored) = LogFile::open(&log_path, options.node_id.0)?;
    if stored.purged > snapshot_upto {
        let index = stored.purged.map_or(0, |purged| purged.index);
        let what =
            format!("the log needs a snapshot up to entry {index}, and it is missing or older");
        return Err(StartError::damaged(&snapshot_path, what));
    }
    if let Some(state) = state {
        state_machine
            .restore(&state)
            .map_err(|error| StartError::Version {
                path: snapshot_path.clone(),
                what: error.to_string(),
            })?;
    }
    let (log, closer) = LogStore::new(log_path.clone(), file, stored)
        .map_err(|source| cannot(&log_path, source))?;
    let machine = Machine::new(state_machine, Arc::new(snapshots), growth);
    Ok(Opened {
        log,
        closer,
        machine,
    })
}

/// Rings for snapshots when they are due, and stops the clock of a voter that is alone: it has
/// nobody to send heartbeats to and nobody to hear from.
async fn supervise(raft: Raft, node: NodeId, growth: Arc<Growth>) {
    let mut server = raft.server_metrics();
    loop {
        let alone = {
            let server = server.borrow_watched();
            server.state == ServerState::Leader
                && is_alone(server.membership_config.membership(), node)
        };
        raft.runtime_config().tick(!alone);
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            () = growth.snapshot_due.notified() => {
                if raft.trigger().snapshot().await.is_err() { return }
            }
        }
    }
}

fn is_alone(membership: &Membership, node: NodeId) -> bool {
    membership.nodes().all(|(&id, _)| id == node.0) && membership.voter_ids().count() == 1
}

impl Consensus {
    /// Founds the cluster if asked to, and has a lone voter elect itself and catch up.
    async fn take_office(&self, options: &Options) -> Result<(), String> {
        let raft = &self.inner.raft;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let founded = raft.is_initialized().await.map_err(|error| text(&error))?;
        if !founded {
            if !options.found_cluster {
                return Ok(());
            }
            let me = Peer {
                address: options.address.clone(),
            };
            let members = BTreeMap::from([(options.node_id.0, me)]);
            raft.initialize(members)
                .await
                .map_err(|error| text(&error))?;
        }
        let node = self.inner.node;
        let sole_voter = raft
            .with_raft_state(move |state| {
                let membership = state.membership_state.effective().membership();
                membership.voter_ids().eq([node.0])
            })
            .await
            .map_err(|error| text(&error))?;
        if !sole_voter {
            return Ok(());
        }
        if founded {
            raft.trigger()
                .elect(false)
                .await
                .map_err(|error| text(&error))?;
        }
        raft.wait_for_recovery(None)
            .await
            .map_err(|error| text(&error))?;
        Ok(())
    }
}
