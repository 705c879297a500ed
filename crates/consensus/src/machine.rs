//! The engine's view of the state machine: applies committed entries, freezes and restores state.
//!
//! The state lives in memory alone and is rebuilt at a start from the snapshot and the log, so
//! applying costs no disk. This file also decides when the next snapshot is due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cluster::metadata_log::{PendingSnapshot, StateMachine};
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::panics::unless_panicked;
use crate::snapshot::{SnapshotBody, SnapshotStore};
use crate::types::{Answer, LogId, SnapshotMeta, StoredMembership, Types};

/// Commands handed to the state machine at once, at most, and their bytes.
const BATCH_COMMANDS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

/// Applies entries to the state machine it owns.
pub(crate) struct Machine {
    // Never locked: the engine wants `Sync`, and `get_mut` gives it for nothing.
    state_machine: Mutex<Box<dyn StateMachine>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<SnapshotStore>,
    growth: Arc<Growth>,
    /// Tells whoever waits how far the state machine has come.
    progress: watch::Sender<u64>,
    batch: Batch,
}

/// Commands gathered for one call of the state machine.
#[derive(Default)]
struct Batch {
    first: u64,
    bytes: usize,
    commands: Vec<Bytes>,
    responders: Vec<Option<ApplyResponder<Types>>>,
}

/// How much log the newest snapshot does not cover, and the bell for the next one.
pub(crate) struct Growth {
    entries_max: u64,
    bytes_max: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
    pub(crate) snapshot_due: Notify,
}

impl Growth {
    pub(crate) fn new(entries_max: u64, bytes_max: u64) -> Self {
        Growth {
            entries_max,
            bytes_max,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            snapshot_bytes: AtomicU64::new(0),
            snapshot_due: Notify::new(),
        }
    }

    /// Counts applied entries. A snapshot costs its own size, so the log must first have grown to
    /// half of that beside the configured limits; the writing stays proportional to the commands.
    fn grow(&self, entries: u64, bytes: u64) {
        let entries = self.entries.fetch_add(entries, Ordering::Relaxed) + entries;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let worth = bytes >= self.snapshot_bytes.load(Ordering::Relaxed) / 2;
        if worth && (entries >= self.entries_max || bytes >= self.bytes_max) {
            self.entries.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
            self.snapshot_due.notify_one();
        }
    }

    fn snapshot_taken(&self, bytes: u64) {
        self.snapshot_bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Machine {
    /// Takes over a state machine whose state is that of the store's snapshot, if it has one.
    pub(crate) fn new(
        state_machine: Box<dyn StateMachine>,
        snapshots: Arc<SnapshotStore>,
        growth: Arc<Growth>,
        progress: watch::Sender<u64>,
    ) -> Self {
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some(current) = snapshots.current() {
            applied = current.meta.last_log_id;
            membership = current.meta.last_membership;
            growth.snapshot_taken(current.bytes);
        }
        let (state_machine, batch) = (Mutex::new(state_machine), Batch::default());
        let machine = Machine {
            state_machine,
            applied,
            membership,
            snapshots,
            growth,
            progress,
            batch,
        };
        machine.tell_progress();
        machine
    }

    fn tell_progress(&self) {
        let applied = self.applied.map_or(0, |id| id.index);
        self.progress.send_replace(applied);
    }

    fn apply_batch(&mut self) -> io::Result<()> {
        if self.batch.commands.is_empty() {
            return Ok(());
        }
        let (state_machine, batch) = (self.state_machine.get_mut(), &self.batch);
        let answers = guarded(|| state_machine.apply(batch.first, &batch.commands))?;
        assert_eq!(
            answers.len(),
            self.batch.commands.len(),
            "a state machine gives one answer to each command"
        );
        for (responder, answer) in self.batch.responders.drain(..).zip(answers) {
            if let Some(responder) = responder {
                responder.send(Answer(answer));
            }
        }
        self.growth
            .grow(self.batch.commands.len() as u64, self.batch.bytes as u64);
        self.batch.commands.clear();
        self.batch.bytes = 0;
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotBody;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            match entry.payload {
                EntryPayload::Normal(command) => {
                    if self.batch.commands.is_empty() {
                        self.batch.first = entry.log_id.index;
                    }
                    self.batch.bytes += command.0.len();
                    self.batch.commands.push(command.0);
                    self.batch.responders.push(responder);
                }
                payload @ (EntryPayload::Blank | EntryPayload::Membership(_)) => {
                    self.apply_batch()?;
                    if let EntryPayload::Membership(membership) = payload {
                        self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    }
                    if let Some(responder) = responder {
                        responder.send(Answer::default());
                    }
                }
            }
            if self.batch.commands.len() >= BATCH_COMMANDS || self.batch.bytes >= BATCH_BYTES {
                self.apply_batch()?;
            }
            self.applied = Some(entry.log_id);
        }
        self.apply_batch()?;
        self.tell_progress();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            pending: Mutex::new(Some(guarded(|| self.state_machine.get_mut().snapshot()))),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            snapshots: self.snapshots.clone(),
            growth: self.growth.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        body: SnapshotBody,
    ) -> io::Result<()> {
        let bytes = body.read()?;
        let state_machine = self.state_machine.get_mut();
        let restored = guarded(|| state_machine.restore(&bytes))?;
        restored.map_err(|error| {
            io::Error::other(format!(
                "a metadata snapshot from a peer was refused: {error}"
            ))
        })?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.tell_progress();
        if self
            .snapshots
            .current()
            .is_none_or(|current| current.meta != *meta)
        {
            let (snapshots, meta) = (self.snapshots.clone(), meta.clone());
            let taken = blocking(move || snapshots.replace(&meta, &bytes)).await?;
            self.growth.snapshot_taken(taken.bytes);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        let current = self.snapshots.current();
        Ok(current.map(|current| Snapshot {
            meta: current.meta,
            snapshot: current.body,
        }))
    }
}

type SnapshotOf = openraft::type_config::alias::SnapshotOf<Types, SnapshotBody>;

/// Writes one frozen state to disk, beside further applying.
pub(crate) struct Builder {
    pending: Mutex<Option<io::Result<PendingSnapshot>>>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotStore>,
    growth: Arc<Growth>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotBody;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let pending = self.pending.get_mut().take();
        let pending = pending.ok_or_else(|| io::Error::other("a snapshot is built once"))??;
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        let taken = blocking(move || snapshots.replace(&meta, &pending())).await?;
        self.growth.snapshot_taken(taken.bytes);
        Ok(Snapshot {
            meta: taken.meta,
            snapshot: taken.body,
        })
    }
}

/// Calls the state machine. After a panic it is never called again: the error stops the engine.
fn guarded<T>(call: impl FnOnce() -> T) -> io::Result<T> {
    unless_panicked(call)
        .map_err(|what| io::Error::other(format!("the state machine of the metadata {what}")))
}

/// Runs file work away from the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}
