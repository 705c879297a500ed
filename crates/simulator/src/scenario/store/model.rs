//! What the store should hold, kept the naive way.

use std::collections::BTreeMap;

use stdx::Rng;

/// A message, from which its payload follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) len: u32,
    pub(super) transient: bool,
}

impl Message {
    /// The bytes of this message and no other.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut rng = Rng::new(self.id);
        let mut bytes = Vec::with_capacity(self.len as usize + 8);
        while bytes.len() < self.len as usize {
            bytes.extend_from_slice(&rng.next().to_le_bytes());
        }
        bytes.truncate(self.len as usize);
        bytes
    }
}

/// One change of a batch.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Enqueue {
        queue: u64,
        seq: u64,
        message: Message,
    },
    Remove {
        queue: u64,
        first: u64,
        last: u64,
    },
    Forget {
        queue: u64,
    },
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelQueue {
    pub(super) next: u64,
    pub(super) messages: BTreeMap<u64, Message>,
}

/// All queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) queues: BTreeMap<u64, ModelQueue>,
}

impl Model {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Enqueue {
                queue,
                seq,
                message,
            } => {
                let queue = self.queues.entry(*queue).or_default();
                queue.messages.insert(*seq, *message);
                queue.next = queue.next.max(seq + 1);
            }
            Change::Remove { queue, first, last } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.messages.retain(|seq, _| seq < first || seq > last);
                }
            }
            Change::Forget { queue } => {
                self.queues.remove(queue);
            }
        }
    }

    pub(super) fn apply_all(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.apply(change));
    }
}

/// What an opened store holds: each queue's next sequence and messages.
pub(super) type Held = BTreeMap<u64, (u64, Vec<(u64, Vec<u8>)>)>;

/// The first difference between what a store holds and what it should hold, or `None`. A next
/// sequence may be higher than needed, but not above `seq_max`.
pub(super) fn difference(held: &Held, model: &Model, seq_max: u64) -> Option<String> {
    let empty = (0, Vec::new());
    for (key, queue) in &model.queues {
        let (next, messages) = held.get(key).unwrap_or(&empty);
        if *next < queue.next || *next > seq_max + 1 {
            return Some(format!(
                "queue {key}: next is {next}, must be {}",
                queue.next
            ));
        }
        for (seq, message) in &queue.messages {
            match messages.iter().find(|(other, _)| other == seq) {
                None => return Some(format!("queue {key}: {seq} is lost")),
                Some((_, payload)) if *payload != message.payload() => {
                    return Some(format!("queue {key}: {seq} has other bytes"));
                }
                Some(_) => {}
            }
        }
        let extra = messages
            .iter()
            .find(|(seq, _)| !queue.messages.contains_key(seq));
        if let Some((seq, _)) = extra {
            return Some(format!("queue {key}: {seq} was removed or never there"));
        }
    }
    let known = |key: &u64| model.queues.contains_key(key);
    let extra = held
        .iter()
        .find(|(key, (_, messages))| !known(key) && !messages.is_empty());
    extra.map(|(key, _)| format!("queue {key} was forgotten or never there"))
}
