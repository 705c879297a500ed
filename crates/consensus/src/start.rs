//! Starting the log: reading what is on disk, taking part, taking office.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cluster::metadata_log::{NodeId, StateMachine};
use openraft::async_runtime::WatchReceiver;
use openraft::{ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::consensus::{Consensus, Inner};
use crate::log::file::{LogFile, Stored};
use crate::log::journal::Change;
use crate::log::{Closer, LogStore};
use crate::machine::{Growth, Machine};
use crate::network::{Links, Network};
use crate::snapshot::SnapshotStore;
use crate::synchronous::Synchronous;
use crate::types::{Membership, Peer, Raft};
use crate::{Options, StartError, generation};

pub(crate) const LOG_FILE: &str = "metadata.redb";
pub(crate) const SNAPSHOT_FILE: &str = "metadata.snapshot";

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
    start_on(options, state_machine, network, Box::new(LogFile::open)).await
}

/// Opens the file of a node's log, given its path and the node.
type OpenLog = Box<dyn FnOnce(&Path, u64) -> Result<(LogFile, Stored), StartError> + Send>;

async fn start_on<N: Network>(
    options: Options,
    state_machine: impl StateMachine,
    network: N,
    open_log: OpenLog,
) -> Result<Consensus, StartError> {
    let config = Arc::new(config(&options)?);
    let growth = Arc::new(Growth::new(
        options.snapshot_entries,
        options.snapshot_bytes,
    ));
    let (progress, applied) = watch::channel(0);
    let opening = Opening {
        options: options.clone(),
        state_machine: Box::new(state_machine),
        growth: growth.clone(),
        progress,
        open_log,
    };
    let opened = open(opening).await?;
    let node = options.node_id;
    let log = opened.log.clone();
    let links = Links::new(network, node.0, log.clone());
    let engine = |what: String| match log.damage() {
        Some(damage) => StartError::damaged(log.path(), damage),
        None => StartError::Engine {
            path: options.data_dir.clone(),
            what,
        },
    };
    let raft = Raft::new(node.0, config, links.clone(), log.clone(), opened.machine).await;
    let raft = raft.map_err(|error| engine(error.to_string()))?;
    raft.runtime_config().elect(!log.is_newcomer());
    let leader = watch::Sender::new(None);
    let synchronous = Arc::new(Synchronous::new());
    let attending = synchronous.clone();
    let (engine_handle, lag) = (raft.clone(), options.lag_timeout.max(options.heartbeat * 3));
    let attendants = vec![
        tokio::spawn(supervise(raft.clone(), node, growth, leader.clone())),
        tokio::spawn(async move { attending.attend(engine_handle, lag).await }),
    ];
    let consensus = Consensus {
        inner: Arc::new(Inner {
            raft,
            node,
            options: options.clone(),
            links,
            log: opened.log,
            applied,
            leader,
            synchronous,
            arranging: tokio::sync::Mutex::new(()),
            incoming: Mutex::new(None),
            runtime: tokio::runtime::Handle::current(),
            closer: Mutex::new(Some(opened.closer)),
            attendants: Mutex::new(attendants),
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
        // A follower holds to its leader for the longer of these, and then waits for a time between
        // the two before it stands: one to two election timeouts of silence in all.
        election_timeout_min: millis(options.election_timeout) / 3 + 1,
        election_timeout_max: millis(options.election_timeout),
        // A leader that is heard and hears nobody falls silent, so that another can be elected.
        quorum_loss_probe_interval: Some(millis(options.election_timeout) * 3),
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

struct Opening {
    options: Options,
    state_machine: Box<dyn StateMachine>,
    growth: Arc<Growth>,
    progress: watch::Sender<u64>,
    open_log: OpenLog,
}

/// Reads what is on disk, away from the runtime's threads.
async fn open(opening: Opening) -> Result<Opened, StartError> {
    let path = opening.options.data_dir.join(LOG_FILE);
    match tokio::task::spawn_blocking(move || open_files(opening)).await {
        Ok(result) => result,
        // redb asserts what it expects of its pages; a page that breaks the assertion is damage.
        Err(panic) => Err(StartError::damaged(
            &path,
            format!("reading it failed ({panic})"),
        )),
    }
}

fn open_files(opening: Opening) -> Result<Opened, StartError> {
    let Opening {
        options,
        mut state_machine,
        growth,
        progress,
        open_log,
    } = opening;
    let folder = &options.data_dir;
    let cannot = |path: &Path, source| StartError::File {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| cannot(folder, source))?;
    generation::finish_forgetting(folder)?;
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
    let (file, mut stored) = open_log(&log_path, options.node_id.0)?;
    settle_generation(&file, &mut stored, &log_path, &options)?;
    if stored.purged > snapshot_upto {
        let index = stored.purged.map_or(0, |purged| purged.index);
        let what =
            format!("the log needs a snapshot up to entry {index}, and it is missing or older");
        return Err(StartError::damaged(&snapshot_path, what));
    }
    if let Some((at, membership)) = &stored.founded {
        snapshots.found(at, membership);
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
    let machine = Machine::new(state_machine, Arc::new(snapshots), growth, progress);
    Ok(Opened {
        log,
        closer,
        machine,
    })
}

/// Gives a log its generation: a founder's a new one, a newcomer's the one it is to join, if that
/// is said. A log without one that holds something is a founder's of before there were generations.
fn settle_generation(
    file: &LogFile,
    stored: &mut Stored,
    path: &Path,
    options: &Options,
) -> Result<(), StartError> {
    let wanted = match (stored.generation, options.generation) {
        (Some(found), Some(wanted)) if found != wanted => {
            return Err(StartError::Generation {
                path: path.to_owned(),
                found,
                wanted,
            });
        }
        (Some(_), _) => return Ok(()),
        (None, Some(wanted)) => wanted,
        (None, None) if options.found_cluster || stored.last.is_some() => generation::random()
            .map_err(|source| StartError::File {
                path: path.to_owned(),
                source,
            })?,
        (None, None) => return Ok(()),
    };
    let newcomer = stored.last.is_none() && !options.found_cluster;
    let changes = [Change::Generation(wanted), Change::Newcomer(newcomer)];
    file.commit(&changes).map_err(|error| error.at(path))?;
    stored.generation = Some(wanted);
    stored.newcomer = newcomer;
    Ok(())
}

/// Passes on who leads, rings for snapshots when they are due, and stops the clock of a voter that is alone: it has
/// nobody to send heartbeats to and nobody to hear from.
async fn supervise(
    raft: Raft,
    node: NodeId,
    growth: Arc<Growth>,
    leader: watch::Sender<Option<NodeId>>,
) {
    let mut server = raft.server_metrics();
    loop {
        let alone = {
            let server = server.borrow_watched();
            let leads = server.current_leader.map(NodeId);
            leader.send_if_modified(|leader| std::mem::replace(leader, leads) != leads);
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
        if !sole_voter || self.inner.log.is_newcomer() {
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

#[cfg(test)]
mod tests;
