//! The metadata machine behind the replicated log, and what the node does when it has changed.

use std::sync::{Arc, OnceLock};

use broker::metadata::{Change, Command, Metadata, Refusal, Tables, encode_answer};
use bytes::Bytes;
use cluster::metadata_log::{PendingSnapshot, RestoreError, StateMachine};

/// Called after each batch of commands with what changed; `None` when that can be anything.
pub(crate) type Follow = Box<dyn Fn(Option<&[Change]>) + Send + Sync>;

/// The state machine that consensus drives. Until `follow` is set (while the log is replayed at
/// start) changes are only kept in the tables.
pub(crate) struct Machine {
    metadata: Metadata,
    latest: Arc<arc_swap::ArcSwap<Tables>>,
    follow: Arc<OnceLock<Follow>>,
}

impl Machine {
    pub(crate) fn new(latest: Arc<arc_swap::ArcSwap<Tables>>, follow: Arc<OnceLock<Follow>>) -> Machine {
        Machine { metadata: Metadata::new(), latest, follow }
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
        self.latest.store(self.metadata.tables());
        if let Some(follow) = self.follow.get() {
            follow(Some(&changes));
        }
        answers
    }

    fn snapshot(&self) -> PendingSnapshot {
        let frozen = self.metadata.clone();
        Box::new(move || Bytes::from(frozen.snapshot()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.metadata = Metadata::restore(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.latest.store(self.metadata.tables());
        if let Some(follow) = self.follow.get() {
            follow(None);
        }
        Ok(())
    }
}
