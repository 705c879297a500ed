//! The metadata machine behind the replicated log, and what the node does when it has changed.

use std::sync::{Arc, OnceLock};

use broker::metadata::{Change, Command, Metadata, Refusal, Tables, encode_answer};
use bytes::Bytes;
use cluster::metadata_log::{PendingSnapshot, RestoreError, StateMachine};
use parking_lot::Mutex;

/// Called after each batch of commands with what changed; `None` when that can be anything.
pub(crate) type Follow = Box<dyn Fn(Option<&[Change]>) + Send + Sync>;

/// The state machine that consensus drives. Until `follow` is set (while the log is replayed at
/// start) changes are only kept in the tables.
pub(crate) struct Machine {
    metadata: Metadata,
    latest: Arc<arc_swap::ArcSwap<Tables>>,
    follow: Arc<OnceLock<Follow>>,
    /// Whether anybody sees what is applied.
    publish: Arc<Publish>,
}

/// Whether the state of a machine is seen. One that replays a log from its beginning, while the state of
/// another is in use, is seen when it has come to the end.
pub(crate) struct Publish {
    open: Mutex<bool>,
    latest: Arc<arc_swap::ArcSwap<Tables>>,
    state: Mutex<Arc<Tables>>,
}

impl Publish {
    /// From here on everybody sees it.
    pub(crate) fn open(&self) {
        let mut open = self.open.lock();
        *open = true;
        self.latest.store(Arc::clone(&self.state.lock()));
    }
}

impl Machine {
    pub(crate) fn new(latest: Arc<arc_swap::ArcSwap<Tables>>, follow: Arc<OnceLock<Follow>>) -> Machine {
        Machine::with(latest, follow, true).0
    }

    /// A machine whose state is not seen until it is published.
    pub(crate) fn silent(
        latest: Arc<arc_swap::ArcSwap<Tables>>,
        follow: Arc<OnceLock<Follow>>,
    ) -> (Machine, Arc<Publish>) {
        Machine::with(latest, follow, false)
    }

    fn with(
        latest: Arc<arc_swap::ArcSwap<Tables>>,
        follow: Arc<OnceLock<Follow>>,
        open: bool,
    ) -> (Machine, Arc<Publish>) {
        let state = Mutex::default();
        let publish = Arc::new(Publish { open: Mutex::new(open), latest: Arc::clone(&latest), state });
        (Machine { metadata: Metadata::new(), latest, follow, publish: Arc::clone(&publish) }, publish)
    }

    /// Shows the state, and what changed; `None`: anything.
    fn show(&self, changes: Option<&[Change]>) {
        let open = self.publish.open.lock();
        let tables = self.metadata.tables();
        *self.publish.state.lock() = Arc::clone(&tables);
        if !*open {
            return;
        }
        self.latest.store(tables);
        drop(open);
        if let Some(follow) = self.follow.get() {
            follow(changes);
        }
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        let mut changes = Vec::new();
        let mut answers = Vec::with_capacity(commands.len());
        for (offset, command) in commands.iter().enumerate() {
            let answer = match Command::decode(command) {
                Ok(command) => {
                    let (answer, changed) = self.metadata.apply(index + offset as u64, &command);
                    changes.extend(changed);
                    answer
                }
                Err(error) => Err(Refusal::Invalid(error.to_string())),
            };
            answers.push(Bytes::from(encode_answer(&answer)));
        }
        self.show(Some(&changes));
        answers
    }

    fn snapshot(&self) -> PendingSnapshot {
        let frozen = self.metadata.clone();
        Box::new(move || Bytes::from(frozen.snapshot()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.metadata = Metadata::restore(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.show(None);
        Ok(())
    }
}
